"""The user's function, and the fill behind it. The function runs outside every ``try`` about the store."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from cachekit._flow.plan import CallPlan
from cachekit._tiers.guard import Budget
from cachekit._tiers.shared import SharedTier
from cachekit.events import Filled, Loaded

R = TypeVar("R")


async def load(tier: SharedTier, plan: CallPlan[..., R], key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Run the function and return what it returns; what it raises passes through."""
    began = time.monotonic()
    result = await plan.function(*args, **kwargs)
    if tier.reporter.observers:
        tier.reporter.emit(Loaded(key, time.monotonic() - began))
    return result


async def load_and_fill(
    tier: SharedTier, plan: CallPlan[..., R], key: str, budget: Budget, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R:
    """Run the function, store what it returns if the plan says so, and return it."""
    result = await load(tier, plan, key, args, kwargs)
    ttl = plan.ttl_of(result, tier.reporter)
    if ttl is not None:
        filled = await tier.fill(key, result, plan.codec(tier.reporter), ttl, plan.name, budget)
        if filled and tier.reporter.observers:
            tier.reporter.emit(Filled(key, ttl))
    return result
