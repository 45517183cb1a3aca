"""The user's function, and the fill behind it. The function runs outside every ``try`` about the store."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from cachekit._flow.flight import Flight, Landed, enter, leave, waiting_for
from cachekit._flow.lease import acquire, release
from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._flow.verdict import Verdict
from cachekit._tiers.guard import Budget
from cachekit.events import Filled, Loaded

R = TypeVar("R")


async def lead(
    runtime: Runtime,
    plan: CallPlan[..., R],
    flight: Flight,
    verdict: Verdict,
    budget: Budget,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R:
    """Load on behalf of everybody who waits for ``flight``, and fill if the verdict says so.

    Whatever ends this, the flight goes on: it lands with a value or an exception, or is handed to one who waits.
    """
    try:
        with waiting_for(flight):
            if flight.after is not None:
                with waiting_for(flight.after):
                    await flight.after.over()
                flight.after = None
            if verdict is not Verdict.LOAD and flight.token is None:
                found = await acquire(runtime, plan, flight, budget, seize=verdict is Verdict.REFRESH)
                if found is not None:
                    flight.land(Landed(found.value, found.data))
                    value: R = found.value
                    return value
            flight.loading = True
            began = time.monotonic()
            before = enter(flight)
            try:
                result = await plan.function(*args, **kwargs)
            finally:
                leave(before)
        if runtime.tier.reporter.observers:
            runtime.tier.reporter.emit(Loaded(flight.key, time.monotonic() - began))
        if flight.token is None:
            _land(runtime, plan, flight, result)
        else:
            await _fill(runtime, plan, flight, flight.token, result, budget)
        return result
    # What the function raises is shared by those who waited, and passes through here as it is.
    except Exception as error:
        if flight.landed is None:
            flight.land(Landed(error=error, traceback=error.__traceback__))
            release(runtime, flight, plan.lease)
        raise
    finally:
        if flight.landed is None:
            _pass_on(runtime, flight, plan.lease)
        else:
            runtime.flights.close(flight)


async def share(runtime: Runtime, plan: CallPlan[..., Any], flight: Flight) -> Landed | None:
    """Wait for somebody else's load. Returns None when this caller has to load itself, in its place."""
    try:
        with waiting_for(flight):
            return await flight.join()
    finally:
        if flight.adrift:
            _pass_on(runtime, flight, plan.lease)


def _pass_on(runtime: Runtime, flight: Flight, lease: float) -> None:
    """Have another caller load, or close the flight when nobody waits for it any more."""
    if not flight.hand_on():
        flight.end()
        runtime.flights.close(flight)
        release(runtime, flight, lease)


def _land(runtime: Runtime, plan: CallPlan[..., R], flight: Flight, result: R, *, stored: bool = False) -> bytes | None:
    """Give those who wait what was loaded. Returns its bytes if it is to be ``stored``, and makes the round trip."""
    tier = runtime.tier
    data = None
    if stored or flight.awaited:
        data = tier.encoded(result, plan.codec(tier.reporter), plan.name)
    flight.land(Landed(result, data))
    return data


async def _fill(
    runtime: Runtime, plan: CallPlan[..., R], flight: Flight, token: bytes, result: R, budget: Budget
) -> None:
    tier = runtime.tier
    ttl = plan.ttl_of(result, tier.reporter)
    # Whoever waits goes on now; the fill is nobody's business but this caller's.
    data = _land(runtime, plan, flight, result, stored=ttl is not None)
    if ttl is None or data is None or flight.void or not await tier.fill(flight.key, data, token, ttl, budget):
        release(runtime, flight, plan.lease)
    elif tier.reporter.observers:
        tier.reporter.emit(Filled(flight.key, ttl))
