"""Hits: the decorated call against GET and orjson.loads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from hiredis import Reader, pack_command

from benchmarks.questions import Question, ratio, throughput
from benchmarks.suite import Run, many_callers, one_caller
from benchmarks.work import DOCUMENT, JSON, TTL, by_hand
from cachekit import Cache, CachedFunction

MANY = 100


def decorate(cache: Cache) -> CachedFunction[[int], dict[str, Any]]:
    """Return the function that all variants of ours call."""

    @cache.cached(key="bench:<number>", ttl=TTL)
    async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
        return DOCUMENT

    return document


@asynccontextmanager
async def decorated(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """Call the decorated function; every call is a hit."""
    async with Cache(url, timeout=5) as cache:
        document = decorate(cache)
        for number in range(callers):
            await document(number)
        yield many_callers(callers, document)


@asynccontextmanager
async def bare(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """GET and loads, by hand."""
    async with by_hand(url) as client:
        for number in range(callers):
            await client.set(f"bare:{number}", JSON, ex=TTL)

        async def get(number: int) -> Any:
            found = await client.get(f"bare:{number}")
            return found and orjson.loads(found)

        yield many_callers(callers, get)


def in_memory(_url: str) -> AbstractAsyncContextManager[Run]:
    """Call the decorated function on ``memory://``."""
    return decorated("memory://")


@asynccontextmanager
async def loads_alone(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Decode the document, in a coroutine: no hit can be faster."""

    async def loads() -> Any:
        return orjson.loads(JSON)

    yield one_caller(loads)


@asynccontextmanager
async def futures_alone(url: str, callers: int) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Await one future each, as if the answer were there, and decode: no hit of many callers can be faster."""
    loop = asyncio.get_running_loop()

    async def answered(_: int) -> Any:
        future = loop.create_future()
        loop.call_soon(future.set_result, JSON)
        return orjson.loads(await future)

    yield many_callers(callers, answered)


def packed(*words: str | bytes | int) -> bytes:
    """Return a command as it is sent."""
    # Its stub allows one word alone.
    command: bytes = pack_command(cast("Any", words))
    return command


class _Asking(asyncio.Protocol):
    """One command at a time, and nothing else: no deadline, no queue, nothing that could go wrong."""

    def __init__(self) -> None:
        self._reader = Reader()
        self.answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Give the caller the reply, once it is whole."""
        self._reader.feed(data)
        reply = self._reader.gets()
        if reply is not False:
            self.answered.set_result(reply)


@asynccontextmanager
async def bare_protocol(url: str) -> AsyncGenerator[Callable[[bytes], Awaitable[Any]], None]:
    """A bare asyncio protocol and hiredis: gives a function that sends a command, to await the reply."""
    loop, place = asyncio.get_running_loop(), urlsplit(url)
    transport, asking = await loop.create_connection(_Asking, place.hostname or "", place.port or 0)

    def ask(command: bytes) -> Awaitable[Any]:
        asking.answered = loop.create_future()
        transport.write(command)
        return asking.answered

    yield ask
    transport.close()


@asynccontextmanager
async def protocol_alone(url: str) -> AsyncGenerator[Run, None]:
    """Send GET on a bare protocol, and decode: no hit of one caller can be faster."""
    async with by_hand(url) as client:
        await client.set("bare:0", JSON, ex=TTL)
    command = packed("GET", "bare:0")
    async with bare_protocol(url) as ask:

        async def get() -> Any:
            return orjson.loads(await ask(command))

        yield one_caller(get)


decorated_100 = partial(decorated, callers=MANY)
bare_100 = partial(bare, callers=MANY)
futures_100 = partial(futures_alone, callers=MANY)
GET = "redis.asyncio GET + orjson.loads"
FLOOR = "a bare protocol and hiredis: no hit can be faster, one caller"
FUTURE = "a future and orjson.loads, no server"
FLOOR_100 = f"{FUTURE}: no hit can be faster, 100 callers"
SAME = f"{GET}, 100 at a time"
DISTINCT = "hits on Redis, 100 callers, distinct keys"

QUESTIONS = [
    Question("hit", "hit on Redis, one caller", decorated, (GET, bare), 200, ratio(0.75)),
    Question("hit-100", DISTINCT, decorated_100, (FUTURE, futures_100), 1000, ratio(1.6)),
    Question("hit-100-by-hand", DISTINCT, decorated_100, (SAME, bare_100), 1000, throughput()),
    Question("hit-floor", FLOOR, protocol_alone, (GET, bare), 200),
    Question("hit-100-floor", FLOOR_100, futures_100, (SAME, bare_100), 1000),
    Question("hit-memory", "hit on memory://", in_memory, ("orjson.loads alone", loads_alone), 1000),
]
