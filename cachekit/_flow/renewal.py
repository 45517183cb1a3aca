"""Renewal: the leases that loads hold are renewed until the loads land, or take too long."""

from __future__ import annotations

import asyncio
import math
import weakref
from typing import Final

from msgspec import Struct

from cachekit._tiers.background import Background
from cachekit._tiers.leases import Leases
from cachekit.loops import detached

OFTEN: Final = 3
"""Renewals in the time of one lease: one may fail, and the next one still comes in time."""

EARLY: Final = 0.1
"""The part of a lease by which it may be renewed too early, together with others: fewer looks at all that are held."""


class HeldLease(Struct, eq=False):
    """The lease of a flight, once it is taken."""

    key: str
    token: bytes
    seconds: float
    """How long it lasts, unless it is renewed."""
    ends: float
    """When it is renewed for the last time, by the clock of the event loop: no caller waits without end for a load
    that hangs."""
    renewals: Renewals
    due: float = 0.0
    """When it is renewed next."""


class Renewals:
    """The leases that are held in one event loop, the running one, and the timer that renews them.

    There is one timer for all: most loads land long before their lease is renewed, and to set a timer for each would
    cost a miss 5 us.

    Args:
        leases: Renews a lease.
        background: Owns the tasks in which that is done.
    """

    def __init__(self, leases: Leases, background: Background) -> None:
        self._leases = leases
        self._background = background
        self._loop = asyncio.get_running_loop()
        self._held: set[HeldLease] = set()
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, key: str, token: bytes, seconds: float, longest: float) -> HeldLease:
        """Renew a lease of ``seconds`` from now on, for ``longest`` seconds at most."""
        now = self._loop.time()
        held = HeldLease(key, token, seconds, now + longest, self, now + seconds / OFTEN)
        self._held.add(held)
        if held.due < self._next:
            self._schedule(held.due)
        return held

    def stop(self, held: HeldLease) -> None:
        """Renew ``held`` no more. The timer stays set: to find nothing once costs less than to set it anew."""
        self._held.discard(held)

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        # Weak: a timer that is set keeps no cache alive.
        this: weakref.ref[Renewals] = weakref.ref(self)
        self._timer = detached(self._loop.call_at, due, _renew_due, this)

    def renew_due(self) -> None:
        """Renew the leases whose time has come, and set the timer for the next one."""
        self._next = math.inf
        now = self._loop.time()
        # A copy: a coroutine may be closed in another thread.
        for held in [*self._held]:
            if now >= held.ends:
                self.stop(held)
            elif now >= held.due - held.seconds * EARLY:
                held.due = now + held.seconds / OFTEN
                self._background.start(self._loop, self._renew, held)
        if self._held:
            self._schedule(min([held.due for held in [*self._held]], default=math.inf))

    async def _renew(self, held: HeldLease) -> None:
        # Given back since the timer ended.
        if held in self._held and not await self._leases.renew(held.key, held.token, held.seconds):
            self.stop(held)


def _renew_due(of_loop: weakref.ref[Renewals]) -> None:
    renewals = of_loop()
    if renewals is not None:
        renewals.renew_due()
