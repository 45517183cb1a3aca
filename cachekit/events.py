"""What happened, as frozen values: for metrics, for tests, for a panel that shows hits and misses.

An event names keys, durations and causes. It never holds a value, the text of a snapshot or a password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Hit:
    """A value was found and handed out; ``near`` tells whether it was found in this process, without asking Redis."""

    key: str
    near: bool = False


@dataclass(frozen=True, slots=True)
class Missed:
    """The store answered, and has no value, or none that decodes. A store that fails is a `StoreFailed`."""

    key: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The decorated function ran and returned; ``seconds`` is what it took."""

    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Filled:
    """A loaded value was stored for ``ttl`` seconds."""

    key: str
    ttl: float


@dataclass(frozen=True, slots=True)
class Invalidated:
    """Keys were invalidated; ``acknowledged`` tells whether the store confirmed it."""

    keys: tuple[str, ...]
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Uncached:
    """A step of caching was left out for a call of the function ``name``.

    ``reason`` is ``"argument"`` (no stable text form), ``"value"`` (would not make the round trip),
    ``"bytes"`` (the store's bytes do not decode), ``"policy"`` (``when`` or ``ttl`` raised or answered
    nonsense) or ``"annotation"`` (the return annotation cannot be used).
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """One operation on the store failed, or was left out since the circuit breaker is open.

    ``cause`` groups what is the same trouble; while the breaker is open it is what opened it.
    """

    operation: str
    cause: str


@dataclass(frozen=True, slots=True)
class StoreRecovered:
    """The store answers again; ``seconds`` is how long ``cause`` lasted."""

    cause: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    """From now on ``shard`` is asked by probes alone, since it failed, at last by ``cause``.

    ``shard`` is ``""`` for a store of one server, else ``"host:port"`` of the server in the cluster.
    """

    shard: str
    cause: str


@dataclass(frozen=True, slots=True)
class BreakerClosed:
    """``shard`` answered a probe after ``seconds``, and is used again."""

    shard: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NearPaused:
    """The near cache is emptied and bypassed, since Redis does not tell what changes; ``cause`` groups as elsewhere."""

    cause: str


@dataclass(frozen=True, slots=True)
class NearResumed:
    """The near cache is used again, after ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class InvalidationsReplayed:
    """``count`` invalidations that the store had not acknowledged reached it after all."""

    count: int


@dataclass(frozen=True, slots=True)
class InvalidationsLost:
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
