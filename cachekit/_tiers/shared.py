"""The shared tier: values in the store that all processes see, and the leases on their loads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from cachekit._tiers.breaker import Circuit
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.journal import Journal
from cachekit._tiers.near import NearTier
from cachekit._tiers.outcome import MISS, Distrusted, Down, Found, Outcome
from cachekit._tiers.reporter import Reporter
from cachekit.clock import Clock
from cachekit.codecs import Codec
from cachekit.entry import stamp, timestamp, timestamp_of, value_bytes
from cachekit.errors import UNSENDABLE, DecodeError, RoundTripError
from cachekit.stores.base import Lease

_PENDING: Final = Down("pending")
_DISTRUSTED: Final = Distrusted()


def _nothing() -> None:
    """Do nothing."""


class SharedTier:
    """Turns values into entries at prefixed keys, and back. Trusts nothing that the journal holds.

    Args:
        guard: The store behind its guard.
        journal: The invalidations that the store has not acknowledged.
        prefix: Stands before every key.
        reporter: Where troubles with values go.
        clock: Tells the time.
        near: What is in front of it; told of whatever this process changes.
    """

    def __init__(
        self,
        guard: Guard,
        journal: Journal,
        prefix: str,
        reporter: Reporter,
        clock: Clock,
        near: NearTier | None = None,
    ) -> None:
        self._guard = guard
        self.near = near
        """What is in front of it in this process, if the store tells what changes."""
        self.budget: Callable[[], Budget] = guard.budget
        """Returns the deadline of one call."""
        self.circuits: dict[tuple[asyncio.AbstractEventLoop, str], Circuit] = guard.circuits
        """Whether there is any is all that a healthy call asks, see `turned_away`."""
        self._prefix = prefix
        self._clock = clock
        self.journal = journal
        self.reporter = reporter
        self.distrusting: Callable[[], None] = _nothing
        """Called when a read meets a journal that is not empty: whoever replays it may have ended with its loop."""

    async def read(self, key: str, codec: Codec, name: str, budget: Budget) -> Outcome:
        """Return what stands at ``key``, decoded by ``codec``."""
        if self.journal and (doubt := self._doubt(key)):
            return doubt
        return self._decoded(await self._guard.get(self._prefix + key, budget), codec, name)

    async def read_near(self, key: str, codec: Codec, name: str, budget: Budget, near: NearTier) -> Outcome:
        """Return what stands at ``key``, as `read` does, and have ``near`` keep it if that may be."""
        # While it is not empty nothing is kept: what it holds is a miss here.
        mark = None if self.journal else near.mark(key)
        if mark is None:
            return await self.read(key, codec, name, budget)
        try:
            began = time.monotonic()
            answer = await self._guard.get_with_ttl(self._prefix + key, budget)
            if isinstance(answer, Down):
                return answer
            raw, seconds = answer
            # Asked again: it may have come to hold the key meanwhile.
            if self.journal and (doubt := self._doubt(key)):
                return doubt
            outcome = self._decoded(raw, codec, name)
            if isinstance(outcome, Found):
                near.keep(key, mark, outcome, codec, began + seconds)
            return outcome
        finally:
            near.unmark(key, mark)

    @property
    def healthy(self) -> bool:
        """Whether the store answers, and every invalidation has reached it."""
        return self._guard.healthy and not len(self.journal)

    def turned_away(self, key: str) -> Down | None:
        """Return the outcome of reading ``key`` if that is known without asking: the circuit breaker is open.

        None also when the journal has its say.
        """
        return None if self.journal else self._guard.turned_away("get", self._prefix + key)

    async def look(self, key: str, codec: Codec, name: str, budget: Budget) -> tuple[Outcome, bytes | None]:
        """Return what stands at ``key``, and the token of whoever holds its lease, as of one moment."""
        answer = await self._guard.look(self._prefix + key, budget)
        if isinstance(answer, Down):
            return answer, None
        raw, holder = answer
        if self.journal and (doubt := self._doubt(key)):
            return doubt, holder
        return self._decoded(raw, codec, name), holder

    async def take(self, key: str, codec: Codec, name: str, budget: Budget) -> Outcome:
        """Return what stands at ``key`` and remove it, in one step."""
        if self.journal and (doubt := self._doubt(key)):
            return doubt
        self._forget_near([key])
        try:
            return self._decoded(await self._guard.take(self._prefix + key, budget), codec, name)
        finally:
            self._forget_near([key])

    async def store(self, key: str, value: object, codec: Codec, ttl: float, name: str, budget: Budget) -> bool:
        """Store ``value`` for ``ttl`` seconds, whatever is loaded meanwhile. Returns whether it is confirmed."""
        data = self.encoded(value, codec, name)
        if data is None:
            return False
        mark = self.journal.mark()
        try:
            stored = await self._guard.set(self._prefix + key, data, _ms(ttl), budget) is None
        finally:
            self._forget_near([key])
        if stored:
            # What was to be removed is replaced.
            self.journal.remove([key], mark)
            self.journal.stored(key, ttl)
        return stored

    async def invalidate(self, keys: Sequence[str], budget: Budget) -> bool:
        """Remove ``keys`` and void the loads that are going on. Returns whether the store confirmed it.

        One that is not confirmed, its caller's cancellation included, is kept in the journal.
        """
        left = list(keys)
        # At once, and again once the store has: a read that is under way may bring what stood there.
        self._forget_near(keys)
        try:
            confirmed = await self._remove(left, budget)
        finally:
            self._forget_near(keys)
            if left:
                self.journal.add(left)
        return confirmed

    async def replay(self) -> bool:
        """Send one batch of the journal. Returns False when the store did not confirm all of it."""
        keys = self.journal.batch()
        left = list(keys)
        # First as well: what leaves the journal is not to be found near by another thread.
        self._forget_near(keys)
        await self._remove(left, self.budget())
        self._forget_near(keys)
        if len(left) < len(keys):
            self.journal.replayed(len(keys) - len(left))
        if left:
            # To the end of the order, so that what is refused does not stand in the way of the rest.
            self.journal.add(left)
        return not left

    async def _remove(self, left: list[str], budget: Budget) -> bool:
        """Remove the keys in ``left``, taking out of it what needs no further attempt. Returns whether all are gone."""
        mark = self.journal.mark()
        answer = await self._guard.delete([self._prefix + key for key in left], budget)
        if not isinstance(answer, Down):
            self.journal.remove(left, mark)
            left.clear()
            return True
        if answer.keys is not None:
            done = [key for key in left if self._prefix + key not in answer.keys]
            self.journal.remove(done, mark)
            left[:] = [key for key in left if key not in done]
        if not answer.of_key:
            return False
        if len(left) == 1:
            if answer.cause == UNSENDABLE:
                # Such a key can never have been stored either.
                self.journal.remove(left, mark)
                self.journal.refused(left)
                left.clear()
            return False
        # All at once: one after the other, the last would find no time left.
        alone = [[key] for key in left]
        removed = await asyncio.gather(*[self._remove(one, Budget(budget.left)) for one in alone])
        left[:] = [key for one in alone for key in one]
        return all(removed)

    def _forget_near(self, keys: Sequence[str]) -> None:
        if self.near is not None:
            self.near.forget(keys)

    def _doubt(self, key: str) -> Down | Distrusted | None:
        """Return why what stands at ``key`` is not to be trusted, if there is a reason."""
        self.distrusting()
        if self.journal.holds(key):
            return _PENDING
        return _DISTRUSTED if self.journal.distrusts(key) else None

    # --- leases -----------------------------------------------------------------------------------

    async def take_lease(
        self, key: str, token: bytes, lease: float, unless: bytes | None, codec: Codec, name: str, budget: Budget
    ) -> Found | Down | Lease | bytes:
        """Return the value if there is one by now, else the lease.

        Bytes that do not decode are returned as they are; given as ``unless`` they count as none.
        """
        raw = await self._guard.take_lease(self._prefix + key, token, _ms(lease), unless, budget)
        if not isinstance(raw, bytes):
            return raw
        found = self._decoded(raw, codec, name)
        if self.journal and self.journal.holds(key):
            # Invalidated while it was waited for, and the store does not know.
            return _PENDING
        return found if isinstance(found, Found) else raw

    async def seize_lease(self, key: str, token: bytes, lease: float, budget: Budget) -> bool:
        """Take the lease from whoever holds it. Returns whether the store confirmed it."""
        return await self._guard.seize_lease(self._prefix + key, token, _ms(lease), budget) is None

    async def renew_lease(self, key: str, token: bytes, lease: float) -> bool:
        """Keep the lease alive. Returns False when it is lost for good."""
        answer = await self._guard.renew_lease(self._prefix + key, token, _ms(lease), self.budget())
        return isinstance(answer, Down) or answer

    async def release_lease(self, key: str, token: bytes) -> bool:
        """Give the lease back, if it is still held. Returns False when that may be tried again."""
        answer = await self._guard.release_lease(self._prefix + key, token, self.budget())
        # A key that cannot be sent has never had one.
        return not isinstance(answer, Down) or answer.cause == UNSENDABLE

    async def until_asked(self, key: str, seconds: float) -> None:
        """Wait until the store may be asked for ``key`` again, and a little at least; no longer than ``seconds``."""
        await self._guard.until_asked(self._prefix + key, seconds)

    async def fill(self, key: str, data: bytes, token: bytes, ttl: float, budget: Budget) -> bool:
        """Store what was loaded under the lease, if ``token`` still holds it. Returns whether it did."""
        try:
            answer = await self._guard.fill(self._prefix + key, data, token, _ms(ttl), budget)
        finally:
            self._forget_near([key])
        if answer is True:
            self.journal.stored(key, ttl)
        return answer is True

    # --- life -------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End what goes on in the background of the running event loop."""
        if self.near is not None:
            await self.near.aclose()
        await self._guard.aclose()

    # --- rolling windows --------------------------------------------------------------------------

    async def push(self, key: str, item: dict[str, object], codec: Codec, *, limit: int, ttl: float, name: str) -> bool:
        """Put ``item``, with the time of now, at the head of a window. Returns whether it is confirmed."""
        # What is to be forgotten must not grow again before it was; what may have been is removed first.
        budget = self.budget()
        doubt = self._doubt(key) if self.journal else None
        if isinstance(doubt, Down) or (doubt and not await self.invalidate([key], budget)):
            return False
        now = self._clock.time()
        data = self.encoded(stamp(item, now), codec, name)
        if data is None:
            return False
        answer = await self._guard.push(
            self._prefix + key,
            data,
            budget,
            limit=limit,
            ttl_ms=_ms(ttl),
            oldest=timestamp(now - ttl),
        )
        if answer is None:
            self.journal.stored(key, ttl)
        return answer is None

    async def window(self, key: str, codec: Codec, *, count: int, ttl: float, name: str) -> list[dict[str, object]]:
        """Return up to ``count`` items, newest first, none older than ``ttl`` seconds."""
        if self.journal and self._doubt(key):
            return []
        raw = await self._guard.window(self._prefix + key, count, self.budget())
        if isinstance(raw, Down):
            return []
        oldest = timestamp(self._clock.time() - ttl)
        found = [self._decoded(item, codec, name) for item in raw if timestamp_of(item) >= oldest]
        return [outcome.value for outcome in found if isinstance(outcome, Found)]

    # --- values and bytes -------------------------------------------------------------------------

    def encoded(self, value: object, codec: Codec, name: str) -> bytes | None:
        """Return ``value`` as bytes, or None, with one warning, when it would not come back as it is."""
        try:
            data = codec.encode(value)
        except RoundTripError as error:
            self.reporter.uncached(name, "value", str(error))
            return None
        self.reporter.cached(name, "value")
        return data

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
        if self.reporter.troubles:
            self.reporter.cached(name, "bytes")
        return Found(value, data)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
