"""A hit equals the miss: an encoded value comes back equal and of the same type, or is refused."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import enum
import functools
import math
import sys
import traceback
import typing
import uuid
import warnings
import zoneinfo
from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import msgspec
import orjson
import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachekit import comparing
from cachekit.codecs import PLAIN, Codec, _alike, is_immutable
from cachekit.comparing import difference, same
from cachekit.errors import DecodeError, RoundTripError, TooLargeError
from tests.kit.ids import shown
from tests.kit.sizes import sized

few = settings(max_examples=sized(40, 150))
many = settings(max_examples=sized(100, 500))

T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    ADMIN = "admin"


class Point(NamedTuple):
    x: int
    label: str


@dataclasses.dataclass
class Typo:
    wrong: str
    seen: dt.datetime
    where: tuple[int, int]
    cost: Decimal | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    user: uuid.UUID
    typos: list[Typo]
    tags: frozenset[str]
    by_day: dict[dt.date, int]
    point: Point
    parent: Profile | None = None


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass
class Shelf(Generic[T]):
    first: T
    others: list[T]
    label: str


class Opaque:
    """A class that no JSON says how to build."""


@dataclasses.dataclass
class Holds:
    opaque: Opaque


class Page(pydantic.BaseModel):
    at: pydantic.HttpUrl


class Row(TypedDict):
    pair: tuple[int, str]
    colour: Colour


class Loose(TypedDict, total=False):
    day: dt.date


class Inner(pydantic.BaseModel):
    when: dt.datetime
    tags: set[str] = pydantic.Field(default_factory=set)
    _seen: int = pydantic.PrivateAttr(0)


class Model(pydantic.BaseModel):
    name: str
    inner: Inner | None = None
    pairs: list[tuple[int, str]] = []
    amount: Decimal = Decimal(0)

    @pydantic.computed_field
    def shout(self) -> str:
        return self.name.upper()


class Aliased(pydantic.BaseModel):
    user_id: int = pydantic.Field(alias="userId")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid")
    day: dt.date
    numbers: tuple[int, ...]
    id: uuid.UUID
    inner: Aliased | None = None


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


class Struct(msgspec.Struct):
    day: dt.date
    raw: bytes
    members: set[int]
    cost: Decimal


class Roomy(msgspec.Struct, dict=True):
    x: int


@attrs.define
class Event:
    at: dt.datetime
    price: float
    role: Any = None
    path: Any = attrs.field(default=None, eq=False)


@attrs.frozen
class Mark:
    day: dt.date
    parts: tuple[int, ...] = attrs.field(eq=False, default=())


@dataclasses.dataclass(eq=False)
class Unequal:
    content: Any


@dataclasses.dataclass
class Aside:
    content: Any = dataclasses.field(compare=False)


class Patch(pydantic.BaseModel):
    name: str | None = None
    mail: str | None = None


class Holder(pydantic.BaseModel):
    queue: deque[Any] = deque()
    ordered: OrderedDict[str, Any] = OrderedDict()
    counts: defaultdict[str, int] = defaultdict(int)
    any: Any = None


class Renamed(pydantic.BaseModel):
    user_id: int = pydantic.Field(serialization_alias="userId")


class TwoNames(pydantic.BaseModel):
    user_id: int = pydantic.Field(default=0, validation_alias="in", serialization_alias="out")


class Mixed(enum.Enum):
    TEXT = "a"
    NUMBER = 1
    HALF = 2.5


@dataclasses.dataclass
class Marked:
    kind: Mixed
    at: dt.datetime | None = None
    below: list[Marked] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Nested:
    inner: Nested | None


# --- annotations and the values that fit them -----------------------------------------------------------

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
small = st.integers(-(2**63), 2**64 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
offsets = st.none() | st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
# The first and the last day have no equal in another time zone: Python itself cannot compare them.
moments = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=offsets).map(  # noqa: DTZ001
    lambda moment: moment.replace(fold=0)
)
# orjson writes 10 ms as ".10000", which is 100 ms; the comparison refuses such times.
times = st.times().map(lambda time: time.replace(fold=0, microsecond=time.microsecond // 100_000 * 100_000))
zoned = st.builds(
    lambda moment, name: moment.astimezone(zoneinfo.ZoneInfo(name)),
    st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe"]),
)
money = st.decimals(allow_nan=False, allow_infinity=False, places=2) | st.decimals(allow_nan=False)
typos = st.builds(Typo, letters, moments, st.tuples(small, small), st.none() | money)
points = st.builds(Point, small, letters)
inners = st.builds(Inner, when=moments, tags=st.sets(letters, max_size=2))
# pydantic accepts fewer digits than Decimal has, and no infinity.
sums = st.decimals(-(10**6), 10**6, places=2)
models = st.builds(Model, name=letters, inner=st.none() | inners, pairs=st.just([(1, "a")]), amount=sums)
aliased = st.builds(Aliased, userId=st.integers(-(2**63), 2**63 - 1))
dates_of_models = st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))

HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, letters),
    (int, small),
    (bool, st.booleans()),
    (float, numbers),
    (bytes, st.binary(max_size=4)),
    (Decimal, money),
    (uuid.UUID, st.uuids()),
    (dt.date, st.dates()),
    (dt.datetime, moments),
    (dt.time, times),
    (dt.timedelta, st.timedeltas()),
    (Colour, st.sampled_from(Colour)),
    (dt.datetime, zoned),
    (Mixed, st.sampled_from(Mixed)),
    (Level, st.sampled_from(Level)),
    (float | Level, st.sampled_from(Level) | numbers),
    (Kind, st.sampled_from(Kind)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (int | str, small | letters),
    (str | None, st.none() | letters),
    (UserId, small),
    (Annotated[int, "meta"], small),
]
# A key of a dict has no room for a zone: orjson writes it by itself.
KEYS = [
    pair
    for pair in HASHABLE
    if pair[1] is not zoned and pair[0] in (str, int, uuid.UUID, dt.date, dt.datetime, Colour, Kind)
]
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *HASHABLE,
    (None, st.none()),
    (float, numbers | small.filter(lambda number: abs(number) < 2**53)),
    (Point, points),
    (Typo, typos),
    (
        Profile,
        st.builds(
            Profile,
            user=st.uuids(),
            typos=st.lists(typos, max_size=2),
            tags=st.frozensets(letters, max_size=2),
            by_day=st.dictionaries(st.dates(), small, max_size=2),
            point=points,
        ),
    ),
    (Box[dt.date], st.builds(Box, st.dates())),
    (Box[tuple[Decimal, ...]], st.builds(Box, st.lists(money, max_size=2).map(tuple))),
    (Row, st.fixed_dictionaries({"pair": st.tuples(small, letters), "colour": st.sampled_from(Colour)})),
    (Loose, st.fixed_dictionaries({}, optional={"day": st.dates()})),
    (Model, models),
    (Model | None, st.none() | models),
    (Aliased, aliased),
    (Event, st.builds(Event, moments | zoned, numbers, letters, st.none() | letters)),
    (Mark, st.builds(Mark, st.dates(), st.lists(small, max_size=2).map(tuple))),
    (Marked, st.builds(Marked, st.sampled_from(Mixed), st.none() | zoned | moments)),
    (Patch, st.builds(Patch, name=st.none() | letters) | st.builds(Patch, mail=letters) | st.just(Patch())),
    (Renamed, st.builds(Renamed, user_id=st.integers(0, 9))),
    (TwoNames, st.builds(TwoNames, **{"in": st.integers(0, 9)}) | st.just(TwoNames())),
    (Patch | Aliased, aliased | st.builds(Patch, name=letters)),
    (Inner, st.builds(Inner, when=zoned, tags=st.sets(letters, max_size=2))),
    (
        Strict,
        st.builds(
            Strict,
            day=dates_of_models,
            numbers=st.lists(st.integers(0, 9), max_size=2).map(tuple),
            id=st.uuids(),
            inner=st.none() | aliased,
        ),
    ),
    (Open, st.builds(Open, a=st.integers(0, 9), b=letters, c=st.lists(st.integers(0, 9), max_size=2))),
    (Struct, st.builds(Struct, st.dates(), st.binary(max_size=4), st.sets(small, max_size=2), money)),
    (
        Any,
        st.recursive(
            letters | small | numbers | st.booleans() | st.none(),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(letters, inner, max_size=2),
            max_leaves=4,
        ),
    ),
]


@st.composite
def annotated(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """An annotation, and the strategy of values that fit it."""
    if not depth or draw(st.booleans()):
        return draw(st.sampled_from(LEAVES))
    key, keys = draw(st.sampled_from(KEYS))
    item, items = draw(st.sampled_from(HASHABLE))
    inner, inners_ = draw(annotated(depth - 1))
    made: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (list[inner], st.lists(inners_, max_size=3)),
        (Sequence[inner], st.lists(inners_, max_size=3)),
        (tuple[inner, ...], st.lists(inners_, max_size=3).map(tuple)),
        (tuple[inner, item], st.tuples(inners_, items)),
        (dict[key, inner], st.dictionaries(keys, inners_, max_size=3)),
        (Mapping[key, inner], st.dictionaries(keys, inners_, max_size=3)),
        (set[item], st.sets(items, max_size=3)),
        (frozenset[item], st.frozensets(items, max_size=3)),
        (frozenset[tuple[item, ...]], st.frozensets(st.lists(items, max_size=2).map(tuple), max_size=2)),
        (typing.Optional[inner], st.none() | inners_),  # noqa: UP045 - the type is not known before
    ]
    return draw(st.sampled_from(made))


def exactly(value: Any) -> Any:
    """Return ``value`` as types and texts all the way down, made without the code under test."""
    kind = type(value)
    if isinstance(value, (dt.datetime, dt.time)):
        zone = getattr(value.tzinfo, "key", None)
        return kind, value.replace(tzinfo=None).isoformat(), value.utcoffset(), value.tzname(), zone, value.fold
    if isinstance(value, deque):
        return kind, value.maxlen, tuple(map(exactly, value))
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(exactly, value))
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(exactly, value))
    if isinstance(value, dict):
        return kind, tuple((exactly(key), exactly(item)) for key, item in value.items())
    if isinstance(value, pydantic.BaseModel):
        extra = exactly(value.model_extra), exactly(value.__pydantic_private__)
        return kind, exactly(dict(value)), extra, frozenset(value.model_fields_set)
    if isinstance(value, msgspec.Struct):
        return kind, exactly(msgspec.structs.asdict(value)), exactly(getattr(value, "__dict__", None))
    if attrs.has(kind):
        return kind, exactly({field.name: getattr(value, field.name) for field in attrs.fields(kind)})
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return kind, exactly(fields), exactly(getattr(value, "__dict__", None))
    return kind, repr(value)


@many
@given(annotated(), st.data())
def test_a_value_that_fits_its_annotation_comes_back_equal_and_of_the_same_types(
    pair: tuple[Any, st.SearchStrategy[Any]], data: st.DataObject
) -> None:
    annotation, values = pair
    value = data.draw(values)
    codec = Codec(annotation)
    raw = codec.encode(value)
    back = codec.decode(raw)
    assert back == value
    assert exactly(back) == exactly(value)
    assert b"\n" not in raw


hard = st.one_of(
    st.integers(),
    st.floats(),
    st.text(st.characters(categories=["Cs", "L"]), max_size=3),
    st.datetimes(timezones=offsets, allow_imaginary=False).map(lambda moment: moment.replace(fold=1)),
    st.times(timezones=st.just(dt.UTC)),
    st.decimals(),
    st.complex_numbers(),
    st.binary(max_size=3).map(bytearray),
    st.sampled_from([Level.LOW, Kind.ADMIN, Colour.RED, int, None, ..., object()]),
)


@many
@given(annotated(), annotated(), st.data())
@example((int, st.none()), (bool, st.just(True)), None)
def test_a_value_that_does_not_fit_its_annotation_is_refused_and_never_altered(
    asked: tuple[Any, Any], given_: tuple[Any, st.SearchStrategy[Any]], data: st.DataObject | None
) -> None:
    codec = Codec(asked[0])
    value: Any = True if data is None else data.draw(given_[1] | hard | st.lists(hard, max_size=2).map(tuple))
    try:
        raw = codec.encode(value)
    except RoundTripError:
        return
    assert exactly(codec.decode(raw)) == exactly(value)


plain_json = LEAVES[-1][1]


@few
@given(plain_json)
def test_plain_json_comes_back_without_an_annotation(value: Any) -> None:
    assert exactly(PLAIN.decode(PLAIN.encode(value))) == exactly(value)


NOT_PLAIN = [
    (1,),
    {1},
    frozenset({1}),
    {1: "a"},
    {None: 1},
    {1: "a", "1": "b"},
    [(1,)],
    {"a": {"b": ()}},
    math.nan,
    math.inf,
    [-math.inf],
    2**64,
    -(2**63) - 1,
    "\ud800",
    {"\ud800": 1},
    b"a",
    dt.date(2026, 1, 1),
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.timedelta(1),
    uuid.UUID(int=1),
    Decimal(1),
    Colour.RED,
    Level.LOW,
    Kind.ADMIN,
    Point(1, "a"),
    Box(1),
    Open(a=1),
    Roomy(1),
    object(),
    int,
    1j,
]


@pytest.mark.parametrize("value", NOT_PLAIN, ids=shown)
def test_any_other_value_without_an_annotation_is_refused_with_the_advice_to_annotate(value: object) -> None:
    with pytest.raises(RoundTripError) as caught:
        PLAIN.encode(value)
    assert f"a value of type {type(value).__qualname__}" in str(caught.value)
    assert "annotate the function with what it returns" in str(caught.value)


# --- single cases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "written"),
    [
        (float, 1, b"1"),
        (float, 1.0, b"1.0"),
        (float | None, 1, b"1"),
        (list[float], [1, 1.5], b"[1,1.5]"),
        (dict[str, tuple[float, ...]], {"a": (1, 2.0)}, b'{"a":[1,2.0]}'),
        (set[float], {1}, b"[1]"),
        (bytes, b"\x00\xff", b'"AP8="'),
        (dict[int, str], {1: "a"}, b'{"1":"a"}'),
        (Decimal, Decimal("1.50"), b'"1.50"'),
        (Point, Point(1, "a"), b'[1,"a"]'),
        (Aliased, Aliased(userId=1), b'{"userId":1}'),
        (list[Aliased], [Aliased(userId=1)], b'[{"userId":1}]'),
        (Model, Model(name="a"), b'{"name":"a"}'),
        (Model, Model(name="a", inner=None, pairs=[]), b'{"name":"a","inner":null,"pairs":[]}'),
        (Renamed, Renamed(user_id=1), b'{"user_id":1}'),
        (Mixed, Mixed.NUMBER, b"1"),
        (
            dt.datetime,
            dt.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            b'"2026-07-01T12:00:00+02:00[Europe/Berlin]"',
        ),
        (Open, Open(a=1, b=2), b'{"a":1,"b":2}'),  # type: ignore[call-arg]
        (dt.datetime, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), b'"2026-01-01T00:00:00+00:00"'),
        (pydantic.RootModel[list[int]], pydantic.RootModel[list[int]]([1]), b"[1]"),
        (None, None, b"null"),
    ],
    ids=str,
)
def test_the_json_is_compact_and_as_other_programs_expect(annotation: Any, value: Any, written: bytes) -> None:
    codec = Codec(annotation)
    assert codec.encode(value) == written
    assert exactly(codec.decode(written)) == exactly(value)


class Cat(pydantic.BaseModel):
    name: str


class Dog(pydantic.BaseModel):
    name: str
    barks: bool = True


class Circle(pydantic.BaseModel):
    kind: Literal["c"] = "c"


class Square(pydantic.BaseModel):
    kind: Literal["s"]


@dataclasses.dataclass
class Computed:
    x: int
    doubled: int = dataclasses.field(init=False)
    shared: ClassVar[int] = 7

    def __post_init__(self) -> None:
        self.doubled = self.x * 2


def in_itself() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    return itself


def with_attribute(value: T, name: str, content: object) -> T:
    setattr(value, name, content)
    return value


class NamedZone(dt.tzinfo):
    """As a zone with summer time: the offset depends on the date."""

    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta | None:
        return moment and dt.timedelta(hours=2 if 3 < moment.month < 11 else 1)

    def dst(self, moment: dt.datetime | None) -> dt.timedelta | None:
        return moment and dt.timedelta(hours=1 if 3 < moment.month < 11 else 0)

    def tzname(self, moment: dt.datetime | None) -> str:
        return "Europe/Somewhere"


@dataclasses.dataclass
class CountsUp:
    x: int

    def __post_init__(self) -> None:
        self.x += 1


@dataclasses.dataclass
class RefusesToBeBuilt:
    x: int
    armed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if RefusesToBeBuilt.armed:
            raise RuntimeError(f"sEcReT {self.x}")


class RefusesToCompare(enum.Enum):
    A = "sEcReT"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("sEcReT")

    def __hash__(self) -> int:
        return 1


@dataclasses.dataclass
class RefusesToEqual:
    x: int

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("sEcReT")

    def __hash__(self) -> int:
        return 1


@dataclasses.dataclass
class Priced:
    price: float
    others: list[float | None] = dataclasses.field(default_factory=list)


class Measured(NamedTuple):
    name: str
    size: float


class Measures(TypedDict, total=False):
    size: float


@attrs.frozen
class Weighed:
    weight: float
    net: float = 0.0


class Sized(msgspec.Struct):
    size: float


class Round(pydantic.BaseModel):
    shape: Literal["round"] = pydantic.Field(default="round", alias="form")
    size: int = 0


class Oblong(pydantic.BaseModel):
    shape: Literal["oblong"] = pydantic.Field(default="oblong", alias="form")
    size: int = 0


class Drawing(pydantic.BaseModel):
    shapes: list[Annotated[Round | Oblong, pydantic.Field(discriminator="shape")]]
    at: dt.datetime | None = None


class Text(str):
    __slots__ = ("note",)


class Stamped(pydantic.BaseModel):
    id: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)


def reordered(model: T) -> T:
    vars(model)["name"] = vars(model).pop("name")
    return model


class Validates(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def check(cls, text: str) -> str:
        if len(text) > 9:
            raise ValueError(f"too long: {text}")
        return text


class Shouts(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def louder(cls, text: str) -> str:
        return text + "!"


class Fussy(pydantic.BaseModel):
    a: int

    @pydantic.model_serializer
    def write(self) -> dict[str, int]:
        raise ZeroDivisionError("sEcReT")


BERLIN = dt.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))


class Tagged(msgspec.Struct, tag=True, rename="camel"):
    the_rate: float
    the_moment: dt.datetime


class Other(msgspec.Struct, tag=True, rename="camel"):
    the_rate: float
    the_moment: dt.datetime


class Listed(msgspec.Struct, array_like=True, tag="listed"):
    rate: float
    at: dt.datetime


class Kennel(msgspec.Struct):
    guest: Cat | Dog
    mixed: Mixed


@dataclasses.dataclass(frozen=True)
class Gallery:
    shapes: list[Round | Oblong]


class Framed(msgspec.Struct, frozen=True):
    shape: Round | Oblong


class Titled(NamedTuple):
    shape: Round | Oblong


class Pair(enum.Enum):
    LEFT = (1, "a")
    RIGHT = (2, "b")


class TwoNames(pydantic.BaseModel):
    at: dt.datetime = pydantic.Field(serialization_alias="writtenAt")


REFUSED: dict[str, tuple[Any, Callable[[], Any]]] = {
    "a bool for an int": (int, lambda: True),
    "an int for a bool": (bool, lambda: 1),
    "a float for an int": (int, lambda: 1.0),
    "a list for a tuple": (tuple[int, ...], lambda: [1]),
    "a tuple for a list": (list[int], lambda: (1,)),
    "a frozenset for a set": (set[int], lambda: frozenset({1})),
    "the text of an Enum": (Colour, lambda: "red"),
    "a str Enum for a str": (str, lambda: Kind.ADMIN),
    "a datetime for a date": (dt.date, lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    "a named zone": (dt.datetime, lambda: dt.datetime(2026, 7, 1, tzinfo=NamedZone())),
    "a named zone in a model": (Inner, lambda: Inner(when=dt.datetime(2026, 7, 1, tzinfo=NamedZone()))),
    "a named zone in a key": (dict[dt.datetime, int], lambda: {dt.datetime(2026, 7, 1, tzinfo=NamedZone()): 1}),
    "the second of two equal hours": (dt.datetime, lambda: dt.datetime(2026, 10, 25, 2, fold=1)),  # noqa: DTZ001
    "a fixed offset with a name": (
        dt.datetime,
        lambda: dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    ),
    "a zone that is not the one of its name": (
        dt.datetime,
        lambda: dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo.no_cache("Europe/Berlin")),
    ),
    "a field of attrs of another type": (Event, lambda: Event(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), True)),
    "an Enum in a field of attrs": (Event, lambda: Event(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 1.0, Level.LOW)),
    "a field that attrs does not compare": (
        Event,
        lambda: Event(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 1.0, None, (1, 2)),
    ),
    "a dataclass without __eq__": (Unequal, lambda: Unequal((1,))),
    "a field that a dataclass does not compare": (Aside, lambda: Aside((1,))),
    "a bool where a dataclass has a float": (Priced, lambda: Priced(True)),
    "a tag that was never set beside one that was": (
        list[Oblong | Round],
        lambda: [Round(size=1), Round(form="round", size=1)],  # type: ignore[call-arg]
    ),
    "another type in a deque of a model": (Holder, lambda: Holder(queue=deque([(1,)]))),
    "another type in an OrderedDict of a model": (Holder, lambda: Holder(ordered=OrderedDict(a=(1,)))),
    "another type in a defaultdict of a model": (
        Holder,
        lambda: Holder.model_construct(counts=defaultdict(int, a=True)),
    ),
    "a defaultdict of other defaults": (Holder, lambda: Holder.model_construct(counts=defaultdict(list, a=1))),
    "a subclass of a builtin": (Holder, lambda: Holder(any=Text("a"))),
    "a default that is made anew": (Stamped, Stamped),
    "fields of a model in another order": (Patch, lambda: reordered(Patch(name="a", mail="b"))),
    "a NaN": (float, lambda: math.nan),
    "a NaN where None fits": (float | None, lambda: math.nan),
    "a Decimal NaN": (Decimal, lambda: Decimal("NaN")),
    "a Decimal that cannot be compared": (Decimal, lambda: Decimal("sNaN")),
    "an int of more than 64 bits": (int, lambda: 2**64),
    "a surrogate": (str, lambda: "\ud800"),
    "a dict in itself": (Any, in_itself),
    "a subclass of a dataclass": (Box[int], lambda: type("Sub", (Box,), {})(1)),
    "an attribute beside the fields": (Box[int], lambda: with_attribute(Box(1), "extra", 1)),
    "an attribute beside a Struct's fields": (Roomy, lambda: with_attribute(Roomy(1), "extra", 1)),
    "a private attribute that was changed": (
        Inner,
        lambda: with_attribute(Inner(when=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), "_seen", 1),
    ),
    "an extra field of another type": (Open, lambda: Open(a=1, b=(1, 2))),  # type: ignore[call-arg]
    "a model of the wrong content": (Model, lambda: Model.model_construct(name="a", amount="much")),
    "a __post_init__ that changes": (CountsUp, lambda: CountsUp(1)),
    "a validator that changes": (Shouts, lambda: Shouts(text="a")),
    "a validator that raises": (Validates, lambda: Validates.model_construct(text="sEcReT" * 9)),
    "a serializer that raises": (Fussy, lambda: Fussy(a=1)),
    "an __eq__ that raises": (set[RefusesToEqual], lambda: {RefusesToEqual(1)}),
    "the later of two models alike": (Cat | Dog, lambda: Dog(name="a")),
    "a model for the wrong model": (Cat, lambda: Dog(name="a")),
    "a text that is a date as well": (dt.date | str, lambda: "2026-01-01"),
}


@pytest.mark.parametrize(("annotation", "make"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_would_not_come_back_as_it_was_is_refused(annotation: Any, make: Callable[[], Any]) -> None:
    with pytest.raises(RoundTripError) as caught:
        Codec(annotation).encode(make())
    assert "sEcReT" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("annotation", "make"),
    [
        (Cat | Dog, lambda: Cat(name="a")),
        (Cat | int, lambda: 7),
        (Computed, lambda: Computed(2)),
        (Computed, lambda: with_attribute(Computed(2), "x", 2)),
        (dt.date | str, lambda: "no date"),
        (dt.date | str, lambda: dt.date(2026, 1, 1)),
        (Roomy, lambda: Roomy(1)),
        (dt.datetime, lambda: dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=30)))),
        (dt.datetime, lambda: dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))),
        (list[RefusesToCompare], lambda: [RefusesToCompare.A]),
        (Holder, lambda: Holder(queue=deque([1]), ordered=OrderedDict(b=1, a=2), counts=defaultdict(int, a=1))),
        (list[Cat | Dog], lambda: [Cat(name="a"), Dog(name="b", barks=False)]),
        (dict[str, Cat | Dog | None], lambda: {"a": Dog(name="b", barks=False), "b": None}),
        (Annotated[Circle | Square, pydantic.Field(discriminator="kind")], lambda: Square(kind="s")),
        (
            list[Annotated[Circle | Square, pydantic.Field(discriminator="kind")]],
            lambda: [Square(kind="s"), Circle(kind="c")],
        ),
        (Priced, lambda: Priced(1)),
        (list[Priced], lambda: [Priced(1), Priced(1.0, [2, 2.0, None])]),
        (dict[str, Measured], lambda: {"a": Measured("b", 2), "c": Measured("d", 2.0)}),
        (Measures, lambda: {"size": 3}),
        (tuple[Weighed, ...], lambda: (Weighed(4, 5), Weighed(4.0))),
        (Sized | None, lambda: Sized(6)),
        (Round | Oblong, lambda: Oblong(size=1)),
        (Round | Oblong, lambda: Oblong(form="oblong", size=1)),  # type: ignore[call-arg]
        (list[Oblong | Round], lambda: [Round(size=1), Oblong(size=2), Oblong()]),
        (Annotated[Round | Oblong, pydantic.Field(discriminator="shape")], lambda: Round(size=1)),
        (dict[str, Round | Oblong | int], lambda: {"a": Oblong(size=1), "b": 2}),
        (Drawing, lambda: Drawing(shapes=[Oblong(size=1), Round()])),
        (
            Drawing,
            lambda: Drawing(
                shapes=[Oblong(size=1)], at=dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
            ),
        ),
        (Cat | Dog | int, lambda: Dog(name="b", barks=False)),
        (list[Cat | Dog | int], lambda: [Dog(name="b", barks=False), 1]),
        (Unequal, lambda: Unequal([1])),
        (list[float | Level], lambda: [1.5, Level.HIGH]),
        (dict[dt.date, Mixed], lambda: {dt.date(2026, 1, 1): Mixed.HALF}),
        (Marked, lambda: Marked(Mixed.TEXT, None, [Marked(Mixed.HALF)])),
        (Annotated[float, "meta"], lambda: 1),
        (Box[float], lambda: Box(1)),
        (dict[str, Box[list[float]]], lambda: {"a": Box([1, 2.0])}),
        (Tagged | Other, lambda: Tagged(1, BERLIN)),
        (Tagged | Other, lambda: Other(1, BERLIN)),
        (Listed, lambda: Listed(1, BERLIN)),
        (Box[dt.datetime], lambda: Box(BERLIN)),
        (Box[Cat | Dog], lambda: Box(Dog(name="a", barks=False))),
        (list[Annotated[Mixed, "of several types"]], lambda: [Mixed.HALF, Mixed.TEXT]),
        (Shelf[Cat | Dog], lambda: Shelf(Cat(name="a"), [Dog(name="b", barks=False)], "c")),
        (Page, lambda: Page(at=pydantic.HttpUrl("https://example.org/a"))),
        (Kennel, lambda: Kennel(Dog(name="a", barks=False), Mixed.HALF)),
        (Gallery, lambda: Gallery([Oblong(size=1), Round()])),
        (Framed, lambda: Framed(Oblong())),
        (Titled, lambda: Titled(Oblong())),
        (Box[Round | Oblong], lambda: Box(Oblong())),
        (Pair, lambda: Pair.RIGHT),
        (dict[Mixed, int], lambda: {Mixed.HALF: 1, Mixed.TEXT: 2}),
        (TwoNames, lambda: TwoNames(at=BERLIN)),
        (list[Strict], lambda: [Strict(day=dt.date(2026, 1, 1), numbers=(1,), id=uuid.UUID(int=1))]),
        (Model, lambda: Model(name="a", inner=Inner(when=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tags={"b"}))),
    ],
)
def test_a_value_that_comes_back_as_it_was_is_accepted(annotation: Any, make: Callable[[], Any]) -> None:
    codec = Codec(annotation)
    assert exactly(codec.decode(codec.encode(make()))) == exactly(make())


def test_code_of_the_users_types_that_raises_while_decoding_is_a_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(RefusesToBeBuilt)
    raw = codec.encode(RefusesToBeBuilt(1))
    monkeypatch.setattr(RefusesToBeBuilt, "armed", True)
    with pytest.raises(DecodeError, match=r"into RefusesToBeBuilt \(RuntimeError\)$"):
        codec.decode(raw)


def test_a_moment_with_an_offset_that_its_zone_does_not_have_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        Codec(dt.datetime).decode(b'"2026-07-01T12:00:00+05:00[Europe/Berlin]"')


def test_a_field_of_a_class_that_nobody_can_build_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        Codec(Holds).decode(b'{"opaque":{}}')


def test_a_model_of_the_wrong_content_makes_no_warning_that_quotes_it() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(RoundTripError):
            Codec(Cat).encode(Cat.model_construct(name=Decimal("123.456")))  # type: ignore[arg-type]
    assert not seen


@pytest.mark.parametrize(
    "annotation",
    [deque[int], OrderedDict[str, int], Iterable[int], Awaitable[int], Callable[[], int], type[int]],
    ids=str,
)
def test_a_generic_class_that_nobody_can_build_is_refused_at_once(annotation: Any) -> None:
    for one in (annotation, list[annotation], dict[str, annotation]):
        with pytest.raises(TypeError, match="no way to build a"):
            Codec(one)


@pytest.mark.parametrize("annotation", [complex | int, list[Cat | Dog], dict[Cat, int], T], ids=str)
def test_an_annotation_that_cannot_be_decoded_stores_nothing_wrong(annotation: Any) -> None:
    """It is refused when the codec is made, or every value is."""
    try:
        codec = Codec(annotation)
    except TypeError:
        return
    with pytest.raises(RoundTripError):
        codec.encode(1j)


# --- comparing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (1.0, Decimal(1)),
        ([1], [True]),
        ((1,), [1]),
        ({1}, {1.0}),
        ({1}, {True}),
        ({1: 2}, {True: 2}),
        ({1: 2}, {1: 2.0}),
        ({1: 2, 3: 4}, {3: 4, 1: 2}),
        ([1], [1, 2]),
        ([1, 1.0], [1.0, 1]),
        ([with_attribute(Box(1), "note", 1), Box(2)], [Box(1), with_attribute(Box(2), "note", 1)]),
        ([with_attribute(Box(1), "note", 1), Box(2)], [with_attribute(Box(one), "note", 1) for one in (1, 2)]),
        ([with_attribute(Box(1), "note", 1), Box(2)], [with_attribute(Box(1), "note", True), Box(2)]),
        (Page(at=pydantic.HttpUrl("https://example.org/a")), Page(at=pydantic.HttpUrl("https://example.org/b"))),
        ({1}, {1, 2}),
        (Point(1, "a"), (1, "a")),
        (Point(1, "a"), Point(True, "a")),
        (Level.LOW, 1),
        (Kind.ADMIN, "admin"),
        (Box(1), Box(1.0)),
        (Roomy(1), Roomy(True)),
        (Open(a=1), Open(a=1, b=1)),  # type: ignore[call-arg]
        (Cat.model_construct(name=1), Cat.model_construct(name=True)),  # type: ignore[arg-type]
        (dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),  # noqa: DTZ001
        (
            dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            dt.datetime(2026, 1, 1, 0, tzinfo=dt.UTC),
        ),
        (
            dt.datetime(2026, 1, 1, tzinfo=NamedZone()),
            dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        ),
        (dt.time(1, fold=1), dt.time(1)),
        (0.0, -0.0),
        (Decimal("1.5"), Decimal("1.50")),
        (Text("a"), "a"),
        (with_attribute(Text("a"), "note", 1), Text("a")),
        (with_attribute(Text("a"), "note", 1), with_attribute(Text("a"), "note", True)),
        (deque([1]), deque([True])),
        (deque([1], 3), deque([1])),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        (defaultdict(int, a=1), defaultdict(list, a=1)),
        (Patch(name=None), Patch()),
        (Patch(name="a"), reordered(Patch(name="a"))),
        (Unequal(1), Unequal(True)),
        (Aside(1), Aside(2)),
        (Mark(dt.date(2026, 1, 1), (1,)), Mark(dt.date(2026, 1, 1), (2,))),
        (
            dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        ),
        (None, False),
        ("", None),
        (b"a", bytearray(b"a")),
    ],
    ids=shown,
)
def test_equal_values_of_other_types_are_not_the_same(a: object, b: object) -> None:
    assert not same(a, b)
    assert not same(b, a)
    assert same(a, a)
    assert same(b, b)


def test_comparisons_of_classes_that_are_made_at_run_time_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    most = len(comparing._comparisons) + 5
    monkeypatch.setattr(comparing, "_MOST_CLASSES", most)
    for number in range(20):
        kind = dataclasses.make_dataclass(f"Made{number}", ["x"])
        assert same(kind(1), kind(1))
        assert not same(kind(1), kind(True))
        assert len(comparing._comparisons) <= most + 1
    assert not same(1, 1.0)


def test_an_object_whose_state_cannot_be_seen_is_the_same_as_no_other() -> None:
    class Grown(functools.partial[int]):
        """A class in Python upon one in C."""

    for make in (lambda: functools.partial(int), lambda: Grown(int), lambda: iter([]), object):
        assert not same(make(), make())


@pytest.mark.parametrize(
    ("annotation", "value", "place"),
    [
        (Any, [{"a": (1,)}], r"\[0\]\.values\(\)\[0\]: tuple became list"),
        (Nested, Nested(Nested(with_attribute(Nested(None), "x", 1))), r"\.inner\.inner: another Nested came back"),
        (list[Unequal], [Unequal(1)] * 5 + [Unequal(NOW)] * 4, r"\[5\]\.content: datetime became str"),
        (Holder, Holder(queue=deque([1, (1,)])), r"\.queue\[1\]: tuple became list"),
        pytest.param(Stamped, Stamped(), r"\.id: another UUID came back", id="Stamped"),
        (Typo, Typo("a", 7, (1, 2)), r"Expected `datetime`, got `int` - at `\$\.seen`"),  # type: ignore[arg-type]
        (set[Mark], {Mark(NOW, ())}, r"Mark"),
        (list[Unequal], [Unequal(1)] * 5 + [Unequal(1j)] * 4, r"\(\[5\]\.content: .*: complex\)"),
        (Any, {"sEcReT": [1, {2: object()}]}, r"\(\.values\(\)\[0\]\[1\]\.values\(\)\[0\]: .*: object\)"),
        (Any, 1j, r"\(Type is not JSON serializable: complex\)"),
    ],
    ids=shown,
)
def test_a_refused_value_names_the_place_in_which_it_differs(annotation: Any, value: Any, place: str) -> None:
    with pytest.raises(RoundTripError, match=place):
        Codec(annotation).encode(value)


@few
@given(annotated(), st.data())
def test_same_agrees_with_a_comparison_of_all_types(
    pair: tuple[Any, st.SearchStrategy[Any]], data: st.DataObject
) -> None:
    a, b = data.draw(pair[1]), data.draw(pair[1] | hard)
    assert same(a, copy.deepcopy(a))
    assert same(a, b) == (exactly(a) == exactly(b))


# --- foreign bytes and privacy --------------------------------------------------------------------------

json_like = st.lists(
    st.sampled_from(["[", "]", "{", "}", ",", ":", '"', '"a"', '"userId"', "1", "-", "1e999", "null", "true", "\\u"]),
    max_size=8,
).map(lambda parts: "".join(parts).encode())
foreign = (
    st.binary(max_size=30)
    | json_like
    | plain_json.map(orjson.dumps)
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff", b"", b"\x80\x04K\x01."])
)


def refusal(attempt: Callable[[], object]) -> str:
    """Return all that the error of ``attempt`` shows, or nothing when there is none."""
    try:
        attempt()
    except (RoundTripError, DecodeError) as error:
        return f"{error}\n{error!r}\n{''.join(traceback.format_exception(error))}"
    return ""


@many
@given(st.sampled_from(LEAVES), foreign)
@example((Strict, st.none()), b'{"day":1,"numbers":{},"id":[]}')
@example((Validates, st.none()), b'{"text":"0123456789"}')
@example((list[Strict], st.none()), b"[" + b"9" * 400 + b"]")
def test_bytes_of_any_kind_decode_or_are_a_decode_error_and_nothing_else(pair: tuple[Any, Any], raw: bytes) -> None:
    shown = refusal(lambda: Codec(pair[0]).decode(raw))
    assert not shown or shown.startswith("the stored bytes do not decode into ")


SECRET = "sEcReT-7f3a"
secretive = st.sampled_from(
    [
        SECRET,
        [SECRET],
        {SECRET: 1},
        (SECRET,),
        {SECRET},
        SECRET.encode(),
        SECRET + "\ud800",
        {SECRET: {SECRET: (SECRET,)}},
        Cat.model_construct(name=[SECRET]),  # type: ignore[arg-type]
        Box(SECRET),
        Point(1, SECRET),
        Struct(dt.date(2026, 1, 1), SECRET.encode(), set(), Decimal(1)),
        Validates.model_construct(text=SECRET),
    ]
)


@few
@given(annotated(), secretive)
@example((Validates, None), Validates.model_construct(text=SECRET))
def test_no_error_shows_the_value_or_the_bytes(pair: tuple[Any, Any], value: Any) -> None:
    codec = Codec(pair[0])
    for attempt in (
        lambda: codec.encode(value),
        lambda: codec.decode(msgspec.json.encode([SECRET, {SECRET: SECRET}])),
        lambda: codec.decode(msgspec.json.encode({"name": [SECRET], "text": SECRET, "userId": SECRET, "a": SECRET})),
        lambda: codec.decode(SECRET.encode()),
        lambda: codec.decode(f'"{SECRET}"'.encode()),
    ):
        assert SECRET not in refusal(attempt)


# --- what may be shared --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Frozen:
    words: tuple[str, ...]
    at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Remembers:
    word: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", [])


@dataclasses.dataclass(frozen=True)
class Counts:
    word: str

    @functools.cached_property
    def letters(self) -> list[str]:
        return [*self.word]


class FrozenStruct(msgspec.Struct, frozen=True):
    words: Any


class RoomyStruct(msgspec.Struct, frozen=True, dict=True):
    word: str

    @functools.cached_property
    def letters(self) -> list[str]:
        return [*self.word]


@dataclasses.dataclass(frozen=True)
class Shy:
    word: str

    def __getattribute__(self, name: str) -> Any:
        if name == "word":
            raise PermissionError
        return super().__getattribute__(name)


class Grows(Frozen):
    """A subclass that is no dataclass itself takes further attributes."""


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        3,
        2.5,
        True,
        b"bytes",
        dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        dt.date(2026, 11, 22),
        dt.timedelta(1),
        Decimal("1.5"),
        uuid.UUID(int=1),
        Colour.RED,
        (1, ("a", frozenset({2}))),
        Point(1, "a"),
        Frozen(("a",), dt.datetime(2026, 11, 22, tzinfo=dt.UTC)),
        FrozenStruct(("a",)),
    ],
    ids=shown,
)
def test_an_immutable_value_may_be_shared(value: object) -> None:
    assert is_immutable(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {1},
        bytearray(b"a"),
        (1, [2]),
        Point([], "a"),  # type: ignore[arg-type] # nothing checks it at run time
        Frozen([]),  # type: ignore[arg-type] # as above
        Remembers("a"),
        Counts("a"),
        RoomyStruct("a"),
        Shy("a"),
        Grows(("a",)),
        FrozenStruct([]),
        Typo("a", dt.datetime(2026, 11, 22, tzinfo=dt.UTC), (1, 2)),
        Inner.model_construct(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_mutable_value_is_not_shared(value: object) -> None:
    assert not is_immutable(value)


_LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(_LEAF, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner)))
@few
def test_values_alike_by_their_bytes_are_the_same_and_a_changed_type_is_seen(value: Any) -> None:
    twin = copy.deepcopy(value)
    assert _alike(value, twin)
    assert not _alike([value], (value,))
    assert not _alike({"a": 1, "b": value}, {"b": value, "a": 1})
    assert not _alike([1, value], [True, value])
    assert not _alike([1, value], [1.0, value])
    # A value that is no builtin is compared in the slower way.
    assert not _alike([Level.LOW, value], [Level.LOW, value])


@dataclasses.dataclass
class Line:
    number: int
    text: str
    price: float
    tags: list[str]
    at: dt.datetime


class LineModel(pydantic.BaseModel):
    number: int
    text: str
    price: float
    tags: list[str]
    at: dt.datetime


@pytest.mark.parametrize("kind", [Line, LineModel])
def test_the_steps_of_a_comparison_in_python_do_not_grow_with_the_rows(kind: Any) -> None:
    """20,000 objects, compared one by one, once stopped the event loop for a fifth of a second."""

    def steps(rows: int) -> int:
        lines = [kind(number=i, text="a", price=0.5, tags=["b"], at=NOW) for i in range(rows)]
        codec, calls = Codec(list[kind]), []
        back = codec.decode(codec.encode(lines))
        sys.setprofile(lambda frame, event, _: calls.append(frame.f_code) if event == "call" else None)
        try:
            assert same(lines, back)
        finally:
            sys.setprofile(None)
        return sum(code.co_filename == comparing.__file__ and code.co_name != "_same_zone" for code in calls)

    # Each moment of a model comes back with a zone object of its own, which is one step for each row.
    assert steps(500) - steps(10) <= (0 if kind is Line else 490)


def test_a_difference_in_one_of_many_rows_is_found_and_named() -> None:
    lines = [Line(i, "a", 0.5, ["b"], NOW) for i in range(1000)]
    other = copy.deepcopy(lines)
    other[777].tags[0] = Text("b")
    assert str(difference(lines, other)) == "[777].tags[0]: str became Text"
    other[776].price = 1
    assert str(difference(lines, other)) == "[776].price: float became int"
    del other[500].at
    assert str(difference(lines, other)) == "[500]: another Line came back"


def test_comparing_takes_time_in_proportion_to_the_value() -> None:
    """Each level was once compared twice: 50 levels would have taken 2 ** 50 comparisons."""
    nested: Nested | None = None
    for _ in range(50):
        nested = Nested(nested)
    assert same(nested, copy.deepcopy(nested))
    assert Codec(Nested).decode(Codec(Nested).encode(nested)) == nested


@dataclasses.dataclass
class Built:
    """Counts how often it is built."""

    text: str
    built: ClassVar[int] = 0

    def __post_init__(self) -> None:
        type(self).built += 1


def test_a_value_that_is_too_large_is_neither_read_back_nor_compared() -> None:
    value = [Built("x" * 40) for _ in range(3)]
    before = Built.built
    with pytest.raises(TooLargeError, match=r"a value has 157 bytes of JSON, more than max_bytes=156"):
        Codec(list[Built]).encode(value, 156)
    assert Built.built == before
    assert len(Codec(list[Built]).encode(value, 157)) == 157
    assert len(Codec(list[Built], max_bytes=200).encode(value, 156)) == 157
