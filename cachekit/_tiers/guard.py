"""Contains the store: hands every operation its deadline, which the store keeps, and turns every failure into a value.

This is the only handler of store errors. Above it there is no ``try`` about the store.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cachekit._tiers.outcome import Down
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.troubles import Troubles
from cachekit.clock import Clock
from cachekit.errors import KeyRefusedError, StoreError
from cachekit.events import StoreFailed, StoreRecovered
from cachekit.stores.base import Lease, Store

T = TypeVar("T")


class Budget:
    """What is left of the one deadline that all cache work of a call shares.

    Only cache work counts: the time in the user's function does not.
    """

    __slots__ = ("left",)

    def __init__(self, seconds: float) -> None:
        self.left = seconds


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
        self._troubles = Troubles(clock)

    def budget(self) -> Budget:
        """Return the whole of the deadline, for one call."""
        return Budget(self._timeout)

    async def get(self, key: str, budget: Budget) -> bytes | Down | None:
        return await self._ask("get", self._store.get, budget, key)

    async def look(self, key: str, budget: Budget) -> tuple[bytes | None, bytes | None] | Down:
        return await self._ask("look", self._store.look, budget, key)

    async def take_lease(
        self, key: str, token: bytes, lease_ms: int, unless: bytes | None, budget: Budget
    ) -> bytes | Lease | Down:
        return await self._ask(
            "take_lease", self._store.take_lease, budget, key, token, lease_ms=lease_ms, unless=unless
        )

    async def seize_lease(self, key: str, token: bytes, lease_ms: int, budget: Budget) -> Down | None:
        return await self._ask("seize_lease", self._store.seize_lease, budget, key, token, lease_ms=lease_ms)

    async def renew_lease(self, key: str, token: bytes, lease_ms: int, budget: Budget) -> bool | Down:
        return await self._ask("renew_lease", self._store.renew_lease, budget, key, token, lease_ms=lease_ms)

    async def release_lease(self, key: str, token: bytes, budget: Budget) -> Down | None:
        return await self._ask("release_lease", self._store.release_lease, budget, key, token)

    async def fill(self, key: str, value: bytes, token: bytes, ttl_ms: int, budget: Budget) -> bool | Down:
        return await self._ask("fill", self._store.fill, budget, key, value, token, ttl_ms=ttl_ms)

    async def set(self, key: str, value: bytes, ttl_ms: int, budget: Budget) -> Down | None:
        return await self._ask("set", self._store.set, budget, key, value, ttl_ms=ttl_ms)

    async def delete(self, keys: Sequence[str], budget: Budget) -> Down | None:
        return await self._ask("delete", self._store.delete, budget, keys)

    async def take(self, key: str, budget: Budget) -> bytes | Down | None:
        return await self._ask("take", self._store.take, budget, key)

    async def push(self, key: str, item: bytes, budget: Budget, *, limit: int, ttl_ms: int, oldest: str) -> Down | None:
        return await self._ask("push", self._store.push, budget, key, item, limit=limit, ttl_ms=ttl_ms, oldest=oldest)

    async def window(self, key: str, count: int, budget: Budget) -> list[bytes] | Down:
        return await self._ask("window", self._store.window, budget, key, count)

    async def _ask(
        self, name: str, verb: Callable[..., Awaitable[T]], budget: Budget, *args: object, **options: object
    ) -> T | Down:
        if budget.left <= 0:
            return self._failed(name, "timeout", "no time was left for the store")
        began = time.monotonic()
        try:
            answer = await verb(*args, timeout=budget.left, **options)
        except StoreError as error:
            return self._failed(name, error.cause, str(error), of_key=isinstance(error, KeyRefusedError))
        # A store by somebody else may raise what it likes; it must not reach the application either.
        except Exception as error:
            kind = type(error).__name__
            return self._failed(name, kind, f"a {type(self._store).__name__} raised {kind}")
        finally:
            budget.left -= time.monotonic() - began
        if self._troubles:
            self._recovered()
        return answer

    def _failed(self, name: str, cause: str, text: str, *, of_key: bool = False) -> Down:
        self._troubles.begin(cause, f"{'a key' if of_key else 'the cache'} is left out for now: {text}")
        if self._reporter.observers:
            self._reporter.emit(StoreFailed(name, cause))
        return Down(cause, of_key)

    def _recovered(self) -> None:
        for cause in self._troubles.going_on():
            seconds = self._troubles.end(cause)
            if seconds is not None and self._reporter.observers:
                self._reporter.emit(StoreRecovered(str(cause), seconds))
