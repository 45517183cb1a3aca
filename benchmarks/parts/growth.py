"""Growth: what a hit costs as callers, values and keys grow, and by kind of value, against by hand."""

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

from benchmarks.charts import Bars, Chart, Line, Lines, short
from benchmarks.near import near_cache, until_near
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, Rounds, Run, interleaved, many_callers, measured, one_caller, ratio
from benchmarks.traces import zipf
from benchmarks.work import DOCUMENT, TTL, by_hand, document_of
from cachekit import Cache

CALLERS: Final = (1, 10, 100, 1000)
SIZES: Final = (100, 1_000, 10_000, 100_000)
KEYS: Final = (10, 100, 1_000, 10_000, 100_000)
PREFIX: Final = "growth:"

Pair: TypeAlias = tuple[Rounds, Rounds]
"""Ours, and by hand."""

Found: TypeAlias = dict[str, Pair]

Call: TypeAlias = Callable[[int], Awaitable[Any]]

Value: TypeAlias = tuple[Any, Any, Callable[[bytes], Any]]
"""A value, its annotation, and how it is decoded by hand."""


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
    callers = await _callers(bench)
    sizes = await _sizes(bench)
    kinds = await _kinds(bench)
    uniform, popular = await _keys(bench, counts)
    sheets = [
        _sheet("Hits by concurrent callers", "callers", callers),
        _sheet("Hits by size of the value, one caller", "value", sizes),
        _sheet("Hits by kind of the value, 1 KB, one caller", "kind", kinds, "by hand: orjson, msgspec, pydantic"),
        _sheet("Hits by number of keys, evenly asked for, one caller", "keys", uniform),
        _sheet("Hits by number of keys, asked for by Zipf 0.9, one caller", "keys", popular),
        await _near_memory(bench),
    ]
    charts: list[Chart] = [
        _line_chart("callers", "concurrent callers, distinct keys", CALLERS, callers, "with {} callers"),
        _line_chart("sizes", "bytes of JSON", SIZES, sizes, "on {}"),
        _kind_chart(kinds),
        _line_chart("keys", "keys that are asked for", counts, uniform, "among {} keys", popular),
    ]
    tables = {"callers": callers, "sizes": sizes, "kinds": kinds, "keys": uniform, "keys by Zipf": popular}
    data = {
        name: {
            key: {"cachekit_us": statistics.median(ours), "by_hand_us": statistics.median(theirs)}
            for key, (ours, theirs) in found.items()
        }
        for name, found in tables.items()
    }
    about = "each against GET and decoding by hand, one variable at a time; 1 KB and one caller unless told otherwise."
    return Section("growth", "Growth", about, sheets, data, charts)


async def _ours(stack: AsyncExitStack, url: str, value: Any, annotation: Any, *, prefix: str = PREFIX) -> Call:
    """Open a cache; return a decorated function that returns ``value``."""

    async def load(number: int) -> Any:  # noqa: ARG001 - it is part of the key
        return value

    load.__annotations__["return"] = annotation
    cache = await stack.enter_async_context(Cache(url, prefix=prefix, timeout=5))
    return cache.cached(key="<number>", ttl=TTL)(load)


async def _theirs(
    stack: AsyncExitStack, url: str, decode: Callable[[bytes], Any], *, prefix: str = PREFIX, callers: int = 1
) -> Call:
    """Connect; return a function that reads the same keys by hand."""
    client = await stack.enter_async_context(by_hand(url, callers=callers))

    async def get(number: int) -> Any:
        found: Any = await client.get(f"{prefix}{number}")
        return decode(found)

    return get


async def _pairs(bench: Bench, what: str, runs: dict[str, tuple[Run, Run]], calls: int) -> Found:
    """Measure all of ``runs``, ours and by hand, in turn: so that a curve is not bent by what else goes on."""
    found = await interleaved(
        {
            f"{who} {name}": run
            for name, pair in runs.items()
            for who, run in zip(("ours", "theirs"), pair, strict=True)
        },
        rounds=min(bench.rounds, 25),
        calls=bench.scaled(calls),
        step=lambda: bench.step(f"growth: {what}"),
    )
    return {name: (measured(found[f"ours {name}"]), measured(found[f"theirs {name}"])) for name in runs}


async def _callers(bench: Bench) -> Found:
    async with AsyncExitStack() as stack:
        ours = await _ours(stack, bench.url, DOCUMENT, dict[str, Any])
        theirs = await _theirs(stack, bench.url, orjson.loads, callers=CALLERS[-1])
        for number in range(CALLERS[-1]):
            await ours(number)
        runs = {
            short(n): (many_callers(n, ours), many_callers(n, theirs))
            if n > 1
            else (one_caller(partial(ours, 0)), one_caller(partial(theirs, 0)))
            for n in CALLERS
        }
        return await _pairs(bench, "callers", runs, 1000)


async def _sizes(bench: Bench) -> Found:
    values = {f"{short(n)} B": (document_of(n), dict[str, Any], orjson.loads) for n in SIZES}
    return await _values(bench, "sizes", values)


async def _kinds(bench: Bench) -> Found:
    model = ProfileModel.model_validate(DOCUMENT)
    values: dict[str, Value] = {
        "dict": (DOCUMENT, dict[str, Any], orjson.loads),
        "dataclass": (msgspec.convert(DOCUMENT, Profile), Profile, msgspec.json.Decoder(Profile).decode),
        "pydantic": (model, ProfileModel, ProfileModel.model_validate_json),
    }
    return await _values(bench, "kinds", values)


async def _values(bench: Bench, what: str, values: Mapping[str, Value]) -> Found:
    async with AsyncExitStack() as stack:
        runs: dict[str, tuple[Run, Run]] = {}
        for number, (name, (value, annotation, decode)) in enumerate(values.items()):
            prefix = f"{what}-{number}:"
            ours = await _ours(stack, bench.url, value, annotation, prefix=prefix)
            theirs = await _theirs(stack, bench.url, decode, prefix=prefix)
            await ours(0)
            runs[name] = (one_caller(partial(ours, 0)), one_caller(partial(theirs, 0)))
        return await _pairs(bench, what, runs, 200)


async def _keys(bench: Bench, counts: list[int]) -> tuple[Found, Found]:
    value = orjson.dumps(DOCUMENT)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(by_hand(bench.url))
        # No load is needed for each: what stands in Redis at the documented key is plain JSON.
        for begin in range(0, counts[-1], 1000):
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(begin, min(counts[-1], begin + 1000)):
                    pipeline.set(f"{PREFIX}{number}", value, ex=TTL)
                await pipeline.execute()
        calls = (
            await _ours(stack, bench.url, DOCUMENT, dict[str, Any]),
            await _theirs(stack, bench.url, orjson.loads),
        )
        dice = random.Random(7)
        runs: dict[str, tuple[Run, Run]] = {}
        for keys in counts:
            asked = {"even": [dice.randrange(keys) for _ in range(10_000)], "Zipf": zipf(keys, 10_000)}
            for how, numbers in asked.items():
                ours, theirs = (_each(call, numbers) for call in calls)
                runs[f"{how} {short(keys)}"] = (ours, theirs)
        found = await _pairs(bench, "keys", runs, 200)
    uniform, popular = ({short(n): found[f"{how} {short(n)}"] for n in counts} for how in ("even", "Zipf"))
    return uniform, popular


def _each(call: Call, numbers: list[int]) -> Run:
    """Return a run of one call after the other, each with the next of ``numbers``."""
    following = itertools.cycle(numbers)
    return one_caller(lambda: call(next(following)))


async def _near_memory(bench: Bench) -> Sheet:
    """Count what each near entry takes, with all that belongs to it."""
    title = "Memory of a near entry, 1 KB dict"
    entries = 100 if bench.quick else 2000
    async with near_cache(bench.url, entries=entries + 1) as cache:

        @cache.cached(key="memory:<number>", ttl=TTL)
        async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
            return DOCUMENT

        await until_near(cache, partial(document, -1))
        for number in range(entries):
            await document(number)
        # The first reads are in the store by now; what this counts are the entries of a tier that is filled anew.
        each = await _traced(bench, entries)
    return Sheet(title, ("", "bytes an entry"), [(f"{entries} entries", f"{each:,.0f}")], "traced by tracemalloc")


async def _traced(bench: Bench, entries: int) -> float:
    async with near_cache(bench.url, entries=entries + 1) as cache:

        @cache.cached(key="memory:<number>", ttl=TTL)
        async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
            return DOCUMENT

        await until_near(cache, partial(document, -1))
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(entries):
                await document(number)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / entries
        finally:
            tracemalloc.stop()


def _sheet(title: str, first: str, found: Found, note: str = "") -> Sheet:
    rows = [
        (name, f"{statistics.median(ours):.1f}", f"{statistics.median(theirs):.1f}", f"{ratio(ours, theirs):.2f} x")
        for name, (ours, theirs) in found.items()
    ]
    return Sheet(title, (first, "cachekit, us", "by hand, us", "time"), rows, note)


def _medians(found: Found, which: int) -> list[float]:
    return [statistics.median(pair[which]) for pair in found.values()]


def _line_chart(name: str, x: str, xs: Sequence[int], found: Found, where: str, popular: Found | None = None) -> Lines:
    """Return the chart; ``where`` says what one of ``xs`` is, ``popular`` is the same by Zipf."""
    ends = [(where.format(key), ratio(*found[key])) for key in (next(iter(found)), next(reversed(found)))]
    said = ", ".join(f"{times:.2f} x {place}" for place, times in ends).replace(" 1 callers", " 1 caller")
    lines = [Line("cachekit", xs, _medians(found, 0)), Line("by hand", xs, _medians(found, 1))]
    if popular:
        lines += [Line("cachekit, Zipf", xs, _medians(popular, 0)), Line("by hand, Zipf", xs, _medians(popular, 1))]
    return Lines(
        name=name,
        title=f"A hit against by hand: {said}",
        about="time of a hit, loopback; less is better",
        x=x,
        y="us a hit",
        lines=lines,
    )


def _kind_chart(found: Found) -> Bars:
    bars = [
        (f"{kind}, {who}", statistics.median(times), f"{statistics.median(times):.0f} us")
        for kind, pair in found.items()
        for who, times in zip(("cachekit", "by hand"), pair, strict=True)
    ]
    worst = max(found, key=lambda kind: ratio(*found[kind]))
    return Bars(
        name="kinds",
        title=f"Typed results: at most {ratio(*found[worst]):.2f} x the time by hand ({worst})",
        about="time of a hit on 1 KB, one caller; less is better",
        bars=bars,
    )
