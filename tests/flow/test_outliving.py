"""Things that outlive a load, or end before it: tasks that were started inside it, coroutines that are closed."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import logging
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
import pytest_asyncio

from cachekit import Cache, SnapshotStore
from cachekit._flow import lease
from cachekit._flow.commit import Changes, open_block
from cachekit._flow.flight import Landed
from cachekit._flow.lease import MOST_GIVING_BACK
from cachekit._flow.nesting import inside
from cachekit._tiers.journal import LIMIT
from cachekit.loops import future_factory
from cachekit.stores.scripts import ReleaseLease, Script
from cachekit.testing import FailingStore
from tests import ROOT
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

PATIENCE = 30.0


class Value(dict[str, int]):
    """A result that can be referred to weakly."""


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        assert not cache.runtime.flights.open_loops, "a flight was left open"


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Keeper:
    """A cached function that starts a task which outlives it, as a pool or a consumer does."""

    def __init__(self, cache: Cache) -> None:
        self.go_on = asyncio.Event()
        self.hang = asyncio.Event()
        self.began = asyncio.Event()
        self.depths: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

        @cache.cached(key="k", ttl=60)
        async def load(*, hangs: bool) -> Value:
            self.tasks.append(asyncio.create_task(self._keep()))
            self.began.set()
            if hangs:
                await self.hang.wait()
            return Value(n=1)

        self.load = load

    async def _keep(self) -> None:
        await self.go_on.wait()
        self.depths.append(len(inside()))

    async def end(self) -> list[int]:
        self.go_on.set()
        await asyncio.gather(*self.tasks)
        return self.depths


async def test_a_task_that_outlives_a_load_does_not_keep_its_result() -> None:
    keeper = Keeper(Cache("memory://"))
    result = weakref.ref(await keeper.load(hangs=False))
    gc.collect()
    assert result() is None
    await keeper.end()


async def test_a_task_that_outlives_a_load_that_was_cancelled_is_not_inside_it(cache: Cache) -> None:
    keeper = Keeper(cache)
    caller = asyncio.create_task(keeper.load(hangs=True))
    await keeper.began.wait()
    caller.cancel()
    await asyncio.wait([caller])
    assert await keeper.end() == [0]


async def test_a_task_of_a_cancelled_load_is_not_inside_the_load_that_replaces_it() -> None:
    keeper = Keeper(Cache("memory://"))
    first, second = [asyncio.create_task(keeper.load(hangs=True)) for _ in range(2)]
    await keeper.began.wait()
    await turns()
    first.cancel()
    await turns()
    assert len(keeper.tasks) == 2, "the second caller loads now"
    keeper.go_on.set()
    await turns()
    assert sorted(keeper.depths) == [0, 1], "of the cancelled load, and of the one that goes on"
    keeper.hang.set()
    await asyncio.wait([first, second])
    await keeper.end()


async def test_a_task_that_outlives_a_block_does_not_keep_what_the_block_held() -> None:
    cache = Cache("memory://")
    over = asyncio.Event()

    async def keep() -> object:
        block = open_block(cache.runtime)
        await over.wait()
        return block and block.held

    async with cache.after_commit():
        await cache.delete("k")
        await cache.set("k", "a value", ttl=60)
        task = asyncio.create_task(keep())
        await turns()
    over.set()
    assert await task == Changes()


# --- closed from outside --------------------------------------------------------------------------------


async def test_a_waiting_caller_whose_coroutine_is_closed_is_not_chosen_to_load() -> None:
    cache = Cache("memory://")
    runs = 0

    @cache.cached(key="k", ttl=60)
    async def load() -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()
        return runs

    leader = asyncio.create_task(load())
    await turns()
    waiter = load()
    waiter.send(None)
    waiter.close()
    leader.cancel()
    await asyncio.wait([leader])
    async with asyncio.timeout(PATIENCE):
        assert await load() == 2


async def test_a_promoted_caller_whose_coroutine_is_closed_promotes_the_next_one() -> None:
    cache = Cache("memory://")
    runs = 0

    @cache.cached(key="k", ttl=60)
    async def load() -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()
        return runs

    leader = asyncio.create_task(load())
    await turns()
    patient = asyncio.create_task(load())
    await turns()
    newest = load()
    newest.send(None)
    leader.cancel()
    await asyncio.wait([leader])
    newest.close()
    async with asyncio.timeout(PATIENCE):
        assert await patient == 2


async def test_a_loading_caller_whose_coroutine_is_closed_lets_a_waiting_one_load() -> None:
    cache = Cache("memory://")
    runs = 0

    @cache.cached(key="k", ttl=60)
    async def load() -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()
        return runs

    leader = load()
    copy_context().run(leader.send, None)
    waiter = asyncio.create_task(load())
    await turns()
    leader.close()
    async with asyncio.timeout(PATIENCE):
        assert await waiter == 2


async def test_a_coroutine_that_is_closed_inside_another_load_leaves_that_one_as_it_was() -> None:
    cache = Cache("memory://")

    @cache.cached(key="hangs", ttl=60)
    async def hangs() -> int:
        await asyncio.Event().wait()
        return 1

    @cache.cached(key="k", ttl=60)
    async def load() -> int:
        stray.close()
        return len(inside())

    stray = hangs()
    copy_context().run(stray.send, None)
    assert await load() == 1


# --- loops that end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [False, True], ids=["sharing", "following"])
def test_a_loop_closed_with_callers_in_it_leaves_no_flight_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, *, down: bool
) -> None:
    store = FailingStore()
    cache = Cache(store, timeout=PATIENCE)
    raised: list[object] = []
    if down:
        # A caller follows an earlier load, of which the store cannot tell whether it was invalidated.
        store.fail()

    @cache.cached(key="k", ttl=60)
    async def load() -> int:
        await asyncio.Event().wait()
        return 1

    loop = asyncio.new_event_loop()
    # It is told of each task that was destroyed while it was pending.
    loop.set_exception_handler(lambda *_: None)
    callers = [loop.create_task(load()) for _ in range(3)]
    loop.run_until_complete(turns())
    loop.close()
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    # The loading caller goes first, and finds others that wait.
    while callers:
        callers.pop(0)
        gc.collect()
    assert raised == []
    assert not cache.runtime.flights.open_loops


# --- requests that are over -----------------------------------------------------------------------------

request_of_the_caller: ContextVar[Value] = ContextVar("request_of_the_caller")


async def first_request(call: Callable[[], Coroutine[Any, Any, object]]) -> weakref.ref[Value]:
    """Return a reference to a request that makes the first call, and is over."""

    async def handle() -> weakref.ref[Value]:
        request = Value()
        request_of_the_caller.set(request)
        await call()
        return weakref.ref(request)

    return await asyncio.create_task(handle())


async def test_nothing_that_a_first_call_starts_keeps_its_request_alive(store_url: str) -> None:
    async with Cache(store_url, timeout=5, near=10) as cache:

        @cache.cached(key="k", ttl=60)
        async def load() -> int:
            return 1

        request = await first_request(load)
        await load()
        await turns()
        gc.collect()
        assert request() is None


async def test_a_first_call_in_an_outage_leaves_nothing_that_keeps_its_request_alive() -> None:
    async with Cache("redis://127.0.0.1:1", timeout=0.2) as cache:

        async def call() -> None:
            for _ in range(5):
                await cache.delete("k")

        request = await first_request(call)
        await turns()
        gc.collect()
        assert request() is None


async def test_the_renewal_of_a_lease_keeps_no_request_alive() -> None:
    store = FailingStore()
    async with Cache(store) as cache:

        async def call() -> None:
            @cache.cached(key="k", ttl=60)
            async def load() -> int:
                store.fail()
                raise LookupError

            with contextlib.suppress(LookupError):
                await load()

        request = await first_request(call)
        await turns()
        gc.collect()
        assert request() is None
        store.recover()


def test_every_task_and_timer_is_started_in_an_empty_context() -> None:
    """Each is an argument of `detached`. What lasts for one turn of the loop (`call_soon`) need not be.

    The tasks of `warm` call the user's function for their caller, and have ended before it goes on.
    """
    starting = {"create_task", "ensure_future", "call_later", "call_at", "add_done_callback"}
    called = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "cachekit").rglob("*.py")
        if path.name != "warm.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in starting
    ]
    assert called == []


# --- runs that end, and outages -------------------------------------------------------------------------


def test_a_run_that_ends_in_the_middle_of_a_load_costs_the_next_run_no_lease(store_url: str) -> None:
    cache = Cache(store_url, timeout=5)
    hangs = True

    @cache.cached(key="k", ttl=60, lease=3600)
    async def load() -> int:
        if hangs:
            await asyncio.Event().wait()
        return 1

    async def interrupted() -> None:
        tasks.append(asyncio.create_task(load()))
        await until(lambda: cache.runtime.flights.find_begun("k"))

    async def again() -> int:
        async with cache, asyncio.timeout(PATIENCE):
            return await load()

    tasks: list[asyncio.Task[int]] = []
    asyncio.run(interrupted())
    hangs = False
    assert asyncio.run(again()) == 1


async def test_an_outage_leaves_few_tasks_however_many_calls_there_are() -> None:
    store = FailingStore()
    before = len(asyncio.all_tasks())
    async with Cache(store) as cache:

        @cache.cached(key="k:<i>", ttl=60, lease=3600)
        async def load(i: int) -> int:
            return i

        store.fail()
        # The journal is full, so every call is to replace the value, and takes a lease that it does not hear of.
        cache.runtime.coherence.journal.add([str(n) for n in range(LIMIT + 1)])
        # In this store nothing takes a turn of the event loop, so no task ends meanwhile.
        for i in range(500):
            await load(i)
        assert len(asyncio.all_tasks()) - before < 100
        store.recover()


async def test_the_leases_of_an_outage_that_were_not_given_back_delay_nobody_in_this_process() -> None:
    store = FailingStore()
    async with Cache(store) as cache:

        @cache.cached(key="k:<i>", ttl=60, lease=3600)
        async def load(i: int) -> int:
            if fails:
                store.fail()
                raise LookupError
            return i

        fails = True
        for i in range(MOST_GIVING_BACK + 10):
            with contextlib.suppress(LookupError):
                await load(i)
            await turns(5)
            if i < MOST_GIVING_BACK + 9:
                store.recover()
        fails = False
        store.recover()
        async with asyncio.timeout(PATIENCE):
            assert [await load(i) for i in range(MOST_GIVING_BACK + 10)] == list(range(MOST_GIVING_BACK + 10))


async def test_few_leases_of_an_outage_are_remembered_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 5
    monkeypatch.setattr(lease, "MOST_LEFT_BEHIND", most)
    store = FailingStore()
    over = asyncio.Event()
    async with Cache(store) as cache:

        @cache.cached(key="k:<i>", ttl=60, lease=3600)
        async def load(i: int) -> int:
            await over.wait()
            return i

        loads = [asyncio.create_task(load(i)) for i in range(2 * MOST_GIVING_BACK)]
        await until(lambda: all(cache.runtime.flights.find_begun(f"k:{i}") for i in range(len(loads))))
        store.fail()
        over.set()
        assert await asyncio.gather(*loads) == [*range(len(loads))]
        assert len(cache.runtime.left_behind) == len(cache.runtime.owed) == most
        store.recover()


async def test_a_lease_that_is_owed_is_given_back_though_the_store_fails_once_more() -> None:
    class FailsOnceMore(FailingStore):
        released: int | None = None

        async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
            if isinstance(script, ReleaseLease) and self.released is not None:
                self.released += 1
                if self.released == 2:
                    raise ConnectionError
            return await super().run(key, timeout, script)

    store = FailsOnceMore()
    over = asyncio.Event()
    keys = [f"k:{i}" for i in range(2 * MOST_GIVING_BACK)]
    async with Cache(store) as cache:

        @cache.cached(key="k:<i>", ttl=60, lease=3600)
        async def load(i: int) -> int:
            await over.wait()
            return i

        loads = [asyncio.create_task(load(i)) for i in range(len(keys))]
        await until(lambda: all(cache.runtime.flights.find_begun(key) for key in keys))
        store.fail()
        over.set()
        await asyncio.gather(*loads)
        await turns()
        assert cache.runtime.owed
        store.released = 0
        store.recover()
        await until(lambda: not cache.runtime.giving_back)
        assert [key for key in keys if (await store.get_with_lease(key, PATIENCE))[1]] == []


async def test_leases_that_all_fail_to_be_given_back_at_once_delay_nobody_in_this_process() -> None:
    store = FailingStore()
    count = 3 * MOST_GIVING_BACK
    over, landed = asyncio.Event(), list[int]()

    def when(result: int) -> bool:
        landed.append(result)
        if len(landed) == count:
            store.fail()
        return len(landed) > count

    async with Cache(store) as cache:

        @cache.cached(key="k:<i>", ttl=60, lease=3600, when=when)
        async def load(i: int) -> int:
            await over.wait()
            return i

        loads = [asyncio.create_task(load(i)) for i in range(count)]
        await until(lambda: all(cache.runtime.flights.find_begun(f"k:{i}") for i in range(count)))
        over.set()
        await asyncio.gather(*loads)
        await turns()
        assert len(cache.runtime.giving_back) <= MOST_GIVING_BACK
        store.recover()
        async with asyncio.timeout(PATIENCE):
            assert [await load(i) for i in range(count)] == [*range(count)]


async def test_all_leases_that_were_held_when_the_store_failed_are_given_back_when_it_answers_again() -> None:
    store = FailingStore()
    over = asyncio.Event()
    keys = [f"k:{i}" for i in range(3 * MOST_GIVING_BACK)]
    async with Cache(store) as cache:

        @cache.cached(key="k:<i>", ttl=60, lease=3600)
        async def load(i: int) -> int:
            await over.wait()
            return i

        async def held() -> list[str]:
            return [key for key in keys if (await store.get_with_lease(key, PATIENCE))[1]]

        loads = [asyncio.create_task(load(i)) for i in range(len(keys))]
        await until(lambda: all(cache.runtime.flights.find_begun(key) for key in keys))
        assert await held() == keys
        store.fail()
        over.set()
        assert await asyncio.gather(*loads) == [*range(len(keys))]
        assert len(cache.runtime.giving_back) <= MOST_GIVING_BACK
        store.recover()
        await until(lambda: not cache.runtime.giving_back)
        assert await held() == []
        assert not cache.runtime.left_behind


# --- records of asyncio ---------------------------------------------------------------------------------


async def test_no_record_of_asyncio_in_debug_mode_shows_a_value_or_an_argument(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    assert loop.get_debug()
    logger = logging.getLogger("asyncio")
    filters, logger.filters = logger.filters, []
    slow, loop.slow_callback_duration = loop.slow_callback_duration, 0.0
    try:
        async with Cache(redis_server.url, timeout=5, near=10) as cache:
            snapshots = SnapshotStore(cache)
            await snapshots.save_snapshot("42", "SECRET text", 1)
            await snapshots.get_recent_snapshots("42")

            @cache.cached(key="k", ttl=60, load_timeout=PATIENCE)
            async def load(secret: str) -> str:
                await turns(2)
                # Short: asyncio shows the beginning and the end of what is longer.
                return secret

            async def call() -> None:
                await load("SECRET")

            await asyncio.gather(*[call() for _ in range(5)])
            await call()
            await cache.get("k")
    finally:
        logger.filters, loop.slow_callback_duration = filters, slow
    assert any(record.getMessage().startswith("Executing") for record in caplog.records)
    assert "SECRET" not in caplog.text


async def test_a_future_in_debug_mode_and_the_end_of_a_load_do_not_show_their_values() -> None:
    future = future_factory(asyncio.get_running_loop())()
    future.set_result("SECRET")
    assert "SECRET" not in repr(future)
    assert "SECRET" not in repr(Landed("SECRET"))
