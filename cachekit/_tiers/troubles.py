"""The log discipline: one WARNING when a trouble begins, one INFO when it ends, nothing in between."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from msgspec import Struct

from cachekit.clock import Clock

K = TypeVar("K", bound=Hashable)

LOGGER: Final = logging.getLogger("cachekit")

QUIET: Final = 0.5
"""Seconds without the trouble before a success ends it: answers that were under way do not count."""

LONGEST_QUIET: Final = 60.0
"""What `QUIET` grows to, doubling each time a trouble comes back within this many seconds of its end. A
trouble that comes and goes with every call is one trouble, not two records a call."""


class _Trouble(Struct):
    began: float
    last: float
    text: str
    quiet: float
    count: int = 1


class Troubles(Generic[K]):
    """Which troubles are going on, each under a key of its own.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.current: dict[K, _Trouble] = {}
        """Those that are going on: whether there is any is all that a success asks."""
        # When each ended last, and how much quiet that took.
        self._ended: dict[K, tuple[float, float]] = {}

    def begin(self, key: K, text: str) -> None:
        """Note an occurrence of the trouble ``key``; log ``text`` if it is the first."""
        now = self._clock.monotonic()
        trouble = self.current.get(key)
        if trouble is None:
            ended, quiet = self._ended.pop(key, (float("-inf"), QUIET))
            again = now - ended < LONGEST_QUIET
            self.current[key] = _Trouble(now, now, text, min(2 * quiet, LONGEST_QUIET) if again else QUIET)
            LOGGER.warning("%s", text)
        else:
            trouble.last = now
            trouble.count += 1

    def end(self, key: K) -> float | None:
        """Note that ``key`` went well. Returns the seconds that its trouble lasted if this ends it."""
        trouble = self.current.get(key)
        now = self._clock.monotonic()
        if trouble is None or now - trouble.last < trouble.quiet:
            return None
        # Another thread may have ended it just now.
        if self.current.pop(key, None) is None:
            return None
        self._ended[key] = (now, trouble.quiet)
        seconds = now - trouble.began
        LOGGER.info("back to normal after %.1f s and %d occurrences; it was: %s", seconds, trouble.count, trouble.text)
        return seconds

    def going_on(self) -> list[K]:
        """Return the keys of what is going on."""
        return [*self.current]
