"""MemoryStore: a store in this process. It behaves as Redis does, needs no server and is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from cachekit.clock import LIVE, Clock, check_clock
from cachekit.config import DEFAULT_MAXSIZE, parse_count
from cachekit.errors import StoreError
from cachekit.stores.base import Sweep, TaggedValue, Window
from cachekit.stores.keyspace import Keyspace
from cachekit.stores.scripts import OpenTags, Script

R = TypeVar("R")


class MemoryStore:
    """Stores bytes in this process, for tests, for development, for a single worker.

    Args:
        maxsize: The most keys, at least 1. The least recently used key makes room for a new one.
        clock: Tells the time. Tests move it (docs/testing.md); without one it is the time of the system, as in Redis.

    Raises:
        ConfigurationError: ``maxsize`` is not a whole number of at least 1, or ``clock`` tells no time.

    Several event loops and threads may use it. Its values end with the process.

    Example:
        >>> from cachekit.stores import MemoryStore
        >>> Cache(MemoryStore(maxsize=1000), prefix="myapp:")
        Cache(MemoryStore(maxsize=1000), prefix='myapp:')
    """

    apart: bool = False

    def __init__(self, *, maxsize: int = DEFAULT_MAXSIZE, clock: Clock | None = None) -> None:
        self._maxsize = parse_count(maxsize, "maxsize")
        check_clock(clock)
        self._keyspace = Keyspace(self._maxsize, clock or LIVE)
        self._lock: AbstractContextManager[object] = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(maxsize={self._maxsize})"

    def __len__(self) -> int:
        """Return the number of keys, expired keys that no caller has asked for since included."""
        return len(self._keyspace)

    def shard(self, key: str) -> None:
        return None

    async def get(self, key: str, timeout: float) -> bytes | None:
        with self._lock:
            return self._keyspace.find(key, bytes)

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> bool:
        with self._lock:
            self._keyspace.release(key)
            self._keyspace.put(key, value, ttl_ms)
            return True

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        with self._lock:
            return self._keyspace.value(key), self._keyspace.holder(key)

    async def get_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        with self._lock:
            return self._keyspace.find_timed(key)

    async def get_with_lease_and_ttl(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None, float]:
        with self._lock:
            value, left = self._keyspace.find_timed(key)
            return value, self._keyspace.holder(key), left

    async def get_and_delete_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        with self._lock:
            found = self._keyspace.find_timed(key)
            self._keyspace.remove(key)
            return found

    async def get_many(self, keys: Sequence[str], timeout: float) -> list[bytes | StoreError | None]:
        with self._lock:
            return [self._of_key(self._keyspace.value, key) for key in keys]

    async def get_many_with_ttl(
        self, keys: Sequence[str], timeout: float
    ) -> list[tuple[bytes | None, float] | StoreError]:
        with self._lock:
            return [self._of_key(self._keyspace.find_timed, key) for key in keys]

    async def run_many(self, steps: Sequence[tuple[str, Script[R]]], timeout: float) -> list[R | StoreError]:
        with self._lock:
            return [self._of_key(partial(script.in_memory, self._keyspace), key) for key, script in steps]

    async def set_many(
        self, values: Sequence[tuple[str, bytes]], timeout: float, *, ttl_ms: int
    ) -> list[bool | StoreError]:
        for key, value in values:
            await self.set(key, timeout, value, ttl_ms=ttl_ms)
        return [True] * len(values)

    @staticmethod
    def _of_key(verb: Callable[[str], R], key: str) -> R | StoreError:
        try:
            return verb(key)
        # One of many: the others have answers all the same.
        except StoreError as error:
            return error

    async def run(self, key: str, timeout: float, script: Script[R]) -> R:
        with self._lock:
            return script.in_memory(self._keyspace, key)

    async def get_tagged(self, key: str, timeout: float, tags: Sequence[str], want: int) -> TaggedValue:
        with self._lock:
            keys = self._keyspace
            return TaggedValue(
                keys.text(key), [keys.text(tag) for tag in tags], keys.seconds_left(key), keys.holder(key)
            )

    async def open_tags(self, tag: str, timeout: float, more: Sequence[str], opening: OpenTags) -> list[bytes | None]:
        with self._lock:
            return opening.in_memory(self._keyspace, [tag, *more])

    async def run_tagged(
        self, key: str, timeout: float, script: Script[R], tags: Sequence[str], opening: OpenTags
    ) -> tuple[R, list[bytes | None]]:
        with self._lock:
            return script.in_memory(self._keyspace, key), opening.in_memory(self._keyspace, tags)

    async def servers_of(self, prefix: str, timeout: float) -> list[str]:
        return [""]

    async def sweep(self, prefix: str, timeout: float, sweep: Sweep) -> Sweep:
        with self._lock:
            return Sweep(removed=self._keyspace.remove_all(prefix))

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        with self._lock:
            self._keyspace.hold(key, token, lease_ms)

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        with self._lock:
            for key in keys:
                self._keyspace.remove(key)
                self._keyspace.release(key)

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        with self._lock:
            value = self._keyspace.find(key, bytes)
            self._keyspace.remove(key)
            return value

    async def window(self, key: str, timeout: float, count: int) -> Window:
        with self._lock:
            items = (self._keyspace.find(key, list) or [])[:count]
            return Window(items, self._keyspace.holder(key), self._keyspace.time())

    async def aclose(self) -> None:
        """Do nothing: there is no connection, and the keys may still be wanted."""
