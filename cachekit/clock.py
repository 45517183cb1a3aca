"""The two clocks that decide about expiry, timestamps and incidents, in one place so that tests can move them."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; all values are seconds."""

    def monotonic(self) -> float:
        """Seconds that never go backwards: for durations and for expiry in process."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, UTC: for timestamps that other processes read."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    monotonic: staticmethod[[], float] = staticmethod(time.monotonic)
    time: staticmethod[[], float] = staticmethod(time.time)
