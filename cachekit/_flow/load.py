"""The user's function, and the fill behind it. The function runs outside every ``try`` about the store."""

from __future__ import annotations

import contextlib
import time
from typing import Any, TypeVar

from cachekit._flow.call import Call
from cachekit._flow.flight import Flight, Landed, State
from cachekit._flow.lease import acquire, release, seize, stop_renewing
from cachekit._flow.nesting import loading, waiting_for
from cachekit._flow.verdict import Verdict
from cachekit._tiers.outcome import Found
from cachekit.errors import DecodeError
from cachekit.events import Filled, Loaded

R = TypeVar("R")


async def lead(call: Call[R], flight: Flight, verdict: Verdict) -> R:
    """Load on behalf of every caller that waits for ``flight``: acquire the lease, run the function, settle.

    Whatever ends this, the flight goes on: it lands with a value or an exception, or is handed to one who waits.
    """
    try:
        with waiting_for(flight):
            found = await _acquire(call, flight, verdict)
            result: R = await _run(call, flight) if found is None else found.value
        if found is None:
            await _settle(call, flight, result)
        else:
            flight.land(Landed(result, found.entry))
        return result
    # What the function raises is shared by those who waited, and passes through here as it is.
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
    """Wait for the load of another caller. Returns None when this one has to load itself, in its place."""
    try:
        with waiting_for(flight):
            return await flight.join()
    finally:
        if flight.state is State.ORPHANED:
            _hand_over(call, flight)


def result_of(call: Call[R], landed: Landed) -> R:
    """Return what a shared load came to: to each caller a value of its own, where it makes the round trip."""
    if landed.error is not None:
        # As it left the load: each raise of a shared exception adds to its traceback.
        raise landed.error.with_traceback(landed.traceback)
    value: R = landed.value
    if landed.entry is not None:
        # Those bytes decoded a moment ago; a type of the user's may still refuse them now, by the time of day for one.
        with contextlib.suppress(DecodeError):
            value = call.codec.decode(landed.entry.data)
    return value


async def _acquire(call: Call[Any], flight: Flight, verdict: Verdict) -> Found | None:
    """Come to the head of those who load the key. Returns the value if it was stored meanwhile."""
    if flight.after is not None:
        with waiting_for(flight.after):
            await flight.after.until_ended()
        flight.after = None
    # A flight that was passed on has its lease.
    if verdict is Verdict.LOAD or flight.lease is not None:
        return None
    if verdict is Verdict.LOAD_FILL:
        return await acquire(call, flight)
    await seize(call, flight)
    return None


async def _run(call: Call[R], flight: Flight) -> R:
    """Run the function."""
    flight.begin()
    began = time.monotonic()
    with loading(flight):
        result = await call.run()
    if call.runtime.reporter.observers:
        call.runtime.reporter.emit(Loaded(call.key, time.monotonic() - began))
    return result


async def _settle(call: Call[R], flight: Flight, result: R) -> None:
    """Land, and fill while the lease holds."""
    runtime, held = call.runtime, flight.lease
    ttl = None if held is None else call.plan.ttl_of(result, runtime.reporter)
    entry = runtime.values.encoded(result, call.codec) if ttl is not None or flight.awaited else None
    # Every caller that waits goes on now; only this one waits for the fill.
    flight.land(Landed(result, entry))
    if held is None:
        return
    stop_renewing(held)
    if ttl is None or entry is None or flight.void:
        release(call, flight)
        return
    filled = await runtime.leases.fill(call.key, entry.data, held.token, ttl, call.budget)
    if not filled:
        release(call, flight)
    elif runtime.reporter.observers:
        runtime.reporter.emit(Filled(call.key, ttl))


def _hand_over(call: Call[Any], flight: Flight) -> None:
    """Have another caller load, or close the flight when nobody waits for it any more."""
    if not flight.promote_waiter():
        call.runtime.flights.close(flight)
        release(call, flight)
