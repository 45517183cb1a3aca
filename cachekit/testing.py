"""What the tests of an application need: a clock to move, a store that fails on cue, a cache in memory."""

from __future__ import annotations

from collections.abc import Sequence

from cachekit.cache import Cache
from cachekit.errors import StoreError, StoreUnavailableError
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
        """Return the seconds it was moved by."""
        return self._elapsed

    def time(self) -> float:
        """Return the seconds since 1970, UTC."""
        return self._epoch + self._elapsed

    def advance(self, seconds: float) -> None:
        """Move it forward."""
        self._elapsed += seconds


class FailingStore:
    """A memory store that fails whenever you say so, for tests of what your application does then.

    Args:
        clock: Tells the time.

    Set ``error`` to the `StoreError` that every verb shall raise, or to None to have it work again.

    Example:
        >>> store = FailingStore()
        >>> store.fail()
        >>> import asyncio
        >>> print(asyncio.run(Cache(store).get("key")))
        None
    """

    def __init__(self, *, clock: FakeClock | None = None) -> None:
        self._inner = MemoryStore(clock=clock)
        self.error: StoreError | None = None

    def fail(self, error: StoreError | None = None) -> None:
        """Fail from now on, with ``error`` or as if nobody answered."""
        self.error = error or StoreUnavailableError("unavailable", "the store fails on cue")

    def recover(self) -> None:
        """Work again."""
        self.error = None

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    async def get(self, key: str, *, timeout: float) -> bytes | None:
        self._check()
        return await self._inner.get(key, timeout=timeout)

    async def set(self, key: str, value: bytes, *, ttl_ms: int, timeout: float) -> None:
        self._check()
        await self._inner.set(key, value, ttl_ms=ttl_ms, timeout=timeout)

    async def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        self._check()
        await self._inner.delete(keys, timeout=timeout)

    async def take(self, key: str, *, timeout: float) -> bytes | None:
        self._check()
        return await self._inner.take(key, timeout=timeout)

    async def push(self, key: str, item: bytes, *, limit: int, ttl_ms: int, oldest: str, timeout: float) -> None:
        self._check()
        await self._inner.push(key, item, limit=limit, ttl_ms=ttl_ms, oldest=oldest, timeout=timeout)

    async def window(self, key: str, count: int, *, timeout: float) -> list[bytes]:
        self._check()
        return await self._inner.window(key, count, timeout=timeout)

    async def aclose(self) -> None:
        """Close nothing."""


def memory_cache(*, clock: FakeClock | None = None, prefix: str = "") -> Cache:
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
    return Cache(MemoryStore(clock=clock), prefix=prefix, clock=clock)
