"""Leases: one load of a cold key across processes, and the fence that keeps voided loads out of the store."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Self, TypeAlias, TypeGuard, cast

from msgspec import Struct
from msgspec.structs import replace

from cachekit._flow.call import Call
from cachekit._flow.flight import ABSENT, AGAIN, PAUSED, Flight, Landed
from cachekit._flow.nesting import inside
from cachekit._flow.renewal import HeldLease
from cachekit._flow.runtime import Runtime
from cachekit._flow.tagged_lease import ask_with_tags, found_with_tags, seize_with_tags
from cachekit._tiers.leases import Seen
from cachekit._tiers.outcome import Down, Found
from cachekit.backoff import Backoff
from cachekit.entry import is_pause, is_token
from cachekit.loops import detached
from cachekit.stores.scripts import Copy, Gone, Lease, Paused

# Seconds between two questions for a lease that another load holds. Of all callers of a key in one event loop one
# asks, so a loop and key cost the store at most 1 / (0.5 * 0.1) = 20 short scripts a second, 13 on average, and
# in the first second at most 24.
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.1

MOST_RENEWED: Final = 100
"""Leases for which a load without a ``load_timeout`` renews its lease. A load that takes longer hangs, most likely:
others load beside it, and its result is not stored."""

LONGEST_IN_BACKGROUND: Final = 30.0
"""Seconds for a load in the background of a function without a ``load_timeout``."""

MOST_GIVING_BACK: Final = 32
"""Tasks that give leases back again and again, while the store is down."""

MOST_LEFT_BEHIND: Final = 10_000
"""Tokens that are remembered of leases that may not have been given back: about 1 MB. As many leases are owed."""

Answer: TypeAlias = bytes | Lease | Gone | Down
"""The answer to a question for a lease."""

_MOST_HOLDERS: Final = 2
"""Leases of others that a caller waits out. A caller that finds a third one loads, and does not store: where
results cannot be stored, callers would otherwise load one after the other, each waiting for all before it."""


async def acquire(call: Call[Any], flight: Flight) -> Landed | None:
    """Take the lease for ``flight``, waiting while the load of another is alive.

    Returns:
        The value, if it was stored meanwhile. `PAUSED` when the call has a stale value and a load of the key has failed
        a short time ago. `AGAIN` when it is a load in the background, and there is nothing for it to do. Otherwise
        None: then ``flight.lease`` is held, or is None when the store failed, and then the result is not stored.
    """
    token = new_token()
    wait: Wait | None = None
    unreadable: bytes | None = None
    while True:
        left = call.budget.left
        with Asking(call, flight, token) as asking:
            answer = await _ask(call, token, unreadable)
            if type(answer) is Lease and answer.mine:
                # As `taken_by`: the usual case, and three calls less.
                asking.answered = True
                _hold(call, flight, token)
                return None
            asking.note(answer)
        if is_left_behind(answer, call.runtime):
            await release_left_behind(call, answer)
            continue
        taken = taken_by(call, flight, token, answer)
        if isinstance(taken, bytes):
            unreadable = taken
        elif not isinstance(taken, Lease):
            if wait is not None:
                call.waited += wait.seconds
            return taken
        else:
            wait = wait or Wait(flight, call.plan.lease)
            if wait.is_over(taken):
                flight.unleased = "lease"
                return None
            # While the other load is alive, waiting for it is no work of the cache: it is the load, shared.
            call.budget.left = left
            await wait.pause()


def taken_by(
    call: Call[Any], flight: Flight, token: bytes, answer: Answer, *, absent: bool = False
) -> Landed | Lease | bytes | None:
    """Return what the ``answer`` to a question for the lease means; if it is the lease, ``flight`` holds it.

    Returns:
        As `acquire`; a lease that another load holds; or bytes at the key that the load is to replace: they do not
        decode, or were expired by hand. ``absent``: a remembered absence is an answer (`cachekit._flow.flight.ABSENT`).
    """
    runtime, seen = call.runtime, call.seen
    if isinstance(answer, (Down, Gone)):
        return None if seen is None else _outcome_of(answer, seen)
    if isinstance(answer, bytes):
        # Invalidated here while it was waited for, and the store may not know; or may not have known when it was asked.
        if flight.doubted or call.pending:
            return None
        if call.tagging is not None:
            landed = found_with_tags(call, call.tagging, answer, absent=absent)
            return answer if landed is None else landed
        outcome = runtime.values.decoded(call.key, answer, call.codec, anew=seen is not None, absent=absent)
        if not isinstance(outcome, Found):
            return answer
        return ABSENT if outcome.entry.absent else Landed(outcome.value, outcome.entry, flight.asked)
    if answer.mine:
        _hold(call, flight, token)
        return None
    landed = None if seen is None else _outcome_of(answer, seen)
    return answer if landed is None else landed


def is_left_behind(answer: Answer, runtime: Runtime) -> TypeGuard[Lease]:
    """Tell whether a load of this process holds the lease that runs no more, in an event loop that has ended."""
    return isinstance(answer, Lease) and not answer.mine and answer.holder in runtime.left_behind


async def release_left_behind(call: Call[Any], lease: Lease) -> None:
    """Give such a lease back."""
    await call.runtime.leases.release(call.key, lease.holder, call.budget)
    call.runtime.left_behind.pop(lease.holder, None)


# Not `async`: it would cost a miss one more coroutine.
def _ask(call: Call[Any], token: bytes, unreadable: bytes | None) -> Awaitable[Answer]:
    leases, lease, seen = call.runtime.leases, call.plan.lease, call.seen
    if call.tagging is not None:
        return ask_with_tags(call, call.tagging, token, unreadable)
    if seen is None:
        return leases.acquire(call.key, token, lease, unreadable, call.budget)
    if unreadable is not None:
        seen = replace(seen, suffix=unreadable)
    return leases.acquire_stale(call.key, token, lease, seen, call.budget)


def _outcome_of(answer: Lease | Gone | Down, seen: Seen) -> Landed | None:
    """Return how a call that has ``seen`` a value ends without a load, which it did not get the lease for."""
    if seen.copy is not Copy.NONE and isinstance(answer, Lease) and is_pause(answer.holder):
        return PAUSED
    # A load in the background waits for nobody, and is of no use if its result cannot be stored.
    return AGAIN if seen.copy is Copy.BACKGROUND else None


async def seize(call: Call[Any], flight: Flight) -> None:
    """Take the lease for ``flight``, from any load that holds it, for a refresh or a write; tags are opened with it."""
    token = new_token()
    with Asking(call, flight, token) as asking:
        if call.tagging is None:
            asking.answered = await call.runtime.leases.seize(call.key, token, call.plan.lease, call.budget)
        else:
            asking.answered = await seize_with_tags(call, call.tagging, token)
    if asking.answered:
        _hold(call, flight, token)


def new_token() -> bytes:
    """Return the token for one question for a lease."""
    # Never used twice: a late server may still carry out a command with an old token, which must mean nothing.
    return os.urandom(12).hex().encode()


class Wait:
    """Counts how long a caller has waited for loads of other processes, and for how many."""

    __slots__ = ("_backoff", "_began", "_flight", "_holders", "_lease", "_waited")

    def __init__(self, flight: Flight, lease: float) -> None:
        self._flight = flight
        self._lease = lease
        self._holders: set[bytes] = set()
        self._waited = 0.0
        self._began = time.monotonic()
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, factor=1.5)

    @property
    def seconds(self) -> float:
        """Since it began to wait."""
        return time.monotonic() - self._began

    def is_over(self, other: Lease) -> bool:
        """Tell whether ``other``, which another load holds, is not waited for."""
        if not is_token(other.holder):
            return True
        self._holders.add(other.holder)
        # Where another load waits for this one, nobody waits longer than a lease: two processes whose loads
        # need each other's would wait for ever.
        too_long = self._waited > self._lease and (self._flight.nested or bool(inside()))
        return too_long or len(self._holders) > _MOST_HOLDERS

    async def pause(self) -> None:
        """Let the other load go on for a while."""
        await asyncio.sleep(self.next_pause())

    def next_pause(self) -> float:
        """Return for how many seconds the other load goes on now: the caller waits so long."""
        pause = self._backoff.next()
        self.note(pause)
        return pause

    def note(self, seconds: float) -> None:
        """Note that the caller waits for ``seconds``."""
        self._waited += seconds


class Asking(Struct, eq=False):
    """Gives back a lease if the answer of the store was not heard: after a timeout, or when the caller is cancelled.

    The store may have granted it all the same. No load would use it, and all callers would wait until it ends. It is
    given back before the next caller is promoted, so that the next request comes later on the same connection.
    """

    call: Call[Any]
    flight: Flight
    token: bytes
    answered: bool = False

    def __enter__(self) -> Self:
        # Before the question: a call that joins from now on is not served by what it finds.
        self.flight.asked = next(self.call.runtime.numbers)
        self.flight.doubted = self.call.pending
        return self

    def note(self, answer: Answer) -> None:
        """Note what the store has answered, if it has: a refusal is an answer, too, and the lease was not granted."""
        self.answered = not isinstance(answer, Down) or answer.of_key

    def __exit__(self, *raised: object) -> None:
        if not self.answered:
            _give_back_soon(self.call, self.flight, self.token, held=False)


class AskingAll(Struct, eq=False):
    """As many questions at once, each of them an `Asking`."""

    askings: Sequence[Asking]

    def __enter__(self) -> None:
        for asking in self.askings:
            asking.__enter__()

    def __exit__(self, *raised: object) -> None:
        for asking in self.askings:
            if not asking.answered:
                asking.__exit__(*raised)


# --- while it is held ----------------------------------------------------------------------------


def _hold(call: Call[Any], flight: Flight, token: bytes) -> None:
    """Note that the flight holds the lease, and renew it until the flight lands, or takes too long."""
    lease = call.plan.lease
    if call.tagging is not None:
        flight.tags = call.tagging.tags
    flight.lease = call.runtime.renewals.get().hold(call.key, token, lease, _longest(call))


def renew_from_now(call: Call[Any], held: HeldLease) -> None:
    """Begin to count the time for which the lease is renewed: the function is about to begin."""
    held.ends = asyncio.get_running_loop().time() + _longest(call)


def _longest(call: Call[Any]) -> float:
    return load_timeout_of(call) or MOST_RENEWED * call.plan.lease


def load_timeout_of(call: Call[Any]) -> float | None:
    """Return the seconds after which the load of ``call`` is cancelled; None without a limit."""
    # Nobody would miss a load in the background that hangs.
    return call.plan.load_timeout or (LONGEST_IN_BACKGROUND if call.alone else None)


def stop_renewing(held: HeldLease) -> None:
    """Renew the lease no more."""
    held.renewals.stop(held)


def release(call: Call[Any], flight: Flight) -> None:
    """Give the lease back; no caller waits for that."""
    held, flight.lease = flight.lease, None
    if held is not None:
        stop_renewing(held)
        _give_back_soon(call, flight, held.token)


def pause(call: Call[Any], flight: Flight) -> None:
    """Put a pause after a failed load in the place of the lease; no caller waits for that."""
    held, flight.lease = flight.lease, None
    if held is not None:
        stop_renewing(held)
        flight.pausing = call.runtime.background.start(flight.loop, _pause, call, flight, held.token)


async def _pause(call: Call[Any], flight: Flight, token: bytes) -> Paused | Down:
    runtime = call.runtime
    # Seconds by now: the policy has parsed it.
    seconds = cast("float", call.plan.policy.retry_after)
    answer = await runtime.leases.pause(call.key, token, seconds, runtime.budget())
    if isinstance(answer, Down):
        _give_back_soon(call, flight, token)
    return answer


def _give_back_soon(call: Call[Any], flight: Flight, token: bytes, *, held: bool = True) -> None:
    """Give back a lease that was ``held``, or that may have been granted; no caller waits for that."""
    runtime, lease = call.runtime, call.plan.lease
    while len(runtime.left_behind) >= MOST_LEFT_BEHIND:
        runtime.left_behind.pop(next(iter(runtime.left_behind)), None)
    runtime.left_behind[token] = None
    if len(runtime.giving_back) >= MOST_GIVING_BACK and not runtime.coherence.healthy:
        # An outage, in which most of the leases that were asked for were never granted.
        runtime.giving_back.difference_update([one for one in [*runtime.giving_back] if one.get_loop().is_closed()])
        if held and len(runtime.owed) < MOST_LEFT_BEHIND:
            runtime.owed[token] = (call.key, time.monotonic() + lease)
        return
    task = runtime.background.start(flight.loop, _give_back, runtime, call.key, token, lease)
    if task is not None:
        runtime.giving_back.add(task)
        detached(task.add_done_callback, runtime.giving_back.discard)


async def _give_back(runtime: Runtime, key: str, token: bytes, lease: float) -> None:
    """Give a lease back; while the store is down, try again until the lease has ended by itself.

    Otherwise the first caller after the store is back would wait for a load that no longer runs. Only a few try
    again at the same time: an outage may leave any number of leases. When one of them has been given back, its task
    goes on with the leases that are owed. Of all others this process knows the tokens.
    """
    ends = time.monotonic() + lease
    released = await runtime.leases.release(key, token, runtime.budget())
    if released is None and len(runtime.giving_back) <= MOST_GIVING_BACK:
        released = await _release_until(runtime, key, token, ends)
    if released:
        runtime.left_behind.pop(token, None)
    if released is not None:
        await _give_back_owed(runtime)


async def _give_back_owed(runtime: Runtime) -> None:
    """Give back the leases that are owed, one after the other, until none is left or the store fails again."""
    while runtime.owed:
        try:
            token, (key, ends) = runtime.owed.popitem()
        except KeyError:
            return  # another thread has taken the last one
        released = False if time.monotonic() >= ends else await runtime.leases.release(key, token, runtime.budget())
        if released is None:
            runtime.owed[token] = (key, ends)
            return
        runtime.left_behind.pop(token, None)


async def _release_until(runtime: Runtime, key: str, token: bytes, ends: float) -> bool | None:
    while (left := ends - time.monotonic()) > 0:
        await runtime.leases.until_asked(key, left)
        released = await runtime.leases.release(key, token, runtime.budget())
        if released is not None:
            return released
    return False
