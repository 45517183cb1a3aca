"""Pauses stop all threads of the process, at several moments of a test, and no longer than it runs."""

from __future__ import annotations

import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit import pauses
from tests.kit.pauses import MOST, Pauses, stand_still


def test_all_threads_stand_still() -> None:
    over, moments = threading.Event(), list[float]()

    def look() -> None:
        while not over.wait(0.001):
            moments.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        began = time.monotonic()
        stand_still(0.2)
        ended = time.monotonic()
    finally:
        over.set()
        thread.join()
    # One look may have been under way when the pause began, and one when it ended.
    assert len([moment for moment in moments if began < moment < ended]) <= 2
    assert ended - began >= 0.2


def test_a_test_is_disturbed_several_times_and_nothing_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stood: list[float] = []
    monkeypatch.setattr(pauses, "stand_still", stood.append)
    handler = signal.getsignal(signal.SIGALRM)
    item: Any = SimpleNamespace(nodeid="a test")
    run = Pauses(0.5).pytest_runtest_protocol(item)
    next(run)
    while len(stood) < MOST:
        time.sleep(0.001)
    with pytest.raises(StopIteration):
        run.send(None)
    assert all(0.25 <= seconds <= 0.75 for seconds in stood)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
