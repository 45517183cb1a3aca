"""The path of one call: render the key, look, and do what the verdict says."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from cachekit._flow.commit import BLOCKS, held_back
from cachekit._flow.flight import Flight, Landed, may_wait_for
from cachekit._flow.load import lead, share
from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._flow.verdict import TABLE, Verdict
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import MISS, Down, Found, Miss, Outcome
from cachekit.codecs import Codec
from cachekit.errors import DecodeError
from cachekit.events import Hit, Missed

R = TypeVar("R")


async def call(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Return what the function returns for these arguments: a hit, or a load, one's own or shared."""
    tier = runtime.tier
    try:
        key = plan.key_of(tier.reporter, args, kwargs)
    except TypeError:
        # The arguments do not fit the signature; the function says so better than its key could.
        key = None
    if key is None or (BLOCKS.get() and held_back(runtime, key)):
        return await plan.function(*args, **kwargs)
    budget = tier.budget()
    codec = plan.made or plan.codec(tier.reporter)
    # A load that had begun before this call may be joined only if it was not invalidated in between, by
    # whichever process: its lease tells. One that begins later may be joined as it is.
    earlier = runtime.flights.find(key) if runtime.flights.open_loops else None
    holder: bytes | None = None
    outcome: Outcome | None = tier.turned_away(key) if tier.circuits else None
    if outcome is not None:
        earlier = earlier if earlier is not None and earlier.loading else None
    elif earlier is not None and earlier.loading:
        outcome, holder = await tier.look(key, codec, plan.name, budget)
    else:
        earlier = None
        outcome = await tier.read(key, codec, plan.name, budget)
    if tier.reporter.observers:
        _tell(runtime, key, outcome)
    decided = TABLE[type(outcome)]
    if decided is Verdict.SERVE:
        value: R = cast("Found", outcome).value
        return value
    flight = runtime.flights.find(key)
    if flight is not None and flight.plan is plan and not may_wait_for(flight):
        # That load waits for this call: a function that calls itself runs as if undecorated.
        return await lead(runtime, plan, Flight(key, plan), Verdict.LOAD, budget, args, kwargs)
    if flight is None or flight.plan is not plan or (flight is earlier and not _holds(flight, outcome, holder)):
        before, flight = flight, runtime.flights.open(key, plan)
        if decided is Verdict.LOAD and before is not None and before.plan is plan:
            # With the store down nobody can tell whether that load was invalidated, so this call may not share
            # it. It does not run beside it either: all who come meanwhile share the one that follows.
            flight.after = before
    else:
        landed = await share(runtime, plan, flight)
        if landed is not None:
            return _handed_out(plan, runtime, landed)
    return await lead(runtime, plan, flight, decided, budget, args, kwargs)


def _holds(flight: Flight, outcome: Outcome, holder: bytes | None) -> bool:
    """Tell whether a load that began before this call is known not to have been invalidated before it."""
    return not isinstance(outcome, Down) and flight.token is not None and flight.token == holder


def _handed_out(plan: CallPlan[..., R], runtime: Runtime, landed: Landed) -> R:
    """Return what a shared load came to: to each caller a value of its own, where it makes the round trip."""
    if landed.error is not None:
        # As it left the load: each raise of a shared exception adds to its traceback.
        raise landed.error.with_traceback(landed.traceback)
    value: R = landed.value
    if landed.data is not None:
        # Those bytes decoded a moment ago; a type of the user's may still refuse them now, by the time of day for one.
        with contextlib.suppress(DecodeError):
            value = plan.codec(runtime.tier.reporter).decode(landed.data)
    return value


async def refresh(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Load now and fill, whatever is cached. A load that is going on does not overwrite it."""
    key = plan.key_of(runtime.tier.reporter, args, kwargs)
    if key is None or (BLOCKS.get() and held_back(runtime, key)):
        return await plan.function(*args, **kwargs)
    flight = runtime.flights.open(key, plan)
    return await lead(runtime, plan, flight, Verdict.REFRESH, runtime.tier.budget(), args, kwargs)


async def peek(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R | Miss:
    """Return the cached value or MISS; never load."""
    return await _without_loading(runtime, plan, runtime.tier.read, args, kwargs)


async def take(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R | Miss:
    """Return the cached value and remove it in one step, or MISS; never load."""
    return await _without_loading(runtime, plan, runtime.tier.take, args, kwargs)


async def _without_loading(
    runtime: Runtime,
    plan: CallPlan[..., R],
    look: Callable[[str, Codec, str, Budget], Awaitable[Outcome]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R | Miss:
    tier = runtime.tier
    key = plan.key_of(tier.reporter, args, kwargs)
    if key is None or (BLOCKS.get() and held_back(runtime, key)):
        return MISS
    outcome = await look(key, plan.codec(tier.reporter), plan.name, tier.budget())
    if tier.reporter.observers:
        _tell(runtime, key, outcome)
    return outcome.value if isinstance(outcome, Found) else MISS


def _tell(runtime: Runtime, key: str, outcome: Outcome) -> None:
    """Tell observers what looking came to; a failure is told where it happened."""
    if isinstance(outcome, Found):
        runtime.tier.reporter.emit(Hit(key))
    elif isinstance(outcome, Miss):
        runtime.tier.reporter.emit(Missed(key))
