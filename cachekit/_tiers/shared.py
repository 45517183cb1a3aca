"""The shared tier: values in the store that all processes see."""

from __future__ import annotations

from collections.abc import Sequence

from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.outcome import MISS, Down, Found, Outcome
from cachekit._tiers.reporter import Reporter
from cachekit.clock import Clock
from cachekit.codecs import Codec
from cachekit.entry import stamp, timestamp, timestamp_of, value_bytes
from cachekit.errors import DecodeError, RoundTripError


class SharedTier:
    """Turns values into entries at prefixed keys, and back.

    Args:
        guard: The store behind its guard.
        prefix: Stands before every key.
        reporter: Where troubles with values go.
        clock: Tells the time.
    """

    def __init__(self, guard: Guard, prefix: str, reporter: Reporter, clock: Clock) -> None:
        self._guard = guard
        self._prefix = prefix
        self._clock = clock
        self.reporter = reporter

    def budget(self) -> Budget:
        """Return the deadline of one call."""
        return self._guard.budget()

    async def read(self, key: str, codec: Codec, name: str, budget: Budget) -> Outcome:
        """Return what stands at ``key``, decoded by ``codec``."""
        return self._decoded(await self._guard.get(self._prefix + key, budget), codec, name)

    async def take(self, key: str, codec: Codec, name: str, budget: Budget) -> Outcome:
        """Return what stands at ``key`` and remove it, in one step."""
        return self._decoded(await self._guard.take(self._prefix + key, budget), codec, name)

    async def fill(self, key: str, value: object, codec: Codec, ttl: float, name: str, budget: Budget) -> bool:
        """Store ``value`` for ``ttl`` seconds. Returns whether the store confirmed it."""
        data = self._encoded(value, codec, name)
        if data is None:
            return False
        ttl_ms = max(1, round(ttl * 1000))
        return await self._guard.set(self._prefix + key, data, ttl_ms, budget) is None

    async def invalidate(self, keys: Sequence[str], budget: Budget) -> bool:
        """Remove ``keys``. Returns whether the store confirmed it."""
        return await self._guard.delete([self._prefix + key for key in keys], budget) is None

    # --- rolling windows --------------------------------------------------------------------------

    async def push(self, key: str, item: dict[str, object], codec: Codec, *, limit: int, ttl: float, name: str) -> bool:
        """Put ``item``, with the time of now, at the head of a window. Returns whether it is confirmed."""
        now = self._clock.time()
        data = self._encoded(stamp(item, now), codec, name)
        if data is None:
            return False
        answer = await self._guard.push(
            self._prefix + key,
            data,
            self.budget(),
            limit=limit,
            ttl_ms=max(1, round(ttl * 1000)),
            oldest=timestamp(now - ttl),
        )
        return answer is None

    async def window(self, key: str, codec: Codec, *, count: int, ttl: float, name: str) -> list[dict[str, object]]:
        """Return up to ``count`` items, newest first, none older than ``ttl`` seconds."""
        raw = await self._guard.window(self._prefix + key, count, self.budget())
        if isinstance(raw, Down):
            return []
        oldest = timestamp(self._clock.time() - ttl)
        found = [self._decoded(item, codec, name) for item in raw if timestamp_of(item) >= oldest]
        return [outcome.value for outcome in found if isinstance(outcome, Found)]

    # --- values and bytes -------------------------------------------------------------------------

    def _decoded(self, raw: bytes | Down | None, codec: Codec, name: str) -> Outcome:
        if raw is None:
            return MISS
        if isinstance(raw, Down):
            return raw
        data = value_bytes(raw)
        if data is None:
            return MISS
        try:
            value = codec.decode(data)
        except DecodeError as error:
            self.reporter.uncached(name, "bytes", str(error))
            return MISS
        self.reporter.cached(name, "bytes")
        return Found(value)

    def _encoded(self, value: object, codec: Codec, name: str) -> bytes | None:
        try:
            data = codec.encode(value)
        except RoundTripError as error:
            self.reporter.uncached(name, "value", str(error))
            return None
        self.reporter.cached(name, "value")
        return data
