"""The two clocks that decide about expiry, timestamps and incidents, in one place so that tests can move them."""

from __future__ import annotations

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Tells the time; all values are seconds."""

    def monotonic(self) -> float:
        """Seconds that never go backwards: for durations and incidents."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, UTC: for expiry in memory, and for timestamps that other processes read."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    monotonic: staticmethod[[], float] = staticmethod(time.monotonic)
    time: staticmethod[[], float] = staticmethod(time.time)


LIVE: Final[Clock] = time
"""The same clocks, looked up in their module each time: freezegun puts others there."""
