"""Nesting, loads inside loads: a cached function may call another, or itself, and nothing may wait in a circle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, cast

from msgspec import Struct

from cachekit._flow.flight import LOADING, Flight


class Run(Struct, eq=False):
    """One run of a function for a flight. Tasks that were started inside may outlive it."""

    flight: Flight | None
    """None when it has ended: nothing of it is kept for the tasks that were started inside."""
    before: tuple[Run, ...]
    """The runs around it."""


# The runs that the running code is inside of, outermost first. Tasks started inside inherit it.
_INSIDE: Final[ContextVar[tuple[Run, ...]]] = ContextVar("cachekit loads", default=())

_NOT_INSIDE: Final = nullcontext()


def inside() -> tuple[Flight, ...]:
    """Return the loads that the running code is inside of, outermost first."""
    # A task that was started inside a load may outlive it, and start others.
    return tuple([run.flight for run in _INSIDE.get() if run.flight is not None and run.flight.landed is None])


def leave_all() -> None:
    """Be inside of no load, in this context: what begins here goes on without the loads around it."""
    _INSIDE.set(())


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


def enter(flight: Flight) -> Run:
    """Begin the load of ``flight``: the code that follows. Returns what `leave` needs."""
    flight.become(LOADING)
    before = _INSIDE.get()
    run = Run(flight, before)
    if before:
        around = tuple([other for other in before if other.flight is not None and other.flight.landed is None])
        if around:
            # It goes on only when this load does.
            flight.around = cast("Flight", around[-1].flight)
            _wait(flight.around, flight)
        _INSIDE.set((*around, run))
    else:
        _INSIDE.set((run,))
    return run


def leave(flight: Flight, run: Run) -> None:
    """End the load of ``flight``."""
    around = _INSIDE.get()
    # Set, not reset: a coroutine that is closed from outside runs this in another context, which is left as it is.
    if around and around[-1] is run:
        _INSIDE.set(run.before)
    run.flight, run.before = None, ()
    if flight.around is not None:
        _wait_no_longer(flight.around, flight)
        flight.around = None


@contextmanager
def inside_of(group: Flight, led: Sequence[Flight]) -> Generator[None, None, None]:
    """Run a function that loads for several flights at once: the code inside stands in ``group``, which is one for all.

    Args:
        group: Stands for the load, and no search finds it.
        led: The flights that the same caller leads. None of them goes on before this load has ended.
    """
    run = enter(group)
    for flight in led:
        if flight.waits_for is None:
            flight.waits_for = Counter()
        flight.waits_for[group] += 1
    try:
        yield
    finally:
        for flight in led:
            _wait_no_longer(flight, group)
        leave(group, run)


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
