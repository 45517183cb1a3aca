"""Leases in the store: which load of a key, in any process, may store what it brings."""

from __future__ import annotations

from collections.abc import Awaitable

from cachekit._tiers.coherence import Coherence, Confirm, milliseconds
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.outcome import Down
from cachekit.errors import DENIED, UNSENDABLE
from cachekit.stores.scripts import AcquireLease, Lease, ReleaseLease, RenewLease


class Leases:
    """The leases on the loads of one cache. All durations are seconds.

    Args:
        guard: The door to the store.
        coherence: Knows the keys that this process has invalidated, and stores loaded values.
    """

    def __init__(self, guard: Guard, coherence: Coherence) -> None:
        self._guard = guard
        self._store = guard.store
        self._coherence = coherence

    # This one and `fill` are not `async`: each would cost a miss one more coroutine.
    def acquire(
        self, key: str, token: bytes, lease: float, unreadable: bytes | None, budget: Budget
    ) -> Awaitable[bytes | Lease | Down]:
        """Return the bytes at ``key`` if there are any by now, else the lease; ``unreadable`` bytes count as none."""
        script = AcquireLease(token, milliseconds(lease), unreadable)
        return self._guard.ask(self._store.run, key, budget, script)

    async def seize(self, key: str, token: bytes, lease: float, budget: Budget) -> bool:
        """Take the lease from whichever load holds it. Returns whether the store confirmed it."""
        ms = milliseconds(lease)
        return await self._guard.ask(self._store.seize_lease, key, budget, token, lease_ms=ms) is None

    def fill(self, key: str, data: bytes, token: bytes, ttl: float, budget: Budget) -> Awaitable[bool | Confirm]:
        """Store loaded ``data`` for ``ttl``, if ``token`` still holds the lease, as `Coherence.fill` does."""
        return self._coherence.fill(key, data, token, ttl, budget)

    async def renew(self, key: str, token: bytes, lease: float) -> bool:
        """Keep the lease alive. Returns False when it is lost for good."""
        script = RenewLease(token, milliseconds(lease))
        answer = await self._guard.ask(self._store.run, key, self._guard.budget(), script)
        # What an ACL refuses, it refuses again.
        return answer.cause != DENIED if isinstance(answer, Down) else answer

    async def release(self, key: str, token: bytes, budget: Budget) -> bool | None:
        """Give the lease back, if it is still held. Returns None when that may be tried again.

        Returns False when it was not held any more, or is left to its expiry, since the event loop is ending.
        """
        answer = await self._guard.ask(self._store.run, key, budget, ReleaseLease(token))
        if isinstance(answer, Down):
            # A key that cannot be sent has never had one. An ACL that refuses it refuses it again.
            return False if answer.cause in {UNSENDABLE, DENIED} else None
        return answer

    async def until_asked(self, key: str, seconds: float) -> None:
        """Wait until the store may be asked for ``key`` again, and a little at least; no longer than ``seconds``."""
        await self._guard.until_asked(key, seconds)
