"""Invalidations: of one call's key, and of the keys that a writing function names."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from cachekit._flow.commit import open_block
from cachekit._flow.plan import CallPlan, check_function, describe
from cachekit._flow.runtime import Runtime
from cachekit._tiers.reporter import Reporter
from cachekit.errors import DecorationError, RenderError
from cachekit.events import Invalidated
from cachekit.keys import compile_key

P = ParamSpec("P")
R = TypeVar("R")


class WritePlan(Generic[P, R]):
    """Which keys a function invalidates after it has returned.

    Args:
        function: The ``async def``, not bound.
        templates: At least one key template; each may use the result, as ``<return.id>``.

    Raises:
        DecorationError: The function or a template cannot be decorated.
    """

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], templates: Sequence[str]) -> None:
        signature = check_function(function, "invalidates")
        self.function = function
        self.name: str = describe(function)
        if not templates:
            message = '@invalidates needs the keys it invalidates; write @invalidates("profile:<user_id>")'
            raise DecorationError(message)
        self._render = [(template, compile_key(template, signature, with_result=True)) for template in templates]

    def keys_of(self, result: R, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Return the keys to invalidate; one that cannot be rendered is left out, with one warning."""
        keys = []
        for template, render in self._render:
            try:
                keys.append(render(result, *args, **kwargs))
            except RenderError as error:
                text = f"{self.name} did not invalidate {template!r}, which may now be out of date: {error}"
                reporter.incident(self.name, "argument", text)
            else:
                reporter.resolved(self.name, "argument")
        return keys


async def write(runtime: Runtime, plan: WritePlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Run the function; when it has returned normally, invalidate its keys in one round trip."""
    result = await plan.function(*args, **kwargs)
    keys = plan.keys_of(result, runtime.reporter, args, kwargs)
    if keys:
        await invalidate(runtime, keys)
    return result


async def invalidate(runtime: Runtime, keys: Sequence[str]) -> bool:
    """Invalidate ``keys``, or collect them for the end of an enclosing `after_commit`.

    Returns whether the store acknowledged it. If it did not, the journal replays it.
    """
    block = open_block(runtime)
    if block is not None:
        block.keys.update(dict.fromkeys(keys))
        return False
    # First, so that no call that starts from now on joins a load that began before.
    runtime.flights.void(keys)
    coherence = runtime.coherence
    acknowledged = False
    try:
        acknowledged = await coherence.invalidate(keys, runtime.budget())
    finally:
        if not acknowledged:
            # Again: a flight that was opened since the first time may wait for a load, elsewhere, that began before.
            runtime.flights.void(keys)
    # Not for a caller that is cancelled: its loop may be ending. The next read or invalidation sees to it then.
    if coherence.journal:
        coherence.replay.soon()
    if runtime.reporter.observers:
        runtime.reporter.emit(Invalidated(tuple(keys), acknowledged))
    return acknowledged


async def invalidate_call(
    runtime: Runtime, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Invalidate the key of one call. Returns whether the store acknowledged it."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    return key is not None and await invalidate(runtime, [key])
