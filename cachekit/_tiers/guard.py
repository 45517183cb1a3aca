"""The one door to the store: adds the cache's prefix and the deadline, and turns every failure into a value.

While the circuit breaker is open the store is not asked at all. This is the only handler of store errors: above it
there is no ``try`` about the store.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast

from msgspec import Struct

from cachekit._tiers.background import Background
from cachekit._tiers.breaker import Breaker, Circuit
from cachekit._tiers.incidents import QUIET, Incidents
from cachekit._tiers.outcome import Down, Unconfirmed
from cachekit._tiers.reporter import Reporter
from cachekit.errors import (
    UNSENDABLE,
    CongestedError,
    KeyRefusedError,
    StoreError,
    StoreGarbageError,
    StoreUnavailableError,
    UnconfirmedError,
)
from cachekit.events import StoreFailed, StoreRecovered
from cachekit.sealing import Sealer
from cachekit.stores.base import (
    ConnectedStore,
    ManyStore,
    ProbingStore,
    Store,
    Sweep,
    TaggedStore,
    TaggedValue,
    TimedStore,
    TimingStore,
    Tracking,
    TrackingStore,
    time_left,
)
from cachekit.stores.scripts import Script
from cachekit.stores.single import OneByOne

PAUSE: Final = 0.2
"""Seconds before what failed is tried again while the circuit breaker is closed."""

_LONG: Final = 0.05
"""Seconds of which a part may have been spent in this process. Less than that is counted as the server's."""

_PAIR: Final = 2

_LATE: Final = "congested"
"""The cause of what is late because of this process."""

_TIMED: Final = {"get_with_ttl": 2, "get_with_lease_and_ttl": 3, "get_and_delete_with_ttl": 2}
"""The verbs that tell the seconds of a value, and the length of their answers. The seconds stand last."""

_PARTS: Final = 16
"""The parts of a group of which one key was refused: 500 keys need three rounds to find it."""

_AT_ONCE: Final = 16
"""Removals at one time."""

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q", bound=str | tuple[str, Any])


class Budget(Struct, eq=False):
    """The rest of the one deadline that all cache work of a call shares.

    Only cache work counts: the time in the user's function does not, nor does that in which a question waited in this
    process.
    """

    left: float
    """Seconds."""


class Settings(Struct, frozen=True):
    """The settings of a cache that concern every question to its store."""

    prefix: str
    """Stands before every key. Nothing above the guard knows it."""
    timeout: float
    """Seconds that all cache work of one call may take."""
    max_bytes: int
    """The most bytes of JSON that a value may have, unless the function that returned it has a bound of its own."""
    sealer: Sealer | None = None
    """The keys of the cache; None when it has none."""


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
        # Looked at by the verbs that need more than a `Store`, once `times` has said that it is there.
        self._timed_store = cast("TimedStore", store)
        # The stores of this package check each reply themselves.
        self._foreign = not type(store).__module__.startswith("cachekit.")
        # Looked up once, since looking at a protocol is slow.
        self._connection = store.connection if isinstance(store, ConnectedStore) else lambda _: self
        self._time_lost_of = store.time_lost if isinstance(store, TimingStore) else _none
        self._many: ManyStore = store if isinstance(store, ManyStore) else OneByOne(store)
        # What a store answers with is of no interest: any answer is a sign of life.
        self._ask_for_life: Callable[[str, float], Awaitable[object]] = (
            store.probe if isinstance(store, ProbingStore) else store.get
        )
        self._prefix = settings.prefix
        self.timeout: float = settings.timeout
        """The whole of the deadline, in seconds."""
        self.max_bytes: int = settings.max_bytes
        self.sealer: Sealer | None = settings.sealer
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

    def scoped(self, prefix: str) -> Self:
        """Return a door to the same store for keys with ``prefix`` behind that of this one; failures are one."""
        scope = copy.copy(self)
        scope._prefix = self._prefix + prefix  # noqa: SLF001 - of its own kind
        return scope

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
            return self._unasked(self._operation(verb, args), key)
        began = time.monotonic()
        try:
            answer = await verb(key, budget.left, *args, **kwargs)
            if self._foreign and not self._fits(verb, args, answer):
                raise self._wrong_answer(answer)  # noqa: TRY301 - it is one more failure of the store
        # A store by somebody else may raise what it likes; it must not reach the application either.
        except Exception as error:
            return self._contained(self._operation(verb, args), error, key, budget, began)
        budget.left -= (took := time.monotonic() - began)
        if took > _LONG:
            self._give_back(key, budget, took)
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
        budget.left -= (took := time.monotonic() - began)
        if took > _LONG:
            self._give_back(key, budget, took)
        if self._incidents.current:
            self._recovered(key)
        return answer

    async def get_tagged(self, key: str, tags: list[str], budget: Budget) -> TaggedValue | Down:
        """Have the store read a value and its ``tags``, all of one shard, as `get` does."""
        store: Any = self.store
        if self.circuits or budget.left <= 0 or self._foreign:
            return await self.ask(cast("TaggedStore", store).get_tagged, key, budget, self.with_prefix(tags), 0)
        if prefix := self._prefix:
            key, tags = prefix + key, [prefix + tag for tag in tags]
        began = time.monotonic()
        try:
            answer: TaggedValue = await store.get_tagged(key, budget.left, tags, 0)
        except Exception as error:
            return self._contained("get", error, key, budget, began)
        budget.left -= (took := time.monotonic() - began)
        if took > _LONG:
            self._give_back(key, budget, took)
        if self._incidents.current:
            self._recovered(key)
        return answer

    async def get_with_ttl(self, key: str, budget: Budget) -> tuple[bytes | None, float] | Down:
        """Have the store do ``get_with_ttl``, as `get` does."""
        if self.circuits or budget.left <= 0 or self._foreign:
            return await self.ask(self._timed_store.get_with_ttl, key, budget)
        key = self._prefix + key
        began = time.monotonic()
        try:
            answer = await self._timed_store.get_with_ttl(key, budget.left)
        except Exception as error:
            return self._contained("get", error, key, budget, began)
        budget.left -= (took := time.monotonic() - began)
        if took > _LONG:
            self._give_back(key, budget, took)
        if self._incidents.current:
            self._recovered(key)
        return answer

    # --- many keys --------------------------------------------------------------------------------

    # Not `async`, as much of what follows: each would cost a batch one more coroutine.
    def get_many(self, keys: Sequence[str], budget: Budget) -> Awaitable[list[bytes | Down | None]]:
        """Have the store do ``get`` for each of ``keys``, in one round trip. Each has its own failure."""
        return self._ask_many("get", self.with_prefix(keys), budget, self._many.get_many)

    def get_many_with_ttl(
        self, keys: Sequence[str], budget: Budget
    ) -> Awaitable[list[tuple[bytes | None, float] | Down]]:
        """Have the store do ``get_with_ttl`` for each of ``keys``, as `get_many` does."""
        return self._ask_many("get", self.with_prefix(keys), budget, self._many.get_many_with_ttl)

    def run_many(self, steps: Sequence[tuple[str, Script[T]]], budget: Budget) -> Awaitable[list[T | Down]]:
        """Have the store run each script at its key, in one round trip. Each has its own failure."""
        stored = [(self._prefix + key, script) for key, script in steps]
        name = steps[0][1].name if steps else ""
        return self._ask_many(name, stored, budget, self._many.run_many)

    def set_many(
        self, values: Sequence[tuple[str, bytes]], budget: Budget, *, ttl_ms: int
    ) -> Awaitable[list[bool | Down]]:
        """Have the store do ``set`` for each key and its value, in two round trips. Each has its own failure."""
        stored = [(self._prefix + key, value) for key, value in values]
        return self._ask_many("set", stored, budget, partial(self._many.set_many, ttl_ms=ttl_ms))

    async def _ask_many(
        self,
        operation: str,
        questions: Sequence[Q],
        budget: Budget,
        verb: Callable[[Sequence[Q], float], Awaitable[Sequence[T | StoreError]]],
    ) -> list[T | Down]:
        """Return the answer to each question, which is a key or begins with one."""
        rejected = self._rejected(operation, questions) if self.circuits else {}
        asked = [one for place, one in enumerate(questions) if place not in rejected] if rejected else questions
        answers = await self._answers(operation, asked, budget, verb) if asked else []
        if not rejected:
            return answers
        rest = iter(answers)
        return [rejected[place] if place in rejected else next(rest) for place in range(len(questions))]

    async def _answers(
        self,
        operation: str,
        questions: Sequence[Q],
        budget: Budget,
        verb: Callable[[Sequence[Q], float], Awaitable[Sequence[T | StoreError]]],
    ) -> list[T | Down]:
        first = _key_of(questions[0])
        if budget.left <= 0:
            return [self._unasked(operation, first)] * len(questions)
        began = time.monotonic()
        try:
            answers = await verb(questions, budget.left)
            if self._foreign and not _fit_all(questions, answers):
                raise self._wrong_answer(answers)  # noqa: TRY301 - as in `ask`
        # As in `ask`.
        except Exception as error:
            return [self._contained(operation, error, first, budget, began)] * len(questions)
        whole = budget.left
        budget.left -= (took := time.monotonic() - began)
        if took > _LONG:
            self._give_back(first, budget, took)
        # By their types, of which there are few.
        failed = any(issubclass(kind, StoreError) for kind in {*map(type, answers)})
        if failed or self._incidents.current or self.circuits:
            return self._judged(operation, [*zip(questions, answers, strict=True)], budget, (whole, began))
        return cast("list[T | Down]", answers)

    def _judged(
        self, operation: str, answered: Sequence[tuple[Q, T | StoreError]], budget: Budget, asked: tuple[float, float]
    ) -> list[T | Down]:
        """Return the answers, with a value in the place of each error: one failure of a shard is reported once."""
        left, (whole, began) = budget.left, asked
        downs: dict[tuple[str | None, str], Down] = {}
        shards: dict[str | None, str] = {}
        judged: list[T | Down] = []
        for question, answer in answered:
            key = _key_of(question)
            if not isinstance(answer, StoreError):
                shards.setdefault(self._shard(key), key)
                judged.append(answer)
            elif isinstance(answer, UnconfirmedError):
                left = 0.0
                judged.append(Unconfirmed(answer.cause, result=answer.result))
            else:
                kind = (self._shard(key), answer.cause)
                if kind not in downs:
                    downs[kind] = self._contained(operation, answer, key, Budget(whole), began)
                judged.append(downs[kind])
        for shard, key in shards.items():
            if not any(failed == shard for failed, _ in downs):
                self._recovered(key)
        budget.left = left
        return judged

    def _rejected(self, operation: str, questions: Sequence[str | tuple[str, object]]) -> dict[int, Down]:
        """Return the questions, by their places, that the circuit breaker does not let through."""
        reported: set[str] = set()
        rejected: dict[int, Down] = {}
        for place, question in enumerate(questions):
            shard = self._shard(_key_of(question)) or ""
            rejection = self._breaker.rejects(shard)
            if rejection is None:
                continue
            rejected[place] = rejection
            if shard not in reported:
                reported.add(shard)
                self._report(operation, rejection)
        return rejected

    def _give_back(self, key: str, budget: Budget, took: float) -> None:
        """Give ``budget`` back the part of the seconds that an answer ``took`` in which it waited in this process."""
        try:
            lost = min(took, float(self._time_lost_of(key, took)))
        # As in `ask`.
        except Exception:
            return
        budget.left = time_left(self.timeout, budget.left + took, took, lost)

    async def confirm(self, key: str, script: Script[T], unconfirmed: Unconfirmed) -> T | Down:
        """Wait for the answer to ``script`` that was left ``unconfirmed``. No caller waits for it."""
        result = cast("Callable[[], Awaitable[T]]", unconfirmed.result)

        async def answer(key: str, timeout: float, script: Script[T]) -> T:  # noqa: ARG001 - it was asked before
            return await result()

        return await self.ask(answer, key, self.budget(), script)

    async def delete(self, keys: Sequence[str], budget: Budget) -> list[Down]:
        """Remove ``keys``. Return the failures with their keys, one of each kind and shard.

        A key that is said to be refused was tried alone.
        Neither a shard that is down nor a refused key keeps others from being removed.
        """
        if len(keys) == 1:
            down = await self._delete(keys, budget)
            return [] if down is None else [Down(down.cause, down.of_key, tuple(keys))]
        shards: dict[str | None, list[str]] = {}
        for key in keys:
            shards.setdefault(self.shard(key), []).append(key)
        failed: dict[tuple[Down, str | None], list[str]] = {}
        groups = [*shards.items()]
        while groups:
            # Each with the whole budget, since they go on at the same time.
            some, groups = groups[:_AT_ONCE], groups[_AT_ONCE:]
            budgets = [Budget(budget.left) for _ in some]
            answers = await asyncio.gather(*map(self._delete, [group for _, group in some], budgets))
            budget.left = min([left.left for left in budgets])
            for (shard, group), down in zip(some, answers, strict=True):
                if down is None:
                    continue
                if down.of_key and len(group) > 1:
                    # One of them was refused, and the answer does not say which.
                    groups += [(shard, part) for part in _split(group)]
                else:
                    failed.setdefault((down, shard), []).extend(group)
        return [Down(down.cause, down.of_key, tuple(group)) for (down, _), group in failed.items()]

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
        if isinstance(error, UnconfirmedError):
            budget.left = 0.0
            return Unconfirmed(error.cause, result=error.result)
        kind = type(error).__name__
        # A connection keeps its last error, and with a traceback it would keep the frames of its callers.
        error.__traceback__ = None
        failure = (
            error
            if isinstance(error, StoreError)
            else StoreUnavailableError(kind, f"a {type(self.store).__name__} raised {kind}")
        )
        in_full = budget.left >= self.timeout / 2
        budget.left -= time.monotonic() - began
        shard = self._shard(key)
        if shard is not None and failure.cause != UNSENDABLE:
            self._breaker.failed(shard, key, failure, in_full=in_full)
        self._keys[shard] = key
        if isinstance(failure, CongestedError):
            # An incident of this process: the shard has not failed.
            self._incidents.begin((shard, failure.cause), f"calls are left uncached for now: {failure}")
            return self._report(operation, Down(failure.cause))
        return self._failed(operation, shard, failure.cause, str(failure), of_key=isinstance(failure, KeyRefusedError))

    def _fits(self, verb: Callable[..., object], args: tuple[object, ...], answer: object) -> bool:
        """Tell whether ``answer`` has the shape that the callers of ``ask`` rely on.

        Bytes, windows and confirmations may be anything: who gets them looks at them.
        """
        for name, fits in _SHAPES.items():
            if verb == getattr(self.store, name, None):
                return fits(args, answer)
        return args[0].is_result(answer) if args and isinstance(args[0], Script) else True

    def _wrong_answer(self, answer: object) -> StoreGarbageError:
        kind = type(answer).__name__
        return StoreGarbageError("garbage", f"a {type(self.store).__name__} answered with a {kind}, which is no answer")

    def track(
        self, changed: Callable[[Sequence[str] | None], None], state: Callable[[StoreError | None], None]
    ) -> Tracking | None:
        """Have the store tell which keys of this cache change; None when it cannot."""

        def changed_here(keys: Sequence[str] | None) -> None:
            try:
                names = None if keys is None else self.without_prefix(keys)
            # A store by somebody else reports what are no keys: any key may have changed.
            except (AttributeError, TypeError):
                names = None
            changed(names)

        try:
            tracking = cast("TrackingStore", self.store).track(self._prefix, changed_here, state)
            if not isinstance(tracking.until, (int, float)) or not callable(tracking.close):
                raise self._wrong_answer(tracking)  # noqa: TRY301 - as in `ask`
        # As in `ask`.
        except Exception as error:
            kind = type(error).__name__
            state(error if isinstance(error, StoreError) else StoreUnavailableError(kind, f"tracking raised {kind}"))
            return None
        return tracking

    def with_prefix(self, keys: Sequence[str]) -> list[str]:
        """Return ``keys`` as they stand in the store."""
        prefix = self._prefix
        return [prefix + key for key in keys] if prefix else [*keys]

    def without_prefix(self, stored: Sequence[str]) -> list[str]:
        """Return the keys of this cache among the ones that stand in a store."""
        prefix = self._prefix
        return [key[len(prefix) :] for key in stored if key.startswith(prefix)]

    @property
    def times(self) -> bool:
        """Whether the store tells for how long it will keep a value."""
        return isinstance(self.store, TimedStore)

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
            shard: object = self.store.shard(key)
        # As in `ask`; the store itself will be asked next, and fail in earnest.
        except Exception:
            return None
        return shard if isinstance(shard, str) else None

    def shard(self, key: str) -> str | None:
        """Return the shard that has ``key``."""
        return self._shard(self._prefix + key)

    def connection(self, key: str) -> object:
        """Return the connection that leads to ``key`` now; the guard itself where the store does not tell."""
        try:
            return self._connection(self._prefix + key)
        # As in `ask`.
        except Exception:
            return self

    async def _probe(self, key: str) -> bool:
        try:
            await self._ask_for_life(key, self.timeout)
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

        Not the name of a function: the store may be by another author, and its verbs be wrapped.
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

    def _unasked(self, operation: str, key: str) -> Down:
        """Report that a call had no time left for ``operation``. The shard has not failed: it was not asked."""
        why = f"earlier steps of a call took its whole timeout ({self.timeout:g} s)"
        text = f"calls are left uncached for now: this process did not ask the store, since {why}"
        self._incidents.begin((self._shard(key), _LATE), text)
        return self._report(operation, Down(_LATE))

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


def _none(key: str, seconds: float) -> float:  # noqa: ARG001 - the store does not tell
    return 0.0


def _key_of(question: str | tuple[str, object]) -> str:
    return question if isinstance(question, str) else question[0]


def _is_list(answer: object, length: int) -> bool:
    return isinstance(answer, (list, tuple)) and len(answer) == length


def _is_pair(answer: object) -> bool:
    return isinstance(answer, tuple) and len(answer) == _PAIR


def _timed(length: int) -> Callable[[tuple[Any, ...], Any], bool]:
    return lambda _, answer: (
        isinstance(answer, tuple) and len(answer) == length and isinstance(answer[-1], (int, float))
    )


_SHAPES: Final[dict[str, Callable[[tuple[Any, ...], Any], bool]]] = {
    "run_tagged": lambda args, answer: (
        _is_pair(answer) and args[0].is_result(answer[0]) and _is_list(answer[1], len(args[1]))
    ),
    "get_tagged": lambda args, answer: isinstance(answer, TaggedValue) and _is_list(answer.tags, len(args[0])),
    "open_tags": lambda args, answer: _is_list(answer, 1 + len(args[0])),
    "get_with_lease": lambda _, answer: _is_pair(answer),
    **{name: _timed(length) for name, length in _TIMED.items()},
    "servers_of": lambda _, answer: isinstance(answer, list) and all(isinstance(name, str) for name in answer),
    "sweep": lambda _, answer: isinstance(answer, Sweep),
}
"""By the names of verbs, whether an answer has the shape that callers rely on, when the verb got these arguments."""


def _fit_all(questions: Sequence[str | tuple[str, object]], answers: object) -> bool:
    """Tell whether ``answers``, which a store by another author gave, have the shape that callers rely on."""
    if not isinstance(answers, list) or len(answers) != len(questions):
        return False
    for question, answer in zip(questions, answers, strict=True):
        script = None if isinstance(question, str) else question[1]
        if isinstance(script, Script) and not isinstance(answer, StoreError) and not script.is_result(answer):
            return False
    return True


def _split(keys: list[str]) -> list[list[str]]:
    size = -(-len(keys) // _PARTS)
    return [keys[start : start + size] for start in range(0, len(keys), size)]


def _verbs(store: object) -> Iterator[tuple[str, object]]:
    """Yield the verbs of ``store`` by the names that events use: a read that is told the TTL is one like any other."""
    for name in _TIMED:
        yield name.removesuffix("_with_ttl").removesuffix("_and_ttl"), getattr(store, name, None)
    yield "get", getattr(store, "get_tagged", None)
    yield "open_tags", getattr(store, "open_tags", None)
    for name in ("get_with_lease", "get_and_delete", "set", "seize_lease", "window", "get"):
        yield name, getattr(store, name)
