"""Invalidations that the store has not acknowledged: kept, in force in this process, replayed.

A key in the journal is a miss in this process, also if the store has a value. It leaves the journal when the
store has acknowledged its removal. The last invalidation of a key stands for all earlier ones.

The journal is bounded. When it is full, the invalidation of a further key cannot be kept: it is lost to other
processes until the entry's TTL ends, and an event says so each time. To stay correct in this process the key
is then distrusted: its value is not read but replaced, and trusted once this process has stored it, or has removed
the old one (`cachekit._tiers.distrust`). That ends when the journal has been empty for a day, or for the longest TTL
that this process has used if that is longer. By then every value that should have been invalidated has expired.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from cachekit._tiers.distrust import Distrust
from cachekit._tiers.incidents import LOGGER
from cachekit._tiers.reporter import Reporter
from cachekit.config import DAY
from cachekit.events import InvalidationsLost, InvalidationsReplayed
from cachekit.tags import is_tag

LIMIT: Final = 10_000
"""The most keys kept: about 2 MB with keys of 100 bytes."""

BATCH: Final = 500
"""Keys in one replayed invalidation."""


class Journal:
    """Keys whose invalidation the store has not acknowledged. Any thread may use it.

    Args:
        reporter: Where losses and replays are told.
        limit: The most keys kept.
        distrust: The keys whose invalidation was lost.
    """

    def __init__(self, reporter: Reporter, *, limit: int = LIMIT, distrust: Distrust | None = None) -> None:
        self._reporter = reporter
        self._clock = reporter.clock
        self._limit = limit
        self._lock = threading.Lock()
        # In order of their last invalidation, each with the number of that invalidation.
        self._pending: dict[str, int] = {}
        self._last = 0
        # The keys among them that this user may not remove, by the shard that said so.
        self._denied: dict[str | None, dict[str, None]] = {}
        self._overflowed = False
        # The number of the last invalidation that was lost.
        self._last_lost = 0
        self._distrust = distrust or Distrust()
        self._distrusted_until = inf
        self.longest_ttl: float = DAY
        """Seconds of the longest TTL that this process has used, or a day if that is longer."""

    def __bool__(self) -> bool:
        """Tell whether any key may be a miss because of it: what a healthy read asks, and no more."""
        return True if self._pending else self._overflowed

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def waiting(self) -> int:
        """How many keys are to be sent again: all that the store has not denied."""
        return len(self._pending) - sum(map(len, self._denied.values())) if self._denied else len(self._pending)

    @property
    def room(self) -> int:
        """How many further keys can be kept."""
        return self._limit - len(self._pending)

    def holds(self, key: str) -> bool:
        """Tell whether the removal of ``key`` is pending."""
        return key in self._pending

    def distrusts(self, key: str) -> bool:
        """Tell whether a lost invalidation may have been one of ``key``."""
        if not self._overflowed:
            return False
        if self._clock.monotonic() < self._distrusted_until:
            return self._distrust.covers(key)
        with self._lock:
            # Another thread may have lost one meanwhile.
            if self._clock.monotonic() < self._distrusted_until:
                return self._distrust.covers(key)
            self._overflowed = False
            self._distrust.clear()
        return False

    def add(self, keys: Sequence[str]) -> None:
        """Keep ``keys``, whose invalidation the store did not acknowledge."""
        lost, first = 0, False
        with self._lock:
            self._last += 1
            self._allow(keys)
            for key in keys:
                # Taken out first: a later invalidation stands at the end of the order.
                if self._pending.pop(key, None) is None and len(self._pending) >= self._limit:
                    lost += 1
                    # Nobody here knows which values depend on a tag.
                    (self._distrust.lose_all if is_tag(key) else self._distrust.lose)(key)
                    continue
                self._pending[key] = self._last
            if lost:
                self._last_lost = self._last
                self._distrusted_until = inf
                first, self._overflowed = not self._overflowed, True
        if lost:
            self._report_lost(lost, first=first)

    def mark(self) -> int:
        """Return a number for `remove` and `stored`: to be read before the store is asked."""
        return self._last

    def remove(self, keys: Sequence[str], mark: int) -> None:
        """Forget ``keys``, whose removal is acknowledged, unless they came in again after ``mark`` was read."""
        if not self:
            return
        with self._lock:
            settled = [key for key in keys if self._pending.get(key, mark + 1) <= mark]
            for key in settled:
                # A key may be named twice.
                self._pending.pop(key, None)
            self._allow(settled)
            if self._last_lost <= mark:
                for key in keys:
                    self._distrust.removed(key)
            # Once: invalidations that are kept and replayed later lose nothing.
            if self._overflowed and not self._pending and self._distrusted_until == inf:
                self._distrusted_until = self._clock.monotonic() + self.longest_ttl

    def stored(self, key: str, ttl: float, mark: int) -> None:
        """Note that this process has stored ``key`` for ``ttl`` seconds, which it began after ``mark`` was read."""
        self.longest_ttl = max(self.longest_ttl, ttl)
        if self._overflowed:
            with self._lock:
                # A value that was on its way when the invalidation of its key was lost may be the old one.
                if self._last_lost <= mark:
                    self._distrust.stored(key)

    def batch(self) -> list[str]:
        """Return the keys that have waited for longest."""
        with self._lock:
            denied = {key for keys in self._denied.values() for key in keys}
            return list(itertools.islice((key for key in self._pending if key not in denied), BATCH))

    def deny(self, keys: Sequence[str], shard: str | None) -> None:
        """Keep ``keys``, which ``shard`` does not let this user remove, but do not send them again before `retry`."""
        self.add(keys)
        with self._lock:
            kept = [key for key in keys if key in self._pending]
            if kept:
                self._denied.setdefault(shard, {}).update(dict.fromkeys(kept))

    def denied(self) -> list[tuple[str | None, str]]:
        """Return each shard that has denied keys, with one of them."""
        with self._lock:
            return [(shard, next(iter(keys))) for shard, keys in self._denied.items()]

    def retry(self, shard: str | None) -> None:
        """Send the keys again that ``shard`` has denied."""
        with self._lock:
            self._denied.pop(shard, None)

    def _allow(self, keys: Sequence[str]) -> None:
        for shard, denied in [*self._denied.items()]:
            for key in keys:
                denied.pop(key, None)
            if not denied:
                del self._denied[shard]

    def replayed(self, count: int) -> None:
        """Tell that ``count`` keys of the journal reached the store."""
        if self._reporter.observers:
            self._reporter.emit(InvalidationsReplayed(count))

    def refused(self, keys: Sequence[str]) -> None:
        """Tell that ``keys`` cannot be sent to any store."""
        if self._reporter.observers:
            self._reporter.emit(InvalidationsLost(len(keys)))

    def abandon(self, others: Iterable[Journal]) -> None:
        """Report that the rest will not be replayed, of ``others`` neither, since their cache is closed.

        It stays in force in this process.
        """
        count = sum(map(len, [self, *others]))
        if not count:
            return
        LOGGER.warning(
            "the cache is closed with %d %s that the store has not acknowledged; other processes may serve the old "
            "values until their TTL ends",
            count,
            "invalidation" if count == 1 else "invalidations",
        )
        self._reporter.emit(InvalidationsLost(count))

    def _report_lost(self, count: int, *, first: bool) -> None:
        if first:
            LOGGER.warning(
                "the journal of invalidations is full (%d keys): further ones are lost to other processes until the "
                "TTL ends; this process replaces the values of these keys before it trusts them",
                self._limit,
            )
        self._reporter.emit(InvalidationsLost(count))
