"""Warming: the results of many calls are brought into the store, a bounded number of calls at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from msgspec import Struct

from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._tiers.background import end
from cachekit.events import Event, Filled, Loaded

MOST_ERRORS: Final = 10
"""Errors that a `Warmed` keeps."""

Progress: TypeAlias = Callable[[int], None]
"""Gets the number of calls that are done."""


class Warmed(Struct, frozen=True):
    """The outcome of a warm-up: each call was there, was loaded, or failed.

    Example:
        >>> warmed = Warmed(there=1, loaded=4, stored=4)
        >>> warmed.there + warmed.loaded + warmed.failed
        5
    """

    there: int = 0
    """Calls whose result was in the store, or was brought there by another process meanwhile."""
    loaded: int = 0
    """Calls for which the function ran, and returned."""
    stored: int = 0
    """Calls of those loaded whose result the store has confirmed."""
    failed: int = 0
    """Calls for which the function raised, or whose arguments have no key."""
    errors: tuple[Exception, ...] = ()
    """The first ten errors of calls that failed."""


class Warming(Struct, frozen=True):
    """The function whose results are brought into the store."""

    plan: CallPlan[..., Any]
    serve: Callable[[Runtime, CallPlan[..., Any], tuple[Any, ...], dict[str, Any]], Awaitable[object]]
    """Calls it."""


class _Count:
    """Counts the outcomes of calls, from the events of the cache."""

    def __init__(self) -> None:
        self.done = 0
        self.there = 0
        self.loaded = 0
        self.failed = 0
        self.errors: list[Exception] = []
        self._loaded: set[str] = set()
        self._filled: set[str] = set()
        self._counted: list[str] = []

    def note(self, event: Event) -> None:
        """Observe the cache."""
        if isinstance(event, Loaded):
            self._loaded.add(event.key)
        elif isinstance(event, Filled):
            self._filled.add(event.key)

    def returned(self, key: str) -> None:
        """Count a call that has its result."""
        if key in self._loaded:
            # Once: of several calls with one key the first one loads.
            self._loaded.discard(key)
            self.loaded += 1
            self._counted.append(key)
        else:
            self.there += 1

    def fail(self, error: Exception) -> None:
        """Count a call that failed."""
        self.failed += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(error)

    def result(self) -> Warmed:
        """Return what was counted."""
        stored = sum(key in self._filled for key in self._counted)
        return Warmed(self.there, self.loaded, stored, self.failed, tuple(self.errors))


async def warm(
    runtime: Runtime,
    function: Warming,
    calls: Iterable[tuple[Any, ...]],
    concurrency: int,
    progress: Progress | None,
) -> Warmed:
    """Call the function with each of ``calls``, so many at a time, and count the outcomes."""
    count = _Count()
    if runtime.reporter.off:
        return count.result()
    left = iter(calls)
    stop = runtime.reporter.observe(count.note)
    workers = [asyncio.create_task(_work(runtime, function, left, count, progress)) for _ in range(concurrency)]
    try:
        # It raises what `calls` or `progress` raised, or the error of a call whose arguments do not fit.
        await asyncio.gather(*workers)
    finally:
        stop()
        await end(*workers)
    return count.result()


async def _work(
    runtime: Runtime,
    function: Warming,
    left: Iterator[tuple[Any, ...]],
    count: _Count,
    progress: Progress | None,
) -> None:
    for args in left:
        await _call(runtime, function, args, count)
        count.done += 1
        if progress is not None:
            progress(count.done)


async def _call(runtime: Runtime, function: Warming, args: tuple[Any, ...], count: _Count) -> None:
    if not isinstance(args, tuple):
        message = f"a call is a tuple of arguments, not a {type(args).__name__}; write .warm([(1,), (2,)])"
        raise TypeError(message)
    plan = function.plan
    plan.fit(*args)
    try:
        key = plan.render(*args)
        await function.serve(runtime, plan, args, {})
    # What the function raises is no reason not to warm the rest. A call without a key would store nothing.
    except Exception as error:
        count.fail(error)
    else:
        count.returned(key)
