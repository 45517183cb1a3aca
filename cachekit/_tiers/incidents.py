"""The log discipline: one WARNING when an incident begins, one INFO when it ends, nothing in between."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from msgspec import Struct

from cachekit.clock import Clock

K = TypeVar("K", bound=Hashable)

LOGGER: Final = logging.getLogger("cachekit")

QUIET: Final = 0.5
"""Seconds without the incident before a success ends it: answers that were under way do not count."""

LONGEST_QUIET: Final = 60.0
"""The most that `QUIET` grows to: it doubles each time an incident comes back within this many seconds of its end.
An incident that comes and goes with every call is one incident, not two records a call."""


class _Incident(Struct):
    began: float
    last: float
    text: str
    quiet: float
    count: int = 1


class Incidents(Generic[K]):
    """Which incidents are going on, each under a key of its own.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.current: dict[K, _Incident] = {}
        """By key, the incidents that are going on. Empty while all is well, so a success tests only its truth."""
        # When each ended last, and how much quiet that took.
        self._ended: dict[K, tuple[float, float]] = {}

    def begin(self, key: K, text: str) -> None:
        """Note an occurrence of the incident ``key``; log ``text`` if it is the first."""
        now = self._clock.monotonic()
        incident = self.current.get(key)
        if incident is None:
            ended, quiet = self._ended.pop(key, (float("-inf"), QUIET))
            again = now - ended < LONGEST_QUIET
            self.current[key] = _Incident(now, now, text, min(2 * quiet, LONGEST_QUIET) if again else QUIET)
            LOGGER.warning("%s", text)
        else:
            incident.last = now
            incident.count += 1

    def end(self, key: K) -> float | None:
        """Note that ``key`` went well. Returns the seconds that its incident lasted if this ends it."""
        incident = self.current.get(key)
        now = self._clock.monotonic()
        if incident is None or now - incident.last < incident.quiet:
            return None
        # Another thread may have ended it just now.
        if self.current.pop(key, None) is None:
            return None
        self._ended[key] = (now, incident.quiet)
        seconds = now - incident.began
        LOGGER.info(
            "back to normal after %.1f s and %d occurrences; it was: %s", seconds, incident.count, incident.text
        )
        return seconds

    def going_on(self) -> list[K]:
        """Return the keys of the incidents that are going on."""
        return [*self.current]
