"""Pauses of this process at random moments of every test: `python -m pytest --pauses 0.5`.

A busy machine lets a process stand still at any moment, for as long as it likes. A run with pauses shows the tests that
do not expect it. All threads stand still, and servers and other processes go on.
"""

from __future__ import annotations

import ctypes
import random
import signal
import time
from collections.abc import Generator
from typing import Final

import pytest

FIRST: Final = 0.005
"""Mean seconds until the first pause. Each further one comes after about as much time as the test has run without
pauses, so that short tests and long ones are disturbed at every stage."""
MOST: Final = 8
"""Pauses in one test."""
SHORTEST: Final = 0.001
"""The least seconds between two pauses. A timer of zero seconds would be none."""

# Other than `time.sleep`, a function of a PyDLL keeps the lock of the interpreter, so no thread goes on.
_C: Final = ctypes.PyDLL(None)
_LONGEST_SLEEP: Final = 0.9
"""Seconds. POSIX permits `usleep` to refuse a second and more."""


def now() -> float:
    """Return seconds of a clock that libraries which freeze the time leave alone."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Pauses:
    """The pauses of a run. They come at the same moments in the next run, as far as the machine permits it.

    Args:
        seconds: How long each takes, on average. A little more or less gives other moments.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Disturb one test, its fixtures included."""
        chance = random.Random(f"{self._seconds} {item.nodeid}")
        left, ran, set_at = MOST, 0.0, now()

        def pause(*_: object) -> None:
            nonlocal left, ran, set_at
            ran += now() - set_at
            stand_still(self._seconds * chance.uniform(0.5, 1.5))
            left -= 1
            set_at = now()
            if left:
                signal.setitimer(signal.ITIMER_REAL, max(SHORTEST, chance.expovariate(1 / max(FIRST, ran))))

        before = signal.signal(signal.SIGALRM, pause)
        signal.setitimer(signal.ITIMER_REAL, max(SHORTEST, chance.expovariate(1 / FIRST)))
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def stand_still(seconds: float) -> None:
    """Let all threads of this process stand still."""
    end = now() + seconds
    while (left := end - now()) > 0:
        _C.usleep(int(min(left, _LONGEST_SLEEP) * 1e6))
