"""Nesting, loads inside loads: a cached function may call another, or itself, and nothing may wait in a circle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Final, cast

from cachekit._flow.flight import LOADING, Flight

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
    return _Waiting(around[-1], flight) if around else _NOT_INSIDE


class _Waiting:
    """The load ``around`` goes on only when ``flight`` does."""

    __slots__ = ("_around", "_flight")

    def __init__(self, around: Flight, flight: Flight) -> None:
        self._around = around
        self._flight = flight

    def __enter__(self) -> None:
        _wait(self._around, self._flight)

    def __exit__(self, *raised: object) -> None:
        _wait_no_longer(self._around, self._flight)


def enter(flight: Flight) -> tuple[Flight, ...]:
    """Begin the load of ``flight``: the code that follows. Returns what `leave` needs."""
    flight.become(LOADING)
    before = _INSIDE.get()
    if before:
        around = inside()
        if around:
            # It goes on only when this load does.
            flight.around = around[-1]
            _wait(flight.around, flight)
        _INSIDE.set((*around, flight))
    else:
        _INSIDE.set((flight,))
    return before


def leave(flight: Flight, before: tuple[Flight, ...]) -> None:
    """End the load of ``flight``."""
    # Set, not reset: a coroutine that is closed from outside runs this in another context.
    _INSIDE.set(before)
    if flight.around is not None:
        _wait_no_longer(flight.around, flight)
        flight.around = None


def _wait(around: Flight, flight: Flight) -> None:
    flight.nested = True
    if around.waits_for is None:
        around.waits_for = Counter()
    around.waits_for[flight] += 1


def _wait_no_longer(around: Flight, flight: Flight) -> None:
    waits_for = cast("Counter[Flight]", around.waits_for)
    waits_for[flight] -= 1
    if not waits_for[flight]:
        del waits_for[flight]


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
            if one.after is not None:
                ahead.append(one.after)
    return False
