"""An hour of the shop in some seconds: the clock of the cache is moved, and a scrape is taken every 15 seconds of it.

=========  ========================================================================================
minute     goes wrong
=========  ========================================================================================
12 to 18   a release passes the session to ``search``: nearly every call is a miss
22 to 30   the database is down: prices are stale, baskets fail
36 to 42   the store is away; a worker that ends meanwhile loses its invalidations
47 to 54   the store comes and goes
=========  ========================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry

from cachekit import Cache, configure
from cachekit.instrumentation.prometheus import instrument, scrape
from cachekit.testing import FailingStore, FakeClock
from examples.observability.promql import Database as Scrapes
from examples.observability.shop import DATABASE, basket, buy, price, search

STEP: Final = 15.0
"""Seconds of the clock between two scrapes."""

MINUTE: Final = int(60 / STEP)

SOON: Final = 0.005
"""Seconds of real time between two looks at something that happens in the background."""


class Server(FailingStore):
    """A store in memory that counts as one server: the circuit breaker watches over it."""

    def shard(self, key: str) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the name of the server that has ``key``; memory alone has none."""
        del key  # It has all of them.
        return ""


class Hour:
    """The traffic of an hour, or of its first ``minutes``, and the scrapes of it.

    Args:
        minutes: How many, 60 at most.
    """

    def __init__(self, minutes: int = 60) -> None:
        self.minutes = minutes
        self.scrapes = Scrapes()
        self.now = 0.0
        self._random = random.Random(7)
        self._clock = FakeClock()
        self._store = Server(clock=self._clock)
        self._registry = CollectorRegistry()
        self._cache = Cache(self._store, clock=self._clock)

    async def run(self, progress: Callable[[int], object] = lambda _: None) -> Scrapes:
        """Let the hour pass. ``progress`` gets each minute that is over."""
        instrument(self._cache, registry=self._registry)
        async with configure(self._cache):
            for step in range(self.minutes * MINUTE):
                await self._pass(step / MINUTE)
                self._clock.advance(STEP)
                self.now += STEP
                self.scrapes.add(scrape(self._registry).decode(), self.now)
                if (step + 1) % MINUTE == 0:
                    progress((step + 1) // MINUTE)
            DATABASE.down = False
        return self.scrapes

    async def _pass(self, minute: float) -> None:
        """Let the step pass that begins at ``minute``."""
        DATABASE.down = 22 <= minute < 30
        away = 36 <= minute < 42 or (47 <= minute < 54 and int(minute * MINUTE) % 4 < 2)
        if away and self._store.error is None:
            self._store.fail()
        elif not away and self._store.error is not None:
            await self._recover()
        if minute == 40:
            await self._end_a_worker()
        await asyncio.gather(*[contained(call) for call in self._calls(minute)])

    async def _recover(self) -> None:
        """Let the store answer, and wait until the circuit breaker has seen it."""
        self._store.recover()
        self._clock.advance(1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not self._cache.healthy:
                    await self._cache.get("anything")
                    await asyncio.sleep(SOON)
                    self._clock.advance(SOON)

    async def _end_a_worker(self) -> None:
        """Let another worker end with an invalidation of which the store never hears."""
        other = Cache(self._store, clock=self._clock)
        stop = instrument(other, registry=self._registry)
        await other.delete("basket:7")
        await other.aclose()
        stop()

    def _calls(self, minute: float) -> Iterator[Awaitable[object]]:
        """Yield the calls of a step: more of some things than of others, some of them at the same time."""
        some = self._random
        for _ in range(40):
            yield price(f"sku-{int(some.paretovariate(0.8)) % 60}")
        for _ in range(12):
            yield basket(f"{some.randrange(40)}")
        for _ in range(2):
            yield buy(f"{some.randrange(40)}")
        for number in range(10):
            words = "nothing" if number == 9 else f"words {int(some.paretovariate(1)) % 20}"
            yield search(words, f"{some.random()}" if 12 <= minute < 18 else "")


async def contained(call: Awaitable[object]) -> None:
    """Await a call, as the handler of a request that answers with an error page."""
    with contextlib.suppress(ConnectionError):
        await call
