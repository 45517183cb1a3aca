"""A call as it is written on a command line: which function, and which arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final, cast

import orjson
from msgspec import Struct

from cachekit._cli.annotations import hints_of
from cachekit._cli.modules import import_modules
from cachekit._flow.batch_plan import BatchPlan
from cachekit._flow.plan import CallPlan
from cachekit.codecs import Codec
from cachekit.describing import Decorated, decorated, key_of
from cachekit.errors import ConfigurationError, DecodeError
from cachekit.keys import parameters_of


class Invocation(Struct, frozen=True):
    """One call of a decorated function."""

    function: Decorated
    plan: CallPlan[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def invocation_of(target: str, texts: Sequence[str]) -> Invocation:
    """Return the call of ``target``, such as ``shop.views:profile``, with arguments as texts.

    Each is read as the annotation of its parameter: ``42``, ``name=Ada``, or JSON such as ``'[1, 2]'``. Parameters that
    neither key nor tags name, such as a database session, may be left out.

    Raises:
        ConfigurationError: There is no such function, it is not a cached one, or the arguments do not fit.
        DecorationError: It is not decorated.
        Exception: Any that the module raises when it is imported.
    """
    function = decorated(_found(target))
    plan = function.call
    if plan is None:
        message = f"{target} is decorated with @{function.kind}, and only calls of cached functions have a key"
        raise ConfigurationError(message)
    positional = [text for text in texts if not _is_named(text, plan.signature)]
    named = dict(text.split("=", 1) for text in texts if _is_named(text, plan.signature))
    try:
        bound = plan.signature.bind_partial(*_filled(positional, plan), **named)
    except TypeError as error:
        message = f"{target}: {error}; it takes {plan.signature}"
        raise ConfigurationError(message) from None
    _convert(bound, plan)
    _leave_out(bound, plan, target)
    bound.apply_defaults()
    return Invocation(function, plan, bound.args, bound.kwargs)


def _found(target: str) -> Any:
    name, colon, path = target.partition(":")
    if not colon or not path:
        message = f"{target!r} names no function; write its module and its name, such as shop.views:profile"
        raise ConfigurationError(message)
    found: Any = import_modules([name])[0]
    for part in path.split("."):
        found = getattr(found, part, None)
        if found is None:
            message = f"the module {name} has no {path!r}"
            raise ConfigurationError(message)
    return found


_BOUND: Final = frozenset({"self", "cls", "this"})


def _filled(texts: list[str], plan: CallPlan[..., Any]) -> list[Any]:
    """Return the arguments by position, with a place for the instance of a method, which no key needs."""
    first = next(iter(plan.signature.parameters), "")
    return [None, *texts] if first in _BOUND else texts


def _is_named(text: str, signature: inspect.Signature) -> bool:
    name, equals, _ = text.partition("=")
    return bool(equals) and name in signature.parameters


def _convert(bound: inspect.BoundArguments, plan: CallPlan[..., Any]) -> None:
    """Turn the texts into values of the annotated types."""
    hints = hints_of(plan.function)
    for name, text in bound.arguments.items():
        if isinstance(text, tuple):
            bound.arguments[name] = tuple(value_of(one, hints.get(name, Any), name) for one in text)
        elif isinstance(text, str):
            bound.arguments[name] = value_of(text, hints.get(name, Any), name)


def value_of(text: str, annotation: Any, name: str) -> Any:
    """Return the value of ``annotation`` that ``text`` stands for.

    Raises:
        ConfigurationError: There is none.

    Example:
        >>> value_of("42", int, "x"), value_of("42", str, "x"), value_of("[1]", list[int], "x"), value_of("a", Any, "x")
        (42, '42', [1], 'a')
    """
    quoted = orjson.dumps(text)
    # An annotation of text could not be evaluated.
    if annotation is Any or isinstance(annotation, str):
        forms, annotation = (text.encode(), quoted), Any
    else:
        # A text such as 42 is read as text where the annotation allows both.
        forms = (quoted, text.encode())
    try:
        codec = Codec(annotation)
    except TypeError:
        codec = Codec(Any)
    for form in forms:
        try:
            return codec.decode(form)
        except DecodeError:
            continue
    message = f"{name}={text!r} is no {getattr(annotation, '__qualname__', annotation)}"
    raise ConfigurationError(message)


def _leave_out(bound: inspect.BoundArguments, plan: CallPlan[..., Any], target: str) -> None:
    """Give None to parameters that the key does not name, and that have no default.

    Raises:
        ConfigurationError: One that the key names is missing.
    """
    tags = cast("tuple[str | bool, ...]", plan.policy.tags)
    templates = [key_of(plan), *[tag for tag in tags if isinstance(tag, str)]]
    needed = frozenset[str]().union(*map(parameters_of, templates))
    for name, parameter in plan.signature.parameters.items():
        variadic = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        if name in bound.arguments or variadic or parameter.default is not parameter.empty:
            continue
        if name in needed:
            message = f"{target} needs {name}, which its key names; it takes {plan.signature}"
            raise ConfigurationError(message)
        bound.arguments[name] = None


def is_batch(function: Decorated) -> bool:
    """Tell whether ``function`` takes many ids; its call here is one for a single id."""
    return isinstance(function.plan, BatchPlan)
