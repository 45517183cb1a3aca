"""The two clocks that decide about expiry, timestamps and incidents, in one place so that tests can move them."""

from __future__ import annotations

import time
from typing import Final, Protocol

from cachekit.errors import ConfigurationError


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


def check_clock(clock: object) -> None:
    """Refuse what tells no time; None is a choice.

    Raises:
        ConfigurationError: It is a class, or lacks one of the two methods.
    """
    if isinstance(clock, type):
        message = f"clock={clock.__name__} is a class; write clock={clock.__name__}()"
        raise ConfigurationError(message)
    if clock is not None and not all(callable(getattr(clock, name, None)) for name in ("monotonic", "time")):
        message = f"clock={clock!r} has no monotonic() and time(); write clock=cachekit.testing.FakeClock()"
        raise ConfigurationError(message)
