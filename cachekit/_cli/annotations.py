"""Annotations, read for mistakes: which part of a result does not come back, and which argument has no stable text."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from cachekit.codecs import Codec, is_unknown
from cachekit.rebuilding import is_model

_UNREADABLE: Final = (NameError, TypeError, AttributeError, SyntaxError)
"""What evaluating an annotation of text raises."""


def hints_of(thing: Any) -> dict[str, Any]:
    """Return the annotations of a function or a class; one that cannot be evaluated as it is written.

    Example:
        >>> def double(x: int) -> int: ...
        >>> hints_of(double)
        {'x': <class 'int'>, 'return': <class 'int'>}
    """
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except _UNREADABLE:
        written = getattr(thing, "__annotations__", {})
        return {name: _evaluated(thing, name, annotation) for name, annotation in written.items()}


def _evaluated(thing: Any, name: str, annotation: Any) -> Any:
    alone = types.SimpleNamespace(__annotations__={name: annotation})
    inner = inspect.unwrap(thing)
    scope = getattr(inner, "__globals__", None) or vars(sys.modules.get(inner.__module__, types))
    try:
        return typing.get_type_hints(alone, scope, include_extras=True)[name]
    except _UNREADABLE:
        return annotation


# --- results -----------------------------------------------------------------------------------------------


def lost_parts(annotation: Any) -> list[str]:
    """Return the parts of ``annotation`` of which no value comes back from JSON, each with its type.

    Example:
        >>> lost_parts(list[int]), lost_parts(dict[str, Codec | None])
        ([], ['{…}: Codec'])
    """
    return [f"{place or 'all of it'}: {name_of(kind)}" for place, kind in _lost(annotation, "", ())]


def lost_of(function: Any) -> list[str]:
    """Return the parts of the result of ``function`` that do not come back; none if it says nothing about it."""
    annotation = hints_of(function).get("return", Any)
    if isinstance(annotation, str):
        return [f"{annotation!r}, which cannot be evaluated"]
    return lost_parts(annotation)


def name_of(annotation: Any) -> str:
    """Return an annotation as people write it."""
    plain = isinstance(annotation, type) and not typing.get_args(annotation)
    return annotation.__qualname__ if plain else str(annotation).replace("typing.", "")


def _lost(annotation: Any, place: str, around: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    annotation = _plain(annotation)
    if annotation in around or isinstance(annotation, (str, typing.TypeVar)):
        return
    members = [*_members(annotation, place)]
    if members:
        for inner, kind in members:
            yield from _lost(kind, inner, (*around, annotation))
        return
    if isinstance(annotation, type) and annotation is not object and not is_model(annotation):
        known = not is_unknown(annotation)
    else:
        known = _has_codec(annotation)
    if not known:
        yield place, annotation


def _has_codec(annotation: Any) -> bool:
    try:
        Codec(annotation)
    except _UNREADABLE:
        return False
    return True


def _plain(annotation: Any) -> Any:
    """Return an annotation without notes and without other names."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


_UNIONS: Final = (typing.Union, types.UnionType)


def _members(annotation: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of which a value of ``annotation`` is made, with their places."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        yield from ((place, one) for one in arguments)
    elif origin is tuple:
        yield from ((f"{place}[{number}]", one) for number, one in enumerate(arguments) if one is not ...)
    elif isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        yield from ((f"{place}{{…}}", one) for one in arguments)
    elif isinstance(origin, type) and issubclass(origin, collections.abc.Collection):
        yield from ((f"{place}[…]", one) for one in arguments)
    elif _has_fields(annotation):
        yield from ((f"{place}.{name}", kind) for name, kind in hints_of(annotation).items())
    elif is_model(annotation):
        fields = annotation.model_fields.items()
        yield from ((f"{place}.{name}", one.annotation) for name, one in fields if _is_secret(one.annotation))


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__struct_fields__")
        or typing.is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def _is_secret(kind: Any) -> bool:
    """Tell whether it is a type of pydantic's whose JSON is asterisks."""
    return getattr(kind, "__module__", "").startswith("pydantic") and getattr(kind, "__name__", "").startswith("Secret")


# --- arguments ---------------------------------------------------------------------------------------------

_ATOMS: Final = (str, int, float, bytes, type(None), Decimal, UUID, Enum, dt.date, dt.time)

_USUAL: Final = frozenset(
    {
        *("request", "http_request", "response", "websocket", "background_tasks"),
        *("session", "db", "db_session", "conn", "connection", "cursor", "client", "http_client"),
    }
)
"""Names of parameters that hardly ever have a stable text form."""

_USUAL_TYPES: Final = frozenset(
    {
        *("Request", "HttpRequest", "HTTPConnection", "Response", "WebSocket", "BackgroundTasks"),
        *("Session", "AsyncSession", "Connection", "AsyncConnection", "Engine", "AsyncEngine", "AsyncClient"),
    }
)
"""Names of their types, where an annotation cannot be evaluated: type checkers alone import what it names."""


def has_no_form(name: str, annotation: Any) -> bool:
    """Tell whether an argument of the parameter ``name`` has no stable text form for a key.

    Example:
        >>> has_no_form("x", list[int]), has_no_form("x", Codec), has_no_form("request", None)
        (False, True, True)
    """
    annotation = _plain(annotation)
    if isinstance(annotation, str):
        return name in _USUAL or annotation.strip("'\"").rpartition(".")[2] in _USUAL_TYPES
    if annotation is None or annotation is Any:
        return name in _USUAL
    if typing.get_origin(annotation) in (typing.Literal, type):
        return False
    arguments = [one for one in typing.get_args(annotation) if one is not ...]
    if arguments:
        return any(one is not type(None) and has_no_form(name, one) for one in arguments)
    if not isinstance(annotation, type) or annotation is object:
        return False
    return not (issubclass(annotation, _ATOMS) or annotation in _CONTAINERS or _is_frozen(annotation))


def has_form(annotation: Any) -> bool:
    """Tell whether arguments of ``annotation`` are sure to have a stable text form, and so may change the result."""
    annotation = _plain(annotation)
    arguments = [one for one in typing.get_args(annotation) if one is not ...]
    if arguments and typing.get_origin(annotation) is not typing.Literal:
        return all(has_form(one) for one in arguments)
    return typing.get_origin(annotation) is typing.Literal or (
        isinstance(annotation, type) and (issubclass(annotation, _ATOMS) or annotation in _CONTAINERS)
    )


_CONTAINERS: Final = frozenset({list, tuple, set, frozenset, dict})


def _is_frozen(kind: type) -> bool:
    """Tell whether ``kind`` is a frozen model, which has a form when its fields have one."""
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return True
    if getattr(kind, "model_config", {}).get("frozen"):
        return True
    parameters = getattr(kind, "__dataclass_params__", None)
    return (
        bool(parameters is not None and parameters.frozen) or getattr(kind, "_is_protocol", False) or _is_abstract(kind)
    )


def _is_abstract(kind: type) -> bool:
    return kind.__module__ in {"collections.abc", "typing"}
