"""Builds the values that msgspec cannot decode from the plain JSON that stands for them.

These are an Enum of values of several types, unions of models, and moments of a named zone; and all that holds them.
It is decided once how an annotation is read. Everything else is left to msgspec and to pydantic.

This module is pure: no I/O but the reading of time zones, no clock.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Final, Protocol, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
import orjson

Build: TypeAlias = Callable[[Any], Any]
FirstOf: TypeAlias = Callable[[Sequence[Build]], Build]
Annotation: TypeAlias = Any
"""A type as it is written in an annotation: a class, a union, a container of types."""

UNIONS: Final = (typing.Union, types.UnionType)


# --- moments of a zone ---------------------------------------------------------------------------

_ZONED: Final = re.compile(rb'"[0-9T:.-]{19,26}[+-][0-9:]{5,8}\[[^"\]]+\]"')


def write_moment(moment: dt.datetime) -> str:
    """Return a moment as text with its zone, as in RFC 9557: ``2026-07-01T12:00:00+02:00[Europe/Berlin]``.

    A zone of a fixed offset and no name of its own is written as ``[+02:00]``.
    """
    text, zone, offset = moment.isoformat(), moment.tzinfo, moment.utcoffset()
    if isinstance(zone, ZoneInfo) and zone.key:
        return f"{text}[{zone.key}]"
    if offset and isinstance(zone, dt.timezone) and zone.tzname(None) == dt.timezone(offset).tzname(None):
        return f"{text}[{text[19:].lstrip('.0123456789')}]"
    return text


def read_moment(text: str) -> dt.datetime:
    """Return the moment of a text by `write_moment`.

    Raises:
        ValueError: It is no such text, there is no such zone, or the zone has another offset at that moment.
    """
    written, _, name = text.removesuffix("]").partition("[")
    moment = dt.datetime.fromisoformat(written)
    offset = moment.utcoffset()
    if name[0] in "+-":
        return moment
    zone = ZoneInfo(name)
    for fold in (0, 1):
        local = moment.replace(tzinfo=zone, fold=fold)
        if local.utcoffset() == offset:
            return local
    message = "the zone has another offset at that moment"
    raise ValueError(message)


def names_zones(data: bytes) -> bool:
    """Tell whether JSON holds a moment with its zone."""
    return _ZONED.search(data) is not None


def _with_zones(value: Any) -> Any:
    """Read the moments with zones in plain JSON."""
    if isinstance(value, str):
        return read_moment(value) if _ZONED.fullmatch(f'"{value}"'.encode()) else value
    if isinstance(value, list):
        return list(map(_with_zones, value))
    if isinstance(value, dict):
        return {key: _with_zones(item) for key, item in value.items()}
    return value


# --- models --------------------------------------------------------------------------------------


def is_model(kind: Annotation) -> bool:
    """Tell whether ``kind`` is a model of pydantic, which is the user's dependency, not ours: by its methods."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "__pydantic_validator__")


def split_models(members: Sequence[Annotation]) -> tuple[list[Annotation], list[Annotation]]:
    """Return the models of a union if there are several, and its other members."""
    models = [member for member in members if is_model(member)]
    if len(models) == 1:
        return [], [*members]
    return models, [member for member in members if not is_model(member)]


def union_of_models(members: Sequence[Annotation]) -> Callable[[bytes], Any]:
    """Return a decoder of JSON of one of several models: pydantic takes the model that knows the most of the fields."""
    pydantic: Any = sys.modules["pydantic"]
    union: Any = typing.Union[tuple(members)]  # noqa: UP007 - the members are not known before
    return reader(pydantic.TypeAdapter(union).validate_json, union)


class Adapter(Protocol):
    """The parts of pydantic's TypeAdapter that are used."""

    def validate_json(self, data: bytes, **options: Any) -> Any:
        """Return the value that JSON stands for."""
        ...

    def dump_json(self, value: Any, **options: Any) -> bytes:
        """Return the JSON of a value."""
        ...


def adapter_of_models(annotation: Annotation) -> Adapter | None:
    """Return pydantic's adapter of an annotation that has only models and lists, tuples and dicts of them.

    It takes a fifth of the time that the models take one by one.
    """
    if not _is_of_models(annotation):
        return None
    pydantic: Any = sys.modules["pydantic"]
    adapter: Adapter = pydantic.TypeAdapter(annotation)
    return adapter


def _is_of_models(annotation: Annotation) -> bool:
    origin: Any = typing.get_origin(annotation)
    if origin is typing.Annotated:
        # Pydantic reads the rest of it, such as the field that tells models apart.
        return _is_of_models(typing.get_args(annotation)[0])
    members = [member for member in typing.get_args(annotation) if member not in (types.NoneType, ...)]
    if origin in (dict, Mapping) and members[:1] == [str]:
        return _is_of_models(members[1])
    if origin in (list, tuple, Sequence, *UNIONS):
        return bool(members) and all(map(_is_of_models, members))
    return is_model(annotation)


def reader(validate: Callable[..., Any], annotation: Annotation) -> Callable[[bytes], Any]:
    """Return the decoder of models: under their aliases, and of models with two aliases under the fields' names too."""
    return partial(validate, by_alias=True, by_name=True) if _has_two_aliases(annotation, set()) else validate


@lru_cache(1024)
def _reader_of(kind: Any) -> Callable[[bytes], Any]:
    return reader(kind.model_validate_json, kind)


def _has_two_aliases(annotation: Annotation, seen: set[int]) -> bool:
    """Tell whether a model is written under other names than it is read."""
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    fields = annotation.model_fields.values() if is_model(annotation) else ()
    if any(field.validation_alias not in (None, field.serialization_alias) for field in fields):
        return True
    below = [*typing.get_args(annotation), *(field.annotation for field in fields)]
    return any(_has_two_aliases(one, seen) for one in below)


def validate(kind: Any, value: Any) -> Any:
    """Return the model that plain JSON stands for."""
    # The value becomes JSON again, for pydantic's JSON mode: in Python mode a strict model refuses a date as text.
    data = orjson.dumps(value)
    try:
        return validate_json(_reader_of(kind), data)
    except ValueError:
        if not names_zones(data):
            raise
        return kind.model_validate(_with_zones(value))


def validate_json(validate: Callable[..., Any], data: bytes) -> Any:
    """Return the models that JSON stands for: under their aliases, else under the names of their fields."""
    try:
        return validate(data)
    except ValueError as error:
        failure = error
    try:
        return validate(data, by_alias=True, by_name=True)
    except TypeError:
        # Before 2.11, pydantic has no such option.
        raise failure from None


def from_builtin(kind: Any, value: Any) -> Any:
    """Build a type that msgspec does not know from the plain JSON that it decoded."""
    if is_model(kind):
        return validate(kind, value)
    message = f"no way to build a {getattr(kind, '__qualname__', kind)} from JSON"
    raise NotImplementedError(message)


# --- by annotation -------------------------------------------------------------------------------


class Builder:
    """Finds for annotations how their values are built from plain JSON."""

    def __init__(self, first_of: FirstOf) -> None:
        self._first_of = first_of
        self._known: dict[Annotation, Build] = {}

    def of(self, annotation: Annotation) -> Build:
        """Return the function that builds a value of ``annotation``.

        Raises:
            TypeError: It is not known how to.
        """
        found = self._known.get(annotation)
        if found is None:
            # A type that holds itself finds this one.
            self._known[annotation] = lambda value: self._known[annotation](value)  # noqa: PLW0108 - not yet there
            found = self._known[annotation] = self._make(annotation)
        return found

    def _make(self, annotation: Annotation) -> Build:
        origin: Any = typing.get_origin(annotation)
        members = typing.get_args(annotation)
        if origin is typing.Annotated:
            return self.of(members[0])
        if origin in UNIONS:
            return self._one_of(members)
        if members and origin in _CONTAINERS:
            return self._container(_CONTAINERS[origin], members)
        if is_model(annotation):
            return lambda value: validate(annotation, value)
        kind = origin or annotation
        if isinstance(kind, type):
            if issubclass(kind, Enum):
                return _member_of(kind)
            if issubclass(kind, msgspec.Struct):
                return self._struct(annotation, kind)
            if (fields := fields_of(kind)) is not None:
                return self._object(kind, fields, hints_of(annotation))
        return _by_msgspec(annotation)

    def _one_of(self, members: Sequence[Annotation]) -> Build:
        models, others = split_models(members)
        builds = list(map(self.of, others))
        if models:
            decode = union_of_models(models)
            builds.insert(0, lambda value: decode(orjson.dumps(value)))
        return self._first_of(builds)

    def _container(self, make: Callable[[Any], Any], members: Sequence[Annotation]) -> Build:
        if make is dict:
            # The keys of JSON are text, whatever they stand for.
            build_keys, build_item = _keys(members[0]), self.of(members[1])
            return lambda value: dict(zip(build_keys(value), map(build_item, value.values()), strict=True))
        if make is tuple and members[-1:] != (...,):
            builds = [self.of(member) for member in members]
            return lambda value: tuple(build(item) for build, item in zip(builds, value, strict=True))
        build = self.of(members[0])
        return lambda value: make(map(build, _a_list(value)))

    def _object(self, kind: Any, fields: Mapping[str, str], hints: Mapping[str, Annotation]) -> Build:
        builds = {name: self.of(_bare(hints.get(name, Any))) for name in fields}
        if typing.is_typeddict(kind):
            return lambda value: {name: builds[name](item) for name, item in value.items()}
        if issubclass(kind, tuple):
            return lambda value: kind(*[build(item) for build, item in zip(builds.values(), value, strict=True)])
        return lambda value: kind(
            **{argument: builds[name](value[name]) for name, argument in fields.items() if name in value}
        )

    def _struct(self, annotation: Annotation, kind: Any) -> Build:
        config = kind.__struct_config__
        parts = {part.encode_name: (part.name, self.of(part.type)) for part in msgspec.structs.fields(annotation)}
        names = [*parts] if config.tag is None else [config.tag_field, *parts]

        def build(value: Any) -> Any:
            written = dict(zip(names, value, strict=False)) if config.array_like else value
            if config.tag is not None and written[config.tag_field] != config.tag:
                message = "another tag was expected"
                raise ValueError(message)
            return kind(**{name: make(written[key]) for key, (name, make) in parts.items() if key in written})

        return build


_CONTAINERS: Final[dict[Any, Callable[[Any], Any]]] = {
    list: list,
    Sequence: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    dict: dict,
    Mapping: dict,
}


def _keys(annotation: Annotation) -> Callable[[Mapping[str, Any]], Iterable[Any]]:
    """Return what builds the keys of a dict from the text that they are in JSON."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        members = {_text_of_key(member): member for member in reversed([*annotation])}
        return lambda value: [members[key] for key in value]
    of_keys: Any = dict
    decode = msgspec.json.Decoder(of_keys[int | float if annotation is float else annotation, Any]).decode
    return lambda value: decode(orjson.dumps(dict.fromkeys(value)))


def _text_of_key(member: Enum) -> str | None:
    try:
        text: str = next(iter(orjson.loads(orjson.dumps({member: None}, option=orjson.OPT_NON_STR_KEYS))))
    except TypeError:
        # No key of JSON.
        return None
    return text


def _a_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        message = f"a list was expected, and it is a {type(value).__name__}"
        raise TypeError(message)
    return value


def _bare(hint: Annotation) -> Annotation:
    """Return the type inside ``Required`` and ``NotRequired``."""
    origin: Any = typing.get_origin(hint)
    return typing.get_args(hint)[0] if origin in (typing.Required, typing.NotRequired) else hint


def hints_of(annotation: Annotation) -> dict[str, Annotation]:
    """Return the annotations of the fields of a class; of a generic one with its arguments in them."""
    generic: Any = typing.get_origin(annotation)
    kind = annotation if generic is None else generic
    hints = typing.get_type_hints(kind, include_extras=True)
    known = dict(zip(getattr(kind, "__parameters__", ()), typing.get_args(annotation), strict=False))
    return {name: _filled(hint, known) for name, hint in hints.items()} if known else hints


def _filled(hint: Annotation, known: Mapping[Any, Annotation]) -> Annotation:
    """Return ``hint`` with types in place of its variables."""
    if isinstance(hint, typing.TypeVar):
        return known.get(hint, hint)
    free = getattr(hint, "__parameters__", ())
    generic: Any = typing.get_origin(hint)
    return hint[tuple(known.get(one, one) for one in free)] if free and generic is not None else hint


def fields_of(kind: Any) -> dict[str, str] | None:
    """Return the fields of a class and the arguments that set them, or None: it is no class of fields."""
    if dataclasses.is_dataclass(kind):
        return {field.name: field.name for field in dataclasses.fields(kind) if field.init}
    if (fields := getattr(kind, "__attrs_attrs__", None)) is not None:
        return {field.name: field.alias for field in fields if field.init}
    if typing.is_typeddict(kind):
        return {name: name for name in kind.__annotations__}
    if issubclass(kind, tuple) and (names := getattr(kind, "_fields", None)) is not None:
        return {name: name for name in names}
    names = getattr(kind, "__struct_fields__", None)
    return None if names is None else {name: name for name in names}


def _member_of(kind: type[Enum]) -> Build:
    # By the JSON of the value: 1 and True are equal, and a tuple becomes a list. Of members of one JSON the first wins.
    members = {_json_of(member.value): member for member in reversed([*kind])}
    return lambda value: members[orjson.dumps(value)]


def _json_of(value: object) -> bytes | None:
    try:
        return orjson.dumps(value, msgspec.to_builtins, orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return None


def _by_msgspec(annotation: Annotation) -> Build:
    # Fails here, not at the first value, when msgspec does not know the type.
    msgspec.json.Decoder(annotation, dec_hook=from_builtin)
    # An int in a field of floats is an int (PEP 484).
    kind: Any = int | float if annotation is float else annotation

    def build(value: Any) -> Any:
        if annotation is Any:
            return value
        if type(value) is str and annotation is not str:
            value = _with_zones(value)
        return msgspec.convert(value, kind, str_keys=True, dec_hook=from_builtin)

    return build
