"""Compares a value with what came back of it: equal, and of the same types all the way down.

``==`` alone is not enough: ``1 == 1.0 == True``, a datetime equals one of another time zone, and a class may leave
fields out of its ``__eq__``. So the state of an object is compared: its fields, slots and attributes, and what it
holds as a subclass of a builtin. An object whose state is not all visible, as that of a class written in C, is never
the same as another one.

Values are compared in columns: for 20,000 objects of one class, all values of one field are compared in one step.
So the time of a comparison goes with the number of its columns, and the cost of a value is that of C.

This module is pure: no I/O, no clock.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import operator
import pathlib
import re
import types
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import chain
from operator import attrgetter, itemgetter
from struct import calcsize
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

Column: TypeAlias = list[Any]


class Part(NamedTuple):
    """A part of each value of a column, beside the same part of each value that came back."""

    place: str
    """How the part is written behind its value: ``.name``, or ``[#]`` with the number of the row for ``#``."""
    before: Column
    after: Column


Compare: TypeAlias = Callable[[Column, Column], "Sequence[Part] | None"]
"""Compares two columns of values of one type. Returns their parts, which are still to be compared, or None."""


class Difference(NamedTuple):
    """The first place in which a value came back as another one, in types and names alone."""

    place: str
    before: Any
    after: Any

    def __str__(self) -> str:
        before, after = type(self.before), type(self.after)
        what = f"{before.__qualname__} became {after.__qualname__}"
        if before is after:
            what = f"another {before.__qualname__} came back"
        return f"{self.place or 'the value'}: {what}"


def same(a: Any, b: Any) -> bool:
    """Tell whether ``b`` may be handed out in place of ``a``: equal, and of the same types all the way down.

    Example:
        >>> same([1], [1]), same([1], [True]), same((1,), [1])
        (True, False, False)
    """
    return _same([a], [b])


def difference(a: Any, b: Any) -> Difference | None:
    """Return the first place in which ``b`` is not the same as ``a``, or None.

    Example:
        >>> print(difference({"a": [1, 2]}, {"a": [1, 2.0]}))
        .values()[0][1]: int became float
    """
    if same(a, b):
        return None
    place = ""
    while (part := _first_that_differs(a, b)) is not None:
        at = _first_row(part)
        place += part.place.replace("#", str(at))
        a, b = part.before[at], part.after[at]
    return Difference(place, a, b)


def place_of(value: Any, fails: Callable[[Column], bool]) -> str:
    """Return the innermost place of ``value`` that ``fails``: ``""`` for the value itself, and for one nested too deep.

    Args:
        value: Any value that fails as a whole.
        fails: Tells of a list of values whether one of them fails.
    """
    place = ""
    # A value may hold itself.
    for _ in range(_DEEPEST):
        parts = _comparison(type(value))([value], [value]) or ()
        part = next((part for part in parts if fails(part.before)), None)
        if part is None:
            return place
        at = _row_of(part.before, fails)
        place += part.place.replace("#", str(at))
        value = part.before[at]
    return ""


def _row_of(rows: Column, fails: Callable[[Column], bool]) -> int:
    return _first_of_half(len(rows), lambda low, middle: fails(rows[low:middle]))


_DEEPEST: Final = 50
"""Steps of the longest place."""


def _first_that_differs(a: Any, b: Any) -> Part | None:
    parts = None if type(a) is not type(b) else _comparison(type(a))([a], [b])
    return next((part for part in parts or () if not _same(part.before, part.after)), None)


def _first_row(part: Part) -> int:
    return _first_of_half(
        len(part.before), lambda low, middle: not _same(part.before[low:middle], part.after[low:middle])
    )


def _first_of_half(rows: int, is_within: Callable[[int, int], bool]) -> int:
    """Return the number of the first row that is sought, by halves."""
    low, high = 0, rows
    while high - low > 1:
        middle = (low + high) // 2
        if is_within(low, middle):
            high = middle
        else:
            low = middle
    return low


def _same(before: Column, after: Column) -> bool:
    # A list of columns to do, not a recursion: a value may be nested deeper than Python calls.
    waiting = [Part("", before, after)]
    while waiting:
        _, before, after = waiting.pop()
        kinds = {*map(type, before)}
        if kinds != {*map(type, after)}:
            return False
        split: Iterable[tuple[Any, Column, Column]] = [(kind, before, after) for kind in kinds]
        if len(kinds) > 1:
            if not all(map(operator.is_, map(type, before), map(type, after))):
                return False
            split = _by(map(type, before), before, after)
        for kind, a, b in split:
            parts = (_comparisons.get(kind) or _comparison(kind))(a, b)
            if parts is None:
                return False
            waiting += parts
    return True


def _by(shapes: Iterable[Any], before: Column, after: Column) -> Iterable[tuple[Any, Column, Column]]:
    """Split two columns by the shapes of their rows."""
    split: dict[Any, tuple[Any, Column, Column]] = {}
    for shape, a, b in zip(shapes, before, after, strict=True):
        row = split.get(shape)
        if row is None:
            row = split[shape] = (shape, [], [])
        row[1].append(a)
        row[2].append(b)
    return split.values()


# --- what a type holds ---------------------------------------------------------------------------


def _equal(a: Column, b: Column) -> tuple[Part, ...] | None:
    return () if a == b else None


def _identical(a: Column, b: Column) -> tuple[Part, ...] | None:
    return () if all(map(operator.is_, a, b)) else None


def _incomparable(_a: Column, _b: Column) -> None:
    return None


def _equal_by(*views: Callable[[Any], Any]) -> Compare:
    """Compare by views of a value, such as its text: `Decimal` takes 1.5 and 1.50 for equal."""

    def compare(a: Column, b: Column) -> tuple[Part, ...] | None:
        return () if all(list(map(view, a)) == list(map(view, b)) for view in views) else None

    return compare


def _floats(a: Column, b: Column) -> tuple[Part, ...] | None:
    # The bytes tell 0.0 from -0.0. A NaN equals nothing, so it never comes back.
    a, b = list(map(float.__float__, a)), list(map(float.__float__, b))
    return () if a == b and array("d", a).tobytes() == array("d", b).tobytes() else None


def _moments(kind: type[dt.datetime | dt.time]) -> Compare:
    equal: Callable[[Any, Any], bool] = kind.__eq__
    zone, fold = attrgetter("tzinfo"), attrgetter("fold")

    def compare(a: Column, b: Column) -> tuple[Part, ...] | None:
        zones = {(id(x), id(y)): (x, y) for x, y in zip(map(zone, a), map(zone, b), strict=True)}
        alike = all(_same_zone(x, y) for x, y in zones.values())
        return () if alike and all(map(equal, a, b)) and list(map(fold, a)) == list(map(fold, b)) else None

    return compare


def _same_zone(a: dt.tzinfo | None, b: dt.tzinfo | None) -> bool:
    # A named zone would come back as a fixed offset: equal now, but different after adding a month. Fixed offsets
    # (a zone that needs no date to know its offset) are alike when they have one name, even if two libraries made them.
    if a is b:
        return True
    if a is None or b is None or isinstance(a, ZoneInfo) or isinstance(b, ZoneInfo):
        return False
    offset = a.utcoffset(None)
    if offset is None:
        return type(a) is type(b) and a == b
    return offset == b.utcoffset(None) and a.tzname(None) == b.tzname(None)


def _items(base: type) -> Compare:
    """Compare the items of a list, tuple or deque in order."""
    iterate: Callable[[Any], Iterable[Any]] = vars(base)["__iter__"]
    length: Callable[[Any], int] = vars(base)["__len__"]

    def compare(a: Column, b: Column) -> tuple[Part, ...] | None:
        if list(map(length, a)) != list(map(length, b)):
            return None
        return (Part("[#]", [*chain.from_iterable(map(iterate, a))], [*chain.from_iterable(map(iterate, b))]),)

    return compare


_TELLING: Final = frozenset({str, int, bytes})


def _members(base: type) -> Compare:
    """Compare the members of sets: each with the one that is equal to it."""
    iterate: Callable[[Any], Iterable[Any]] = vars(base)["__iter__"]
    equal: Callable[[Any, Any], bool] = vars(base)["__eq__"]

    def compare(a: Column, b: Column) -> tuple[Part, ...] | None:
        # Equal members of one type that has no two equal values are the same.
        kinds = {*map(type, chain.from_iterable(map(iterate, a)))}
        if len(kinds) <= 1 and kinds <= _TELLING:
            alike = kinds == {*map(type, chain.from_iterable(map(iterate, b)))} and all(map(equal, a, b))
            return () if alike else None
        before, after = Column(), Column()
        for one, other in zip(a, b, strict=True):
            mine = [*iterate(one)]
            twins = {item: item for item in iterate(other)}
            if len(mine) != len(twins) or not all(item in twins for item in mine):
                return None
            before += mine
            after += [twins[item] for item in mine]
        return (Part("{…}", before, after),)

    return compare


def _pairs(base: type) -> Compare:
    """Compare the keys and values of dicts, in order, since a caller can see the order of a dict."""
    # Both know the order of an OrderedDict, whose keys may have been moved.
    keys_of: Callable[[Any], Iterable[Any]] = vars(base).get("keys") or dict.keys
    values_of: Callable[[Any], Iterable[Any]] = vars(base).get("values") or dict.values

    def compare(a: Column, b: Column) -> tuple[Part, ...] | None:
        if list(map(dict.__len__, a)) != list(map(dict.__len__, b)):
            return None
        # A key may be a secret, so a place is its number.
        columns = [[*chain.from_iterable(map(view, column))] for view in (keys_of, values_of) for column in (a, b)]
        keys, keys_after, values, values_after = columns
        return (
            Part(".keys()[#]", keys, keys_after),
            Part(".values()[#]", values, values_after),
        )

    return compare


def _with_option(compare: Compare, option: str, same_option: Compare) -> Compare:
    """Compare also an option of a container: the ``maxlen`` of a deque, the ``default_factory`` of a defaultdict."""
    read = attrgetter(option)

    def compare_both(a: Column, b: Column) -> Sequence[Part] | None:
        return None if same_option([*map(read, a)], [*map(read, b)]) is None else compare(a, b)

    return compare_both


def _all_of(*comparisons: Compare) -> Compare:
    def compare(a: Column, b: Column) -> Sequence[Part] | None:
        parts: list[Part] = []
        for one in comparisons:
            found = one(a, b)
            if found is None:
                return None
            parts += found
        return parts

    return compare


class _Unset(Enum):
    """Stands for the content of a slot that was never set."""

    IT = 0


def _slots(slots: Sequence[tuple[str, Callable[[Any], Any]]]) -> Compare:
    """Compare the slots of objects, of which some may never have been set."""

    def read(get: Callable[[Any], Any], column: Column) -> Column:
        try:
            return list(map(get, column))
        except AttributeError:
            return [_read_or_unset(get, one) for one in column]

    def compare(a: Column, b: Column) -> list[Part]:
        return [Part(f".{name}", read(get, a), read(get, b)) for name, get in slots]

    return compare


def _read_or_unset(get: Callable[[Any], Any], one: Any) -> Any:
    try:
        return get(one)
    except AttributeError:
        return _Unset.IT


def _attributes(a: Column, b: Column) -> list[Part] | None:
    """Compare what stands in the ``__dict__`` of objects."""
    before, after = list(map(_DICT, a)), list(map(_DICT, b))
    shape = tuple(before[0])
    if _all_are(shape, before) and _all_are(shape, after):
        return _fields(shape, before, after)
    parts: list[Part] = []
    for names, one, other in _by(map(frozenset, before), before, after):
        if not all(names == row.keys() for row in other):
            return None
        parts += _fields(names, one, other)
    return parts


def _all_are(shape: tuple[str, ...], column: Column) -> bool:
    return all(map(shape.__eq__, map(tuple, column)))


def _attributes_in_order(a: Column, b: Column) -> list[Part] | None:
    """Compare the fields of models: their order shows when a model is iterated."""
    in_order = all(map(operator.eq, map(tuple, map(_DICT, a)), map(tuple, map(_DICT, b))))
    return _attributes(a, b) if in_order else None


_DICT: Final = attrgetter("__dict__")


def _fields(names: Iterable[str], before: Column, after: Column) -> list[Part]:
    columns = [(name, itemgetter(name)) for name in names]
    return [Part(f".{name}", list(map(get, before)), list(map(get, after))) for name, get in columns]


# --- which comparison for which type -------------------------------------------------------------

# By the class whose methods show the content. `object` has none: its state is all that there is.
_CONTENTS: Final[dict[type, Compare]] = {
    object: lambda _a, _b: (),
    type(None): _equal,
    bool: _equal,
    str: _equal_by(str.__str__),
    int: _equal_by(int.__int__),
    float: _floats,
    bytes: _equal_by(bytes.__bytes__),
    complex: _equal_by(complex.__repr__),
    bytearray: _equal_by(bytes),
    dt.date: _equal_by(dt.date.toordinal),
    dt.timedelta: _equal_by(dt.timedelta.__reduce__),
    dt.datetime: _moments(dt.datetime),
    dt.time: _moments(dt.time),
    list: _items(list),
    tuple: _items(tuple),
    deque: _with_option(_items(deque), "maxlen", _equal),
    set: _members(set),
    frozenset: _members(frozenset),
    dict: _pairs(dict),
    OrderedDict: _all_of(_pairs(OrderedDict), _attributes),
    defaultdict: _with_option(_pairs(dict), "default_factory", _identical),
    # A NaN is not equal to itself, and a signalling one raises.
    Decimal: lambda a, b: () if a == b and [*map(str, a)] == [*map(str, b)] else None,
    Fraction: _equal,
    UUID: _equal,
    re.Pattern: _equal,
    **dict.fromkeys(
        [
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
            ipaddress.IPv4Interface,
            ipaddress.IPv6Interface,
            pathlib.PurePosixPath,
            pathlib.PureWindowsPath,
            pathlib.PosixPath,
            pathlib.WindowsPath,
        ],
        _equal_by(str),
    ),
}

# The exact types need no conversion first.
_EXACT: Final[dict[type, Compare]] = {
    **_CONTENTS,
    **dict.fromkeys([str, int, bytes, dt.date, dt.timedelta], _equal),
    object: _incomparable,
}

_comparisons: Final = {**_EXACT}
"""How the values of a class are compared, found once for each class."""

_MOST_CLASSES: Final = 10_000


def _comparison(kind: type) -> Compare:
    if kind not in _comparisons:
        # Classes may be made at run time, again and again.
        if len(_comparisons) > _MOST_CLASSES:
            _comparisons.clear()
            _comparisons.update(_EXACT)
        _comparisons[kind] = _make_comparison(kind)
    return _comparisons[kind]


def _make_comparison(kind: type) -> Compare:
    if issubclass(kind, Enum):
        return _identical
    if issubclass(kind, msgspec.Struct):
        fields = _slots([(name, attrgetter(name)) for name in kind.__struct_fields__])
        return _all_of(fields, _attributes) if kind.__dictoffset__ else fields
    if kind.__module__.startswith("pydantic_core") and hasattr(kind, "unicode_string"):
        return _equal_by(str)
    base = next(one for one in kind.__mro__ if one in _CONTENTS)
    own = kind.__mro__[: kind.__mro__.index(base)]
    slots = [part for one in own for part in vars(one).values() if isinstance(part, types.MemberDescriptorType)]
    if not _is_visible(kind, base, len(slots)):
        return _incomparable
    contents = [] if base is object else [_CONTENTS[base]]
    attributes = _attributes_in_order if hasattr(kind, "model_fields") else _attributes
    if kind.__dictoffset__:
        contents.append(attributes)
    return _all_of(*contents, _slots([(slot.__name__, slot.__get__) for slot in slots]))


_HEAP_TYPE: Final = 1 << 9
"""The flag of a class that was not compiled into a program."""


def _is_visible(kind: type, base: type, slots: int) -> bool:
    """Tell whether an instance of ``kind`` has no room beside its content as a ``base``, its slots and attributes."""
    own = kind.__mro__[: kind.__mro__.index(base)]
    optional = (kind.__dictoffset__ != base.__dictoffset__) + (kind.__weakrefoffset__ != base.__weakrefoffset__)
    room = kind.__basicsize__ - base.__basicsize__
    return all(one.__flags__ & _HEAP_TYPE for one in own) and room <= (slots + optional) * calcsize("P")
