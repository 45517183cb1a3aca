"""The path of one call of a batch function: many ids, one read, one load of the ids that miss.

It shares keys, codec and flights with the calls for one id. Nothing waits in a circle, by one rule: a caller loads and
lands what it got before it waits for another. Two batches that ask for the same ids in another order, in one process or
in two, therefore never wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import CoroutineType
from typing import Any, TypeVar, cast

from msgspec import Struct

from cachekit._flow.batch_behind import load_behind, load_softly
from cachekit._flow.batch_gather import Gather
from cachekit._flow.batch_load import Member
from cachekit._flow.batch_plan import Asked, BatchPlan
from cachekit._flow.batch_tags import BatchTags
from cachekit._flow.call import Call
from cachekit._flow.commit import BLOCKS, runs_uncached
from cachekit._flow.joining import ReadResult
from cachekit._flow.read import bypass, emit_outcome
from cachekit._flow.runtime import Runtime
from cachekit._flow.stale import note_seen
from cachekit._flow.verdict import SERVE, SERVE_LOAD, verdict_on
from cachekit._tiers.guard import Budget
from cachekit._tiers.near import NearTier
from cachekit._tiers.outcome import MISS, Found, Outcome
from cachekit._tiers.values import Reading
from cachekit.errors import RenderError
from cachekit.events import Hit

K = TypeVar("K")
V = TypeVar("V")


# Not `async`: arguments that do not fit are an error of the call, not of the `await`.
def serve_many(
    runtime: Runtime, plan: BatchPlan[K, V], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CoroutineType[Any, Any, dict[K, V]]:
    """Return the results for many ids: hits, and loaded ones, by this call or another.

    Raises:
        TypeError: The arguments do not fit; at once, and from the function itself.
    """
    try:
        plan.signature.bind(*args, **kwargs)
    except TypeError:
        pass
    else:
        return plan.serve(runtime, plan, args, kwargs)
    # Outside the handler, so that the function's own error is the only one that is shown.
    refused: CoroutineType[Any, Any, dict[K, V]] = cast("Any", plan.function)(*args, **kwargs)
    return refused


class _Keys(Struct):
    """The keys of a batch."""

    by_id: list[str | None]
    """For each id that was asked for, in order; None if it is loaded and not stored."""
    first: dict[str, Any]
    """By key, the id that stands for all ids with it."""
    loose: dict[Any, None]
    """Ids that are loaded, and not stored."""


async def serve_ids(
    runtime: Runtime, plan: BatchPlan[K, V], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[K, V]:
    """Do as `serve_many`, for arguments that fit."""
    asked = plan.bind(args, kwargs)
    one = plan.one
    tags = None if one.tags is None else BatchTags(runtime, asked)
    keys = _render(runtime, asked, tags)
    near = runtime.coherence.near if (runtime.near if one.near is None else one.near) else None
    near = near if tags is None or tags.near else None
    values = _near_hits(runtime, asked, keys, near) if near is not None else {}
    left = [key for key in keys.first if key not in values] if values else [*keys.first]
    gather = Gather(asked, [*keys.loose])
    if left or keys.loose:
        budget = runtime.budget()
        read = await _read(runtime, asked, left, (budget, values, tags), near) if left else ((), (), {})
        members = _sort(runtime, asked, keys.first, read, (budget, values, tags))
        if one.soft_timeout is not None:
            members = load_softly(asked, members, gather)
        # What was no hit, and what is waited for already.
        if members or keys.loose or gather.waits:
            await gather.load(members)
        values |= gather.values
    if not keys.loose and len(values) == len(keys.first):
        # In one step: all of them are there.
        return dict(zip(asked.ids, map(values.__getitem__, cast("list[str]", keys.by_id)), strict=True))
    loose = gather.loose_values
    return {
        identity: loose[identity] if key is None else values[key]
        for identity, key in zip(asked.ids, keys.by_id, strict=True)
        if (identity in loose if key is None else key in values)
    }


def _render(runtime: Runtime, asked: Asked[Any, Any], tags: BatchTags | None) -> _Keys:
    """Return the keys of all ids."""
    one, reporter = asked.plan.one, runtime.reporter
    if reporter.off or (tags is not None and not tags.supported):
        return _Keys([None] * len(asked.ids), {}, dict.fromkeys(asked.ids))
    keys = _Keys([], {}, {})
    inside_block, failed, key_of = bool(BLOCKS.get()), False, (asked if tags is None else tags).key_of
    uncached = runs_uncached if tags is None else tags.runs_uncached
    if not inside_block and (rendered := _all_rendered(asked, tags)) is not None:
        keys.by_id.extend(rendered)
        keys.first.update(dict.fromkeys(rendered))
        # Backwards, so that the first id with a key stands for the others.
        keys.first.update(zip(reversed(rendered), reversed(asked.ids), strict=True))
    for identity in asked.ids if len(keys.by_id) < len(asked.ids) else ():
        key: str | None
        try:
            key = key_of(identity)
        except RenderError as error:
            reporter.skipped(one.name, "argument", str(error))
            key, failed = None, True
        if key is not None and inside_block and uncached(runtime, key):
            bypass(runtime, one, key)
            key = None
        keys.by_id.append(key)
        if key is None:
            keys.loose[identity] = None
        else:
            keys.first.setdefault(key, identity)
    if reporter.incidents and not failed:
        reporter.resolved(one.name, "argument")
    return keys


def _all_rendered(asked: Asked[Any, Any], tags: BatchTags | None) -> list[str] | None:
    """Return the keys of all ids, in one step; None if one of them has none."""
    try:
        return [*map(asked.key_of, asked.ids)] if tags is None else tags.render_all()
    except RenderError:
        return None


def _near_hits(runtime: Runtime, asked: Asked[Any, Any], keys: _Keys, near: NearTier) -> dict[str, Any]:
    """Return the values that are near, by key."""
    # A key in the journal is a miss, here too.
    if len(runtime.coherence.journal):
        return {}
    reporter = runtime.reporter
    codec = asked.plan.one.codec(reporter)
    values = {key: value for key in keys.first if (value := near.find(key, codec)) is not MISS}
    if reporter.observers:
        for key in values:
            reporter.emit(Hit(key, asked.plan.one.name, near=True))
    return values


async def _read(
    runtime: Runtime,
    asked: Asked[Any, Any],
    keys: Sequence[str],
    into: tuple[Budget, dict[str, Any], BatchTags | None],
    near: NearTier | None,
) -> tuple[Sequence[str], Sequence[Outcome], Mapping[str, ReadResult]]:
    """Read all keys in one round trip. Return them, the outcomes, and more of those of which a load has begun here.

    Keys whose values were put ``into`` the others already are left out.
    """
    budget, values_by_key, tags = into
    if tags is not None:
        return await tags.read(keys, budget, near, values_by_key)
    one, flights, values = asked.plan.one, runtime.flights, runtime.values
    codec = one.codec(runtime.reporter)
    reading = Reading(one.windows, near is not None)
    begun = {key: flight for key in keys if (flight := flights.find_begun(key))} if flights.open_loops else {}
    if not begun:
        return keys, await values.read_many(keys, codec, budget, reading), {}
    rest = [key for key in keys if key not in begun]
    budgets = [Budget(budget.left) for _ in begun]
    # With their leases, in one round trip with the others.
    alone = [values.read_with_lease(key, codec, own, one.windows) for key, own in zip(begun, budgets, strict=True)]
    outcomes, with_leases = await asyncio.gather(values.read_many(rest, codec, budget, reading), asyncio.gather(*alone))
    budget.left = min([budget.left, *[own.left for own in budgets]])
    results = {
        key: ReadResult(outcome, flight, holder)
        for (key, flight), (outcome, holder) in zip(begun.items(), with_leases, strict=True)
    }
    others = iter(outcomes)
    return keys, [results[key].outcome if key in results else next(others) for key in keys], results


def _without_hits(
    keys: Sequence[str], outcomes: Sequence[Outcome], values: dict[str, Any]
) -> list[tuple[str, Outcome]]:
    """Put the hits into ``values``, in few steps, since most are; return the others."""
    others: list[tuple[str, Outcome]] = []
    for key, outcome in zip(keys, outcomes, strict=True):
        if type(outcome) is not Found:
            others.append((key, outcome))
        elif not outcome.entry.absent:
            values[key] = outcome.value
    return others


def _sort(
    runtime: Runtime,
    asked: Asked[Any, Any],
    first: Mapping[str, Any],
    read: tuple[Sequence[str], Sequence[Outcome], Mapping[str, ReadResult]],
    into: tuple[Budget, dict[str, Any], BatchTags | None],
) -> list[Member]:
    """Put the values that were found ``into`` the others, and return the members that are to be loaded."""
    one, reporter = asked.plan.one, runtime.reporter
    codec, (budget, values, tags), (keys, outcomes, begun) = one.codec(reporter), into, read
    members: list[Member] = []
    behind: list[tuple[Member, Found]] = []
    usual = one.windows is None and not reporter.observers
    for key, outcome in _without_hits(keys, outcomes, values) if usual else zip(keys, outcomes, strict=True):
        if reporter.observers:
            emit_outcome(runtime, one, key, outcome, budget)
        verdict = SERVE if type(outcome) is Found and one.windows is None else verdict_on(outcome)
        if verdict is SERVE or verdict is SERVE_LOAD:
            # The table says that it was found.
            found = cast("Found", outcome)
            if not found.entry.absent:
                values[key] = found.value
            if verdict is SERVE:
                continue
        result = begun.get(key) or ReadResult(outcome)
        call = Call(runtime, one, key, codec, budget, (), {})
        if tags is not None:
            tags.tag(call, first[key])
        member = Member(first[key], call, result, verdict)
        if verdict is SERVE_LOAD:
            behind.append((member, cast("Found", outcome)))
            continue
        if one.windows is not None:
            note_seen(call, outcome, verdict)
        members.append(member)
    if behind:
        load_behind(asked, behind)
    return members
