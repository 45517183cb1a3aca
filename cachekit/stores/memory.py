"""A store in this process: the same behaviour as Redis, no server, bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from cachekit.clock import Clock, SystemClock
from cachekit.config import DEFAULT_MAXSIZE, parse_count
from cachekit.entry import timestamp_of
from cachekit.errors import KeyRefusedError
from cachekit.stores.base import Lease, WindowBounds

T = TypeVar("T", bytes, list[bytes])


class MemoryStore:
    """Stores bytes in this process, for tests, for development, for a single worker.

    Args:
        maxsize: The most keys, at least 1. The least recently used key makes room for a new one.
        clock: Tells the time. Tests move it.

    Raises:
        ConfigurationError: ``maxsize`` is not a whole number of at least 1.

    Several event loops and threads may use it. Its values end with the process.
    """

    def __init__(self, *, maxsize: int = DEFAULT_MAXSIZE, clock: Clock | None = None) -> None:
        self._maxsize = parse_count(maxsize, "maxsize")
        self._clock = clock or SystemClock()
        # Least recently used first. Each value with the time of its expiry, by the monotonic clock.
        self._entries: OrderedDict[str, tuple[bytes | list[bytes], float]] = OrderedDict()
        # By key, the token of a lease and the time of its expiry. There are as many as there are loads.
        self._leases: dict[str, tuple[bytes, float]] = {}
        self._lock: AbstractContextManager[object] = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(maxsize={self._maxsize})"

    def __len__(self) -> int:
        """Return the number of keys, including expired ones that nobody has asked for since."""
        return len(self._entries)

    def shard(self, key: str) -> None:
        return None

    async def get(self, key: str, timeout: float) -> bytes | None:
        with self._lock:
            return self._find(key, bytes)

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> None:
        with self._lock:
            self._leases.pop(key, None)
            self._put(key, value, ttl_ms)

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        with self._lock:
            return self._find(key, bytes), self._holder(key)

    async def acquire_lease(
        self, key: str, timeout: float, token: bytes, *, lease_ms: int, unreadable: bytes | None
    ) -> bytes | Lease:
        with self._lock:
            value = self._find(key, bytes)
            if value is not None and value != unreadable:
                return value
            holder = self._holder(key)
            if holder is not None:
                return Lease(holder, mine=False)
            self._hold(key, token, lease_ms)
            return Lease(token, mine=True)

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        with self._lock:
            self._hold(key, token, lease_ms)

    async def renew_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> bool:
        with self._lock:
            held = self._holder(key) == token
            if held:
                self._hold(key, token, lease_ms)
            return held

    async def release_lease(self, key: str, timeout: float, token: bytes) -> None:
        with self._lock:
            if self._holder(key) == token:
                del self._leases[key]

    async def fill(self, key: str, timeout: float, value: bytes, token: bytes, *, ttl_ms: int) -> bool:
        with self._lock:
            if self._holder(key) != token:
                return False
            del self._leases[key]
            self._put(key, value, ttl_ms)
            return True

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._leases.pop(key, None)

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        with self._lock:
            value = self._find(key, bytes)
            self._entries.pop(key, None)
            return value

    async def push(self, key: str, timeout: float, item: bytes, bounds: WindowBounds) -> None:
        with self._lock:
            items = [item, *(self._find(key, list) or ())][: bounds.limit]
            while items and timestamp_of(items[-1]) < bounds.oldest:
                items.pop()
            if items:
                self._put(key, items, bounds.ttl_ms)
            else:
                self._entries.pop(key, None)

    async def window(self, key: str, timeout: float, count: int) -> list[bytes]:
        with self._lock:
            return (self._find(key, list) or [])[:count]

    async def aclose(self) -> None:
        """Do nothing: there is no connection, and the values may still be needed."""

    def _find(self, key: str, kind: type[T]) -> T | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires = entry
        if expires <= self._clock.monotonic():
            del self._entries[key]
            return None
        if not isinstance(value, kind):
            message = "the key holds a value of another kind"
            raise KeyRefusedError(cause="WRONGTYPE", detail=message)
        self._entries.move_to_end(key)
        return value

    def _holder(self, key: str) -> bytes | None:
        token, expires = self._leases.get(key, (None, 0.0))
        if token is not None and expires <= self._clock.monotonic():
            del self._leases[key]
            return None
        return token

    def _hold(self, key: str, token: bytes, lease_ms: int) -> None:
        self._leases[key] = (token, self._clock.monotonic() + lease_ms / 1000)

    def _put(self, key: str, value: bytes | list[bytes], ttl_ms: int) -> None:
        self._entries[key] = (value, self._clock.monotonic() + ttl_ms / 1000)
        self._entries.move_to_end(key)
        while len(self._entries) > self._maxsize:
            self._entries.popitem(last=False)
