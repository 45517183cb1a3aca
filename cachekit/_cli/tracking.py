"""Whether a server reports changes: the doctor tracks as a near cache does, and waits for a report of a change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from cachekit._cli.lines import Line, Patient, ok
from cachekit._cli.rights import own_key
from cachekit.errors import StoreError, StoreTimeoutError
from cachekit.stores.base import TrackingStore
from cachekit.stores.visits import Door, visit

_LIFE: Final = 10_000
"""Milliseconds for which the doctor's own key lives."""


async def check_tracking(store: TrackingStore, doors: Sequence[Door], patient: Patient) -> Line:
    """Return the line about tracking: each of the servers has to report a change."""
    expected = {own_key(door, patient.prefix) for door in doors}
    reported, refused, news = set[str](), list[StoreError](), asyncio.Event()

    def changed(keys: Sequence[str] | None) -> None:
        reported.update(keys or ())
        news.set()

    def state(error: StoreError | None) -> None:
        if error is not None and not isinstance(error, StoreTimeoutError):
            refused.append(error)
        news.set()

    tracking, asked = store.track(patient.prefix, changed, state), False
    try:
        async with asyncio.timeout(patient.patience):
            while not refused and not expected <= reported:
                await news.wait()
                news.clear()
                # Once, and not before the server reports changes.
                change, asked = bool(tracking.until) and not asked, asked or bool(tracking.until)
                await _change(doors if change else (), patient)
    except (TimeoutError, StoreError) as error:
        refused += [error] if isinstance(error, StoreError) else []
    finally:
        await asyncio.gather(*tracking.close(), return_exceptions=True)
    return _judged(patient, missing=expected - reported, refused=refused)


async def _change(doors: Sequence[Door], patient: Patient) -> None:
    for door in doors:
        async with visit(door, patient.patience) as server:
            await server.ask("SET", own_key(door, patient.prefix), "1", "PX", _LIFE)


def _judged(patient: Patient, *, missing: set[str], refused: Sequence[StoreError]) -> Line:
    if not missing:
        return ok("tracking", "every server reports changes: near caches work")
    if refused:
        cause = refused[0].cause
        advice = "allow what the line `right: near` names; without it, near=… has no effect, and nothing else is lost"
        return Line("tracking", patient.lack("near"), f"refused ({cause})", advice)
    text = f"no report of a change within {patient.patience:g} s"
    advice = "look for a proxy between that drops pushes; without them, near=… has no effect"
    return Line("tracking", patient.lack("near"), text, advice)
