"""An invalidation that could not reach the store is kept, holds in this process at once, and is replayed.

The second half is about `after_commit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, RollingWindow
from cachekit._tiers.distrust import Distrust
from cachekit._tiers.guard import Budget
from cachekit._tiers.journal import BATCH, DAY, Journal
from cachekit._tiers.reporter import Reporter
from cachekit.errors import KeyRefusedError, StoreUnavailableError
from cachekit.events import Event, Filled, Invalidated, InvalidationsLost, InvalidationsReplayed
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import Fill, Lease, Script
from cachekit.testing import FailingStore, FakeClock
from tests.kit.servers import RedisServer
from tests.kit.stale import turns
from tests.kit.telling import bare
from tests.kit.waiting import PATIENCE, until

T = TypeVar("T")


class Source:
    """A cached function, and the source of truth behind it."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.truth = "old"
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

        @cache.cached(key="k", ttl=600, **options)
        async def read() -> str:
            found = self.truth
            self.began.set()
            await self.go_on.wait()
            return found

        self.read = read


async def test_redis_down_during_an_invalidation_and_back_with_the_old_value_serves_it_to_nobody(
    own_server: RedisServer,
) -> None:
    """The server hangs while the invalidation is sent. Its connection is killed, and it wakes up with the old value."""
    events: list[Event] = []
    async with Cache(own_server.url, timeout=0.2) as here, Cache(own_server.url, timeout=0.2) as elsewhere:
        here.observe(events.append)
        ours, theirs = Source(here), Source(elsewhere)
        # The deadline is short, since the server will hang. A busy machine may miss it before.
        await until(lambda: own_server.cli("GET", "k") == b'"old"', ours.read)
        assert await theirs.read() == "old"

        @here.invalidates("k")
        async def write() -> None:
            ours.truth = theirs.truth = "new"

        own_server.pause()
        await write()
        assert Invalidated(("k",), acknowledged=False) in bare(events)
        assert await ours.read() == "new", "it holds here at once"
        own_server.resume()
        assert await ours.read() == "new", "and before it is replayed"
        await until(lambda: not len(here.runtime.coherence.journal))
        assert await theirs.read() == "new", "and after the replay everywhere"
        assert InvalidationsReplayed(1) in events


async def test_a_server_that_was_killed_and_came_back_with_its_data_serves_nothing_invalidated_meanwhile(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server("appendonly yes", "appendfsync always")
    # A server that was killed refuses at once, so no call waits for the deadline.
    async with Cache(server.url, timeout=PATIENCE) as here, Cache(server.url, timeout=PATIENCE) as elsewhere:
        ours, theirs = Source(here), Source(elsewhere)
        await ours.read()
        server.kill()
        ours.truth = theirs.truth = "new"
        assert await ours.read.invalidate() is False
        server.restart()
        assert server.cli("GET", "k") == b'"old"', "the server has its data back"
        assert await ours.read() == "new"
        await until(lambda: not len(here.runtime.coherence.journal))
        assert await theirs.read() == "new"


@pytest_asyncio.fixture
async def store() -> FailingStore:
    return FailingStore()


@pytest_asyncio.fixture
async def cache(store: FailingStore) -> AsyncIterator[Cache]:
    async with Cache(store) as cache:
        yield cache
        store.recover()


async def test_a_pending_key_is_a_miss_for_every_way_of_reading(store: FailingStore, cache: Cache) -> None:
    source = Source(cache)
    await source.read()
    store.fail()
    assert await source.read.invalidate() is False
    store.recover()
    # The store answers again, but the replay has had no turn yet.
    assert await source.read.peek() is MISS
    assert await source.read.take() is MISS
    assert await cache.get("k") is None
    source.truth = "new"
    assert await source.read() == "new"


async def test_a_pending_key_is_a_miss_for_a_batch(store: FailingStore, cache: Cache) -> None:
    version, read, batch = _versions(cache)
    assert await batch([1, 2]) == {1: 0, 2: 0}
    store.fail()
    assert await read.invalidate(1) is False
    store.recover()
    version[0] = 1
    # The store answers again, but the replay has had no turn yet.
    assert await cache.get_many(["k:1", "k:2"]) == {"k:2": 0}
    assert await batch([1, 2]) == {1: 1, 2: 0}


def _versions(cache: Cache) -> tuple[list[int], Any, Any]:
    """Return a version, a function that loads it at each key, and its batch."""
    version = [0]

    @cache.cached(key="k:<number>", ttl=60)
    async def read(number: int) -> int:
        return version[0]

    @read.many(each="numbers")
    async def batch(numbers: list[int]) -> dict[int, int]:
        return dict.fromkeys(numbers, version[0])

    return version, read, batch


async def test_a_load_that_began_before_a_failed_invalidation_is_not_stored(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, events = Cache(store, timeout=PATIENCE), list[Event]()
    source, cut = Source(cache), Cut(store, monkeypatch)
    cache.observe(events.append)
    source.go_on.clear()
    caller = asyncio.create_task(source.read())
    await source.began.wait()
    cut.fails.set()
    assert await source.read.invalidate() is False
    # Its lease stands, since the store does not know: other processes would find the value until the replay.
    source.go_on.set()
    assert await caller == "old"
    assert not [event for event in events if isinstance(event, Filled)]
    assert await store.get("k", PATIENCE) is None
    cut.replays.set()
    await until(lambda: not len(cache.runtime.coherence.journal))
    assert await source.read.peek() is MISS
    await cache.aclose()


async def _invalidates(cache: Cache, source: Source, cut: Cut) -> None:
    @cache.invalidates("k", always=True)
    async def write() -> None:
        cut.hangs.set()
        await asyncio.Event().wait()

    await write()


async def _puts(cache: Cache, source: Source, cut: Cut) -> None:
    # It has no lease, since the store did not hear of it: the load keeps its own.
    async with source.read.writing():
        cut.hangs.set()
        await asyncio.Event().wait()


async def _commits(cache: Cache, source: Source, cut: Cut) -> None:
    async with cache.after_commit():
        await cache.delete("another")
        await source.read.expire()
    # The removal of the other key comes first, and hangs.


@pytest.mark.parametrize("write", [_invalidates, _puts, _commits])
async def test_a_load_that_began_before_a_write_that_was_cancelled_is_not_stored(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, write: Callable[[Cache, Source, Cut], Awaitable[None]]
) -> None:
    cache, events = Cache(store, timeout=PATIENCE), list[Event]()
    source, cut = Source(cache, stale_if_error=60), Cut(store, monkeypatch)
    cache.observe(events.append)
    source.go_on.clear()
    caller = asyncio.create_task(source.read())
    await source.began.wait()
    writing = asyncio.ensure_future(write(cache, source, cut))
    await cut.hangs.wait()
    writing.cancel()
    await asyncio.wait([writing])
    assert cache.runtime.coherence.journal.holds("k")
    source.go_on.set()
    assert await caller == "old"
    assert not [event for event in events if isinstance(event, Filled)]
    assert await store.get("k", PATIENCE) is None
    cut.fails.set()
    cut.replays.set()
    # A caller that was cancelled begins nothing: the next read sees to it.
    await until(lambda: not len(cache.runtime.coherence.journal), partial(cache.get, "k"))
    await cache.aclose()


async def test_an_invalidation_whose_caller_was_cancelled_is_kept_or_done(own_server: RedisServer) -> None:
    async with Cache(own_server.url, timeout=PATIENCE) as cache:
        source = Source(cache)
        await source.read()
        own_server.pause()
        caller = asyncio.create_task(source.read.invalidate())
        await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        own_server.resume()
        source.truth = "new"
        assert await source.read() == "new"
        await until(lambda: not len(cache.runtime.coherence.journal))
    assert own_server.cli("EXISTS", "k") == 0


async def test_a_value_set_after_a_failed_invalidation_replaces_the_value_to_remove(
    store: FailingStore, cache: Cache
) -> None:
    await cache.set("k", "old", ttl=60)
    store.fail()
    assert await cache.delete("k") is False
    store.recover()
    assert await cache.set("k", "new", ttl=60)
    assert await cache.get("k") == "new"


async def test_the_journal_is_replayed_in_batches(store: FailingStore, cache: Cache) -> None:
    events: list[Event] = []
    for number in range(2 * BATCH + 1):
        await cache.set(f"k{number}", number, ttl=60)
    store.fail()
    for number in range(2 * BATCH + 1):
        await cache.delete(f"k{number}")
    cache.observe(events.append)
    store.recover()
    await until(lambda: not len(cache.runtime.coherence.journal))
    replayed = [event.count for event in events if isinstance(event, InvalidationsReplayed)]
    assert replayed == [BATCH, BATCH, 1]
    assert len(store) == 0


async def test_closing_drains_the_journal(store: FailingStore) -> None:
    async with Cache(store) as cache:
        await cache.set("k", "old", ttl=60)
        store.fail()
        await cache.delete("k")
        store.recover()
    assert len(store) == 0


async def test_closing_does_not_wait_long_for_a_store_that_is_down_and_logs_the_keys_that_are_left(
    store: FailingStore, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    async with Cache(store) as cache:
        cache.observe(events.append)
        store.fail()
        await cache.delete("a")
        await cache.delete("b")
    assert InvalidationsLost(2) in events
    assert "closed with 2 invalidations" in caplog.text


# --- bounded --------------------------------------------------------------------------------------------


def journal(clock: FakeClock, limit: int, events: list[Event] | None = None, *, remembered: int = 100) -> Journal:
    reporter = Reporter(clock)
    if events is not None:
        reporter.observe(events.append)
    return Journal(reporter, limit=limit, distrust=Distrust(limit=remembered))


def test_the_last_invalidation_of_a_key_stands_for_all_earlier_ones() -> None:
    entries = journal(FakeClock(), limit=2)
    for _ in range(100):
        entries.add(["a"])
    assert len(entries) == 1
    assert entries.batch() == ["a"]


def test_an_acknowledgement_does_not_cover_an_invalidation_that_came_after_it_was_asked_for() -> None:
    entries = journal(FakeClock(), limit=2)
    entries.add(["a", "b"])
    mark = entries.mark()
    entries.add(["a"])
    entries.remove(["a", "b"], mark)
    assert entries.batch() == ["a"]


def test_a_full_journal_reports_lost_keys_and_stays_correct_in_this_process(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    clock = FakeClock()
    entries = journal(clock, limit=2, events=events)
    entries.add(["a", "b", "c", "d"])
    entries.add(["e"])
    assert [event.count for event in events if isinstance(event, InvalidationsLost)] == [2, 1]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert [key for key in "abcdef" if entries.distrusts(key)] == ["c", "d", "e"]
    clock.advance(10 * DAY)
    assert entries.distrusts("c"), "the store has not even answered yet"
    entries.remove(["a", "b"], entries.mark())
    clock.advance(DAY - 0.1)
    assert entries.distrusts("c"), "what should have been removed may still be there"
    clock.advance(0.1)
    assert not entries.distrusts("c"), "by now it has expired"
    assert not entries


def test_distrust_lasts_as_long_as_the_longest_ttl_in_use() -> None:
    clock = FakeClock()
    entries = journal(clock, limit=1)
    entries.stored("long", 30 * DAY, entries.mark())
    entries.add(["a", "b"])
    entries.remove(["a"], entries.mark())
    clock.advance(29 * DAY)
    assert entries.distrusts("b")
    clock.advance(DAY)
    assert not entries.distrusts("b")


@pytest.fixture(params=[100, 1], ids=["lost-keys", "every-key"])
def overflowed(request: pytest.FixtureRequest) -> Journal:
    """A journal that has lost ``b`` and ``c``; one that remembers both, and one that distrusts every key."""
    entries = journal(FakeClock(), limit=1, remembered=request.param)
    entries.add(["a", "b", "c"])
    return entries


def test_a_key_stored_since_the_overflow_is_trusted_until_its_invalidation_is_lost(overflowed: Journal) -> None:
    overflowed.stored("b", 60, overflowed.mark())
    assert not overflowed.distrusts("b")
    overflowed.add(["b"])
    assert overflowed.distrusts("b")


def test_a_value_that_was_on_its_way_when_the_invalidation_of_its_key_was_lost_is_not_trusted(
    overflowed: Journal,
) -> None:
    began = overflowed.mark()
    overflowed.add(["b"])
    overflowed.stored("b", 60, began)
    assert overflowed.distrusts("b")


def test_a_removal_that_was_under_way_when_a_later_one_was_lost_is_no_reason_for_trust(overflowed: Journal) -> None:
    began = overflowed.mark()
    overflowed.add(["b"])
    overflowed.remove(["b"], began)
    assert overflowed.distrusts("b")


def test_a_lost_key_is_trusted_once_its_value_is_removed() -> None:
    entries = journal(FakeClock(), limit=1)
    entries.add(["a", "b", "c"])
    entries.remove(["b"], entries.mark())
    assert [key for key in "bc" if entries.distrusts(key)] == ["c"]


def test_invalidations_that_are_kept_and_replayed_later_do_not_prolong_distrust() -> None:
    clock = FakeClock()
    entries = journal(clock, limit=1)
    entries.add(["a", "b"])
    entries.remove(["a"], entries.mark())
    clock.advance(DAY / 2)
    entries.add(["a"])
    entries.remove(["a"], entries.mark())
    clock.advance(DAY / 2)
    assert not entries.distrusts("b")


def test_when_too_many_invalidations_were_lost_every_key_is_distrusted_that_was_not_stored_since() -> None:
    entries = journal(FakeClock(), limit=1, remembered=2)
    entries.add(["a", "b", "c", "d"])
    assert all(entries.distrusts(key) for key in "bcdxyz")
    entries.stored("x", 60, entries.mark())
    assert [key for key in "bcdxyz" if not entries.distrusts(key)] == ["x"]


def test_keys_that_are_asked_for_in_turn_are_hits_in_part_when_they_are_more_than_can_be_trusted() -> None:
    """If each took the place of another, each would be forgotten just before its next turn."""
    entries = journal(FakeClock(), limit=1, remembered=100)
    entries.add([f"lost:{number}" for number in range(102)])
    trusted = []
    for _ in range(5):
        for number in range(300):
            if entries.distrusts(f"k:{number}"):
                entries.stored(f"k:{number}", 60, entries.mark())
            else:
                trusted.append(number)
    assert len(trusted) > 4 * 100 / 2


def test_the_memory_of_lost_keys_and_the_one_of_trust_are_bounded() -> None:
    distrust = Distrust(limit=10)
    for number in range(100):
        distrust.lose(f"lost:{number}")
    for number in range(100):
        distrust.stored(f"k:{number}")
    assert sum(not distrust.covers(f"k:{number}") for number in range(100)) == 10


async def test_keys_that_were_not_invalidated_are_hits_after_an_overflow(store: FailingStore, cache: Cache) -> None:
    cache.runtime.coherence.journal._limit = 2
    loads = 0

    @cache.cached(key="k:<n>", ttl=600)
    async def read(n: int) -> int:
        nonlocal loads
        loads += 1
        return loads

    for n in range(50):
        await read(n)
    store.fail()
    for n in range(5):
        await read.invalidate(n)
    store.recover()
    await until(lambda: not len(cache.runtime.coherence.journal))
    before, loads = loads, 0
    assert [await read(n) for n in range(50)][5:] == list(range(6, before + 1)), "these were not invalidated"
    assert loads == 5
    assert [await read(n) for n in range(5)] == [1, 2, 3, 4, 5], "each was loaded once"
    assert loads == 5


async def test_a_fill_that_was_sent_before_its_key_was_lost_is_not_trusted(store: FailingStore, cache: Cache) -> None:
    journal = cache.runtime.coherence.journal
    journal._limit = 1
    run = store.run

    async def overtaken(key: str, timeout: float, script: Script[T]) -> T:
        answer = await run(key, timeout, script)
        if isinstance(script, Fill):
            journal.add(["other", "k"])
        return answer

    source = Source(cache)
    store.run = overtaken  # type: ignore[method-assign]
    assert await source.read() == "old"
    store.run = run  # type: ignore[method-assign]
    source.truth = "new"
    assert await source.read() == "new"


async def test_the_replay_of_an_empty_journal_starts_no_task(store: FailingStore, cache: Cache) -> None:
    cache.runtime.coherence.journal._limit = 1
    store.fail()
    await cache.delete("a")
    await cache.delete("b")
    store.recover()
    await until(lambda: not len(cache.runtime.coherence.journal))
    await cache.runtime.background.aclose()
    await cache.get("b")
    assert not cache.runtime.background._daemons


async def test_every_value_is_replaced_before_it_is_trusted_after_an_overflow(
    store: FailingStore, cache: Cache
) -> None:
    cache.runtime.coherence.journal._limit = 1
    async with Cache(store) as elsewhere:
        await elsewhere.set("k", "old", ttl=600)
        await elsewhere.set("challenge", "old", ttl=600)
    window = RollingWindow(cache, "w", limit=5, ttl="24h")
    await window.push({"text": "private"})
    store.fail()
    for key in ("other", "k", "challenge"):
        await cache.delete(key)
    await window.forget()
    store.recover()
    await until(lambda: not len(cache.runtime.coherence.journal))
    source = Source(cache)
    source.truth = "new"
    assert await cache.get("k") is None
    assert await source.read.peek() is MISS
    assert await source.read() == "new"
    assert await source.read.peek() == "new", "stored by this process since"
    assert await window.recent(5) == [], "it was to be forgotten"
    assert await window.push({"text": "new"})
    assert [item["text"] for item in await window.recent(5)] == ["new"]
    assert await cache.set("challenge", "new", ttl=300)
    assert await cache.take("challenge") == "new"


async def test_a_key_that_the_store_refuses_delays_no_other_key(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server("user app on >secret ~app:* ~{app:* +@all")
    events: list[Event] = []
    async with Cache(f"redis://app:secret@127.0.0.1:{server.port}", timeout=5) as cache:
        cache.observe(events.append)
        for number in range(3):
            await cache.set(f"app:{number}", "old", ttl=600)

        @cache.invalidates("app:0", "foreign:<x>", "app:1")
        async def write(x: int) -> None: ...

        await write(1)
        assert await cache.delete("\ud800") is False
        cache.runtime.coherence.journal.add(["app:2", "\ud800", "foreign:2"])
        await cache.get("anything")
        await until(lambda: server.cli("DBSIZE") == 0)
        await until(lambda: len(cache.runtime.coherence.journal) == 2)
        assert cache.runtime.coherence.journal.holds("foreign:1"), (
            "refused on this connection, the next may be allowed to"
        )
        # A key that cannot even be sent is not kept.
        assert sum(event.count for event in events if isinstance(event, InvalidationsLost)) == 2
        server.cli("ACL", "SETUSER", "app", "~*")
        server.cli("CLIENT", "KILL", "USER", "app")
        await until(lambda: not len(cache.runtime.coherence.journal), partial(cache.get, "anything"))


async def test_a_server_that_refuses_the_command_itself_leaves_no_invalidated_value_to_be_served(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server("user app on >secret ~* +@all -unlink")
    async with Cache(f"redis://app:secret@127.0.0.1:{server.port}", timeout=5) as cache:
        source = Source(cache)
        await source.read()
        source.truth = "new"
        assert await source.read.invalidate() is False
        assert await source.read() == "new"
        server.cli("ACL", "SETUSER", "app", "+unlink")
        server.cli("CLIENT", "KILL", "USER", "app")
        await until(lambda: not len(cache.runtime.coherence.journal), partial(cache.get, "anything"))
    assert server.cli("EXISTS", "k") == 0


def test_a_journal_is_replayed_in_the_next_event_loop_when_its_own_has_ended() -> None:
    store = FailingStore()
    cache = Cache(store)

    async def fail() -> None:
        await cache.set("k", "old", ttl=60)
        store.fail()
        await cache.delete("k")

    async def recover() -> None:
        store.recover()
        await cache.get("anything")
        await until(lambda: not len(cache.runtime.coherence.journal))

    asyncio.run(fail())
    asyncio.run(recover())
    assert len(store) == 0


async def test_a_caller_that_starts_after_a_failed_invalidation_gets_no_load_that_began_elsewhere_before_it() -> None:
    class Cut(MemoryStore):
        async def delete(self, *args: Any, **options: Any) -> None:
            await asyncio.sleep(0.05)
            raise StoreUnavailableError("unavailable", "cut off from deletes only")

    memory = MemoryStore()
    cut = Cut()
    cut._keyspace, cut._lock = memory._keyspace, memory._lock
    truth = "old"

    def decorate(cache: Cache, seconds: float) -> Any:
        @cache.cached(key="k", ttl=60)
        async def read() -> str:
            found = truth
            await asyncio.sleep(seconds)
            return found

        return read

    here, elsewhere = Cache(cut), Cache(memory)
    ours, theirs = decorate(here, 0), decorate(elsewhere, 0.15)
    loading = asyncio.create_task(theirs())
    await asyncio.sleep(0.01)
    truth = "new"
    invalidating = asyncio.create_task(ours.invalidate())
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(ours())
    assert await invalidating is False
    assert await ours() == "new"
    await asyncio.gather(loading, waiting)
    await here.runtime.background.aclose()
    await elsewhere.aclose()


@pytest.mark.parametrize("opened", ["during", "after"])
async def test_a_value_that_was_found_before_the_replay_is_for_no_call_that_starts_after_the_failed_invalidation(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, opened: str
) -> None:
    """The journal is empty again when the answer with the old value is heard, as it is where another shard is slow."""
    here, elsewhere = Cache(store, timeout=PATIENCE), Cache(store, timeout=PATIENCE)
    ours, theirs = Source(here), Source(elsewhere)
    theirs.go_on.clear()
    cut = Cut(store, monkeypatch)
    loading = asyncio.create_task(theirs.read())
    await theirs.began.wait()
    if opened == "after":
        cut.reads.clear()
        cut.reading.clear()
        early = asyncio.create_task(ours.read())
        await cut.reading.wait()
    ours.truth = theirs.truth = "new"
    invalidating = asyncio.create_task(ours.read.invalidate())
    await cut.removing.wait()
    if opened == "during":
        early = asyncio.create_task(ours.read())
        await cut.held.wait()
    cut.fails.set()
    assert await invalidating is False
    cut.reads.set()
    # It began before the end of the invalidation, and waits for the load of the other process.
    await cut.held.wait()
    late = asyncio.create_task(ours.read())
    await turns()
    theirs.go_on.set()
    await cut.found.wait()
    cut.replays.set()
    await until(lambda: not len(here.runtime.coherence.journal))
    cut.heard.set()
    assert await late == "new"
    assert await loading == "old"
    assert await early in {"old", "new"}
    await here.aclose()
    await elsewhere.aclose()


@pytest.mark.parametrize("windows", [{}, {"stale_if_error": 60}], ids=["plain", "timed"])
async def test_a_value_that_was_read_with_its_lease_before_the_replay_is_no_hit(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, windows: dict[str, Any]
) -> None:
    """As above, and as it is where the old value is large: such values are read on a connection of their own."""
    cache = Cache(store, timeout=PATIENCE)
    source = Source(cache, **windows)
    assert await source.read() == "old"
    source.truth = "new"
    cut = Cut(store, monkeypatch)
    invalidating = asyncio.create_task(source.read.invalidate())
    await cut.removing.wait()
    cut.fails.set()
    assert await invalidating is False
    source.began.clear()
    source.go_on.clear()
    loading = asyncio.create_task(source.read())
    await source.began.wait()
    # A load goes on, so its lease is asked for together with the value.
    cut.reads.clear()
    cut.reading.clear()
    late = asyncio.create_task(source.read())
    await cut.reading.wait()
    cut.replays.set()
    await until(lambda: not len(cache.runtime.coherence.journal))
    cut.reads.set()
    source.go_on.set()
    assert await late == await loading == "new"
    await cache.aclose()


class Cut:
    """Steps of a store that wait for a word: a removal that fails, its replay, a read, and an answer with a value.

    No lease is taken over.
    """

    def __init__(self, store: FailingStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._delete, self._run = store.delete, store.run
        self.reading, self.removing, self.held, self.found, self.hangs = [asyncio.Event() for _ in range(5)]
        self.reads, self.fails, self.replays, self.heard = [asyncio.Event() for _ in range(4)]
        self.reads.set()
        monkeypatch.setattr(store, "delete", self.delete)
        monkeypatch.setattr(store, "run", self.run)
        monkeypatch.setattr(store, "seize_lease", self.seize_lease)
        for verb in ("get", "get_with_lease", "get_with_lease_and_ttl"):
            monkeypatch.setattr(store, verb, partial(self.read, getattr(store, verb)))

    async def read(self, verb: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        answer = await verb(*args, **options)
        self.reading.set()
        await self.reads.wait()
        return answer

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        if not self.removing.is_set():
            self.removing.set()
            self.hangs.set()
            await self.fails.wait()
            raise StoreUnavailableError("unavailable", "on cue")
        await self.replays.wait()
        await self._delete(keys, timeout)

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        raise StoreUnavailableError("unavailable", "on cue")

    async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
        answer = await self._run(key, timeout, script)
        if isinstance(answer, Lease) and not answer.mine:
            self.held.set()
        elif isinstance(answer, bytes):
            self.found.set()
            await self.heard.wait()
        return answer


# --- after_commit ---------------------------------------------------------------------------------------


async def rolled_back(cache: Cache, key: str) -> None:
    await cache.delete(key)
    raise LookupError


async def test_after_commit_performs_the_collected_invalidations_on_a_normal_exit(
    store: FailingStore, cache: Cache
) -> None:
    events: list[Event] = []
    source = Source(cache)
    await source.read()
    await cache.set("other", 1, ttl=60)

    @cache.invalidates("k")
    async def write() -> None:
        source.truth = "new"

    async with cache.after_commit():
        cache.observe(events.append)
        await write()
        assert await source.read.invalidate() is False
        assert await cache.delete("other") is False
        assert await source.read() == "new", "inside, the transaction sees what it wrote"
        assert await source.read.peek() is MISS
        assert await store.get("k", 1) == b'"old"', "others do not, before it has committed"
        assert bare(events).count(Invalidated(("k", "other"), acknowledged=True)) == 0
    assert bare(events).count(Invalidated(("k", "other"), acknowledged=True)) == 1, "in one step"
    assert await source.read() == "new"
    assert await cache.get("other") is None


async def test_after_commit_performs_nothing_when_the_block_raises(cache: Cache) -> None:
    await cache.set("k", 1, ttl=60)
    with pytest.raises(LookupError):
        async with cache.after_commit():
            await rolled_back(cache, "k")
    assert await cache.get("k") == 1


async def test_a_value_read_inside_a_block_that_is_rolled_back_is_not_stored(cache: Cache) -> None:
    source = Source(cache)

    async def transaction() -> None:
        async with cache.after_commit():
            source.truth = "uncommitted"
            await source.read.invalidate()
            assert await source.read() == await source.read.refresh() == "uncommitted"
            await rolled_back(cache, "other")

    with pytest.raises(LookupError):
        await transaction()
    source.truth = "old"
    assert await source.read() == "old"


async def test_blocks_nest_and_the_outermost_performs(cache: Cache) -> None:
    for key in ("outer", "inner", "failed"):
        await cache.set(key, 1, ttl=60)
    async with cache.after_commit():
        await cache.delete("outer")
        async with cache.after_commit():
            await cache.delete("inner")
        with pytest.raises(LookupError):
            async with cache.after_commit():
                await rolled_back(cache, "failed")
        assert await cache.get("inner") == 1, "the outer transaction may still roll back"
    assert [await cache.get(key) for key in ("outer", "inner", "failed")] == [None, None, 1]


async def test_concurrent_blocks_do_not_see_each_other(cache: Cache) -> None:
    async def transaction(key: str, *, commits: bool) -> None:
        async with cache.after_commit():
            await cache.delete(key)
            await asyncio.sleep(0)
            if not commits:
                raise LookupError

    for key in "ab":
        await cache.set(key, 1, ttl=60)
    await asyncio.gather(transaction("a", commits=True), transaction("b", commits=False), return_exceptions=True)
    assert [await cache.get("a"), await cache.get("b")] == [None, 1]


async def test_a_task_started_inside_belongs_to_the_block_while_it_lasts_and_to_itself_afterwards(cache: Cache) -> None:
    for key in "ab":
        await cache.set(key, 1, ttl=60)
    block_is_over = asyncio.Event()

    async def task() -> bool:
        assert await cache.delete("a") is False
        inside.set()
        await block_is_over.wait()
        return await cache.delete("b")

    inside = asyncio.Event()
    async with cache.after_commit():
        started = asyncio.create_task(task())
        await inside.wait()
        assert await cache.get("a") == 1
    assert await cache.get("a") is None
    block_is_over.set()
    assert await started is True
    assert await cache.get("b") is None


async def test_a_task_that_outlives_an_inner_block_belongs_to_the_outer_one(cache: Cache) -> None:
    await cache.set("k", 1, ttl=60)
    inner_is_over = asyncio.Event()

    async def task() -> None:
        await inner_is_over.wait()
        await cache.delete("k")

    async with cache.after_commit():
        async with cache.after_commit():
            started = asyncio.create_task(task())
        inner_is_over.set()
        await started
        assert await cache.get("k") == 1, "the outer transaction has not committed"
    assert await cache.get("k") is None


async def test_a_block_of_one_cache_leaves_another_alone(cache: Cache) -> None:
    async with Cache("memory://") as other:
        await other.set("k", 1, ttl=60)
        async with cache.after_commit():
            assert await other.delete("k") is True
            assert await other.get("k") is None


class Denying(MemoryStore):
    """A store with two shards that refuses some keys, and counts the removals and the tasks of them."""

    def __init__(self, *denied: str) -> None:
        super().__init__()
        self.denied = {*denied}
        self.removals = 0
        self.tasks = 0

    def shard(self, key: str) -> Any:
        return "even" if key[-1] in "02468" else "odd"

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        self.removals += 1
        self.tasks = max(self.tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        if self.denied & {*keys}:
            raise KeyRefusedError("NOPERM", "one of them is refused")
        await super().delete(keys, timeout)


@pytest.mark.parametrize("denied", [["k:7"], ["k:7", "k:19998"]], ids=len)
async def test_a_refused_key_among_many_is_found_in_a_few_steps_and_without_a_task_for_each(denied: list[str]) -> None:
    store = Denying(*denied)
    keys = [f"k:{n}" for n in range(20_000)]
    # Some of the keys are sent with a deadline of their own.
    async with Cache(store, timeout=PATIENCE) as cache:
        coherence = cache.runtime.coherence
        for key in keys[:100] + keys[-100:]:
            await cache.set(key, 1, ttl=60)
        assert not await coherence.invalidate(keys, Budget(PATIENCE))
        assert [key for key in keys if coherence.journal.holds(key)] == denied
        assert len(store) == len(denied)
        assert store.removals <= 2 * 40 + len(denied) * 3 * 16
        assert store.tasks <= 20
        assert not coherence.journal.distrusts("k:1")


async def test_other_tasks_run_between_the_batches_of_an_invalidation() -> None:
    cache = Cache(MemoryStore())
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    assert await cache.runtime.coherence.invalidate([f"k:{n}" for n in range(20 * BATCH)], cache.runtime.budget())
    assert turns >= 19
    counting.cancel()


async def test_more_keys_than_the_journal_can_keep_go_on_beyond_the_deadline_while_the_store_answers() -> None:
    class Slow(MemoryStore):
        async def delete(self, keys: Sequence[str], timeout: float) -> None:
            await asyncio.sleep(0.02)
            await super().delete(keys, timeout)

    events: list[object] = []
    async with Cache(Slow(), timeout=0.1) as cache:
        cache.observe(events.append)
        async with cache.after_commit():
            for number in range(30 * BATCH):
                await cache.delete(f"k:{number}")
        assert not [event for event in events if isinstance(event, InvalidationsLost)]
        assert not cache.runtime.coherence.journal.distrusts("k:1")


async def test_an_invalidation_of_many_that_is_cancelled_is_kept_from_the_batch_on_that_was_under_way() -> None:
    under_way = asyncio.Event()

    class Hanging(MemoryStore):
        async def delete(self, keys: Sequence[str], timeout: float) -> None:
            if f"k:{BATCH}" in keys:
                under_way.set()
                await asyncio.Event().wait()
            await super().delete(keys, timeout)

    coherence = Cache(Hanging()).runtime.coherence
    keys = [f"k:{n}" for n in range(3 * BATCH)]
    invalidating = asyncio.create_task(coherence.invalidate(keys, Budget(PATIENCE)))
    await under_way.wait()
    invalidating.cancel()
    await asyncio.wait([invalidating])
    assert [key for key in keys if coherence.journal.holds(key)] == keys[BATCH:]


@pytest.mark.parametrize("rules", ["~* +get +mget", "~* +@all -unlink -eval -evalsha"], ids=["reader", "no scripts"])
async def test_a_user_that_may_only_read_causes_no_traffic_without_a_call(
    start_server: Callable[..., RedisServer], rules: str
) -> None:
    server = start_server(f"user app on >secret {rules}")

    def refused() -> int:
        info = server.cli("INFO", "commandstats")
        return sum(int(stats["rejected_calls"]) for stats in info.values())

    async with Cache(f"redis://app:secret@127.0.0.1:{server.port}", timeout=5) as cache:

        @cache.cached(key="f:<x>", ttl=60, lease=3600)
        async def f(x: int) -> int:
            return x

        async with cache.after_commit():
            for number in range(50):
                await cache.delete(f"k:{number}")
        assert await f(1) == await f.refresh(1) == 1
        journal = cache.runtime.coherence.journal
        await until(lambda: not journal.waiting and len(asyncio.all_tasks()) <= QUIET)
        assert len(journal) == 50
        before = refused()
        # A read of a key that waits for its removal is a miss, and no reason to try again.
        assert [await cache.get(f"k:{number}") for number in range(50)] == [None] * 50
        # Longer than the pause after which a failed removal would be sent again. What does not happen has no event.
        await asyncio.sleep(0.5)
        assert refused() == before
        assert len(asyncio.all_tasks()) <= QUIET
        # A new connection may have other rights.
        server.cli("ACL", "SETUSER", "app", "+@all")
        server.cli("CLIENT", "KILL", "USER", "app")
        await until(lambda: not len(journal), partial(cache.get, "anything"))
    assert cache.healthy


QUIET = 2  # the test itself, and the lane


def test_a_key_that_found_no_room_is_not_among_those_that_the_store_denies() -> None:
    journal = Journal(Reporter(FakeClock()), limit=1)
    journal.add(["kept"])
    journal.deny(["lost"], "shard")
    assert journal.denied() == []
    assert journal.distrusts("lost")


def test_a_denied_key_that_is_removed_after_all_is_not_denied_any_more() -> None:
    journal = Journal(Reporter(FakeClock()))
    journal.deny(["a", "b"], "shard")
    journal.remove(["a"], journal.mark())
    assert journal.denied() == [("shard", "b")]
    journal.remove(["b"], journal.mark())
    assert journal.denied() == []


def test_a_removal_is_no_reason_for_trust_when_too_many_keys_were_lost() -> None:
    """Any value that it has now is a later one, but it would take the room of a key that has a value."""
    distrust = Distrust(limit=1)
    for key in "abc":
        distrust.lose(key)
    distrust.removed("a")
    assert distrust.covers("a")
    distrust.stored("a")
    assert not distrust.covers("a")


async def test_a_pending_key_is_not_taken_by_a_function_with_stale_windows(store: FailingStore, cache: Cache) -> None:
    @cache.cached(key="stale:<x>", ttl=60, stale_if_error=60)
    async def f(x: int) -> int:
        return x

    await f(1)
    store.fail()
    assert not await f.invalidate(1)
    store.recover()
    assert await f.touch(1, ttl="1h") is False
    assert await f.take(1) is MISS
