"""The writing coach under load over HTTP: the worth of its cache to a real application.

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
from typing import Any, Final

import aiohttp
import itsdangerous
import uvicorn
from fastapi import FastAPI

from benchmarks.charts import Bars, Chart
from benchmarks.children import PATIENCE, child
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, spread
from cachekit import cached, new_key
from examples._misspellings import MISSPELLINGS
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


@dataclass(slots=True)
class Coach:
    """A server that runs, and how to ask it as a user who is signed in."""

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
            # Each second one corrects the text before it.
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
    # Each variant has a database of Redis, so that none invalidates the profiles of another.
    databases = [bench.url.removesuffix("/0") + f"/{number}" for number in range(len(VARIANTS))]
    with tempfile.TemporaryDirectory() as folder:
        bench.step(f"app: {users * ERRORS:,} rows for the database")
        settings = await _seeded(Path(folder), users)
        async with AsyncExitStack() as stack:
            coaches = {
                variant: await stack.enter_async_context(_serving(variant, replace(settings, redis=redis), users))
                for variant, redis in zip(VARIANTS, databases, strict=True)
            }
            found = [each for callers in CALLERS for each in await _found(bench, coaches, callers)]
    return _section(found, users)


async def _found(bench: Bench, coaches: Mapping[str, Coach], callers: int) -> list[dict[str, Any]]:
    """Return the figures of each variant, in the medians of several rounds."""
    requests = callers if bench.quick else 100 * min(callers, 10)
    seconds: dict[str, list[float]] = {variant: [] for variant in coaches}
    latencies: dict[str, list[float]] = {variant: [] for variant in coaches}
    queries: dict[str, list[int]] = {variant: [] for variant in coaches}
    # As many as elsewhere would take minutes here, and one that does not count warms up.
    for number in range(max(2, bench.rounds // 3) + 1):
        for variant, coach in coaches.items():
            bench.step(f"app: {callers} callers, {variant}")
            before, began = await coach.queries(), time.perf_counter()
            each = await _round(coach, callers, requests, seed=number)
            took, after = time.perf_counter() - began, await coach.queries()
            if number:
                seconds[variant].append(took)
                latencies[variant].extend(each)
                queries[variant].append(after - before)
    return [
        {
            "variant": variant,
            "callers": callers,
            "requests_per_second": requests / statistics.median(seconds[variant]),
            "p50_ms": 1e3 * spread(latencies[variant])[0],
            "p99_ms": 1e3 * spread(latencies[variant])[1],
            "queries_per_request": statistics.median(queries[variant]) / requests,
        }
        for variant in coaches
    ]


async def _round(coach: Coach, callers: int, requests: int, *, seed: int) -> list[float]:
    """Make so many requests. Returns the seconds of each."""
    rng = random.Random(seed)

    async def caller() -> list[float]:
        return [await coach.ask(rng) for _ in range(requests // callers)]

    return list(itertools.chain(*await asyncio.gather(*[caller() for _ in range(callers)])))


def _section(found: list[dict[str, Any]], users: int) -> Section:
    shown = {
        "callers": "{callers}",
        "": "{variant}",
        "requests/s": "{requests_per_second:,.0f}",
        "median": "{p50_ms:.1f} ms",
        "99th percentile": "{p99_ms:.1f} ms",
        "queries a request": "{queries_per_request:.2f}",
    }
    rows = [[figure.format(**each) for figure in shown.values()] for each in found]
    most = {each["variant"]: each for each in found if each["callers"] == CALLERS[-1]}
    rates = {variant: each["requests_per_second"] for variant, each in most.items()}
    saved = 1 - most["cached"]["queries_per_request"] / most["uncached"]["queries_per_request"]
    note = f"with {CALLERS[-1]} callers the cache saves {saved:.0%} of the queries to the database"
    title = "A real application: the writing coach over HTTP"
    about = (
        f"one worker, {users} users with {ERRORS} errors each in SQLite; each request is of a random user, and "
        f"one in {WRITES} is a correction, which invalidates that user's profile. FastAPI, the session and the "
        "client are in every figure."
    )
    times = rates["cached"] / rates["uncached"]
    chart = Chart(
        name="benchmarks-app",
        title=f"The writing coach answers {times:.1f} x as many requests with its profile cached",
        about=f"requests a second, {CALLERS[-1]} callers over HTTP; more is better",
        panels=[Bars(bars=rates, label="{:,.0f}")],
    )
    return Section("app", title, about, [Sheet(title, list(shown), rows, note)], found, [chart])


# --- the servers --------------------------------------------------------------------------------


async def _seeded(folder: Path, users: int) -> app.Settings:
    """Return settings for a database that has users, and errors of theirs."""
    settings = app.Settings(
        secret="of a benchmark",  # noqa: S106 - it protects nothing
        keys=new_key(),
        origin="http://localhost",
        redis="",  # each variant has one of its own
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
    """Return the cookie of a user who is signed in, as Starlette's sessions have it."""
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
