"""Leases in the store: which load of a key, in any process, may store what it brings."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from math import inf
from typing import Any

from msgspec import Struct

from cachekit._tiers.coherence import Coherence, Confirm, Confirmation, milliseconds
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.outcome import Down
from cachekit.errors import DENIED, UNSENDABLE
from cachekit.stores.scripts import (
    NO_VALUE,
    AcquireLease,
    AcquireStaleLease,
    Copy,
    Gone,
    Lease,
    Paused,
    PauseLease,
    ReleaseLease,
    RenewLease,
    Script,
)


class Seen(Struct, frozen=True):
    """What a caller of a function with stale windows has seen before it asks for the lease."""

    left: float = -inf
    """Seconds for which the server was going to keep the value, as of the read; minus infinity if it had none."""
    suffix: bytes = b""
    """Bytes that end in it count as the bytes that it saw, too."""
    copy: Copy = Copy.NONE

    @property
    def floor_ms(self) -> int:
        """The PTTL that it saw, or a little more: the same value never has more left later."""
        return NO_VALUE if self.left < -1 else round(self.left * 1000) + 1


class Question(Struct, frozen=True):
    """A question for the lease of one key."""

    key: str
    token: bytes
    unreadable: bytes | None
    """Bytes at the key that count as none."""
    seen: Seen | None
    """For a function with stale windows."""

    def script(self, lease_ms: int) -> Script[Any]:
        """Return the script that asks it."""
        seen = self.seen
        if seen is None:
            return AcquireLease(self.token, lease_ms, self.unreadable)
        suffix = seen.suffix if self.unreadable is None else self.unreadable
        return AcquireStaleLease(self.token, lease_ms, seen.floor_ms, suffix, seen.copy)


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

    async def acquire_many(
        self, questions: Sequence[Question], lease: float, budget: Budget
    ) -> list[bytes | Lease | Gone | Down]:
        """Ask each question for a lease, as `acquire` and `acquire_stale` do, in one round trip."""
        ms = milliseconds(lease)
        steps: list[tuple[str, Script[Any]]] = [(question.key, question.script(ms)) for question in questions]
        return await self._guard.run_many(steps, budget)

    def acquire_stale(
        self, key: str, token: bytes, lease: float, seen: Seen, budget: Budget
    ) -> Awaitable[bytes | Lease | Gone | Down]:
        """Return the bytes at ``key`` if they are newer than the ones that the caller has ``seen``, else the lease."""
        script = AcquireStaleLease(token, milliseconds(lease), seen.floor_ms, seen.suffix, seen.copy)
        return self._guard.ask(self._store.run, key, budget, script)

    async def seize(self, key: str, token: bytes, lease: float, budget: Budget) -> bool:
        """Take the lease, from any load that holds it. Returns whether the store confirmed it."""
        ms = milliseconds(lease)
        return await self._guard.ask(self._store.seize_lease, key, budget, token, lease_ms=ms) is None

    def fill(
        self, key: str, data: bytes, token: bytes, ttl: float, budget: Budget
    ) -> Awaitable[Confirmation | Confirm]:
        """Store loaded ``data`` for ``ttl``, if ``token`` still holds the lease, as `Coherence.fill` does."""
        return self._coherence.fill(key, data, token, ttl, budget)

    async def pause(self, key: str, token: bytes, seconds: float, budget: Budget) -> Paused | Down:
        """Put a pause in the place of the lease, if it is still held and a value stands; else give it back."""
        return await self._guard.ask(self._store.run, key, budget, PauseLease(token, milliseconds(seconds)))

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
