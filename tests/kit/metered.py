"""An application whose metrics are tested: a few cached functions, and a source that a folder makes slow or dead.

Several workers serve it over HTTP (`app`), or a test calls it in its own process. A file ``closed`` in the folder lets
loads wait until it is gone, and a file ``down`` lets them raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import FastAPI, HTTPException, Response

from cachekit import Cache
from tests.kit.servers import RedisServer
from tests.kit.waiting import LOOK, until

Ask = Callable[[str], Coroutine[Any, Any, int]]
"""Calls a function of the application by the path of its route. Returns a status."""


class Metered:
    """The functions, on a cache of their own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.cache = Cache(url, timeout=5)
        self.folder = folder
        cached = self.cache.cached
        self.price = cached(key="price:<sku>", ttl=600, stale_if_error=600, retry_after=600)(self.load_price)
        self.profile = cached(key="profile:<user_id>", ttl=600)(self.load_profile)

    async def load_price(self, sku: str) -> int:
        """Ask the source."""
        await self._source()
        return len(sku)

    async def load_profile(self, user_id: str) -> str:
        """Ask the source."""
        await self._source()
        return user_id

    async def _source(self) -> None:
        while (self.folder / "closed").exists():
            await asyncio.sleep(LOOK)
        if (self.folder / "down").exists():
            message = "the source is down"
            raise ConnectionError(message)

    async def ask(self, path: str) -> int:
        """Call a function, as a route does. Returns 200, or 502 if it raises."""
        name, _, value = path.partition("/")
        calls: dict[str, Callable[[str], Awaitable[object]]] = {
            "price": self.price,
            "profile": self.profile,
            "expire": self.price.expire,
            "forget": self.profile.invalidate,
        }
        try:
            await calls[name](value)
        except ConnectionError:
            return 502
        return 200


def app() -> FastAPI:
    """Return the application of one worker; two environment variables name the store and the folder."""
    from prometheus_client import CONTENT_TYPE_LATEST

    from cachekit.instrumentation.prometheus import instrument, scrape

    metered = Metered(os.environ["METERED_URL"], Path(os.environ["METERED_FOLDER"]))
    instrument(metered.cache)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with metered.cache:
            yield

    served = FastAPI(lifespan=lifespan)

    @served.get("/metrics")
    async def metrics() -> Response:
        return Response(scrape(), media_type=CONTENT_TYPE_LATEST)

    @served.get("/healthy")
    async def healthy() -> dict[str, int | bool]:
        await metered.profile("healthy")
        return {"worker": os.getpid(), "healthy": metered.cache.healthy}

    @served.get("/call/{name}/{value}")
    async def call(name: str, value: str) -> int:
        status = await metered.ask(f"{name}/{value}")
        if status != 200:
            raise HTTPException(status)
        return status

    return served


async def minute(ask: Ask, reads: Callable[[], Awaitable[float]], folder: Path, server: RedisServer) -> None:
    """Make the traffic of a minute, without waiting for any second of it; the server is killed at its end.

    Args:
        ask: Calls a function.
        reads: Returns how many reads the store has answered.
        folder: Of the application.
        server: The store, which is killed.
    """
    for _ in range(10):
        assert await ask("profile/ann") == 200
    # Five callers of one cold key, of which one loads.
    (folder / "closed").touch()
    before = await reads()
    calls = [asyncio.create_task(ask("profile/bob")) for _ in range(5)]
    await until_reads(reads, before + 5)
    (folder / "closed").unlink()
    assert await asyncio.gather(*calls) == [200] * 5
    # A source that is down: three calls fail, and two of five have a stale value.
    assert await ask("price/tea") == 200
    assert await ask("expire/tea") == 200
    (folder / "down").touch()
    for _ in range(3):
        assert await ask("profile/cat") == 502
    for _ in range(2):
        assert await ask("price/tea") == 200
    (folder / "down").unlink()
    assert await ask("forget/ann") == 200
    await asyncio.to_thread(server.kill)
    for _ in range(4):
        assert await ask("profile/dan") == 200


CALLS = {
    "profile": {"hit": 9, "miss": 2 + 4, "shared": 4, "failed": 3},
    "price": {"miss": 1, "stale": 2},
}
"""What the calls of `minute` come to, by the name of the function and the outcome; all others are 0."""

LOADS = {"profile": {"returned": 2 + 4, "failed": 3}, "price": {"returned": 1, "failed": 1}}
"""The loads that they need."""

NOT_STORED = {"profile": {"store": 4}, "price": {}}
"""Values that were not stored, by reason."""


async def until_reads(reads: Callable[[], Awaitable[float]], count: float) -> None:
    """Wait until the store has answered so many reads."""
    found = [0.0]

    async def look() -> None:
        found[0] = await reads()

    await until(lambda: found[0] >= count, look)


def over_http(session: aiohttp.ClientSession) -> Ask:
    """Return what calls a function of the application that is served."""

    async def ask(path: str) -> int:
        async with session.get(f"/call/{path}") as response:
            return response.status

    return ask
