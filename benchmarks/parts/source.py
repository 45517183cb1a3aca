"""The source behind the cache: it dies for half a minute while hot keys end; and a hot key over many expiries.

    python -m benchmarks source                  two workers, 40 requests a second, a database that is down for 30 s
    python -m benchmarks.parts.source VARIANT URL SCRIPT LOOP

is one of the workers: it tells when it is ready, reads when to begin by the clock that all processes share, makes its
calls, and tells each of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import msgspec

from benchmarks.charts import Chart, Curves
from benchmarks.children import child, loop_factory, tell, told
from benchmarks.report import Section, Sheet, duration
from benchmarks.suite import Bench
from cachekit import Cache

Load: TypeAlias = Callable[[int], Coroutine[Any, Any, int]]
"""Asks the database for the value of one key."""

RETRY_AFTER: Final = 10.0
LOAD: Final = 0.02
"""Seconds that the database takes for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the workers do. All times are seconds.

    Attributes:
        ends: When the last call is due. All times count from the first one.
        down: From when until when the database raises.
        every: Seconds between two calls of one worker.
        keys: So many hot keys.
        ttl: Of their values.
        load: Seconds that the database takes.
        seed: Of the choice of keys.
    """

    ends: float
    down: tuple[float, float]
    every: float
    keys: int
    ttl: float
    load: float = LOAD
    seed: int = 0


@dataclass(slots=True)
class Told:
    """What one worker saw: for each call when it began and how long it took, or when it failed; and each attempt."""

    calls: list[tuple[float, float]] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    attempts: list[tuple[float, int, bool]] = field(default_factory=list)
    """When the database was asked, for which key, and whether it answered."""


# --- the variants ---------------------------------------------------------------------------------


def _ours(near: int | None = None, **options: Any) -> Callable[..., AbstractAsyncContextManager[Load]]:
    @asynccontextmanager
    async def opened(url: str, load: Load, ttl: float, name: str) -> AsyncGenerator[Load, None]:
        # A timeout that lets a busy machine decide nothing.
        async with Cache(url, prefix=f"{name.replace(' ', '-')}:", timeout=5, near=near) as cache:
            yield cache.cached(key="document:<key>", ttl=ttl, **options)(load)

    return opened


def _cashews(decorate: Callable[[Any, float, str], Any]) -> Callable[..., AbstractAsyncContextManager[Load]]:
    @asynccontextmanager
    async def opened(url: str, load: Load, ttl: float, name: str) -> AsyncGenerator[Load, None]:
        from cashews import Cache as Cashews  # noqa: PLC0415 - a peer that is missing is a row with its error

        cache = Cashews()
        # Its own serializer: two of its decorators store a datetime beside the value.
        cache.setup(url)
        try:
            yield decorate(cache, ttl, f"{name.replace(' ', '-')}:{{key}}")(load)
        finally:
            await cache.close()

    return opened


def _failover(cache: Any, ttl: float, key: str) -> Callable[[Load], Load]:
    def decorate(load: Load) -> Load:
        plain = cache(ttl=ttl, key=key)(load)
        decorated: Load = cache.failover(ttl="1h", key=key, exceptions=(ConnectionError,))(plain)
        return decorated

    return decorate


_ALL: Final[dict[str, Any]] = {
    "stale_while_revalidate": 1.0,
    "stale_if_error": "1h",
    "soft_timeout": 0.05,
    "refresh_ahead": "auto",
}

VARIANTS: Final[Mapping[str, Callable[..., AbstractAsyncContextManager[Load]]]] = {
    "cachekit, plain": _ours(),
    "cachekit, stale_if_error": _ours(stale_if_error="1h"),
    "cachekit, all options": _ours(**_ALL),
    "cashews, plain": _cashews(lambda cache, ttl, key: cache(ttl=ttl, key=key)),
    "cashews, early": _cashews(lambda cache, ttl, key: cache.early(ttl=ttl, early_ttl=ttl / 2, key=key)),
    "cashews, failover": _cashews(_failover),
    "cashews, soft": _cashews(lambda cache, ttl, key: cache.soft(ttl="1h", soft_ttl=ttl, key=key)),
}
"""The database dies under each of them."""

HOT: Final[Mapping[str, Callable[..., AbstractAsyncContextManager[Load]]]] = {
    "cachekit, no option": _ours(),
    "cachekit, refresh_ahead": _ours(refresh_ahead="auto"),
    "cachekit, refresh_ahead, near": _ours(near=1000, refresh_ahead="auto"),
    "cashews, early alone": _cashews(lambda cache, ttl, key: cache.early(ttl=ttl, early_ttl=ttl / 2, key=key)),
}
"""One hot key under each of them."""


# --- measuring ------------------------------------------------------------------------------------


async def measure(bench: Bench) -> Section:
    """Let a database die under each variant, and count; then ask each for a hot key over many expiries."""
    down, data, rows = await _outage(bench)
    hot, hot_rows = await _hot_key(bench)
    sheets = [
        Sheet(
            f"A database that is down for {down:g} s: 40 requests a second, 2 workers, 10 hot keys",
            ("", "requests", "failed", "attempts while down", "most a key in 10 s", "back after"),
            rows,
            "an attempt is a call of the function; cold keys are none of them; back: every key was loaded anew",
        ),
        Sheet(
            "A hot key at 1,000 calls a second",
            ("", "calls", "waited for a load", "expiries", "loads an expiry"),
            hot_rows,
            "a load takes 0.1 s, a TTL is 1 s; a call that took half of a load or more has waited",
        ),
    ]
    failure = "; ".join(
        f"{each['name']}: {each['failed']} requests failed"
        for each in data
        if each["name"].startswith("cachekit, ") and "plain" not in each["name"] and each["failed"]
    )
    title = "A source that dies"
    about = "each variant has two workers of its own; all of them meet the same outage."
    return Section("source", title, about, sheets, {"outage": data, "hot": hot}, [_chart(data, down)], failure)


async def _outage(bench: Bench) -> tuple[float, list[dict[str, Any]], list[tuple[str, ...]]]:
    before, down, after = (4.0, 6.0, 12.0) if bench.quick else (10.0, 30.0, 15.0)
    fails = (before, before + down)
    script = Script(ends=fails[1] + after, down=fails, every=0.05, keys=10, ttl=3.0)
    data: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    for name, seen in await _run(bench, VARIANTS, script, workers=2):
        if isinstance(seen, Exception):
            rows.append((name, repr(seen), "", "", "", ""))
            continue
        found = _counted(name, seen, script)
        data.append(found)
        back = "" if found["back"] is None else duration(found["back"])
        rows.append((name, *(f"{found[key]}" for key in ("requests", "failed", "attempts", "most")), back))
    return down, data, rows


def _counted(name: str, seen: Sequence[Told], script: Script) -> dict[str, Any]:
    """Return the figures of one variant."""
    began, ended = script.down
    attempts = sorted(attempt for one in seen for attempt in one.attempts)
    while_down = [(at, key) for at, key, _ in attempts if began <= at < ended]
    by_key = [[at for at, other in while_down if other == key] for key in range(script.keys)]
    first = [
        min((at for at, k, good in attempts if k == key and good and at >= ended), default=None)
        for key in range(script.keys)
    ]
    failed = sorted(at for one in seen for at in one.failed)
    return {
        "name": name,
        "requests": sum(len(one.calls) + len(one.failed) for one in seen),
        "failed": len(failed),
        "attempts": len(while_down),
        "most": max((_most_within(times, RETRY_AFTER) for times in by_key), default=0),
        "back": None if None in first else max(at - ended for at in first if at is not None),
        "failed_by_second": _by_second(failed, script),
        "attempts_by_second": _by_second([at for at, _, _ in attempts], script),
    }


def _most_within(times: Sequence[float], seconds: float) -> int:
    """Return how many of ``times`` lie within so many seconds, at most."""
    # A pause ends a little early by the clock of the one that asks next: it counts from the answer of the server.
    return max((sum(begin <= at < begin + seconds - 0.05 for at in times) for begin in times), default=0)


def _by_second(times: Sequence[float], script: Script) -> list[int]:
    counts = [0] * (int(script.ends) + 1)
    for at in times:
        counts[min(len(counts) - 1, max(0, int(at)))] += 1
    return counts


async def _hot_key(bench: Bench) -> tuple[list[dict[str, Any]], list[tuple[str, ...]]]:
    expiries = 3 if bench.quick else 20
    script = Script(ends=float(expiries), down=(0.0, 0.0), every=0.001, keys=1, ttl=1.0, load=0.1)
    data: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    for name, seen in await _run(bench, HOT, script, workers=1):
        if isinstance(seen, Exception):
            rows.append((name, repr(seen), "", "", ""))
            continue
        (one,) = seen
        # The key is cold at first, which is no expiry.
        settled = [(at, took) for at, took in one.calls if at > 2 * script.load]
        waited = sum(took > script.load / 2 for _, took in settled)
        loads = len(one.attempts) - 1
        data.append({"name": name, "calls": len(settled), "waited": waited, "loads": loads, "expiries": expiries})
        rows.append((name, f"{len(settled)}", f"{waited}", f"{expiries}", f"{loads / expiries:.2f}"))
    return data, rows


async def _run(
    bench: Bench, variants: Mapping[str, Any], script: Script, *, workers: int
) -> list[tuple[str, list[Told] | Exception]]:
    """Run the workers of all variants at the same time."""
    ready = asyncio.Barrier(len(variants))

    async def one(name: str) -> tuple[str, list[Told] | Exception]:
        async with AsyncExitStack() as stack:
            texts = [msgspec.json.encode(replace(script, seed=seed)).decode() for seed in range(workers)]
            arguments = [("-m", __name__, name, bench.url, text, bench.loop) for text in texts]
            started = [await stack.enter_async_context(child(*each)) for each in arguments]
            found = await asyncio.gather(*[told(process, Told) for process in started], return_exceptions=True)
            await ready.wait()
            # All of them have the same clock, and begin a moment from now.
            begins = b"%f\n" % (time.monotonic() + 0.5)
            printed = await asyncio.gather(*[process.communicate(begins) for process in started])
        errors = [error for error in found if isinstance(error, Exception)]
        lines = [out.splitlines() for out, _ in printed]
        if errors or not all(lines):
            return name, errors[0] if errors else RuntimeError("a worker ended before it told what it saw")
        return name, [msgspec.json.decode(each[-1], type=Told) for each in lines]

    bench.step(f"{len(variants)} variants for {script.ends:g} s")
    return await asyncio.gather(*map(one, variants))


def _chart(data: Sequence[dict[str, Any]], down: float) -> Chart:
    def curves(key: str) -> dict[str, tuple[list[float], list[float]]]:
        return {each["name"]: ([float(n) for n in range(len(each[key]))], each[key]) for each in data}

    ours = [each for each in data if each["name"] == "cachekit, stale_if_error"]
    failed = sum(each["failed"] for each in ours)
    began = 4.0 if down < 30 else 10.0
    return Chart(
        name="benchmarks-source",
        title=f"A database is down for {down:g} s: with stale_if_error {failed} requests fail",
        about="40 requests a second by two workers, on ten hot keys",
        panels=[
            Curves(curves=curves("failed_by_second"), y="failed requests a second"),
            Curves(curves=curves("attempts_by_second"), y="attempts on the database a second", x="seconds"),
        ],
        spans=[("up", 0, began, False), ("down", began, began + down, True)],
    )


# --- one of the workers ---------------------------------------------------------------------------


async def _work(name: str, url: str, script: Script) -> None:
    seen, begins = Told(), 0.0
    chance = random.Random(script.seed)

    def now() -> float:
        return time.monotonic() - begins

    async def load(key: int) -> int:
        at = now()
        down = script.down[0] <= at < script.down[1]
        seen.attempts.append((at, key, not down))
        if down:
            message = "the database is down"
            raise ConnectionError(message)
        await asyncio.sleep(script.load)
        return key

    async def call(document: Load, key: int) -> None:
        at = now()
        try:
            await document(key)
        except ConnectionError:
            seen.failed.append(at)
        else:
            seen.calls.append((at, now() - at))

    opened = {**VARIANTS, **HOT}[name]
    async with opened(url, load, script.ttl, name.replace(",", "")) as document, asyncio.TaskGroup() as group:
        # Imported, connected, and everything has happened that happens once.
        await document(-1 - script.seed)
        seen.attempts.clear()
        tell(seen)
        begins = float(await asyncio.to_thread(sys.stdin.buffer.readline))
        for due in _dues(script):
            if (left := due - now()) > 0:
                await asyncio.sleep(left)
            group.create_task(call(document, chance.randrange(script.keys)))
    tell(seen)


def _dues(script: Script) -> Iterator[float]:
    due = script.seed * script.every / 2
    while due < script.ends:
        yield due
        due += script.every


def main() -> None:
    """Be one of the workers."""
    name, url, script, loop = sys.argv[1:]
    # A peer leaves the exceptions of its tasks to asyncio, which logs each of them with its traceback.
    logging.disable()
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(_work(name, url, msgspec.json.decode(script, type=Script)))


if __name__ == "__main__":
    main()
