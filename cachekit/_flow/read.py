"""The path of one call: render the key, look, and do what the verdict says."""

from __future__ import annotations

from typing import Any, TypeVar

from cachekit._flow.load import load, load_and_fill
from cachekit._flow.plan import CallPlan
from cachekit._flow.verdict import Verdict, verdict
from cachekit._tiers.outcome import MISS, Found, Miss
from cachekit._tiers.shared import SharedTier
from cachekit.events import Hit
from cachekit.events import Miss as Missed

R = TypeVar("R")


async def call(tier: SharedTier, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Return what the function returns for these arguments: a hit, or a load."""
    try:
        key = plan.key_of(tier.reporter, args, kwargs)
    except TypeError:
        # The arguments do not fit the signature; the function says so better than its key could.
        key = None
    if key is None:
        return await plan.function(*args, **kwargs)
    budget = tier.budget()
    outcome = await tier.read(key, plan.codec(tier.reporter), plan.name, budget)
    decided = verdict(outcome)
    if tier.reporter.observers:
        tier.reporter.emit(Hit(key) if decided is Verdict.SERVE else Missed(key))
    if isinstance(outcome, Found):
        value: R = outcome.value
        return value
    if decided is Verdict.LOAD_FILL:
        return await load_and_fill(tier, plan, key, budget, args, kwargs)
    return await load(tier, plan, key, args, kwargs)


async def refresh(tier: SharedTier, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Load now and fill, whatever is cached."""
    key = plan.key_of(tier.reporter, args, kwargs)
    if key is None:
        return await plan.function(*args, **kwargs)
    return await load_and_fill(tier, plan, key, tier.budget(), args, kwargs)


async def peek(tier: SharedTier, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R | Miss:
    """Return the cached value or MISS; never load."""
    key = plan.key_of(tier.reporter, args, kwargs)
    if key is None:
        return MISS
    outcome = await tier.read(key, plan.codec(tier.reporter), plan.name, tier.budget())
    return outcome.value if isinstance(outcome, Found) else MISS


async def take(tier: SharedTier, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R | Miss:
    """Return the cached value and remove it in one step, or MISS; never load."""
    key = plan.key_of(tier.reporter, args, kwargs)
    if key is None:
        return MISS
    outcome = await tier.take(key, plan.codec(tier.reporter), plan.name, tier.budget())
    return outcome.value if isinstance(outcome, Found) else MISS
