"""Invalidations of many calls of one function, in one round trip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cachekit._flow.batch_plan import Asked
from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._flow.write import invalidate
from cachekit.errors import RenderError


async def invalidate_ids(runtime: Runtime, asked: Asked[Any, Any]) -> bool:
    """Invalidate the keys of all ids of a batch. Returns whether the store acknowledged it.

    An id without a key is left out, with one warning, and then False is returned.
    """
    one, keys, rendered = asked.plan.one, list[str](), True
    key_of = asked.key_of
    for identity in asked.ids:
        try:
            keys.append(key_of(identity))
        except RenderError as error:
            runtime.reporter.skipped(one.name, "argument", str(error))
            rendered = False
    return await _invalidate(runtime, keys, one.name) and rendered


async def invalidate_many(runtime: Runtime, plan: CallPlan[..., Any], calls: Iterable[tuple[Any, ...]]) -> bool:
    """Invalidate the keys of many calls. Returns as `invalidate_ids`.

    Raises:
        TypeError: Arguments do not fit the function.
    """
    keys = [plan.key_of(runtime.reporter, args, {}) for args in calls]
    rendered = [key for key in keys if key is not None]
    return await _invalidate(runtime, rendered, plan.name) and len(rendered) == len(keys)


async def _invalidate(runtime: Runtime, keys: list[str], function: str) -> bool:
    return not keys or await invalidate(runtime, [*dict.fromkeys(keys)], function=function)
