"""The cache: wires the tiers together and owns their life. The only composition root."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from cachekit._flow.caches import CACHES, off_by_environment, off_runtime
from cachekit._flow.commit import after_commit
from cachekit._flow.plan import KnownTemplates
from cachekit._flow.policy import CachedManyOptions, CachedOptions, Duration, Policy
from cachekit._flow.put import touch
from cachekit._flow.runtime import Runtime
from cachekit._flow.scopes import Scopes
from cachekit._flow.tagged import read_by_hand
from cachekit._flow.write import Invalidation, InvalidationOptions, clear, commit, invalidate, store, store_many
from cachekit._tiers.background import Background
from cachekit._tiers.coherence import Coherence
from cachekit._tiers.guard import Guard, Settings
from cachekit._tiers.journal import Journal
from cachekit._tiers.near import NearTier, ScopedNear
from cachekit._tiers.outcome import Found
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.tags import Wanted
from cachekit.clock import Clock, SystemClock, check_clock
from cachekit.codecs import HandCodec
from cachekit.config import (
    DEFAULT_MAX_BYTES,
    DEFAULT_NEAR,
    DEFAULT_NEAR_BYTES,
    DEFAULT_TIMEOUT,
    check_callback,
    check_prefix,
    check_scope,
    parse_count,
    parse_duration,
)
from cachekit.decorators import (
    NO_KEYS,
    CachedDecorator,
    F,
    ManyDecorator,
    make_cached,
    make_cached_many,
    make_invalidates,
    with_options_in_signature,
)
from cachekit.errors import ConfigurationError
from cachekit.events import Event
from cachekit.keys import PATTERN, is_pattern
from cachekit.sealing import VARIABLE, Keys, Sealer
from cachekit.stores.base import Store
from cachekit.stores.connect import open_store
from cachekit.stores.credentials import Credentials
from cachekit.stores.memory import MemoryStore
from cachekit.tags import is_name, is_tag, tag_keys

T = TypeVar("T")

_GET: Final = HandCodec(Any, "cache.get")
_SET: Final = HandCodec(Any, "cache.set")
_TAKE: Final = HandCodec(Any, "cache.take")


def open_sealer(keys: Keys | None) -> Sealer | None:
    """Return the sealer for ``keys``; for an empty tuple, which is no choice, that of the environment, if it has keys.

    Raises:
        ConfigurationError: There is no key in ``keys``, or one is none.
    """
    if keys is None:
        return None
    if isinstance(keys, tuple) and not keys:
        given = os.environ.get(VARIABLE, "")
        return Sealer(given, VARIABLE) if given else None
    return Sealer(keys)


def _opened(url: str | Store | None, credentials: Credentials | None, clock: Clock | None) -> Store:
    if url is None or isinstance(url, str):
        return open_store(url, credentials=credentials, clock=clock)
    if credentials is not None:
        message = "a Store has connections of its own; give the credentials to cachekit.stores.open_store"
        raise ConfigurationError(message)
    if isinstance(url, type) and isinstance(url, Store):
        # The class has the verbs of its instances, but no store is behind them.
        message = f"a cache is opened on a store, not on its class; write Cache({url.__name__}())"
        raise ConfigurationError(message)
    if not isinstance(url, Store):
        raise ConfigurationError(_no_store(url))
    return url


def _no_store(given: object) -> str:
    """Return the message for ``given``, which is no store: its type alone, since it may hold a password."""
    kind, verbs = type(given).__name__, [name for name in vars(Store) if not name.startswith("_")]
    missing = [name for name in verbs if not hasattr(given, name)]
    # Half of them: other libraries have a `get`, `set` and `delete` as well.
    if len(missing) * 2 < len(verbs):
        return f"the store {kind} lacks {', '.join(missing)}; write all verbs of cachekit.stores.Store"
    return (
        f"a cache is opened by a URL or on a Store, and a value of type {kind} is neither; "
        'write Cache("redis://localhost:6379/0")'
    )


class Cache:
    """A cache over one store. Nothing is connected before the first use.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://host:26379,host:26379/mymaster/0``,
            ``redis+cluster://host:6379,host:6379``, ``memory://``, or a `Store`. Without one:
            ``CACHEKIT_URL``, else ``REDIS_URL``, else ``redis://localhost:6379/0``.
        prefix: Stands before every key in the store. No blanks, no braces.
        timeout: How long all cache work of one call may take together: seconds, a `datetime.timedelta` or text such as
            ``"250ms"``, from 1 ms to 100 years; default 0.25 s.
        near: How many results of decorated functions are kept in this process as well, in each event loop: a near
            hit asks no server. None keeps only results of functions decorated with ``near=True``. Redis reports
            changes: an invalidation by this process takes effect at once, one by another process after some 150 us,
            and never later than a second (docs/near.md). With ``memory://`` it has no effect.
        near_bytes: The most bytes that near results may take together: their JSON, and 300 bytes for each; default
            64 MiB.
        max_bytes: The most bytes of JSON that a value may have to be stored; default 1 MiB. A larger result is returned
            and not stored, with one warning. A function may have a bound of its own (`cachekit.cached`).
        keys: The keys of private functions, and of snapshots and windows on this cache, as `cachekit.new_key` makes
            them. A list, the current key first; text with commas between them; or a callable that returns either, for
            a key service. Without them, those of ``CACHEKIT_KEYS``; None for no keys in any case. Values and items are
            sealed with the first key and opened with any; a value that none opens is a miss. Needs the extra
            ``encryption``.
        credentials: Is asked for user and password at every connect, and once more when the server refuses them: for
            passwords that change. A function, plain or ``async``, that returns a password or ``(user, password)``, or
            a ``CredentialProvider`` of redis-py. Calls do not fail while a password changes: docs/operations.md.
        clock: Tells the time; for tests (`cachekit.testing.FakeClock`).

    Raises:
        ConfigurationError: An unknown URL scheme or option, or a setting that makes no sense.
        Exception: Any that a callable of ``keys`` raises.

    A setting that makes no sense raises, in a decorator, in `scoped`, in `clear` and in `observe`. No failure of the
    store raises, and no argument of a verb by hand: `get` and `take` return their default, `set` and `delete` return
    False. One cache serves any number of event loops and threads.

    Example:
        >>> import asyncio
        >>> async def main() -> None:
        ...     async with Cache("memory://", prefix="myapp:") as cache:
        ...         await cache.set("greeting", {"text": "hello"}, ttl="10m")
        ...         print(await cache.get("greeting"))
        >>> asyncio.run(main())
        {'text': 'hello'}
    """

    def __init__(
        self,
        url: str | Store | None = None,
        *,
        prefix: str = "",
        timeout: Duration = DEFAULT_TIMEOUT,
        near: int | None = None,
        near_bytes: int = DEFAULT_NEAR_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        keys: Keys | None = (),
        credentials: Credentials | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_clock(clock)
        seconds = parse_duration(timeout, "timeout")
        prefix = check_prefix(prefix)
        entries = DEFAULT_NEAR if near is None else parse_count(near, "near")
        weight = parse_count(near_bytes, "near_bytes")
        settings = Settings(prefix, seconds, parse_count(max_bytes, "max_bytes"), open_sealer(keys))
        self._store = _opened(url, credentials, clock)
        self._prefix = prefix
        self._known = KnownTemplates()
        reporter, background = Reporter(clock or SystemClock()), Background()
        guard = self._guard = Guard(self._store, settings, background, reporter)
        near_tier = NearTier(guard, entries, weight, reporter) if guard.tracks else None
        coherence = Coherence(guard, Journal(reporter), near_tier, background)
        self.own: Runtime = Runtime(guard, coherence, reporter, background, near=near is not None)
        """Its runtime, also while it is off."""
        self._off = off_by_environment()
        self.runtime: Runtime = self.own
        """What its calls use: another one while it is off."""
        self._scopes: Scopes[Cache] = Scopes()
        CACHES.add(self)

    def scoped(self, prefix: str) -> Cache:
        """Return a cache whose keys have ``prefix`` behind that of this one, on the same connections: for a tenant.

        It has the settings of this cache, and shares its limits: the near cache, the loads in the background, the
        circuit breaker and the log. `observe` observes both. `clear` removes the keys with both prefixes. The same
        prefix gives the same object, so it may be asked for in each request. It ends with this cache: its own `aclose`
        does nothing.

        Args:
            prefix: Ends in a character that is no letter or digit: in a colon, best, since an id that is written as
                ``cachekit.keys.escape(id)`` holds none.

        Raises:
            ConfigurationError: ``prefix`` cannot stand before a key, or does not tell where it ends.

        Example:
            >>> import asyncio
            >>> cache = Cache("memory://", prefix="myapp:")
            >>> @cached(key="color", ttl=600)
            ... async def color() -> str:
            ...     return "loaded"
            >>> async def main() -> None:
            ...     await cache.scoped("tenant-7:").set("color", "blue", ttl=60)
            ...     for tenant in (7, 8):
            ...         with using(cache.scoped(f"tenant-{tenant}:")):
            ...             print(await color())
            >>> asyncio.run(main())
            blue
            loaded
            >>> cache.scoped("tenant-7:")
            Cache(MemoryStore(maxsize=10000), prefix='myapp:tenant-7:')
        """
        return self._scopes.get(check_scope(prefix), self._scope)

    def _scope(self, prefix: str) -> Cache:
        return _Scope(self, prefix, self._guard.scoped(prefix))

    def switch(self, *, off: bool) -> None:
        """Be off from now on, or on. `cachekit.testing.disabled` turns all caches off; see ``CACHEKIT_DISABLED``."""
        self.runtime = off_runtime() if off or self._off else self.own

    def __repr__(self) -> str:
        return f"Cache({self._store!r}, prefix={self._prefix!r})"

    # --- decorating -----------------------------------------------------------------------------

    @with_options_in_signature(Policy)
    def cached(self, key: str | None = None, **options: Unpack[CachedOptions]) -> CachedDecorator:
        """Cache the results of an async function in this cache; see `cachekit.cached`."""
        if options.get("private") and self.own.sealer is None and not self.runtime.reporter.off:
            raise ConfigurationError(NO_KEYS)
        return make_cached(lambda: self.runtime, self._known, key, options)

    def cached_many(self, key: str, *, each: str, **options: Unpack[CachedManyOptions]) -> ManyDecorator:
        """Cache the results of an async function of many ids in this cache; see `cachekit.cached_many`."""
        if options.get("private") and self.own.sealer is None and not self.runtime.reporter.off:
            raise ConfigurationError(NO_KEYS)
        return make_cached_many(lambda: self.runtime, self._known, key, each, options)

    @with_options_in_signature(Invalidation)
    def invalidates(self, *keys: str, **options: Unpack[InvalidationOptions]) -> Callable[[F], F]:
        """Invalidate keys and tags of this cache after an async function has returned; see `cachekit.invalidates`."""
        return make_invalidates(lambda: self.runtime, keys, options)

    def after_commit(self) -> AbstractAsyncContextManager[None]:
        """Hold invalidations back until a block ends normally, so that a database commits first.

        ``async with cache.after_commit():`` collects the invalidations of this cache that are made inside, of keys and
        of tags, by `invalidates`, ``.invalidate()``, `invalidate_tags` and `delete`. All of these but the first return
        False meanwhile.
        When the block ends normally, all are performed in one step. When it raises, none is. Inside the block
        a call whose key is among them runs uncached: it sees the data of the transaction, and stores nothing.
        Blocks nest: the outermost one performs. A window's `RollingWindow.forget` waits as well. The block follows
        `contextvars`: tasks started inside belong to it while it lasts.

        A change of a key that is to be invalidated waits, too: `set`, a window's `push` and ``.refresh()``. It
        follows the invalidation, so the last change of a key wins. `set` and `push` return False meanwhile. The
        result of ``.refresh()`` is stored only if the key was not invalidated since, and if the block ends
        within a lease of the load; else the key is invalidated.

        Example:
            >>> import asyncio
            >>> async def main() -> None:
            ...     cache = Cache("memory://")
            ...     await cache.set("profile:42", {"typos": 3}, ttl=600)
            ...     async with cache.after_commit():
            ...         await cache.delete("profile:42")
            ...         print(await cache.get("profile:42"))
            ...     print(await cache.get("profile:42"))
            >>> asyncio.run(main())
            {'typos': 3}
            None
        """
        return after_commit(self.runtime, commit)

    # --- by hand --------------------------------------------------------------------------------

    async def get(self, key: str, default: T | None = None) -> Any | T | None:
        """Return the value at ``key``, as plain JSON, or ``default`` on a miss or a failure.

        A value that a decorated function stored comes back as the dict or list that its JSON is. If the function has
        stale windows or tags, that takes two round trips. A value whose TTL is over, or whose tags were removed, is a
        miss.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache("memory://").get("nothing:here", default="nothing"))
            'nothing'
        """
        if not self._is_key(key, _GET.name):
            return default
        outcome = await read_by_hand(self.runtime, Wanted(key, (), _GET))
        return outcome.value if isinstance(outcome, Found) else default

    async def set(self, key: str, value: Any, ttl: Duration) -> bool:
        """Store ``value`` at ``key`` for ``ttl``. Returns whether the store confirmed it.

        Only plain JSON is stored: dict with text keys, list, str, int, float, bool, None. Any other value
        would come back as another type: it is refused with one warning, and False is returned. So is a ttl that makes
        no sense: it goes from 1 ms to 100 years. So is a ``*`` or ``?`` in the key, which `delete` refuses as well.
        Loads that are going on do not overwrite the value.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache("memory://").set("greeting", "hello", ttl="10m"))
            True
        """
        if not self._is_one_key(key, _SET.name):
            return False
        seconds = self._seconds(ttl, _SET.name)
        return seconds is not None and await store(self.runtime, key, value, _SET, seconds)

    def _seconds(self, ttl: Duration, name: str) -> float | None:
        try:
            return parse_duration(ttl)
        except ConfigurationError:
            # By its type alone: a caller that mixed up the arguments passed the value here.
            self.runtime.reporter.skipped(name, "policy", f"its ttl, a {type(ttl).__name__}, is no duration")
            return None

    async def delete(self, key: str) -> bool:
        """Invalidate ``key``. Returns whether the store acknowledged it, even if the key had no value.

        A key is one key: a ``*`` or ``?`` in it is refused with one warning, and False is returned.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache("memory://").delete("greeting"))
            True
        """
        return self._is_one_key(key, "cache.delete") and await invalidate(self.runtime, [key])

    async def invalidate_tags(self, *tags: str) -> bool:
        """Invalidate all values that depend on one of ``tags``, however many, in one round trip to each server.

        Returns whether every server acknowledged it. If one did not, the journal sends it again. A tag is named as a
        template renders it: values in it as `cachekit.keys.escape` gives them. A text that no template gives is refused
        with one warning, and False is returned. Inside `after_commit` it waits for the end of the block, and returns
        False.

        Example:
            >>> import asyncio
            >>> cache = Cache("memory://")
            >>> @cache.cached(key="page:<number>", ttl=600, tags=["pages"])
            ... async def page(number: int) -> str:
            ...     print("loading")
            ...     return f"page {number}"
            >>> async def main() -> None:
            ...     print(await page(1), await cache.invalidate_tags("pages"), await page(1))
            >>> asyncio.run(main())
            loading
            loading
            page 1 True page 1
        """
        named = [tag for tag in tags if isinstance(tag, str) and is_name(tag)]
        if len(named) < len(tags):
            text = (
                "cache.invalidate_tags left out what is no name of a tag; write ids as cachekit.keys.escape(id), "
                "and many names as invalidate_tags(*names)"
            )
            self.runtime.reporter.incident("cache.invalidate_tags", "argument", text)
        done = await invalidate(self.runtime, tag_keys(named))
        return done and len(named) == len(tags)

    async def clear(self, *, within: Duration = "1m", progress: Callable[[int], None] | None = None) -> bool:
        """Remove all keys that begin with the prefix of this cache: values, windows, tags and leases.

        Every server is looked through twice, since a load may fill while it is looked through once. Calls that run
        meanwhile stay correct: after it no call is served what was loaded before it began. On a server it takes some
        0.1 ms for 500 keys of the whole database. A cache without a prefix is cleared only in memory: it shares its
        database with other data.

        Args:
            within: The most that it may take: seconds, a `datetime.timedelta` or text.
            progress: Is called after each step with the number of keys that are removed.

        Returns:
            Whether it was done to the end. If not, some keys are left, and a second call goes on.

        Raises:
            ConfigurationError: The cache has no prefix, ``within`` is no duration, or ``progress`` no plain function.
            Exception: Any that ``progress`` raises.

        Example:
            >>> import asyncio
            >>> async def main() -> None:
            ...     cache = Cache("memory://", prefix="myapp:")
            ...     await cache.set("greeting", "hello", ttl=60)
            ...     print(await cache.clear(), await cache.get("greeting"))
            >>> asyncio.run(main())
            True None
        """
        seconds = parse_duration(within, "within")
        if progress is not None:
            check_callback(progress, "progress", "progress=print")
        if not self._prefix and not isinstance(self._store, MemoryStore):
            message = (
                'clear() would remove every key of the database; give the cache a prefix: Cache(url, prefix="myapp:")'
            )
            raise ConfigurationError(message)
        if not self.runtime.sweeper.supported:
            text = "cache.clear did nothing: its store cannot be looked through (SweepingStore)"
            self.runtime.reporter.incident("cache.clear", "unswept", text)
            return False
        return await clear(self.runtime, seconds, progress)

    async def touch(self, key: str, ttl: Duration) -> bool:
        """Let the value at ``key`` live for ``ttl`` from now on, without reading or writing it. Its tags live as long.

        Returns whether there was one; False also when the store fails, or the ttl makes no sense. None is made, and one
        that is written or removed meanwhile is as it would be without.

        Example:
            >>> import asyncio
            >>> async def main() -> None:
            ...     cache = Cache("memory://")
            ...     print(await cache.touch("session:1", "1h"), await cache.set("session:1", {}, ttl=60))
            ...     print(await cache.touch("session:1", "1h"))
            >>> asyncio.run(main())
            False True
            True
        """
        seconds = self._seconds(ttl, "cache.touch")
        if seconds is None or not self._is_key(key, "cache.touch"):
            return False
        return await touch(self.runtime, key, seconds)

    # --- many by hand -----------------------------------------------------------------------------

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values at ``keys``, as `get` does, in one round trip to each server; without those of misses.

        If some of them have tags, it takes two round trips. A key that is no text is left out, with one warning. One
        text in place of many keys is refused with one warning, and {} is returned.

        Example:
            >>> import asyncio
            >>> async def main() -> None:
            ...     cache = Cache("memory://")
            ...     print(await cache.set_many({"a": 1, "b": [2]}, ttl=60), await cache.get_many(["b", "c", "a"]))
            ...     print(await cache.delete_many(["a", "b"]), await cache.get_many(["a", "b"]))
            >>> asyncio.run(main())
            True {'b': [2], 'a': 1}
            True {}
        """
        if not self._are_many(keys, "cache.get_many"):
            return {}
        asked = [key for key in dict.fromkeys(keys) if self._is_key(key, _GET.name)]
        if not asked:
            return {}
        outcomes = await self.runtime.tagged_many.read_by_hand(asked, _GET, self.runtime.budget())
        found = zip(asked, outcomes, strict=True)
        return {key: one.value for key, one in found if isinstance(one, Found) and not one.entry.absent}

    async def set_many(self, values: Mapping[str, Any], ttl: Duration) -> bool:
        """Store each of ``values`` at its key for ``ttl``, as `set` does, in two round trips.

        Returns whether the store confirmed all.

        A value or a key that `set` would refuse is refused alone. An argument that is no mapping is refused with one
        warning, and False is returned.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache("memory://").set_many({"a": 1, "b": 2}, ttl="10m"))
            True
        """
        seconds = self._seconds(ttl, _SET.name)
        if seconds is None:
            return False
        if not isinstance(values, Mapping):
            text = "cache.set_many did nothing: it takes a mapping of keys to values; write {key: value}"
            self.runtime.reporter.incident("cache.set_many", "argument", text)
            return False
        some = {key: value for key, value in values.items() if self._is_one_key(key, _SET.name)}
        return await store_many(self.runtime, some, _SET, seconds) and len(some) == len(values)

    async def delete_many(self, keys: Iterable[str]) -> bool:
        """Invalidate ``keys``, as `delete` does, in one round trip to each server. Returns whether all acknowledged it.

        A key that `delete` would refuse is refused alone.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache("memory://").delete_many(["profile:1", "profile:2"]))
            True
        """
        if not self._are_many(keys, "cache.delete_many"):
            return False
        asked = [*dict.fromkeys(keys)]
        some = [key for key in asked if self._is_one_key(key, "cache.delete_many")]
        deleted = not some or await invalidate(self.runtime, some)
        return deleted and len(some) == len(asked)

    async def erase(self, *keys: str) -> bool:
        """Leave nothing at ``keys``: values, windows, leases, copies near, and what was on its way to them.

        It is an invalidation, of values and of windows alike, in one round trip to each server. Returns whether every
        server acknowledged it. If one did not, the keys are misses in this process at once, and the journal sends it
        again. A ``*`` or ``?`` in a key is no pattern: such a key is refused with one warning, the others are erased,
        and False is returned. Inside `after_commit` it waits for the end of the block, and returns False.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache("memory://").erase("snapshots:42", "profile:42"))
            True
        """
        some = [key for key in keys if self._is_one_key(key, "cache.erase")]
        erased = not some or await invalidate(self.runtime, some)
        return erased and len(some) == len(keys)

    async def take(self, key: str, default: T | None = None) -> Any | T | None:
        """Return the value at ``key`` and remove it in one step: of many takers exactly one gets it.

        All other takers get ``default``. When the store fails, every taker does. The value of a function with stale
        windows is removed and not returned, since it is not known how much is left of it: ``.take()`` of the function
        asks.

        Example:
            >>> import asyncio
            >>> async def main() -> None:
            ...     cache = Cache("memory://")
            ...     await cache.set("ticket", 7, ttl=60)
            ...     print(await cache.take("ticket"), await cache.take("ticket"))
            >>> asyncio.run(main())
            7 None
        """
        if not self._is_key(key, _TAKE.name):
            return default
        outcome = await self.runtime.values.take(key, _TAKE, self.runtime.budget())
        return outcome.value if isinstance(outcome, Found) else default

    def _is_key(self, key: object, name: str) -> bool:
        if isinstance(key, str) and is_tag(key):
            self.runtime.reporter.skipped(name, "argument", "a key that begins with ~{ is that of a tag")
            return False
        if isinstance(key, str):
            return True
        self.runtime.reporter.skipped(name, "argument", f"a key is text, not a {type(key).__name__}")
        return False

    def _are_many(self, keys: object, name: str) -> bool:
        # Each letter of a text would be taken for a key.
        if isinstance(keys, Iterable) and not isinstance(keys, (str, bytes)):
            return True
        kind = "one text" if isinstance(keys, (str, bytes)) else f"a value of type {type(keys).__name__}"
        text = f"{name} did nothing: it takes many keys, and {kind} is none; write [key]"
        self.runtime.reporter.incident(name, "argument", text)
        return False

    def _is_one_key(self, key: object, name: str) -> bool:
        if not self._is_key(key, name):
            return False
        if isinstance(key, str) and is_pattern(key):
            self.runtime.reporter.incident(name, "argument", f"{name} did nothing: {PATTERN}")
            return False
        return True

    # --- watching -------------------------------------------------------------------------------

    def observe(self, observer: Callable[[Event], object]) -> Callable[[], None]:
        """Pass every event of this cache to ``observer``; returns a function that ends it.

        Observers are plain functions, called in line, so they should be quick. An exception of an observer is logged
        once and goes no further. The events are in `cachekit.events`: hits, misses, loads and fills of decorated
        functions, invalidations, and failures. docs/observe.md has a table. `cachekit.instrumentation` counts them for
        Prometheus and OpenTelemetry.

        Raises:
            ConfigurationError: ``observer`` cannot be called, or is an ``async def``.

        Example:
            >>> import asyncio
            >>> cache = Cache("memory://")
            >>> stop = cache.observe(lambda event: print(type(event).__name__, event.keys, event.acknowledged))
            >>> _ = asyncio.run(cache.delete("greeting"))
            Invalidated ('greeting',) True
            >>> stop()
        """
        check_callback(observer, "observer", "cache.observe(print)")
        return self.own.reporter.observe(observer)

    @property
    def healthy(self) -> bool:
        """Whether, as far as this process knows, the store answers and every invalidation has reached it.

        It is False from the first failure on. It is True again with the first answer that comes half a second after
        the last failure. A store that refuses one key (WRONGTYPE, an ACL) answers, and a key that cannot be sent says
        nothing about it. An application can tell by it a missing value from a value that could not be read. An
        example: a ticket that was spent is refused, but the holder of a ticket that could not be read may try again.
        The property asks no server: without a call it does not change. It is True before the first use.

        Example:
            >>> Cache("memory://").healthy
            True
        """
        return self.runtime.coherence.healthy

    @property
    def loading_in_background(self) -> int:
        """How many loads go on in the background now, in all event loops; 32 at most.

        Example:
            >>> Cache("memory://").loading_in_background
            0
        """
        return len(self.own.loading)

    # --- life -----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End loads in the background, give leases back, send the rest of the journal; close the connections.

        Each of the first three gets a second at most. A load that takes longer is cancelled. The log tells how many
        keys the store has not acknowledged by then. The cache can be used again afterwards.

        Example:
            >>> import asyncio
            >>> async def main() -> None:
            ...     cache = Cache("memory://")
            ...     try:
            ...         print(await cache.set("greeting", "hello", ttl=60))
            ...     finally:
            ...         await cache.aclose()
            >>> asyncio.run(main())
            True
        """
        await self.own.aclose(self._scopes.runtimes())
        await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Scope(Cache):
    """A part of another cache: see `Cache.scoped`.

    Args:
        whole: The cache that it is a part of.
        scope: Stands behind the prefix of that.
        guard: The door to the store for such keys.
    """

    def __init__(self, whole: Cache, scope: str, guard: Guard) -> None:
        self._whole = whole
        self._behind = scope
        self._store = whole._store  # noqa: SLF001 - of its own kind, here and below
        self._prefix = whole._prefix + scope  # noqa: SLF001
        self._known = KnownTemplates()
        one = whole.own
        near = None if one.coherence.near is None else ScopedNear(one.coherence.near, scope)
        coherence = Coherence(guard, Journal(one.reporter), near, one.background)
        self.own: Runtime = Runtime(guard, coherence, one.reporter, one.background, near=one.near)
        self.own.loading = one.loading
        self._off = whole._off  # noqa: SLF001
        self.runtime: Runtime = self.own
        CACHES.add(self, scope=True)

    def scoped(self, prefix: str) -> Cache:
        """Return a cache whose keys have both prefixes behind that of the cache; see `Cache.scoped`."""
        return self._whole.scoped(self._behind + check_scope(prefix))

    async def aclose(self) -> None:
        """Do nothing: the cache that it is a part of closes the connections."""
