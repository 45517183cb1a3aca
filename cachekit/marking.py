"""The marked form of a value: JSON with a blank at its end, which is read in another way than JSON without one.

It is for two things that would not come back from the usual form:

- **an int in a field of floats**, in a class: ``1`` would be read as ``1.0``. In the marked form it is an int.
- **the tag of a model that was never set**, as in ``kind: Literal["dog"] = "dog"``. A field that was never set is left
  out, and without its tag a model may be taken for another one of a union. In the marked form every tag is written, and
  counts as never set when it is read.

This module is pure: no I/O, no clock.
"""

from __future__ import annotations

import contextlib
import copy
import typing
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

import msgspec
import orjson

from cachekit.rebuilding import UNIONS, Annotation, Build, fields_of, hints_of, is_model, names_zones, split_models

Decode: TypeAlias = Callable[[bytes], Any]

MARK: Final = b" "

_MARK: Final = MARK[0]


def has_marked_form(annotation: Annotation) -> bool:
    """Tell whether a value of ``annotation`` may need the marked form."""
    # A name in an annotation of a field may stand for nothing, and code in it may raise anything.
    with contextlib.suppress(Exception):
        return _may_need_it(annotation, set())
    return False


def _may_need_it(annotation: Annotation, seen: set[Annotation]) -> bool:
    if annotation in seen:
        return False
    seen.add(annotation)
    hints: list[Annotation] = []
    origin: Any = typing.get_origin(annotation)
    members = typing.get_args(annotation)
    if origin in UNIONS and any(map(_tags, split_models(members)[0])):
        return True
    if is_model(annotation):
        hints = [field.annotation for field in annotation.model_fields.values()]
    elif isinstance(kind := origin or annotation, type) and fields_of(kind) is not None:
        hints = [*hints_of(annotation).values()]
        if any(map(_has_float, hints)):
            return True
    return any(_may_need_it(one, seen) for one in (*members, *hints))


def _has_float(annotation: Annotation) -> bool:
    return annotation is float or any(map(_has_float, typing.get_args(annotation)))


@lru_cache(1024)
def _tags(kind: Any) -> frozenset[str]:
    """Return the fields of a model that tell it from others, and have a default."""
    return frozenset(
        name
        for name, field in kind.model_fields.items()
        if typing.get_origin(field.annotation) is typing.Literal and not field.is_required()
    )


def reader_of_both(plain: Decode, builder: Callable[[], Build], *, of_models: bool) -> Decode:
    """Return a decoder of both forms.

    Args:
        plain: Decodes the usual form.
        builder: Makes what builds a value from plain JSON. Nothing is made before the first value in the marked form.
        of_models: Whether there are only models, which ``plain`` can read in both forms.
    """
    made = cache(builder)

    def decode(data: bytes) -> Any:
        if data[-1] != _MARK:
            return plain(data)
        value = plain(data) if of_models and not names_zones(data) else made()(orjson.loads(data))
        _unset_tags(value)
        return value

    return decode


def with_tags(value: Any) -> Any:
    """Return ``value`` with copies of its models and of what holds them, in which every tag counts as set."""
    kind: Any = type(value)
    if is_model(kind):
        model = value.model_copy()
        vars(model).update({name: with_tags(item) for name, item in vars(value).items()})
        model.__pydantic_fields_set__.update(_tags(kind))
        return model
    if kind in (list, tuple, set, frozenset):
        return kind(map(with_tags, value))
    if kind is dict:
        return {key: with_tags(item) for key, item in value.items()}
    names = None if kind in _ATOMS else fields_of(kind)
    if names is None:
        return value
    if issubclass(kind, tuple):
        return kind(*map(with_tags, value))
    parts = {name: with_tags(getattr(value, name)) for name in names}
    if issubclass(kind, msgspec.Struct):
        return msgspec.structs.replace(value, **parts)
    holder = copy.copy(value)
    for name, part in parts.items():
        # Past a class that is frozen.
        object.__setattr__(holder, name, part)
    return holder


_ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None)})


def _unset_tags(value: Any) -> None:
    kind: Any = type(value)
    parts: Any = value if kind in (list, tuple, set, frozenset) else ()
    if is_model(kind):
        value.__pydantic_fields_set__.difference_update(_tags(kind))
        parts = vars(value).values()
    elif kind is dict:
        parts = value.values()
    elif kind not in _ATOMS and not parts and (names := fields_of(kind)) is not None:
        parts = [getattr(value, name) for name in names]
    for part in parts:
        _unset_tags(part)
