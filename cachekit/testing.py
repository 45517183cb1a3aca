"""Tools for the tests of an application: a clock to move, a store that fails on cue, a cache in memory."""

from __future__ import annotations

import threading

from cachekit.cache import Cache
from cachekit.clock import Clock
from cachekit.config import DEFAULT_MAXSIZE
from cachekit.errors import StoreError, StoreUnavailableError
from cachekit.sealing import Keys
from cachekit.stores.memory import MemoryStore

__all__ = ["FailingStore", "FakeClock", "memory_cache"]


class FakeClock:
    """A clock that stands still until it is moved. Seconds.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(600)
        >>> clock.monotonic()
        600.0
    """

    def __init__(self, *, epoch: float = 1_800_000_000.0) -> None:
        self._elapsed = 0.0
        self._epoch = epoch

    def monotonic(self) -> float:
        """Return the seconds by which the clock was moved."""
        return self._elapsed

    def time(self) -> float:
        """Return the seconds since 1970, UTC."""
        return self._epoch + self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._elapsed += seconds


class FailingStore(MemoryStore):
    """A memory store that fails from `fail` on until `recover`, to test how your application behaves then.

    Args:
        maxsize: The most keys kept.
        clock: Tells the time.

    Example:
        >>> store = FailingStore()
        >>> store.fail()
        >>> import asyncio
        >>> print(asyncio.run(Cache(store).get("key")))
        None
    """

    def __init__(self, *, maxsize: int = DEFAULT_MAXSIZE, clock: Clock | None = None) -> None:
        super().__init__(maxsize=maxsize, clock=clock)
        self.error: StoreError | None = None
        # Every verb takes the lock first, so the lock can make all of them fail.
        self._lock = _Gate(self)

    def fail(self, error: StoreError | None = None) -> None:
        """Raise ``error`` from every verb from now on. Without an error the store fails as if nobody answered."""
        self.error = error or StoreUnavailableError("unavailable", "the store fails on cue")

    def recover(self) -> None:
        """Work again."""
        self.error = None


class _Gate:
    """A lock that opens only while its store is not failing."""

    def __init__(self, store: FailingStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._store.error is not None:
            raise self._store.error
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()


def memory_cache(*, clock: FakeClock | None = None, prefix: str = "", keys: Keys | None = ()) -> Cache:
    """Return a cache in memory; with a `FakeClock`, entries expire when the clock is moved.

    Example:
        >>> import asyncio
        >>> clock = FakeClock()
        >>> cache = memory_cache(clock=clock)
        >>> asyncio.run(cache.set("key", 1, ttl="10m"))
        True
        >>> clock.advance(601)
        >>> print(asyncio.run(cache.get("key")))
        None
    """
    return Cache(MemoryStore(clock=clock), prefix=prefix, keys=keys, clock=clock)
