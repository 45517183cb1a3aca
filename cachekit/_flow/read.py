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
from cachekit._tiers.near import NearTier
from cachekit._tiers.outcome import MISS, Down, Found, Miss, Outcome
from cachekit.codecs import Codec
from cachekit.errors import DecodeError, RenderError
from cachekit.events import Hit, Missed

R = TypeVar("R")


class _Seen:
    """What a call found: the outcome of reading, and the load of its key that had begun before, with its lease.

    That one may be joined only if it was not invalidated in between, by whichever process: its lease tells. One that
    begins later may be joined as it is.
    """

    __slots__ = ("_holder", "earlier", "outcome")

    def __init__(self, outcome: Outcome, earlier: Flight | None = None, holder: bytes | None = None) -> None:
        self.outcome = outcome
        self.earlier = earlier
        self._holder = holder

    @property
    def holds(self) -> bool:
        """Whether the earlier load is known not to have been invalidated before this call."""
        token = None if self.earlier is None else self.earlier.token
        return not isinstance(self.outcome, Down) and token is not None and token == self._holder


async def call(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Return what the function returns for these arguments: a hit, or a load, one's own or shared."""
    tier = runtime.tier
    try:
        key = plan.render(*args, **kwargs)
    except (TypeError, RenderError):
        return await _keyless(runtime, plan, args, kwargs)
    if tier.reporter.troubles:
        tier.reporter.cached(plan.name, "argument")
    if BLOCKS.get() and held_back(runtime, key):
        return await plan.function(*args, **kwargs)
    codec = plan.made or plan.codec(tier.reporter)
    near = tier.near if (runtime.near if plan.near is None else plan.near) else None
    seen: _Seen | None = None
    # What the journal holds is a miss, here too.
    if near is not None and not tier.journal and (value := near.find(key, codec)) is not MISS:
        if tier.reporter.observers:
            tier.reporter.emit(Hit(key, near=True))
        kept: R = value
        return kept
    budget = tier.budget()
    # Nearly always there is nothing to look out for.
    if runtime.flights.open_loops or tier.circuits or near is not None:
        if not runtime.flights.open_loops and tier.circuits and (away := tier.turned_away(key)) is not None:
            # Turned away, and nobody to share a load with.
            flight = runtime.flights.open(key, plan)
            return await lead(runtime, plan, flight, TABLE[type(away)], budget, args, kwargs)
        seen = await _look_out(runtime, plan, key, codec, near, budget)
        outcome = seen.outcome
    else:
        outcome = await tier.read(key, codec, plan.name, budget)
    if tier.reporter.observers:
        _tell(runtime, key, outcome)
    decided = TABLE[type(outcome)]
    if decided is Verdict.SERVE:
        # The table says that it was found.
        found: R = cast("Found", outcome).value
        return found
    return await _unserved(runtime, plan, key, seen or _Seen(outcome), decided, budget, args, kwargs)


async def _keyless(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Run the function uncached, since its arguments have no key, which is told."""
    # If they do not fit the signature, the function says so better than its key could.
    with contextlib.suppress(TypeError):
        plan.key_of(runtime.tier.reporter, args, kwargs)
    return await plan.function(*args, **kwargs)


async def _look_out(
    runtime: Runtime, plan: CallPlan[..., Any], key: str, codec: Codec, near: NearTier | None, budget: Budget
) -> _Seen:
    """Read ``key``, and see whether the load that goes on, if there is one, may be joined."""
    tier = runtime.tier
    earlier = runtime.flights.find(key)
    if earlier is not None and not earlier.loading:
        earlier = None
    away = tier.turned_away(key) if tier.circuits else None
    if away is not None:
        return _Seen(away, earlier)
    if earlier is not None:
        outcome, holder = await tier.look(key, codec, plan.name, budget)
        return _Seen(outcome, earlier, holder)
    if near is not None:
        return _Seen(await tier.read_near(key, codec, plan.name, budget, near))
    return _Seen(await tier.read(key, codec, plan.name, budget))


async def _unserved(
    runtime: Runtime,
    plan: CallPlan[..., R],
    key: str,
    seen: _Seen,
    decided: Verdict,
    budget: Budget,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R:
    """Load, or share the load that somebody else is at."""
    flight = runtime.flights.find(key)
    if flight is not None and flight.plan is plan and not may_wait_for(flight):
        # That load waits for this call: a function that calls itself runs as if undecorated.
        return await lead(runtime, plan, Flight(key, plan), Verdict.LOAD, budget, args, kwargs)
    if flight is None or flight.plan is not plan or (flight is seen.earlier and not seen.holds):
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
