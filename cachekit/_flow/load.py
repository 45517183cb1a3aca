"""The user's function, and the fill behind it. The function runs outside every ``try`` about the store."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct

from cachekit._flow.call import Call
from cachekit._flow.commit import Block, Write
from cachekit._flow.failure import copied, raise_copy
from cachekit._flow.flight import AGAIN, Flight, Landed, State
from cachekit._flow.lease import acquire, load_timeout_of, pause, release, renew_from_now, seize, stop_renewing
from cachekit._flow.nesting import enter, leave, waiting_for
from cachekit._flow.tagged_lease import with_tags
from cachekit._flow.verdict import LOAD, Verdict
from cachekit._tiers.coherence import Confirm, Confirmation
from cachekit._tiers.guard import Budget
from cachekit.entry import Entry
from cachekit.errors import DecodeError, RoundTripError
from cachekit.events import Filled, LoadBegan, LoadCancelled, Loaded, LoadFailed, Shared
from cachekit.freshness import dated
from cachekit.loops import detached
from cachekit.stores.scripts import Copy

R = TypeVar("R")


async def lead(call: Call[R], flight: Flight, verdict: Verdict) -> R:
    """Load on behalf of every caller that waits for ``flight``: acquire the lease, run the function, fill.

    The flight goes on however this ends: it lands with a value or an exception, or a waiting caller is promoted.
    """
    outside = sys.exception()
    try:
        landed = None
        if verdict is not LOAD or flight.after is not None:
            landed = await _acquire(call, flight, verdict)
        if landed is not None:
            flight.land(landed)
            return _found(call, landed)
        began = time.monotonic()
        run = enter(flight)
        try:
            result = await _run(call, flight)
        finally:
            leave(flight, run)
        filling = land_result(call, flight, result, began)
        # Here, not in a coroutine of its own: every miss would pay for it.
        if filling is not None:
            leases = call.runtime.leases
            filled = await leases.fill(call.key, filling.data, filling.token, filling.lasts, call.budget)
            if filled is not True or call.runtime.reporter.observers:
                note_fill(call, flight, filling, filled)
        return result
    # An exception of the function passes through here as it is. All callers that wait get copies of it, made now: its
    # caller may change it before their turn comes.
    except Exception as error:
        if flight.landed is None:
            flight.land(Landed(error=copied(error, outside) if flight.awaited else error))
            give_up(call, flight, error)
        raise
    finally:
        if flight.landed is None:
            abandon(call, flight)
        else:
            call.runtime.flights.close(flight)


def _found(call: Call[R], landed: Landed) -> R:
    """Return the value that a call has found when it asked for the lease."""
    # Not one that says that nothing is to be loaded.
    if landed.entry is not None and call.runtime.reporter.observers:
        tell_shared(call, landed)
    value: R = landed.value
    return value


async def _watched(call: Call[R], flight: Flight, running: Coroutine[Any, Any, R]) -> R:
    """Await ``running``, the function of a load, and tell observers when it begins and how it ends.

    All of that is told in the context in which the function runs: an observer may set a context variable for it.
    """
    reporter, name, by = call.runtime.reporter, call.plan.name, call.by
    reporter.emit(LoadBegan((call.key,), name, by))
    began, returned = time.monotonic(), False
    try:
        result = await running
        returned = True
    finally:
        flight.ended = time.monotonic()
        flight.took = flight.ended - began
        if not returned:
            _tell_failed(call, flight)
    reporter.emit(Loaded(call.key, name, flight.took, by))
    return result


def _tell_failed(call: Call[Any], flight: Flight) -> None:
    """Tell observers that a load ends with the exception that is raised now.

    Where a stale value may stand in, or no caller waits for the load, the failure is told once that is known.
    """
    error = sys.exception()
    if not isinstance(error, Exception):
        call.runtime.reporter.emit(LoadCancelled(call.key, call.plan.name, flight.took, call.by))
    elif (call.plan.windows is None or call.refreshes) and not call.alone:
        load_failed(call, flight, error, raised=True)


def load_failed(call: Call[Any], flight: Flight, error: Exception, *, raised: bool) -> None:
    """Tell observers that a load has failed, and the log if its caller does not see that: it was not ``raised``."""
    reporter, name, kind = call.runtime.reporter, call.plan.name, type(error).__name__
    if not raised:
        text = f"loads of {name} raise {kind}, and no caller sees that: a stale value stands in, or no caller waits"
        reporter.log(name, "load", text)
    if reporter.observers:
        reporter.emit(LoadFailed(call.key, name, kind, flight.took, call.by, raised))


async def share(call: Call[Any], flight: Flight) -> Landed | None:
    """Wait for the load of another caller. Returns None when this caller was promoted: it has to load itself."""
    joined = next(call.runtime.numbers)
    began = time.monotonic() if call.runtime.reporter.observers else 0.0
    try:
        with waiting_for(flight):
            landed = await flight.join()
        if began:
            call.waited += time.monotonic() - began
        if landed is None and flight.lease is not None:
            renew_from_now(call, flight.lease)
        return _shared(call, landed, joined)
    finally:
        if flight.state is State.ORPHANED:
            abandon(call, flight)


def _shared(call: Call[Any], landed: Landed | None, joined: int) -> Landed | None:
    """Return the end of a flight as ``call``, which has ``joined`` it, may share it."""
    began = joined if call.tagging is None else call.tagging.began
    if landed is not None and 0 < landed.asked < began:
        # It was found, and the question was on its way already: what it brings may be older than this call.
        return AGAIN
    return landed


class Sharing:
    """A caller that waits for the load of another, and for more at the same time; `share` waits for that one alone.

    Args:
        call: Of the caller.
        flight: The load. From now on the caller waits for it.
    """

    def __init__(self, call: Call[Any], flight: Flight) -> None:
        self._call = call
        self._flight = flight
        self._joined = next(call.runtime.numbers)
        self._began = time.monotonic() if call.runtime.reporter.observers else 0.0
        self._waiting = waiting_for(flight)
        self._waiting.__enter__()
        self.waiter: asyncio.Future[Landed | None] = flight.add_waiter()

    def result(self) -> Landed | None:
        """Return what `share` returns, when the ``waiter`` is done."""
        self._waiting.__exit__(None, None, None)
        if self._began:
            self._call.waited += time.monotonic() - self._began
        landed = self.waiter.result()
        if landed is None and self._flight.lease is not None:
            renew_from_now(self._call, self._flight.lease)
        return _shared(self._call, landed, self._joined)

    def leave(self) -> None:
        """Wait no more."""
        self._waiting.__exit__(None, None, None)
        self._flight.leave(self.waiter)
        if self._flight.state is State.ORPHANED:
            abandon(self._call, self._flight)


class Following:
    """A caller whose flight follows an earlier load, and that waits for more at the same time.

    It is no load that the call shares, so waiting for it counts as work of the cache, and ends with the call's budget.

    Args:
        call: Of the caller.
        flight: Its own flight.
        after: The one of the earlier load. From now on the caller waits for it.
    """

    def __init__(self, call: Call[Any], flight: Flight, after: Flight) -> None:
        self._call = call
        self._flight = flight
        self._after = after
        self._began = time.monotonic()
        self._waiting = [waiting_for(flight), waiting_for(after)]
        self.ends: float = flight.loop.time() + call.budget.left
        """When it is not waited for any longer, by the clock of the event loop."""
        self.follower: asyncio.Future[None] = after.add_follower()
        for waiting in self._waiting:
            waiting.__enter__()

    def end(self) -> None:
        """Wait no more: the earlier load has ended, or its time is over, or the caller leaves."""
        for waiting in self._waiting:
            waiting.__exit__(None, None, None)
        self._after.remove_follower(self.follower)
        self._flight.after = None
        self._call.budget.left -= time.monotonic() - self._began


def result_of(call: Call[R], landed: Landed) -> R:
    """Return the value of a shared load, to each caller its own if it makes the round trip; or raise its error."""
    if call.runtime.reporter.observers:
        tell_shared(call, landed)
    if landed.error is not None:
        raise_copy(landed.error)
    value: R = landed.value
    if landed.entry is not None:
        # The bytes decoded a moment ago. A type of the user's may still refuse them now: one that checks the time does.
        with contextlib.suppress(DecodeError):
            value = call.codec.decode(landed.entry.data)
    return value


def tell_shared(call: Call[Any], landed: Landed) -> None:
    """Tell observers that ``call`` has the result of a load that another call made."""
    if call.alone:
        return
    error = "" if landed.error is None else type(landed.error).__name__
    call.runtime.reporter.emit(Shared(call.key, call.plan.name, call.waited, error))


async def _acquire(call: Call[Any], flight: Flight, verdict: Verdict) -> Landed | None:
    """Wait for an earlier load and for the lease. Returns the end of the flight if nothing is to be loaded."""
    with waiting_for(flight):
        if flight.after is not None:
            # It is no load that the call shares, so waiting for it counts as work of the cache.
            began = time.monotonic()
            with waiting_for(flight.after):
                await flight.after.until_ended(call.budget.left)
            call.budget.left -= time.monotonic() - began
            flight.after = None
        # A flight that was handed over has its lease.
        if verdict is LOAD or flight.lease is not None:
            return None
        if verdict is Verdict.REFRESH:
            await seize(call, flight)
            return None
        return await acquire(call, flight)


# Not `async`: it would cost a miss one more coroutine.
def _run(call: Call[R], flight: Flight) -> Coroutine[Any, Any, R]:
    """Run the function, for its ``load_timeout`` at most."""
    seconds = call.plan.load_timeout if not call.alone else load_timeout_of(call)
    running = call.plan.function(*call.args, **call.kwargs) if seconds is None else _within(seconds, call, flight)
    return running if not call.runtime.reporter.observers else _watched(call, flight, running)


def _begun(call: Call[R]) -> Coroutine[Any, Any, R]:
    if call.alone:
        return call.plan.arguments.call(call.plan.function, call.args, call.kwargs)
    return call.plan.function(*call.args, **call.kwargs)


async def _within(seconds: float, call: Call[R], flight: Flight) -> R:
    """Run the function, and cancel it after ``seconds``.

    Raises:
        TimeoutError: It took too long.
    """
    message = f"{call.plan.name} did not return within its load_timeout of {seconds:g} s"
    # Nobody else waits for the clean-up of a function that was cancelled: that may hang as well.
    timer = detached(flight.loop.call_later, seconds, _time_out, call, flight, message)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await _begun(call)
    except TimeoutError as error:
        if limit.expired():
            flight.timed_out = True
            raise TimeoutError(message) from error
        raise
    finally:
        timer.cancel()


def _time_out(call: Call[Any], flight: Flight, message: str) -> None:
    """End a flight whose load takes too long: all callers that wait get the error, and the next one loads anew."""
    error = TimeoutError(message)
    flight.timed_out = True
    flight.land(Landed(error=error))
    call.runtime.flights.close(flight)
    give_up(call, flight, error)


def give_up(call: Call[Any], flight: Flight, error: Exception) -> None:
    """Give the lease back after ``error``; or put a pause in its place, where a stale value may stand in."""
    # A refresh, and a call that has not read the value, have seen nothing.
    if call.seen is not None and counts_as_failure(call, flight, error):
        pause(call, flight)
    else:
        release(call, flight)


def counts_as_failure(call: Call[Any], flight: Flight, error: Exception) -> bool:
    """Tell whether ``error``, with which the load of ``flight`` ended, is one for which a stale value stands in."""
    if isinstance(error, RoundTripError):
        # It is about the result, of a function with ``strict=True``, which is to be loud.
        return False
    return flight.timed_out or isinstance(error, call.plan.policy.stale_on)


class Filling(Struct, frozen=True):
    """What is to be stored for a loaded result. All durations are seconds."""

    data: bytes
    token: bytes
    lasts: float
    """For how long: the TTL, and the stale window."""
    ttl: float


def land_unleased(call: Call[R], flight: Flight, result: R) -> None:
    """Land with the result of a load without a lease: it is not stored."""
    call.runtime.reporter.not_stored(call.plan.name, call.key, "void" if flight.void else flight.unleased)
    flight.land(Landed(result, call.runtime.values.encoded(result, call.codec) if flight.awaited else None))


def land_result(call: Call[R], flight: Flight, result: R, began: float) -> Filling | None:
    """Land with the result of a load that began at that `time.monotonic`. Return the fill that is to follow, if any."""
    runtime, held, entry = call.runtime, flight.lease, None
    if held is None:
        land_unleased(call, flight, result)
        return None
    ttl = call.plan.ttl_of(result, runtime.reporter, call.key)
    if ttl is not None:
        entry = runtime.values.encoded(result, call.codec, call.key)
    elif flight.awaited:
        entry = runtime.values.encoded(result, call.codec)
    # Every caller that waits goes on now; only this one waits for the fill.
    stop_renewing(held)
    flight.land(Landed(result, entry))
    if ttl is not None and entry is not None and call.tagging is not None:
        entry = with_tags(call, flight, entry, result, ttl)
    stored = None if ttl is None or entry is None or flight.void else stored_form(call, entry, ttl, began)
    if ttl is None or stored is None:
        if flight.void and ttl is not None and entry is not None:
            runtime.reporter.not_stored(call.plan.name, call.key, "void")
        # Behind a stale value that stays, every call would begin a load whose result is not stored.
        behind = call.seen is not None and call.seen.copy is Copy.BACKGROUND and not flight.void
        (pause if behind else release)(call, flight)
        return None
    data, lasts = stored
    return Filling(data, held.token, lasts, ttl)


def note_fill(call: Call[Any], flight: Flight, filling: Filling, filled: Confirmation | Confirm) -> None:
    """Note how the fill of a result ended, or will end."""
    if callable(filled):
        # The queue of this process is long. The value is returned, and the fill goes on without its caller.
        call.runtime.background.start(flight.loop, _confirm, call, flight, filling, filled)
    else:
        _filled(call, flight, filling, filled)


async def _confirm(call: Call[Any], flight: Flight, filling: Filling, confirm: Confirm) -> None:
    _filled(call, flight, filling, await confirm())


def _filled(call: Call[Any], flight: Flight, filling: Filling, filled: Confirmation) -> None:
    if filled is not True:
        release(call, flight)
    if call.runtime.reporter.observers:
        tell_filled(call, filled, filling.ttl, flight.ended)


def tell_filled(call: Call[Any], filled: object, ttl: float, began: float) -> None:
    """Tell observers how a fill for ``ttl`` seconds ended, which began at that `time.monotonic`; 0: it is not known.

    ``filled``: True, False if it was voided, and anything else if the store has failed, or has not answered in time.
    """
    if filled is True:
        call.runtime.reporter.emit(Filled(call.key, call.plan.name, ttl, time.monotonic() - began if began else 0.0))
    else:
        call.runtime.reporter.not_stored(call.plan.name, call.key, "void" if filled is False else "store")


def stored_form(call: Call[Any], entry: Entry, ttl: float, began: float) -> tuple[bytes, float] | None:
    """Return the bytes that are stored for ``entry``, whose load began at that `time.monotonic`, and for how long.

    None, with one warning, when it is private and cannot be sealed.
    """
    windows, lasts, kept = call.plan.windows, ttl, entry
    if windows is not None and call.runtime.coherence.times:
        kept, lasts = dated(entry, windows, ttl, time.monotonic() - began)
    if call.codec.private:
        # Last: the metadata is sealed with the value, though it stays readable.
        sealed = call.runtime.values.sealed(call.key, kept, call.codec)
        return None if sealed is None else (sealed.raw(), lasts)
    return kept.raw() if kept is not entry or entry.tags is not None else entry.data, lasts


def abandon(call: Call[Any], flight: Flight) -> None:
    """Leave the flight: promote a waiting caller, or close the flight when no caller waits for it."""
    if not flight.promote_waiter():
        call.runtime.flights.close(flight)
        release(call, flight)


async def load_inside(call: Call[R], block: Block) -> R:
    """Load for a refresh inside a ``block`` that is to invalidate the key, and store the result when that ends.

    The lease is taken now: an invalidation by others between now and then wins. After the load it is not renewed,
    so a block that stays open delays others by one lease at most, and then the key is invalidated after all.
    """
    # No other call finds this flight: the result is not for others yet.
    flight = Flight(call.key, call.plan, asyncio.get_running_loop())
    kept = False
    try:
        await seize(call, flight)
        began = time.monotonic()
        result = await _run(call, flight)
        kept = _fill_later(call, flight, block, result, began)
        return result
    finally:
        if not kept:
            release(call, flight)


def _fill_later(call: Call[R], flight: Flight, block: Block, result: R, began: float) -> bool:
    """Let ``block`` store the result when it ends. Returns False when it will not be stored."""
    held = flight.lease
    if not block.open or held is None:
        # The block has ended meanwhile, and has invalidated the key; or the store failed.
        call.runtime.reporter.not_stored(call.plan.name, call.key, "store" if block.open else "void")
        if block.open:
            block.invalidate([call.key])
        return False
    stored = _form_inside(call, result, began)
    if stored is None:
        block.invalidate([call.key])
        return False
    stop_renewing(held)
    data, lasts = stored
    write = partial(fill_inside, call, data, held.token, lasts)
    block.write(call.key, Write(write, drop=partial(release, call, flight), fenced=True))
    return True


def _form_inside(call: Call[R], result: R, began: float) -> tuple[bytes, float] | None:
    """Return the bytes to store for a result that was loaded inside a block, and for how long; None for none."""
    reporter = call.runtime.reporter
    ttl = call.plan.ttl_of(result, reporter, call.key)
    entry = None if ttl is None else call.runtime.values.encoded(result, call.codec, call.key)
    if ttl is None or entry is None:
        return None
    if call.tagging is not None:
        # It would record generations that the block may be about to remove.
        reporter.not_stored(call.plan.name, call.key, "tags")
        return None
    return stored_form(call, entry, ttl, began)


async def fill_inside(call: Call[Any], data: bytes, token: bytes, lasts: float, budget: Budget) -> bool:
    """Store a value whose block has ended. One that is not confirmed in time is followed by an invalidation."""
    began = time.monotonic() if call.runtime.reporter.observers else 0.0
    filled = await call.runtime.leases.fill(call.key, data, token, lasts, budget)
    if call.runtime.reporter.observers:
        stale = 0.0 if call.plan.windows is None else call.plan.windows.longest
        tell_filled(call, filled, lasts - stale, began)
    return filled is True
