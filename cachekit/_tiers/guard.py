"""Contains the store: hands every operation its deadline, which the store keeps, and turns every failure into a value.

While the circuit breaker is open the store is not asked at all. This is the only handler of store errors: above it
there is no ``try`` about the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from cachekit._tiers.breaker import Breaker, Circuit
from cachekit._tiers.outcome import Down
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.troubles import Troubles
from cachekit.clock import Clock
from cachekit.errors import KeyRefusedError, StoreError, StoreUnavailableError
from cachekit.events import StoreFailed, StoreRecovered
from cachekit.stores.base import Lease, Store, Tracking, TrackingStore

PAUSE: Final = 0.2
"""Seconds before what failed is tried again while the circuit breaker is closed."""

T = TypeVar("T")
K = TypeVar("K", str, Sequence[str])
Answer: TypeAlias = Coroutine[Any, Any, T]


class Budget:
    """What is left of the one deadline that all cache work of a call shares.

    Only cache work counts: the time in the user's function does not.
    """

    __slots__ = ("left",)

    def __init__(self, seconds: float) -> None:
        self.left: float = seconds


class Guard:
    """The verbs of a store, each answering within a budget with a value or `Down`.

    Args:
        store: What is guarded.
        timeout: Seconds that all cache work of one call may take.
        reporter: Where events go.
        clock: Tells the time.
    """

    def __init__(self, store: Store, timeout: float, reporter: Reporter, clock: Clock) -> None:
        self._store = store
        self._timeout = timeout
        self._reporter = reporter
        self._troubles = Troubles[tuple[str | None, str]](clock)
        self._breaker = Breaker(self._probe, reporter, clock)
        self.circuits: dict[tuple[asyncio.AbstractEventLoop, str], Circuit] = self._breaker.circuits
        """Those whose shard failed last: whether there is any is all that a healthy call asks."""
        # Of each shard that is in trouble, a key: another server may have it by the time that it is over.
        self._keys: dict[str | None, str] = {}

    def budget(self) -> Budget:
        """Return the whole of the deadline, for one call."""
        return Budget(self._timeout)

    async def get(self, key: str, budget: Budget) -> bytes | Down | None:
        # What `_ask` does, without what a read of a healthy store can do without: it is most of what there is.
        if self.circuits or budget.left <= 0:
            return await self._ask("get", self._store.get, key, budget)
        began = time.monotonic()
        try:
            answer = await self._store.get(key, timeout=budget.left)
        except Exception as error:
            return self._contained("get", error, key, budget, began)
        budget.left -= time.monotonic() - began
        if self._troubles.current:
            self._recovered(key)
        return answer

    # Not `async`: each would cost one more coroutine.

    def get_with_ttl(self, key: str, budget: Budget) -> Answer[tuple[bytes | None, float] | Down]:
        return self._ask("get", cast("TrackingStore", self._store).get_with_ttl, key, budget)

    def look(self, key: str, budget: Budget) -> Answer[tuple[bytes | None, bytes | None] | Down]:
        return self._ask("look", self._store.look, key, budget)

    def take_lease(
        self, key: str, token: bytes, lease_ms: int, unless: bytes | None, budget: Budget
    ) -> Answer[bytes | Lease | Down]:
        return self._ask("take_lease", self._store.take_lease, key, budget, token, lease_ms=lease_ms, unless=unless)

    def seize_lease(self, key: str, token: bytes, lease_ms: int, budget: Budget) -> Answer[Down | None]:
        return self._ask("seize_lease", self._store.seize_lease, key, budget, token, lease_ms=lease_ms)

    def renew_lease(self, key: str, token: bytes, lease_ms: int, budget: Budget) -> Answer[bool | Down]:
        return self._ask("renew_lease", self._store.renew_lease, key, budget, token, lease_ms=lease_ms)

    def release_lease(self, key: str, token: bytes, budget: Budget) -> Answer[Down | None]:
        return self._ask("release_lease", self._store.release_lease, key, budget, token)

    def fill(self, key: str, value: bytes, token: bytes, ttl_ms: int, budget: Budget) -> Answer[bool | Down]:
        return self._ask("fill", self._store.fill, key, budget, value, token, ttl_ms=ttl_ms)

    def set(self, key: str, value: bytes, ttl_ms: int, budget: Budget) -> Answer[Down | None]:
        return self._ask("set", self._store.set, key, budget, value, ttl_ms=ttl_ms)

    async def delete(self, keys: Sequence[str], budget: Budget) -> Down | None:
        """Remove ``keys``. Those of a shard that is down do not keep the others from being removed."""
        shards: dict[str | None, list[str]] = {}
        for key in keys:
            shards.setdefault(self._shard(key), []).append(key)
        if len(shards) == 1:
            return await self._ask("delete", self._store.delete, keys, budget)
        # Each with the whole budget, since they go on at the same time.
        parts = [(part, Budget(budget.left)) for part in shards.values()]
        answers = await asyncio.gather(*[self._ask("delete", self._store.delete, part, left) for part, left in parts])
        budget.left = min(left.left for _, left in parts)
        downs = [(down, part) for down, (part, _) in zip(answers, parts, strict=True) if down is not None]
        if not downs:
            return None
        of_key = all(down.of_key for down, _ in downs)
        return Down(downs[0][0].cause, of_key, tuple(key for _, part in downs for key in part))

    def take(self, key: str, budget: Budget) -> Answer[bytes | Down | None]:
        return self._ask("take", self._store.take, key, budget)

    def push(
        self, key: str, item: bytes, budget: Budget, *, limit: int, ttl_ms: int, oldest: str
    ) -> Answer[Down | None]:
        return self._ask("push", self._store.push, key, budget, item, limit=limit, ttl_ms=ttl_ms, oldest=oldest)

    def window(self, key: str, count: int, budget: Budget) -> Answer[list[bytes] | Down]:
        return self._ask("window", self._store.window, key, budget, count)

    async def _ask(
        self,
        name: str,
        verb: Callable[..., Awaitable[T]],
        asked: K,
        budget: Budget,
        *args: object,
        **options: object,
    ) -> T | Down:
        """Have the store do ``verb`` with ``asked``: a key, or several of one shard."""
        if self.circuits and (down := self.turned_away(name, asked)):
            return down
        if budget.left <= 0:
            return self._failed(name, self._shard(_one(asked)), "timeout", "no time was left for the store")
        began = time.monotonic()
        try:
            answer = await verb(asked, *args, timeout=budget.left, **options)
        # A store by somebody else may raise what it likes; it must not reach the application either.
        except Exception as error:
            return self._contained(name, error, asked, budget, began)
        budget.left -= time.monotonic() - began
        if self._troubles.current or self.circuits:
            self._recovered(asked)
        return answer

    def _contained(self, name: str, error: Exception, asked: str | Sequence[str], budget: Budget, began: float) -> Down:
        """Return what ``error``, raised by the store since ``began``, is as a value."""
        kind = type(error).__name__
        failure = (
            error
            if isinstance(error, StoreError)
            else StoreUnavailableError(kind, f"a {type(self._store).__name__} raised {kind}")
        )
        in_full = budget.left >= self._timeout / 2
        budget.left -= time.monotonic() - began
        key = _one(asked)
        shard = self._shard(key)
        if shard is not None:
            self._breaker.failed(shard, key, failure, in_full=in_full)
        self._keys[shard] = key
        return self._failed(name, shard, failure.cause, str(failure), of_key=isinstance(failure, KeyRefusedError))

    def turned_away(self, name: str, asked: str | Sequence[str]) -> Down | None:
        """Return why the store is not to be asked now, if it is not."""
        shard = self._shard(asked if type(asked) is str else asked[0])
        cause = "" if shard is None else self._breaker.turns_away(shard)
        if not cause:
            return None
        return self._left_out(name, cause) if self._reporter.observers else Down(cause)

    def track(
        self,
        prefix: str,
        changed: Callable[[Sequence[str] | None], None],
        state: Callable[[StoreError | None], None],
    ) -> Tracking | None:
        """Have the store tell what changes; None when it cannot."""
        try:
            return cast("TrackingStore", self._store).track(prefix, changed, state)
        # As in `_ask`.
        except Exception as error:
            kind = type(error).__name__
            state(error if isinstance(error, StoreError) else StoreUnavailableError(kind, f"tracking raised {kind}"))
            return None

    @property
    def tracks(self) -> bool:
        """Whether the store tells what others change in it."""
        return isinstance(self._store, TrackingStore)

    @property
    def healthy(self) -> bool:
        """Whether no trouble of the store is going on."""
        return not self._troubles.current

    async def until_asked(self, key: str, seconds: float) -> None:
        """Wait while ``key`` is turned away, and a little at least, but no longer than ``seconds``."""
        shard = self._shard(key)
        probing = None if shard is None else self._breaker.probing(shard)
        if probing is None:
            await asyncio.sleep(min(PAUSE, seconds))
        else:
            await asyncio.wait([probing], timeout=seconds)

    def _shard(self, key: str) -> str | None:
        try:
            return self._store.shard(key)
        # As in `_ask`; the store itself will be asked next, and fail in earnest.
        except Exception:
            return None

    async def _probe(self, key: str) -> bool:
        try:
            await self._store.get(key, timeout=self._timeout)
        except StoreError as error:
            if not error.answered:
                return False
        # As in `_ask`: what somebody else's store raises is its failure, whatever it is.
        except Exception:
            return False
        self._end_troubles(self._shard(key))
        return True

    def _failed(self, name: str, shard: str | None, cause: str, text: str, *, of_key: bool = False) -> Down:
        what = f"{'a key' if of_key else 'the cache'}{f' at {shard}' if shard else ''}"
        self._troubles.begin((shard, cause), f"{what} is left out for now: {text}")
        return self._left_out(name, cause, of_key=of_key)

    def _left_out(self, name: str, cause: str, *, of_key: bool = False) -> Down:
        if self._reporter.observers:
            self._reporter.emit(StoreFailed(name, cause))
        return Down(cause, of_key)

    def _recovered(self, asked: str | Sequence[str]) -> None:
        shard = self._shard(_one(asked))
        if shard is not None:
            self._breaker.answered(shard)
        self._end_troubles(shard)

    def _end_troubles(self, shard: str | None) -> None:
        """End the troubles of ``shard``, which has answered, and of the one that it has replaced."""
        for place, cause in self._troubles.going_on():
            if place != shard and (place not in self._keys or self._shard(self._keys[place]) != shard):
                continue
            seconds = self._troubles.end((place, cause))
            if seconds is not None and self._reporter.observers:
                self._reporter.emit(StoreRecovered(cause, seconds))

    async def aclose(self) -> None:
        """End what goes on in the background of the running event loop."""
        await self._breaker.aclose()


def _one(asked: str | Sequence[str]) -> str:
    return asked if isinstance(asked, str) else asked[0]
