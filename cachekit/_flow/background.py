"""Loads in the background: they begin, or go on, when the caller that needed them has its result.

They are few at a time, and owned by the cache, which ends them. No caller sees how they fail, so that is an event and a
log record.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Final

from msgspec.structs import replace

from cachekit._flow.call import Call
from cachekit._flow.commit import leave_blocks
from cachekit._flow.flight import AGAIN, PAUSED, Flight
from cachekit._flow.load import lead
from cachekit._flow.nesting import leave_all
from cachekit._flow.verdict import Verdict
from cachekit._tiers.leases import Seen
from cachekit.stores.scripts import Copy

MOST: Final = 32
"""The most loads in the background at a time, of one cache."""


def load_soon(call: Call[Any], flight: Flight, copy: Copy) -> bool:
    """Load for ``flight`` in a task of its own. Returns False when there are too many already.

    The task sees the contextvars of its caller, such as the trace of a request, without those of cachekit: it is inside
    of no load and of no `after_commit` block.
    """
    runtime = call.runtime
    if len(runtime.loading) >= MOST or runtime.loading.draining:
        return False
    seen = replace(call.seen or Seen(), copy=copy)
    own = replace(call, budget=runtime.budget(), seen=seen, spare=None, alone=True)
    context = copy_context()
    context.run(leave_blocks)
    context.run(leave_all)
    runtime.loading.start_in(context, flight.loop, _load, own, flight)
    return True


async def _load(call: Call[Any], flight: Flight) -> None:
    reporter = call.runtime.reporter
    try:
        await lead(call, flight, Verdict.LOAD_FILL)
    # The user's function may raise anything, and there is no caller to see it.
    except Exception as error:
        reporter.load_failed(call.plan.name, call.key, error)
    else:
        if reporter.incidents and flight.landed not in (AGAIN, PAUSED):
            reporter.resolved(call.plan.name, "load")
