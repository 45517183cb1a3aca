"""Values in hand: set, writing, puts, ttl and touch. Whatever overlaps with a write leaves no wrong value behind it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, CachedFunction, Put
from cachekit.errors import ConfigurationError, DecorationError, RoundTripError
from cachekit.events import Filled, Invalidated
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import Fill, Script
from cachekit.testing import FailingStore, FakeClock
from tests.kit.bare import Bare
from tests.kit.stale import PATIENCE, put, raw_at, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until


@dataclass
class Name:
    text: str


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        assert not cache.runtime.flights.open_loops, "a flight was left open"


async def greeting(user_id: int, language: str = "en") -> str:
    return f"hello {user_id} in {language}"


class Source:
    """A source with one name, a function that reads it, and one that writes it."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.text = "old"
        self.loads = 0
        self.open = asyncio.Event()
        self.open.set()
        self.began = asyncio.Event()

        async def name(user_id: int) -> Name:
            self.loads += 1
            text = self.text
            self.began.set()
            await self.open.wait()
            return Name(text)

        self.name: CachedFunction[[int], Name] = cache.cached(key="name:<user_id>", **{"ttl": 60, **options})(name)

    async def write(self, text: str) -> Name:
        self.text = text
        await asyncio.sleep(0)
        return Name(text)


# --- set ----------------------------------------------------------------------------------------------


async def test_a_value_that_is_set_is_what_the_next_call_returns(cache: Cache) -> None:
    source = Source(cache)
    assert await source.name.set(Name("set"), 7)
    assert await source.name(7) == Name("set")
    assert source.loads == 0
    assert await source.name.peek(8) is MISS


async def test_a_load_that_began_before_a_set_is_not_stored_and_not_joined(cache: Cache) -> None:
    source = Source(cache)
    source.open.clear()
    before = asyncio.create_task(source.name(7))
    await source.began.wait()
    await source.name.set(Name("set"), 7)
    assert await source.name(7) == Name("set")
    source.open.set()
    assert await before == Name("old")
    assert await source.name.peek(7) == Name("set")


@pytest.mark.parametrize("wrong", [{"text": "a dict"}, "text", None])
async def test_a_value_of_another_type_is_refused_and_what_stands_is_invalidated(cache: Cache, wrong: Any) -> None:
    source = Source(cache)
    await source.name(7)
    assert not await source.name.set(wrong, 7)
    assert await source.name.peek(7) is MISS


async def test_a_value_of_another_type_is_an_error_where_that_is_asked_for(cache: Cache) -> None:
    source = Source(cache, strict=True)
    await source.name(7)
    wrong: Any = "text"
    with pytest.raises(RoundTripError):
        await source.name.set(wrong, 7)
    assert await source.name.peek(7) is MISS


async def test_a_value_that_when_refuses_invalidates_what_stands(cache: Cache) -> None:
    source = Source(cache, when=lambda name: name.text != "secret")
    await source.name(7)
    assert not await source.name.set(Name("secret"), 7)
    assert await source.name.peek(7) is MISS


async def test_a_set_inside_a_block_that_invalidates_the_key_waits_for_its_end(cache: Cache) -> None:
    source = Source(cache)
    async with cache.after_commit():
        await source.name.invalidate(7)
        assert not await source.name.set(Name("set"), 7)
        assert await raw_at(cache, "name:7") == (None, None)
    assert await source.name.peek(7) == Name("set")


async def test_a_set_value_has_the_ttl_and_the_stale_window_of_the_function() -> None:
    clock = FakeClock()
    cache = Cache(MemoryStore(clock=clock), clock=clock)
    source = Source(cache, stale_if_error=60)
    await source.name.set(Name("set"), 7)
    assert await source.name.ttl(7) == pytest.approx(60)
    clock.advance(61)
    assert await source.name.ttl(7) is None
    assert await source.name.peek(7) is MISS
    assert (await raw_at(cache, "name:7"))[0] is not None, "it may stand in"


# --- writing ------------------------------------------------------------------------------------------


async def test_a_value_that_is_put_is_what_the_next_call_returns(cache: Cache) -> None:
    source, events = Source(cache), watch(cache)
    await source.name(7)
    async with source.name.writing(7) as put:
        assert put(await source.write("new")) == Name("new")
        assert await source.name.peek(7) is MISS, "inside, the key runs uncached"
    assert await source.name(7) == Name("new")
    assert source.loads == 1
    assert [event for event in bare(events) if isinstance(event, Filled)][1:] == [Filled("name:7", "", 60)]
    assert (await raw_at(cache, "name:7"))[1] is None


async def test_a_load_that_began_before_the_write_is_not_stored_behind_it(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source, reader = Source(here), Source(elsewhere)
        reader.open.clear()
        load = asyncio.create_task(reader.name(7))
        await reader.began.wait()
        async with source.name.writing(7) as put:
            put(await source.write("new"))
        reader.open.set()
        assert await load == Name("old")
        assert await reader.name(7) == Name("new")


async def test_a_call_elsewhere_that_misses_during_a_write_waits_and_gets_what_was_written(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source, reader = Source(here), Source(elsewhere)
        async with source.name.writing(7) as put:
            call = asyncio.create_task(reader.name(7))
            await turns(50)
            put(await source.write("new"))
        async with asyncio.timeout(PATIENCE):
            assert await call == Name("new")
        assert reader.loads == 0


async def test_two_writes_that_overlap_leave_no_value(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        one, other = Source(here), Source(elsewhere)
        async with one.name.writing(7) as put_one:
            put_one(await one.write("first"))
            async with other.name.writing(7) as put_other:
                one.text = "second"
                put_other(Name("second"))
        assert await raw_at(here, "name:7") == (None, None)
        assert await one.name(7) == Name("second")


async def test_an_invalidation_during_a_write_keeps_the_value_out(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source = Source(here)
        async with source.name.writing(7) as put:
            put(await source.write("new"))
            await elsewhere.delete("name:7")
        assert (await raw_at(here, "name:7"))[0] is None


async def test_a_block_that_puts_nothing_or_raises_invalidates(cache: Cache) -> None:
    source = Source(cache)
    await source.name(7)
    async with source.name.writing(7):
        await source.write("new")
    assert await source.name.peek(7) is MISS
    await source.name(7)

    async def write_and_fail() -> None:
        async with source.name.writing(7) as put:
            put(await source.write("newer"))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await write_and_fail()
    assert await source.name.peek(7) is MISS


async def test_a_written_value_of_another_type_is_an_error_where_that_is_asked_for_and_invalidates(
    cache: Cache,
) -> None:
    source = Source(cache, strict=True)
    await source.name(7)
    with pytest.raises(RoundTripError):
        async with source.name.writing(7) as put:
            put("text")  # type: ignore[arg-type]
    assert await source.name.peek(7) is MISS


def test_a_put_shows_no_value() -> None:
    put: Put[str] = Put()
    put("SECRET")
    assert "SECRET" not in repr(put)


async def test_a_write_that_is_closed_from_elsewhere_leaves_the_block_there_open() -> None:
    cache = Cache("memory://")
    source = Source(cache)
    await source.name.set(Name("stays"), 8)

    async def write() -> None:
        async with source.name.writing(7):
            await asyncio.Event().wait()

    stray = write()
    copy_context().run(stray.send, None)
    async with cache.after_commit():
        await source.name.invalidate(8)
        stray.close()
        assert not await source.name.invalidate(8), "it waits for the commit"
        assert (await raw_at(cache, "name:8"))[0] is not None
    assert await source.name.peek(8) is MISS
    await cache.aclose()


def test_a_write_whose_loop_has_ended_leaves_its_key_to_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache("memory://")
    source = Source(cache)
    raised: list[object] = []

    async def write() -> None:
        async with source.name.writing(7):
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    # It is told of each task that was destroyed while it was pending.
    loop.set_exception_handler(lambda *_: None)
    tasks = [loop.create_task(write())]
    loop.run_until_complete(turns())
    loop.close()
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    tasks.clear()
    gc.collect()
    assert raised == []
    assert cache.runtime.coherence.journal.batch() == ["name:7"]


@pytest.mark.parametrize("commits", [False, True], ids=["alone", "at the commit"])
async def test_a_write_that_is_cancelled_while_its_value_is_stored_leaves_its_key_to_the_journal(
    monkeypatch: pytest.MonkeyPatch, *, commits: bool
) -> None:
    store = MemoryStore()
    cache = Cache(store, timeout=PATIENCE)
    source = Source(cache)
    await source.name(7)
    asked, answers, run, delete = asyncio.Event(), asyncio.Event(), store.run, store.delete

    async def hang(key: str, timeout: float, script: Script[Any]) -> Any:
        if isinstance(script, Fill):
            asked.set()
            await asyncio.Event().wait()
        return await run(key, timeout, script)

    async def hang_as_well(keys: Sequence[str], timeout: float) -> Any:
        if asked.is_set():
            await answers.wait()
        return await delete(keys, timeout)

    async def write() -> None:
        async with cache.after_commit() if commits else nullcontext():
            await source.name.invalidate(7)
            async with source.name.writing(7) as put:
                put(await source.write("new"))

    monkeypatch.setattr(store, "run", hang)
    monkeypatch.setattr(store, "delete", hang_as_well)
    task = asyncio.create_task(write())
    await asked.wait()
    task.cancel()
    await turns()
    assert task.cancelled(), "it waits for no answer of the store"
    assert cache.runtime.coherence.journal.holds("name:7")
    answers.set()
    monkeypatch.undo()
    assert await source.name(7) == Name("new"), "never the old one"
    await cache.aclose()


async def test_a_write_that_is_cancelled_invalidates_without_waiting(cache: Cache) -> None:
    source = Source(cache)
    await source.name(7)
    inside = asyncio.Event()

    async def write() -> None:
        async with source.name.writing(7):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    source.text = "new"
    assert await source.name(7) == Name("new")
    await until(lambda: cache.healthy)
    assert await source.name(7) == Name("new")


async def test_a_fill_that_was_not_heard_of_is_followed_by_an_invalidation() -> None:
    class Deaf(MemoryStore):
        async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
            answer = await super().run(key, timeout, script)
            if isinstance(script, Fill):
                raise ConnectionError
            return answer

    cache = Cache(Deaf())
    source, events = Source(cache), watch(cache)
    async with source.name.writing(7) as put:
        put(await source.write("new"))
    assert await raw_at(cache, "name:7") == (None, None)
    assert Invalidated(("name:7",), acknowledged=True) in bare(events)


async def test_while_the_store_is_down_a_write_is_kept_in_the_journal() -> None:
    store = FailingStore()
    cache = Cache(store)
    source = Source(cache)
    await source.name(7)
    store.fail()
    async with source.name.writing(7) as put:
        put(await source.write("new"))
    store.recover()
    assert await source.name(7) == Name("new"), "never the old one"
    await cache.aclose()


async def test_a_write_inside_a_transaction_is_stored_when_that_has_committed(cache: Cache) -> None:
    source = Source(cache)
    await source.name(7)
    async with cache.after_commit():
        async with source.name.writing(7) as put:
            put(await source.write("new"))
        assert (await raw_at(cache, "name:7"))[0] == b'{"text":"old"}', "nobody else sees it yet"
        assert await source.name(7) == Name("new"), "the key runs uncached"
    assert await source.name.peek(7) == Name("new")

    async def roll_back() -> None:
        async with cache.after_commit():
            async with source.name.writing(7) as put:
                put(Name("rolled back"))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await roll_back()
    assert await source.name.peek(7) == Name("new")


async def test_other_invalidations_inside_the_block_are_made_at_once(cache: Cache) -> None:
    source = Source(cache)
    await source.name(8)
    async with source.name.writing(7) as put:
        assert await source.name.invalidate(8)
        assert await source.name.peek(8) is MISS
        put(await source.write("new"))
    assert await source.name.peek(7) == Name("new")


# --- puts ---------------------------------------------------------------------------------------------


async def test_a_function_that_puts_stores_what_it_returns(cache: Cache) -> None:
    source = Source(cache)

    @source.name.puts
    async def rename(user_id: int, text: str) -> Name:
        return await source.write(text)

    await source.name(7)
    assert await rename(7, "new") == Name("new")
    assert await rename(text="newer", user_id=7) == Name("newer")
    assert await source.name(7) == Name("newer")
    assert source.loads == 1


async def test_a_method_puts(cache: Cache) -> None:
    class Names:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        @cache.cached(key="name:<self.tenant>:<user_id>", ttl=60)
        async def name(self, user_id: int) -> str:
            return "old"

        @name.puts
        async def rename(self, user_id: int, text: str) -> str:
            return text

    names = Names("t1")
    assert await names.rename(7, "new") == "new"
    assert await names.name(7) == "new"
    assert await Names("t2").name(7) == "old"


async def test_what_a_function_that_puts_raises_passes_and_the_key_is_invalidated(cache: Cache) -> None:
    source = Source(cache)

    @source.name.puts
    async def rename(user_id: int, text: str) -> Name:
        raise ConnectionError(text)

    await source.name(7)
    with pytest.raises(ConnectionError, match="new"):
        await rename(7, "new")
    assert await source.name.peek(7) is MISS


def test_a_function_that_puts_has_the_parameters_of_the_key() -> None:
    source = Source(Cache("memory://"))
    with pytest.raises(DecorationError, match="user_id"):

        @source.name.puts
        async def rename(who: int) -> Name: ...

    # It stands without parentheses, in contrast to the other decorators.
    with pytest.raises(DecorationError, match=r"write @profile\.puts above it"):
        source.name.puts(lambda user_id: None)  # type: ignore[arg-type,return-value]


async def test_arguments_that_do_not_fit_a_function_that_puts_are_an_error_of_the_call(cache: Cache) -> None:
    source = Source(cache)

    @source.name.puts
    async def rename(user_id: int, text: str) -> Name:
        return await source.write(text)

    with pytest.raises(TypeError, match=r"rename.*text"):
        rename(7)  # type: ignore[call-arg]
    assert source.text == "old"


async def test_a_function_that_puts_without_a_key_for_its_arguments_returns_and_stores_nothing(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(cache)

    @source.name.puts
    async def rename(user_id: Any, text: str) -> Name:
        return await source.write(text)

    assert await rename(object(), "new") == Name("new")
    assert source.text == "new"
    assert "may now be out of date" in caplog.text


async def test_a_function_that_puts_has_the_arguments_of_a_default_key_in_any_order(cache: Cache) -> None:
    name = cache.cached(ttl=60)(greeting)

    @name.puts
    async def rename(new: str, language: str, user_id: int = 7) -> str:
        return new

    assert await rename("Ada", "en") == "Ada"
    assert await name(7) == "Ada"
    assert await name(7, "de") == "hello 7 in de"


def test_a_function_that_puts_has_all_arguments_of_a_default_key() -> None:
    name = Cache("memory://").cached(ttl=60)(greeting)
    with pytest.raises(DecorationError, match=r"rename lacks language, .* give it a key="):

        @name.puts
        async def rename(user_id: int) -> str: ...


async def test_a_static_method_puts(cache: Cache) -> None:
    source = Source(cache)

    class Service:
        @source.name.puts
        @staticmethod
        async def rename(user_id: int, text: str) -> Name:
            return await source.write(text)

    assert await Service.rename(7, "static") == await source.name(7) == Name("static")
    assert await Service().rename(7, "again") == await source.name(7) == Name("again")
    assert source.loads == 0


# --- ttl and touch ------------------------------------------------------------------------------------


async def test_touch_prolongs_a_value_and_makes_none(cache: Cache) -> None:
    source = Source(cache)
    assert not await source.name.touch(7, "1h")
    assert await source.name.ttl(7) is None
    await source.name(7)
    assert 55 < (await source.name.ttl(7) or 0) <= 60
    assert await source.name.touch(7, "1h")
    assert 3_500 < (await source.name.ttl(7) or 0) <= 3_600
    assert await source.name.touch(user_id=7, ttl=10)
    assert 5 < (await source.name.ttl(7) or 0) <= 10
    assert await source.name(7) == Name("old")
    assert source.loads == 1


async def test_a_value_that_was_set_by_hand_is_touched_by_hand(cache: Cache) -> None:
    assert not await cache.touch("session", "1h")
    await cache.set("session", {"cart": ["tea"]}, ttl=60)
    assert await cache.touch("session", "1h")
    assert not await cache.touch("session", "soon")
    raw, _, left = await cache._store.get_with_lease_and_ttl("session", PATIENCE)  # type: ignore[attr-defined]
    assert raw == b'{"cart":["tea"]}'
    assert left > 3_000


async def test_touch_loses_no_write_of_another(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        session, other = Source(here), Source(elsewhere)
        await session.name(7)
        await other.name.set(Name("tea"), 7)
        assert await session.name.touch(7, "1h")
        assert await session.name(7) == Name("tea")


async def test_touch_keeps_the_stale_window_and_revives_nothing(cache: Cache) -> None:
    source = Source(cache, stale_if_error=60)
    await source.name(7)
    await source.name.touch(7, 600)
    assert 590 < (await source.name.ttl(7) or 0) <= 600
    await source.name.expire(7)
    assert not await source.name.touch(7, 600)
    await put(cache, "name:8", {"text": "stale"}, left=-1, stale=60)
    assert not await source.name.touch(8, 600)
    assert await source.name.ttl(8) is None


async def test_touch_of_what_was_invalidated_here_does_nothing() -> None:
    store = FailingStore()
    cache = Cache(store)
    source = Source(cache)
    await source.name(7)
    store.fail()
    await source.name.invalidate(7)
    assert not await source.name.touch(7, 600)
    store.recover()
    await cache.aclose()


async def test_a_value_that_is_to_be_invalidated_has_no_ttl_and_is_not_touched(cache: Cache) -> None:
    source = Source(cache)
    await source.name(7)
    async with cache.after_commit():
        await source.name.invalidate(7)
        assert await source.name.ttl(7) is None
        assert not await source.name.touch(7, "1h")


async def test_without_a_store_that_tells_ttls_there_is_none_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Untimed(Bare):
        def __init__(self) -> None:
            super().__init__()
            del self.get_with_lease_and_ttl  # type: ignore[attr-defined]

    async with Cache(Untimed()) as cache:  # type: ignore[arg-type]
        source = Source(cache)
        await source.name(7)
        assert [await source.name.ttl(7) for _ in range(2)] == [None, None]
        assert [text for text in caplog.messages if "TimedStore" in text] == caplog.messages
        assert len(caplog.messages) == 1


async def test_touch_needs_a_ttl_that_makes_sense(cache: Cache) -> None:
    source = Source(cache)
    with pytest.raises(ConfigurationError):
        await source.name.touch(7, "soon")
    with pytest.raises(TypeError):
        await source.name.touch()
    with pytest.raises(TypeError):
        await source.name.touch("1h")


# --- many by hand -------------------------------------------------------------------------------------


async def test_many_values_are_set_and_read_and_deleted_by_hand(cache: Cache) -> None:
    assert await cache.set_many({"a": 1, "b": [2], "c": None}, ttl=60)
    assert await cache.get_many(["c", "nothing", "a", "c"]) == {"c": None, "a": 1}
    assert await cache.get("b") == [2]
    assert await cache.delete_many(key for key in ("a", "b"))
    assert await cache.get_many(["a", "b", "c"]) == {"c": None}
    assert (await cache.get_many([]), await cache.set_many({}, 60), await cache.delete_many([])) == ({}, True, True)


async def test_one_value_or_key_of_many_that_is_refused_keeps_no_other_out(cache: Cache) -> None:
    assert not await cache.set_many({"a": 1, "b": object()}, ttl=60)
    assert await cache.get_many(["a", "b"]) == {"a": 1}
    assert not await cache.set_many({"c": 1}, ttl="soon")
    assert not await cache.delete_many(["a", "*"])
    assert await cache.get("a") is None


async def test_many_values_that_are_set_void_the_loads_that_are_going_on(cache: Cache) -> None:
    source = Source(cache)
    source.open.clear()
    load = asyncio.create_task(source.name(7))
    await source.began.wait()
    assert await cache.set_many({"name:7": {"text": "set"}, "name:8": {"text": "set"}}, ttl=60)
    source.open.set()
    await load
    assert await source.name(7) == Name("set")


async def test_while_the_store_is_down_many_by_hand_answer_as_one_does() -> None:
    store = FailingStore()
    cache = Cache(store)
    await cache.set_many({"a": 1, "b": 2}, ttl=60)
    store.fail()
    assert await cache.get_many(["a"]) == {}
    assert not await cache.set_many({"a": 3}, ttl=60)
    assert not await cache.delete_many(["b"])
    store.recover()
    assert await cache.get_many(["b"]) == {}, "the journal holds it, or has removed it"
    await cache.aclose()
