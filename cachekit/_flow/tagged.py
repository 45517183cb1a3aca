"""The calls of functions with tags: a value is read together with its tags, and is a hit as long as all of them stand.

Two things differ from other calls. A load that had begun is joined only if its tags are the ones that the call read.
A value that a flight has found, and not loaded, is for calls that began before it asked. All else is as for others.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import CoroutineType
from typing import Any, Final, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from cachekit._flow.call import Call
from cachekit._flow.commit import BLOCKS, any_runs_uncached, block_for_any
from cachekit._flow.flight import Flight
from cachekit._flow.joining import ReadResult
from cachekit._flow.load import lead, load_inside
from cachekit._flow.plan import CallPlan
from cachekit._flow.read import bypass, emit_look, emit_outcome
from cachekit._flow.runtime import Runtime
from cachekit._flow.stale import serve_stale
from cachekit._flow.tagging import Tagging, TagPlan
from cachekit._flow.verdict import SERVE, Verdict, verdict_on
from cachekit._tiers.guard import Budget
from cachekit._tiers.near import NearTier
from cachekit._tiers.outcome import MISS, Found, Miss, Outcome
from cachekit._tiers.tags import TaggedOutcome, Wanted, value_in, wanted_of
from cachekit.errors import RenderError
from cachekit.events import Hit
from cachekit.freshness import FRESH, Freshness
from cachekit.stores.base import TaggedValue, Want
from cachekit.tags import line_in

R = TypeVar("R")

_UNTAGGED: Final = "is not cached: it has tags, and its store has none (TaggedStore)"


def has_tags(runtime: Runtime, plan: CallPlan[..., Any]) -> bool:
    """Tell whether the store has tags. If it has none, calls with tags run uncached, with one warning."""
    if not runtime.tagged.supported:
        runtime.reporter.incident(plan.name, "untagged", f"{plan.name} {_UNTAGGED}")
    return runtime.tagged.supported


# Not `async`: arguments that do not fit are an error of the call, not of the `await`.
def serve_tagged(
    runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CoroutineType[Any, Any, R]:
    """Return the result of a function with tags for these arguments: a hit, or loaded, by this call or another.

    Raises:
        TypeError: They do not fit; at once, and from the function itself.
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


# The short way of a hit, in one function as `serve` is. Whatever is not as usual goes on in `_serve_on`.
async def serve_with_tags(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Return the result of a function with tags for these arguments, which fit it."""
    tagged, codec, coherence, reporter = runtime.tagged, plan.built_codec, runtime.coherence, runtime.reporter
    quick = plan.quick_tags
    if quick is None or codec is None or reporter.incidents or BLOCKS.get() or not tagged.simple:
        return await _serve_on(runtime, plan, args, kwargs)
    try:
        key, tags = plan.render(*args, **kwargs), quick(*args, **kwargs)
    except RenderError:
        return await _serve_on(runtime, plan, args, kwargs)
    near = coherence.near if (runtime.near if plan.near is None else plan.near) else None
    # While the journal holds anything, it is asked.
    if near is not None and not len(coherence.journal) and (value := near.find(key, codec)) is not MISS:
        if reporter.observers:
            reporter.emit(Hit(key, plan.name, near=True))
        hit: R = value
        return hit
    flights = runtime.flights
    if near is not None or coherence.journal or (flights.open_loops and flights.find_begun(key) is not None):
        return await _serve_on(runtime, plan, args, kwargs)
    budget, began = runtime.budget(), next(runtime.numbers)
    answer = await tagged.get(key, tags, budget)
    if type(answer) is TaggedValue and not coherence.journal:
        found = value_in(answer.value, tags, answer.tags, codec)
        if found is not MISS:
            if reporter.observers:
                reporter.emit(Hit(key, plan.name, seconds=runtime.timeout - budget.left))
            served: R = found
            return served
    wanted = wanted_of(key, tags, codec)
    if isinstance(answer, TaggedValue) and len(wanted.names) < len(tags):
        # Two templates have given one name.
        answer = replace(answer, tags=[*dict(zip(tags, answer.tags, strict=True)).values()])
    outcome = await tagged.conclude(wanted, answer, budget)
    result: R = await _go_on(_Begun(runtime, plan, wanted, began, budget), outcome, args, kwargs)
    return result


class _Begun(Struct, frozen=True):
    """A call that has begun."""

    runtime: Runtime
    plan: CallPlan[..., Any]
    wanted: Wanted
    began: int
    """Its number in this process."""
    budget: Budget
    earlier: Flight | None = None
    """The flight of the key whose load had begun before."""


async def _serve_on(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    wanted = None if runtime.reporter.off else _wanted(runtime, plan, args, kwargs)
    if wanted is None or _runs_uncached(runtime, plan, wanted):
        return await plan.function(*args, **kwargs)
    coherence, flights = runtime.coherence, runtime.flights
    near = coherence.near if (runtime.near if plan.near is None else plan.near) and wanted.least is None else None
    if near is not None and not len(coherence.journal) and (value := near.find(wanted.key, wanted.codec)) is not MISS:
        if runtime.reporter.observers:
            runtime.reporter.emit(Hit(wanted.key, plan.name, near=True))
        hit: R = value
        return hit
    earlier = flights.find_begun(wanted.key) if flights.open_loops else None
    begun = _Begun(runtime, plan, wanted, next(runtime.numbers), runtime.budget(), earlier)
    found = await _read(runtime, wanted, begun.budget, near, earlier)
    result: R = await _go_on(begun, found, args, kwargs)
    return result


async def _go_on(begun: _Begun, found: TaggedOutcome, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of a call that has read ``found``."""
    runtime, plan, wanted, outcome = begun.runtime, begun.plan, begun.wanted, found.outcome
    if runtime.reporter.observers:
        emit_outcome(runtime, plan, wanted.key, outcome, begun.budget)
    if isinstance(outcome, Found) and wanted.least is not None:
        # So that the next hit takes one round trip.
        cast("TagPlan", plan.tags).teach(wanted.key, tuple(found.tags))
    verdict = verdict_on(outcome)
    if verdict is SERVE:
        # The table says that it was found.
        return cast("Found", outcome).value
    tagging = tagging_of(runtime, plan, wanted, found, begun.began)
    call = Call(runtime, plan, wanted.key, wanted.codec, begun.budget, args, kwargs, tagging=tagging)
    return await serve_stale(call, read_result(wanted, found, begun.earlier), verdict)


def read_result(wanted: Wanted, found: TaggedOutcome, earlier: Flight | None) -> ReadResult:
    """Return what a call has read, for `cachekit._flow.joining`."""
    # Nobody knows which tags the result of a load will have: one that had begun is not joined on the word of others.
    holder = found.holder if wanted.least is None else None
    return ReadResult(found.outcome, earlier, holder, found.tags)


# Not `async`: it would cost a hit one more coroutine.
def _read(
    runtime: Runtime, wanted: Wanted, budget: Budget, near: NearTier | None, earlier: Flight | None
) -> Awaitable[TaggedOutcome]:
    """Read the value that is ``wanted``, with its lease where a load of it has begun."""
    want = Want.NOTHING if earlier is None else Want.HOLDER
    read = runtime.tagged.read if near is None else runtime.tagged.read_near
    return read(wanted, budget, want)


def _wanted(runtime: Runtime, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Wanted | None:
    """Return the value that a call wants; None, with one warning, when it has no key, or no tags.

    Raises:
        TypeError: The arguments do not fit the function's signature.
    """
    tags, reporter = cast("TagPlan", plan.tags), runtime.reporter
    try:
        key = plan.render(*args, **kwargs)
        names = tags.names(args, kwargs)
    except RenderError as error:
        reporter.skipped(plan.name, "argument", plan.why(error, reporter, args, kwargs))
        return None
    if reporter.incidents:
        reporter.resolved(plan.name, "argument")
    if not has_tags(runtime, plan):
        return None
    codec = plan.built_codec or plan.codec(reporter)
    if not tags.from_result:
        return Wanted(key, names, codec, plan.windows)
    hint = tags.hint(key)
    return Wanted(key, names if hint is None else hint, codec, plan.windows, frozenset(names))


def tagging_of(runtime: Runtime, plan: CallPlan[..., Any], wanted: Wanted, found: TaggedOutcome, began: int) -> Tagging:
    """Return the tags that a load is to open: those of the value that was found, or of the last one, or of the call."""
    tags = cast("TagPlan", plan.tags)
    # A value that a function with stale windows has found is told by what is left of it.
    unusable = plan.windows is None or not isinstance(found.outcome, Found)
    suffix = line_in(found.raw) if found.raw is not None and unusable else b""
    if not tags.from_result:
        return Tagging(wanted, began, suffix=suffix)
    # Those of the last load here come first: the value that it could not store is still the old one.
    hint = tags.hint(wanted.key)
    known = hint if hint is not None else runtime.tagged.names_in(found.raw, wanted.codec)
    if known is None:
        return Tagging(wanted, began, known=False, suffix=suffix)
    return Tagging(Wanted(wanted.key, known, wanted.codec, wanted.windows), began, suffix=suffix)


def _runs_uncached(runtime: Runtime, plan: CallPlan[..., Any], wanted: Wanted) -> bool:
    """Tell, observers as well, whether the running code is to invalidate the key, or a tag, or is writing the key."""
    if not any_runs_uncached(runtime, wanted.stored):
        return False
    bypass(runtime, plan, wanted.key)
    return True


# --- without loading, and loading in any case ------------------------------------------------------


async def refresh_tagged(runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Load now and fill, also if a value is cached. A load that is going on does not overwrite it."""
    wanted = None if runtime.reporter.off else _wanted(runtime, plan, args, kwargs)
    if wanted is None:
        return await plan.function(*args, **kwargs)
    tagging = tagging_of(runtime, plan, wanted, TaggedOutcome(MISS, {}), next(runtime.numbers))
    call = Call(
        runtime, plan, wanted.key, wanted.codec, runtime.budget(), args, kwargs, refreshes=True, tagging=tagging
    )
    block = block_for_any(runtime, wanted.stored)
    if block is not None:
        return await load_inside(call, block)
    return await lead(call, runtime.flights.open(wanted.key, plan), Verdict.REFRESH)


async def peek_tagged(
    runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R | Miss:
    """Return the cached value if it is fresh and its tags stand, or MISS; never load."""
    wanted = _wanted(runtime, plan, args, kwargs)
    if wanted is None or _runs_uncached(runtime, plan, wanted):
        return MISS
    budget = runtime.budget()
    found = await runtime.tagged.read(wanted, budget)
    return _fresh(runtime, plan, wanted, found.outcome, budget)


async def take_tagged(
    runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R | Miss:
    """Return the cached value and remove it in one step if it is fresh and its tags stand, or MISS; never load."""
    wanted = _wanted(runtime, plan, args, kwargs)
    if wanted is None or _runs_uncached(runtime, plan, wanted):
        return MISS
    budget = runtime.budget()
    return _fresh(runtime, plan, wanted, await runtime.tagged.take(wanted, budget), budget)


async def ttl_of_tagged(
    runtime: Runtime, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> float | None:
    """Return how many seconds are left of the TTL of a cached value whose tags stand; None when there is none."""
    wanted = _wanted(runtime, plan, args, kwargs)
    if wanted is None or _runs_uncached(runtime, plan, wanted):
        return None
    outcome = (await runtime.tagged.read(wanted, runtime.budget(), Want.TTL)).outcome
    if not isinstance(outcome, Found) or outcome.freshness not in {FRESH, Freshness.DUE}:
        return None
    return outcome.left - outcome.entry.stale


def _fresh(runtime: Runtime, plan: CallPlan[..., R], wanted: Wanted, outcome: Outcome, budget: Budget) -> R | Miss:
    fresh = outcome if not isinstance(outcome, Found) or outcome.freshness is FRESH else MISS
    if runtime.reporter.observers:
        emit_look(runtime, plan, wanted.key, fresh, budget)
    return fresh.value if isinstance(fresh, Found) else MISS


async def read_by_hand(runtime: Runtime, wanted: Wanted) -> Outcome:
    """Return the value at a key that a caller has named, with any tags. With tags it takes two round trips."""
    budget = runtime.budget()
    raw = await runtime.coherence.get(wanted.key, budget)
    names = runtime.tagged.names_in(raw, wanted.codec) if isinstance(raw, bytes) else None
    if names is None:
        return await runtime.values.read_on(wanted.key, raw, wanted.codec, budget)
    wanted = Wanted(wanted.key, names, wanted.codec)
    outcome = (await runtime.tagged.read(wanted, budget, Want.TTL)).outcome
    return outcome if not isinstance(outcome, Found) or outcome.freshness is FRESH else MISS
