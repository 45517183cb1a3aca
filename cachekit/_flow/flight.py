"""Single flight: callers of one cold key share one load, in one event loop. A stampede is one load.

The load runs in its caller's own task, as if undecorated: it has the database session, the contextvars and the timeout
of that request. The other callers wait until it lands. When the loading caller is cancelled, a waiting caller is
promoted: it loads in its own task.

=============  ====================================================  ==============================================
state          meaning                                               next states
=============  ====================================================  ==============================================
``WAITING``    the function has not begun: the lease, or an earlier  loading; landed, when the value was stored
               load, comes first                                     meanwhile; orphaned; abandoned
``LOADING``    the function runs                                     landed; waiting, when another caller is
                                                                     promoted; abandoned
``ORPHANED``   a promoted caller was cancelled before it could       waiting, when another caller is promoted;
               begin                                                 abandoned
``LANDED``     it has a value or an exception                        none
``ABANDONED``  no caller is left to load it                          none
=============  ====================================================  ==============================================
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from enum import IntEnum, auto
from typing import Any, Final

from msgspec import Struct

from cachekit._flow.renewal import HeldLease
from cachekit._tiers.outcome import Down
from cachekit.entry import Entry
from cachekit.loops import PerLoop
from cachekit.stores.scripts import Paused
from cachekit.tags import Tags, is_tag, name_of


class State(IntEnum):
    """How far a load is; the table above has the meaning of each state."""

    # Numbers, since their hash is that of an int: that of other members is computed in Python code, 0.1 us each time.

    WAITING = auto()
    LOADING = auto()
    ORPHANED = auto()
    LANDED = auto()
    ABANDONED = auto()


# A member that is looked up in its class takes 60 ns on Python 3.11, and a load asks for four.
_WAITING: Final = State.WAITING
LOADING: Final = State.LOADING
_LANDED: Final = State.LANDED

NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.WAITING: frozenset({State.WAITING, State.LOADING, State.ORPHANED, State.LANDED, State.ABANDONED}),
    State.LOADING: frozenset({State.WAITING, State.LANDED, State.ABANDONED}),
    State.ORPHANED: frozenset({State.WAITING, State.ABANDONED}),
    State.LANDED: frozenset(),
    State.ABANDONED: frozenset(),
}
"""Which states may follow each; a flight that waits may be handed from one caller to the next."""


class Landed(Struct, frozen=True):
    """The end of a load: a value, with its entry if it makes the round trip; or an exception."""

    value: Any = None
    entry: Entry | None = None
    asked: int = 0
    """Of a value that was found, and not loaded: the number of the question. Calls that began after it do not share the
    value, which may have been invalidated before they began."""
    error: Exception | None = None
    """As it left the load, with its traceback. It is not raised itself: each caller raises a copy."""

    def __repr__(self) -> str:
        # asyncio shows the results of futures in its own records: a value is nothing for them.
        return f"{type(self).__name__}(<private>)"


AGAIN: Final = Landed()
"""A load in the background that did not begin: its lease was held, for one. Callers that wait start over."""

ABSENT: Final = Landed()
"""A batch has loaded the key, and its function has left the id out. Only batches take that for an answer."""

PAUSED: Final = Landed()
"""A load that did not begin, since one of its key failed a short time ago, in any process."""


def is_open(landed: Landed) -> bool:
    """Tell whether a load has ended without an answer for single calls that shared it: each starts over."""
    return landed is AGAIN or landed is ABSENT


class Flight(Struct, eq=False):
    """One load of one key, and the callers that wait for it."""

    key: str
    plan: object
    """Whose load it is: functions that share a key by mistake do not share results."""
    loop: asyncio.AbstractEventLoop
    state: State = _WAITING
    landed: Landed | None = None
    """The value or the exception, once its state is ``LANDED``."""
    lease: HeldLease | None = None
    """The lease that allows the fill; None before it is taken, or when the store failed."""
    after: Flight | None = None
    """An earlier load of the key, which this one follows."""
    void: bool = False
    """Whether the key was invalidated, in this process, since it was opened."""
    nested: bool = False
    """Whether a caller inside another load has ever waited for it."""
    around: Flight | None = None
    """The load that it is loaded inside of, while the function runs."""
    waits_for: Counter[Flight] | None = None
    """The flights that callers inside the load wait for, or lead, and how many of them."""
    timed_out: bool = False
    """Whether its load took longer than the ``load_timeout``."""
    unleased: str = "store"
    """Why its result is not stored if it has no lease: the reason of a `cachekit.events.NotStored`."""
    ended: float = 0.0
    """The `time.monotonic` at which its load ended, if there is an observer."""
    took: float = 0.0
    """Seconds until then."""
    pausing: asyncio.Task[Paused | Down] | None = None
    """The task that puts a pause in the place of the lease, after its load has failed."""
    tags: Tags | None = None
    """The ones that stood before the load, and that its value records; None if the function has none, or one of them is
    not known."""
    promotions: int = 0
    """How many waiting callers were promoted."""
    asked: int = 0
    """The number of its last question for the lease; 0 before the first one."""
    doubted: bool = False
    """Whether its process had invalidated the key when it asked, and the store may not have known. A value that it
    found then may be older than calls that share it, though the journal is empty by now."""
    _waiters: deque[asyncio.Future[Landed | None]] | None = None
    _followers: list[asyncio.Future[None]] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.state.name})"

    @property
    def begun(self) -> bool:
        """Whether the function has begun to run for it."""
        return self.state is LOADING or self.state is _LANDED

    @property
    def awaited(self) -> bool:
        """Whether a caller waits for it."""
        return self._waiters is not None and any(not waiter.done() for waiter in self._waiters)

    async def join(self) -> Landed | None:
        """Wait until the load lands. Returns None when this caller is promoted: it has to load itself."""
        if self.landed is not None:
            return self.landed
        waiter = self.add_waiter()
        heard = False
        try:
            landed = await waiter
            heard = True
        finally:
            # Cancelled, or closed from outside.
            if not heard:
                self.leave(waiter)
        return landed

    def add_waiter(self) -> asyncio.Future[Landed | None]:
        """Return the future of a caller that waits: it gets what `join` returns."""
        waiter: asyncio.Future[Landed | None] = self.loop.create_future()
        if self.landed is not None:
            waiter.set_result(self.landed)
            return waiter
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: asyncio.Future[Landed | None]) -> None:
        """Note that the caller of ``waiter`` waits no more."""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.result() is None:
            self.become(State.ORPHANED)

    def land(self, landed: Landed) -> None:
        """Give every waiting caller the value or the exception, unless they were given up as it took too long."""
        if self.landed is not None:
            return
        self.landed = landed
        self.become(_LANDED)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done() and not self.loop.is_closed():
                waiter.set_result(landed)

    def promote_waiter(self) -> bool:
        """Promote a waiting caller, since the loading one was cancelled; abandon the flight if there is none.

        The newest one first: where all have the same timeout, it has the most time left to load in. The next time
        the oldest one: it has outlived all others that came with it, so that none is passed over for ever.

        Returns whether there is one.
        """
        while self._waiters:
            waiter = self._waiters.popleft() if self.promotions % 2 else self._waiters.pop()
            if not waiter.done() and not self.loop.is_closed():
                self.promotions += 1
                self.become(_WAITING)
                waiter.set_result(None)
                return True
        self.become(State.ABANDONED)
        return False

    async def until_ended(self, seconds: float) -> None:
        """Wait until it has landed, or was abandoned, but no longer than ``seconds``."""
        if NEXT[self.state] and seconds > 0:
            follower = self.add_follower()
            try:
                await asyncio.wait([follower], timeout=seconds)
            finally:
                self.remove_follower(follower)

    def add_follower(self) -> asyncio.Future[None]:
        """Return a future that is done when it has landed, or was abandoned."""
        follower: asyncio.Future[None] = self.loop.create_future()
        if not NEXT[self.state]:
            follower.set_result(None)
            return follower
        if self._followers is None:
            self._followers = []
        self._followers.append(follower)
        return follower

    def remove_follower(self, follower: asyncio.Future[None]) -> None:
        """Forget ``follower``, which waits no more."""
        if self._followers is not None and follower in self._followers:
            self._followers.remove(follower)

    def become(self, state: State) -> None:
        """Change the state: nothing else does. A state that cannot follow is left out."""
        if state not in NEXT[self.state]:
            return
        self.state = state
        if self._followers is not None and not NEXT[state]:
            followers, self._followers = self._followers, None
            for follower in followers:
                if not follower.done() and not self.loop.is_closed():
                    follower.set_result(None)


class Flights:
    """The flights that are open. Each event loop has its own."""

    def __init__(self) -> None:
        self._loops: PerLoop[dict[str, Flight]] = PerLoop(dict)
        self.open_loops: dict[asyncio.AbstractEventLoop, dict[str, Flight]] = self._loops.states
        """By loop and key. Empty while nothing is loaded, so a hit tests only its truth."""

    def find(self, key: str) -> Flight | None:
        """Return the open flight of ``key`` in the running event loop."""
        flights = self._loops.find()
        return flights.get(key) if flights else None

    def find_begun(self, key: str) -> Flight | None:
        """Return the open flight of ``key`` if its load has begun."""
        flight = self.find(key)
        return flight if flight is not None and flight.begun else None

    def open(self, key: str, plan: object) -> Flight:
        """Open a flight for ``key``. Later callers find it, in place of an earlier one."""
        loop = asyncio.get_running_loop()
        flight = Flight(key, plan, loop)
        if self.open_loops:
            self._loops.get()[key] = flight
        else:
            # The usual case, and a call less.
            self.open_loops[loop] = {key: flight}
        return flight

    def close(self, flight: Flight) -> None:
        """Let later callers find ``flight`` no more."""
        flights = self.open_loops.get(flight.loop)
        # Other threads void keys at any moment, so nothing is taken for granted between two steps.
        if flights is None:
            return
        if flights.get(flight.key) is flight:
            flights.pop(flight.key, None)
        if not flights:
            self.open_loops.pop(flight.loop, None)

    def void(self, keys: Sequence[str]) -> None:
        """Void the flights of ``keys``, and the flights that depend on tags among them, in every event loop.

        Later callers do not join them.
        """
        for flights in self._loops.all():
            for key in (*keys, *_depending(flights, keys)):
                flight = flights.pop(key, None)
                if flight is not None:
                    flight.void = True
        self._loops.purge()

    def void_all(self) -> None:
        """Void all flights: later callers join none of them."""
        for flights in self._loops.all():
            self.void([*flights])


def _depending(flights: Mapping[str, Flight], keys: Sequence[str]) -> list[str]:
    """Return the keys of the flights that depend on tags among ``keys``."""
    names = {name_of(key) for key in keys if is_tag(key)}
    if not names:
        return []
    # A copy: other threads open and close flights at any moment.
    return [flight.key for flight in [*flights.values()] if flight.tags and not names.isdisjoint(flight.tags)]
