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


class Invalidated(Struct, frozen=True):
    """Keys were invalidated; ``acknowledged`` tells whether the store confirmed it."""

    keys: tuple[str, ...]
    acknowledged: bool


class Uncached(Struct, frozen=True):
    """A step of caching was skipped for a call of the function ``name``.

    ``reason`` is ``"argument"`` (no stable text form), ``"value"`` (would not make the round trip),
    ``"size"`` (more JSON than ``max_bytes``), ``"bytes"`` (the store's bytes do not decode), ``"policy"`` (``when``
    or ``ttl`` raised or answered nonsense) or ``"annotation"`` (the return annotation cannot be used).
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
    | Missed
    | Loaded
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
