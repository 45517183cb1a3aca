"""Invalidations: of one call's key, and of the keys that a writing function names."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from cachekit._flow.plan import CallPlan, check_function, describe
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.shared import SharedTier
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
        self.name = describe(function)
        if not templates:
            message = '@invalidates needs the keys it invalidates; write @invalidates("profile:<user_id>")'
            raise DecorationError(message)
        self._render = [compile_key(template, signature, with_result=True) for template in templates]

    def keys_of(self, result: R, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Return the keys to invalidate; one that cannot be rendered is left out, with one warning."""
        keys = []
        for render in self._render:
            try:
                keys.append(render(result, *args, **kwargs))
            except RenderError as error:
                reporter.uncached(self.name, "argument", f"a key that it should invalidate is unknown: {error}")
            else:
                reporter.cached(self.name, "argument")
        return keys


async def write(tier: SharedTier, plan: WritePlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Run the function; when it has returned normally, invalidate its keys in one round trip."""
    result = await plan.function(*args, **kwargs)
    keys = plan.keys_of(result, tier.reporter, args, kwargs)
    if keys:
        await invalidate(tier, keys)
    return result


async def invalidate(tier: SharedTier, keys: Sequence[str]) -> bool:
    """Invalidate ``keys``. Returns whether the store acknowledged it."""
    acknowledged = await tier.invalidate(keys, tier.budget())
    if tier.reporter.observers:
        tier.reporter.emit(Invalidated(tuple(keys), acknowledged))
    return acknowledged


async def invalidate_call(
    tier: SharedTier, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Invalidate the key of one call. Returns whether the store acknowledged it."""
    key = plan.key_of(tier.reporter, args, kwargs)
    return key is not None and await invalidate(tier, [key])
