"""Events: facts as frozen values, for metrics, for tests, for a panel that shows hits and misses.

An event names keys, durations and causes. It never holds a value, the text of a snapshot or a password.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct


class Hit(Struct, frozen=True):
    """A value was found and handed out; ``near`` tells whether it was found in this process, without asking Redis."""

    key: str
    near: bool = False


class ServedStale(Struct, frozen=True):
    """A value whose TTL was over was handed out by ``function``; ``age`` seconds had passed since its end.

    ``why`` is ``"revalidate"`` (within ``stale_while_revalidate``: a load replaces it), ``"error"`` (the load raised,
    or took longer than its ``load_timeout``), ``"paused"`` (a load of the key failed less than ``retry_after`` ago),
    ``"slow"`` (the load takes longer than ``soft_timeout``), ``"busy"`` (so many loads go on in the background that
    one more was not begun) or ``"offline"`` (the load raised and Redis does not answer: ``age`` is since the value was
    last known to be true). The age of a value that was expired by hand before the end of its TTL is 0.
    """

    key: str
    function: str
    age: float
    why: str


class LoadFailed(Struct, frozen=True):
    """A load of ``function`` failed, with an ``error`` of that type, and its callers do not see it.

    It was in the background, or a stale value stood in for it.
    """

    key: str
    function: str
    error: str


class Missed(Struct, frozen=True):
    """The store answered, and has no value, or no value that decodes. A failure of the store is a `StoreFailed`."""

    key: str


class Loaded(Struct, frozen=True):
    """The decorated function ran and returned, after ``seconds``."""

    key: str
    seconds: float


class Filled(Struct, frozen=True):
    """A loaded value was stored for ``ttl`` seconds."""

    key: str
    ttl: float


class Invalidated(Struct, frozen=True, repr_omit_defaults=True):
    """Keys, and ``tags``, were invalidated; ``acknowledged`` tells whether the store confirmed it.

    ``soft``: they were expired by hand, so that their values may stand in for loads that fail.
    """

    keys: tuple[str, ...]
    acknowledged: bool
    soft: bool = False
    tags: tuple[str, ...] = ()


class Uncached(Struct, frozen=True):
    """A step of caching was skipped for a call of the function ``name``.

    ``reason`` is ``"argument"`` (no stable text form), ``"value"`` (would not make the round trip),
    ``"size"`` (more JSON than ``max_bytes``), ``"bytes"`` (the store's bytes do not decode), ``"policy"`` (``when``
    or ``ttl`` raised or answered nonsense), ``"annotation"`` (the return annotation cannot be used), ``"untimed"`` (the
    store does not tell how much is left of a value, so the function has no stale values), ``"untagged"`` (the store has
    no tags) or ``"seal"`` (no key opens
    the store's bytes, or the keys could not be had).
    """

    name: str
    reason: str


class StoreFailed(Struct, frozen=True):
    """One operation on the store failed, or was rejected since the circuit breaker is open.

    ``cause`` is one word for all failures of one kind; while the breaker is open it is the cause that opened it.
    """

    operation: str
    cause: str


class StoreRecovered(Struct, frozen=True):
    """The store answers again: an incident has ended, which had ``cause`` and lasted for ``seconds``."""

    cause: str
    seconds: float


class BreakerOpened(Struct, frozen=True):
    """From now on probes alone ask ``shard``, since it failed; ``cause`` is the cause of its last failure.

    ``shard`` is ``""`` for a store of one server, else ``"host:port"`` of the server in the cluster.
    """

    shard: str
    cause: str


class BreakerClosed(Struct, frozen=True):
    """``shard`` answered a probe after ``seconds``, and is used again."""

    shard: str
    seconds: float


class NearPaused(Struct, frozen=True):
    """The near cache is emptied and bypassed, since Redis does not report changes; ``cause`` is one word."""

    cause: str


class NearResumed(Struct, frozen=True):
    """The near cache is used again, after ``seconds``."""

    seconds: float


class InvalidationsReplayed(Struct, frozen=True):
    """``count`` invalidations that the store had not acknowledged have reached it by a replay."""

    count: int


class InvalidationsLost(Struct, frozen=True):
    """``count`` invalidations may not reach the store: the journal was full, or the cache was closed."""

    count: int


Event: TypeAlias = (
    Hit
    | ServedStale
    | Missed
    | Loaded
    | LoadFailed
    | Filled
    | Invalidated
    | InvalidationsReplayed
    | InvalidationsLost
    | Uncached
    | StoreFailed
    | StoreRecovered
    | BreakerOpened
    | BreakerClosed
    | NearPaused
    | NearResumed
)
Observer: TypeAlias = Callable[[Event], object]
