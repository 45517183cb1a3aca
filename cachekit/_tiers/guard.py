"""The one door to the store: adds the cache's prefix and the deadline, and turns every failure into a value.

While the circuit breaker is open the store is not asked at all. This is the only handler of store errors: above it
there is no ``try`` about the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

from msgspec import Struct

from cachekit._tiers.background import Background
from cachekit._tiers.breaker import Breaker, Circuit
from cachekit._tiers.incidents import QUIET, Incidents
from cachekit._tiers.outcome import Down
from cachekit._tiers.reporter import Reporter
from cachekit.errors import UNSENDABLE, KeyRefusedError, StoreError, StoreUnavailableError
from cachekit.events import StoreFailed, StoreRecovered
from cachekit.stores.base import Store, Tracking, TrackingStore
from cachekit.stores.scripts import Script

PAUSE: Final = 0.2
"""Seconds before what failed is tried again while the circuit breaker is closed."""

P = ParamSpec("P")
T = TypeVar("T")


class Budget(Struct, eq=False):
    """The rest of the one deadline that all cache work of a call shares.

    Only cache work counts: the time in the user's function does not.
    """

    left: float
    """Seconds."""


class Settings(Struct, frozen=True):
    """The settings of a cache that concern every question to its store."""

    prefix: str
    """Stands before every key. Nothing above the guard knows it."""
    timeout: float
    """Seconds that all cache work of one call may take."""


class Guard:
    """A store, asked within a budget; a failure is a `Down`.

    Args:
        store: The store behind the guard.
        settings: The prefix and the timeout of the cache.
        background: Owns the probes of the circuit breaker.
        reporter: Where events go, and whose clock tells the time.
    """

    def __init__(self, store: Store, settings: Settings, background: Background, reporter: Reporter) -> None:
        self.store = store
        """For its verbs, which `ask` takes; nothing calls them but this."""
        self._prefix = settings.prefix
        self._timeout = settings.timeout
        self.budget: Callable[[], Budget] = partial(Budget, settings.timeout)
        """Returns the whole of the deadline, for one call."""
        self._reporter = reporter
        self._clock = reporter.clock
        self._incidents = Incidents[tuple[str | None, str]](reporter.clock)
        self._breaker = Breaker(self._probe, background, reporter)
        self.circuits: Mapping[asyncio.AbstractEventLoop, dict[str, Circuit]] = self._breaker.circuits
        """By loop and shard. Empty while the store is healthy, so the hot path tests only its truth."""
        # Of each shard with an incident, one key: another server may have it when the incident ends.
        self._keys: dict[str | None, str] = {}
        # When each shard failed last, until it answers `QUIET` later. A shard in it has an incident, which takes as
        # much quiet at least: so while no incident is going on, nobody looks here.
        self._failed_at: dict[str | None, float] = {}

    async def ask(
        self,
        verb: Callable[Concatenate[str, float, P], Awaitable[T]],
        key: str,
        budget: Budget,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | Down:
        """Have the store do ``verb`` with ``key`` and its other arguments, within ``budget``.

        Example::

            await guard.ask(guard.store.set, key, budget, data, ttl_ms=60_000)
        """
        key = self._prefix + key
        if self.circuits and (rejection := self._breaker.rejects(self._shard(key) or "")):
            return self._report(self._operation(verb, args), rejection)
        if budget.left <= 0:
            return self._failed(
                self._operation(verb, args), self._shard(key), "timeout", "no time was left for the store"
            )
        began = time.monotonic()
        try:
            answer = await verb(key, budget.left, *args, **kwargs)
        # A store by somebody else may raise what it likes; it must not reach the application either.
        except Exception as error:
            return self._contained(self._operation(verb, args), error, key, budget, began)
        budget.left -= time.monotonic() - began
        if self._incidents.current or self.circuits:
            self._recovered(key)
        return answer

    async def get(self, key: str, budget: Budget) -> bytes | Down | None:
        """Have the store do ``get``, as `ask` does, without the steps that a read of a healthy store does not need."""
        if self.circuits or budget.left <= 0:
            return await self.ask(self.store.get, key, budget)
        key = self._prefix + key
        began = time.monotonic()
        try:
            answer = await self.store.get(key, budget.left)
        except Exception as error:
            return self._contained("get", error, key, budget, began)
        budget.left -= time.monotonic() - began
        if self._incidents.current:
            self._recovered(key)
        return answer

    async def delete(self, keys: Sequence[str], budget: Budget) -> Down | None:
        """Remove ``keys``. A shard that is down does not keep the keys of others from being removed."""
        shards: dict[str | None, list[str]] = {}
        for key in keys:
            shards.setdefault(self._shard(self._prefix + key), []).append(key)
        if len(shards) == 1:
            return await self._delete(keys, budget)
        # Each with the whole budget, since they go on at the same time.
        parts = [(part, Budget(budget.left)) for part in shards.values()]
        answers = await asyncio.gather(*[self._delete(part, left) for part, left in parts])
        budget.left = min(left.left for _, left in parts)
        downs = [(down, part) for down, (part, _) in zip(answers, parts, strict=True) if down is not None]
        if not downs:
            return None
        of_key = all(down.of_key for down, _ in downs)
        return Down(downs[0][0].cause, of_key, tuple(key for _, part in downs for key in part))

    async def _delete(self, keys: Sequence[str], budget: Budget) -> Down | None:
        """Remove ``keys`` of one shard, of which the first stands for all."""
        others = [self._prefix + key for key in keys[1:]]

        async def delete(key: str, timeout: float) -> None:
            await self.store.delete([key, *others], timeout)

        return await self.ask(delete, keys[0], budget)

    def rejected(self, key: str) -> Down | None:
        """Return the outcome of reading ``key`` if the circuit breaker does not let it through."""
        rejection = self._breaker.rejects(self._shard(self._prefix + key) or "")
        if rejection is not None and self._reporter.observers:
            self._report("get", rejection)
        return rejection

    def _contained(self, operation: str, error: Exception, key: str, budget: Budget, began: float) -> Down:
        """Return the value for ``error``, which the store raised for a question asked at ``began``."""
        kind = type(error).__name__
        failure = (
            error
            if isinstance(error, StoreError)
            else StoreUnavailableError(kind, f"a {type(self.store).__name__} raised {kind}")
        )
        in_full = budget.left >= self._timeout / 2
        budget.left -= time.monotonic() - began
        shard = self._shard(key)
        if shard is not None and failure.cause != UNSENDABLE:
            self._breaker.failed(shard, key, failure, in_full=in_full)
        self._keys[shard] = key
        return self._failed(operation, shard, failure.cause, str(failure), of_key=isinstance(failure, KeyRefusedError))

    def track(
        self, changed: Callable[[Sequence[str] | None], None], state: Callable[[StoreError | None], None]
    ) -> Tracking | None:
        """Have the store tell which keys of this cache change; None when it cannot."""

        def changed_here(keys: Sequence[str] | None) -> None:
            changed(None if keys is None else self.without_prefix(keys))

        try:
            return cast("TrackingStore", self.store).track(self._prefix, changed_here, state)
        # As in `ask`.
        except Exception as error:
            kind = type(error).__name__
            state(error if isinstance(error, StoreError) else StoreUnavailableError(kind, f"tracking raised {kind}"))
            return None

    def with_prefix(self, keys: Sequence[str]) -> list[str]:
        """Return ``keys`` as they stand in the store."""
        prefix = self._prefix
        return [prefix + key for key in keys]

    def without_prefix(self, stored: Sequence[str]) -> list[str]:
        """Return the keys of this cache among those that stand in a store."""
        prefix = self._prefix
        return [key[len(prefix) :] for key in stored if key.startswith(prefix)]

    @property
    def tracks(self) -> bool:
        """Whether the store tells what others change in it."""
        return isinstance(self.store, TrackingStore)

    @property
    def healthy(self) -> bool:
        """Whether every shard that failed has answered, `QUIET` after its last failure. A refused key is no failure."""
        return not self._failed_at

    async def until_asked(self, key: str, seconds: float) -> None:
        """Wait while ``key`` is rejected, and `PAUSE` at least, but no longer than ``seconds``."""
        shard = self._shard(self._prefix + key)
        probing = None if shard is None else self._breaker.probing(shard)
        if probing is None:
            await asyncio.sleep(min(PAUSE, seconds))
        else:
            await asyncio.wait([probing], timeout=seconds)

    def _shard(self, key: str) -> str | None:
        try:
            return self.store.shard(key)
        # As in `ask`; the store itself will be asked next, and fail in earnest.
        except Exception:
            return None

    async def _probe(self, key: str) -> bool:
        try:
            await self.store.get(key, self._timeout)
        except StoreError as error:
            if not error.answered:
                return False
        # As in `ask`: any exception of somebody else's store is its failure.
        except Exception:
            return False
        self._end_incidents(self._shard(key))
        return True

    def _operation(self, verb: Callable[..., object], args: tuple[object, ...]) -> str:
        """Return the name of an operation in events: of the script that is run, else of the verb.

        Not the name of a function: the store may be somebody else's, and its verbs be wrapped.
        """
        script = args[0] if args else None
        if isinstance(script, Script):
            return script.name
        return next((name for name, known in _verbs(self.store) if known == verb), "delete")

    def _failed(self, operation: str, shard: str | None, cause: str, text: str, *, of_key: bool = False) -> Down:
        what = f"{'a key' if of_key else 'the cache'}{f' at {shard}' if shard else ''}"
        if not of_key:
            self._failed_at[shard] = self._clock.monotonic()
        self._incidents.begin((shard, cause), f"{what} is left out for now: {text}")
        return self._report(operation, Down(cause, of_key))

    def _report(self, operation: str, down: Down) -> Down:
        """Report to observers that ``operation`` came to ``down``."""
        if self._reporter.observers:
            self._reporter.emit(StoreFailed(operation, down.cause))
        return down

    def _recovered(self, key: str) -> None:
        shard = self._shard(key)
        if shard is not None:
            self._breaker.answered(shard)
        self._end_incidents(shard)

    def _end_incidents(self, shard: str | None) -> None:
        """End the incidents of ``shard``, which has answered, and of the shard that it has replaced."""
        for place, cause in self._incidents.going_on():
            if not self._is_now(place, shard):
                continue
            seconds = self._incidents.end((place, cause))
            if seconds is not None and self._reporter.observers:
                self._reporter.emit(StoreRecovered(cause, seconds))
        # Behind the incidents, and noted before them: it must not outlast the last one, since then nobody looks here.
        quiet_since = self._clock.monotonic() - QUIET
        for place, failed in [*self._failed_at.items()]:
            if failed <= quiet_since and self._is_now(place, shard):
                self._failed_at.pop(place, None)

    def _is_now(self, place: str | None, shard: str | None) -> bool:
        """Return whether ``shard`` is the shard ``place``, or has replaced it."""
        return place == shard or (place in self._keys and self._shard(self._keys[place]) == shard)

    def close(self) -> None:
        """Forget the failures of the running event loop."""
        self._breaker.close()


def _verbs(store: object) -> Iterator[tuple[str, object]]:
    """Yield the verbs of ``store`` by the names that events use. A read for the near tier is a ``get`` to observers."""
    yield "get", getattr(store, "get_with_ttl", None)
    for name in ("get_with_lease", "get_and_delete", "set", "seize_lease", "push", "window", "get"):
        yield name, getattr(store, name)
