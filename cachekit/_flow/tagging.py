"""The tags of a function, and of one of its calls: made at decoration, rendered at each call."""

from __future__ import annotations

import inspect
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from cachekit._tiers.tags import Wanted
from cachekit.errors import DecorationError, RenderError
from cachekit.keys import RESULT, KeysFunction, compile_keys, compile_lines, escape, parameters_of
from cachekit.tags import AROUND, MOST, Tags, tag_key

MOST_HINTS: Final = 10_000
"""Keys of which the names of their last tags are remembered, for functions with tags of the result."""


def of_result(template: str) -> bool:
    """Tell whether ``template`` uses the result."""
    return _RESULT.search(template) is not None


_RESULT: Final = re.compile(rf"<\*?{RESULT}\b")


class TagPlan:
    """Which tags the results of a function have.

    Args:
        tags: The option of the function: templates, and True for a tag of the function itself.
        signature: Its signature.
        template: Of its key: functions with one template have the same results, and so the same tag of their own.

    Raises:
        DecorationError: A template cannot be used, or there are too many.
    """

    def __init__(self, tags: Any, signature: inspect.Signature, template: str) -> None:
        templates = [tag for tag in tags if isinstance(tag, str)]
        self.own: str | None = f"*{escape(template)}" if True in tags else None
        """The tag of the function itself. No template can name it."""
        if len(tags) > MOST:
            message = f"tags= has {len(tags)} tags, and a value has {MOST} at most"
            raise DecorationError(message)
        for one in templates:
            check_tag(one)
        of_call = [one for one in templates if not of_result(one)]
        self.quick: KeysFunction | None = None
        """Returns the keys of the tags in one step, if that is possible for this function."""
        if len(of_call) == len(templates):
            self.quick = compile_lines(of_call, signature, AROUND, [] if self.own is None else [tag_key(self.own)])
        self._of_call = [compile_keys(one, signature) for one in templates if not of_result(one)]
        self._of_result = [compile_keys(one, signature, with_result=True) for one in templates if of_result(one)]
        self.parameters: frozenset[str] = frozenset().union(*map(parameters_of, templates)) - {RESULT}
        """The placeholders that the names of its tags have."""
        self.from_result: bool = bool(self._of_result)
        """Whether some of its tags are known from the result alone."""
        self.longest: float = 0.0
        """Seconds for which the longest of its values was kept."""
        # By key, the names of the tags that its last value had.
        self._hints: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def names(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the tags that are known before the load.

        Raises:
            RenderError: An argument has no text form, or there are too many tags.
        """
        names = [] if self.own is None else [self.own]
        for render in self._of_call:
            names += render(*args, **kwargs)
        return _few(names)

    def all_names(self, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of all tags of ``result``.

        Raises:
            RenderError: As `names`.
        """
        names = [*self.names(args, kwargs)]
        for render in self._of_result:
            names += render(result, *args, **kwargs)
        return _few(names)

    def hint(self, key: str) -> tuple[str, ...] | None:
        """Return the names of the tags that the last value of ``key`` had, if this process knows them."""
        return self._hints.get(key)

    def teach(self, key: str, names: tuple[str, ...]) -> None:
        """Remember the names of the tags of ``key``."""
        self._hints[key] = names
        if len(self._hints) > MOST_HINTS:
            self._hints.popitem(last=False)


def check_tag(template: object) -> None:
    """Refuse what is no template of a tag.

    Raises:
        DecorationError: It is no text, or has braces.
    """
    if not isinstance(template, str) or not template:
        message = f'{template!r} is not the template of a tag; write "team:<team_id>"'
        raise DecorationError(message)
    if "{" in template or "}" in template:
        message = (
            f"the template of the tag {template!r} has braces; leave them out: a tag stands in the slot of the keys "
            'that have its name in braces, as "{team:<team_id>}:profile" has'
        )
        raise DecorationError(message)


def compile_tags(templates: Sequence[str], signature: inspect.Signature) -> list[tuple[str, KeysFunction]]:
    """Return ``templates`` of a function that invalidates, each with the function that renders it."""
    for template in templates:
        check_tag(template)
    return [(template, compile_keys(template, signature, with_result=True)) for template in templates]


def _few(names: list[str]) -> tuple[str, ...]:
    few = tuple(dict.fromkeys(names))
    if len(few) > MOST:
        message = f"its value would have {len(few)} tags, and {MOST} are the most"
        raise RenderError(message)
    return few


class Tagging(Struct, eq=False):
    """The tags of one call that was no hit."""

    wanted: Wanted
    """With the names of the tags that are to be opened."""
    began: int
    """The number of the call in this process, among all calls with tags and all questions for their leases."""
    known: bool = True
    """Whether these names are all: if not, the first load teaches the others, and its result is not stored."""
    suffix: bytes = b""
    """The second line of the value that it has seen and cannot use."""
    asked: int = 0
    """The number of its last question."""
    tags: Tags | None = None
    """The tags that stood before its load; None if one of them is not known."""
    plan: TagPlan | None = None
    """Of a value in hand: it names tags by the arguments of the writer. None: that of the function does."""
