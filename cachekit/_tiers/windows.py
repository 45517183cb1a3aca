"""Rolling windows: lists of items with a timestamp, bounded in number and age."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cachekit._tiers.coherence import Coherence, milliseconds
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import Distrusted, Down, Found
from cachekit._tiers.values import Values
from cachekit.clock import Clock
from cachekit.codecs import Codec
from cachekit.entry import stamp, timestamp, timestamp_of
from cachekit.stores.base import WindowBounds


class Windows:
    """The windows of one cache.

    Args:
        coherence: Where items come from, and go to.
        values: Encodes and decodes them.
        budget: Returns the deadline of one call.
        clock: Tells how old items are.
    """

    def __init__(self, coherence: Coherence, values: Values, budget: Callable[[], Budget], clock: Clock) -> None:
        self._coherence = coherence
        self._budget = budget
        self._values = values
        self._clock = clock

    async def push(self, key: str, item: dict[str, object], codec: Codec, *, limit: int, ttl: float) -> bool:
        """Put ``item``, with the time of now, at the head of a window. Returns whether it is confirmed."""
        budget = self._budget()
        if not await self._coherence.may_grow(key, budget):
            return False
        now = self._clock.time()
        entry = self._values.encoded(stamp(item, now), codec)
        bounds = WindowBounds(limit, milliseconds(ttl), timestamp(now - ttl))
        return entry is not None and await self._coherence.push(key, entry.data, bounds, budget)

    async def recent(self, key: str, codec: Codec, *, count: int, ttl: float) -> list[dict[str, object]]:
        """Return up to ``count`` items, newest first, none older than ``ttl`` seconds."""
        items = await self._coherence.window(key, count, self._budget())
        if isinstance(items, (Down, Distrusted)) or not isinstance(items, Iterable):
            return []
        oldest = timestamp(self._clock.time() - ttl)
        found = [self._values.decoded(item, codec) for item in items if timestamp_of(item) >= oldest]
        return [outcome.value for outcome in found if isinstance(outcome, Found)]
