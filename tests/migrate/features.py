"""The public names of the other libraries, as the installed versions have them: each has to stand in its guide."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final


def names_of(library: str) -> set[str]:
    """Return the names that the guide for ``library`` has to mention; none for helpers of one's own."""
    return set(_LIBRARIES[library]()) if library in _LIBRARIES else set()


def _parameters(*functions: Callable[..., Any]) -> Iterator[str]:
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            hidden = name == "self" or name.startswith("_")
            if not hidden and parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
                yield name


def _public(owner: object) -> Iterator[str]:
    yield from (name for name in dir(owner) if not name.startswith("_"))


def _classes(module: str, base: str) -> Iterator[str]:
    parent = getattr(importlib.import_module(module), base)
    for name, value in vars(importlib.import_module(module)).items():
        if inspect.isclass(value) and issubclass(value, parent) and value is not parent:
            yield name


def _aiocache() -> Iterator[str]:
    import aiocache
    from aiocache.base import API, BaseCache
    from aiocache.factory import CacheHandler

    yield from aiocache.__all__
    yield from _parameters(aiocache.cached, aiocache.cached_stampede, aiocache.multi_cached)
    yield from _parameters(BaseCache, aiocache.RedisCache.__base__, *API.CMDS)
    yield from (command.__name__ for command in API.CMDS)
    yield from _public(CacheHandler)
    yield from _classes("aiocache.serializers.serializers", "BaseSerializer")
    yield from _classes("aiocache.plugins", "BasePlugin")
    yield from ("cache_read", "cache_write", "aiocache_wait_for_write", "RedLock", "OptimisticLock", "AIOCACHE_DISABLE")


def _async_lru() -> Iterator[str]:
    import async_lru

    async def function() -> None: ...

    yield from async_lru.__all__
    yield from _parameters(async_lru.alru_cache)
    yield from _public(async_lru.alru_cache(function))


def _cashews() -> Iterator[str]:
    import cashews
    from cashews.backends.memory import Memory
    from cashews.backends.redis import Redis
    from cashews.backends.redis.client_side import BcastClientSide
    from cashews.contrib import fastapi
    from cashews.serialize import get_serializer

    # A type for annotations, and a constant of the class: no application has them.
    yield from {*cashews.__all__, *fastapi.__all__, *_public(cashews.Cache)} - {"TTL", "default_prefix"}
    for name in _DECORATORS:
        yield from _parameters(getattr(cashews.Cache, name))
    yield from _parameters(Redis, BcastClientSide, Memory, get_serializer)
    yield from cashews.default_formatter._functions


_DECORATORS: Final = ("__call__", "failover", "early", "soft", "hit", "dynamic", "iterator", "invalidate")


def _fastapi_cache() -> Iterator[str]:
    import fastapi_cache
    from fastapi_cache.decorator import cache

    yield from fastapi_cache.__all__
    yield from _public(fastapi_cache.FastAPICache)
    yield from _parameters(fastapi_cache.FastAPICache.init, fastapi_cache.FastAPICache.clear, cache)
    yield from _classes("fastapi_cache.coder", "Coder")
    yield from ("RedisBackend", "InMemoryBackend", "MemcachedBackend", "DynamoBackend")


_LIBRARIES: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "aiocache": _aiocache,
    "async-lru": _async_lru,
    "cashews": _cashews,
    "fastapi-cache2": _fastapi_cache,
}
