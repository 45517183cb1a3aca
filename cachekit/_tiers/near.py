"""The near cache: values in this process, in front of the store, which Redis keeps coherent.

What is promised of a near hit:

- After this process has invalidated, set, taken or refreshed a key, and that call has returned, no caller here gets
  what stood there before. That is strict, in every thread and event loop.
- After another process has, a caller here may get it until Redis has told of the change, which takes some 150 us, and
  never for longer than `cachekit.stores.base.LIMIT`: whoever has not heard from Redis for that long is served from the
  store itself.
- It ends no later than the entry in Redis.

An entry is kept only from a read that tracking covers from its beginning to its end. Two races would leave what is
out of date for good, and a `Mark` closes both: the reply of a read may be overtaken by the invalidation of its key,
which comes on another connection; and both may be parsed before the coroutine that awaits the reply has run. So a
read leaves a mark before it asks, whatever tells that the key has changed takes it away, and nothing is kept without.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from cachekit._tiers.guard import Guard
from cachekit._tiers.outcome import MISS, Found
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.s3fifo import S3Fifo
from cachekit._tiers.troubles import QUIET, Troubles
from cachekit.codecs import Codec, is_immutable
from cachekit.errors import DecodeError, StoreError
from cachekit.events import NearPaused, NearResumed
from cachekit.loops import PerLoop
from cachekit.stores.base import Tracking

OVERHEAD: Final = 300
"""Bytes that an entry takes beside its JSON, as ``python -m benchmarks growth`` measures."""


class Mark:
    """What reads of one key that are under way share, as long as the key has not changed since the first began."""

    __slots__ = ("here", "readers")

    def __init__(self, here: _Here) -> None:
        # Not looked up again: a coroutine that is closed from outside ends its read where no loop runs.
        self.here: _Here = here
        self.readers: int = 0


class _Kept:
    """A value that is shared if nobody can change it, else the bytes that each hit decodes."""

    __slots__ = ("codec", "data", "expires", "value")

    def __init__(self, codec: Codec, value: Any, data: bytes | None, expires: float) -> None:
        self.codec = codec
        self.value = value
        self.data = data
        self.expires = expires


class _Here:
    """What one event loop holds, and what tells it of changes."""

    def __init__(self, entries: int, weight: int) -> None:
        self.held: S3Fifo[str, _Kept] = S3Fifo(entries=entries, weight=weight)
        self.get: Callable[[str], _Kept | None] = self.held.get
        self.marks: dict[str, Mark] = {}
        self.tracking: Tracking | None = None
        self.settling: asyncio.TimerHandle | None = None
        self.paused: float | None = None
        """Since when tracking is not confirmed, after it was; by the monotonic clock of the cache."""


class NearTier:
    """The near cache of one cache. Each event loop has entries of its own.

    Args:
        guard: What tells of changes, behind its guard.
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
        self._troubles = Troubles[str](reporter.clock)
        self._loops: PerLoop[_Here] = PerLoop(self._begin)
        self._states = self._loops.states
        # Entries and marks change together; hits look without it.
        self._lock = threading.Lock()

    def find(self, key: str, codec: Codec) -> Any:
        """Return the value at ``key``, or `MISS` when it is not here or may be out of date."""
        here = self._states.get(get_running_loop()) or self._loops.get()
        now = monotonic()
        if here.tracking is None or now >= here.tracking.until:
            if here.tracking is not None and here.tracking.closed:
                # Not by this tier: the store was closed, which another cache may share, or while this one was.
                self._track(here)
            return MISS
        kept = here.get(key)
        # One that has expired is replaced by the read that follows, or leaves when there is need for room.
        if kept is None or now >= kept.expires or kept.codec is not codec:
            return MISS
        if kept.data is None:
            return kept.value
        try:
            return codec.decode(kept.data)
        except DecodeError:
            # Those bytes decoded once; a type of the user's may refuse them now.
            return MISS

    def mark(self, key: str) -> Mark | None:
        """Begin a read of ``key``. Returns what `keep` needs, or None when nothing may be kept."""
        here = self._loops.find()
        if here is None or here.tracking is None or monotonic() >= here.tracking.until:
            return None
        with self._lock:
            mark = here.marks.get(key)
            if mark is None:
                mark = here.marks[key] = Mark(here)
            mark.readers += 1
        return mark

    def keep(self, key: str, mark: Mark, found: Found, codec: Codec, expires: float) -> None:
        """Keep what a read found, unless ``key`` has changed since it began; ``expires`` by the monotonic clock."""
        here = self._loops.find()
        if here is None or here.tracking is None or monotonic() >= here.tracking.until:
            return
        shared = is_immutable(found.value)
        kept = _Kept(codec, found.value if shared else None, None if shared else found.entry.data, expires)
        with self._lock:
            if here.marks.get(key) is mark:
                here.held.put(key, kept, weight=len(found.entry.data) + OVERHEAD)

    def unmark(self, key: str, mark: Mark) -> None:
        """End a read of ``key``."""
        with self._lock:
            mark.readers -= 1
            if not mark.readers and mark.here.marks.get(key) is mark:
                del mark.here.marks[key]

    def forget(self, keys: Sequence[str]) -> None:
        """Let go of ``keys``, in every event loop, and of what reads that are under way bring of them."""
        for here in self._loops.all():
            self._forget(here, keys)

    async def aclose(self) -> None:
        """End the tracking of the running event loop, and let go of what it holds."""
        here = self._loops.pop()
        if here is None:
            return
        if here.settling is not None:
            here.settling.cancel()
        ending = here.tracking.close() if here.tracking is not None else []
        if ending:
            await asyncio.wait(ending)

    def _begin(self) -> _Here:
        here = _Here(self._entries, self._weight)
        self._track(here)
        return here

    def _track(self, here: _Here) -> None:
        def changed(keys: Sequence[str] | None) -> None:
            self._forget(here, keys)

        def state(error: StoreError | None) -> None:
            self._state(here, error)

        here.tracking = self._guard.track(changed, state)

    def _forget(self, here: _Here, keys: Sequence[str] | None) -> None:
        with self._lock:
            if keys is None:
                here.held.clear()
                here.marks.clear()
                return
            for key in keys:
                here.held.remove(key)
                here.marks.pop(key, None)

    # --- telling ----------------------------------------------------------------------------------

    def _state(self, here: _Here, error: StoreError | None) -> None:
        """Tell that tracking was lost, or could not be begun; or, without an error, that it is confirmed."""
        if error is not None:
            self._troubles.begin(error.cause, f"the near cache is bypassed for now: {error}")
            if here.paused is None:
                here.paused = self._clock.monotonic()
                if self._reporter.observers:
                    self._reporter.emit(NearPaused(error.cause))
            return
        if here.paused is not None:
            seconds = self._clock.monotonic() - here.paused
            here.paused = None
            if self._reporter.observers:
                self._reporter.emit(NearResumed(seconds))
            self._settle(here)

    def _settle(self, here: _Here) -> None:
        """End the troubles that are over, once that has been so for as long as it takes to believe it."""
        here.settling = None
        if here.paused is not None:
            return
        for cause in self._troubles.going_on():
            self._troubles.end(cause)
        if self._troubles.current:
            here.settling = get_running_loop().call_later(QUIET, self._settle, here)
