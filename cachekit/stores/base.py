"""The seam between the toolkit and whatever keeps the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from cachekit.errors import StoreError


class Lease(Struct, frozen=True):
    """A lease on the load of one key: ``mine`` when it was taken just now, else somebody else's.

    ``holder`` is the token of whoever holds it.
    """

    holder: bytes
    mine: bool


class WindowBounds(Struct, frozen=True):
    """What a window holds after a push: at most ``limit`` items, none at its tail with a timestamp before ``oldest``.

    It is gone ``ttl_ms`` after the push.
    """

    limit: int
    ttl_ms: int
    oldest: str


@runtime_checkable
class Store(Protocol):
    """Semantic verbs on bytes. A store knows keys and bytes, no values and no policy.

    Every verb takes its key or keys, then ``timeout``: it answers, or raises a `cachekit.errors.StoreError`, within
    so many seconds. Cancelling a caller of one verb disturbs no other. Time to live is whole milliseconds.

    The items of a window are JSON objects with a ``timestamp`` whose text order is time order
    (`cachekit.entry.stamp`); an item without one counts as older than all.
    """

    def shard(self, key: str) -> str | None:
        """Return the name of what fails together with ``key``: one circuit breaker stands before each shard.

        None when nothing needs one, since the store answers at once whatever happens.
        """
        ...

    def get(self, key: str, timeout: float) -> Awaitable[bytes | None]:
        """Return the bytes at ``key``, or None when there are none.

        A key that holds a window is refused; asked for together with others it may count as none.
        """
        ...

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> None:
        """Keep ``value`` at ``key`` for ``ttl_ms``, in place of what was there, and void its lease.

        A load that is going on does not overwrite it. A set that timed out before it was sent is never sent later.
        """
        ...

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        """Return the bytes at ``key`` and the token of whoever holds its lease, as of one moment."""
        ...

    async def acquire_lease(
        self, key: str, timeout: float, token: bytes, *, lease_ms: int, unreadable: bytes | None
    ) -> bytes | Lease:
        """Return the bytes at ``key`` if there are any; else the lease, taken if nobody holds it.

        Bytes equal to ``unreadable`` count as none: a caller that cannot read them is to replace them. Looking
        and taking are one step. A lease that is not renewed ends after ``lease_ms``.
        """
        ...

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        """Take the lease whoever holds it, and whatever stands at ``key``: for a refresh."""
        ...

    async def renew_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> bool:
        """Let the lease live for another ``lease_ms`` if ``token`` still holds it; tell whether it did."""
        ...

    async def release_lease(self, key: str, timeout: float, token: bytes) -> None:
        """Give the lease back if ``token`` still holds it. Carried out though its caller is gone."""
        ...

    async def fill(self, key: str, timeout: float, value: bytes, token: bytes, *, ttl_ms: int) -> bool:
        """Keep ``value`` for ``ttl_ms`` and give the lease back, if ``token`` still holds it; tell whether it did.

        Since the lease is the fence, a fill may arrive late: it is sent though its caller is gone.
        """
        ...

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        """Remove ``keys`` and void their leases, whatever is there, in one step.

        Once asked for, it is carried out if it still can be: neither a timeout nor a cancelled caller takes
        it back.
        """
        ...

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        """Return and remove the bytes at ``key`` in one step: of many takers one gets them."""
        ...

    async def push(self, key: str, timeout: float, item: bytes, bounds: WindowBounds) -> None:
        """Put ``item`` at the head of the window at ``key``, in one step with what keeps it within ``bounds``."""
        ...

    async def window(self, key: str, timeout: float, count: int) -> list[bytes]:
        """Return the newest ``count`` items of the window at ``key``, newest first."""
        ...

    async def aclose(self) -> None:
        """Give back what the running event loop holds. The store can be used again afterwards."""
        ...


class Tracking(Protocol):
    """That a store tells what changes, to whoever holds this: it ends when it is dropped.

    It belongs to the event loop it was begun in. `Store.aclose` ends it without a word; then it is to be begun anew.
    """

    until: float
    """The `time.monotonic` until which every change that is not told yet is at most a second old. 0.0 while
    tracking is not confirmed: then anything may have changed, and after the next confirmation it is told so."""

    closed: bool
    """Whether it has ended for good, by `close` or with the store; then nothing is told any more."""

    def close(self) -> list[asyncio.Task[None]]:
        """End it; nothing more is told. Returns the tasks that end its connections."""
        ...


@runtime_checkable
class TrackingStore(Protocol):
    """A store that others may change, and that tells what they do."""

    async def get_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        """Return the bytes at ``key``, as `Store.get` does, and seconds that they will be there for at most.

        The seconds are counted from before the question was asked; infinite for what has no end.
        """
        ...

    def track(
        self,
        prefix: str,
        changed: Callable[[Sequence[str] | None], None],
        state: Callable[[StoreError | None], None],
    ) -> Tracking:
        """Have every change of a key that begins with ``prefix`` told from now on, in this event loop.

        Args:
            prefix: Of the keys; empty for all.
            changed: Is told the full keys that were set, removed, evicted or found expired, whoever did it, this
                process included; bytes that are no UTF-8 as surrogates. None when any key may have been. It is
                called at once, while what the server sends is read. When tracking is lost, `Tracking.until` is 0.0
                before it is called.
            state: Is told the error when tracking ended or could not be begun, at each attempt, and None when it is
                confirmed: all errors since are over then.

        Neither may raise, or wait. Nothing is connected before the event loop's next turn.

        Raises:
            KeyRefusedError: ``prefix`` has no UTF-8.
        """
        ...
