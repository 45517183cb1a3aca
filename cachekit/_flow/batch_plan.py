"""The plan of a batch: a function of many ids, and the plan of one call, whose keys and codec it shares.

A batch has one parameter for the ids, ``each``. All others are common to the calls that it stands for. The key of an id
is that of one call with the id, and with the common arguments by their names.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from cachekit._flow.arguments import Arguments, arguments_of
from cachekit._flow.plan import CallPlan, Serve, check_function, describe, return_annotation
from cachekit._flow.policy import Duration, Policy
from cachekit._flow.runtime import Lookup
from cachekit._flow.tagging import TagPlan
from cachekit.config import parse_count, parse_duration
from cachekit.errors import DecorationError
from cachekit.keys import parameters_of

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")

MOST: Final = 500
"""The ids of one call of a batch function, unless it says another number."""


class BatchPolicy(Struct, frozen=True, kw_only=True):
    """The options of a batch function beside those of one call.

    Raises:
        ConfigurationError: An option makes no sense.
    """

    max_batch: int = MOST
    absent_ttl: Duration | None = None

    def __post_init__(self) -> None:
        """Check the options, and turn the duration into seconds."""
        parse_count(self.max_batch, "max_batch")
        if self.absent_ttl is not None:
            force_setattr(self, "absent_ttl", parse_duration(self.absent_ttl, "absent_ttl"))


class BatchPlan(Generic[K, V]):
    """How calls of one batch function are cached.

    Args:
        function: The ``async def``, not bound.
        one: The plan of one call: it has the keys, the codec and all options that are not about batches.
        names: The parameter of the ids, and the parameter of the id in a call of ``one``.
        policy: The other options.

    Raises:
        DecorationError: A tag names a parameter that the function lacks.
    """

    lookup: Lookup
    """How its cache is found; its decorator sets it."""
    serve: Serve
    """Serves a call whose arguments fit, under the name of the function; its decorator sets it."""

    def __init__(
        self,
        function: Callable[..., Coroutine[Any, Any, Mapping[K, V]]],
        one: CallPlan[..., V],
        names: tuple[str, str],
        policy: BatchPolicy,
    ) -> None:
        self.function: Callable[..., Coroutine[Any, Any, Mapping[K, V]]] = function
        self.name: str = describe(function)
        self.one: CallPlan[..., V] = one
        self.each: str = names[0]
        self.max_batch: int = policy.max_batch
        # Seconds by now.
        self.absent_ttl: float | None = cast("float | None", policy.absent_ttl)
        self.signature: inspect.Signature = inspect.signature(function)
        self._head, self._tail, self._named = _order_of(one, names)
        self.arguments: Arguments = _arguments_of(one, self.signature, names, self.name)
        if one.tags is not None:
            _check_tags(one.tags, {*self.signature.parameters} - {names[0]} | {names[1]}, self.name)
            # Tags outlive the absences that name them as well.
            one.tags.longest = max(one.tags.longest, self.absent_ttl or 0.0)
        self.own_tags: bool = one.tags is not None and names[1] in one.tags.parameters
        """Whether each id has tags of its own; else all have the same."""

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked[K, V]:
        """Return what a call asks for.

        Raises:
            TypeError: The arguments do not fit, or the ids are text or cannot be iterated over.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        ids = bound.arguments[self.each]
        if isinstance(ids, (str, bytes)):
            message = (
                f"{self.name} takes many ids as {self.each}, and one text is none: write [{self.each[:-1] or 'id'}]"
            )
            raise TypeError(message)
        common = bound.arguments
        head = [common.get(name) for name in self._head]
        tail = [common.get(name) for name in self._tail]
        named = {name: common.get(name) for name in self._named}
        return Asked(self, [*ids], bound, head, tail, named)


class Asked(Struct, Generic[K, V], eq=False):
    """The arguments of one call of a batch function."""

    plan: BatchPlan[K, V]
    ids: list[K]
    bound: inspect.BoundArguments
    head: list[Any]
    """The arguments of one call before its id; a parameter that its function alone has is None."""
    tail: list[Any]
    named: dict[str, Any]

    def __repr__(self) -> str:
        # As `Call`.
        return f"{type(self).__name__}({self.plan.name})"

    @property
    def key_of(self) -> Callable[[K], str]:
        """The function that returns the key of one id.

        It raises a `RenderError` if the id, or a common argument, has no stable text form.
        """
        return self.of_each(self.plan.one.render)

    def of_each(self, render: Callable[..., R]) -> Callable[[K], R]:
        """Return ``render``, a function of the arguments of one call, as a function of its id."""
        if not (self.head or self.tail or self.named):
            # The usual case, and a call less for each id.
            return render
        return lambda one: render(*self.head, one, *self.tail, **self.named)

    def arguments_of(self, one: K) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call for one id."""
        return (*self.head, one, *self.tail), self.named

    def arguments_for(self, ids: Iterable[K]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call of the function for ``ids`` alone."""
        some: Any = [*ids]
        if self.plan.signature.parameters[self.plan.each].kind is inspect.Parameter.VAR_POSITIONAL:
            some = tuple(some)
        self.bound.arguments[self.plan.each] = some
        return self.bound.args, self.bound.kwargs


def plan_many(function: Any, one: CallPlan[..., Any], each: str | None, policy: BatchPolicy) -> BatchPlan[Any, Any]:
    """Return the plan of ``function``, a batch of calls of ``one``.

    Raises:
        DecorationError: It cannot be told how its parameters stand to those of ``one``.
    """
    signature = check_function(function, "many")
    names, of_one = [*signature.parameters], [*inspect.signature(one.function).parameters]
    if each is None:
        others = [name for name in names if name not in of_one]
        if len(others) != 1:
            found = " and ".join(others) or "none"
            message = (
                f"which parameter of {describe(function)} has the ids cannot be told: {found} of them is not a "
                f'parameter of {one.name} as well; write .many(each="{(others or names or ["user_ids"])[0]}")'
            )
            raise DecorationError(message)
        each = others[0]
    _check_each(each, names, function)
    needed = [name for name in _in_key(one) if name not in names]
    if not needed:
        message = (
            f"{describe(function)} has every part of the key of {one.name}, so it is for one id; "
            f"leave the parameter of the id out: {each} has many of it"
        )
        raise DecorationError(message)
    if len(needed) > 1:
        message = (
            f"{describe(function)} lacks {' and '.join(needed)} of the key of {one.name}, and may lack the id alone, "
            f"of which {each} has many; give the others the names that they have in {one.name}"
        )
        raise DecorationError(message)
    return BatchPlan(function, one, (each, needed[0]), policy)


def plan_alone(function: Any, key: str, each: str, policies: tuple[Policy, BatchPolicy]) -> BatchPlan[Any, Any]:
    """Return the plan of a batch function that has no function for one id.

    Raises:
        DecorationError: ``key`` does not name exactly one thing that is no parameter of ``function``: the id.
    """
    signature = check_function(function, "cached_many")
    names = [*signature.parameters]
    _check_each(each, names, function)
    if not isinstance(key, str) or not key:
        message = f'@cached_many needs a key template for one id, not {key!r}; write key="user:<user_id>"'
        raise DecorationError(message)
    ids = sorted(parameters_of(key) - {*names})
    if len(ids) != 1 or each in parameters_of(key):
        message = (
            f"key template {key!r} has to name the id, once and by a name that is no parameter of "
            f'{describe(function)}: write "user:<{_singular(each)}>" for one of {each}'
        )
        raise DecorationError(message)
    # A type of that name may be defined further down.
    with contextlib.suppress(NameError):
        _value_type(function)
    policy, of_batch = policies
    one = _OnePlan(function, key, policy, (each, ids[0]))
    return BatchPlan(function, one, (each, ids[0]), of_batch)


class _OnePlan(CallPlan[..., Any]):
    """The plan of one call where there is no function for one id."""

    def __init__(self, function: Any, key: str, policy: Policy, names: tuple[str, str]) -> None:
        # `CallPlan` asks for both.
        self._names = names
        super().__init__(function, key, policy)

    def signature_of(self, function: Any) -> inspect.Signature:
        """Return the signature that a function for one id would have."""
        each, one = self._names
        signature = check_function(function, "cached_many")
        parameter = inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        # Common ones by name: an optional one may stand before the ids.
        before = [
            other.replace(default=parameter.empty) for name, other in signature.parameters.items() if name != each
        ]
        plain = [other.replace(kind=parameter.kind) for other in before if other.kind not in _VARIADIC]
        return signature.replace(parameters=[*plain, parameter])

    def annotation(self) -> Any:
        """Return the type of one value."""
        return _value_type(self.function)


def _value_type(function: Any) -> Any:
    annotation = return_annotation(function)
    if annotation is Any:
        return Any
    origin, of = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if not (isinstance(origin, type) and issubclass(origin, Mapping)):
        message = (
            f"@cached_many cannot decorate {describe(function)}, which does not return a mapping of ids; "
            "write -> dict[int, User], with one member for each id that there is"
        )
        raise DecorationError(message)
    return of[1] if len(of) == _PAIR else Any


_PAIR: Final = 2

_VARIADIC: Final = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


def _check_each(each: object, names: list[str], function: Any) -> None:
    if each not in names:
        known = " or ".join(f'each="{name}"' for name in names) or "one that takes the ids"
        message = f"each={each!r} names no parameter of {describe(function)}; write {known}"
        raise DecorationError(message)


def _check_tags(tags: TagPlan, known: set[str], name: str) -> None:
    """Refuse tags of one call that name what a batch does not have.

    Raises:
        DecorationError: A tag names another parameter than the ``known`` ones.
    """
    lacking = sorted(tags.parameters - known)
    if lacking:
        message = (
            f"{name} has every part of the tags of one call but {' and '.join(lacking)}; give it parameters of these "
            "names, or write tags that name the id, or a part of the result, as <return.team_id>"
        )
        raise DecorationError(message)


def _in_key(one: CallPlan[..., Any]) -> list[str]:
    """Return the parameters that the key of ``one`` has, in their order."""
    names = [*one.signature.parameters]
    return [name for name in names if name in parameters_of(one.template)] if one.has_template else names


def _order_of(one: CallPlan[..., Any], names: tuple[str, str]) -> tuple[list[str], list[str], list[str]]:
    """Return the parameters of ``one`` before and behind that of the id, and the ones that are given by name.

    Raises:
        DecorationError: The id cannot be given by position.
    """
    kinds = inspect.Parameter
    parameters = one.signature.parameters.values()
    order = [parameter.name for parameter in parameters if parameter.kind < kinds.VAR_POSITIONAL]
    if names[1] not in order:
        message = (
            f"the {names[1]} of {one.name} cannot be given by position, and a batch gives it so; "
            "move it to the front of the *"
        )
        raise DecorationError(message)
    place = order.index(names[1])
    named = [parameter.name for parameter in parameters if parameter.kind is kinds.KEYWORD_ONLY]
    return order[:place], order[place + 1 :], named


def _arguments_of(
    one: CallPlan[..., Any], signature: inspect.Signature, names: tuple[str, str], name: str
) -> Arguments:
    """Return how loads of a batch in the background get their arguments: the ids stand for the id in the key."""
    each, of_one = names
    renamed = [of_one if parameter == each else parameter for parameter in signature.parameters]
    in_key = "".join(f"<{parameter}>" for parameter in _in_key(one) if parameter in renamed)
    as_one = [
        parameter.replace(name=new) for parameter, new in zip(signature.parameters.values(), renamed, strict=True)
    ]
    arguments = arguments_of(one.policy, signature.replace(parameters=as_one), in_key, name, of_class=False)
    return Arguments(signature, arguments.providers)


def _singular(name: str) -> str:
    return name.removesuffix("s") if name.endswith("s") and len(name) > 1 else f"{name}_id"
