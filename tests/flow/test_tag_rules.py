"""The rules of tags, each with a scene in which its absence shows; `tests/models/tags.py` has them as a model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cachekit import Cache, CachedFunction
from cachekit.clock import SystemClock
from cachekit.events import Event, Filled, Missed
from cachekit.stores.connect import open_store
from cachekit.stores.scripts import NO_VALUE, AcquireStaleLease, Copy, OpenTags
from cachekit.tags import new_generation, tag_key
from cachekit.testing import FailingStore
from tests.kit.waiting import PATIENCE, until

T = PATIENCE


class Process:
    """A cache of its own on a store that others use as well, and a function on it whose loads wait for a word."""

    def __init__(self, store: FailingStore, source: list[int]) -> None:
        self.cache = Cache(store, timeout=T)
        self.source = source
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.events: list[Event] = []
        self.cache.observe(self.events.append)
        self.value = self.decorate()

    def decorate(self) -> CachedFunction[[], int]:
        @self.cache.cached(key="value", ttl=60, tags=["tag"])
        async def value() -> int:
            found = self.source[-1]
            self.begun.set()
            await self.go_on.wait()
            return found

        return value

    @property
    def missed(self) -> int:
        return sum(isinstance(event, Missed) for event in self.events)


@pytest.fixture
def source() -> list[int]:
    """The versions of the source, the newest last."""
    return [1]


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


async def bump(process: Process) -> None:
    """Write a version, and invalidate the tag."""
    process.source.append(process.source[-1] + 1)
    assert await process.cache.invalidate_tags("tag")


async def test_generations_stand_before_the_load(store: FailingStore, source: list[int]) -> None:
    one, other = Process(store, source), Process(store, source)
    call = asyncio.create_task(one.value())
    await one.begun.wait()
    await bump(other)
    one.go_on.set()
    other.go_on.set()
    assert await call == 1
    assert await other.value() == await one.value() == 2


async def test_a_load_that_had_begun_is_joined_only_with_its_own_generations(
    store: FailingStore, source: list[int]
) -> None:
    one, other = Process(store, source), Process(store, source)
    first = asyncio.create_task(one.value())
    await one.begun.wait()
    # The lease stays: an invalidation of a tag does not void it.
    await bump(other)
    second = asyncio.create_task(one.value())
    await until(lambda: one.missed == 2)
    one.go_on.set()
    assert await first == 1
    assert await second == 2


async def test_a_value_that_is_found_while_waiting_is_compared_with_the_generations_of_then(
    store: FailingStore, source: list[int]
) -> None:
    one, other = Process(store, source), Process(store, source)
    theirs = asyncio.create_task(other.value())
    await other.begun.wait()
    # It waits for the lease of the other process, and leads a flight here.
    ours = asyncio.create_task(one.value())
    await until(lambda: one.missed == 1)
    await asyncio.sleep(0.02)
    await bump(other)
    late = asyncio.create_task(one.value())
    await until(lambda: one.missed == 2)
    one.go_on.set()
    other.go_on.set()
    assert await theirs == 1
    assert await late == 2
    assert await ours in {1, 2}
    assert await one.value.peek() == 2


async def test_a_value_that_a_flight_has_found_is_not_for_calls_that_began_after_it_asked(
    store: FailingStore, source: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Process(store, source), Process(store, source)
    one.go_on.set()
    other.go_on.set()
    run, asked, go_on = store.run_tagged, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        if not asked.is_set():
            # The other process has filled since this one has missed.
            asked.set()
            assert await other.value() == 1
            answer = await run(*args)
            await go_on.wait()
            return answer
        return await run(*args)

    monkeypatch.setattr(store, "run_tagged", slow)
    early = asyncio.create_task(one.value())
    await asked.wait()
    await until(lambda: other.missed == 1 and store._keyspace.value("value") is not None)
    await bump(other)
    # Its read is answered before the question of the flight that it joins.
    late = asyncio.create_task(one.value())
    await until(lambda: one.missed == 2)
    await asyncio.sleep(0)
    go_on.set()
    assert await late == 2
    assert await early in {1, 2}


async def test_a_load_that_its_own_process_has_overtaken_is_not_stored(store: FailingStore, source: list[int]) -> None:
    one = Process(store, source)
    call = asyncio.create_task(one.value())
    await one.begun.wait()
    await bump(one)
    one.go_on.set()
    assert await call == 1
    assert not [event for event in one.events if isinstance(event, Filled)]
    assert await one.value() == 2


async def test_a_call_does_not_wait_for_a_load_whose_tag_is_in_the_journal(
    store: FailingStore, source: list[int]
) -> None:
    one = Process(store, source)
    one.go_on.set()
    assert await one.value() == 1
    source.append(2)
    one.cache.runtime.coherence.journal.deny([tag_key("tag")], None)
    assert await one.value() == 2


async def test_a_value_that_is_found_while_a_tag_is_in_the_journal_is_not_handed_out(
    store: FailingStore, source: list[int]
) -> None:
    one, other = Process(store, source), Process(store, source)
    theirs = asyncio.create_task(other.value())
    await other.begun.wait()
    # It waits for the lease of the other process, and leads a flight here.
    ours = asyncio.create_task(one.value())
    await until(lambda: one.missed == 1)
    await asyncio.sleep(0.02)
    source.append(2)
    # Invalidated here, and the store does not know: to the store the value is valid.
    one.cache.runtime.coherence.journal.deny([tag_key("tag")], None)
    late = asyncio.create_task(one.value())
    await asyncio.sleep(0)
    one.go_on.set()
    other.go_on.set()
    assert await theirs == 1
    assert await late == 2
    assert await ours in {1, 2}


async def test_tags_are_opened_once_and_with_another_generation_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = open_store("redis://localhost:1", clock=SystemClock())
    network = store._loops.get().network
    sent: list[Any] = []
    monkeypatch.setattr(network, "submit_together", sent.extend)
    opening = OpenTags(60_000, new_generation)
    script = AcquireStaleLease(b"0" * 24, 60_000, NO_VALUE, b"", Copy.NONE)
    calls = [
        asyncio.create_task(store.open_tags("~{a}", T, ["~{b}"], opening)),
        asyncio.create_task(store.run_tagged("k", T, script, ["~{a}"], opening)),
    ]
    await asyncio.sleep(0)
    opened = [operation for operation in sent if operation.call.source._name == "open_tags"]
    assert len(opened) == 2
    # A lane that broke hands on what it had not sent, and what may be sent twice.
    assert not any(operation.repeatable or operation.detached for operation in opened)
    generations = [one for operation in opened for one in operation.call.arguments[1:]]
    assert len({*generations}) == len(generations) == 3
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await store.aclose()
