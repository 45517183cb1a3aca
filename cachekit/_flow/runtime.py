"""What the calls of one cache share."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from cachekit._flow.background import Background
from cachekit._flow.flight import Flights
from cachekit._tiers.shared import SharedTier

# Seconds between attempts to replay the journal: doubling, with jitter, so that processes do not come together.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.2

DRAIN: Final = 1.0
"""Seconds that closing a cache spends on leases that are to be given back, at most, and as much on the journal."""


class Runtime:
    """The tier, the flights and the background of one cache.

    Args:
        tier: Where values are.
        near: Whether results of functions that do not say so are kept near as well.
    """

    def __init__(self, tier: SharedTier, *, near: bool = False) -> None:
        self.tier = tier
        self.near = near
        self.flights: Flights = Flights()
        self.background: Background = Background()
        # One for each event loop: a loop may stand still, or end, and another goes on.
        self._replays: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        tier.distrusting = self.replay_soon

    def replay_soon(self) -> None:
        """See to it that the journal is replayed when the store answers again."""
        loop = asyncio.get_running_loop()
        replay = self._replays.get(loop)
        if replay is None or replay.done():
            for other in [other for other in list(self._replays) if other.is_closed()]:
                self._replays.pop(other, None)
            started = self.background.start(loop, self._replay_all)
            if started is not None:
                self._replays[loop] = started

    async def _replay_all(self) -> None:
        pause = _FIRST_PAUSE
        while len(self.tier.journal):
            if await self.tier.replay():
                pause = _FIRST_PAUSE
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def aclose(self) -> None:
        """End the background work, and send what is left of the journal, for at most `DRAIN` seconds each."""
        replay = self._replays.pop(asyncio.get_running_loop(), None)
        if replay is not None:
            replay.cancel()
        await self.background.aclose(DRAIN)
        try:
            async with asyncio.timeout(DRAIN):
                await self._replay_all()
        except TimeoutError:
            self.tier.journal.abandon()
        await self.tier.aclose()
