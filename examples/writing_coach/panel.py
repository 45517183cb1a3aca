"""The figures of the cache, counted from its events: hits, misses, loads, and the time that hits have saved."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from cachekit import Cache
from cachekit.events import Event, Hit, Loaded, ServedStale, StoreFailed
from examples.writing_coach.database import Database

Outcome: TypeAlias = Literal["hit", "miss", "stale", "no answer"]

_watched: Final[ContextVar[list[Event] | None]] = ContextVar("the events of a request", default=None)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one worker since its start: events by name, seconds of loads. The page adds up all workers."""

    worker: int
    events: dict[str, int]
    load_seconds: float
    queries: int
    healthy: bool


class Panel:
    """Counts the events of a cache and the queries of a database."""

    def __init__(self, cache: Cache, database: Database) -> None:
        self._cache, self._database = cache, database
        self._counts: Counter[str] = Counter()
        self._load_seconds = 0.0
        cache.observe(self._note)

    def figures(self) -> Figures:
        """Return the figures as of now."""
        return Figures(os.getpid(), self._counts, self._load_seconds, self._database.queries, self._cache.healthy)

    @contextmanager
    def watching(self) -> Generator[Sequence[Event], None, None]:
        """Collect the events of the calls inside: a cache calls its observers in line, so they are of this task."""
        events: list[Event] = []
        token = _watched.set(events)
        try:
            yield events
        finally:
            _watched.reset(token)

    def _note(self, event: Event) -> None:
        # A challenge that is made or spent is a miss or a hit as well, and saves nobody any time.
        if not getattr(event, "key", "profile:").startswith("profile:"):
            return
        if (events := _watched.get()) is not None:
            events.append(event)
        self._counts[type(event).__name__] += 1
        if isinstance(event, Loaded):
            self._load_seconds += event.seconds


def outcome(events: Sequence[Event]) -> Outcome:
    """Return the outcome of one call of a decorated function."""
    kinds = {type(event) for event in events}
    if StoreFailed in kinds or ServedStale in kinds:
        return "no answer" if StoreFailed in kinds else "stale"
    return "hit" if Hit in kinds else "miss"
