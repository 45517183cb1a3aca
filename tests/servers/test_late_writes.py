"""A write that was given up on its way never lands behind a removal that was acknowledged later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import pytest

from cachekit import Cache, SnapshotStore
from tests.kit.binaries import first_server
from tests.kit.cluster import RedisCluster
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

# Large, so that a server reads it in several turns, between which it carries out the commands of others.
TEXT: Final = "a text that was given up on its way" * 12_000
PATIENCE: Final = 30.0

pytestmark = pytest.mark.server

Write = Callable[[Cache], Awaitable[bool]]
WRITES: Final[dict[str, tuple[Write, str]]] = {
    "a snapshot": (lambda cache: SnapshotStore(cache).save_snapshot("42", TEXT, 8), "snapshots:42"),
    "a value by hand": (lambda cache: cache.set("k", TEXT, ttl=600), "k"),
}


def done(server: RedisServer) -> int:
    """Return how many writes the server has carried out, or refused."""
    stats = server.cli("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "set"))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("remover", ["here", "elsewhere"])
async def test_a_write_that_the_network_delivers_late_is_void(
    own_server: RedisServer, write: str, remover: str
) -> None:
    perform, key = WRITES[write]
    async with (
        FaultProxy(own_server.port) as proxy,
        Cache(proxy.url, timeout=0.25) as here,
        Cache(own_server.url, timeout=PATIENCE) as elsewhere,
    ):
        await until_done(perform, here)
        await proxy.set(Fault.HOLD, new=False)
        assert await perform(here) is False
        removing = {"here": here, "elsewhere": elsewhere}[remover]
        acknowledged = False

        async def remove() -> None:
            nonlocal acknowledged
            acknowledged = await removing.delete(key)

        # The lane gives the connection up, and a probe makes a new one.
        await until(lambda: acknowledged, remove)
        before = done(own_server)
        await proxy.heal()
        await until(lambda: done(own_server) > before)
        assert own_server.cli("EXISTS", key) == 0
        assert await perform(elsewhere), "the next one that begins is stored"


Setup = RedisServer | RedisCluster | SentinelSetup


@pytest.fixture(params=["one server", "cluster", "sentinel"])
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    binary = first_server()
    made: Setup
    if request.param == "cluster":
        made = RedisCluster(binary, replicas=0)
    else:
        made = RedisServer(binary) if request.param == "one server" else SentinelSetup(binary)
    with made:
        yield made


def master_of(setup: Setup, key: str) -> RedisServer:
    if isinstance(setup, RedisServer):
        return setup
    return setup.master_of(key) if isinstance(setup, RedisCluster) else setup.master


@pytest.mark.parametrize("write", WRITES)
async def test_a_server_that_wakes_up_brings_nothing_back(setup: Setup, write: str) -> None:
    """What stood in the sockets of a server that was stopped is carried out when it goes on, in any order."""
    perform, key = WRITES[write]
    server = master_of(setup, key)
    async with Cache(setup.url, timeout=0.1) as here, Cache(setup.url, timeout=PATIENCE) as elsewhere:
        for _ in range(3):
            await until_done(perform, here)
            assert await elsewhere.delete("another key")
            before = done(server)
            await asyncio.to_thread(server.pause)
            assert await perform(here) is False
            removing = asyncio.create_task(elsewhere.delete(key))
            await asyncio.sleep(0)
            await asyncio.to_thread(server.resume)
            assert await removing
            await until(partial(carried_out, server, before))
            assert server.cli("EXISTS", key) == 0


def carried_out(server: RedisServer, before: int) -> bool:
    return done(server) > before


async def until_done(write: Write, cache: Cache) -> None:
    written = False

    async def perform() -> None:
        nonlocal written
        written = await write(cache)

    await until(lambda: written, perform)


async def test_a_save_that_begins_after_a_forget_elsewhere_is_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pause of this process must not look like a save that the network delayed.
    monkeypatch.setattr("cachekit._tiers.windows._SOON", PATIENCE)
    async with Cache(setup.url, timeout=PATIENCE) as here, Cache(setup.url, timeout=PATIENCE) as there:
        mine, theirs = SnapshotStore(here), SnapshotStore(there)
        assert await mine.save_snapshot("42", "first", 1)
        assert await theirs.forget("42")
        assert await mine.get_recent_snapshots("42") == []
        assert await mine.save_snapshot("42", "second", 1)
        assert await theirs.save_snapshot("42", "third", 1)
        assert [found.text for found in await mine.get_recent_snapshots("42")] == ["third", "second"]
        assert await theirs.forget("42")
        assert await mine.save_snapshot("42", "fourth", 1), "without a read in between"
        assert [found.text for found in await theirs.get_recent_snapshots("42")] == ["fourth"]


async def test_a_save_that_the_network_delays_is_void_behind_a_forget_elsewhere(own_server: RedisServer) -> None:
    """It is not given up: its process waits for it. It began before the forget, so it does not open the window anew."""
    async with (
        FaultProxy(own_server.port) as proxy,
        Cache(proxy.url, timeout=PATIENCE) as here,
        Cache(own_server.url, timeout=PATIENCE) as elsewhere,
    ):
        mine, theirs = SnapshotStore(here), SnapshotStore(elsewhere)
        assert await mine.save_snapshot("42", "first", 1)
        await proxy.set(Fault.HOLD)
        saving = asyncio.create_task(mine.save_snapshot("42", TEXT, 8))
        # Longer than a refusal may take to be tried again.
        await asyncio.sleep(0.15)
        assert await theirs.forget("42")
        await proxy.heal()
        assert await saving is False
        assert await theirs.get_recent_snapshots("42") == []
        assert await mine.save_snapshot("42", "second", 1)


async def test_a_save_that_a_forget_of_the_same_process_overtakes_is_void(own_server: RedisServer) -> None:
    async with FaultProxy(own_server.port) as proxy, Cache(proxy.url, timeout=PATIENCE) as cache:
        store = SnapshotStore(cache)
        for known in (True, False):
            assert await store.save_snapshot("42", "first", 1)
            if not known:
                assert await store.forget("42")
            saving = asyncio.create_task(store.save_snapshot("42", TEXT, 8))
            forgetting = asyncio.create_task(store.forget("42"))
            await asyncio.wait([saving, forgetting])
            assert forgetting.result()
            assert await store.get_recent_snapshots("42") == []
