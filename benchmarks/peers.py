"""The peers: each decorates the same function, so that all of them do the same work.

The first is doing it by hand, to which all others are compared. A package is imported where its peer is opened: one
that is missing, or broken, is a row with its error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import orjson

from benchmarks.work import TTL, near_cache, until_near
from benchmarks.work import by_hand as connected
from cachekit import Cache

Load: TypeAlias = Callable[[int], Coroutine[Any, Any, dict[str, Any]]]
"""The function to decorate."""

BY_HAND: Final = "by hand"
BOUND: Final = "10,000 entries unless told otherwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The use that a peer is set up for.

    Attributes:
        callers: How many call at the same time.
        protected: Whether its protection against stampedes is on, where it can be off.
        entries: How many entries it may hold in the process, where it holds some.
    """

    callers: int
    protected: bool = False
    entries: int = 10_000


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer.

    Attributes:
        name: Its name in tables.
        package: The distribution whose version is told.
        options: The options that are not its defaults.
        protects: When callers of one key share a load: "always", if `Setup.protected` is "set", or "never".
        opened: Sets up, gives the decorated function, cleans up.
    """

    name: str
    package: str
    options: str
    protects: Literal["always", "set", "never"]
    opened: Callable[[str, Load, Setup], AbstractAsyncContextManager[Load]]

    @property
    def version(self) -> str:
        """That of its package."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            # cachekit may be imported from its source.
            return "this one" if self.package == "cachekit-redis" else "not installed"


PEERS: Final[list[Peer]] = []


def _peer(
    name: str, package: str, options: str, protects: Literal["always", "set", "never"]
) -> Callable[[Callable[[str, Load, Setup], AsyncGenerator[Load, None]]], None]:
    """Make a peer of a function: see `Peer`."""
    return lambda opened: PEERS.append(Peer(name, package, options, protects, asynccontextmanager(opened)))


@_peer(
    BY_HAND, "redis", "redis.asyncio, orjson; max_connections raised to the number of callers above its 100", "never"
)
async def _by_hand(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """redis-py alone: GET and loads, or GET and then SET. No protection against anything."""
    async with connected(url, callers=setup.callers) as client:

        async def document(number: int) -> dict[str, Any]:
            key = f"hand:{number}"
            found = await client.get(key)
            if found is not None:
                value: dict[str, Any] = orjson.loads(found)
                return value
            value = await load(number)
            await client.set(key, orjson.dumps(value), ex=TTL)
            return value

        yield document


@_peer("cachekit", "cachekit-redis", "timeout=5, so that a busy machine decides nothing", "always")
async def _cachekit(url: str, load: Load, _setup: Setup) -> AsyncGenerator[Load, None]:
    """This package, on Redis."""
    async with Cache(url, prefix="kit:", timeout=5) as cache:
        yield cache.cached(key="document:<number>", ttl=TTL)(load)


@_peer("cachekit, near", "cachekit-redis", f"near={BOUND}; coherent", "always")
async def _cachekit_near(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """This package with a near cache in front of Redis, once a call is a near hit."""
    async with near_cache(url, entries=setup.entries) as cache:
        document = cache.cached(key="near:<number>", ttl=TTL)(load)
        await until_near(cache, partial(document, -1))
        yield document


@_peer(
    "cashews", "cashews", "pickle_type=json; at most 10 connections, its default; against stampedes lock=True", "set"
)
async def _cashews(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Its plain decorator; against stampedes the one with a lock."""
    from cashews import Cache  # noqa: PLC0415 - see above

    cache = Cache()
    cache.setup(url, pickle_type="json")
    try:
        yield cache(ttl=TTL, key="cashews:{number}", lock=setup.protected)(load)
    finally:
        await cache.close()


@_peer(
    "aiocache",
    "aiocache",
    "JsonSerializer; pool_max_size raised to the number of callers; against stampedes cached_stampede(lease=2)",
    "set",
)
async def _aiocache(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Its `cached`; against stampedes `cached_stampede`."""
    from aiocache import RedisCache, cached, cached_stampede  # noqa: PLC0415 - see above
    from aiocache.serializers import JsonSerializer  # noqa: PLC0415 - see above

    place = urlsplit(url)
    options: dict[str, Any] = {
        "cache": RedisCache,
        "endpoint": place.hostname,
        "port": place.port,
        "serializer": JsonSerializer(),
        "key_builder": lambda _function, number: f"aiocache:{number}",
        "ttl": TTL,
        # A stampede needs connections for its lock, too.
        "pool_max_size": max(100, 2 * setup.callers),
    }
    document = (cached_stampede(lease=2, **options) if setup.protected else cached(**options))(load)
    try:
        yield document
    finally:
        await document.cache.close()


@_peer(
    "fastapi-cache2",
    "fastapi-cache2",
    "JsonCoder; without its redis extra, which demands redis-py < 5; max_connections as by hand",
    "never",
)
async def _fastapi_cache2(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Its decorator outside of a route; there can be one at a time, since its backend is global.

    Its `redis` extra demands a redis-py below 5. Without the extra it installs beside any, and its backend works.
    """
    from fastapi_cache import FastAPICache  # noqa: PLC0415 - see above
    from fastapi_cache.backends.redis import RedisBackend  # noqa: PLC0415 - see above
    from fastapi_cache.coder import JsonCoder  # noqa: PLC0415 - see above
    from fastapi_cache.decorator import cache  # noqa: PLC0415 - see above

    async with connected(url, callers=setup.callers) as client:
        FastAPICache.init(RedisBackend(client), prefix="fastapi")
        try:
            # Its type speaks of responses, too.
            yield cast("Load", cache(expire=TTL, coder=JsonCoder)(load))
        finally:
            FastAPICache.reset()


@_peer("async-lru", "async-lru", f"maxsize={BOUND}; no Redis, the same object for all callers", "always")
async def _async_lru(_url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """In the process alone: nothing is shared with other processes, and callers share the object."""
    from async_lru import alru_cache  # noqa: PLC0415 - see above

    @alru_cache(maxsize=setup.entries, ttl=TTL)
    async def document(number: int) -> dict[str, Any]:
        return await load(number)

    yield document
    await document.cache_close()
