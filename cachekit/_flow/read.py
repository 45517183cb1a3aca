"""The path of one call: render the key, read, and follow the verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeVar, cast

from cachekit._flow.call import Call
from cachekit._flow.commit import BLOCKS, block_for, runs_uncached
from cachekit._flow.flight import Flight, is_open
from cachekit._flow.joining import Joining, ReadResult, board
from cachekit._flow.load import lead, load_inside, result_of, share
from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._flow.stale import serve_stale
from cachekit._flow.verdict import LOAD, OF_FRESH, SERVE, Verdict, verdict_on
from cachekit._tiers.guard import Budget
from cachekit._tiers.near import NearTier
from cachekit._tiers.outcome import MISS, Found, Miss, Outcome
from cachekit.codecs import Codec
from cachekit.errors import RenderError
from cachekit.events import Bypassed, Hit, Missed, ServedStale
from cachekit.freshness import FRESH, Freshness

R = TypeVar("R")


# Not `async`: arguments that do not fit are an error of the call, not of the `await`.
def serve_fitting(
    runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CoroutineType[Any, Any, R]:
    """Do as `serve`, if the arguments fit the function.

    Raises:
        TypeError: They do not; at once, and from the function itself.
    """
    try:
        plan.fit(*args, **kwargs)
    except TypeError:
        pass
    else:
        return plan.serve(runtime, plan, args, kwargs)
    # Outside the handler, so that the function's own error is the only one that is shown.
    refused: CoroutineType[Any, Any, R] = cast("Any", plan.function)(*args, **kwargs)
    return refused


# The key is rendered when the function would begin: until then an argument may be changed.
# One function: every hit would pay for the call of another.
async def serve(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:  # noqa: C901
    """Return the result of the function for these arguments: a hit, or loaded, by this call or another."""
    try:
        key = plan.render(*args, **kwargs)
    except RenderError:
        return await keyless(runtime, plan, args, kwargs)
    reporter = runtime.reporter
    if reporter.incidents:
        if reporter.off:
            return await plan.function(*args, **kwargs)
        reporter.resolved(plan.name, "argument")
    if BLOCKS.get() and runs_uncached(runtime, key):
        bypass(runtime, plan, key)
        return await plan.function(*args, **kwargs)
    codec = plan.built_codec or plan.codec(reporter)
    coherence = runtime.coherence
    near = coherence.near if (runtime.near if plan.near is None else plan.near) else None
    # A key in the journal is a miss, here too.
    if near is not None and not len(coherence.journal) and (value := near.find(key, codec)) is not MISS:
        if reporter.observers:
            reporter.emit(Hit(key, plan.name, near=True))
        hit: R = value
        return hit
    budget, flights, windows = runtime.budget(), runtime.flights, plan.windows
    result: ReadResult | None = None  # nearly always no shard has failed, and no key is being loaded
    if runtime.circuits and (rejected := coherence.rejected(key)) is not None:
        result = ReadResult(rejected, flights.find_begun(key) if flights.open_loops else None)
        outcome: Outcome = rejected
    elif near is not None or flights.open_loops:
        result = await _read(runtime, plan, key, budget, near)
        outcome = result.outcome
    elif windows is None:
        outcome = await runtime.values.read(key, codec, budget)
    else:
        outcome = await runtime.values.read_timed(key, codec, budget, windows)
    if reporter.observers:
        emit_outcome(runtime, plan, key, outcome, budget)
    fresh = windows is None or (type(outcome) is Found and outcome.freshness is FRESH)
    verdict = OF_FRESH[type(outcome)] if fresh else verdict_on(outcome)
    if verdict is SERVE:
        found: R = cast("Found", outcome).value  # the table says that it was found
        return found
    way = _load if windows is None else serve_stale
    return await way(Call(runtime, plan, key, codec, budget, args, kwargs), result or ReadResult(outcome), verdict)


async def keyless(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Run the function uncached, since its arguments have no key, and report that."""
    plan.key_of(runtime.reporter, args, kwargs)
    return await plan.function(*args, **kwargs)


async def _read(
    runtime: Runtime, plan: CallPlan[..., Any], key: str, budget: Budget, near: NearTier | None
) -> ReadResult:
    """Read ``key``, and its lease where a load of it has begun: the lease tells whether that may be joined."""
    codec = plan.built_codec or plan.codec(runtime.reporter)
    earlier = runtime.flights.find_begun(key)
    if earlier is not None:
        outcome, holder = await runtime.values.read_with_lease(key, codec, budget, plan.windows)
        return ReadResult(outcome, earlier, holder)
    if near is not None:
        return ReadResult(await runtime.values.read_near(key, codec, budget, plan.windows))
    if plan.windows is not None:
        return ReadResult(await runtime.values.read_timed(key, codec, budget, plan.windows))
    return ReadResult(await runtime.values.read(key, codec, budget))


# Not `async`: it decides, and its caller awaits the decision.
def _load(call: Call[R], result: ReadResult, verdict: Verdict) -> Coroutine[Any, Any, R]:
    """Load, or share the load of another caller."""
    flights = call.runtime.flights
    # The usual case, and a call less.
    if not flights.open_loops:
        return lead(call, flights.open(call.key, call.plan), verdict)
    flight, joining = board(flights, call.key, call.plan, result)
    if joining is Joining.JOIN:
        return _join(call, flight, result, verdict)
    return lead(call, flight, LOAD if joining is Joining.ALONE else verdict)


async def _join(call: Call[R], flight: Flight, result: ReadResult, verdict: Verdict) -> R:
    landed = await share(call, flight)
    if landed is None:
        return await lead(call, flight, verdict)
    if is_open(landed):
        # A batch has loaded, and left its key out; or the value was asked for before this call began. Any flight that
        # this call finds now began after it did.
        return await _load(call, ReadResult(result.outcome), verdict)
    return result_of(call, landed)


async def refresh(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Load now and fill, also if a value is cached. A load that is going on does not overwrite it."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    if key is None or runtime.reporter.off:
        return await plan.function(*args, **kwargs)
    call = Call(runtime, plan, key, plan.codec(runtime.reporter), runtime.budget(), args, kwargs, refreshes=True)
    block = block_for(runtime, key) if BLOCKS.get() else None
    if block is not None:
        return await load_inside(call, block)
    return await lead(call, runtime.flights.open(key, plan), Verdict.REFRESH)


async def peek(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R | Miss:
    """Return the cached value or MISS; never load."""
    read = runtime.values.read if plan.windows is None else runtime.values.read_fresh
    return await _without_loading(runtime, plan, read, args, kwargs)


async def take(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R | Miss:
    """Return the cached value and remove it in one step, or MISS; never load."""
    take_once = runtime.values.take if plan.windows is None else runtime.values.take_fresh
    return await _without_loading(runtime, plan, take_once, args, kwargs)


async def _without_loading(
    runtime: Runtime,
    plan: CallPlan[..., R],
    read: Callable[[str, Codec, Budget], Awaitable[Outcome]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R | Miss:
    key = plan.key_of(runtime.reporter, args, kwargs)
    if key is None:
        return MISS
    if BLOCKS.get() and runs_uncached(runtime, key):
        bypass(runtime, plan, key)
        return MISS
    budget = runtime.budget()
    outcome = await read(key, plan.codec(runtime.reporter), budget)
    if runtime.reporter.observers:
        emit_look(runtime, plan, key, outcome, budget)
    return outcome.value if isinstance(outcome, Found) else MISS


def emit_outcome(runtime: Runtime, plan: CallPlan[..., Any], key: str, outcome: Outcome, budget: Budget) -> None:
    """Tell observers the outcome of a read within ``budget``; a failure is told where it happened."""
    seconds = runtime.timeout - budget.left
    if isinstance(outcome, Found):
        freshness = outcome.freshness
        if freshness is Freshness.STALE:
            runtime.reporter.emit(ServedStale(key, plan.name, outcome.stale_for, "revalidate", seconds))
            return
        if freshness is FRESH or freshness is Freshness.DUE:
            runtime.reporter.emit(Hit(key, plan.name, seconds=seconds))
            return
    if isinstance(outcome, (Found, Miss)):
        runtime.reporter.emit(Missed(key, plan.name, seconds))


def emit_look(runtime: Runtime, plan: CallPlan[..., Any], key: str, outcome: Outcome, budget: Budget) -> None:
    """Tell observers the outcome of a read that no load follows."""
    if isinstance(outcome, Miss):
        runtime.reporter.emit(Missed(key, plan.name, runtime.timeout - budget.left, looked=True))
    else:
        emit_outcome(runtime, plan, key, outcome, budget)


def bypass(runtime: Runtime, plan: CallPlan[..., Any], key: str) -> None:
    """Tell observers that a call asks no cache: the code around it is changing the key."""
    if runtime.reporter.observers:
        runtime.reporter.emit(Bypassed(key, plan.name))
