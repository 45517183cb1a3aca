"""Warming: the results of many calls are brought into the store, a bounded number of calls at a time."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from msgspec import Struct

from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._tiers.background import end
from cachekit.events import Event, Filled, Hit, ServedStale, Shared

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
    """Calls whose result was in the store, or was loaded by another call meanwhile, here or in another process."""
    loaded: int = 0
    """Calls for which the function ran, and returned."""
    stored: int = 0
    """Calls of those loaded whose result the store has confirmed. One inside `Cache.after_commit` whose key is to be
    invalidated there runs uncached, so it is loaded and not stored."""
    failed: int = 0
    """Calls for which the function raised, or whose arguments have no key."""
    errors: tuple[Exception, ...] = ()
    """The first ten errors of calls that failed."""


class Warming(Struct, frozen=True):
    """The function whose results are brought into the store."""

    plan: CallPlan[..., Any]
    serve: Callable[[Runtime, CallPlan[..., Any], tuple[Any, ...], dict[str, Any]], Awaitable[object]]
    """Calls it."""


class _Call:
    """A call of the warm-up, and what the events that it made say."""

    __slots__ = ("count", "filled", "key", "there")

    def __init__(self, count: _Count, key: str) -> None:
        self.count = count
        self.key = key
        self.there = False
        """Whether it has its result from the store, or from the load of another call. Otherwise the function ran."""
        self.filled = False


_CALL: Final[ContextVar[_Call | None]] = ContextVar("cachekit warm-up", default=None)
"""The call that makes an event: an observer sees those of all calls of the cache, and a key may have several."""


class _Count:
    """Counts the outcomes of calls, from the events that they make."""

    def __init__(self) -> None:
        self.done = 0
        self.there = 0
        self.failed = 0
        self.errors: list[Exception] = []
        self._loaded: list[_Call] = []

    def note(self, event: Event) -> None:
        """Observe the cache."""
        call = _CALL.get()
        if call is None or call.count is not self:
            return
        if isinstance(event, Filled):
            call.filled = call.filled or event.key == call.key
        elif isinstance(event, (Hit, ServedStale, Shared)):
            call.there = call.there or event.key == call.key

    def returned(self, call: _Call) -> None:
        """Count a call that has its result."""
        if call.there:
            self.there += 1
        else:
            self._loaded.append(call)

    def fail(self, error: Exception) -> None:
        """Count a call that failed."""
        self.failed += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(error)

    def result(self) -> Warmed:
        """Return what was counted."""
        # Asked for at the end: the store may confirm a value when its call has returned.
        stored = sum(call.filled for call in self._loaded)
        return Warmed(self.there, len(self._loaded), stored, self.failed, tuple(self.errors))


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
    workers: list[asyncio.Task[None]] = []
    try:
        # A worker for each of the first calls: there may be far fewer of them than may go on at the same time.
        for first in itertools.islice(left, min(concurrency, sys.maxsize)):
            some = itertools.chain([first], left)
            workers.append(asyncio.create_task(_work(runtime, function, some, count, progress)))
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
        call = _Call(count, plan.render(*args))
        _CALL.set(call)
        await function.serve(runtime, plan, args, {})
    # What the function raises is no reason not to warm the rest. A call without a key would store nothing.
    except Exception as error:
        count.fail(error)
    else:
        count.returned(call)
