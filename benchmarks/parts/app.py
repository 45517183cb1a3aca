"""The writing coach under load over HTTP: what its cache is worth to a real application.

    python -m benchmarks.parts.app VARIANT PORT

is one of the servers: the application as it is, with a near cache as well, or with its profile uncached.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import itsdangerous
import msgspec
import uvicorn
from fastapi import FastAPI

from benchmarks.charts import Bars, Chart
from benchmarks.children import PATIENCE, child
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, spread
from cachekit import cached
from examples.error_profile import MISSPELLINGS
from examples.writing_coach import app, profile
from examples.writing_coach.database import Database, LearntError, User
from examples.writing_coach.writing import category
from tests.kit.ports import free_port

VARIANTS: Final = ("cached", "cached, near", "uncached")
CALLERS: Final = (1, 10, 50)
USERS: Final = 200
ERRORS: Final = 500
"""Rows of each user in the database."""

WRITES: Final = 50
"""One request in so many is a correction: two snapshots, one learnt error, one invalidation."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of requests came to: seconds of all of it, of each request; queries to the database."""

    seconds: float
    latencies: list[float]
    queries: int


@dataclass(frozen=True, slots=True)
class Found:
    """The medians of several rounds; latencies in milliseconds."""

    variant: str
    callers: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    queries_per_request: float


@dataclass(slots=True)
class Coach:
    """A server that runs, and how to ask it as somebody who is signed in."""

    url: str
    cookies: Sequence[str]
    session: aiohttp.ClientSession
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def ask(self, rng: random.Random) -> float:
        """Make one request as one of the users. Returns its seconds."""
        number = next(self.numbers)
        headers = {"Cookie": self.cookies[rng.randrange(len(self.cookies))]}
        began = time.perf_counter()
        if number % WRITES == WRITES - 1:
            # Each second one corrects what the one before has written.
            text = "I recieve it. " if number // WRITES % 2 else "I receive it. "
            asked = self.session.put(f"{self.url}/api/text", json={"text": text}, headers=headers)
        else:
            asked = self.session.get(f"{self.url}/api/profile", headers=headers)
        async with asked as response:
            response.raise_for_status()
            await response.read()
        return time.perf_counter() - began

    async def queries(self) -> int:
        """Return how many queries its database was sent so far."""
        async with self.session.get(f"{self.url}/api/panel", headers={"Cookie": self.cookies[0]}) as response:
            response.raise_for_status()
            return int((await response.json())["queries"])


async def measure(bench: Bench) -> Section:
    """Ask all variants in turn, with more and more callers."""
    users = 10 if bench.quick else USERS
    with tempfile.TemporaryDirectory() as folder:
        bench.step(f"app: {users * ERRORS:,} rows for the database")
        settings = await _seeded(bench.url, Path(folder), users)
        async with AsyncExitStack() as stack:
            coaches = {
                variant: await stack.enter_async_context(_serving(variant, replace(settings, redis=redis), users))
                for variant, redis in zip(VARIANTS, _databases(bench.url), strict=True)
            }
            found = [each for callers in CALLERS for each in await _found(bench, coaches, callers)]
    return _section(found, users)


def _databases(url: str) -> list[str]:
    """Return a URL for each variant, so that none invalidates what another has cached."""
    return [url.removesuffix("/0") + f"/{number}" for number in range(len(VARIANTS))]


async def _found(bench: Bench, coaches: Mapping[str, Coach], callers: int) -> list[Found]:
    requests = callers if bench.quick else 100 * min(callers, 10)
    rounds: dict[str, list[Round]] = {variant: [] for variant in coaches}
    # As many as elsewhere would take minutes here, and one that does not count warms up.
    for number in range(max(2, bench.rounds // 3) + 1):
        for variant, coach in coaches.items():
            bench.step(f"app: {callers} callers, {variant}")
            round_ = await _round(coach, callers, requests, seed=number)
            if number:
                rounds[variant].append(round_)
    return [_medians(variant, callers, measured) for variant, measured in rounds.items()]


async def _round(coach: Coach, callers: int, requests: int, *, seed: int) -> Round:
    rng = random.Random(seed)
    latencies: list[float] = []

    async def caller() -> None:
        latencies.extend([await coach.ask(rng) for _ in range(requests // callers)])

    before, began = await coach.queries(), time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(callers)])
    seconds = time.perf_counter() - began
    return Round(seconds, latencies, await coach.queries() - before)


def _medians(variant: str, callers: int, rounds: list[Round]) -> Found:
    p50, p99, _ = spread([latency for round_ in rounds for latency in round_.latencies])
    return Found(
        variant,
        callers,
        statistics.median(len(round_.latencies) / round_.seconds for round_ in rounds),
        1e3 * p50,
        1e3 * p99,
        statistics.median(round_.queries / len(round_.latencies) for round_ in rounds),
    )


def _section(found: list[Found], users: int) -> Section:
    rows = [
        (
            str(each.callers),
            each.variant,
            f"{each.requests_per_second:,.0f}",
            f"{each.p50_ms:.1f} ms",
            f"{each.p99_ms:.1f} ms",
            f"{each.queries_per_request:.2f}",
        )
        for each in found
    ]
    columns = ("callers", "", "requests/s", "median", "99th percentile", "queries a request")
    most = {each.variant: each for each in found if each.callers == CALLERS[-1]}
    ours, theirs = most["cached"], most["uncached"]
    saved = 1 - ours.queries_per_request / theirs.queries_per_request
    note = f"with {CALLERS[-1]} callers the cache saves {saved:.0%} of the queries to the database"
    title = "A real application: the writing coach over HTTP"
    about = (
        f"one worker, {users} users with {ERRORS} errors each in SQLite; each request is of a random user, and "
        f"one in {WRITES} is a correction, which invalidates that user's profile. FastAPI, the session and the "
        "client are in every figure."
    )
    chart = Chart(
        name="benchmarks-app",
        title=f"The writing coach answers {ours.requests_per_second / theirs.requests_per_second:.1f} x as many "
        "requests with its profile cached",
        about=f"requests a second, {CALLERS[-1]} callers over HTTP; more is better",
        panels=[
            Bars(bars={variant: each.requests_per_second for variant, each in most.items()}, label="{:,.0f}"),
        ],
    )
    return Section("app", title, about, [Sheet(title, columns, rows, note)], msgspec.to_builtins(found), [chart])


# --- the servers --------------------------------------------------------------------------------


async def _seeded(redis: str, folder: Path, users: int) -> app.Settings:
    """Return settings for a database that has users, and errors of theirs."""
    settings = app.Settings(
        secret="of a benchmark",  # noqa: S106 - it protects nothing
        origin="http://localhost",
        redis=redis,
        database=f"sqlite+aiosqlite:///{folder / 'coach.db'}",
    )
    rng = random.Random(1)
    pairs = [pair for words in MISSPELLINGS.values() for pair in words.items()]
    today = datetime.now(UTC).date()
    database = Database(settings.database)
    await database.create_tables()
    async with database.sessions.begin() as session:
        for user in map(str, range(users)):
            session.add(User(id=user, name=user))
            for wrong, right in rng.choices(pairs, k=ERRORS):
                day = today - timedelta(days=rng.randrange(60))
                kind = category(wrong, right)
                session.add(LearntError(user_id=user, wrong=wrong, right=right, category=kind, learnt_on=day))
    await database.engine.dispose()
    return settings


@asynccontextmanager
async def _serving(variant: str, settings: app.Settings, users: int) -> AsyncGenerator[Coach, None]:
    """Run a server of ``variant``, which is ready when this is entered, and ended when it is left."""
    port = free_port()
    environment = {app.ENVIRONMENT: json.dumps(asdict(settings))}
    async with (
        child("-m", __name__, variant, str(port), environment=environment),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        coach = Coach(f"http://127.0.0.1:{port}", [_cookie(settings, str(user)) for user in range(users)], session)
        async with asyncio.timeout(PATIENCE):
            while not await _answers(coach):  # noqa: ASYNC110 - another process has no event to wait for
                await asyncio.sleep(0.05)
        yield coach


async def _answers(coach: Coach) -> bool:
    try:
        await coach.queries()
    except aiohttp.ClientConnectionError:
        return False
    return True


def _cookie(settings: app.Settings, user_id: str) -> str:
    """Return the cookie of somebody who is signed in, as Starlette's sessions have it."""
    data = base64.b64encode(json.dumps({"user_id": user_id}).encode())
    return f"session={itsdangerous.TimestampSigner(settings.secret).sign(data).decode()}"


def create_app(variant: str) -> FastAPI:
    """Return the application as ``variant`` has it."""
    assemble = profile.error_profile.__wrapped__
    if variant == "uncached":
        profile.error_profile = assemble
    if variant == "cached, near":
        profile.error_profile = cached(key="profile:<user_id>", ttl=600, near=True)(assemble)
    return app.create_app()


def main() -> None:
    """Be one of the servers."""
    variant, port = sys.argv[1:]
    uvicorn.run(partial(create_app, variant), factory=True, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
