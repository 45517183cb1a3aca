"""Values to bytes and back, so that a hit has the type of the miss.

orjson writes, msgspec decodes straight into the annotated type, pydantic models validate themselves. A
value is encoded, decoded once and compared before it is stored. A value that would not come back equal and of
the same type is refused with a `RoundTripError`, never altered.

This module is pure: no I/O, no clock. No pickle, no evaluation of data.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import marshal
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
import orjson

from cachekit.errors import DecodeError, RoundTripError

Decode: TypeAlias = Callable[[bytes], Any]

_WRITE: Final = orjson.OPT_NON_STR_KEYS


class Codec:
    """Encodes and decodes values of one annotated type.

    Args:
        annotation: The type that comes back from `decode`. `Any` means plain JSON: dict with text keys,
            list, str, int, float, bool, None.
        name: The name of the function or verb that has the values, for logs and events.

    Raises:
        TypeError: No decoder can be built for the annotation.

    Example:
        >>> codec = Codec(tuple[int, ...])
        >>> codec.encode((1, 2)), codec.decode(b"[1,2]")
        (b'[1,2]', (1, 2))
    """

    __slots__ = ("_decode", "annotation", "name")

    def __init__(self, annotation: Any, name: str = "") -> None:
        self.annotation: Any = annotation
        self.name: str = name
        self._decode = _decoder(annotation)

    def decode(self, data: bytes) -> Any:
        """Return the value that ``data`` holds.

        Raises:
            DecodeError: The bytes are not JSON of the annotated type. The message names the type and
                the kind of error, never the bytes.
        """
        try:
            return self._decode(data)
        # Decoding runs code of the user's types (__post_init__, validators), which may raise anything.
        except Exception as error:
            message = f"the stored bytes do not decode into {_name(self.annotation)} ({type(error).__name__})"
            raise DecodeError(message) from None

    def encode(self, value: object) -> bytes:
        """Return ``value`` as compact JSON that is known to decode into an equal value of the same type.

        Raises:
            RoundTripError: The JSON would decode into another value or type. The message names types, never the
                value.
        """
        hook = _Hook()
        try:
            data = orjson.dumps(value, hook, _WRITE)
            back = self._decode(data)
            faithful = (not hook.used and _alike(value, back)) or same(value, back)
        # Encoding and comparing run code of the user's types, which may raise anything.
        except Exception as error:
            message = f"{_describe(value)} cannot make the round trip through JSON ({type(error).__name__})"
            raise RoundTripError(self._advise(message)) from None
        if not faithful:
            message = f"{_describe(value)} would not come back from JSON as it was"
            raise RoundTripError(self._advise(message))
        return data

    def _advise(self, message: str) -> str:
        if self.annotation is Any:
            return (
                f"{message}; without a return annotation only plain JSON comes back unchanged: "
                "annotate the function with what it returns"
            )
        return f"{message}; the annotation is {_name(self.annotation)}"


def _describe(value: object) -> str:
    return f"a value of type {_name(type(value))}"


def _name(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


# --- writing -------------------------------------------------------------------------------------


class _Hook:
    """Replaces a value that orjson cannot write by one that it can, and notes that it did."""

    used = False

    def __call__(self, value: Any) -> Any:
        self.used = True
        return _builtin(value)


def _builtin(value: Any) -> Any:
    if _is_model(type(value)):
        # A warning of pydantic's would quote the value. A value that does not fit its field is refused anyway: it does
        # not come back the same.
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    # bytes, Decimal, timedelta and msgspec.Struct, each in the form that msgspec reads back.
    return msgspec.to_builtins(value, builtin_types=(dt.datetime, dt.date, dt.time))


# --- reading -------------------------------------------------------------------------------------


def _is_model(kind: Any) -> bool:
    # A model is recognised by its methods: pydantic is the user's dependency, not ours.
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "__pydantic_validator__")


def _decoder(annotation: Any) -> Decode:
    if _is_model(annotation):
        validate: Decode = annotation.model_validate_json
        return validate
    annotation = _with_int(annotation)
    try:
        return msgspec.json.Decoder(annotation, dec_hook=_from_builtin).decode
    except TypeError:
        members = typing.get_args(annotation)
        if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
            raise
        return _first_of([_decoder(member) for member in members])


def _with_int(annotation: Any) -> Any:
    """Accept an int where a float is annotated (PEP 484), and let it come back as an int.

    JSON keeps them apart (``1`` and ``1.0``). A decoder of float alone would turn an int into a float.
    """
    if annotation is float:
        return int | float
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if float not in members and not any(map(typing.get_args, members)):
        return annotation
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_with_int, members))]  # noqa: UP007 - the members are not known before
    if origin in _CONTAINERS:
        container: Any = origin
        return container[tuple(map(_with_int, members))]
    return annotation


_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset, Sequence, Mapping})


def _first_of(decoders: list[Decode]) -> Decode:
    """Return a decoder of a union that msgspec cannot tell apart: the first member that fits wins.

    The member that fits depends on the bytes alone, and encoding compares: a value that an earlier member would
    accept is refused when it is written. So a hit is never of another member's type.
    """

    def decode(data: bytes) -> Any:
        failure: Exception = ValueError("no member")
        for attempt in decoders:
            try:
                return attempt(data)
            except Exception as error:
                failure = error
        raise failure

    return decode


def _from_builtin(kind: Any, value: Any) -> Any:
    """Build a type that msgspec does not know from the plain JSON that it decoded."""
    if _is_model(kind):
        # The value becomes JSON again, for pydantic's JSON mode: in Python mode a strict model refuses a date as text.
        return kind.model_validate_json(orjson.dumps(value))
    message = f"no way to build a {_name(kind)} from JSON"
    raise NotImplementedError(message)


# --- comparing -----------------------------------------------------------------------------------


def _alike(a: Any, b: Any) -> bool:
    """Tell whether ``a`` and ``b`` are known to be `same`, in a tenth of its time: most results are plain JSON.

    The bytes of marshal keep apart the types of builtins, subclasses of them, and the order of a dict. They are
    compared and thrown away, never read. Version 2 of the format does not mark interned and shared objects, in which
    alike values may differ. It writes all kinds of bytes in one way, but orjson writes none of them without help.
    """
    try:
        return marshal.dumps(a, 2) == marshal.dumps(b, 2)
    # A value is no builtin, or is nested too deep.
    except ValueError:
        return False


def same(a: Any, b: Any) -> bool:
    """Tell whether ``b`` may be handed out in place of ``a``: equal, and of the same types all the way down.

    ``==`` alone is not enough: ``1 == 1.0 == True``, and a datetime equals one of another time zone.

    Example:
        >>> same([1], [1]), same([1], [True]), same((1,), [1])
        (True, False, False)
    """
    kind = type(a)
    if kind is not type(b):
        return False
    if kind in _LEAVES:
        return bool(a == b)
    if isinstance(a, Mapping) and kind is dict:
        # In order, since a caller can see the order of a dict.
        return len(a) == len(b) and all(
            same(key_a, key_b) and same(a[key_a], b[key_b]) for key_a, key_b in zip(a, b, strict=True)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b)) and _same_attributes(a, b)
    if isinstance(a, (set, frozenset)):
        twins = {item: item for item in b}
        return len(a) == len(b) and all(item in twins and same(item, twins[item]) for item in a)
    if isinstance(a, (dt.datetime, dt.time)):
        return bool(a == b) and a.utcoffset() == b.utcoffset() and a.fold == b.fold and _same_zone(a.tzinfo, b.tzinfo)
    return _same_object(a, b)


_LEAVES: Final = frozenset({str, int, float, bool, bytes, type(None), dt.date, dt.timedelta})


def _same_zone(a: dt.tzinfo | None, b: dt.tzinfo | None) -> bool:
    # A named zone would come back as a fixed offset: equal now, but different after adding a month. Fixed offsets
    # (a zone that needs no date to know its offset) are alike, even if two libraries made them.
    if a is None or b is None:
        return a is b
    offset = a.utcoffset(None)
    return a == b if offset is None else offset == b.utcoffset(None)


def _same_object(a: Any, b: Any) -> bool:
    if _is_model(type(a)):
        return all(
            same(getattr(a, part, None), getattr(b, part, None))
            for part in ("__dict__", "__pydantic_extra__", "__pydantic_private__")
        )
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a)]
        return all(same(getattr(a, name), getattr(b, name)) for name in names) and _same_attributes(a, b, beside=names)
    if isinstance(a, msgspec.Struct):
        fields_alike = all(same(getattr(a, name), getattr(b, name)) for name in a.__struct_fields__)
        return fields_alike and _same_attributes(a, b)
    return bool(a == b)


def _same_attributes(a: Any, b: Any, *, beside: Sequence[str] = ()) -> bool:
    """Compare the attributes of an instance beside its fields or items.

    The fields are excluded, since a second comparison at each level would cost 2 ** levels.
    """
    more_of_a, more_of_b = ({**getattr(one, "__dict__", {})} for one in (a, b))
    for name in beside:
        more_of_a.pop(name, None)
        more_of_b.pop(name, None)
    return same(more_of_a, more_of_b)


# --- sharing -------------------------------------------------------------------------------------


def is_immutable(value: Any) -> bool:
    """Tell whether several callers may get this very object: nothing in it can be changed.

    Example:
        >>> is_immutable(("recieve", 3)), is_immutable(("recieve", [3]))
        (True, False)
    """
    try:
        return _is_immutable(value)
    # Code of the user's types, which runs when a field is read, may raise anything; or the value is nested too deep.
    except Exception:
        return False


def _is_immutable(value: Any) -> bool:
    kind = type(value)
    if kind in _LEAVES or kind in _CLOSED or isinstance(value, Enum):
        return True
    if kind in {tuple, frozenset}:
        return all(map(_is_immutable, value))
    if isinstance(value, tuple):
        # A named tuple. One that accepts further attributes has a __dict__ for them.
        return not hasattr(value, "__dict__") and all(map(_is_immutable, value))
    # The parameters of the class itself, not of a base: a subclass that is no dataclass accepts further attributes.
    frozen = vars(kind).get("__dataclass_params__")
    if frozen is not None and frozen.frozen:
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(value, msgspec.Struct) and value.__struct_config__.frozen:
        names = [*value.__struct_fields__]
    else:
        return False
    return not _holds_more(value, names) and all(_is_immutable(getattr(value, name)) for name in names)


def _holds_more(value: Any, names: Sequence[str]) -> bool:
    """Tell whether an instance has a place for more than its fields, and something is or may come into it.

    A `functools.cached_property`, or a similar one of another library, writes into that place though the class is
    frozen.
    """
    if not hasattr(value, "__dict__"):
        return False
    if not vars(value).keys() <= {*names}:
        return True
    parts = [part for kind in type(value).__mro__[:-1] if kind is not msgspec.Struct for part in vars(kind).values()]
    return any(
        hasattr(type(part), "__get__") and not hasattr(type(part), "__set__") and not isinstance(part, _HARMLESS)
        for part in parts
    )


_HARMLESS: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    classmethod,
    staticmethod,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


_CLOSED: Final = frozenset({dt.datetime, dt.time, Decimal, UUID})


PLAIN: Final = Codec(Any)
"""The codec of plain JSON."""
