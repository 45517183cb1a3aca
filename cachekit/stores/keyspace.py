"""The keys of a store in memory: values, windows and leases, each with its expiry."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar, cast

from cachekit.clock import Clock
from cachekit.errors import KeyRefusedError

T = TypeVar("T", bytes, list[bytes])


class Keyspace:
    """Keys with a value or a window, and with leases. The user of it has the lock.

    Args:
        maxsize: The most keys. The least recently used key makes room for a new one.
        clock: Tells the time. Keys end by its ``time``, as in Redis: tools that freeze the time of a test move that
            alone.
    """

    def __init__(self, maxsize: int, clock: Clock) -> None:
        self._maxsize = maxsize
        self._clock = clock
        # Least recently used first. Each value with the time of its expiry.
        self._entries: OrderedDict[str, tuple[bytes | list[bytes], float]] = OrderedDict()
        # By key, the token of a lease and the time of its expiry. There are as many as there are loads and windows.
        self._leases: dict[str, tuple[bytes, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def time(self) -> float:
        """Return the seconds since 1970, UTC: the time that items of windows are stamped with."""
        return self._clock.time()

    def find(self, key: str, kind: type[T]) -> T | None:
        """Return the value or the window at ``key``.

        Raises:
            KeyRefusedError: The key holds the other kind.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires = entry
        if expires <= self._clock.time():
            self._drop(key)
            return None
        if not isinstance(value, kind):
            message = "the key holds a value of another kind"
            raise KeyRefusedError(cause="WRONGTYPE", detail=message)
        self._entries.move_to_end(key)
        return value

    def value(self, key: str) -> bytes | None:
        """Return the bytes at ``key``."""
        return self.find(key, bytes)

    def find_timed(self, key: str) -> tuple[bytes | None, float]:
        """Return the bytes at ``key``, and for how many seconds they will be there; None and 0.0 if there are none.

        Raises:
            KeyRefusedError: The key holds a window.
        """
        entry = self._entries.get(key)
        # In line, and with one look at the clock: a hit would pay for the call of `find` and for another look.
        if entry is not None and (left := entry[1] - self._clock.time()) > 0 and isinstance(entry[0], bytes):
            self._entries.move_to_end(key)
            return entry[0], left
        return self.find(key, bytes), 0.0

    def text(self, key: str) -> bytes | None:
        """Return the bytes at ``key``; None also for a key that holds a window."""
        try:
            return self.find(key, bytes)
        except KeyRefusedError:
            return None

    def remove_all(self, prefix: str) -> int:
        """Remove all keys and leases that begin with ``prefix``. Return how many keys there were."""
        keys = [key for key in self._entries if key.startswith(prefix)]
        for key in keys:
            self.remove(key)
        for key in [key for key in self._leases if key.startswith(prefix)]:
            self.release(key)
        return len(keys)

    def seconds_left(self, key: str) -> float:
        """Return for how many seconds the value at ``key`` will be there; 0.0 if there is none."""
        return max(0.0, self._entries[key][1] - self._clock.time()) if key in self._entries else 0.0

    def append(self, key: str, more: bytes) -> None:
        """Put ``more`` behind the bytes at ``key``, which keep their expiry."""
        value, expires = self._entries[key]
        self._entries[key] = (cast("bytes", value) + more, expires)

    def put(self, key: str, value: bytes | list[bytes], ttl_ms: int) -> None:
        """Store ``value`` for ``ttl_ms``."""
        self._entries[key] = (value, self._clock.time() + ttl_ms / 1000)
        self._entries.move_to_end(key)
        while len(self._entries) > self._maxsize:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        value, expires = self._entries.pop(key)
        if isinstance(value, list) and key in self._leases and self._leases[key][1] <= expires:
            # The generation of the window, which would stay until it is asked for. A seized lease may end later.
            self.release(key)

    def remove(self, key: str) -> None:
        """Remove the value or the window at ``key``."""
        self._entries.pop(key, None)

    def holder(self, key: str) -> bytes | None:
        """Return the token that holds the lease of ``key``."""
        token, expires = self._leases.get(key, (None, 0.0))
        if token is not None and expires <= self._clock.time():
            del self._leases[key]
            return None
        return token

    def hold(self, key: str, token: bytes, lease_ms: int) -> None:
        """Let ``token`` hold the lease of ``key`` for ``lease_ms``."""
        self._leases[key] = (token, self._clock.time() + lease_ms / 1000)

    def release(self, key: str) -> None:
        """Remove the lease of ``key``."""
        self._leases.pop(key, None)
