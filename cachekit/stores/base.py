"""The seam between the toolkit and whatever keeps the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Store(Protocol):
    """Semantic verbs on bytes. A store knows keys and bytes, no values and no policy.

    Every verb answers, or raises a `cachekit.errors.StoreError`, within ``timeout`` seconds. Cancelling
    a caller of one verb disturbs no other. Time to live is whole milliseconds.

    The items of a window are JSON objects with a ``timestamp`` whose text order is time order
    (`cachekit.entry.stamp`); an item without one counts as older than all.
    """

    async def get(self, key: str, *, timeout: float) -> bytes | None:
        """Return the bytes at ``key``, or None when there are none."""
        ...

    async def set(self, key: str, value: bytes, *, ttl_ms: int, timeout: float) -> None:
        """Keep ``value`` at ``key`` for ``ttl_ms``, in place of what was there.

        A set that timed out before it was sent is never sent later.
        """
        ...

    async def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        """Remove ``keys``, whatever is there. Once asked for, it is carried out if it still can be.

        A timeout or a cancelled caller does not take it back.
        """
        ...

    async def take(self, key: str, *, timeout: float) -> bytes | None:
        """Return and remove the bytes at ``key`` in one step: of many takers one gets them."""
        ...

    async def push(self, key: str, item: bytes, *, limit: int, ttl_ms: int, oldest: str, timeout: float) -> None:
        """Put ``item`` at the head of the window at ``key``, in one step with what keeps it small.

        Afterwards the window holds at most ``limit`` items, none at its tail with a timestamp before
        ``oldest``, and is gone after ``ttl_ms``.
        """
        ...

    async def window(self, key: str, count: int, *, timeout: float) -> list[bytes]:
        """Return the newest ``count`` items of the window at ``key``, newest first."""
        ...

    async def aclose(self) -> None:
        """Give back what the running event loop holds. The store can be used again afterwards."""
        ...
