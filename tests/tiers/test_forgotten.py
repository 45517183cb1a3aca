"""No sequence of saves, forgets, rotations, jumps of clocks and faults of the network brings a forgotten text back.

Three processes share a store, each behind a network of its own, which may lose a command, lose its answer, deliver it
at any later time, or deliver it twice. hypothesis looks for a sequence after which a text stands in the store, or is
read, though a forget that began after its save was acknowledged, or though it is older than its ttl by the store's
clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, ClassVar, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cachekit import Cache, RollingWindow, SnapshotStore, new_key
from cachekit.clock import SystemClock
from cachekit.errors import StoreTimeoutError
from cachekit.stores import MemoryStore, Store, Window
from cachekit.stores.connect import open_store
from cachekit.stores.scripts import Fill, Push, Script
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized

T = TypeVar("T")

DAY: Final = 86_400.0
TTL: Final = DAY
PATIENCE: Final = 30.0
USERS: Final = ("42", "{43}")
HOSTS: Final = 3


class Fate(Enum):
    """What the network does with one command."""

    DELIVERED = auto()
    LOST = auto()
    UNHEARD = auto()
    HELD = auto()
    TWICE = auto()


fates = st.lists(st.sampled_from(Fate), max_size=3)


class JumpingClock:
    """A clock that may be set to any time. Its monotonic half goes on as it did."""

    def __init__(self) -> None:
        self.elapsed, self.ahead = 0.0, 0.0

    def monotonic(self) -> float:
        return self.elapsed

    def time(self) -> float:
        return 1_800_000_000.0 + self.elapsed + self.ahead


@dataclass
class World:
    """The store, and what is on its way to it."""

    store: Store
    clock: JumpingClock
    held: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    landed: dict[str, float] = field(default_factory=dict)
    """By text, the time of the store at which it was pushed last."""


class Network:
    """A store behind a network. The commands of one call meet the fates that it was given, and then none any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.fates: list[Fate] = []
        self.text = ""

    def shard(self, key: str) -> None:
        return None

    async def _send(self, command: Callable[[], Awaitable[T]]) -> T:
        fate = self.fates.pop(0) if self.fates else Fate.DELIVERED
        if fate in {Fate.HELD, Fate.TWICE}:
            self._world.held.append(command)
        if fate in {Fate.HELD, Fate.LOST}:
            raise StoreTimeoutError("timeout", "no answer")
        answer = await command()
        if fate is Fate.UNHEARD:
            raise StoreTimeoutError("timeout", "no answer")
        return answer

    async def get(self, key: str, timeout: float) -> bytes | None:
        return await self._send(lambda: _awaited(self._world.store.get(key, PATIENCE)))

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        return await self._send(lambda: self._world.store.get_with_lease(key, PATIENCE))

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        return await self._send(lambda: self._world.store.get_and_delete(key, PATIENCE))

    async def window(self, key: str, timeout: float, count: int) -> Window:
        return await self._send(lambda: self._world.store.window(key, PATIENCE, count))

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        await self._send(lambda: self._world.store.delete(keys, PATIENCE))

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        await self._send(lambda: self._world.store.seize_lease(key, PATIENCE, token, lease_ms=lease_ms))

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> bool:
        # As RedisStore does.
        token = new_key().encode()
        await self.seize_lease(key, timeout, token, lease_ms=60_000)
        return await self.run(key, timeout, Fill(token, value, ttl_ms))

    async def run(self, key: str, timeout: float, script: Script[T]) -> T:
        text = self.text

        async def command() -> T:
            done = await self._world.store.run(key, PATIENCE, script)
            if isinstance(script, Push) and done is True:
                self._world.landed[text] = (await self._world.store.window(key, PATIENCE, 1)).now
            return done

        return await self._send(command)

    async def aclose(self) -> None:
        pass


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


@dataclass
class Bench:
    """The event loop of a test, how it opens an empty store, whether time can be moved, whether texts are sealed."""

    runner: asyncio.Runner
    open_empty: Callable[[JumpingClock], Store]
    moves_time: bool
    sealed: bool


class Forgetting(RuleBasedStateMachine):
    """Three processes save, read and forget."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        clock = JumpingClock()
        self.world = World(self.bench.open_empty(clock), clock)
        self.every_key = [new_key()]
        self.ring = [*self.every_key]
        self.networks = [Network(self.world) for _ in range(HOSTS)]
        self.clocks = [JumpingClock() for _ in range(HOSTS)]
        keys: Any = (lambda: self.ring) if self.bench.sealed else None
        self.caches = [
            Cache(network, timeout=PATIENCE, clock=clock, keys=keys)
            for network, clock in zip(self.networks, self.clocks, strict=True)
        ]
        for cache in self.caches:
            # A rule replays the journal, in place of time.
            cache.runtime.coherence.replay.soon = lambda: None  # type: ignore[method-assign]
        auditing: Any = (lambda: self.every_key) if self.bench.sealed else None
        self.auditor = Cache(self.world.store, timeout=PATIENCE, keys=auditing)
        self.saved: dict[str, list[str]] = {user: [] for user in USERS}
        self.set_by_hand: list[str] = []
        self.dead: set[str] = set()
        self.count = 0

    def teardown(self) -> None:
        for cache in (*self.caches, self.auditor):
            cache.runtime.coherence.journal.remove([*USERS, "k"], 1 << 40)
        self.run(self.world.store.aclose())

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.bench.runner.run(wait())

    def at(self, host: int, met: list[Fate], text: str = "") -> Cache:
        """Return the cache of ``host``, whose next commands meet these fates."""
        self.networks[host].fates, self.networks[host].text = [*met], text
        return self.caches[host]

    def new_text(self) -> str:
        self.count += 1
        return f"text {self.count}"

    # --- what processes do --------------------------------------------------------------------------

    @rule(host=st.integers(0, HOSTS - 1), user=st.sampled_from(USERS), met=fates)
    def save(self, host: int, user: str, met: list[Fate]) -> None:
        text = self.new_text()
        self.saved[user].append(text)
        store = SnapshotStore(self.at(host, met, text), limit=3, ttl=TTL)
        confirmed = self.run(store.save_snapshot(user, text, 2))
        self.networks[host].fates = []
        if confirmed:
            assert text in self.texts(self.caches[host], user), "what was confirmed is there"
            now = self.run(self.world.store.window("no window", PATIENCE, 1)).now
            for kept in self.texts(self.auditor, user, 100 * 365 * DAY):
                assert now - self.world.landed[kept] <= TTL, "nothing older is kept while the writer keeps writing"

    @rule(host=st.integers(0, HOSTS - 1), user=st.sampled_from(USERS), met=fates)
    def forget(self, host: int, user: str, met: list[Fate]) -> None:
        acknowledged = self.run(SnapshotStore(self.at(host, met)).forget(user))
        self.networks[host].fates = []
        if acknowledged:
            self.dead.update(self.saved[user])

    @rule(host=st.integers(0, HOSTS - 1), met=fates)
    def set(self, host: int, met: list[Fate]) -> None:
        value = self.new_text()
        self.set_by_hand.append(value)
        self.run(self.at(host, met).set("k", value, ttl=TTL))
        self.networks[host].fates = []

    @rule(host=st.integers(0, HOSTS - 1), met=fates)
    def erase(self, host: int, met: list[Fate]) -> None:
        acknowledged = self.run(self.at(host, met).erase("k"))
        self.networks[host].fates = []
        if acknowledged:
            self.dead.update(self.set_by_hand)

    @rule(host=st.integers(0, HOSTS - 1), met=fates)
    def replay(self, host: int, met: list[Fate]) -> None:
        self.run(self.at(host, met).runtime.coherence.send_batch())
        self.networks[host].fates = []

    @precondition(lambda self: self.bench.sealed)
    @rule(keep=st.integers(1, 2))
    def rotate(self, keep: int) -> None:
        self.ring = [new_key(), *self.ring[: keep - 1]]
        self.every_key.insert(0, self.ring[0])

    # --- what the network and the clocks do -----------------------------------------------------------

    @precondition(lambda self: self.world.held)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        held = self.world.held
        self.run(held.pop(data.draw(st.integers(0, len(held) - 1)))())

    @precondition(lambda self: self.bench.moves_time)
    @rule(seconds=st.sampled_from([1.0, 9.0, DAY / 2, DAY - 1, DAY + 1]))
    def pass_time(self, seconds: float) -> None:
        for clock in (self.world.clock, *self.clocks):
            clock.elapsed += seconds

    @rule(host=st.integers(0, HOSTS - 1), days=st.sampled_from([-2, 2]))
    def jump(self, host: int, days: int) -> None:
        self.clocks[host].ahead += days * DAY

    @precondition(lambda self: self.bench.moves_time)
    @rule(days=st.sampled_from([-2, 2]))
    def jump_of_the_store(self, days: int) -> None:
        self.world.clock.ahead += days * DAY

    # --- what holds at every moment -------------------------------------------------------------------

    def texts(self, cache: Cache, user: str, ttl: float = TTL) -> list[str]:
        window = RollingWindow(cache, f"snapshots:{user.replace('{', '%7B').replace('}', '%7D')}", 10, ttl)
        return [str(item["text"]) for item in self.run(window.recent(10))]

    @invariant()
    def no_text_that_was_forgotten_is_anywhere(self) -> None:
        for user in USERS:
            kept = self.texts(self.auditor, user, 100 * 365 * DAY)
            assert not self.dead & {*kept}
            assert len(kept) <= 3
        assert self.run(self.auditor.get("k")) not in self.dead

    @invariant()
    def no_text_is_read_that_is_older_than_its_ttl(self) -> None:
        now = self.run(self.world.store.window("no window", PATIENCE, 1)).now
        for cache in self.caches:
            for user in USERS:
                for text in self.texts(cache, user):
                    assert now - self.world.landed[text] <= TTL


def check(open_empty: Callable[[JumpingClock], Store], *, moves_time: bool, sealed: bool, examples: int) -> None:
    with asyncio.Runner() as runner:

        class Machine(Forgetting):
            bench = Bench(runner, open_empty, moves_time, sealed)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )


@pytest.fixture(autouse=True)
def _refusals_are_never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not decide how a push goes on: hypothesis repeats sequences, which have to go as before."""
    monkeypatch.setattr("cachekit._tiers.windows._SOON", PATIENCE)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "plain"])
def test_in_memory_nothing_comes_back_whatever_clocks_and_network_do(sealed: bool) -> None:
    check(lambda clock: MemoryStore(clock=clock), moves_time=True, sealed=sealed, examples=sized(60, 400))


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "plain"])
def test_on_a_server_nothing_comes_back_whatever_the_network_does(redis_server: RedisServer, sealed: bool) -> None:
    def opens(_clock: JumpingClock) -> Store:
        redis_server.cli("FLUSHALL")
        return open_store(redis_server.url, clock=SystemClock())

    check(opens, moves_time=False, sealed=sealed, examples=sized(15, 100))


class Congested(MemoryStore):
    """A store whose server is never to blame: all the time was lost in this process."""

    def time_lost(self, key: str, seconds: float) -> float:
        return seconds


async def test_a_push_that_was_late_is_given_up_also_if_this_process_lost_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have begun before the window was forgotten elsewhere, however little of its budget it has used."""
    monkeypatch.setattr("cachekit._tiers.windows._SOON", 0.0)
    monkeypatch.setattr("cachekit._tiers.guard._LONG", 0.0)
    store = Congested()
    window = RollingWindow(Cache(store), "w", 10, TTL)
    assert await window.push({"text": "a"})
    await store.delete(["w"], PATIENCE)
    assert not await window.push({"text": "late"})
    assert await window.push({"text": "b"})
    assert [item["text"] for item in await window.recent(10)] == ["b"]
