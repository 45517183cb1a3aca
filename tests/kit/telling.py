"""Events in tests: what they tell, without what differs from run to run and from test to test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from cachekit.events import Event


def bare(events: Iterable[Event]) -> list[Event]:
    """Return ``events`` without the names of functions (``""``) and without durations (0)."""
    return [_bare(event) for event in events]


def _bare(event: Event) -> Event:
    blank: dict[str, Any] = {"function": "", "seconds": 0.0}
    return replace(event, **{name: blank[name] for name in blank if name in event.__struct_fields__})
