"""Single flight: callers of one cold key share one load, in one event loop.

The load runs in its caller's own task, as if undecorated: what belongs to that request (its database
session, its contextvars, its timeout) belongs to the load. The others wait for what it lands with. When the
loading caller is cancelled, one of the waiting loads in its own task.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

from msgspec import Struct


class Landed(Struct, frozen=True):
    """What a load came to: a value, with its bytes when it makes the round trip; or an exception."""

    value: Any = None
    data: bytes | None = None
    error: Exception | None = None
    traceback: TracebackType | None = None


class Flight:
    """One load of one key, and the callers that wait for it."""

    # Of most flights this is how it is; attributes that are not set cost nothing.
    adrift: bool = False
    """Whether the one who was to load it was cancelled before it could begin."""
    token: bytes | None = None
    """What holds the lease in the store, once it is taken."""
    loading: bool = False
    """Whether the function has begun to run."""
    after: Flight | None = None
    """An earlier load of the key, which this one follows."""
    ended: bool = False
    """Whether it has landed, or nobody is left to load it."""
    void: bool = False
    """Whether the key was invalidated, in this process, since it was opened."""
    landed: Landed | None = None
    renewal: asyncio.TimerHandle | None = None
    """What keeps the lease alive."""
    nested: bool = False
    """Whether a caller inside another load has ever waited for it."""
    waits_for: Counter[Flight] | None = None
    """The flights that callers inside the load wait for, or lead, and how many of them."""
    _waiters: deque[asyncio.Future[Landed | None]] | None = None
    _watchers: list[asyncio.Future[None]] | None = None

    def __init__(self, key: str, plan: object) -> None:
        self.key = key
        self.plan = plan
        """Whose load it is: functions that share a key by mistake do not share results."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for it."""
        return self._waiters is not None and any(not waiter.done() for waiter in self._waiters)

    async def join(self) -> Landed | None:
        """Wait for what the load comes to. Returns None when this caller has to load itself, in its place."""
        if self.landed is not None:
            return self.landed
        waiter: asyncio.Future[Landed | None] = self.loop.create_future()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result() is None:
                self.adrift = True
            raise

    def land(self, landed: Landed) -> None:
        """Give every waiting caller what the load came to."""
        self.landed = landed
        if self.renewal is not None:
            self.keep_no_longer()
        self.end()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(landed)

    def hand_on(self) -> bool:
        """Have one of the waiting callers load, since the one that did was cancelled. Returns whether there is one."""
        self.loading = self.adrift = False
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def end(self) -> None:
        """Let what follows begin."""
        self.ended = True
        if self._watchers is None:
            return
        watchers, self._watchers = self._watchers, None
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def over(self) -> None:
        """Wait until it has ended, whatever came of it."""
        if not self.ended:
            watcher: asyncio.Future[None] = self.loop.create_future()
            if self._watchers is None:
                self._watchers = []
            self._watchers.append(watcher)
            await watcher

    def keep_no_longer(self) -> None:
        """Renew the lease no more."""
        if self.renewal is not None:
            self.renewal.cancel()
            self.renewal = None

    def waits_for_any(self, others: Sequence[Flight]) -> bool:
        """Tell whether this flight waits, through however many others, for one of ``others``."""
        seen: set[Flight] = set()
        ahead: list[Flight] = [self]
        while ahead:
            flight = ahead.pop()
            if flight in others:
                return True
            if flight not in seen:
                seen.add(flight)
                ahead += flight.waits_for or ()
        return False


class Flights:
    """The flights that are open, for each event loop that has any."""

    def __init__(self) -> None:
        self.open_loops: dict[asyncio.AbstractEventLoop, dict[str, Flight]] = {}
        """Those of each loop that has any: whether there is one is all that a hit asks."""

    def find(self, key: str) -> Flight | None:
        """Return the open flight of ``key`` in the running event loop."""
        here = self.open_loops.get(asyncio.get_running_loop())
        return here.get(key) if here else None

    def open(self, key: str, plan: object) -> Flight:
        """Open a flight for ``key``. Later callers find it, in place of an earlier one."""
        flight = Flight(key, plan)
        self.open_loops.setdefault(flight.loop, {})[key] = flight
        return flight

    def close(self, flight: Flight) -> None:
        """Let later callers find ``flight`` no more."""
        here = self.open_loops.get(flight.loop)
        # Other threads forget keys at any moment, so nothing is taken for granted between two steps.
        if here is None:
            return
        if here.get(flight.key) is flight:
            here.pop(flight.key, None)
        if not here:
            self.open_loops.pop(flight.loop, None)

    def void(self, keys: Sequence[str]) -> None:
        """Void the flights of ``keys`` in every event loop: later callers do not join them."""
        for loop, here in list(self.open_loops.items()):
            for key in keys:
                flight = here.pop(key, None)
                if flight is not None:
                    flight.void = True
            if loop.is_closed():
                self.open_loops.pop(loop, None)


# The loads that the running code is inside of, outermost first. Tasks started inside inherit it.
_INSIDE: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("cachekit loads", default=())


def inside() -> tuple[Flight, ...]:
    """Return the loads that the running code is inside of, outermost first."""
    around = _INSIDE.get()
    # A task that was started inside a load may outlive it, and start others.
    return tuple(flight for flight in around if flight.landed is None) if around else around


def may_wait_for(flight: Flight) -> bool:
    """Tell whether waiting for ``flight`` here cannot end in a circle of loads that wait for each other."""
    around = inside() if _INSIDE.get() else ()
    return not around or not flight.waits_for_any(around)


_NOT_INSIDE: Final = nullcontext()


def waiting_for(flight: Flight) -> AbstractContextManager[None]:
    """Note that the load around the running code, if there is one, goes on only when ``flight`` does."""
    around = inside() if _INSIDE.get() else ()
    return _waiting(around[-1], flight) if around else _NOT_INSIDE


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


def enter(flight: Flight) -> tuple[Flight, ...]:
    """Note that the code that follows is the load of ``flight``. Returns what `leave` needs."""
    before = _INSIDE.get()
    _INSIDE.set((*inside(), flight) if before else (flight,))
    return before


def leave(before: tuple[Flight, ...]) -> None:
    """Note that the load has ended."""
    # Set, not reset: a coroutine that is closed from outside runs this in another context.
    _INSIDE.set(before)
