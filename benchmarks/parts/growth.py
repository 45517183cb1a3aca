"""Growth: the cost of a hit as callers, values and keys grow, and by kind of value, against by hand."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import random
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
import orjson
from pydantic import BaseModel
from redis.asyncio import Redis

from benchmarks.charts import Bars, Chart, Curves
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, Rounds, Run, many_callers, measured, one_caller, ratio
from benchmarks.work import DOCUMENT, JSON, TTL, by_hand, document_of, load, near_cache, until_near, zipf
from cachekit import Cache

CALLERS: Final = (1, 10, 100, 1000)
SIZES: Final = (100, 1_000, 10_000, 100_000)
KEYS: Final = (10, 100, 1_000, 10_000, 100_000)
PREFIX: Final = "growth:"

Found: TypeAlias = dict[str, tuple[Rounds, Rounds]]
"""Ours, and by hand, of each value of the variable."""

Call: TypeAlias = Callable[[int], Awaitable[Any]]

Value: TypeAlias = tuple[Any, Any, Callable[[bytes], Any]]
"""A value, its annotation, and how it is decoded by hand."""

HEADS: Final = (
    ("Hits by concurrent callers", "callers", ""),
    ("Hits by size of the value, one caller", "value", ""),
    ("Hits by kind of the value, 1 KB, one caller", "kind", "by hand: orjson, msgspec, pydantic"),
    ("Hits by number of keys, evenly asked for, one caller", "keys", ""),
    ("Hits by number of keys, asked for by Zipf 0.9, one caller", "keys", ""),
)
"""Title, first column and note of the tables."""

DICT: Final[Value] = (DOCUMENT, dict[str, Any], orjson.loads)


@dataclasses.dataclass
class Error:
    """One error of a profile."""

    word: str
    kind: str
    count: int
    seen: bool


@dataclasses.dataclass
class Profile:
    """The document as dataclasses."""

    user_id: str
    errors: list[Error]
    score: float


class ErrorModel(BaseModel):
    """One error of a profile, as a model."""

    word: str
    kind: str
    count: int
    seen: bool


class ProfileModel(BaseModel):
    """The document as models."""

    user_id: str
    errors: list[ErrorModel]
    score: float


async def measure(bench: Bench) -> Section:
    """Measure all of it."""
    counts = [n for n in KEYS if not bench.quick or n <= 1000]
    callers, sizes, kinds = await _callers(bench), await _sizes(bench), await _kinds(bench)
    uniform, popular = await _keys(bench, counts)
    tables = {"callers": callers, "sizes": sizes, "kinds": kinds, "keys": uniform, "keys by Zipf": popular}
    sheets = [_sheet(*heads, found) for heads, found in zip(HEADS, tables.values(), strict=True)]
    charts = [
        _curves("callers", "concurrent callers, distinct keys", CALLERS, {"": callers}, "with {} callers"),
        _curves("sizes", "bytes of JSON", SIZES, {"": sizes}, "on {}"),
        _bars(kinds),
        _curves("keys", "keys that are asked for", counts, {"": uniform, ", Zipf": popular}, "among {} keys"),
    ]
    data = {name: {key: _us(pair) for key, pair in found.items()} for name, found in tables.items()}
    about = "each against GET and decoding by hand, one variable at a time; 1 KB and one caller unless told otherwise."
    return Section("growth", "Growth", about, [*sheets, await _near_memory(bench)], data, charts)


async def _calls(
    stack: AsyncExitStack, url: str, value: Value = DICT, *, prefix: str = PREFIX, callers: int = 1
) -> tuple[Call, Call]:
    """Connect; return a decorated function that returns the value, and one that reads the same keys by hand."""
    result, annotation, decode = value

    async def load(number: int) -> Any:  # noqa: ARG001 - it is part of the key
        return result

    load.__annotations__["return"] = annotation
    cache = await stack.enter_async_context(Cache(url, prefix=prefix, timeout=5))
    client = await stack.enter_async_context(by_hand(url, callers=callers))

    async def get(number: int) -> Any:
        found: Any = await client.get(f"{prefix}{number}")
        return decode(found)

    return cache.cached(key="<number>", ttl=TTL)(load), get


async def _pairs(bench: Bench, what: str, pairs: Mapping[str, Sequence[Run]], calls: int) -> Found:
    """Measure all of ``pairs``, ours and by hand, in turn: so that other work does not bend a curve."""
    runs = {
        f"{who} {name}": run for name, pair in pairs.items() for who, run in zip(("ours", "theirs"), pair, strict=True)
    }
    found = await bench.interleaved(f"growth: {what}", runs, calls=calls, most=25)
    return {name: (measured(found[f"ours {name}"]), measured(found[f"theirs {name}"])) for name in pairs}


async def _callers(bench: Bench) -> Found:
    async with AsyncExitStack() as stack:
        calls = await _calls(stack, bench.url, callers=CALLERS[-1])
        for number in range(CALLERS[-1]):
            await calls[0](number)
        return await _pairs(
            bench, "callers", {f"{n:,}": [many_callers(n, call) for call in calls] for n in CALLERS}, 1000
        )


async def _sizes(bench: Bench) -> Found:
    values = {f"{n:,} B": (document_of(n), *DICT[1:]) for n in SIZES}
    return await _values(bench, "sizes", values)


async def _kinds(bench: Bench) -> Found:
    model = ProfileModel.model_validate(DOCUMENT)
    values: dict[str, Value] = {
        "dict": DICT,
        "dataclass": (msgspec.convert(DOCUMENT, Profile), Profile, msgspec.json.Decoder(Profile).decode),
        "pydantic": (model, ProfileModel, ProfileModel.model_validate_json),
    }
    return await _values(bench, "kinds", values)


async def _values(bench: Bench, what: str, values: Mapping[str, Value]) -> Found:
    async with AsyncExitStack() as stack:
        pairs: dict[str, Sequence[Run]] = {}
        for number, (name, value) in enumerate(values.items()):
            calls = await _calls(stack, bench.url, value, prefix=f"{what}-{number}:")
            await calls[0](0)
            pairs[name] = [one_caller(partial(call, 0)) for call in calls]
        return await _pairs(bench, what, pairs, 200)


async def _keys(bench: Bench, counts: list[int]) -> tuple[Found, Found]:
    """Ask for more and more keys, for all of them evenly, and by Zipf."""
    async with AsyncExitStack() as stack:
        await _store(await stack.enter_async_context(by_hand(bench.url)), counts[-1])
        calls = await _calls(stack, bench.url)
        dice = random.Random(7)
        pairs: dict[str, Sequence[Run]] = {}
        for keys in counts:
            asked = {"even": [dice.randrange(keys) for _ in range(10_000)], "Zipf": zipf(keys, 10_000)}
            for how, numbers in asked.items():
                pairs[f"{how} {keys:,}"] = [_each(call, numbers) for call in calls]
        found = await _pairs(bench, "keys", pairs, 200)
    uniform, popular = ({f"{n:,}": found[f"{how} {n:,}"] for n in counts} for how in ("even", "Zipf"))
    return uniform, popular


async def _store(client: Redis, keys: int) -> None:
    # No load is needed for each: the value in Redis is plain JSON, at the documented key.
    for begin in range(0, keys, 1000):
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(begin, min(keys, begin + 1000)):
                pipeline.set(f"{PREFIX}{number}", JSON, ex=TTL)
            await pipeline.execute()


def _each(call: Call, numbers: list[int]) -> Run:
    """Return a run of one call after the other, each with the next of ``numbers``."""
    following = itertools.cycle(numbers)
    return one_caller(lambda: call(next(following)))


async def _near_memory(bench: Bench) -> Sheet:
    """Count the bytes of each near entry, with all that belongs to it."""
    title = "Memory of a near entry, 1 KB dict"
    entries = 100 if bench.quick else 2000
    # The first tier stores all values; the entries of the second are read, and counted.
    await _filled(bench, entries)
    each = await _filled(bench, entries) / entries
    return Sheet(title, ("", "bytes an entry"), [(f"{entries} entries", f"{each:,.0f}")], "traced by tracemalloc")


async def _filled(bench: Bench, entries: int) -> int:
    """Fill a near tier; return how many bytes that took."""
    async with near_cache(bench.url, entries=entries + 1) as cache:
        document = cache.cached(key="memory:<number>", ttl=TTL)(load)
        await until_near(cache, partial(document, -1))
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(entries):
                await document(number)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()


def _us(pair: tuple[Rounds, Rounds]) -> dict[str, float]:
    """Return the medians."""
    return {"cachekit_us": statistics.median(pair[0]), "by_hand_us": statistics.median(pair[1])}


def _sheet(title: str, first: str, note: str, found: Found) -> Sheet:
    rows = [
        (name, *(f"{us:.1f}" for us in _us(pair).values()), f"{ratio(*pair):.2f} x") for name, pair in found.items()
    ]
    return Sheet(title, (first, "cachekit, us", "by hand, us", "time"), rows, note)


def _curves(name: str, x: str, xs: Sequence[int], variants: Mapping[str, Found], where: str) -> Chart:
    """Return the chart of ``variants``, which are the endings of names; ``where`` describes one of ``xs``."""
    found = variants[""]
    ends = [(where.format(key), ratio(*found[key])) for key in (next(iter(found)), next(reversed(found)))]
    said = ", ".join(f"{times:.2f} x {place}" for place, times in ends).replace(" 1 callers", " 1 caller")
    curves = {
        f"{who}{variant}": (xs, [_us(pair)[key] for pair in each.values()])
        for variant, each in variants.items()
        for who, key in (("cachekit", "cachekit_us"), ("by hand", "by_hand_us"))
    }
    return Chart(
        name=f"benchmarks-{name}",
        title=f"A hit against by hand: {said}",
        about="time of a hit, loopback; less is better",
        panels=[Curves(curves=curves, x=x, y="us a hit", log="xy")],
    )


def _bars(found: Found) -> Chart:
    bars = {
        f"{kind}, {who}": us
        for kind, pair in found.items()
        for who, us in zip(("cachekit", "by hand"), _us(pair).values(), strict=True)
    }
    worst = max(found, key=lambda kind: ratio(*found[kind]))
    return Chart(
        name="benchmarks-kinds",
        title=f"Typed results: at most {ratio(*found[worst]):.2f} x the time by hand ({worst})",
        about="time of a hit on 1 KB, one caller; less is better",
        panels=[Bars(bars=bars, label="{:.0f} us")],
    )
