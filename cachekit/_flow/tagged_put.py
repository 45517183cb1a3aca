"""Values in hand of functions with tags: the tags are opened with the lease, before the source is written.

A value records the generations that stood then. So a removal of one of its tags during the write makes it a miss,
as it does with a value that was loaded meanwhile.
"""

from __future__ import annotations

from typing import Any, cast

from cachekit._flow.call import Call
from cachekit._flow.commit import any_runs_uncached
from cachekit._flow.runtime import Runtime
from cachekit._flow.tagged import has_tags
from cachekit._flow.tagging import Tagging, TagPlan
from cachekit._tiers.guard import Budget
from cachekit._tiers.tags import Wanted
from cachekit.entry import parse
from cachekit.errors import RenderError
from cachekit.tags import tag_keys


def tagging_of_put(call: Call[Any], plan: TagPlan) -> Tagging | None:
    """Return the tags that are opened for a value in hand; None, with one warning, if it cannot have its tags.

    ``plan`` names tags by the arguments of the writer. Tags of the result are those of the last value that this process
    knows: a value that has others is not stored.
    """
    runtime, of_function = call.runtime, cast("TagPlan", call.plan.tags)
    try:
        names = plan.names(call.args, call.kwargs)
    except RenderError as error:
        runtime.reporter.log(call.plan.name, "argument", f"{call.plan.name} stores no value in hand: {error}")
        return None
    if not has_tags(runtime, call.plan):
        return None
    hint = of_function.hint(call.key) if plan.from_result else None
    wanted = Wanted(call.key, names if hint is None else hint, call.codec)
    return Tagging(wanted, next(runtime.numbers), plan=plan)


async def touch_tags(runtime: Runtime, line: bytes, ttl: float, budget: Budget) -> bool:
    """Prolong the tags of a value that was touched, so that they outlive it. Returns whether all of them stand.

    ``line``: the second line of the value, which was let live for ``ttl`` seconds.
    """
    entry = parse(b"null\n" + line, sealed=True, tagged=True)
    tags = None if entry is None else entry.tags
    if entry is None or tags is None:
        return True
    keys, coherence = tag_keys(tags), runtime.coherence
    if not runtime.tagged.supported or any_runs_uncached(runtime, keys):
        return False
    stand = await runtime.tagged.open([*tags], ttl + entry.stale, budget)
    return stand == tags and not any(map(coherence.journal.holds, keys))
