"""MemoryStore: a store in this process. It behaves as Redis does, needs no server and is bounded."""

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
from cachekit.stores.base import WindowBounds
from cachekit.stores.scripts import Script

R = TypeVar("R")
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
        self._keys = _Keys(self._maxsize, clock or SystemClock())
        self._lock: AbstractContextManager[object] = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(maxsize={self._maxsize})"

    def __len__(self) -> int:
        """Return the number of keys, expired keys that no caller has asked for since included."""
        return len(self._keys)

    def shard(self, key: str) -> None:
        return None

    async def get(self, key: str, timeout: float) -> bytes | None:
        with self._lock:
            return self._keys.find(key, bytes)

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> None:
        with self._lock:
            self._keys.release(key)
            self._keys.put(key, value, ttl_ms)

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        with self._lock:
            return self._keys.value(key), self._keys.holder(key)

    async def run(self, key: str, timeout: float, script: Script[R]) -> R:
        with self._lock:
            return script.in_memory(self._keys, key)

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        with self._lock:
            self._keys.hold(key, token, lease_ms)

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        with self._lock:
            for key in keys:
                self._keys.remove(key)
                self._keys.release(key)

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        with self._lock:
            value = self._keys.find(key, bytes)
            self._keys.remove(key)
            return value

    async def push(self, key: str, timeout: float, item: bytes, bounds: WindowBounds) -> None:
        with self._lock:
            items = [item, *(self._keys.find(key, list) or ())][: bounds.limit]
            while items and timestamp_of(items[-1]) < bounds.oldest:
                items.pop()
            if items:
                self._keys.put(key, items, bounds.ttl_ms)
            else:
                self._keys.remove(key)

    async def window(self, key: str, timeout: float, count: int) -> list[bytes]:
        with self._lock:
            return (self._keys.find(key, list) or [])[:count]

    async def aclose(self) -> None:
        """Do nothing: there is no connection, and the keys may still be wanted."""


class _Keys:
    """The keys of a store and their leases, bounded. Its user has the lock."""

    def __init__(self, maxsize: int, clock: Clock) -> None:
        self._maxsize = maxsize
        self._clock = clock
        # Least recently used first. Each value with the time of its expiry, by the monotonic clock.
        self._entries: OrderedDict[str, tuple[bytes | list[bytes], float]] = OrderedDict()
        # By key, the token of a lease and the time of its expiry. There are as many as there are loads.
        self._leases: dict[str, tuple[bytes, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str, kind: type[T]) -> T | None:
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

    def value(self, key: str) -> bytes | None:
        return self.find(key, bytes)

    def put(self, key: str, value: bytes | list[bytes], ttl_ms: int) -> None:
        self._entries[key] = (value, self._clock.monotonic() + ttl_ms / 1000)
        self._entries.move_to_end(key)
        while len(self._entries) > self._maxsize:
            self._entries.popitem(last=False)

    def remove(self, key: str) -> None:
        self._entries.pop(key, None)

    def holder(self, key: str) -> bytes | None:
        token, expires = self._leases.get(key, (None, 0.0))
        if token is not None and expires <= self._clock.monotonic():
            del self._leases[key]
            return None
        return token

    def hold(self, key: str, token: bytes, lease_ms: int) -> None:
        self._leases[key] = (token, self._clock.monotonic() + lease_ms / 1000)

    def release(self, key: str) -> None:
        self._leases.pop(key, None)
