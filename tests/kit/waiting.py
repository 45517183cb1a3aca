"""Waiting in tests: look again and again until a condition holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 120.0
"""Seconds within which a condition that is sure to come must hold, on the busiest machine."""
LOOK = 0.005
"""Seconds between two looks."""


async def until(condition: Callable[[], object], step: Callable[[], Awaitable[object]] | None = None) -> None:
    """Wait until ``condition`` holds. Before each look, do ``step``.

    Raises:
        TimeoutError: It did not hold within `PATIENCE`.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            if step is not None:
                await step()
            if condition():
                return
            await asyncio.sleep(LOOK)
