"""A decorated function: its hits, misses, keys and policies, on memory and on each server of the run."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import gc
import inspect
import logging
import pickle
import re
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import orjson
import pydantic
import pytest
import pytest_asyncio

from cachekit import (
    MISS,
    Cache,
    RenderError,
    RollingWindow,
    cache_delete,
    cached,
    configure,
    default_cache,
    invalidates,
    using,
)
from cachekit.errors import ConfigurationError, DecorationError, RoundTripError
from cachekit.events import Event, Filled, Hit, Invalidated, LoadBegan, Loaded, Missed, NotStored, Uncached
from cachekit.testing import FakeClock, memory_cache
from tests.kit.ids import shown
from tests.kit.servers import RedisServer
from tests.kit.telling import bare


@dataclasses.dataclass
class Profile:
    user: str
    errors: list[tuple[str, int]]
    seen: datetime


class Model(pydantic.BaseModel):
    name: str
    when: datetime
    tags: set[str]


class Point(NamedTuple):
    x: int
    label: str


class Colour(Enum):
    RED = "red"


class Row(TypedDict):
    pair: tuple[int, str]


NOW = datetime(2026, 11, 22, 10, 30, 15, 123456, tzinfo=UTC)


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache


async def test_a_hit_equals_the_miss_and_the_function_ran_once(cache: Cache) -> None:
    runs = 0

    @cache.cached(key="profile:<user_id>", ttl=600)
    async def profile(user_id: str) -> dict[str, int]:
        nonlocal runs
        runs += 1
        return {user_id: runs}

    assert await profile("42") == await profile("42") == await profile(user_id="42") == {"42": 1}
    assert await profile("43") == {"43": 2}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Profile, Profile("42", [("recieve", 3)], NOW)),
        (list[Profile], [Profile("42", [], NOW)]),
        (Model, Model(name="x", when=NOW, tags={"a", "b"})),
        (dict[str, Model], {"m": Model(name="x", when=NOW, tags=set())}),
        (tuple[int, str], (1, "a")),
        (datetime, NOW),
        (date, date(2026, 11, 22)),
        (set[int], {1, 2, 3}),
        (frozenset[str], frozenset({"a"})),
        (Decimal, Decimal("1.50")),
        (dict[int, str], {1: "a", 2: "b"}),
        (Point, Point(1, "a")),
        (Colour, Colour.RED),
        (Row, {"pair": (1, "a")}),
        (UUID, UUID(int=7)),
        (timedelta, timedelta(hours=1)),
        (bytes, b"\x00\xff"),
        (type(None), None),
        (Profile | None, None),
        (int | str, "1"),
        (float, 1.0),
        (float, 1),
    ],
    ids=shown,
)
async def test_a_hit_has_the_type_of_the_miss(cache: Cache, annotation: Any, value: Any) -> None:
    runs = 0

    async def function() -> Any:
        nonlocal runs
        runs += 1
        return value

    function.__annotations__["return"] = annotation
    decorated = cache.cached(key="k", ttl=60)(function)
    miss, hit = await decorated(), await decorated()
    assert runs == 1
    assert miss is value
    assert hit == value
    assert type(hit) is type(value)
    if isinstance(value, (list, tuple)):
        assert [type(item) for item in hit] == [type(item) for item in value]


async def test_a_tuple_without_an_annotation_is_returned_uncached_with_one_warning(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    @cache.cached(key="k", ttl=60)
    async def pair():  # type: ignore[no-untyped-def]  # noqa: ANN202
        nonlocal runs
        runs += 1
        return (1, 2)

    assert [await pair() for _ in range(5)] == [(1, 2)] * 5
    assert runs == 5
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "tuple" in record.message
    assert "annotate" in record.message


async def test_a_cached_none_is_a_hit(cache: Cache) -> None:
    runs = 0

    @cache.cached(key="k", ttl=60)
    async def nothing() -> None:
        nonlocal runs
        runs += 1

    await nothing()
    await nothing()
    assert runs == 1
    assert await nothing.peek() is None


async def test_a_caller_may_change_its_result(cache: Cache) -> None:
    @cache.cached(key="k", ttl=60)
    async def numbers() -> list[int]:
        return [1]

    await numbers()
    (await numbers()).append(2)
    assert await numbers() == [1]


async def test_an_exception_of_the_function_passes_through_and_is_not_cached(cache: Cache) -> None:
    runs = 0

    class OwnError(Exception):
        pass

    @cache.cached(key="k", ttl=60)
    async def fails() -> int:
        nonlocal runs
        runs += 1
        raise OwnError

    for _ in range(2):
        with pytest.raises(OwnError):
            await fails()
    assert runs == 2
    assert await fails.peek() is MISS


async def test_arguments_that_do_not_fit_raise_the_functions_own_error(cache: Cache) -> None:
    @cache.cached(key="k:<a>", ttl=60)
    async def function(a: int) -> int:
        return a

    with pytest.raises(TypeError, match=r"function\(\) missing 1 required positional argument"):
        await function()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        await function(1, b=2)  # type: ignore[call-arg]


async def test_strange_arguments_have_keys_of_their_own(cache: Cache) -> None:
    @cache.cached(key="f:<x>", ttl=60)
    async def f(x: object) -> str:
        return repr(x)

    strange: list[object] = [
        None,
        "",
        "None",
        "*",
        "{x}",
        ["a", "b"],
        "a:b",
        "f:<x>",
        True,
        "True",
        0,
        "\n",
        ("a", "b"),
    ]
    keys = [f.key(x) for x in strange]
    assert len(set(keys)) == len(strange)
    assert [await f(x) for x in strange] == [repr(x) for x in strange]
    assert [await f(x) for x in strange] == [repr(x) for x in strange]


async def test_an_argument_without_a_text_form_leaves_the_call_uncached_with_one_warning(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    cache.observe(events.append)

    @cache.cached(key="f:<x>", ttl=60)
    async def f(x: object) -> int:
        return 1

    assert [await f(object()) for _ in range(3)] == [1, 1, 1]
    assert len(caplog.records) == 1
    assert [event for event in events if isinstance(event, Uncached)] == [
        Uncached(f"{__name__}.{f.__qualname__}", "argument")
    ] * 3
    assert await f.peek(object()) is MISS
    assert await f.take(object()) is MISS
    assert await f.refresh(object()) == 1
    assert await f.invalidate(object()) is False
    with pytest.raises(RenderError):
        f.key(object())


async def by_name(a: int, b: str = "x", *, c: bool = True) -> int:
    return a


def test_the_default_key_is_the_name_and_every_argument_by_name() -> None:
    f = cached(ttl=60)(by_name)
    assert f.key(1) == f.key(a=1, b="x", c=True) == f"{__name__}.by_name:a=1:b='x:c=%true"
    assert f.key(1) != f.key("1")  # type: ignore[arg-type]


async def test_peek_never_loads_and_tells_a_miss_from_a_cached_none(cache: Cache) -> None:
    @cache.cached(key="k:<x>", ttl=60)
    async def f(x: int) -> int | None:
        return None if x else 1

    assert await f.peek(1) is MISS
    assert not MISS
    assert repr(MISS) == str(MISS) == "MISS"
    await f(1)
    assert await f.peek(1) is None


async def test_refresh_loads_now_and_replaces_the_cached_value(cache: Cache) -> None:
    runs = 0

    @cache.cached(key="k", ttl=60)
    async def count() -> int:
        nonlocal runs
        runs += 1
        return runs

    assert [await count(), await count.refresh(), await count()] == [1, 2, 2]


async def test_invalidate_makes_the_next_call_load(cache: Cache) -> None:
    runs = 0

    @cache.cached(key="k:<x>", ttl=60)
    async def count(x: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert await count(1) == 1
    assert await count.invalidate(1) is True
    assert await count.peek(1) is MISS
    assert await count(1) == 2


async def test_exactly_one_of_many_takers_gets_the_value(cache: Cache) -> None:
    @cache.cached(key="challenge:<challenge_id>", ttl=300)
    async def challenge(challenge_id: str) -> bytes:
        return b"secret"

    await challenge("7")
    taken = await asyncio.gather(*[challenge.take("7") for _ in range(50)])
    assert [value for value in taken if value is not MISS] == [b"secret"]
    assert await challenge.take("7") is MISS


async def test_a_result_is_stored_only_when_the_function_when_says_so(cache: Cache) -> None:
    runs = 0

    @cache.cached(key="k", ttl=60, when=lambda result: result > 2)
    async def count() -> int:
        nonlocal runs
        runs += 1
        return runs

    assert [await count() for _ in range(5)] == [1, 2, 3, 3, 3]


@pytest.mark.parametrize("broken", [{"when": lambda _: 1 / 0}, {"ttl": lambda _: 1 / 0}, {"ttl": lambda _: -1}])
async def test_a_policy_that_raises_costs_the_cache_and_not_the_result(
    cache: Cache, caplog: pytest.LogCaptureFixture, broken: dict[str, Any]
) -> None:
    @cache.cached(key="k", **{"ttl": 60, **broken})
    async def one() -> int:
        return 1

    assert [await one(), await one()] == [1, 1]
    assert await one.peek() is MISS
    assert len(caplog.records) == 1


@pytest.mark.parametrize("option", ["when", "ttl"])
async def test_an_answer_that_would_have_to_be_awaited_stores_nothing_and_is_closed(
    cache: Cache, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    answers: list[Any] = []

    async def later(result: int) -> int:
        return result

    def in_disguise(result: int) -> Any:
        answers.append(later(result))
        return answers[-1]

    @cache.cached(key="k", **{"ttl": 60, option: in_disguise})
    async def one() -> int:
        return 1

    assert [await one(), await one()] == [1, 1]
    assert await one.peek() is MISS
    assert [inspect.getcoroutinestate(answer) for answer in answers] == ["CORO_CLOSED"] * 2
    assert len(caplog.records) == 1
    assert f"its {option} returned a coroutine" in caplog.text


@pytest.mark.parametrize("option", ["when", "ttl"])
async def test_an_answer_that_is_a_generator_stores_nothing(
    cache: Cache, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    @cache.cached(key="k", **{"ttl": 60, option: lambda _: async_answers(1)})
    async def one() -> int:
        return 1

    assert [await one(), await one.peek()] == [1, MISS]
    assert f"its {option} returned an async_generator, which nothing iterates over" in caplog.text


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10), "10s", lambda result: result, lambda _: "10s"])
async def test_every_form_of_a_ttl_expires_at_the_same_moment(ttl: Any) -> None:
    clock = FakeClock()

    @memory_cache(clock=clock).cached(key="k", ttl=ttl)
    async def ten() -> int:
        return 10

    await ten()
    clock.advance(9.99)
    assert await ten.peek() == 10
    clock.advance(0.01)
    assert await ten.peek() is MISS


async def test_jitter_shortens_a_ttl_by_no_more_than_its_fraction() -> None:
    events: list[Event] = []
    cache = memory_cache()
    cache.observe(events.append)

    @cache.cached(key="k:<x>", ttl=100, jitter=0.25)
    async def f(x: int) -> int:
        return x

    for x in range(200):
        await f(x)
    ttls = [event.ttl for event in events if isinstance(event, Filled)]
    assert len(ttls) == 200
    assert all(75 <= ttl <= 100 for ttl in ttls)
    assert max(ttls) - min(ttls) > 10


async def test_the_value_in_redis_is_plain_json_at_the_documented_key(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, prefix="myapp:", timeout=5) as cache:

        @cache.cached(key="profile:<user_id>", ttl=600)
        async def profile(user_id: str) -> Profile:
            return Profile(user_id, [("recieve", 3)], NOW)

        await profile("42")
        assert profile.key("42") == "profile:42"
    assert redis_server.cli("GET", "myapp:profile:42") == (
        b'{"user":"42","errors":[["recieve",3]],"seen":"2026-11-22T10:30:15.123456+00:00"}'
    )
    assert 590 <= redis_server.cli("TTL", "myapp:profile:42") <= 600


@pytest.mark.parametrize(
    "foreign", [b"garbage", b"", b"\xff\x00", b'{"user":1}', b"[", b'{"a":1}\n{"tags":[]}', b"null"]
)
async def test_bytes_that_do_not_decode_are_a_miss_and_are_overwritten(
    redis_server: RedisServer, foreign: bytes
) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:

        @cache.cached(key="k", ttl=60)
        async def profile() -> Profile:
            return Profile("42", [], NOW)

        redis_server.cli("SET", "k", foreign)
        assert await profile.peek() is MISS
        assert await profile() == Profile("42", [], NOW)
        assert orjson.loads(redis_server.cli("GET", "k"))["user"] == "42"


# --- where it may stand -------------------------------------------------------------------------------


class Repository:
    def __init__(self, name: str) -> None:
        self.name = name
        self.runs = 0

    @cached(key="repository:<x>", ttl=60)
    async def without_self(self, x: int) -> tuple[int, str]:
        self.runs += 1
        return (x, self.name)

    @cached(key="repository:<self.name>:<x>", ttl=60)
    async def with_self(self, x: int) -> tuple[int, str]:
        self.runs += 1
        return (x, self.name)

    @cached(key="class:<cls.__name__>:<x>", ttl=60)
    @classmethod
    async def of_class(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    @cached(key="static:<x>", ttl=60)
    @staticmethod
    async def static(x: int) -> int:
        return x

    @staticmethod
    @cached(key="inner:<x>", ttl=60)
    async def static_outside(x: int) -> int:
        return x

    @cached(key="hidden:<self.name>:<x>", ttl=60)
    async def __hidden(self, x: int) -> tuple[int, str]:
        return (x, self.name)

    @property
    def hidden(self) -> Any:
        return self.__hidden

    @invalidates("repository:<self.name>:<x>")
    async def write(self, x: int) -> int:
        return x

    @invalidates("class:<cls.__name__>:<x>")
    @classmethod
    async def write_class(cls, x: int) -> str:
        return cls.__name__


class Special(Repository):
    pass


async def test_methods_are_cached_per_argument_and_self_counts_only_when_named(cache: Cache) -> None:
    a, b = Repository("a"), Repository("b")
    with using(cache):
        assert await a.without_self(1) == await b.without_self(1) == (1, "a")
        assert [await a.with_self(1), await b.with_self(1), await a.with_self(1)] == [(1, "a"), (1, "b"), (1, "a")]
        assert (a.runs, b.runs) == (2, 1)
        assert a.with_self.key(1) == "repository:a:1"
        assert await a.with_self.peek(1) == (1, "a")
        assert await Repository.write(a, 1) == await a.write(1) == 1
        assert await a.with_self.peek(1) is MISS
        assert await b.with_self.peek(1) == (1, "b")
        assert await Repository.with_self(b, 1) == (1, "b")


class Tables:
    table = "?"

    @cached(ttl=60)
    @classmethod
    async def first(cls) -> str:
        return cls.table

    @cached(ttl=60)
    @staticmethod
    async def double(x: int) -> int:
        return 2 * x

    @staticmethod
    @cached(ttl=60)
    async def triple(x: int) -> int:
        return 3 * x


class Users(Tables):
    table = "users"


class Orders(Tables):
    table = "orders"


def tables(name: str) -> type[Tables]:
    class Made(Tables):
        table = name

    return Made


async def test_subclasses_that_inherit_a_classmethod_do_not_share_its_results(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    with using(cache):
        for _ in range(2):
            assert [await kind.first() for kind in (Tables, Users, Orders)] == ["?", "users", "orders"]
            assert await Orders().first() == "orders"
        assert await Users.first.peek() == "users"
        assert Users.first.key() == f"{__name__}.Tables.first:cls='{__name__}.Users"
        assert not caplog.records
        assert [await tables(name).first() for name in ("a", "b")] == ["a", "b"]
        assert len(caplog.records) == 1, "the classes of a factory share a name, so they share no key"
        assert await Users.double(2) == await Orders.double.peek(2) == 4
        assert await Users.triple(2) == await Orders.triple.peek(2) == 6


def test_a_method_without_a_template_is_refused_whatever_its_first_parameter_is_called() -> None:
    class_body = "class Shop:\n @cached(ttl=60)\n async def price({}, sku): ..."
    for first in ("self", "this", "_self"):
        with pytest.raises(DecorationError, match=f'write key="Shop.price:<{first}.id>:<sku>"'):
            exec(class_body.format(first), {"cached": cached, "__name__": "shop"})
    # Python 3.11 wraps what goes wrong at the end of the class.
    with pytest.raises((DecorationError, RuntimeError)) as refusal:
        exec(class_body.format("shop"), {"cached": cached, "__name__": "shop"})
    error = refusal.value if isinstance(refusal.value, DecorationError) else refusal.value.__cause__
    assert isinstance(error, DecorationError)
    assert 'write key="Shop.price:<shop.id>:<sku>"' in str(error)


async def test_classmethods_and_staticmethods_are_cached_and_bind_as_before(cache: Cache) -> None:
    with using(cache):
        assert await Repository.of_class(1) == "Repository1"
        assert await Special.of_class(1) == await Special("x").of_class(1) == "Special1"
        assert Special.of_class.key(1) == Special("x").of_class.key(1) == "class:Special:1"
        assert await Special.of_class.peek(1) == "Special1"
        assert await Special.write_class(1) == "Special"
        assert await Special.of_class.peek(1) is MISS
        assert await Repository.of_class.peek(1) == "Repository1"
        for function in (Repository.static, Repository("x").static, Repository.static_outside):
            assert await function(3) == 3
            assert await function.peek(3) == 3


async def test_inspection_of_a_decorated_function_shows_the_function() -> None:
    async def plain(a: int, b: str = "x") -> int:
        """Its docstring."""
        return a

    decorated = cached(key="plain:<a>", ttl=60)(plain)
    writing = invalidates("k")(plain)
    for wrapped in (decorated, writing):
        assert inspect.signature(wrapped) == inspect.signature(plain)
        assert wrapped.__doc__ == "Its docstring."
        assert wrapped.__qualname__ == plain.__qualname__
        assert wrapped.__wrapped__ is plain  # type: ignore[attr-defined]
        assert inspect.iscoroutinefunction(wrapped)
        assert typing.get_type_hints(wrapped) == typing.get_type_hints(plain)
    bound = Repository("a").with_self
    assert inspect.iscoroutinefunction(bound)
    assert list(inspect.signature(bound).parameters) == ["x"]


@cached(key="square:<x>", ttl=60)
async def square(x: int, *, times: int = 1) -> int:
    return x * x * times


@square.puts
async def set_square(x: int) -> int:
    return x


@square.many(each="numbers")
async def squares(numbers: list[int], *, times: int = 1) -> dict[int, int]:
    return {x: x * x * times for x in numbers}


@cached(key="tagged:<x>", ttl=60, tags=["squares"])
async def tagged_square(x: int) -> int:
    return x * x


@invalidates("square:<x>")
async def forget_square(x: int) -> None: ...


@cached(key="filters", ttl=60)
async def filters(**filters: int) -> dict[str, int]:
    return filters


@invalidates("filters")
async def set_filters(**filters: int) -> dict[str, int]:
    return filters


@pytest.mark.parametrize(
    "function", [square, set_square, squares, tagged_square, forget_square, Repository("a").with_self], ids=shown
)
@pytest.mark.parametrize("by_name", [False, True], ids=["by position", "by name"])
def test_python_names_the_function_when_the_await_is_forgotten(function: Any, by_name: bool) -> None:
    first = next(iter(inspect.signature(function).parameters))
    arguments: dict[str, Any] = {first: [1]} if function is squares else {first: 1}
    name = f"{__name__}.{function.__qualname__}"
    with pytest.warns(RuntimeWarning, match=f"coroutine '{re.escape(name)}' was never awaited"):
        function(**arguments) if by_name else function(*arguments.values())


@dataclasses.dataclass
class Job:
    run: Any


@pytest.mark.parametrize(
    "function", [square, forget_square, Repository.with_self, Repository.static, Repository.static_outside], ids=shown
)
def test_a_decorated_function_is_pickled_and_copied_by_its_name(function: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) is function
    assert copy.copy(function) is function
    assert copy.deepcopy(Job(function)).run is function


def test_a_function_that_its_name_does_not_find_is_refused_by_pickle_as_any_other() -> None:
    @cached(key="local", ttl=60)
    async def local() -> int:
        return 1

    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(local)
    assert copy.deepcopy(Job(local)).run is local


@pytest.mark.parametrize("name", ["with_self", "write", "hidden"])
async def test_a_bound_method_is_pickled_and_copied_with_its_instance(cache: Cache, name: str) -> None:
    repository = Repository("a")
    method = getattr(repository, name)
    assert copy.copy(method).__self__ is repository
    for made in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):
        assert type(made) is type(method)
        assert made.__self__ is not repository
        assert made.__self__.name == "a"
        with using(cache):
            assert await made(1) == await method(1)


def test_the_method_of_a_class_is_pickled_with_the_class() -> None:
    for method in (Special.of_class, Special("x").of_class):
        assert pickle.loads(pickle.dumps(method)).key(1) == "class:Special:1"
        assert copy.deepcopy(method).key(1) == copy.copy(method).key(1) == "class:Special:1"


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (square, (), {}),
        (square, (1, 2), {}),
        (square, (), {"y": 1}),
        (forget_square, (), {}),
        (Repository("a").with_self, (), {}),
        (Repository("a").write, (1, 2), {}),
        (Repository.with_self, (), {}),
        (Special.of_class, (1, 2), {}),
    ],
    ids=shown,
)
def test_a_wrong_call_fails_at_the_call_with_the_text_of_the_function(
    function: Any, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    with pytest.raises(TypeError, match=r"^[\w.]+\(\) (missing|takes|got an unexpected)") as refusal:
        function(*args, **kwargs)
    assert refusal.value.__context__ is None
    if not inspect.ismethod(function.__wrapped__):
        with pytest.raises(TypeError) as plain:
            function.__wrapped__(*args, **kwargs)
        assert str(plain.value) == str(refusal.value)


async def test_an_argument_by_name_may_have_any_name() -> None:
    with using(memory_cache()):
        names: dict[str, int] = {"self": 1, "args": 2, "plan": 3, "runtime": 4}
        assert await filters(**names) == await filters.refresh(**names) == await filters.peek(**names) == names
        assert filters.key(**names) == "filters"
        assert await set_filters(**names) == names
        assert await filters.take(**names) is MISS
        assert await filters.invalidate(**names)


async def test_an_argument_that_changes_before_the_call_is_awaited_has_the_key_of_its_new_value(cache: Cache) -> None:
    @cache.cached(key="sum:<numbers>", ttl=60)
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    numbers = [1]
    call = total(numbers)
    numbers.append(2)
    assert await call == 3
    assert await total([1]) == 1


def refused(decorator: Any, function: Any) -> str:
    with pytest.raises(DecorationError) as refusal:
        decorator(function)
    assert isinstance(refusal.value, TypeError)
    return str(refusal.value)


def test_an_object_that_cannot_be_decorated_is_refused_with_the_text_to_write() -> None:
    def sync() -> int:
        return 1

    async def generator() -> AsyncIterator[int]:
        yield 1

    for decorator in (cached(ttl=1), invalidates("k")):
        assert "async def" in refused(decorator, sync)
        assert "list" in refused(decorator, generator)
        assert "async def" in refused(decorator, 5)
    assert "with its parentheses" in refused(lambda f: cached(f, ttl=1), sync)
    assert "@invalidates(" in refused(invalidates, sync)
    assert "@invalidates(" in refused(invalidates(), generator_free)

    def define() -> None:
        class Below:
            @classmethod
            @cached(ttl=1)
            async def of_class(cls) -> int:
                return 1

    with pytest.raises(DecorationError, match="above @classmethod"):
        define()

    assert cached(ttl=1)(no_method).key("x").endswith(":cls='x"), "a parameter like any other, where there is no class"


async def no_method(cls: str) -> str:
    return cls


async def generator_free() -> int:
    return 1


@pytest.mark.parametrize(
    "template", ["profile:<nobody>", "a<b", "<x.>", "", "a b", "{<x>}", "<return.id>", "f:{x}", "f:{x.y}"]
)
def test_a_template_that_makes_no_sense_is_refused_at_decoration(template: str) -> None:
    async def function(x: int) -> int:
        return x

    message = refused(cached(template, ttl=1), function)
    assert repr(template) in message
    assert '"' in message or "<x>" in message, "it shows a valid form"


@pytest.mark.parametrize("ttl", [0, -1, True, None, "soon", "10 m", float("nan"), float("inf"), "1e9w"])
def test_a_ttl_that_makes_no_sense_is_refused_at_decoration(ttl: Any) -> None:
    async def function() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="ttl=") as refusal:
        cached(ttl=ttl)(function)
    assert repr(ttl) in str(refusal.value)
    assert '"10m"' in str(refusal.value)


@pytest.mark.parametrize(
    "settings", [{"jitter": 1}, {"jitter": -0.1}, {"jitter": "a lot"}, {"when": 5}, {"strict": 1}, {"max_bytes": 0}]
)
def test_other_settings_that_make_no_sense_are_refused_at_decoration(settings: dict[str, Any]) -> None:
    async def function() -> int:
        return 1

    (name,) = settings
    with pytest.raises(ConfigurationError, match=f"{name}="):
        cached(ttl=1, **settings)(function)


class AsyncAnswer:
    async def __call__(self, result: object) -> bool:
        return True

    async def method(self, result: object, _: int = 1) -> bool:
        return True


class StaticAnswer:
    @staticmethod
    async def __call__(result: object) -> bool:
        return True


def answers_one_by_one(result: object) -> Iterator[bool]:
    yield False


@pytest.mark.parametrize("option", ["when", "ttl"])
def test_an_option_that_is_asked_cannot_be_a_generator(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} is a generator.*write a plain function: {option}="):
        cached(key="k", **{"ttl": 60, option: answers_one_by_one})


async def async_answers(result: object) -> AsyncIterator[bool]:
    yield True


@pytest.mark.parametrize("option", ["when", "ttl"])
@pytest.mark.parametrize(
    "answer",
    [
        AsyncAnswer().method,
        AsyncAnswer(),
        functools.partial(AsyncAnswer()),
        functools.partial(functools.partial(AsyncAnswer().method), _=2),
        async_answers,
        StaticAnswer(),
    ],
    ids=["method", "object", "partial of an object", "partial", "generator", "object with a static method"],
)
def test_an_option_that_is_asked_and_not_awaited_cannot_be_async(option: str, answer: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} is an `async def`.*write a plain function: {option}="):
        cached(key="k", **{"ttl": 60, option: answer})


async def test_an_annotation_that_cannot_be_resolved_is_reported_once_and_plain_json_is_cached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = 0

    @memory_cache().cached(key="k", ttl=60)
    async def function() -> OnlyForCheckers:  # type: ignore[name-defined]  # noqa: F821
        nonlocal runs
        runs += 1
        return {"plain": "json"}

    assert await function() == await function() == {"plain": "json"}
    assert runs == 1
    assert "NameError" in caplog.text
    assert len(caplog.records) == 1


async def test_the_codec_of_a_function_is_made_once() -> None:
    @memory_cache().cached(key="k", ttl=60)
    async def function() -> Point:
        return Point(1, "a")

    plan = function._self_plan
    made = plan.built_codec
    assert made is not None, "at decoration"
    await function()
    await function.refresh()
    await function.peek()
    assert plan.built_codec is made


async def test_an_annotation_may_name_a_type_that_is_defined_further_down() -> None:
    @memory_cache().cached(key="k", ttl=60)
    async def function() -> DefinedBelow:
        return DefinedBelow(1)

    assert await function() == await function() == DefinedBelow(1)
    assert type(await function()) is DefinedBelow


async def test_an_annotation_may_name_a_type_that_is_there_by_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    @memory_cache().cached(key="k", ttl=60)
    async def function() -> Later:  # type: ignore[name-defined]  # noqa: F821
        return Point(1, "a")

    monkeypatch.setitem(globals(), "Later", Point)
    assert await function() == await function() == Point(1, "a")
    assert type(await function.peek()) is Point


async def test_a_parameter_that_only_checkers_know_leaves_the_return_annotation_in_use() -> None:
    @memory_cache().cached(key="k", ttl=60)
    async def function(session: OnlyForCheckers | None = None) -> Point:  # type: ignore[name-defined]  # noqa: F821
        return Point(1, "a")

    assert await function() == await function() == Point(1, "a")
    assert type(await function.peek()) is Point


class Opaque:
    """A class that no JSON says how to build."""


def returns(annotation: Any) -> Any:
    async def function() -> Any:
        return {"plain": "json"}

    function.__annotations__["return"] = annotation
    return function


UNUSABLE = [Opaque, list[Opaque], dict[str, tuple[Opaque, ...]], complex | Callable[[], int]]


@pytest.mark.parametrize("annotation", UNUSABLE, ids=str)
async def test_an_annotation_that_cannot_be_used_is_reported_at_decoration_with_the_reason(
    annotation: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = memory_cache()
    events: list[Event] = []
    cache.observe(events.append)
    function = cache.cached(key="k", ttl=60)(returns(annotation))
    (record,) = caplog.records
    assert "its return annotation cannot be used (TypeError: " in record.getMessage()
    assert await function() == await function() == {"plain": "json"}
    assert len(caplog.records) == 1
    assert [event for event in events if isinstance(event, Uncached)] == [
        Uncached(record.getMessage().split()[0], "annotation")
    ]


async def test_a_result_of_an_annotation_that_cannot_be_used_has_no_warning_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = memory_cache()
    events: list[Event] = []
    cache.observe(events.append)

    @cache.cached(key="k", ttl=60)
    async def function() -> Opaque:
        return Opaque()

    await function()
    (record,) = caplog.records
    assert "its return annotation cannot be used" in record.getMessage()
    assert [event.reason for event in events if isinstance(event, NotStored)] == ["round trip"]


async def test_the_warning_of_a_value_by_hand_speaks_of_no_function_to_annotate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not await memory_cache().set("k", Opaque(), ttl=60)
    (record,) = caplog.records
    assert record.getMessage().startswith("cache.set is not cached: a value of type Opaque")
    assert "annotate" not in record.getMessage()


@pytest.mark.parametrize("annotation", UNUSABLE, ids=str)
def test_strict_makes_an_annotation_that_cannot_be_used_an_error_at_decoration(annotation: Any) -> None:
    with pytest.raises(DecorationError, match=r"cannot be used \(TypeError: .*strict=True"):
        memory_cache().cached(key="k", ttl=60, strict=True)(returns(annotation))


async def test_strict_makes_a_type_that_is_never_defined_an_error_of_the_first_call() -> None:
    runs = 0

    @memory_cache().cached(key="k", ttl=60, strict=True)
    async def function() -> OnlyForCheckers:  # type: ignore[name-defined]  # noqa: F821
        nonlocal runs
        runs += 1

    for _ in range(2):
        with pytest.raises(DecorationError, match=r"NameError: name 'OnlyForCheckers' is not defined"):
            await function()
    assert runs == 0


async def test_strict_makes_a_result_that_would_not_come_back_an_error_to_every_caller(cache: Cache) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @cache.cached(key="k", ttl=60, strict=True)
    async def rows() -> list[Any]:
        began.set()
        await go_on.wait()
        return [{"at": NOW}]

    callers = [asyncio.ensure_future(rows()) for _ in range(3)]
    await began.wait()
    await asyncio.sleep(0)
    go_on.set()
    for failure in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(failure, RoundTripError)
        assert "[0].values()[0]: datetime became str" in str(failure)
    assert await rows.peek() is MISS


async def test_a_result_that_is_too_large_is_returned_and_not_stored_with_one_warning(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    cache.observe(events.append)

    @cache.cached(key="k:<size>", ttl=60)
    async def text(size: int) -> str:
        return "x" * size

    most = 1024 * 1024 - len('""')
    assert len(await text(most)) == most
    assert await text.peek(most) is not MISS
    for _ in range(2):
        assert len(await text(most + 1)) == most + 1
    assert await text.peek(most + 1) is MISS
    (record,) = caplog.records
    assert "a value has 1,048,577 bytes of JSON, more than max_bytes=1_048_576" in record.getMessage()
    assert [event.reason for event in events if isinstance(event, NotStored)] == ["size", "size"]


async def test_a_function_may_have_a_bound_of_its_own_for_the_size_of_its_results(cache: Cache) -> None:
    @cache.cached(key="more:<size>", ttl=60, max_bytes=2_000_000)
    async def more(size: int) -> str:
        return "x" * size

    @cache.cached(key="less:<size>", ttl=60, max_bytes=100)
    async def less(size: int) -> str:
        return "x" * size

    assert len(await more(1_900_000)) == 1_900_000
    assert await more.peek(1_900_000) is not MISS
    assert await less(99) == "x" * 99
    assert await less.peek(99) is MISS


async def test_what_is_set_or_pushed_by_hand_has_the_bound_of_the_cache() -> None:
    cache = Cache("memory://", max_bytes=100)
    assert not await cache.set("k", "x" * 99, ttl=60)
    assert await cache.set("k", "x" * 98, ttl=60)
    window = RollingWindow(cache, "w", limit=5, ttl=60)
    assert not await window.push({"text": "x" * 99})
    assert await window.recent(5) == []


async def test_strict_changes_nothing_for_a_result_that_comes_back(cache: Cache) -> None:
    @cache.cached(key="k", ttl=60, strict=True)
    async def profile() -> Profile:
        return Profile("42", [("recieve", 3)], NOW)

    assert await profile() == await profile() == await profile.peek()


async def test_the_warning_about_a_result_names_the_place_in_which_it_would_change(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    @cache.cached(key="k", ttl=60)
    async def tree() -> Tree:
        return Tree(None, [Tree(None), Tree(None), Tree(None), Tree(NOW)])

    for _ in range(3):
        await tree()
    (record,) = caplog.records
    assert ".children[3].at: datetime became str" in record.getMessage()
    assert "2026" not in record.getMessage()


@dataclasses.dataclass
class Tree:
    at: Any
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class DefinedBelow:
    x: int


# --- functions that share keys ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unnamed", "unnamed_of_class"])
def test_a_bound_method_needs_a_template(cache: Cache, name: str) -> None:
    method = getattr(Shelf(1), name)
    with pytest.raises(DecorationError, match=rf'bound method Shelf.{name} .* write key="Shelf.{name}:<x>"'):
        cache.cached(ttl=60)(method)
    assert cache.cached(key="shelf:1:<x>", ttl=60)(method).key(2) == "shelf:1:2"


class Shelf:
    def __init__(self, number: int) -> None:
        self.number = number

    async def unnamed(self, x: int) -> int:
        return self.number + x

    @classmethod
    async def unnamed_of_class(klass, x: int) -> str:  # noqa: N804 - any name will do
        return klass.__name__


async def by_user(user: str) -> int:
    return 1


async def by_id(user_id: str) -> Profile:
    return Profile(user_id, [], NOW)


async def also_by_id(user_id: str) -> Profile:
    return Profile(user_id, [], NOW)


def test_two_functions_that_share_keys_and_not_types_are_told_at_decoration_and_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, other = Cache("memory://"), Cache("memory://")
    kept = [cache.cached(key="user:<user>", ttl=60)(by_user), other.cached(key="user:<user_id>", ttl=60)(by_id)]
    assert not caplog.records, "each has a cache of its own"
    kept += [cache.cached(key="user:<user_id>", ttl=60)(by_id) for _ in range(3)]
    assert len(caplog.records) == 1
    for text in ("by_user and", "by_id share keys ('user:<user>' and 'user:<user_id>')", "another key="):
        assert text in caplog.text


def test_functions_that_share_keys_and_types_on_purpose_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache("memory://")
    kept = [cache.cached(key="user:<user_id>", ttl=60)(function) for function in (by_id, also_by_id, by_id)]
    kept.append(cache.cached(key="users:<user>", ttl=60)(by_user))
    assert not caplog.records


def renamed(table: str) -> Any:
    @functools.wraps(by_id)
    async def read(user_id: str) -> Profile:
        return Profile(table, [], NOW)

    return read


def test_a_second_wrapper_of_one_function_needs_a_template() -> None:
    cache = Cache("memory://")
    cache.cached(ttl=60)(renamed("users"))
    cache.cached(ttl=60)(renamed("users"))
    for other in (renamed("orders"), by_id):
        with pytest.raises(DecorationError, match=r'another wrapper of this function .* write key="by_id:'):
            cache.cached(ttl=60)(other)
    kept = cache.cached(key="orders:<user_id>", ttl=60)(renamed("orders"))
    assert kept.key("1") == "orders:1"
    other_cache = Cache("memory://")
    other_cache.cached(ttl=60)(other_cache.cached(ttl=60)(renamed("orders")))


def test_a_function_that_is_gone_shares_its_keys_with_nobody(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache("memory://")
    seen = weakref.ref(cache.cached(key="user:<user>", ttl=60)(by_user)._self_plan)
    gc.collect()
    assert seen() is None, "the cache keeps no function alive"
    stays = cache.cached(key="users:<user_id>", ttl=60)(by_id)
    seen = weakref.ref(cache.cached(key="users:<user_id>", ttl=60)(also_by_id)._self_plan)
    gc.collect()
    assert seen() is None, "nor does a function that shares its keys"
    assert stays.key("1") == "users:1"
    kept = cache.cached(key="user:<user_id>", ttl=60)(by_id)
    assert not caplog.records
    assert kept.key("1") == "user:1"


# --- invalidates --------------------------------------------------------------------------------------


async def test_invalidates_acts_after_a_normal_return_and_not_after_an_exception(cache: Cache) -> None:
    @cache.cached(key="profile:<user_id>", ttl=60)
    async def profile(user_id: str) -> int:
        return 1

    @cache.invalidates("profile:<user_id>", "also:<user_id>")
    async def write(user_id: str, *, fail: bool) -> str:
        assert await profile.peek(user_id) == 1, "not before it returned"
        if fail:
            raise LookupError
        return "written"

    await profile("42")
    with pytest.raises(LookupError):
        await write("42", fail=True)
    assert await profile.peek("42") == 1
    assert await write("42", fail=False) == "written"
    assert await profile.peek("42") is MISS


async def test_invalidates_may_name_the_result(cache: Cache) -> None:
    await cache.set("user:7", 1, ttl=60)
    await cache.set("user:8", 1, ttl=60)

    @cache.invalidates("user:<return.x>", "user:<return[0]>")
    async def create(x: int) -> Point:
        return Point(x, "a")

    assert await create(7) == Point(7, "a")
    assert [await cache.get("user:7"), await cache.get("user:8")] == [None, 1]


@pytest.mark.parametrize("ids", [7, "78", (one for one in "78")], ids=["number", "text", "iterator"])
async def test_invalidates_for_each_element_needs_a_collection(
    cache: Cache, caplog: pytest.LogCaptureFixture, ids: Any
) -> None:
    events: list[Event] = []
    cache.observe(events.append)
    await cache.set("user:7", 1, ttl=60)

    @cache.invalidates("user:<*ids>")
    async def write(ids: Any) -> str:
        return "written"

    assert await write(ids) == "written"
    assert await cache.get("user:7") == 1
    assert [text for text in caplog.messages if "needs a collection" in text]
    assert not [event for event in events if isinstance(event, Invalidated)], "nothing was sent"


async def test_invalidates_for_elements_that_cannot_be_read_says_so(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    class Lazy(list[int]):
        def __iter__(self) -> Any:
            raise ConnectionError("SECRET")

    @cache.invalidates("user:<*ids>", always=True)
    async def write(ids: list[int]) -> None:
        raise LookupError

    events: list[Event] = []
    cache.observe(events.append)
    with pytest.raises(LookupError):
        await write(Lazy())
    [text] = [text for text in caplog.messages if "cannot be read (ConnectionError)" in text]
    assert "SECRET" not in text
    assert not [event for event in events if isinstance(event, Invalidated)], "nothing was sent"


def test_invalidates_refuses_a_pattern_at_decoration() -> None:
    message = refused(invalidates("posts:1", "posts:*"), generator_free)
    assert "'posts:*'" in message
    assert "write one key for each call" in message


@pytest.mark.parametrize("pattern", ["posts:ann:*", "*", "posts:ann?"])
async def test_a_pattern_is_deleted_by_nobody_and_acknowledged_to_nobody(
    cache: Cache, caplog: pytest.LogCaptureFixture, pattern: str
) -> None:
    events: list[Event] = []
    cache.observe(events.append)
    await cache.set("posts:ann:1", 1, ttl=60)
    async with cache.after_commit():
        assert await cache.delete(pattern) is False
    with using(cache):
        assert await cache_delete(pattern) is False
    assert await cache.get("posts:ann:1") == 1
    assert not [event for event in events if isinstance(event, Invalidated)]
    assert len(caplog.records) == 1
    assert "no pattern and matches nothing; write one key for each call" in caplog.text


async def test_an_invalidation_whose_key_cannot_be_rendered_is_reported_and_the_others_go_on(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    cache.observe(events.append)
    await cache.set("b", 1, ttl=60)

    @cache.invalidates("a:<x>", "b")
    async def write(x: object) -> int:
        return 1

    assert await write(object()) == 1
    assert await cache.get("b") is None
    assert "did not invalidate 'a:<x>'" in caplog.text
    assert Uncached(f"{__name__}.{write.__qualname__}", "argument") in events
    assert Invalidated(("b",), acknowledged=True) in bare(events)


async def test_an_invalidation_of_many_keys_is_one_command(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:

        @cache.invalidates("a:<x>", "b:<x>", "c:<x>")
        async def write(x: int) -> None: ...

        await write(1)
        redis_server.cli("CONFIG", "RESETSTAT")
        await write(1)
    assert redis_server.cli("INFO", "commandstats")["cmdstat_unlink"]["calls"] == 1


# --- events -------------------------------------------------------------------------------------------


async def test_observers_get_every_event_until_they_are_stopped(cache: Cache) -> None:
    events: list[Event] = []
    stop = cache.observe(events.append)

    @cache.cached(key="k", ttl=60)
    async def one() -> int:
        return 1

    await one()
    await one()
    await one.invalidate()
    stop()
    await one()
    assert bare(events) == [
        Missed("k", ""),
        LoadBegan(("k",), ""),
        Loaded("k", "", 0.0),
        Filled("k", "", 60.0),
        Hit("k", ""),
        Invalidated(("k",), acknowledged=True),
    ]
    assert {getattr(event, "function", None) for event in events} == {f"{__name__}.{one.__qualname__}"}
    assert all(event.seconds >= 0 for event in events if not isinstance(event, LoadBegan))


async def test_an_observer_that_raises_breaks_nothing_and_is_reported_once(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []

    def broken(event: Event) -> None:
        message = "a secret of the observer"
        raise ValueError(message)

    cache.observe(broken)
    cache.observe(events.append)

    @cache.cached(key="k", ttl=60)
    async def one() -> int:
        return 1

    assert [await one() for _ in range(5)] == [1] * 5
    assert len(events) > 5
    assert len(caplog.records) == 1
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_configure_returns_the_cache_that_the_module_level_functions_use() -> None:
    configured = configure("memory://", prefix="x:")
    assert default_cache() is configured
