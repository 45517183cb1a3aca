"""The figures of the cache, counted from its events: hits, misses, loads, round trips, and the time that hits save."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from cachekit import Cache
from cachekit.events import Event, Filled, Hit, Invalidated, Loaded, Missed, ServedStale, StoreFailed
from examples.writing_coach.database import Database

Outcome: TypeAlias = Literal["hit", "miss", "stale", "no answer"]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one worker since its start: events by name, seconds of loads. The page adds up all workers."""

    worker: int
    events: dict[str, int]
    load_seconds: float
    queries: int
    healthy: bool


@dataclass(slots=True)
class Watched:
    """The events and the queries inside a ``with`` block; its seconds are known when it has ended."""

    of_batch: bool
    events: list[Event] = field(default_factory=list)
    queries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a request as the page tells it: ``what`` was done, and what the cache did meanwhile."""

    what: str
    hits: int
    misses: int
    stale: int
    answered: bool
    invalidated: list[str]
    round_trips: int
    queries: int
    seconds: float


_watched: Final[ContextVar[Watched | None]] = ContextVar("what is watched in a request", default=None)


class Panel:
    """Counts the events of a cache and the queries of a database."""

    def __init__(self, cache: Cache, database: Database) -> None:
        self._cache = cache
        self._counts: Counter[str] = Counter()
        self._load_seconds = 0.0
        self._queries = 0
        cache.observe(self._note)
        database.observe = self._query

    def figures(self) -> Figures:
        """Return the present figures."""
        return Figures(os.getpid(), self._counts, self._load_seconds, self._queries, self._cache.healthy)

    @contextmanager
    def watching(self, *, of_batch: bool = False) -> Generator[Watched, None, None]:
        """Collect the events of the calls inside: a cache calls its observers in line, so they are of this task."""
        watched = Watched(of_batch)
        token = _watched.set(watched)
        began = time.perf_counter()
        try:
            yield watched
        finally:
            watched.seconds = time.perf_counter() - began
            _watched.reset(token)

    def _note(self, event: Event) -> None:
        if (watched := _watched.get()) is not None:
            watched.events.append(event)
        # A challenge that is made or spent is a miss or a hit as well, and saves nobody any time. All hits of a batch
        # together save the time of one load.
        if not getattr(event, "key", "profile:").startswith("profile:") or (watched is not None and watched.of_batch):
            return
        self._counts[type(event).__name__] += 1
        if isinstance(event, Loaded):
            self._load_seconds += event.seconds

    def _query(self) -> None:
        self._queries += 1
        if (watched := _watched.get()) is not None:
            watched.queries += 1


def outcome(events: Sequence[Event]) -> Outcome:
    """Return the outcome of one call of a decorated function."""
    kinds = Counter(type(event) for event in events)
    if not _answered(kinds):
        return "no answer"
    return "stale" if kinds[ServedStale] else "hit" if kinds[Hit] else "miss"


def step(what: str, watched: Watched) -> Step:
    """Return what the page tells about a block that was watched."""
    kinds = Counter(type(event) for event in watched.events)
    named = [name for event in watched.events if isinstance(event, Invalidated) for name in (*event.keys, *event.tags)]
    return Step(
        what=what,
        hits=kinds[Hit],
        misses=kinds[Missed],
        stale=kinds[ServedStale],
        answered=_answered(kinds),
        invalidated=named,
        round_trips=_round_trips(kinds),
        queries=watched.queries,
        seconds=watched.seconds,
    )


def _answered(kinds: Counter[type[Event]]) -> bool:
    # As long as an invalidation of it is still to be sent, a key is loaded without being read.
    unread = kinds[Loaded] and not (kinds[Missed] or kinds[ServedStale])
    return not (kinds[StoreFailed] or unread)


def _round_trips(kinds: Counter[type[Event]]) -> int:
    """Return the round trips of one call, however many ids it asked for: the read, and for a load leases and fills.

    A value in hand needs a lease and a fill. An invalidation is one trip, however many keys and tags it has.
    """
    read = any(kinds[kind] for kind in (Hit, Missed, ServedStale))
    filled = kinds[Filled] or (kinds[Missed] and kinds[Loaded])
    return read + 2 * bool(filled) + kinds[Invalidated]
