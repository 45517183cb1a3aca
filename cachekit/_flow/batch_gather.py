"""What of a batch was no hit: its loads, the ones that it shares, and the ones that other processes do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from cachekit._flow.batch_load import Group, Member, acquire_all, flight_of, load_group
from cachekit._flow.batch_plan import Asked
from cachekit._flow.flight import ABSENT, AGAIN, PAUSED, Landed, is_open
from cachekit._flow.joining import Joining, ReadResult, board
from cachekit._flow.lease import Wait
from cachekit._flow.load import Following, Sharing, abandon, load_failed, tell_shared
from cachekit._flow.stale import hand_out, in_place_of, share_result
from cachekit._flow.verdict import LOAD
from cachekit.errors import RoundTripError
from cachekit.stores.scripts import Lease

_SHORTEST: Final = 0.001
"""Seconds of a wait, at least."""


class Gather:
    """Loads the members of one batch, and waits for the ones that others load.

    Args:
        asked: The arguments of the call.
        loose: Ids that are loaded, and not stored.
        alone: Whether no caller waits: it loads in the background.
    """

    def __init__(self, asked: Asked[Any, Any], loose: Sequence[Any] = (), *, alone: bool = False) -> None:
        self.values: dict[str, Any] = {}
        """By key, the values that were loaded."""
        self.loose_values: dict[Any, Any] = {}
        """By id, the results of ids that have no key, or are not stored."""
        self._asked = asked
        self._alone = alone
        # To be loaded, held by loads of other processes, and loaded by other callers of this process.
        self._open: deque[Member] = deque()
        self._loose = deque(loose)
        self._held: list[tuple[Member, Wait]] = []
        self._shared: dict[asyncio.Future[Landed | None], tuple[Member, Sharing]] = {}
        # Those that follow an earlier load, which is not theirs.
        self._following: dict[asyncio.Future[None], tuple[Member, Following]] = {}
        self._led: list[Member] = []

    async def load(self, members: Sequence[Member]) -> None:
        """Load, share and wait until every one of ``members`` has its end: they were no hits.

        Raises:
            Exception: Of a load that a member without a stale value needed.
        """
        self._open.extend(members)
        # In the background they have their flights.
        self._led += [member for member in members if member.flight is not None]
        try:
            await self._load_open()
            while self._held or self._shared or self._following:
                await self._wait()
                await self._load_open()
        finally:
            self._leave()

    @property
    def waits(self) -> bool:
        """Whether a member waits for the load of another caller already."""
        return bool(self._shared)

    def share(self, member: Member) -> None:
        """Let ``member`` wait for its flight, which another caller leads."""
        # At once: a load that nobody waits for is given up when its caller is cancelled.
        sharing = Sharing(member.call, flight_of(member))
        self._shared[sharing.waiter] = (member, sharing)

    # --- own loads --------------------------------------------------------------------------------

    async def _load_open(self) -> None:
        """Load all that this caller gets, so many ids in one call of the function as that allows."""
        while self._open or self._loose:
            led = self._board()
            most = self._asked.plan.max_batch - len(led)
            loose = [self._loose.popleft() for _ in range(min(most, len(self._loose)))]
            mine = await self._acquire(led) if led else []
            if mine or loose:
                await self._load(mine, loose)

    def _board(self) -> list[Member]:
        """Return the members that this caller leads, no more than one call of the function takes."""
        led: list[Member] = []
        while self._open and len(led) < self._asked.plan.max_batch:
            member = self._open.popleft()
            # It has a flight when another caller has left that to it, or when it was held by another process.
            if member.flight is None and not self._boards(member):
                continue
            after = flight_of(member).after
            if after is None:
                led.append(member)
            else:
                following = Following(member.call, flight_of(member), after)
                self._following[following.follower] = (member, following)
        return led

    def _boards(self, member: Member) -> bool:
        """Find the flight of ``member``. Return whether this caller leads it."""
        call = member.call
        member.flight, joining = board(call.runtime.flights, call.key, call.plan, member.result)
        if joining is Joining.JOIN:
            self.share(member)
            return False
        self._led.append(member)
        if joining is Joining.ALONE:
            member.verdict = LOAD
        return True

    async def _acquire(self, led: Sequence[Member]) -> list[Member]:
        """Ask for the leases of ``led``. Return the ones that this caller loads."""
        budget = led[0].call.budget
        left = budget.left
        taken = await acquire_all(led)
        mine: list[Member] = []
        for member in led:
            answer = taken[member.call.key]
            if answer is None:
                mine.append(member)
            elif not isinstance(answer, Lease):
                # A found absence of a value with tags is for this call alone: others may have begun after it asked.
                alone = answer is ABSENT and member.call.tagging is not None
                flight_of(member).land(AGAIN if alone else answer)
                member.call.runtime.flights.close(flight_of(member))
                self._end(member, answer, own=True)
            else:
                wait = member.wait = member.wait or Wait(flight_of(member), member.call.plan.lease)
                if wait.is_over(answer):
                    flight_of(member).unleased = "lease"
                    mine.append(member)
                else:
                    self._held.append((member, wait))
        if self._held and not mine:
            # As in `lease.acquire`: to wait for the load of another process is no work of the cache.
            budget.left = left
        return mine

    async def _load(self, mine: Sequence[Member], loose: Sequence[Any]) -> None:
        one, asked = self._asked.plan.one, self._asked
        led = [flight for member in self._led if (flight := flight_of(member)).landed is None]
        group = Group(asked, mine, loose, led, self._alone)
        try:
            found = await load_group(group)
        except one.failures as error:
            if one.windows is None or loose or self._alone:
                self._raised(mine, error)
                raise
            await self._stand_in(mine, error)
            return
        except Exception as error:
            self._raised(mine, error)
            raise
        for member in mine:
            if member.one in found:
                self.values[member.call.key] = found[member.one]
        for identity in loose:
            if identity in found:
                self.loose_values[identity] = found[identity]
        reporter = mine[0].call.runtime.reporter if mine else None
        if reporter is not None and reporter.incidents:
            reporter.resolved(one.name, "load")

    def _raised(self, mine: Sequence[Member], error: Exception) -> None:
        """Tell observers that the caller sees the error of a load; one in the background is told by who began it."""
        one = self._asked.plan.one
        # As in `cachekit._flow.stale`.
        if self._alone or (one.policy.strict and isinstance(error, RoundTripError)):
            return
        for member in mine:
            load_failed(member.call, flight_of(member), error, raised=True)

    async def _stand_in(self, mine: Sequence[Member], error: Exception) -> None:
        """Let the members whose load has failed have their own stale values.

        Raises:
            Exception: The ``error``, if one of them has none.
        """
        found = await asyncio.gather(
            *[in_place_of(member.call, member.result, flight_of(member), error) for member in mine]
        )
        known = [standing for standing in found if standing is not None]
        if len(known) < len(found):
            self._raised(mine, error)
            raise error
        for member, standing in zip(mine, known, strict=True):
            call = member.call
            load_failed(call, flight_of(member), error, raised=False)
            self.values[call.key] = hand_out(call, standing, "offline" if call.spare is None else "error")

    # --- the loads of others ----------------------------------------------------------------------

    async def _wait(self) -> None:
        """Wait for a load of others to end, or until those of other processes are looked at again."""
        timeout = self._pause()
        others: list[asyncio.Future[Any]] = [*self._shared, *self._following]
        if others:
            await asyncio.wait(others, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(timeout or 0.0)
        now = asyncio.get_running_loop().time()
        for follower, (member, following) in [*self._following.items()]:
            if follower.done() or following.ends <= now:
                del self._following[follower]
                following.end()
                self._open.append(member)
        for waiter in [waiter for waiter in self._shared if waiter.done()]:
            member, sharing = self._shared.pop(waiter)
            landed = sharing.result()
            if landed is not None:
                self._end(member, landed, own=False)
                continue
            # Left to this caller: the one that was loading was cancelled.
            self._led.append(member)
            self._open.append(member)
        self._end_soft()
        self._open.extend([member for member, _ in self._held])
        self._held.clear()

    def _pause(self) -> float | None:
        """Return for how many seconds to wait, at most."""
        pauses: list[float] = []
        for _, wait in self._held:
            if pauses:
                wait.note(pauses[0])
            else:
                pauses.append(wait.next_pause())
        now = asyncio.get_running_loop().time()
        ends = [member.ends - now for member, _ in self._shared.values() if member.ends is not None]
        ends += [following.ends - now for _, following in self._following.values()]
        return max(_SHORTEST, min([*pauses, *ends])) if pauses or ends else None

    def _end_soft(self) -> None:
        """Let the members whose ``soft_timeout`` is over have their stale values."""
        now = asyncio.get_running_loop().time()
        for waiter, (member, sharing) in [*self._shared.items()]:
            call = member.call
            if member.ends is not None and member.ends <= now and call.spare is not None:
                del self._shared[waiter]
                sharing.leave()
                self.values[call.key] = hand_out(call, call.spare, "slow")

    def _end(self, member: Member, landed: Landed, *, own: bool) -> None:
        """Take the end of a flight for an answer, if it is one; else board another.

        Raises:
            Exception: The flight has ended with it, and no stale value stands in.
        """
        call = member.call
        if self._alone or landed is ABSENT:
            return
        if is_open(landed) or (landed is PAUSED and call.spare is None):
            # Any flight that it finds now began after this call did.
            member.flight, member.result = None, ReadResult(member.result.outcome)
            self._open.append(member)
        elif own and landed is not PAUSED:
            if call.runtime.reporter.observers:
                call.waited += 0.0 if member.wait is None else member.wait.seconds
                tell_shared(call, landed)
            self.values[call.key] = landed.value
        else:
            self.values[call.key] = share_result(call, member.result, flight_of(member), landed)

    def _leave(self) -> None:
        """Leave all flights: the ones that have not landed go to other callers, or end."""
        shared, self._shared = self._shared, {}
        for _, sharing in shared.values():
            sharing.leave()
        for _, following in self._following.values():
            following.end()
        self._following.clear()
        for member in self._led:
            flight = member.flight
            if flight is None:
                continue
            if flight.landed is not None:
                member.call.runtime.flights.close(flight)
            else:
                abandon(member.call, flight)
