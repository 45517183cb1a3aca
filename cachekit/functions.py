"""The default cache, looked up at every call, and the functions that use it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final, Unpack

from cachekit._flow.plan import KnownTemplates
from cachekit._flow.policy import CachedManyOptions, CachedOptions, Duration, Policy
from cachekit._flow.runtime import Runtime
from cachekit._flow.write import Invalidation, InvalidationOptions
from cachekit._tiers.incidents import LOGGER
from cachekit.cache import Cache
from cachekit.config import DEFAULT_TIMEOUT
from cachekit.decorators import (
    CachedDecorator,
    F,
    ManyDecorator,
    make_cached,
    make_cached_many,
    make_invalidates,
    with_options_in_signature,
)
from cachekit.errors import ConfigurationError
from cachekit.sealing import Keys
from cachekit.stores.base import Store
from cachekit.stores.credentials import Credentials
from cachekit.stores.unusable import UnusableStore

_lock: Final = threading.Lock()
_configured: Cache | None = None
# Of the functions that use the default cache; any cache may become it.
_known: Final = KnownTemplates()
_in_context: Final[ContextVar[Cache | None]] = ContextVar("cachekit default cache", default=None)


def configure(
    url: str | Store | Cache | None = None,
    *,
    prefix: str = "",
    timeout: Duration = DEFAULT_TIMEOUT,
    near: int | None = None,
    keys: Keys | None = (),
    credentials: Credentials | None = None,
) -> Cache:
    """Set the default cache of this process and return it.

    Functions that are decorated already use it from their next call on. The previous default cache is not
    closed: code that still holds it may go on using it.

    Args:
        url: A URL, a `Store`, a `Cache`, or None for ``CACHEKIT_URL``, ``REDIS_URL`` or the local Redis. A `Cache`
            has settings of its own, so the settings below are refused with it.
        prefix: Stands before every key.
        timeout: How long all cache work of one call may take together; default 0.25 s.
        near: How many results are kept in this process as well.
        keys: Of private functions and of snapshots (see `Cache`).
        credentials: Is asked for user and password (see `Cache`).

    Raises:
        ConfigurationError: A setting makes no sense.

    Example:
        >>> configure("memory://", prefix="myapp:")
        Cache(MemoryStore(maxsize=10000), prefix='myapp:')
    """
    global _configured  # noqa: PLW0603 - the one default cache of a process is a global by its nature
    given = prefix or timeout != DEFAULT_TIMEOUT or near is not None or keys != () or credentials is not None
    if isinstance(url, Cache) and given:
        message = "configure() was given a Cache and settings for one; give them to the Cache"
        raise ConfigurationError(message)
    if isinstance(url, Cache):
        cache = url
    else:
        cache = Cache(url, prefix=prefix, timeout=timeout, near=near, keys=keys, credentials=credentials)
    with _lock:
        _configured = cache
    return cache


def default_cache() -> Cache:
    """Return the cache that module-level functions use in this context at this moment.

    It is the cache of an enclosing `using`, else the configured one. Else it is a cache for ``CACHEKIT_URL``, else
    ``REDIS_URL``, else ``redis://localhost:6379/0``, made at first need.

    Raises:
        ConfigurationError: Nothing was configured and the environment's URL makes no sense. Decorated functions,
            `cache_get` and their kin do not raise it: they go on uncached, and the log says so once.

    Example:
        >>> configure("memory://") is default_cache()
        True
    """
    global _configured  # noqa: PLW0603 - see configure
    cache = _in_context.get() or _configured
    if cache is None:
        with _lock:
            cache = _configured = _configured or Cache()
    if isinstance(cache, _Uncached):
        raise ConfigurationError(cache.reason)
    return cache


def forget_default() -> None:
    """Let the default cache be as in a fresh process: looked up in the environment, at the next need."""
    global _configured  # noqa: PLW0603 - see configure
    with _lock:
        _configured = None


@contextmanager
def using(cache: Cache) -> Generator[Cache, None, None]:
    """Make ``cache`` the default inside a ``with`` block, and in the tasks that are started inside.

    It follows `contextvars`: each concurrent request, thread and test sees its own default. The block may end in
    another context than it began in, as the two halves of a fixture or a dependency may. Code that runs in neither
    context does not see ``cache``, and the log says so once. FastAPI runs a ``def`` dependency in a thread with a
    context of its own: write it as ``async def``.

    Raises:
        ConfigurationError: ``cache`` is no `Cache`.

    Example:
        >>> with using(Cache("memory://")) as cache:
        ...     default_cache() is cache
        True
    """
    if not isinstance(cache, Cache):
        message = f"using() takes a Cache, not a {type(cache).__name__}; write using(Cache(url))"
        raise ConfigurationError(message)
    token = _in_context.set(cache)
    try:
        yield cache
    finally:
        _leave(token, cache)


def _leave(token: Token[Cache | None], cache: Cache) -> None:
    try:
        _in_context.reset(token)
    except ValueError:
        # This is another context. A copy of the first one has the cache as well, and leaves it here.
        if _in_context.get() is cache:
            _in_context.set(None if token.old_value is Token.MISSING else token.old_value)
        else:
            _warn_of_contexts()


@functools.cache
def _warn_of_contexts() -> None:
    """Log, once, that a block did not hold where its author may expect it to."""
    LOGGER.warning(
        "a using() block ended in another context than it began in; code in between saw its cache only in the first "
        "one. Where the block is in a fixture or a dependency that is a def, write an async def"
    )


class _Uncached(Cache):
    """The default cache when the environment's URL makes no sense: calls go on uncached; the log says why, once."""

    def __init__(self, reason: str) -> None:
        store = UnusableStore(f"{reason}; calls go on uncached until configure() is called")
        # Not the keys of the environment: they may be the reason.
        super().__init__(store, keys=None)
        self.reason: str = reason


def _default() -> Cache:
    """Return the default cache of a call, which is no place to raise an error of configuration."""
    global _configured  # noqa: PLW0603 - see configure
    cache = _in_context.get() or _configured
    if cache is not None:
        return cache
    try:
        return default_cache()
    except ConfigurationError as error:
        with _lock:
            _configured = _configured or _Uncached(str(error))
            return _configured


def _runtime() -> Runtime:
    return _default().runtime


@with_options_in_signature(Policy)
def cached(key: str | None = None, **options: Unpack[CachedOptions]) -> CachedDecorator:
    """Cache the results of an async function in the default cache; `Cache.cached` does so in a cache of your own.

    A hit has the type that the return annotation names. A failure of the cache never reaches the caller. An
    exception of the function does, unchanged, and is not cached. Callers of one cold key share one load, in the
    task of the first caller; an invalidation that lands while the load runs wins.

    Args:
        key: A template such as ``"profile:<user_id>"``, ``"item:<item.id>"``, ``"price:<item[sku]>"``. Without
            one the key is ``module.qualname:`` and every argument by name. A classmethod's has the class on which it
            is called. A method and a function that is made inside another one need a template. A ``*`` or ``?`` is
            no pattern. Two functions of one cache that share keys, and not their types, are one warning in the log.
        ttl: How long a result is kept: seconds, a `datetime.timedelta`, ``"10m"``, or a callable that gets the
            result and returns one of these. From 1 ms to 100 years.
        when: Gets the result and returns whether to store it; no ``async def``. None stores every result, even None.
        jitter: The largest fraction, from 0 to below 1, by which a TTL is shortened at random.
        lease: How long a killed loader can delay others; 5 s. A live one renews it while it loads, for 100 leases at
            most, or for ``load_timeout``. After that other processes, and later calls in this one, load anew.
        near: Whether results are kept in this process as well (see `Cache`, 10,000 by default); None leaves it to that.
        load_timeout: How long a load may take. When it is over, the function is cancelled, and all callers that share
            the load get `TimeoutError`; the next call loads anew. None sets no limit. An uncached call has none either.
        strict: Whether a return annotation that cannot be used, and a result that would not come back as it was, are
            errors. Otherwise such a result is returned uncached, with one warning.
        max_bytes: The most bytes of JSON of a result that is stored; None leaves it to the cache (1 MiB). One warning.
        tags: Templates of tags, ``["team:<team_id>"]``, or True for one of the function itself: docs/tags.md.
        private: Whether results are sealed in Redis with the keys of the cache: see ``keys`` of `Cache`.

    ``stale_while_revalidate`` to ``offline`` say when a value whose TTL is over is handed out: docs/stale.md.

    Raises:
        DecorationError: Not an ``async def``, a template that names no parameter or holds a ``*``, or no template
            where one is needed; with ``strict=True`` also a return annotation that cannot be used. Raised at
            decoration; for an annotation that names a type which is not there yet, at the first call.
        ConfigurationError: An option makes no sense, or ``private`` lacks keys. Raised at decoration, or by each call.
        RoundTripError: With ``strict=True``, raised by a call in place of a result that would not come back as it
            was. The message names the place, never the value.

    Example: functions, methods, classmethods (write it above ``@classmethod``) and staticmethods alike
        >>> @cached(key="profile:<user_id>", ttl="10m")
        ... async def profile(user_id: str) -> list[str]: ...
        >>> profile.key("42")
        'profile:42'
    """
    return make_cached(_runtime, _known, key, options)


def cached_many(key: str, *, each: str, **options: Unpack[CachedManyOptions]) -> ManyDecorator:
    """Cache the results of an async function of many ids, each under a key of its own, in the default cache.

    A call reads all keys in one round trip, and calls the function once, with a list of the ids that it has to load. It
    returns a dict in the order of the ids that it was asked for, each once, without the ids that the function leaves
    out. Where there is a function for one id as well, decorate that with `cached` and this one with its ``.many``: then
    both share results and loads.

    Args:
        key: A template for one id, such as ``"user:<user_id>"``. It names the id by a name that is no parameter; all
            other placeholders are parameters.
        each: The parameter that has the ids: anything to iterate over, but no text.
        max_batch: The most ids in one call of the function, 500 by default; more are split.
        absent_ttl: For how long it is remembered that the function has left an id out; None: it is not.
        options: As of `cached`. ``ttl`` and ``when`` get the result for one id.

    Raises:
        DecorationError: Not an ``async def``, one that returns no mapping, or a template that does not name the id.
        ConfigurationError: An option makes no sense.

    Example:
        >>> @cached_many(key="user:<user_id>", each="user_ids", ttl=600)
        ... async def users(user_ids: list[int]) -> dict[int, str]: ...
        >>> users.keys([1, 2])
        ['user:1', 'user:2']
    """
    return make_cached_many(_runtime, _known, key, each, options)


@with_options_in_signature(Invalidation)
def invalidates(*keys: str, **options: Unpack[InvalidationOptions]) -> Callable[[F], F]:
    """Invalidate keys and tags of the default cache after an async function has returned normally, in one round trip.

    When it raises, nothing is invalidated. A failure of the cache never reaches the caller. The function keeps its
    type.

    Args:
        keys: Templates as for `cached`. Placeholders such as ``<return.id>`` use the result. ``"profile:<*ids>"`` names
            a key for each element of a collection.
        options: The options below, by name.
        tags: Templates of tags: all values that depend on them are invalidated. They may use the result as well.
        soft: Whether the values of functions with ``stale_if_error`` stay, to stand in for loads that fail and for
            nothing else (`CachedFunction.expire`). All other values are removed. Not together with ``tags``.
        always: Whether to invalidate also when the function raises or is cancelled: it may have written by then. No
            template may use the result. A cancellation is not delayed: the journal invalidates.
        around: Whether to invalidate before the function runs as well, for one that cannot use `Cache.after_commit`:
            from then on no call is served what was cached before it. Placeholders of the result count afterwards alone.

    Raises:
        DecorationError: At decoration: not an ``async def``, no template, one that names no parameter, or an unknown
            option.
        ConfigurationError: An option makes no sense.

    Example:
        >>> @invalidates("profile:<user_id>")
        ... async def record_errors(user_id: str, errors: list[str]) -> None: ...
    """
    return make_invalidates(_runtime, keys, options)


async def cache_get(key: str) -> Any:
    """Return the value at ``key`` in the default cache, as plain JSON, or None on a miss or a failure.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> print(asyncio.run(cache_get("nothing:here")))
        None
    """
    return await _default().get(key)


async def cache_set(key: str, value: Any, ttl: Duration) -> bool:
    """Store ``value``, plain JSON, at ``key`` for ``ttl`` (seconds, timedelta or ``"10m"``) in the default cache.

    Returns:
        Whether the store confirmed it. A value that is not plain JSON, a ttl that makes no sense, a ``*`` or ``?`` in
        the key, and every failure of the store give False, and never an exception.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> asyncio.run(cache_set("greeting", "hello", ttl=60))
        True
    """
    return await _default().set(key, value, ttl)


async def cache_delete(key: str) -> bool:
    """Invalidate ``key`` in the default cache. Returns whether the store acknowledged it; never raises.

    A key is one key: a ``*`` or ``?`` in it is refused with one warning, and False is returned.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> asyncio.run(cache_delete("greeting"))
        True
    """
    return await _default().delete(key)
