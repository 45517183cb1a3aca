"""Coherence: the store, believed only as far as this process's own changes allow. Journal and near tier, woven in once.

All reads and changes of entries go through this module; questions about leases alone, and tracking, do not:

- The journal answers a read first: a key in it is a miss in this process, also if the store has a value.
- A change makes the near tiers of the process forget its keys once the store has answered, since a read that is under
  way may bring the old value. A removal does so before the store is asked as well.
- A change that the store has acknowledged settles what the journal holds; an invalidation that it has not is kept.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar, cast

from cachekit._tiers.background import Background
from cachekit._tiers.generations import Generations
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.journal import BATCH, Journal
from cachekit._tiers.near import NEAR_TIERS, Mark, NearTier, NearTimes
from cachekit._tiers.outcome import Distrusted, Down, Found, Unconfirmed
from cachekit._tiers.replay import Replay
from cachekit.codecs import Codec
from cachekit.errors import DENIED, UNSENDABLE
from cachekit.loops import detached
from cachekit.stores.base import TimedStore, Window
from cachekit.stores.scripts import Expire, Fill, OpenWindow, Push, Touch

T = TypeVar("T")

Confirmation: TypeAlias = bool | Down
"""Whether a value was stored: False if its load was voided, a `Down` if the store has failed."""

Confirm: TypeAlias = Callable[[], Coroutine[Any, Any, Confirmation]]
"""Waits for a fill that is under way."""

_SOON: Final = 0.05
"""Seconds after which the journal is replayed for a caller that was cancelled."""

_LEAST: Final = 0.001
"""Seconds that a fill is waited for at least."""

_SPARE: Final = 1.0
"""Seconds for which a window has its generation beyond the time that the first push has. A push prolongs it."""

_PENDING: Final = Down("pending")
_DISTRUSTED: Final = Distrusted()


class Coherence:
    """The store, believed only as far as the journal allows, and the near tier that follows its changes.

    Args:
        guard: The door to the store.
        journal: The invalidations that the store has not acknowledged.
        near: The values that this process keeps, if the store reports changes.
        background: Owns the replay of the journal.
    """

    def __init__(self, guard: Guard, journal: Journal, near: NearTier | None, background: Background) -> None:
        self._guard = guard
        self._store = guard.store
        self.journal = journal
        self.near = near
        self.times: bool = guard.times
        """Whether the store tells for how long it will keep a value."""
        self.generations: Generations = Generations()
        self.replay: Replay = Replay(journal, self.send_batch, background, self._retry_denied)
        # The connections on which an ACL has denied the removal of a key. Such an answer is final for a connection.
        self._denying: weakref.WeakSet[object] = weakref.WeakSet()

    # --- reading ----------------------------------------------------------------------------------

    # Not `async`: it would cost a hit one more coroutine.
    def get(self, key: str, budget: Budget) -> Awaitable[bytes | Down | Distrusted | None]:
        """Return the bytes at ``key``."""
        if self.journal and (override := self._override(key)):
            return _answered(override)
        return self._guard.get(key, budget)

    def rejected(self, key: str) -> Down | None:
        """Return the outcome of reading ``key`` if that is known without asking: the circuit breaker is open.

        None also while the journal is not empty: it is asked first.
        """
        return None if self.journal else self._guard.rejected(key)

    async def get_with_lease(self, key: str, budget: Budget) -> tuple[bytes | Down | Distrusted | None, bytes | None]:
        """Return the bytes at ``key``, and the token that holds its lease, as of one moment."""
        # The store is asked in any case: a key that is distrusted has a holder all the same.
        before = self._override(key) if self.journal else None
        answer = await self._guard.ask(self._store.get_with_lease, key, budget)
        if isinstance(answer, Down):
            return answer, None
        raw, holder = answer
        return before or (self._override(key) if self.journal else None) or raw, holder

    async def window(self, key: str, count: int, budget: Budget) -> Window | Down | Distrusted:
        """Return the newest ``count`` items of the window at ``key``, and note its generation for the next push."""
        if self.journal and (override := self._override(key)):
            return override
        removals = self.generations.removals
        window = await self._guard.ask(self._store.window, key, budget, count)
        if isinstance(window, Window) and removals == self.generations.removals:
            self.generations.note(key, window.generation)
        return window

    @contextmanager
    def near_read(self, key: str, tags: Sequence[str] = ()) -> Generator[NearRead | None, None, None]:
        """Read ``key``, with its ``tags``, so that its value may be kept near; None when nothing may be kept."""
        near = self.near
        # While an invalidation is pending nothing is kept: its key is a miss here.
        mark = None if near is None or len(self.journal) else near.mark(key)
        if near is None or mark is None:
            yield None
            return
        marks = [one for tag in tags if (one := near.mark(tag)) is not None]
        try:
            yield NearRead(near, mark, marks) if len(marks) == len(tags) else None
        finally:
            near.unmark(mark)
            for one in marks:
                near.unmark(one)

    # Not `async`, as `get`.
    def get_with_ttl(self, key: str, budget: Budget) -> Awaitable[tuple[bytes | None, float] | Down | Distrusted]:
        """Return the bytes at ``key``, and for how many seconds they will be there."""
        if self.journal and (override := self._override(key)):
            return _answered(override)
        return self._guard.get_with_ttl(key, budget)

    async def get_near(self, key: str, budget: Budget) -> tuple[bytes | None, float] | Down | Distrusted:
        """Return as `get_with_ttl`, for a value that is kept near."""
        answer = await self.get_with_ttl(key, budget)
        if isinstance(answer, Down) or not self.journal:
            return answer
        # Asked behind the store: the journal may have come to hold the key meanwhile.
        return self._override(key) or answer

    async def get_many(
        self, keys: Sequence[str], budget: Budget, *, timed: bool
    ) -> list[bytes | tuple[bytes | None, float] | Down | Distrusted | None]:
        """Return for each of ``keys`` as `get` does, or if ``timed`` as `get_with_ttl`, in one round trip."""
        ask: Any = self._guard.get_many_with_ttl if timed else self._guard.get_many
        if not self.journal:
            answers: list[Any] = await ask(keys, budget)
            if not self.journal:
                return answers
        else:
            known = {key: override for key in keys if (override := self._override(key))}
            asked = [key for key in keys if key not in known]
            found = iter(await ask(asked, budget) if asked else ())
            answers = [known[key] if key in known else next(found) for key in keys]
        # Asked behind the store as well: the journal may have come to hold a key meanwhile.
        return [self._override(key) or answer for key, answer in zip(keys, answers, strict=True)]

    async def get_with_lease_and_ttl(
        self, key: str, budget: Budget
    ) -> tuple[bytes | Down | Distrusted | None, bytes | None, float]:
        """Return as `get_with_lease`, and for how many seconds the bytes will be there."""
        before = self._override(key) if self.journal else None
        answer = await self._guard.ask(cast("TimedStore", self._store).get_with_lease_and_ttl, key, budget)
        if isinstance(answer, Down):
            return answer, None, 0.0
        raw, holder, left = answer
        return before or (self._override(key) if self.journal else None) or raw, holder, left

    def override(self, key: str, tags: Sequence[str]) -> Down | Distrusted | None:
        """Return the outcome that the journal puts in place of a value at ``key`` that depends on ``tags``."""
        override = self._override(key)
        return _PENDING if any(map(self.journal.holds, tags)) else override

    def pending(self, key: str) -> bool:
        """Return whether this process has invalidated ``key`` and the store has not acknowledged it, or may have."""
        return bool(self.journal) and (self.journal.holds(key) or self.journal.distrusts(key))

    def _override(self, key: str) -> Down | Distrusted | None:
        """Return the outcome that the journal puts in place of a value at ``key``, if it has a reason."""
        if len(self.journal):
            # The task that replays may have ended with its loop.
            self.replay.soon()
        if self.journal.holds(key):
            return _PENDING
        return _DISTRUSTED if self.journal.distrusts(key) else None

    # --- changing ---------------------------------------------------------------------------------

    async def take(self, key: str, budget: Budget) -> bytes | Down | Distrusted | None:
        """Return the bytes at ``key`` and remove it, in one step."""
        if self.journal and (override := self._override(key)):
            return override
        with self._removing([key]):
            return await self._guard.ask(self._store.get_and_delete, key, budget)

    async def take_with_ttl(self, key: str, budget: Budget) -> tuple[bytes | None, float] | Down | Distrusted:
        """Return as `take`, and for how many seconds the bytes would have been there."""
        if self.journal and (override := self._override(key)):
            return override
        with self._removing([key]):
            return await self._guard.ask(cast("TimedStore", self._store).get_and_delete_with_ttl, key, budget)

    async def set(self, key: str, data: bytes, ttl: float, budget: Budget) -> bool:
        """Store ``data``; a load that is going on does not overwrite it. Returns whether the store confirmed it."""
        mark = self.journal.mark()
        try:
            stored = await self._guard.ask(self._store.set, key, budget, data, ttl_ms=milliseconds(ttl)) is True
        finally:
            self._forget([key])
        if stored:
            # The value that was to be removed is replaced.
            self.journal.remove([key], mark)
            self.journal.stored(key, ttl, mark)
        return stored

    async def fill(self, key: str, data: bytes, token: bytes, ttl: float, budget: Budget) -> Confirmation | Confirm:
        """Store loaded ``data`` if ``token`` still holds the lease. Returns whether it did, or the failure.

        When ``budget`` ends before that is known, the fill goes on, and its caller gets the function that waits for
        the answer.
        """
        mark = self.journal.mark()
        # As `script_of_fill`: every miss would pay for the call.
        script = Fill(token, data, milliseconds(ttl), self._guard.timeout)
        # A fill is sent, however little is left for its caller to wait.
        budget.left = max(budget.left, _LEAST)
        try:
            answer = await self._guard.ask(self._store.run, key, budget, script)
        finally:
            self._forget([key])
        if answer is True:
            self.journal.stored(key, ttl, mark)
        elif isinstance(answer, Unconfirmed):
            return partial(self._confirm, key, script, answer, mark)
        return answer

    async def fill_many(self, fills: Sequence[tuple[str, Fill]], budget: Budget) -> list[Confirmation | Confirm]:
        """Do each fill at its key, as `fill` does, in one round trip."""
        mark, keys = self.journal.mark(), [key for key, _ in fills]
        budget.left = max(budget.left, _LEAST)
        try:
            answers = await self._guard.run_many(fills, budget)
        finally:
            self._forget(keys)
        filled: list[Confirmation | Confirm] = []
        for (key, script), answer in zip(fills, answers, strict=True):
            if answer is True:
                self.journal.stored(key, script.ttl_ms / 1000, mark)
            if isinstance(answer, Unconfirmed):
                filled.append(partial(self._confirm, key, script, answer, mark))
            else:
                filled.append(answer)
        return filled

    async def set_many(self, values: Sequence[tuple[str, bytes]], ttl: float, budget: Budget) -> list[bool]:
        """Store each value at its key, as `set` does, in two round trips. Returns which ones the store confirmed."""
        mark, keys = self.journal.mark(), [key for key, _ in values]
        try:
            answers = await self._guard.set_many(values, budget, ttl_ms=milliseconds(ttl))
        finally:
            self._forget(keys)
        stored = [key for key, answer in zip(keys, answers, strict=True) if answer is True]
        self.journal.remove(stored, mark)
        for key in stored:
            self.journal.stored(key, ttl, mark)
        return [answer is True for answer in answers]

    def script_of_fill(self, data: bytes, token: bytes, ttl: float) -> Fill:
        """Return the script that stores loaded ``data`` for ``ttl`` seconds if ``token`` still holds the lease."""
        return Fill(token, data, milliseconds(ttl), self._guard.timeout)

    async def _confirm(self, key: str, script: Fill, unconfirmed: Unconfirmed, mark: int) -> Confirmation:
        try:
            answer = await self._guard.confirm(key, script, unconfirmed)
        finally:
            self._forget([key])
        if answer is True:
            self.journal.stored(key, script.ttl_ms / 1000, mark)
        return answer

    async def touch(self, key: str, ttl: float, budget: Budget) -> bool | bytes:
        """Let the value at ``key`` live for ``ttl`` seconds from now on. Returns whether there is one that is fresh.

        Of a value with tags it returns the second line: the tags have to outlive it.
        """
        if self.journal and self._override(key):
            return False
        answer = await self._guard.ask(self._store.run, key, budget, Touch(milliseconds(ttl)))
        return False if isinstance(answer, Down) else answer

    async def may_grow(self, key: str, budget: Budget) -> bool:
        """Return whether the window at ``key`` may grow: one that was to be forgotten has to be removed before."""
        override = self._override(key) if self.journal else None
        return override is None or (isinstance(override, Distrusted) and await self.invalidate([key], budget))

    async def open_window(self, key: str, budget: Budget) -> bytes | None:
        """Return the generation of the window at ``key``, which may be new; None when the store failed."""
        script = OpenWindow(os.urandom(12).hex().encode(), milliseconds(budget.left + _SPARE))
        answer = await self._guard.ask(self._store.run, key, budget, script)
        return None if isinstance(answer, Down) else answer

    async def push(self, key: str, push: Push, budget: Budget) -> bool | Down:
        """Do ``push`` at the window ``key``. Returns whether it was done; False: its generation is none any more."""
        mark = self.journal.mark()
        answer = await self._guard.ask(self._store.run, key, budget, push)
        if answer is True:
            self.generations.note(key, push.token)
            self.journal.stored(key, push.ttl_ms / 1000, mark)
        return answer

    def _forget(self, keys: Sequence[str]) -> None:
        """Let every near tier of this process forget ``keys``, which have changed: other caches may share the store."""
        if NEAR_TIERS.used:
            NEAR_TIERS.forget(self._guard.with_prefix(keys))

    @contextmanager
    def _removing(self, keys: Sequence[str]) -> Generator[None, None, None]:
        """Let the near tier forget ``keys`` before a removal and after it.

        Before it, since no caller is to find near what is about to go. A new value replaces the old one only when the
        store has it.
        """
        self._forget(keys)
        if self.generations.used:
            self.generations.forget(keys)
        try:
            yield
        finally:
            self._forget(keys)

    # --- invalidating -----------------------------------------------------------------------------

    async def invalidate(self, keys: Sequence[str], budget: Budget) -> bool:
        """Remove ``keys`` and void the loads that are going on. Returns whether the store acknowledged it.

        One that is not acknowledged, its caller's cancellation included, is kept in the journal. Many keys go in
        batches, between which other tasks run. As long as the store answers, more keys than the journal has room for go
        on beyond the deadline: the rest would be lost.
        """
        left, acknowledged = list(keys), True
        try:
            while left:
                batch = left[:BATCH]
                failed = await self._remove(batch, budget)
                acknowledged = not failed and acknowledged
                del left[: len(batch)]
                if len(left) > self.journal.room and failed < len(batch):
                    budget = self._guard.budget()
                if left:
                    await asyncio.sleep(0)
        finally:
            if left:
                self.journal.add(left)
        return acknowledged

    def invalidate_later(self, keys: Sequence[str]) -> None:
        """Keep the invalidation of ``keys`` in the journal: it holds in this process at once, and is sent soon.

        Nothing is begun now: the event loop may be ending.
        """
        self.journal.add(keys)
        with self._removing(keys):
            detached(asyncio.get_running_loop().call_later, _SOON, self.replay.soon)

    async def expire(self, keys: Sequence[str], budget: Budget) -> bool:
        """Expire ``keys`` by hand, and void the loads that are going on. Returns whether the store acknowledged it.

        One that is not acknowledged, its caller's cancellation included, is kept in the journal, which removes it.
        """
        left, acknowledged = [*dict.fromkeys(keys)], True
        try:
            while left:
                batch = left[:BATCH]
                failed = await self._expire(batch, budget)
                acknowledged = not failed and acknowledged
                del left[: len(batch)]
        finally:
            if left:
                self.journal.add(left)
        return acknowledged

    async def _expire(self, keys: Sequence[str], budget: Budget) -> int:
        """Expire ``keys``, and keep in the journal what has failed. Returns the number of failed keys."""
        mark = self.journal.mark()
        budgets = [Budget(budget.left) for _ in keys]
        with self._removing(keys):
            answers = await asyncio.gather(*map(self._expire_one, keys, budgets))
        budget.left = min([own.left for own in budgets])
        failed = [(key, answer) for key, answer in zip(keys, answers, strict=True) if isinstance(answer, Down)]
        for key, down in failed:
            self._keep([key], down.cause if down.of_key else None, mark)
        return len(failed)

    def _expire_one(self, key: str, budget: Budget) -> Awaitable[bool | Down]:
        return self._guard.ask(self._store.run, key, budget, Expire())

    async def send_batch(self) -> bool:
        """Send one batch of the journal. Returns False when some of its keys are to be sent again."""
        keys = self.journal.batch()
        # Before it leaves the journal the near tier forgets it: it is not to be found near by another thread.
        failed = await self._remove(keys, self._guard.budget())
        if failed < len(keys):
            self.journal.replayed(len(keys) - failed)
        return not failed

    async def _remove(self, keys: Sequence[str], budget: Budget) -> int:
        """Remove ``keys``, and keep in the journal what has failed. Returns the number of failed keys."""
        mark = self.journal.mark()
        with self._removing(keys):
            failures = await self._guard.delete(keys, budget)
        failed = {key for down in failures for key in down.keys or keys}
        self.journal.remove([key for key in keys if key not in failed], mark)
        for down in failures:
            self._keep(down.keys or keys, down.cause if down.of_key else None, mark)
        return len(failed)

    def _keep(self, keys: Sequence[str], refusal: str | None, mark: int) -> None:
        """Keep the removal of ``keys``, which has failed; each of them alone was refused if there is a ``refusal``."""
        if refusal == UNSENDABLE:
            # Such a key can never have been stored either.
            self.journal.remove(keys, mark)
            self.journal.refused(keys)
        elif refusal == DENIED:
            self._denying.add(self._guard.connection(keys[0]))
            self.journal.deny(keys, self._guard.shard(keys[0]))
        else:
            # To the end of the order, so that a refused key does not stand in the way of the rest.
            self.journal.add(keys)

    def _retry_denied(self) -> None:
        """Send denied keys again if there is a new connection: its user may have other rights."""
        for shard, key in self.journal.denied():
            if self._guard.connection(key) not in self._denying:
                self.journal.retry(shard)

    # --- life -------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether the store answers, and every invalidation that can be sent has reached it."""
        return self._guard.healthy and not len(self.journal)

    async def aclose(self, seconds: float) -> None:
        """Send the rest of the journal, for at most ``seconds``, and end the tracking of the running event loop."""
        await self.replay.aclose(seconds)
        if self.near is not None:
            await self.near.aclose()


class NearRead:
    """A read whose value may be kept near."""

    __slots__ = ("_began", "_mark", "_near", "_tags")

    def __init__(self, near: NearTier, mark: Mark, tags: Sequence[Mark] = ()) -> None:
        self._near = near
        self._mark = mark
        self._tags = tags
        self._began = monotonic()

    def add_to_near(self, found: Found, codec: Codec, seconds: float, *, kept: bool = False) -> None:
        """Keep the value near for ``seconds`` since the read began, unless the key, or a tag, has changed since.

        ``kept``: also for a time in which the store does not answer.
        """
        times = NearTimes(self._began, self._began + seconds, kept)
        self._near.add(self._mark, found, codec, times, self._tags)


async def _answered(answer: T) -> T:
    return answer


def milliseconds(seconds: float) -> int:
    """Return ``seconds`` as a store takes them: whole milliseconds, at least one."""
    return max(1, round(seconds * 1000))
