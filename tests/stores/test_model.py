"""A model of the store contract: hypothesis looks for a sequence of verbs that a store answers differently.

`Model` describes the contract once. The verbs of leases and of windows must answer as it says, in any order. In memory
the clock is moved, so that every expiry is exact. On a redis-server nothing expires while an example runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar, cast

import orjson
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cachekit._tiers.leases import Seen
from cachekit.clock import SystemClock
from cachekit.errors import KeyRefusedError
from cachekit.stores import MemoryStore, Store, Window
from cachekit.stores.base import TimedStore
from cachekit.stores.connect import open_store
from cachekit.stores.scripts import (
    GONE,
    NO_VALUE,
    AcquireLease,
    AcquireStaleLease,
    Copy,
    Expire,
    Fill,
    Lease,
    OpenWindow,
    Paused,
    PauseLease,
    Push,
    ReleaseLease,
    RenewLease,
)
from cachekit.testing import FakeClock
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized

T = TypeVar("T")

PATIENCE = 5.0  # seconds that a verb may take: a noisy machine is no failure
HOUR = 3_600_000
EPOCH = 1_800_000_000.0

# There are few of each, so that rules meet the same keys. One key has a hash tag.
KEYS = ("a", "b", "{tag}:c")
TOKENS = (b"t1", b"t2", b"t3")
LIMIT = 3

keys = st.sampled_from(KEYS)
tokens = st.sampled_from(TOKENS)
values = st.sampled_from([b"1", b"2", b"", b"\x00\xff", b"1\n{}", b'1\n{"s":9}', b'"\n{"E":1,"s":9}'])
# Times in this model are whole eighths of a second: sums of them are exact.
spans = st.sampled_from([1_000, 2_000, 5_000, HOUR])


@dataclass
class Key:
    """The state of one key: a value, or a window as (stamp, number) newest first; and its lease, or its generation."""

    value: bytes | None = None
    window: list[tuple[float, int]] = field(default_factory=list)
    expires: float = 0.0
    token: bytes | None = None
    lease_ends: float = 0.0

    def pass_time(self, now: float) -> None:
        """Drop all that has expired."""
        if self.expires <= now:
            self.value, self.window = None, []
        if self.lease_ends <= now:
            self.token = None

    def put(self, value: bytes, expires: float) -> None:
        """Keep ``value`` in place of the earlier value."""
        self.value, self.window, self.expires = value, [], expires

    def hold(self, token: bytes, ends: float) -> None:
        """Give the lease to ``token``."""
        self.token, self.lease_ends = token, ends


@dataclass(frozen=True)
class Bench:
    """The things that all examples of a test share: the event loop, an empty store, whether time can be moved."""

    runner: asyncio.Runner
    open_empty: Callable[[FakeClock], Store]
    moves_time: bool


class StoreMachine(RuleBasedStateMachine):
    """Verbs on a store and on its model, side by side."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(epoch=EPOCH)
        self.store = self.bench.open_empty(self.clock)
        self.model = {key: Key() for key in KEYS}
        self.pushed = 0
        self.generations: list[bytes] = []

    def teardown(self) -> None:
        self.run(self.store.aclose())

    # --- values ---------------------------------------------------------------------------------

    async def _get(self, key: str) -> bytes | None:
        # The verb is called where the event loop runs, since it may return a future.
        return await self.store.get(key, PATIENCE)

    @rule(key=keys)
    def get(self, key: str) -> None:
        model = self.at(key)
        if model.window:
            self.refused(self._get(key))
        else:
            assert self.run(self._get(key)) == model.value

    @rule(key=keys, value=values, ttl_ms=spans)
    def set(self, key: str, value: bytes, ttl_ms: int) -> None:
        self.run(self.store.set(key, PATIENCE, value, ttl_ms=self.span(ttl_ms)))
        self.at(key).put(value, self.then(ttl_ms))
        self.model[key].token = None

    @rule(some=st.lists(keys, min_size=1, max_size=3))
    def delete(self, some: list[str]) -> None:
        self.run(self.store.delete(some, PATIENCE))
        for key in some:
            self.model[key] = Key()

    @rule(key=keys)
    def take(self, key: str) -> None:
        model = self.at(key)
        if model.window:
            self.refused(self.store.get_and_delete(key, PATIENCE))
        else:
            assert self.run(self.store.get_and_delete(key, PATIENCE)) == model.value
            model.value = None

    # --- leases ---------------------------------------------------------------------------------

    @rule(key=keys, token=tokens, lease_ms=spans)
    def take_lease(self, key: str, token: bytes, lease_ms: int) -> None:
        model = self.at(key)
        taking = self.store.run(key, PATIENCE, AcquireLease(token, self.span(lease_ms)))
        if model.window:
            self.refused(taking)
            return
        answer = self.run(taking)
        if model.value is not None:
            assert answer == model.value, "a lease was handed out while a value stands"
        elif model.token is not None:
            assert answer == Lease(model.token, mine=False)
        else:
            assert answer == Lease(token, mine=True)
            model.hold(token, self.then(lease_ms))

    @rule(key=keys, token=tokens, lease_ms=spans)
    def seize_lease(self, key: str, token: bytes, lease_ms: int) -> None:
        self.run(self.store.seize_lease(key, PATIENCE, token, lease_ms=self.span(lease_ms)))
        self.at(key).hold(token, self.then(lease_ms))

    @rule(key=keys, token=tokens, lease_ms=spans)
    def renew_lease(self, key: str, token: bytes, lease_ms: int) -> None:
        model = self.at(key)
        renewed = self.run(self.store.run(key, PATIENCE, RenewLease(token, self.span(lease_ms))))
        assert renewed == (model.token == token)
        if renewed:
            model.hold(token, self.then(lease_ms))

    @rule(key=keys, token=tokens)
    def release_lease(self, key: str, token: bytes) -> None:
        model = self.at(key)
        self.run(self.store.run(key, PATIENCE, ReleaseLease(token)))
        if model.token == token:
            model.token = None

    @rule(key=keys, token=tokens, value=values, ttl_ms=spans)
    def fill(self, key: str, token: bytes, value: bytes, ttl_ms: int) -> None:
        model = self.at(key)
        stored = self.run(self.store.run(key, PATIENCE, Fill(token, value, self.span(ttl_ms))))
        assert stored == (model.token == token), "a fill is stored if its token holds the lease, and only then"
        if stored:
            model.put(value, self.then(ttl_ms))
            model.token = None

    # --- stale values ---------------------------------------------------------------------------

    @rule(
        key=keys, token=tokens, lease_ms=spans, copy=st.sampled_from(Copy), saw=st.sampled_from(["none", "it", "end"])
    )
    def take_stale_lease(self, key: str, token: bytes, lease_ms: int, copy: Copy, saw: str) -> None:
        model = self.at(key)
        assert isinstance(self.store, TimedStore)
        if model.window:
            self.refused(self.store.run(key, PATIENCE, AcquireStaleLease(token, 1, NO_VALUE, b"", copy)))
            return
        _, left = self.run(self._timed(key))
        seen = Seen(left) if saw == "it" else Seen(suffix=b"\xff" if saw == "end" else b"")
        script = AcquireStaleLease(token, self.span(lease_ms), seen.floor_ms, seen.suffix, copy)
        answer = self.run(self.store.run(key, PATIENCE, script))
        value = model.value or None
        newer = value is not None and saw != "it" and not (saw == "end" and value.endswith(b"\xff"))
        paused = model.token is not None and model.token.startswith(b"~")
        if newer:
            assert answer == value
        elif value is None and copy is Copy.BACKGROUND:
            assert answer == GONE
        elif model.token is not None and (not paused or (value is not None and copy is not Copy.NONE)):
            assert answer == Lease(model.token, mine=False)
        else:
            assert answer == Lease(token, mine=True)
            model.hold(token, self.then(lease_ms))

    async def _timed(self, key: str) -> tuple[bytes | None, float]:
        return await cast("TimedStore", self.store).get_with_ttl(key, PATIENCE)

    @rule(key=keys, token=tokens, pause_ms=spans)
    def pause_lease(self, key: str, token: bytes, pause_ms: int) -> None:
        model = self.at(key)
        assume(not model.window)
        answer = self.run(self.store.run(key, PATIENCE, PauseLease(token, self.span(pause_ms))))
        if model.token != token:
            assert answer is Paused.LOST
        elif model.value is None:
            assert answer is Paused.NO_VALUE
            model.token = None
        else:
            assert answer is Paused.SET
            model.hold(b"~" + token, self.then(pause_ms))

    @rule(key=keys)
    def expire(self, key: str) -> None:
        model = self.at(key)
        expired = self.run(self.store.run(key, PATIENCE, Expire()))
        assert expired == (model.value is not None or bool(model.window))
        model.token = None
        if model.value is None or b'"s":' not in model.value:
            self.model[key] = Key()
        elif not model.value.endswith(b"!"):
            model.value += b"!"

    @rule(key=keys, started=st.permutations(TOKENS), value=values)
    def load_at_once(self, key: str, started: Sequence[bytes], value: bytes) -> None:
        """Several take the lease in one turn of the loop, then all fill: only the holder's value is stored."""
        model = self.at(key)
        assume(not model.window)
        holder = model.token or started[0]

        async def all_of_them() -> tuple[list[bytes | Lease], list[bool]]:
            taken = await asyncio.gather(
                *[self.store.run(key, PATIENCE, AcquireLease(token, HOUR)) for token in started]
            )
            fills = await asyncio.gather(
                *[self.store.run(key, PATIENCE, Fill(token, value + token, HOUR)) for token in started]
            )
            return taken, fills

        taken, fills = self.run(all_of_them())
        if model.value is not None:
            assert taken == [model.value] * len(started)
            # A refresh may be under way: the lease that it seized still lets its own fill in.
            assert fills == [token == model.token for token in started]
        else:
            fresh = model.token is None
            assert taken == [Lease(holder, mine=fresh and token == holder) for token in started]
            assert fills == [token == holder for token in started]
        if any(fills):
            model.put(value + holder, self.then(HOUR))
            model.token = None

    # --- windows --------------------------------------------------------------------------------

    @rule(key=keys, token=tokens)
    def open_window(self, key: str, token: bytes) -> None:
        model = self.at(key)
        opening = self.store.run(key, PATIENCE, OpenWindow(token, self.span(HOUR)))
        if model.value is not None:
            self.refused(opening)
            return
        generation = self.run(opening)
        if model.token is None:
            assert generation not in self.generations, "a generation is never made twice"
            model.hold(generation, self.then(HOUR))
            self.generations.append(generation)
        assert generation == model.token

    @precondition(lambda self: self.generations)
    @rule(key=keys, data=st.data(), limit=st.integers(1, LIMIT), ttl_ms=spans)
    def push(self, key: str, data: st.DataObject, limit: int, ttl_ms: int) -> None:
        """Push under any generation that was ever made: only the one that stands lets it in."""
        model = self.at(key)
        generation = data.draw(st.sampled_from(self.generations))
        item = orjson.dumps({"n": self.pushed})
        pushing = self.store.run(key, PATIENCE, Push(generation, item, limit, self.span(ttl_ms)))
        if generation == model.token and model.value is not None:
            self.refused(pushing)
            return
        assert self.run(pushing) == (generation == model.token)
        if generation != model.token:
            return
        now = self.clock.time()
        while model.window and model.window[-1][0] < now - self.span(ttl_ms) / 1000:
            model.window.pop()
        model.window = [(now, self.pushed), *model.window][:limit]
        self.pushed += 1
        model.expires = self.then(ttl_ms)
        model.hold(generation, self.then(ttl_ms))

    @rule(key=keys, count=st.integers(1, LIMIT + 1))
    def window(self, key: str, count: int) -> None:
        model = self.at(key)
        if model.value is not None:
            self.refused(self.store.window(key, PATIENCE, count))
            return
        window = self.run(self.store.window(key, PATIENCE, count))
        assert [orjson.loads(item)["n"] for item in window.items] == [number for _, number in model.window[:count]]
        assert window.generation == model.token

    # --- time -----------------------------------------------------------------------------------

    @precondition(lambda self: self.bench.moves_time)
    @rule(seconds=st.sampled_from([0.125, 1.0, 2.5]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.bench.moves_time)
    @rule(key=keys, early=st.sampled_from([0.125, 0.0]))
    def wait_for_the_end(self, key: str, early: float) -> None:
        """Move the clock to the exact end of a key or of its lease, or to just before it."""
        model = self.at(key)
        here, now = model.value is not None or bool(model.window), self.clock.monotonic()
        ends = [end for end, stands in ((model.expires, here), (model.lease_ends, model.token)) if stands]
        assume(ends)
        self.clock.advance(max(0.0, min(ends) - early - now))

    # --- what holds at every moment -----------------------------------------------------------------

    @invariant()
    def every_key_is_as_the_model_says(self) -> None:
        async def looks() -> list[tuple[bytes | None, bytes | None] | Window]:
            return await asyncio.gather(
                *[
                    self.store.window(key, PATIENCE, 100)
                    if self.at(key).window
                    else self.store.get_with_lease(key, PATIENCE)
                    for key in KEYS
                ]
            )

        for key, seen in zip(KEYS, self.run(looks()), strict=True):
            model = self.at(key)
            if isinstance(seen, tuple):
                assert seen == (model.value, model.token)
            else:
                assert len(seen.items) == len(model.window) <= LIMIT

    # --- helpers --------------------------------------------------------------------------------

    def at(self, key: str) -> Key:
        """Return the model of ``key``, as of now."""
        model = self.model[key]
        model.pass_time(self.clock.monotonic())
        return model

    def then(self, span_ms: int) -> float:
        """Return the moment that is ``span_ms`` from now."""
        return self.clock.monotonic() + self.span(span_ms) / 1000

    def span(self, span_ms: int) -> int:
        """Return the milliseconds to ask for. If time cannot be moved, nothing may expire."""
        return span_ms if self.bench.moves_time else HOUR

    def run(self, verb: Awaitable[T]) -> T:
        """Wait for ``verb`` in the one event loop of the test."""

        async def wait() -> T:
            return await verb

        return self.bench.runner.run(wait())

    def refused(self, verb: Awaitable[object]) -> None:
        """Expect that ``verb`` meets a value of another kind."""
        with pytest.raises(KeyRefusedError) as refusal:
            self.run(verb)
        assert refusal.value.cause == "WRONGTYPE"


def check(open_empty: Callable[[FakeClock], Store], *, moves_time: bool, examples: int) -> None:
    """Run the machine on the stores that ``open_empty`` gives, in one event loop, which is closed behind it."""
    with asyncio.Runner() as runner:

        class Machine(StoreMachine):
            bench = Bench(runner, open_empty, moves_time)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                # One step may wait for a busy machine, and the examples of a test belong to that test.
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )


def test_memory_keeps_the_contract_with_every_expiry_on_the_clock() -> None:
    check(lambda clock: MemoryStore(clock=clock), moves_time=True, examples=sized(50, 150))


def test_redis_keeps_the_contract(redis_server: RedisServer) -> None:
    def opens(_clock: FakeClock) -> Store:
        redis_server.cli("FLUSHALL")
        return open_store(redis_server.url, clock=SystemClock())

    check(opens, moves_time=False, examples=sized(30, 80))


async def test_a_lease_that_was_seized_outlives_the_window_of_its_key_in_memory() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    generation = await store.run("w", PATIENCE, OpenWindow(b"t1", 1000))
    assert await store.run("w", PATIENCE, Push(generation, b'{"n":1}', 1, 1000))
    await store.seize_lease("w", PATIENCE, b"t2", lease_ms=2000)
    clock.advance(1.0)
    assert await store.get_with_lease("w", PATIENCE) == (None, b"t2")
    clock.advance(1.0)
    assert await store.get_with_lease("w", PATIENCE) == (None, None)
