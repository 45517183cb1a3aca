"""The user's function, and the fill behind it. The function runs outside every ``try`` about the store."""

from __future__ import annotations

import contextlib
import time
from typing import Any, TypeVar

from cachekit._flow.call import Call
from cachekit._flow.flight import Flight, HeldLease, Landed, State
from cachekit._flow.lease import acquire, release, seize, stop_renewing
from cachekit._flow.nesting import enter, leave, waiting_for
from cachekit._flow.verdict import LOAD, Verdict
from cachekit._tiers.outcome import Found
from cachekit.errors import DecodeError
from cachekit.events import Filled, Loaded

R = TypeVar("R")


async def lead(call: Call[R], flight: Flight, verdict: Verdict) -> R:
    """Load on behalf of every caller that waits for ``flight``: acquire the lease, run the function, fill.

    The flight goes on however this ends: it lands with a value or an exception, or a waiting caller is promoted.
    """
    try:
        found = None
        if verdict is not LOAD or flight.after is not None:
            found = await _acquire(call, flight, verdict)
        if found is not None:
            flight.land(Landed(found.value, found.entry))
            value: R = found.value
            return value
        began = time.monotonic()
        before = enter(flight)
        try:
            result = await call.plan.function(*call.args, **call.kwargs)
        finally:
            leave(flight, before)
        if call.runtime.reporter.observers:
            call.runtime.reporter.emit(Loaded(call.key, time.monotonic() - began))
        if flight.lease is None:
            flight.land(Landed(result, call.runtime.values.encoded(result, call.codec) if flight.awaited else None))
        else:
            await _fill(call, flight, flight.lease, result)
        return result
    # An exception of the function is shared by all waiting callers, and passes through here as it is.
    except Exception as error:
        if flight.landed is None:
            flight.land(Landed(error=error, traceback=error.__traceback__))
            release(call, flight)
        raise
    finally:
        if flight.landed is None:
            _hand_over(call, flight)
        else:
            call.runtime.flights.close(flight)


async def share(call: Call[Any], flight: Flight) -> Landed | None:
    """Wait for the load of another caller. Returns None when this caller was promoted: it has to load itself."""
    try:
        with waiting_for(flight):
            return await flight.join()
    finally:
        if flight.state is State.ORPHANED:
            _hand_over(call, flight)


def result_of(call: Call[R], landed: Landed) -> R:
    """Return the value of a shared load, to each caller its own if it makes the round trip; or raise its error."""
    if landed.error is not None:
        # As it left the load: each raise of a shared exception adds to its traceback.
        raise landed.error.with_traceback(landed.traceback)
    value: R = landed.value
    if landed.entry is not None:
        # The bytes decoded a moment ago. A type of the user's may still refuse them now: one that checks the time does.
        with contextlib.suppress(DecodeError):
            value = call.codec.decode(landed.entry.data)
    return value


async def _acquire(call: Call[Any], flight: Flight, verdict: Verdict) -> Found | None:
    """Wait for an earlier load and for the lease. Returns the value if it was stored meanwhile."""
    with waiting_for(flight):
        if flight.after is not None:
            with waiting_for(flight.after):
                await flight.after.until_ended()
            flight.after = None
        # A flight that was handed over has its lease.
        if verdict is LOAD or flight.lease is not None:
            return None
        if verdict is Verdict.LOAD_FILL:
            return await acquire(call, flight)
        await seize(call, flight)
        return None


async def _fill(call: Call[R], flight: Flight, held: HeldLease, result: R) -> None:
    """Land, and store the result if the lease still holds."""
    runtime = call.runtime
    ttl = call.plan.ttl_of(result, runtime.reporter)
    entry = runtime.values.encoded(result, call.codec) if ttl is not None or flight.awaited else None
    # Every caller that waits goes on now; only this one waits for the fill.
    stop_renewing(held)
    flight.land(Landed(result, entry))
    if ttl is None or entry is None or flight.void:
        release(call, flight)
        return
    filled = await runtime.leases.fill(call.key, entry.data, held.token, ttl, call.budget)
    if not filled:
        release(call, flight)
    elif runtime.reporter.observers:
        runtime.reporter.emit(Filled(call.key, ttl))


def _hand_over(call: Call[Any], flight: Flight) -> None:
    """Promote a waiting caller, or close the flight when no caller waits for it."""
    if not flight.promote_waiter():
        call.runtime.flights.close(flight)
        release(call, flight)
