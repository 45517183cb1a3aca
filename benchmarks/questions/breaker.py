"""An open breaker: the cost of a call while Redis is known to be gone, against the undecorated call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.questions import Question, ratio
from benchmarks.suite import Run, one_caller
from benchmarks.work import TTL, load
from cachekit import Cache
from cachekit.events import BreakerOpened, Event
from tests.kit.ports import free_port

PATIENCE = 5.0
"""Seconds within which the breaker must open."""


@asynccontextmanager
async def decorated(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - a port where nobody listens
    """Call the decorated function; the breaker has opened already."""
    opened = asyncio.Event()

    def observe(event: Event) -> None:
        if isinstance(event, BreakerOpened):
            opened.set()

    # With a handler of its own the warning that the breaker opens is not printed into the progress.
    logging.getLogger("cachekit").addHandler(logging.NullHandler())
    async with Cache(f"redis://127.0.0.1:{free_port()}/0") as cache:
        stop = cache.observe(observe)
        call = partial(cache.cached(key="bench:<number>", ttl=TTL)(load), 0)
        async with asyncio.timeout(PATIENCE):
            while not opened.is_set():
                await call()
        stop()
        yield one_caller(call)


@asynccontextmanager
async def undecorated(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Call the function itself."""
    yield one_caller(partial(load, 0))


@asynccontextmanager
async def shared(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Render the key, note that the key is being loaded, and call the function: callers share loads, breaker or not."""
    loading: dict[str, object] = {}

    async def call(number: int) -> object:
        key = f"bench:{number}"
        if key in loading:
            return loading[key]
        loading[key] = None
        try:
            return await load(number)
        finally:
            del loading[key]

    yield one_caller(partial(call, 0))


UNDECORATED = ("undecorated call", undecorated)
FLOOR = "a coroutine with a key, a dict of loads and the call: no call that shares loads can be faster"

QUESTIONS = [
    Question("breaker-open", "breaker open", decorated, UNDECORATED, 2000, ratio(12)),
    Question("breaker-floor", FLOOR, shared, UNDECORATED, 2000),
]
