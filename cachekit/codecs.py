"""Values to bytes and back, so that a hit has the type of the miss.

orjson writes, msgspec decodes straight into the annotated type, pydantic models validate themselves. A
value is encoded, decoded once and compared before it is stored. A value that would not come back equal and of
the same type is refused with a `RoundTripError`, never altered.

This module is pure: no I/O, no clock. No pickle, no evaluation of data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import marshal
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Self
from uuid import UUID

import msgspec
import msgspec.inspect
import orjson

from cachekit.comparing import Difference, difference, place_of
from cachekit.errors import DecodeError, RoundTripError, TooLargeError
from cachekit.marking import MARK, Decode, has_marked_form, reader_of_both, with_tags
from cachekit.rebuilding import (
    UNIONS,
    Builder,
    adapter_of_models,
    from_builtin,
    is_model,
    names_zones,
    reader,
    split_models,
    union_of_models,
    validate_json,
    write_moment,
)

_WRITE: Final = orjson.OPT_NON_STR_KEYS


class Codec:
    """Encodes and decodes values of one annotated type.

    Args:
        annotation: The type that comes back from `decode`. `Any` means plain JSON: dict with text keys,
            list, str, int, float, bool, None.
        name: The name of the function or verb that has the values, for logs and events.
        strict: Whether a value that cannot make the round trip is an error to the caller, and not only uncached.
        max_bytes: The most bytes of JSON that a value may have; None leaves it to the caller of `encode`.
        private: Whether the values are sealed in the store.

    Raises:
        TypeError: No decoder can be built for the annotation.

    Example:
        >>> codec = Codec(tuple[int, ...])
        >>> codec.encode((1, 2)), codec.decode(b"[1,2]")
        (b'[1,2]', (1, 2))
    """

    __slots__ = ("_adapter", "_build", "_decode", "_marked", "annotation", "max_bytes", "name", "private", "strict")

    announced: ClassVar[bool] = False
    """Whether a warning has said already that values are plain JSON or not stored: then no other one says so."""
    plain: ClassVar[str] = (
        "without a return annotation only plain JSON comes back unchanged: annotate the function with what it returns"
    )
    """What a warning says where no annotation names the type of a value."""

    def __init__(
        self,
        annotation: Any,
        name: str = "",
        *,
        strict: bool = False,
        max_bytes: int | None = None,
        private: bool = False,
    ) -> None:
        self.annotation: Any = annotation
        self.name: str = name
        self.strict: bool = strict
        self.max_bytes: int | None = max_bytes
        self.private: bool = private
        self._adapter = adapter_of_models(annotation)
        plain = reader(self._adapter.validate_json, annotation) if self._adapter else _decoder(annotation)
        self._marked = has_marked_form(annotation)
        self._decode: Decode = (
            reader_of_both(plain, partial(Builder(_first_of).of, annotation), of_models=self._adapter is not None)
            if self._marked
            else plain
        )
        self._build: Callable[[Any], Any] | None = None

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
            failure = error
        try:
            return self._decode_otherwise(data, failure)
        except Exception as error:
            message = f"the stored bytes do not decode into {_name(self.annotation)} ({type(error).__name__})"
            raise DecodeError(message) from None

    def _decode_otherwise(self, data: bytes, failure: Exception) -> Any:
        """Decode a form that is not the usual one, and takes longer, or raise ``failure``."""
        if names_zones(data):
            if self._build is None:
                self._build = Builder(_first_of).of(self.annotation)
            return self._build(orjson.loads(data))
        if self._adapter is not None:
            return validate_json(self._adapter.validate_json, data)
        raise failure

    def encode(self, value: object, max_bytes: int = sys.maxsize) -> bytes:
        """Return ``value`` as compact JSON that is known to decode into an equal value of the same type.

        The time goes with the size of the value, in the event loop, so a value that has more than ``max_bytes`` is
        neither read back nor compared: see docs/performance.md.

        Raises:
            TooLargeError: The JSON has more bytes than ``max_bytes``, or than the bound of this codec.
            RoundTripError: The JSON would decode into another value or type. The message names types and the place
                of the first difference, never the value.
        """
        hook = _Hook()
        hook.max_bytes = self.max_bytes or max_bytes
        try:
            return self._encode_and_compare(value, hook)
        except TooLargeError:
            raise
        # Encoding and comparing run code of the user's types, which may raise anything.
        except Exception as error:
            other = self._encode_otherwise(value, hook)
            if other is None:
                raise RoundTripError(self._advise(value, error)) from None
            return other

    def _encode_and_compare(self, value: object, hook: _Hook) -> bytes:
        data = self._written(value, hook)
        if len(data) > hook.max_bytes:
            raise TooLargeError(len(data), hook.max_bytes)
        try:
            back = self._decode(data)
        except Exception as error:
            back = self._decode_otherwise(data, error)
        if (hook.used or not _alike(value, back)) and (found := difference(value, back)) is not None:
            raise _AlteredError(found)
        return data

    def _written(self, value: object, hook: _Hook) -> bytes:
        form = hook.form
        if form.marked:
            return self._written(with_tags(value), _Hook.of(form._replace(marked=False))) + MARK
        if self._adapter is not None and not form.zones:
            hook.used = hook.models = True
            return self._adapter.dump_json(value, **_model_options(form))
        return orjson.dumps(value, hook, _WRITE | (orjson.OPT_PASSTHROUGH_DATETIME if form.zones else 0))

    def _encode_otherwise(self, value: object, hook: _Hook) -> bytes | None:
        """Return the JSON of ``value`` in a form that is not the usual one, or None when it does not come back."""
        forms = [_Form(zones=True)]
        if hook.models:
            forms.append(_Form(by_alias=False))
        if self._marked:
            forms += [_Form(marked=True), _Form(marked=True, zones=True)]
        # The list grows while it is gone through.
        for form in forms:
            try:
                return self._encode_and_compare(value, _Hook.of(form, hook.max_bytes))
            except Exception as error:
                if not form.by_alias and not form.zones and _lost_its_zone(error):
                    forms.append(form._replace(zones=True))
        return None

    def _advise(self, value: object, error: Exception) -> str:
        place, reason = "", _reason(error)
        # To look for the place runs code of the user's types again.
        with contextlib.suppress(Exception):
            place = place_of(value, _cannot_be_written) if type(error) is orjson.JSONEncodeError else ""
        reason = f"{place}: {reason}" if place else reason
        message = f"{_describe(value)} cannot make the round trip through JSON ({reason})"
        if isinstance(error, _AlteredError):
            message = f"{_describe(value)} would not come back from JSON as it was ({error.difference})"
        if self.annotation is Any:
            return f"{message}; {self.plain}"
        return f"{message}; the annotation is {_name(self.annotation)}"


class FallbackCodec(Codec):
    """Of plain JSON, for a function whose annotation cannot be used: a warning has said so at decoration."""

    __slots__ = ()

    announced = True


class HandCodec(Codec):
    """Of plain JSON, for values that stand in the store by hand: no annotation names their type."""

    __slots__ = ()

    plain = "by hand only plain JSON comes back unchanged: store dicts, lists and texts, or use `.set` of a function"


class _AlteredError(Exception):
    """A value came back as another one."""

    def __init__(self, found: Difference) -> None:
        super().__init__()
        self.difference = found


def _lost_its_zone(error: Exception) -> bool:
    return isinstance(error, _AlteredError) and isinstance(error.difference.before, dt.datetime)


def _cannot_be_written(values: Sequence[object]) -> bool:
    try:
        orjson.dumps(values, _Hook(), _WRITE)
    except orjson.JSONEncodeError:
        return True
    return False


_TYPES_ALONE: Final = re.compile(r"Expected `[\w.| ]+`, got `[\w.]+`(?: - at `[^`]+`)?")


def _reason(error: Exception) -> str:
    """Return what an error says, if it says it with names of types and fields alone."""
    text = str(error)
    safe = type(error) is orjson.JSONEncodeError or (
        type(error) is msgspec.ValidationError and _TYPES_ALONE.fullmatch(text)
    )
    return text if safe else type(error).__name__


def _describe(value: object) -> str:
    return f"a value of type {_name(type(value))}"


def _name(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


# --- writing -------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """How values are written of which JSON has more than one form."""

    by_alias: bool = True
    """Whether a model is written under its aliases."""
    zones: bool = False
    """Whether a moment is written with the name of its zone."""
    marked: bool = False
    """Whether it is the marked form: see `cachekit.marking`."""


class _Hook:
    """Replaces a value that orjson cannot write by one that it can, and notes that it did."""

    # Nearly all hooks keep these defaults: a class attribute costs nothing when a hook is made.
    form = _Form()
    max_bytes = sys.maxsize
    used = False
    models = False

    @classmethod
    def of(cls, form: _Form, max_bytes: int = sys.maxsize) -> Self:
        hook = cls()
        hook.form, hook.max_bytes = form, max_bytes
        return hook

    def __call__(self, value: Any) -> Any:
        self.used = True
        if is_model(type(value)):
            return self._of_model(value)
        if isinstance(value, (dt.datetime, dt.date, dt.time)):
            return write_moment(value) if isinstance(value, dt.datetime) else value.isoformat()
        if isinstance(value, (tuple, set, frozenset)):
            return list(value)
        # bytes, Decimal, timedelta, attrs and msgspec.Struct, each in the form that msgspec reads back.
        return msgspec.to_builtins(value, builtin_types=(dt.datetime, dt.date, dt.time), enc_hook=self._of_model)

    def _of_model(self, value: Any) -> Any:
        """Replace a model, which msgspec does not know either."""
        if not is_model(type(value)):
            message = f"nobody can write a {_name(type(value))}"
            raise TypeError(message)
        self.models = True
        return value.model_dump(mode="python" if self.form.zones else "json", **_model_options(self.form))


def _model_options(form: _Form) -> dict[str, Any]:
    # Fields that were never set are left out, so that they are not set in the model that comes back. A warning of
    # pydantic's would quote the value; a value that does not fit its field is refused anyway, as it does not come back.
    return {"by_alias": form.by_alias, "exclude_unset": True, "round_trip": True, "warnings": False}


# --- reading -------------------------------------------------------------------------------------


def _decoder(annotation: Any) -> Decode:
    if is_model(annotation):
        validate: Decode = annotation.model_validate_json
        return validate
    _refuse_unknown(annotation)
    for form in (_with_int(annotation), annotation):
        # A union of float and an Enum of int has no room for int.
        with contextlib.suppress(TypeError):
            return msgspec.json.Decoder(form, dec_hook=from_builtin).decode
    if typing.get_origin(annotation) not in UNIONS:
        build = Builder(_first_of).of(annotation)
        return lambda data: build(orjson.loads(data))
    models, others = split_models(typing.get_args(annotation))
    decoders = list(map(_decoder, others))
    return _first_of([union_of_models(models), *decoders] if models else decoders)


def _refuse_unknown(annotation: Any) -> None:
    """Raise a TypeError now for a class that cannot be built: msgspec would do so at each value."""
    if typing.get_origin(annotation) in _CONTAINERS:
        for member in typing.get_args(annotation):
            _refuse_unknown(member)
        return
    # Of a generic class, such as `Iterable[int]`, msgspec says the same as of any other.
    kind = typing.get_origin(annotation) or annotation
    if isinstance(kind, type) and not is_model(annotation) and is_unknown(annotation):
        message = f"no way to build a {_name(annotation)} from JSON"
        raise TypeError(message)


def is_unknown(kind: type) -> bool:
    """Tell whether no value of the class ``kind`` can be built from JSON.

    Example:
        >>> is_unknown(bytes), is_unknown(Codec)
        (False, True)
    """
    with contextlib.suppress(TypeError):
        return isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
    # Known, and refused for another reason: see `Builder`.
    return False


def _with_int(annotation: Any) -> Any:
    """Accept an int where a float is annotated (PEP 484), and let it come back as an int.

    JSON keeps them apart (``1`` and ``1.0``). A decoder of float alone would turn an int into a float.
    """
    if annotation is float:
        return int | float
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *notes = typing.get_args(annotation)
        return typing.Annotated[(_with_int(inner), *notes)]
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if float not in members and not any(map(typing.get_args, members)):
        return annotation
    if origin in UNIONS:
        return typing.Union[tuple(map(_with_int, members))]  # noqa: UP007 - the members are not known before
    if origin in _CONTAINERS:
        container: Any = origin
        return container[tuple(map(_with_int, members))]
    return annotation


_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset, Sequence, Mapping})


def _first_of(attempts: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return a function of a union that msgspec cannot tell apart: the first member that fits wins.

    The member that fits depends on the JSON alone, and encoding compares: a value that an earlier member would
    accept is refused when it is written. So a hit is never of another member's type.
    """

    def build(value: Any) -> Any:
        failure: Exception = ValueError("no member")
        for attempt in attempts:
            try:
                return attempt(value)
            except Exception as error:
                failure = error
        raise failure

    return build


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


# --- sharing -------------------------------------------------------------------------------------


def is_immutable(value: Any) -> bool:
    """Tell whether several callers may get one object, and not a copy each: nothing in it can be changed.

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


_LEAVES: Final = frozenset({str, int, float, bool, bytes, type(None), dt.date, dt.timedelta})
_CLOSED: Final = frozenset({dt.datetime, dt.time, Decimal, UUID})

_HARMLESS: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    classmethod,
    staticmethod,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


PLAIN: Final = Codec(Any)
"""The codec of plain JSON."""
