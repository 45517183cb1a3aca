"""The lease of a load with tags: it is asked for together with the generations that stand before the load.

A removal of a tag leaves the lease. So a value that is found while the lease is waited for is compared with the
generations that came in the same round trip, and with no others.
"""

from __future__ import annotations

from math import inf
from typing import Any, cast

from msgspec.structs import replace

from cachekit._flow.call import Call
from cachekit._flow.flight import ABSENT, Flight, Landed
from cachekit._flow.tagging import Tagging, TagPlan
from cachekit._tiers.coherence import milliseconds
from cachekit._tiers.leases import Seen
from cachekit._tiers.outcome import Down, Found
from cachekit.entry import Entry
from cachekit.errors import RenderError
from cachekit.freshness import FRESH
from cachekit.stores.scripts import AcquireStaleLease, Gone, Lease, Script, SeizeLease
from cachekit.tags import line_in


async def ask_with_tags(
    call: Call[Any], tagging: Tagging, token: bytes, unreadable: bytes | None
) -> bytes | Lease | Gone | Down:
    """Ask for the lease, and open the tags, in one round trip. Returns as `cachekit._tiers.leases.Leases` does."""
    runtime, script = call.runtime, question_with_tags(call, tagging, token, unreadable)
    # Before the question: who begins from now on is not served by what it finds.
    tagging.asked = next(runtime.numbers)
    opened = await runtime.tagged.open_with(script, tagging.wanted, seconds_of_tags(call), call.budget)
    tagging.tags = opened[1] if tagging.known else None
    return opened[0]


def question_with_tags(
    call: Call[Any], tagging: Tagging, token: bytes, unreadable: bytes | None
) -> Script[bytes | Lease | Gone]:
    """Return the script that asks for the lease."""
    seen = call.seen or Seen()
    suffix = tagging.suffix or seen.suffix if unreadable is None else line_in(unreadable)
    return AcquireStaleLease(token, milliseconds(call.plan.lease), seen.floor_ms, suffix, seen.copy)


async def seize_with_tags(call: Call[Any], tagging: Tagging, token: bytes) -> bool:
    """Take the lease over, and open the tags, in one round trip. Returns whether the store confirmed the lease."""
    script = SeizeLease(token, milliseconds(call.plan.lease))
    opened = await call.runtime.tagged.open_with(script, tagging.wanted, seconds_of_tags(call), call.budget)
    tagging.tags = opened[1] if tagging.known else None
    return opened[0] is True


def found_with_tags(call: Call[Any], tagging: Tagging, raw: bytes, *, absent: bool = False) -> Landed | None:
    """Return the end of a flight that has found ``raw`` when it asked for the lease; None if it is of no use.

    ``absent``: a remembered absence is one, too (`cachekit._flow.flight.ABSENT`).
    """
    wanted, tags, judged = (
        replace(tagging.wanted, windows=None, least=None),
        tagging.tags or {},
        call.runtime.tagged.judged,
    )
    outcome = judged(wanted, raw, tags, None, absent=absent)
    if isinstance(outcome, Down):
        # It was stored a moment ago, so it is fresh unless it was expired by hand.
        outcome = judged(wanted, raw, tags, inf, absent=absent)
    if not isinstance(outcome, Found) or outcome.freshness is not FRESH:
        return None
    if outcome.entry.absent:
        return ABSENT
    return Landed(outcome.value, outcome.entry, tagging.asked)


def with_tags(call: Call[Any], flight: Flight, entry: Entry, result: object, ttl: float) -> Entry | None:
    """Return ``entry`` of a ``result`` with the tags that stood before it; None if it is not to be stored.

    A result of which not all tags were opened teaches their names to the next load, or write.
    """
    # It is asked for calls that have opened their tags.
    plan, tagging = cast("TagPlan", call.plan.tags), cast("Tagging", call.tagging)
    kept = ttl + (0.0 if call.plan.windows is None else call.plan.windows.longest)
    plan.longest = max(plan.longest, kept)
    try:
        named = tagging.plan or plan
        names = named.all_names(result, call.args, call.kwargs) if plan.from_result else tagging.wanted.names
    except RenderError as error:
        call.runtime.reporter.log(call.plan.name, "argument", f"{call.plan.name} stores no result: {error}")
        call.runtime.reporter.not_stored(call.plan.name, call.key, "tags")
        return None
    if plan.from_result:
        plan.teach(call.key, names)
    tags = flight.tags
    if tags is None or not tags.keys() >= {*names}:
        call.runtime.reporter.not_stored(call.plan.name, call.key, "void" if flight.void else "tags")
        return None
    return replace(entry, tags={name: tags[name] for name in names})


def seconds_of_tags(call: Call[Any]) -> float:
    """Return for how many seconds the values are kept that name the tags."""
    policy, windows, plan = call.plan.policy, call.plan.windows, call.plan.tags
    ttl = policy.ttl if isinstance(policy.ttl, float) else 0.0
    longest = 0.0 if plan is None else plan.longest
    return max(longest, ttl + (0.0 if windows is None else windows.longest))
