"""The near cache: values in this process, in front of the store, which Redis keeps coherent.

A near hit has these promises:

- After this process has invalidated, set, taken or refreshed a key, and that call has returned, no caller in this
  process gets the old value. That is strict, in every thread and event loop, and for a change by any `Cache`.
- After another process has, a caller in this process may get it until Redis has told of the change, which takes some
  150 us. It never gets it for longer than `cachekit.stores.base.LIMIT`: when Redis has been silent for that long,
  callers are served from the store itself.
- It ends no later than the entry in Redis.

An entry is added only by a read that tracking covers from its beginning to its end. Two races would add an old value
for good, and a `Mark` closes both. The reply of a read may be overtaken by the invalidation of its key, which comes on
another connection. Both may also be parsed before the coroutine that awaits the reply has run. So a read leaves a mark
before it asks, a change of the key takes the mark away, and nothing is added without one.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any, Final

from msgspec import Struct

from cachekit._tiers.guard import Guard
from cachekit._tiers.incidents import QUIET, Incidents
from cachekit._tiers.outcome import MISS, Found
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.s3fifo import S3Fifo
from cachekit.codecs import Codec, is_immutable
from cachekit.entry import Entry
from cachekit.errors import DecodeError, StoreError
from cachekit.events import NearPaused, NearResumed
from cachekit.freshness import Freshness
from cachekit.loops import PerLoop, detached
from cachekit.stores.base import LIMIT, Tracking

_PAIRS: Final = 1024
"""Pairs of a tag and a key that are noted before those are looked for whose entries have left."""

OVERHEAD: Final = 300
"""Bytes that an entry takes beside its JSON, as ``python -m benchmarks growth`` measures."""


class NearTiers:
    """The near tiers of this process that have been used, of all its caches. It keeps none of them alive.

    A change is told to all of them, by the key in the store. Whether two caches share a store cannot be seen from their
    URLs: a server has several names and addresses. A tier that forgets a key without need reads it once more.
    """

    def __init__(self) -> None:
        self.used: tuple[weakref.ref[NearTier], ...] = ()
        """Replaced, never changed: threads read it without the lock. Empty in a process without a near cache."""
        self._lock = threading.Lock()

    def add(self, tier: NearTier) -> None:
        """Tell ``tier`` of changes from now on."""
        with self._lock:
            others = [ref for ref in self.used if ref() not in (None, tier)]
            self.used = (*others, weakref.ref(tier))

    def remove(self, tier: NearTier) -> None:
        """Tell ``tier`` of changes no more."""
        with self._lock:
            self.used = tuple(ref for ref in self.used if ref() not in (None, tier))

    def forget(self, stored: Sequence[str]) -> None:
        """Let every tier forget the keys ``stored``, which have their prefix."""
        for ref in self.used:
            tier = ref()
            if tier is not None:
                tier.forget_stored(stored)

    def forget_all(self) -> None:
        """Let every tier forget all keys, those included that are kept for an outage."""
        for ref in self.used:
            tier = ref()
            if tier is not None:
                tier.forget_all()


NEAR_TIERS: Final = NearTiers()


class NearTimes(Struct, frozen=True):
    """The times of a value that is kept near, by the monotonic clock."""

    began: float
    """When the read began that brought it."""
    expires: float
    kept: bool = False
    """Whether it is kept for a time in which the store does not answer, too."""


class Mark:
    """All reads of one key that are under way share it, as long as the key has not changed since the first began."""

    __slots__ = ("key", "readers", "state")

    def __init__(self, key: str, state: _LoopState) -> None:
        self.key: str = key
        # Not looked up again: a coroutine that is closed from outside ends its read where no loop runs.
        self.state: _LoopState = state
        self.readers: int = 0


class _NearEntry:
    """A value that is shared if it cannot be changed, else the bytes that each hit decodes."""

    __slots__ = ("codec", "data", "expires", "value")

    def __init__(self, codec: Codec, value: Any, data: bytes | None, expires: float) -> None:
        self.codec: Codec = codec
        self.value: Any = value
        self.data: bytes | None = data
        self.expires: float = expires


class _Period:
    """A time without a gap in the reports of changes."""

    __slots__ = ("end",)

    def __init__(self) -> None:
        self.end: float | None = None
        """Until when all changes are known, once it has ended."""


class _Kept:
    """An entry that is kept for a time in which the store does not answer."""

    __slots__ = ("began", "entry", "period")

    def __init__(self, entry: _NearEntry, began: float, period: _Period) -> None:
        self.entry: _NearEntry = entry
        self.began: float = began
        """When the read began that brought it."""
        self.period: _Period = period


class _LoopState:
    """The entries of one event loop, and the tracking that tells it of changes."""

    def __init__(self, entries: int, weight: int) -> None:
        self.entries: S3Fifo[str, _NearEntry] = S3Fifo(entries=entries, weight=weight)
        self.get: Callable[[str], _NearEntry | None] = self.entries.get
        self.marks: dict[str, Mark] = {}
        self.kept: S3Fifo[str, _Kept] = S3Fifo(entries=entries, weight=weight)
        """For functions with ``offline`` alone."""
        self.dependants: dict[str, set[str]] = {}
        """By tag, the keys of the entries that depend on it, and of some that have left."""
        self._pairs = 0
        self._most_pairs = _PAIRS
        self.period: _Period = _Period()
        self.tracking: Tracking | None = None
        self.settling: asyncio.TimerHandle | None = None
        self.paused: float | None = None
        """Since when tracking is not confirmed, after it was; by the monotonic clock of the cache."""

    def depend(self, key: str, tag: str) -> None:
        """Note that the entry of ``key`` leaves when ``tag`` changes."""
        keys = self.dependants.setdefault(tag, set())
        if key in keys:
            return
        keys.add(key)
        self._pairs += 1
        if self._pairs > self._most_pairs:
            # Entries leave by themselves, and nobody tells.
            kept = {
                name: left
                for name, keys in self.dependants.items()
                if (left := {key for key in keys if key in self.entries or key in self.kept})
            }
            self.dependants = kept
            self._pairs = sum(map(len, kept.values()))
            self._most_pairs = max(_PAIRS, 2 * self._pairs)

    def forget(self, key: str) -> None:
        """Remove ``key``, and all that depends on it if it is a tag."""
        self.entries.remove(key)
        self.kept.remove(key)
        self.marks.pop(key, None)
        keys = self.dependants.pop(key, None)
        if keys is not None:
            self._pairs -= len(keys)
            for dependant in keys:
                self.entries.remove(dependant)
                self.kept.remove(dependant)

    def clear(self) -> None:
        """Remove every entry. A copy that is kept for an outage stays."""
        self.entries.clear()
        self.marks.clear()

    @property
    def covered(self) -> bool:
        """Whether every change that is not told yet is at most a second old."""
        return self.tracking is not None and monotonic() < self.tracking.until


class NearTier:
    """The near cache of one cache. Each event loop has entries of its own.

    Args:
        guard: The door to the store, which tells of changes.
        entries: The most entries in one event loop.
        weight: The most bytes of JSON and overhead in one event loop.
        reporter: Where events go.
    """

    def __init__(self, guard: Guard, entries: int, weight: int, reporter: Reporter) -> None:
        self._guard = guard
        self._entries = entries
        self._weight = weight
        self._reporter = reporter
        self._clock = reporter.clock
        self._incidents = Incidents[str](reporter.clock)
        self._loops: PerLoop[_LoopState] = PerLoop(self._begin)
        self._states = self._loops.states
        # Entries and marks change together; hits read without it.
        self._lock = threading.Lock()

    def find(self, key: str, codec: Codec) -> Any:
        """Return the value at ``key``, or `MISS` when there is none or it may be out of date."""
        state = self._states.get(get_running_loop()) or self._loops.get()
        now = monotonic()
        if state.tracking is None or now >= state.tracking.until:
            if state.tracking is not None and state.tracking.closed:
                # Not by this tier: another cache that shares the store may have closed it.
                self._track(state)
            return MISS
        entry = state.get(key)
        # An expired entry is replaced by the read that follows, or leaves when room is needed.
        if entry is None or now >= entry.expires or entry.codec is not codec:
            return MISS
        if entry.data is None:
            return entry.value
        try:
            return codec.decode(entry.data)
        except DecodeError:
            # The bytes decoded once; a type of the user's may refuse them now.
            return MISS

    def mark(self, key: str) -> Mark | None:
        """Begin a read of ``key``. Returns what `add` needs, or None when nothing may be added."""
        state = self._loops.find()
        if state is None or not state.covered:
            return None
        with self._lock:
            mark = state.marks.get(key)
            if mark is None:
                mark = state.marks[key] = Mark(key, state)
            mark.readers += 1
        return mark

    def last_known(self, key: str, codec: Codec, seconds: float) -> Found | None:
        """Return the value at ``key`` that was kept for an outage, if it was known to be true ``seconds`` ago or later.

        It was true until the store was heard of for the last time, or until the end of its TTL if that is earlier.
        """
        state = self._loops.find()
        kept = None if state is None else state.kept.get(key)
        if state is None or kept is None or kept.entry.codec is not codec:
            return None
        end = kept.period.end if kept.period.end is not None else _heard_of(state)
        age = max(0.0, monotonic() - min(kept.entry.expires, max(kept.began, end)))
        if age > seconds:
            return None
        entry = kept.entry
        try:
            value = entry.value if entry.data is None else codec.decode(entry.data)
        except DecodeError:
            return None
        return Found(value, Entry(entry.data or b"", stale=age), Freshness.SPARE, 0.0)

    def add(self, mark: Mark, found: Found, codec: Codec, times: NearTimes, tags: Sequence[Mark] = ()) -> None:
        """Add the value of a read, unless its key, or one of its tags, has changed since it began."""
        state = self._loops.find()
        if state is None or not state.covered:
            return
        shared = is_immutable(found.value)
        entry = _NearEntry(codec, found.value if shared else None, None if shared else found.entry.data, times.expires)
        key, weight = mark.key, len(found.entry.data) + OVERHEAD
        with self._lock:
            if state.marks.get(key) is mark and all(state.marks.get(one.key) is one for one in tags):
                state.entries.put(key, entry, weight=weight)
                if times.kept:
                    state.kept.put(key, _Kept(entry, times.began, state.period), weight=weight)
                for one in tags:
                    state.depend(key, one.key)

    def unmark(self, mark: Mark) -> None:
        """End a read."""
        with self._lock:
            mark.readers -= 1
            if not mark.readers and mark.state.marks.get(mark.key) is mark:
                del mark.state.marks[mark.key]

    def forget(self, keys: Sequence[str]) -> None:
        """Remove ``keys``, in every event loop, and let reads of them that are under way add nothing."""
        # A copy: other threads begin and end loops at any moment.
        for state in list(self._states.values()):
            self._forget(state, keys)

    def forget_all(self) -> None:
        """Remove everything, in every event loop, and let reads that are under way add nothing."""
        with self._lock:
            for state in list(self._states.values()):
                state.clear()
                state.kept.clear()

    def forget_stored(self, stored: Sequence[str]) -> None:
        """Forget, as `forget` does, those of the keys ``stored`` that begin with the prefix of this cache."""
        keys = self._guard.without_prefix(stored)
        if keys:
            self.forget(keys)

    async def aclose(self) -> None:
        """End the tracking of the running event loop, and remove its entries."""
        state = self._loops.pop()
        if state is None:
            return
        if not self._states:
            NEAR_TIERS.remove(self)
        if state.settling is not None:
            state.settling.cancel()
        ending = state.tracking.close() if state.tracking is not None else []
        if ending:
            await asyncio.wait(ending)

    def _begin(self) -> _LoopState:
        state = _LoopState(self._entries, self._weight)
        # Before anything is read: from then on no change may pass it by.
        NEAR_TIERS.add(self)
        self._track(state)
        return state

    def _track(self, state: _LoopState) -> None:
        def changed(keys: Sequence[str] | None) -> None:
            self._forget(state, keys)

        def confirmed(error: StoreError | None) -> None:
            self._confirmed(state, error)

        state.tracking = self._guard.track(changed, confirmed)

    def _forget(self, state: _LoopState, keys: Sequence[str] | None) -> None:
        with self._lock:
            if keys is None:
                state.clear()
                # What is kept for an outage was true until now, and it is unknown for how much longer.
                state.period.end = _heard_of(state)
                state.period = _Period()
                return
            for key in keys:
                state.forget(key)

    # --- events -----------------------------------------------------------------------------------

    def _confirmed(self, state: _LoopState, error: StoreError | None) -> None:
        """Report that tracking was lost, or could not be begun; or, without an error, that it is confirmed."""
        if error is not None:
            self._incidents.begin(error.cause, f"the near cache is bypassed for now: {error}")
            if state.paused is None:
                state.paused = self._clock.monotonic()
                if self._reporter.observers:
                    self._reporter.emit(NearPaused(error.cause))
            return
        if state.paused is not None:
            seconds = self._clock.monotonic() - state.paused
            state.paused = None
            if self._reporter.observers:
                self._reporter.emit(NearResumed(seconds))
            self._settle(state)

    def _settle(self, state: _LoopState) -> None:
        """End the incidents, once tracking has been confirmed for as long as it takes to believe it."""
        state.settling = None
        if state.paused is not None:
            return
        for cause in self._incidents.going_on():
            self._incidents.end(cause)
        if self._incidents.current:
            state.settling = detached(get_running_loop().call_later, QUIET, self._settle, state)


class ScopedNear(NearTier):
    """The part of a near tier whose keys begin with a scope: the same entries, bounds and tracking.

    Args:
        whole: Of the cache.
        scope: Stands behind the prefix of the cache.
    """

    def __init__(self, whole: NearTier, scope: str) -> None:
        # Nothing of this is ever replaced.
        self.__dict__.update(vars(whole))
        self._scope = scope

    def find(self, key: str, codec: Codec) -> Any:
        return super().find(self._scope + key, codec)

    def mark(self, key: str) -> Mark | None:
        return super().mark(self._scope + key)

    def last_known(self, key: str, codec: Codec, seconds: float) -> Found | None:
        return super().last_known(self._scope + key, codec, seconds)

    def forget(self, keys: Sequence[str]) -> None:
        super().forget([self._scope + key for key in keys])


def _heard_of(state: _LoopState) -> float:
    """Return until when all changes of the store are known: minus infinity if nothing was ever known."""
    # A store by somebody else may not tell.
    return -inf if state.tracking is None else getattr(state.tracking, "latest", 0.0) - LIMIT
