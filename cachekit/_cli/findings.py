"""The mistakes that can be seen in decorated functions without calling them."""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from cachekit._cli.annotations import has_form, has_no_form, hints_of, lost_of
from cachekit._cli.modules import ANY, ByHand
from cachekit._cli.overlap import common_key
from cachekit._flow.batch_plan import BatchPlan
from cachekit._flow.plan import CallPlan
from cachekit.describing import Decorated, Description, key_of
from cachekit.keys import parameters_of

CODES: Final = {
    "no-functions": "no decorated function was found, so nothing was judged",
    "same-key": "two functions can render the same key, and would be given results of each other",
    "default-key": "a key without a template names a function that is found under this name no more",
    "no-text": "a parameter that enters the key has no stable text form, so calls run uncached",
    "not-in-key": "a parameter that may change the result is not in the key",
    "matches-nothing": "an invalidation matches the key of no cached function",
    "unused-tag": "nothing invalidates a tag",
    "unknown-tag": "no function has a tag that is invalidated",
    "annotation": "a part of the result does not come back from JSON, so it is not stored",
    "no-annotation": "the result has no annotation, so only plain JSON is stored",
}
"""The kinds of findings."""


class Finding(Struct, frozen=True):
    """One mistake."""

    code: str
    function: str
    line: str
    text: str
    """What is wrong, and what to write."""


class Application(Struct, frozen=True):
    """Decorated functions, and which of them are to be judged."""

    everything: Sequence[tuple[Decorated, Description]]
    """All that are known in this process: functions of other modules are matched, too."""
    judged: frozenset[str]
    """The names of the functions that findings may be about."""
    by_hand: ByHand

    @property
    def mine(self) -> Iterator[tuple[Decorated, Description]]:
        """The functions that are judged."""
        return (pair for pair in self.everything if pair[1].function in self.judged)

    def beside(self, one: Decorated) -> Iterator[tuple[Decorated, Description]]:
        """Return the functions whose keys stand where those of ``one`` do."""
        return (pair for pair in self.everything if one.keeps_as(pair[0]))


def findings_of(application: Application) -> list[Finding]:
    """Return all findings, in the order of the functions."""
    found = [*_shared_keys(application)]
    for one, told in application.mine:
        if one.call is not None:
            found += [*_of_cached(one, one.call, told), *_unused_tags(application, one, told)]
        if one.kind == "invalidates":
            found += _of_invalidating(application, one, told)
    silent = {(told.line, code) for one, told in application.mine for code in ignored_in_source(one.plan.function)}
    found = [finding for finding in found if (finding.line, finding.code) not in silent]
    places = {told.function: place for place, (_, told) in enumerate(application.mine)}
    return sorted(dict.fromkeys(found), key=lambda one: places.get(one.function, 0))


def _finding(code: str, told: Description, text: str) -> Finding:
    return Finding(code, told.function, told.line, text)


# --- keys --------------------------------------------------------------------------------------------------


def _shared_keys(application: Application) -> Iterator[Finding]:
    """Yield a finding for each two functions of one cache that can render one key."""
    for (one, told), (other, other_told) in itertools.combinations(application.everything, 2):
        if one.call is None or other.call is None or one.call is other.call:
            continue
        if not {told.function, other_told.function} & application.judged:
            continue
        key = common_key(told.key, other_told.key)
        if key is not None and one.keeps_as(other) and not _is_on_purpose(told, other_told):
            text = (
                f"its key {told.key!r} and {other_told.key!r} of {other_told.function} can both be {key!r}; "
                "give one of them another text before its first placeholder"
            )
            yield _finding("same-key", told, text)


def _is_on_purpose(told: Description, other: Description) -> bool:
    """Tell whether two functions share their results: one template, one type, as the warning at decoration has it."""
    if not told.has_template and told.function == other.function:
        # The finding about default keys says more.
        return True
    texts = {re.sub(r"<[^<>]*>", "<>", one.key) for one in (told, other)}
    return len(texts) == 1 and told.annotation == other.annotation and told.has_template and other.has_template


def _of_cached(one: Decorated, plan: CallPlan[..., Any], told: Description) -> Iterator[Finding]:
    hints = hints_of(plan.function)
    if not plan.has_template and not _is_found(plan):
        text = (
            f"its key begins with {plan.template!r}, and that name leads to another function now: both would share "
            f'results; write key="{plan.function.__name__}:…", or give it a name of its own'
        )
        yield _finding("default-key", told, text)
    yield from _of_parameters(one, plan, told, hints)
    yield from _of_result(plan, told, hints)


def _is_found(plan: CallPlan[..., Any]) -> bool:
    """Tell whether the name in a default key leads to its function, decorated or not."""
    found: Any = sys.modules.get(plan.function.__module__)
    for part in plan.function.__qualname__.split("."):
        found = getattr(found, part, None)
    while found is not None:
        own = getattr(found, "_self_plan", None)
        if found is plan.function or own is plan or getattr(own, "one", None) is plan:
            return True
        found = getattr(found, "__wrapped__", None)
    # A wrapper of the function that has the name has this name as well.
    return False


def _of_parameters(
    one: Decorated, plan: CallPlan[..., Any], told: Description, hints: dict[str, Any]
) -> Iterator[Finding]:
    in_key = parameters_of(key_of(plan))
    background = plan.policy.background
    # What a load in the background is given anew is a session or the like, and no value on which a result depends.
    given = () if isinstance(background, bool) else background
    used = in_key.union(*map(parameters_of, told.tags), given)
    # An attribute or an item may have a form where the whole has none.
    whole = {name for name in in_key if f"<{name}>" in told.key}
    each = one.plan.each if isinstance(one.plan, BatchPlan) else None
    for place, (name, parameter) in enumerate(plan.signature.parameters.items()):
        annotation = hints.get(name)
        if name in whole and name != each and has_no_form(name, annotation):
            yield _finding("no-text", told, _no_text(name, annotation, plan, told))
        elif name not in used and name != each and _may_matter(place, name, parameter, annotation):
            text = (
                f"{name} is not in the key {told.key!r}, so calls that differ in it share a result; write <{name}> "
                "into the key"
            )
            yield _finding("not-in-key", told, text)


def _no_text(name: str, annotation: Any, plan: CallPlan[..., Any], told: Description) -> str:
    kind = getattr(annotation, "__qualname__", "object")
    part = f"<{name}.url.path>" if kind in {"Request", "object"} and "request" in name else f"<{name}.id>"
    if plan.has_template:
        advice = f"name a part of it that has one, such as {part}, or leave it out"
    else:
        advice = f'write a key= with what the result depends on, such as key="{plan.function.__name__}:{part}"'
    return f"{name}, a {kind}, enters the key {told.key!r} and has no stable text form; {advice}"


def _may_matter(place: int, name: str, parameter: inspect.Parameter, annotation: Any) -> bool:
    """Tell whether a parameter is a plain value, on which a result depends."""
    variadic = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    bound = place == 0 and name.strip("_") in {"self", "cls", "this"}
    return not variadic and not bound and annotation is not None and has_form(annotation)


def _of_result(plan: CallPlan[..., Any], told: Description, hints: dict[str, Any]) -> Iterator[Finding]:
    if "return" not in hints:
        text = "it says nothing about its result, so only plain JSON is stored; write -> and the type"
        yield _finding("no-annotation", told, text)
        return
    lost = lost_of(plan.function)
    if lost:
        advice = "return a dataclass, a model or plain types there, and import what annotations name"
        text = f"{', '.join(lost)} does not come back from JSON, so such results are not stored; {advice}"
        yield _finding("annotation", told, text)


# --- invalidations and tags --------------------------------------------------------------------------------


def _of_invalidating(application: Application, one: Decorated, told: Description) -> Iterator[Finding]:
    here = [pair for pair in application.beside(one) if pair[0].call is not None]
    keys = [other.key for _, other in here] + [*application.by_hand.keys]
    for template in told.invalidates:
        if not _any_common(template, keys):
            text = f"{template!r} matches the key of no cached function of its cache{_nearest(template, keys)}"
            yield _finding("matches-nothing", told, text)
    tags = [tag for _, other in here for tag in other.tags]
    for template in told.tags:
        if not _any_common(template, tags):
            text = f"no function of its cache has the tag {template!r}{_nearest(template, tags)}"
            yield _finding("unknown-tag", told, text)


def _unused_tags(application: Application, one: Decorated, told: Description) -> Iterator[Finding]:
    used = [tag for writer, other in application.beside(one) if writer.kind == "invalidates" for tag in other.tags]
    used += application.by_hand.tags
    # One that only a run tells may be any.
    for tag in told.tags if ANY not in used else ():
        if not _any_common(tag, used):
            text = f'nothing invalidates its tag {tag!r}; write @invalidates(tags=["{tag}"]) where it changes'
            yield _finding("unused-tag", told, text)
    if told.own_tag and told.function.rpartition(".")[2] not in application.by_hand.whole:
        text = "nothing calls its .invalidate_all(), for which it has tags=True; leave the tag out"
        yield _finding("unused-tag", told, text)


def _any_common(template: str, others: Iterable[str]) -> bool:
    return any(common_key(template, other) is not None for other in others)


def _nearest(template: str, others: Sequence[str]) -> str:
    """Return the template that its author may have meant."""
    heads = {_head(other): other for other in reversed(others)}
    near = difflib.get_close_matches(_head(template), [*filter(None, heads)], n=1)
    return f"; {heads[near[0]]!r} is the nearest" if near else ""


def _head(template: str) -> str:
    return template.partition("<")[0].rstrip(":")


def ignored(finding: Finding, choices: Iterable[str]) -> bool:
    """Tell whether a finding is one of ``choices``: its code, or its code and its function behind a colon."""
    return not {finding.code, f"{finding.code}:{finding.function}"}.isdisjoint(choices)


def ignored_in_source(function: Any) -> frozenset[str]:
    """Return the codes that a comment in the source of ``function`` names: ``# cachekit: ignore not-in-key``."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return frozenset()
    return frozenset(re.findall(r"#.*\bcachekit: ignore ([\w-]+)", source))
