"""Loads in the background: they begin, or go on, when the caller that needed them has its result.

They are few at a time, and owned by the cache, which ends them. No caller sees how they fail, so that is an event and a
log record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Final

from msgspec.structs import replace

from cachekit._flow.call import Call
from cachekit._flow.commit import leave_blocks
from cachekit._flow.flight import AGAIN, PAUSED, Flight
from cachekit._flow.load import lead, load_failed
from cachekit._flow.nesting import leave_all
from cachekit._flow.runtime import Runtime
from cachekit._flow.verdict import Verdict
from cachekit._tiers.leases import Seen
from cachekit.stores.scripts import Copy

MOST: Final = 32
"""The most loads in the background at a time, of one cache."""


def load_soon(call: Call[Any], flight: Flight, copy: Copy) -> bool:
    """Load for ``flight`` in a task of its own. Returns False when there are too many already."""
    runtime = call.runtime

    own = in_background(call, runtime, copy)

    def failed(error: Exception) -> None:
        load_failed(own, flight, error, raised=False)

    return start_behind(runtime, flight.loop, lambda: _load(own, flight), failed)


def in_background(call: Call[Any], runtime: Runtime, copy: Copy) -> Call[Any]:
    """Return the call that loads in the place of ``call`` when that has its result."""
    seen = replace(call.seen or Seen(), copy=copy)
    return replace(call, budget=runtime.budget(), seen=seen, spare=None, alone=True)


def start_behind(
    runtime: Runtime,
    loop: asyncio.AbstractEventLoop,
    work: Callable[[], Coroutine[Any, Any, None]],
    failed: Callable[[Exception], None],
) -> bool:
    """Do ``work``, which loads, in a task of its own. Returns False when there are too many already.

    The task sees the contextvars of its caller, such as the trace of a request, without those of cachekit: it is inside
    of no load and of no `after_commit` block. ``failed`` gets the exception with which it ends.
    """
    if len(runtime.loading) >= MOST or runtime.loading.draining:
        return False
    context = copy_context()
    context.run(leave_blocks)
    context.run(leave_all)
    runtime.loading.start_in(context, loop, _contained, work, failed)
    return True


async def _contained(work: Callable[[], Coroutine[Any, Any, None]], failed: Callable[[Exception], None]) -> None:
    try:
        await work()
    # The user's function may raise anything, and there is no caller to see it.
    except Exception as error:
        failed(error)


async def _load(call: Call[Any], flight: Flight) -> None:
    await lead(call, flight, Verdict.LOAD_FILL)
    reporter = call.runtime.reporter
    if reporter.incidents and flight.landed not in (AGAIN, PAUSED):
        reporter.resolved(call.plan.name, "load")
