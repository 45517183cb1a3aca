"""Events: facts as frozen values, for metrics, for tests, for a panel that shows hits and misses.

One class is one fact. An event names keys, functions (``module.qualname``), durations in seconds, and causes. It never
holds a value, the text of a snapshot or a password. docs/observe.md has a table of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

# --- calls ----------------------------------------------------------------------------------------


class Hit(Struct, frozen=True):
    """A call of ``function`` found a value and handed it out; ``seconds`` is how long the store took.

    ``near`` tells whether it was found in this process, without asking Redis.
    """

    key: str
    function: str
    near: bool = False
    seconds: float = 0.0


class Missed(Struct, frozen=True):
    """The store answered after ``seconds``, and has no value, or none that decodes. A failure is a `StoreFailed`.

    ``looked`` tells that no load follows: ``.peek()`` and ``.take()`` never load.
    """

    key: str
    function: str
    seconds: float = 0.0
    looked: bool = False


class ServedStale(Struct, frozen=True):
    """A value whose TTL was over was handed out by ``function``; ``age`` seconds had passed since its end.

    ``why`` is one of these:

    - ``"revalidate"``: within ``stale_while_revalidate``; a load replaces it.
    - ``"error"``: the load raised, or took longer than its ``load_timeout``.
    - ``"paused"``: a load of the key failed less than ``retry_after`` ago.
    - ``"slow"``: the load takes longer than ``soft_timeout``.
    - ``"busy"``: so many loads go on in the background that one more was not begun.
    - ``"offline"``: the load raised and Redis does not answer; ``age`` is since the value was last known to be true.

    The age of a value that was expired by hand before the end of its TTL is 0.
    """

    key: str
    function: str
    age: float
    why: str
    seconds: float = 0.0
    """How long the store took, if ``why`` is ``"revalidate"``."""


class Shared(Struct, frozen=True):
    """A call that found no value has the result of a load that another call made, in this process or in another.

    It waited for ``seconds``. ``error`` is the type of the exception if that load raised: then this call raises it.
    """

    key: str
    function: str
    seconds: float
    error: str = ""


class Bypassed(Struct, frozen=True):
    """A call asked no cache, since the code around it is changing the key: inside ``after_commit`` or ``writing``."""

    key: str
    function: str


# --- loads and fills ------------------------------------------------------------------------------


class LoadBegan(Struct, frozen=True):
    """The decorated function is about to run, for one key, or for the keys of a batch.

    ``by`` is ``"call"``, ``"refresh"``, or ``"background"`` for a load without a caller that waits for it. For each key
    a `Loaded`, a `LoadFailed` or a `LoadCancelled` follows in the same task.
    """

    keys: tuple[str, ...]
    function: str
    by: str = "call"


class Loaded(Struct, frozen=True):
    """The decorated function ran and returned, after ``seconds``; ``by`` as in `LoadBegan`. A batch tells each key."""

    key: str
    function: str
    seconds: float
    by: str = "call"


class LoadFailed(Struct, frozen=True):
    """A load of ``function`` failed after ``seconds``, with an ``error`` of that type; ``by`` as in `LoadBegan`.

    ``raised`` tells whether its caller sees the error. It does not if a stale value stands in for it, or if the load
    was in the background. Calls that had joined it are `Shared`, or `ServedStale`.
    """

    key: str
    function: str
    error: str
    seconds: float = 0.0
    by: str = "call"
    raised: bool = False


class LoadCancelled(Struct, frozen=True):
    """A load was cancelled after ``seconds``, with its caller. If others wait for it, one of them loads anew."""

    key: str
    function: str
    seconds: float
    by: str = "call"


class Filled(Struct, frozen=True):
    """A value of ``function``, loaded or in hand, was stored for ``ttl`` seconds.

    ``seconds`` is from the end of the load, or from the moment at which the value was handed over, until the store
    has confirmed it: encoding, comparing and the round trip.
    """

    key: str
    function: str
    ttl: float
    seconds: float = 0.0


class NotStored(Struct, frozen=True):
    """A value of ``function``, loaded or in hand, was not stored. There is one ``reason`` for each value.

    ``"when"``: the option ``when`` said no, or raised. ``"ttl"``: the option ``ttl`` raised, or gave no duration.
    ``"round trip"``: it would not come back as it is. ``"size"``: it has more JSON than ``max_bytes``. ``"void"``: it
    was invalidated, or another value was put in its place, since its load began. ``"lease"``: another load
    of the key held the lease and went on for too long, or was around this one. ``"store"``: the store failed, and may
    have the value all the same. ``"tags"``: its tags were not known before the load or the write. ``"seal"``: there was
    no key to seal it with.
    """

    key: str
    function: str
    reason: str


class Uncached(Struct, frozen=True):
    """A step of caching was skipped for a call of ``function``; ``key`` is ``""`` where there is none.

    ``reason`` is one of these:

    - ``"argument"``: it has no stable text form.
    - ``"bytes"``: the store's bytes do not decode.
    - ``"policy"``: a ttl by hand makes no sense.
    - ``"annotation"``: the return annotation cannot be used.
    - ``"ids"``: a batch returned ids that it was not asked for.
    - ``"untimed"``: the store does not tell how much is left of a value, so the function has no stale values.
    - ``"untagged"``: the store has no tags.
    - ``"unswept"``: the store cannot be looked through.
    - ``"seal"``: no key opens the store's bytes.
    - ``"value"``: a snapshot has to be a text and a number.

    A value that was not stored is a `NotStored`.
    """

    function: str
    reason: str
    key: str = ""


# --- invalidations --------------------------------------------------------------------------------


class Invalidated(Struct, frozen=True, repr_omit_defaults=True):
    """Keys, and ``tags``, were invalidated; ``acknowledged`` tells whether the store confirmed it, after ``seconds``.

    ``soft``: they were expired by hand, so that their values may stand in for loads that fail. ``function`` is the one
    whose call invalidated, or whose value it was; ``""`` by hand, and for keys that ``after_commit`` has collected.
    """

    keys: tuple[str, ...]
    acknowledged: bool
    soft: bool = False
    tags: tuple[str, ...] = ()
    function: str = ""
    seconds: float = 0.0


class InvalidationsReplayed(Struct, frozen=True):
    """``count`` invalidations that the store had not acknowledged have reached it by a replay."""

    count: int


class InvalidationsLost(Struct, frozen=True):
    """``count`` invalidations may not reach the store: the journal was full, or the cache was closed."""

    count: int


# --- the store ------------------------------------------------------------------------------------


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


Event: TypeAlias = (
    Hit
    | Missed
    | ServedStale
    | Shared
    | Bypassed
    | LoadBegan
    | Loaded
    | LoadFailed
    | LoadCancelled
    | Filled
    | NotStored
    | Uncached
    | Invalidated
    | InvalidationsReplayed
    | InvalidationsLost
    | StoreFailed
    | StoreRecovered
    | BreakerOpened
    | BreakerClosed
    | NearPaused
    | NearResumed
)
Observer: TypeAlias = Callable[[Event], object]
