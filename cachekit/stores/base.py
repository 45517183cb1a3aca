"""The protocol of a store: the seam between the toolkit and the stores that keep the bytes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from cachekit.errors import StoreError
from cachekit.stores.scripts import OpenTags, Script

T = TypeVar("T")

LIMIT: Final = 1.0
"""The greatest age, in seconds, of a change that is not reported yet while tracking is confirmed."""


class Window(Struct, frozen=True):
    """The newest items of a window, as of one moment by the clock of the store."""

    items: list[bytes]
    """Newest first."""
    generation: bytes | None
    """What a push needs, or None when there is none: opening the window makes one (``cachekit.stores.scripts``)."""
    now: float
    """Seconds since 1970, UTC: the time by which the items are old or not."""


@runtime_checkable
class Store(Protocol):
    """Semantic verbs on bytes. A store knows keys and bytes, no values and no policy.

    Every verb takes its key or keys, then ``timeout``: it answers, or raises a `cachekit.errors.StoreError`, within
    so many seconds. Cancelling a caller of one verb disturbs no other. A TTL is whole milliseconds.

    The items of a window are JSON objects with a ``timestamp`` by the clock of the store, whose text order is time
    order (``cachekit.entry.timestamp``); an item without one counts as older than all.
    """

    def shard(self, key: str) -> str | None:
        """Return the name of the shard that has ``key``. The keys of a shard fail together, behind one circuit breaker.

        None when the store needs no breaker, since it always answers at once.
        """
        ...

    def get(self, key: str, timeout: float) -> Awaitable[bytes | None]:
        """Return the bytes at ``key``, or None when there are none.

        A key that holds a window is refused; in a read together with other keys it may count as none.
        """
        ...

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> bool:
        """Store ``value`` at ``key`` for ``ttl_ms``, in place of any other, and void the lease of ``key``.

        A load that is under way does not overwrite it. A set that timed out is never stored behind an invalidation
        that was acknowledged later. Returns False when an invalidation or another set came in between.
        """
        ...

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        """Return the bytes at ``key`` and the token that its lease holds, both as of one moment."""
        ...

    async def run(self, key: str, timeout: float, script: Script[T]) -> T:
        """Do ``script``, a step at ``key`` and its lease that nothing can come between."""
        ...

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        """Take the lease even if another load holds it, and even if ``key`` has a value: for a refresh."""
        ...

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        """Remove ``keys``, of any type, and void their leases, in one step.

        Neither a timeout nor a cancelled caller takes it back: it is sent as long as it can be.
        """
        ...

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        """Return and remove the bytes at ``key`` in one step: of many callers one gets them."""
        ...

    async def window(self, key: str, timeout: float, count: int) -> Window:
        """Return the newest ``count`` items of the window at ``key``, its generation, and the time of the store."""
        ...

    async def aclose(self) -> None:
        """Release the resources of the running event loop. The store can be used again afterwards."""
        ...


@runtime_checkable
class TimedStore(Protocol):
    """A store that tells, together with a value, for how long it will keep it. Functions with stale windows need it.

    The seconds count from a moment before the command was sent. They are infinite for a key without a TTL, and 0.0 if
    they are not known. If there was no value when they were asked for, they are at most 0.0. They are asked for
    *before* the value: in the other order the seconds of a new value might be told of an old one.
    """

    def get_with_ttl(self, key: str, timeout: float) -> Awaitable[tuple[bytes | None, float]]:
        """Return the bytes at ``key``, as `Store.get` does, and the most seconds for which they will exist."""
        ...

    async def get_with_lease_and_ttl(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None, float]:
        """Return the bytes at ``key`` and the token that its lease holds, as of one moment, and the seconds."""
        ...

    async def get_and_delete_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        """Return and remove the bytes at ``key`` in one step: of many callers one gets them, with their seconds."""
        ...


class Want:
    """What a read with tags asks for in addition: a sum of these. A ``Flag`` would cost a hit 1 us for each look."""

    NOTHING: Final = 0
    TTL: Final = 1
    """The seconds of `TimedStore`."""
    HOLDER: Final = 2
    """The token that holds the lease."""


class TaggedValue(Struct, frozen=True):
    """The answer to a read with tags."""

    value: bytes | None
    tags: Sequence[bytes | None]
    """The bytes at the keys of the tags, in their order."""
    left: float = math.inf
    """The seconds of `TimedStore`, if they were wanted."""
    holder: bytes | None = None
    """The token that holds the lease, if it was wanted."""


@runtime_checkable
class TaggedStore(Protocol):
    """A store that reads a value and its tags in one round trip. Functions with tags need it.

    Tags are keys with short bytes in them. Nothing is said about the order in which value and tags are read.
    """

    apart: bool
    """Whether keys may be at several shards."""

    def get_tagged(self, key: str, timeout: float, tags: Sequence[str], want: int) -> Awaitable[TaggedValue]:
        """Return the bytes at ``key`` and at ``tags``, and what else is wanted. A key of another type has none."""
        ...

    async def open_tags(self, tag: str, timeout: float, more: Sequence[str], opening: OpenTags) -> list[bytes | None]:
        """Return the bytes at ``tag`` and at ``more``, and put new ones where there are none, as `OpenTags` says."""
        ...

    async def run_tagged(
        self, key: str, timeout: float, script: Script[T], tags: Sequence[str], opening: OpenTags
    ) -> tuple[T, list[bytes | None]]:
        """Do ``script`` at ``key`` as `Store.run` does, and `open_tags` in the same round trip.

        A tag that cannot be opened is None. It is no failure of the script.
        """
        ...


class Sweep(Struct, frozen=True):
    """How far all keys of a store have been looked through."""

    server: str = ""
    """The one that is next."""
    cursor: int = 0
    """Where it goes on."""
    removed: int = 0
    """How many keys this step has removed."""


@runtime_checkable
class SweepingStore(Protocol):
    """A store that can remove all keys with a prefix, step by step."""

    async def servers_of(self, prefix: str, timeout: float) -> list[str]:
        """Return the servers that have keys with ``prefix``."""
        ...

    async def sweep(self, prefix: str, timeout: float, sweep: Sweep) -> Sweep:
        """Look at some keys of ``sweep.server``, and remove all that begin with ``prefix``, and their leases.

        Return where it goes on; the cursor 0 says that this server has been looked through. A key that comes or goes
        meanwhile may be passed over.
        """
        ...


@runtime_checkable
class ManyStore(Protocol):
    """A store that is asked for many keys at once, in one round trip: to all its servers at the same time.

    Each key has an answer of its own, which is a `cachekit.errors.StoreError` where its server failed. A store without
    these verbs is asked for each key alone (``cachekit.stores.single``).
    """

    def get_many(self, keys: Sequence[str], timeout: float) -> Awaitable[list[bytes | StoreError | None]]:
        """Do as `Store.get` for each of ``keys``. A key that holds a window may count as one without a value."""
        ...

    def get_many_with_ttl(
        self, keys: Sequence[str], timeout: float
    ) -> Awaitable[list[tuple[bytes | None, float] | StoreError]]:
        """Do as `TimedStore.get_with_ttl` for each of ``keys``."""
        ...

    async def run_many(self, steps: Sequence[tuple[str, Script[T]]], timeout: float) -> list[T | StoreError]:
        """Do as `Store.run` for each key and its script. Nothing can come between one step, but between two of them."""
        ...

    async def set_many(
        self, values: Sequence[tuple[str, bytes]], timeout: float, *, ttl_ms: int
    ) -> list[bool | StoreError]:
        """Do as `Store.set` for each key and its value, with one TTL for all of them."""
        ...


@runtime_checkable
class ConnectedStore(Protocol):
    """A store that can tell one connection from another."""

    def connection(self, key: str) -> object:
        """Return the connection on which ``key`` would be asked for now, in this event loop; None before there is one.

        The value can be referred to weakly. A server refuses what it has refused for good until this is another.
        """
        ...


@runtime_checkable
class TimingStore(Protocol):
    """A store that can tell its server's time from that of this process."""

    def time_lost(self, key: str, seconds: float) -> float:
        """Return how many of the last ``seconds``, which an answer for ``key`` took, its server did not need.

        They were spent in this process, behind other questions or while its event loop stood still.
        """
        ...


RESPITE: Final = 0.25
"""The part of a timeout that is left, at least, when most of the time so far was lost in this process."""


def time_left(timeout: float, left: float, took: float, lost: float) -> float:
    """Return how many seconds of ``timeout`` are left after an answer that ``took`` so long, with ``left`` before it.

    ``lost`` of these seconds were lost in this process. A stall of the event loop is measured to a pulse only. Many of
    them would use up the time of a caller whose server answers at once.

    Example:
        >>> time_left(1.0, 1.0, 0.5, 0.125), time_left(1.0, 1.0, 4.0, 2.5)
        (0.625, 0.25)
    """
    least = min(left, timeout * RESPITE) if lost > took / 2 else -math.inf
    return max(left - took + lost, least)


@runtime_checkable
class ProbingStore(Protocol):
    """A store that can be asked for a sign of life."""

    async def probe(self, key: str, timeout: float) -> None:
        """Ask the server that has ``key`` for something small. It needs no permission that other verbs do not need."""
        ...


class Tracking(Protocol):
    """Reports of a store about changed keys. They end when this value is dropped.

    It belongs to the event loop it was begun in. `Store.aclose` ends it without a report; then it must be begun anew.
    """

    until: float
    """Until this `time.monotonic`, every change that is not reported yet is at most a second old. 0.0 while
    tracking is not confirmed: then any key may have changed, and that is reported after the next confirmation."""

    latest: float
    """The greatest `until` so far: when tracking is lost, it says until when all changes were reported."""

    closed: bool
    """Whether it has ended for good, by `close` or with the store. Then nothing more is reported."""

    def close(self) -> list[asyncio.Task[None]]:
        """End it; nothing more is reported. Return the tasks that end its connections."""
        ...


@runtime_checkable
class TrackingStore(Protocol):
    """A store whose keys other processes may change, and that reports the changes."""

    def get_with_ttl(self, key: str, timeout: float) -> Awaitable[tuple[bytes | None, float]]:
        """Do as `TimedStore.get_with_ttl`."""
        ...

    def track(
        self,
        prefix: str,
        changed: Callable[[Sequence[str] | None], None],
        state: Callable[[StoreError | None], None],
    ) -> Tracking:
        """Report every change of a key that begins with ``prefix`` from now on, in this event loop.

        Args:
            prefix: Of the keys; empty for all.
            changed: Is called with the full keys that were set, removed, evicted or found expired, by any process,
                this one included; bytes that are no UTF-8 as surrogates. With None when any key may have changed.
                It is called at once, while the bytes of the server are read. When tracking is lost,
                `Tracking.until` is 0.0 before the call.
            state: Is called with the error when tracking ended or could not begin, at each attempt, and with None
                when it is confirmed. Then all errors before are over.

        Neither may raise, or wait. Nothing is connected before the event loop's next turn.

        Raises:
            KeyRefusedError: ``prefix`` has no UTF-8.
        """
        ...
