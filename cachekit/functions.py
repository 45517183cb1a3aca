"""The default cache, looked up at every call, and the functions that use it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from cachekit._flow.policy import Duration
from cachekit._flow.runtime import Runtime
from cachekit.cache import Cache
from cachekit.config import DEFAULT_TIMEOUT
from cachekit.decorators import Decorators
from cachekit.errors import ConfigurationError
from cachekit.stores.base import Store

_lock: Final = threading.Lock()
_configured: Cache | None = None
_in_context: Final[ContextVar[Cache | None]] = ContextVar("cachekit default cache", default=None)


def configure(
    url: str | Store | Cache | None = None,
    *,
    prefix: str = "",
    timeout: float = DEFAULT_TIMEOUT,
    near: int | None = None,
) -> Cache:
    """Set the default cache of this process and return it.

    Functions that are decorated already use it from their next call on. The previous default cache is not
    closed: code that still holds it may go on using it.

    Args:
        url: A URL, a `Store`, a `Cache`, or None for ``CACHEKIT_URL``, ``REDIS_URL`` or the local Redis. A `Cache`
            has settings of its own, so the settings below are refused with it.
        prefix: Stands before every key.
        timeout: Seconds that all cache work of one call may take together.
        near: How many results are kept in this process as well.

    Raises:
        ConfigurationError: A setting makes no sense.

    Example:
        >>> configure("memory://", prefix="myapp:")
        Cache(MemoryStore(maxsize=10000), prefix='myapp:')
    """
    global _configured  # noqa: PLW0603 - the one default cache of a process is a global by its nature
    if isinstance(url, Cache) and (prefix or timeout != DEFAULT_TIMEOUT or near is not None):
        message = "configure() was given a Cache and settings for one; give them to the Cache"
        raise ConfigurationError(message)
    cache = url if isinstance(url, Cache) else Cache(url, prefix=prefix, timeout=timeout, near=near)
    with _lock:
        _configured = cache
    return cache


def default_cache() -> Cache:
    """Return the cache that module-level functions use in this context at this moment.

    It is the cache of an enclosing `using`, else the configured one. Else it is a cache for ``CACHEKIT_URL``, else
    ``REDIS_URL``, else ``redis://localhost:6379/0``, made at first need.

    Raises:
        ConfigurationError: Nothing was configured and the environment's URL makes no sense.

    Example:
        >>> configure("memory://") is default_cache()
        True
    """
    global _configured  # noqa: PLW0603 - see configure
    cache = _in_context.get() or _configured
    if cache is not None:
        return cache
    with _lock:
        if _configured is None:
            _configured = Cache()
        return _configured


@contextmanager
def using(cache: Cache) -> Generator[Cache, None, None]:
    """Make ``cache`` the default inside a ``with`` block, and in the tasks that are started inside.

    It follows `contextvars`: each concurrent request, thread and test sees its own default.

    Example:
        >>> with using(Cache("memory://")) as cache:
        ...     default_cache() is cache
        True
    """
    token = _in_context.set(cache)
    try:
        yield cache
    finally:
        _in_context.reset(token)


class _DefaultDecorators(Decorators):
    """The decorators of the default cache, which is looked up at each call."""

    def _find_runtime(self) -> Runtime:
        return default_cache().runtime


_decorators: Final = _DefaultDecorators()
cached: Final = _decorators.cached
invalidates: Final = _decorators.invalidates


async def cache_get(key: str) -> Any:
    """Return the value at ``key`` in the default cache, as plain JSON, or None on a miss or a failure.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> print(asyncio.run(cache_get("nothing:here")))
        None
    """
    return await default_cache().get(key)


async def cache_set(key: str, value: Any, ttl: Duration) -> bool:
    """Store plain JSON at ``key`` for ``ttl`` (seconds, timedelta or ``"10m"``) in the default cache.

    Returns:
        Whether the store confirmed it. A value that is not plain JSON, a ttl that makes no sense, and every
        failure of the store give False, and never an exception.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> asyncio.run(cache_set("greeting", "hello", ttl=60))
        True
    """
    return await default_cache().set(key, value, ttl)


async def cache_delete(key: str) -> bool:
    """Invalidate ``key`` in the default cache. Returns whether the store acknowledged it; never raises.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> asyncio.run(cache_delete("greeting"))
        True
    """
    return await default_cache().delete(key)
