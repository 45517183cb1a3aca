"""Loads inside loads: a cached function may call another, or itself, and nothing may wait in a circle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final

from cachekit._flow.flight import Flight

# The loads that the running code is inside of, outermost first. Tasks started inside inherit it.
_INSIDE: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("cachekit loads", default=())

_NOT_INSIDE: Final = nullcontext()


def inside() -> tuple[Flight, ...]:
    """Return the loads that the running code is inside of, outermost first."""
    around = _INSIDE.get()
    # A task that was started inside a load may outlive it, and start others.
    return tuple(flight for flight in around if flight.landed is None) if around else around


def may_wait_for(flight: Flight) -> bool:
    """Tell whether waiting for ``flight`` here cannot end in a circle of loads that wait for each other."""
    around = inside() if _INSIDE.get() else ()
    return not around or not _waits_for_any(flight, around)


def waiting_for(flight: Flight) -> AbstractContextManager[None]:
    """Note that the load around the running code, if there is one, goes on only when ``flight`` does."""
    around = inside() if _INSIDE.get() else ()
    return _waiting(around[-1], flight) if around else _NOT_INSIDE


@contextmanager
def loading(flight: Flight) -> Generator[None, None, None]:
    """Note that the code of the block is the load of ``flight``."""
    before = _INSIDE.get()
    _INSIDE.set((*inside(), flight) if before else (flight,))
    try:
        yield
    finally:
        # Set, not reset: a coroutine that is closed from outside runs this in another context.
        _INSIDE.set(before)


@contextmanager
def _waiting(around: Flight, flight: Flight) -> Generator[None, None, None]:
    flight.nested = True
    if around.waits_for is None:
        around.waits_for = Counter()
    waiting = around.waits_for
    waiting[flight] += 1
    try:
        yield
    finally:
        waiting[flight] -= 1
        if not waiting[flight]:
            del waiting[flight]


def _waits_for_any(flight: Flight, others: Sequence[Flight]) -> bool:
    """Tell whether ``flight`` waits, through however many others, for one of ``others``."""
    seen: set[Flight] = set()
    ahead: list[Flight] = [flight]
    while ahead:
        one = ahead.pop()
        if one in others:
            return True
        if one not in seen:
            seen.add(one)
            ahead += one.waits_for or ()
    return False
