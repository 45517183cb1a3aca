"""No sequence of saves, forgets, rotations, jumps of clocks and faults of the network brings a forgotten text back.

Two processes share a store, each behind a network of its own, which may lose a command, lose its answer, deliver it
at any later time, or deliver it twice. hypothesis looks for a sequence after which a text stands in the store, or is
read, though a forget that began after its save was acknowledged, or though it is older than its ttl by the store's
clock. A value that was set by hand and erased is looked for in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import product
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
from cachekit.stores.scripts import Fill, OpenWindow, Push, Script
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized

T = TypeVar("T")

DAY: Final = 86_400.0
TTL: Final = DAY
PATIENCE: Final = 30.0
HOSTS: Final = 2
FOR_EVER: Final = 100 * 365 * DAY


class Fate(Enum):
    """What the network does with one command."""

    DELIVERED = auto()
    LOST = auto()
    UNHEARD = auto()
    HELD = auto()
    TWICE = auto()


BAD: Final = [fate for fate in Fate if fate is not Fate.DELIVERED]

# Of the first commands of a call. All that a rule needs to find is that one of the first two meets with trouble.
fates = st.sampled_from(
    [(), (), (), *product(BAD), *product([Fate.DELIVERED], BAD), *product(BAD, BAD)],
)
hosts = st.integers(0, HOSTS - 1)


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
        self.fates: Sequence[Fate] = ()
        self.text = ""

    def shard(self, key: str) -> None:
        return None

    async def _send(self, command: Callable[[], Awaitable[T]], *, repeated: bool = True) -> T:
        fate, self.fates = self.fates[0] if self.fates else Fate.DELIVERED, self.fates[1:]
        if fate is Fate.HELD or (fate is Fate.TWICE and repeated):
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
        # Never twice: a client does not send again what takes a lease, and TCP delivers once.
        seize = partial(self._world.store.seize_lease, key, PATIENCE, token, lease_ms=lease_ms)
        await self._send(seize, repeated=False)

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
    """Processes on one store, networks and clocks."""

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
        # One more process. It only reads, behind a network that is well.
        self.clocks.append(JumpingClock())
        self.reader = Cache(self.world.store, timeout=PATIENCE, clock=self.clocks[-1], keys=auditing)
        self.written: list[str] = []
        self.dead: set[str] = set()

    def teardown(self) -> None:
        for cache in self.caches:
            cache.runtime.coherence.journal.remove(["snapshots:42", "k"], 1 << 40)
        self.run(self.world.store.aclose())

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.bench.runner.run(wait())

    def call(self, host: int, met: Sequence[Fate], work: Callable[[Cache], Awaitable[T]], text: str = "") -> T:
        """Let a process do ``work``, whose commands meet these fates."""
        network = self.networks[host]
        network.fates, network.text = met, text
        try:
            return self.run(work(self.caches[host]))
        finally:
            network.fates = ()

    def new_text(self) -> str:
        self.written.append(f"text {len(self.written)}")
        return self.written[-1]

    # --- what processes, networks and clocks do -------------------------------------------------------

    @rule(host=hosts, met=fates)
    def replay(self, host: int, met: Sequence[Fate]) -> None:
        self.call(host, met, lambda cache: cache.runtime.coherence.send_batch())

    @precondition(lambda self: self.world.held)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        held = self.world.held
        self.run(held.pop(data.draw(st.integers(0, len(held) - 1)))())


class ForgettingWindows(Forgetting):
    """The snapshots of one user are saved, read and forgotten."""

    @rule(host=hosts, met=fates)
    def save(self, host: int, met: Sequence[Fate]) -> None:
        text = self.new_text()
        if self.call(host, met, lambda cache: SnapshotStore(cache, 3, TTL).save_snapshot("42", text, 2), text):
            found = self.texts(self.auditor, FOR_EVER)
            assert text in found, "what was confirmed is there"
            assert self.ages(found) <= TTL, "nothing older is kept while the writer keeps writing"

    @rule(host=hosts, met=fates)
    def read(self, host: int, met: Sequence[Fate]) -> None:
        found = self.call(host, met, lambda cache: SnapshotStore(cache, 3, TTL).get_recent_snapshots("42"))
        assert self.ages([snapshot.text for snapshot in found]) <= TTL

    @rule(host=hosts, met=fates)
    def forget(self, host: int, met: Sequence[Fate]) -> None:
        if self.call(host, met, lambda cache: SnapshotStore(cache).forget("42")):
            self.dead.update(self.written)

    @precondition(lambda self: self.bench.sealed)
    @rule(keep=st.integers(1, 2))
    def rotate(self, keep: int) -> None:
        self.ring = [new_key(), *self.ring[: keep - 1]]
        self.every_key.insert(0, self.ring[0])

    @precondition(lambda self: self.bench.moves_time)
    @rule(seconds=st.sampled_from([1.0, DAY / 2, DAY / 2 + 1, DAY + 1]))
    def pass_time(self, seconds: float) -> None:
        for clock in (self.world.clock, *self.clocks):
            clock.elapsed += seconds

    @rule(host=st.integers(0, HOSTS + 1), days=st.sampled_from([-2, 2]))
    def jump(self, host: int, days: int) -> None:
        """Let a clock jump, of a host or of the store, unless that is a server."""
        if host <= HOSTS:
            self.clocks[host].ahead += days * DAY
        elif self.bench.moves_time:
            self.world.clock.ahead += days * DAY

    def texts(self, cache: Cache, ttl: float) -> list[str]:
        return [str(item["text"]) for item in self.run(RollingWindow(cache, "snapshots:42", 10, ttl).recent(10))]

    def ages(self, found: list[str]) -> float:
        """Return the age of the oldest text by the clock of the store."""
        now = self.run(self.world.store.window("no window", PATIENCE, 1)).now
        return max([now - self.world.landed[text] for text in found], default=0.0)

    # Not by the processes that write: a read brings a process the generation.
    @invariant()
    def no_text_that_was_forgotten_is_there(self) -> None:
        found = self.texts(self.auditor, FOR_EVER)
        assert not self.dead & {*found}
        assert len(found) <= 3

    @invariant()
    def no_text_is_read_that_is_older_than_its_ttl(self) -> None:
        assert self.ages(self.texts(self.reader, TTL)) <= TTL


class ForgettingValues(Forgetting):
    """A value is set by hand and erased."""

    @rule(host=hosts, met=fates)
    def set(self, host: int, met: Sequence[Fate]) -> None:
        value = self.new_text()
        self.call(host, met, lambda cache: cache.set("k", value, ttl=TTL))

    @rule(host=hosts, met=fates)
    def erase(self, host: int, met: Sequence[Fate]) -> None:
        if self.call(host, met, lambda cache: cache.erase("k")):
            self.dead.update(self.written)

    @invariant()
    def no_value_that_was_erased_is_there(self) -> None:
        assert self.run(self.auditor.get("k")) not in self.dead


Opens = Callable[[JumpingClock], Store]


def check(machine: type[Forgetting], open_empty: Opens, *, moves_time: bool, sealed: bool, examples: int) -> None:
    with asyncio.Runner() as runner:
        bench = Bench(runner, open_empty, moves_time, sealed)
        run_state_machine_as_test(
            type(machine.__name__, (machine,), {"bench": bench}),
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )


@pytest.fixture(autouse=True)
def _refusals_are_never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not decide how a push goes on: hypothesis repeats sequences, which have to go as before."""
    monkeypatch.setattr("cachekit._tiers.windows._SOON", PATIENCE)


MACHINES: Final = {
    "sealed windows": (ForgettingWindows, True),
    "plain windows": (ForgettingWindows, False),
    "values": (ForgettingValues, False),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_in_memory_nothing_comes_back_whatever_clocks_and_network_do(machine: str) -> None:
    kind, sealed = MACHINES[machine]
    check(kind, lambda clock: MemoryStore(clock=clock), moves_time=True, sealed=sealed, examples=sized(80, 400))


@pytest.mark.parametrize("machine", MACHINES)
def test_on_a_server_nothing_comes_back_whatever_the_network_does(redis_server: RedisServer, machine: str) -> None:
    def opens(_clock: JumpingClock) -> Store:
        redis_server.cli("FLUSHALL")
        return open_store(redis_server.url, clock=SystemClock())

    kind, sealed = MACHINES[machine]
    check(kind, opens, moves_time=False, sealed=sealed, examples=sized(25, 125))


class Overtaken(MemoryStore):
    """A store in which a window is forgotten just before a step of the kind ``before`` is carried out."""

    before: type[Script[Any]] | None = None
    forget: Callable[[], Awaitable[Any]]

    async def run(self, key: str, timeout: float, script: Script[T]) -> T:
        if self.before is not None and isinstance(script, self.before):
            self.before = None
            await self.forget()
        return await super().run(key, timeout, script)


STEPS: Final[dict[str, tuple[bool, type[Script[Any]], bool]]] = {
    "before the first command": (False, OpenWindow, True),
    "between two commands": (False, Push, False),
    "before the first command to a known window": (True, Push, True),
}
"""By the moment at which another process forgets the window: whether the save knows it, and whether it is kept."""


@pytest.mark.parametrize("moment", STEPS)
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_save_is_void_behind_a_forget_here_and_if_its_first_command_came_before_one_elsewhere(
    where: str, moment: str
) -> None:
    known, before, kept = STEPS[moment]
    store = Overtaken()
    window = RollingWindow(Cache(store, timeout=PATIENCE), "w", 10, TTL)
    if known:
        assert await window.push({"text": "forgotten"})
    store.before, store.forget = before, window.forget if where == "here" else partial(store.delete, ["w"], PATIENCE)
    found = ["under way"] if kept and where == "elsewhere" else []
    assert await window.push({"text": "under way"}) is bool(found)
    assert [item["text"] for item in await window.recent(10)] == found


class SlowToAnswer(MemoryStore):
    """A store whose answer to a read of a window is overtaken by a forget."""

    forget: Callable[[], Awaitable[Any]] | None = None

    async def window(self, key: str, timeout: float, count: int) -> Window:
        window = await super().window(key, timeout, count)
        if self.forget is not None:
            await self.forget()
        return window


async def test_a_read_that_a_forget_overtakes_does_not_bring_the_old_generation_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = SlowToAnswer()
    window = RollingWindow(Cache(store, timeout=PATIENCE), "w", 10, TTL)
    assert await window.push({"text": "forgotten"})
    store.forget = window.forget
    await window.recent(10)
    store.forget = None
    # A push under it would be refused, and on a slow network lost.
    monkeypatch.setattr("cachekit._tiers.windows._SOON", 0.0)
    assert await window.push({"text": "next"})
    assert [item["text"] for item in await window.recent(10)] == ["next"]


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
