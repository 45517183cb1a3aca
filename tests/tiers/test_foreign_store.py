"""A store by somebody else, which may return or raise what it likes: the application never notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from cachekit import MISS, Cache, SnapshotStore
from cachekit.errors import ConfigurationError, StoreRefusedError, StoreUnavailableError, UnconfirmedError
from cachekit.events import Event, Filled, Hit, Loaded, NotStored, StoreFailed
from cachekit.stores.base import TaggedValue, Tracking, Window
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import Fill, Lease, Script
from cachekit.testing import FakeClock
from tests.kit.ids import shown
from tests.kit.waiting import until

PATIENCE = 30.0


class Returning(MemoryStore):
    """A store whose reads return something in place of bytes."""

    def __init__(self, change: Callable[[Any], object]) -> None:
        super().__init__()
        self.change = change

    async def get(self, key: str, timeout: float) -> Any:
        found = await super().get(key, timeout)
        return None if found is None else self.change(found)

    async def get_and_delete(self, key: str, timeout: float) -> Any:
        found = await super().get_and_delete(key, timeout)
        return None if found is None else self.change(found)

    async def window(self, key: str, timeout: float, count: int) -> Any:
        found = await super().window(key, timeout, count)
        return Window(self.change(found.items), found.generation, found.now)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_bytes_of_another_type_are_a_hit(kind: Callable[[bytes], object]) -> None:
    async with Cache(Returning(kind)) as cache:

        @cache.cached(key="k", ttl=60)
        async def f() -> list[int]:
            return [1]

        loads: list[Event] = []
        cache.observe(lambda event: loads.append(event) if isinstance(event, Loaded) else None)
        assert [await f(), await f(), await f.peek(), await cache.get("k"), await f.take()] == [[1]] * 5
        assert len(loads) == 1


@pytest.mark.parametrize(
    "odd", ["text", 5, False, [b"[1]"], {"k": b"[1]"}, object()], ids=lambda odd: type(odd).__name__
)
async def test_anything_else_is_a_miss_with_one_warning(odd: object, caplog: pytest.LogCaptureFixture) -> None:
    async with Cache(Returning(lambda _: odd)) as cache:

        @cache.cached(key="k", ttl=60)
        async def f() -> list[int]:
            return [1]

        assert [await f(), await f()] == [[1]] * 2
        assert await f.peek() is MISS
        assert await f.take() is MISS
        assert len([text for text in caplog.messages if "in place of bytes" in text and "f is not cached" in text]) == 1


@pytest.mark.parametrize(
    "kind", [tuple, iter, lambda items: [*map(bytearray, items)]], ids=["tuple", "iter", "bytearrays"]
)
async def test_a_window_may_come_as_any_iterable(kind: Callable[[list[bytes]], object]) -> None:
    async with Cache(Returning(kind)) as cache:
        snapshots = SnapshotStore(cache)
        await snapshots.save_snapshot("42", "a text", 2)
        assert [snapshot.text for snapshot in await snapshots.get_recent_snapshots("42")] == ["a text"]


async def test_a_window_that_is_none_is_empty() -> None:
    async with Cache(Returning(lambda _: 5)) as cache:
        snapshots = SnapshotStore(cache)
        await snapshots.save_snapshot("42", "a text", 2)
        assert await snapshots.get_recent_snapshots("42") == []


def wrapped(verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def wrapper(self: MemoryStore, *args: Any, **options: Any) -> Any:
        raise StoreUnavailableError("unavailable", "on cue")

    return wrapper


class Wrapped(MemoryStore):
    """A store whose verbs are wrapped, and fail."""

    get = wrapped(MemoryStore.get)  # type: ignore[assignment]
    set = wrapped(MemoryStore.set)  # type: ignore[assignment]
    get_and_delete = wrapped(MemoryStore.get_and_delete)  # type: ignore[assignment]
    delete = wrapped(MemoryStore.delete)  # type: ignore[assignment]
    window = wrapped(MemoryStore.window)  # type: ignore[assignment]
    seize_lease = wrapped(MemoryStore.seize_lease)  # type: ignore[assignment]
    run = wrapped(MemoryStore.run)  # type: ignore[assignment]


async def test_events_name_the_verb_and_not_the_function_that_it_is() -> None:
    async with Cache(Wrapped()) as cache:
        failed: list[str] = []
        cache.observe(lambda event: failed.append(event.operation) if isinstance(event, StoreFailed) else None)

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            return 1

        await cache.get("k")
        await cache.set("k", 1, ttl=60)
        await cache.take("k")
        await f.refresh()
        await cache.delete("k")
        await SnapshotStore(cache).save_snapshot("42", "a text", 2)
        assert failed[:4] == ["get", "set", "get_and_delete", "seize_lease"]
        assert {*failed[4:]} - {"release_lease"} == {"delete", "open_window"}


class Blocked(MemoryStore):
    """A store whose first answer takes six deadlines, since the event loop stands still."""

    def __init__(self, lost: float) -> None:
        super().__init__()
        self.lost = lost
        self.reads = 0

    async def get(self, key: str, timeout: float) -> bytes | None:
        self.reads += 1
        if self.reads == 1:
            time.sleep(6 * timeout)  # noqa: ASYNC251 - it blocks on purpose
        return await super().get(key, timeout)

    def time_lost(self, key: str, seconds: float) -> float:
        return self.lost * seconds


@pytest.mark.parametrize(("lost", "event"), [(0.6, Filled), (0.4, StoreFailed)])
async def test_a_call_has_time_left_when_most_of_it_was_lost_in_this_process(lost: float, event: type[Event]) -> None:
    events: list[Event] = []
    async with Cache(Blocked(lost), timeout=0.1) as cache:
        cache.observe(events.append)

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            return 1

        assert await f() == 1
    assert [type(one) for one in events if isinstance(one, Filled | StoreFailed)] == [event]


class SlowToEnd(MemoryStore):
    """A store whose second deletion ends only when it is cancelled twice."""

    def __init__(self) -> None:
        super().__init__()
        self.deletions = 0
        self.going_on = asyncio.Event()

    async def delete(self, keys: Any, timeout: float) -> None:
        self.deletions += 1
        if self.deletions == 2:
            self.going_on.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.Event().wait()
        raise StoreRefusedError("BUSY", "on cue")


async def test_closing_does_not_wait_for_a_replay_that_is_slow_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachekit._flow.runtime.DRAIN", 0.05)
    store = SlowToEnd()
    cache = Cache(store)
    assert not await cache.delete("k")
    async with asyncio.timeout(PATIENCE):
        await store.going_on.wait()
        await cache.aclose()


class FailsWhileItOverflows(MemoryStore):
    """A store that reports changes, whose read for the near tier fails, and whose journal overflows meanwhile."""

    until = float("inf")
    closed = False

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.asked: list[str] = []

    def track(self, prefix: str, changed: object, state: object) -> Tracking:
        return self  # type: ignore[return-value]

    def close(self) -> list[asyncio.Task[None]]:
        return []

    async def get_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        self.asked.append("get_with_ttl")
        self.reading.set()
        await self.go_on.wait()
        raise StoreUnavailableError("unavailable", "on cue")

    async def delete(self, keys: Any, timeout: float) -> None:
        raise StoreUnavailableError("unavailable", "on cue")

    async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
        self.asked.append(script.name)
        return await super().run(key, timeout, script)

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        self.asked.append("seize_lease")


async def test_a_read_that_failed_asks_the_store_no_second_time_though_the_journal_overflows() -> None:
    store = FailsWhileItOverflows()
    cache = Cache(store, near=10, timeout=PATIENCE)
    cache.runtime.coherence.journal._limit = 1

    @cache.cached(key="k:<x>", ttl=60)
    async def f(x: int) -> int:
        return x

    near = cache.runtime.coherence.near
    assert near is not None
    near._loops.get()
    reading = asyncio.ensure_future(f(1))
    await store.reading.wait()
    for x in (2, 3, 4):
        await f.invalidate(x)
    store.go_on.set()
    assert await reading == 1
    assert store.asked == ["get_with_ttl"]
    await cache.runtime.background.aclose()


ODD = [
    None,
    5,
    "text",
    b"bytes",
    bytearray(b"1"),
    [],
    [b"1"],
    {},
    (),
    (1, 2, 3),
    object(),
    Lease(None, mine=1),
    Window(None, 5, None),
]  # type: ignore[arg-type]
VERBS = [
    "get",
    "set",
    "get_with_lease",
    "get_with_ttl",
    "run",
    "seize_lease",
    "delete",
    "get_and_delete",
    "window",
]


class Answering(FailsWhileItOverflows):
    """A store that reports changes, one of whose verbs answers something of its own."""

    def __init__(self, verb: str, answer: object, *, at_once: bool) -> None:
        super().__init__()

        async def later(*args: object, **options: object) -> object:
            return answer

        self.get_with_ttl = self.found_with_ttl  # type: ignore[method-assign]
        self.delete = super(FailsWhileItOverflows, self).delete  # type: ignore[method-assign]
        setattr(self, verb, (lambda *args, **options: answer) if at_once else later)

    async def found_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        return await self.get(key, timeout), 60.0


@pytest.mark.parametrize(
    ("answer", "at_once"),
    [*[(odd, False) for odd in ODD], (None, True), (5, True)],
    ids=lambda odd: "" if isinstance(odd, bool) else type(odd).__name__,
)
@pytest.mark.parametrize("verb", VERBS)
async def test_no_answer_of_a_verb_reaches_the_caller(
    verb: str, answer: object, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit._flow.runtime.DRAIN", 0.01)
    cache = Cache(Answering(verb, answer, at_once=at_once), near=10, timeout=PATIENCE)
    snapshots = SnapshotStore(cache)
    async with asyncio.timeout(PATIENCE), cache:
        for kept_near in (True, False):

            @cache.cached(key=f"k{kept_near}", ttl=60, near=kept_near)
            async def f() -> list[int]:
                await asyncio.sleep(0)
                return [1]

            assert [*await asyncio.gather(f(), f()), await f()] == [[1]] * 3
            assert await f.refresh() == [1]
            assert await f.peek() in (MISS, [1])
            assert await f.take() in (MISS, [1])
            await f.invalidate()
        await cache.set("by hand", 1, ttl=60)
        assert await cache.get("by hand") in (None, 1)
        await snapshots.save_snapshot("42", "a text", 2)
        assert len(await snapshots.get_recent_snapshots("42")) <= 1
        circuits = cache.runtime._guard.circuits
        assert sum(map(len, circuits.values())) <= 1


@pytest.mark.parametrize("shard", [5, b"a", ["a"], {}, object()], ids=lambda odd: type(odd).__name__)
async def test_a_shard_that_is_no_text_is_none(shard: object) -> None:
    class Sharded(Wrapped):
        def shard(self, key: str) -> Any:
            return shard

    async with Cache(Sharded()) as cache:

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            return 1

        assert [await f(), await f()] == [1, 1]
        assert not await cache.set("k", 1, ttl=60)
        assert not cache.runtime._guard.circuits


@pytest.mark.parametrize(
    "answer",
    [None, 5, object(), "text", SimpleNamespace(until="soon", close=None)],
    ids=lambda odd: type(odd).__name__,
)
async def test_tracking_that_is_none_keeps_nothing_near(answer: object) -> None:
    store = Answering("track", answer, at_once=True)
    async with Cache(store, near=10, timeout=PATIENCE) as cache:

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            return 1

        assert [await f(), await f()] == [1, 1]


async def test_a_report_about_what_is_no_key_counts_as_one_about_any_key() -> None:
    reports: list[Callable[[Any], None]] = []

    class Reporting(Answering):
        def track(self, prefix: str, changed: Any, state: object) -> Tracking:
            reports.append(changed)
            return super().track(prefix, changed, state)

    async with Cache(Reporting("shard", None, at_once=True), near=10, timeout=PATIENCE) as cache:

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            return 1

        hits: list[bool] = []
        cache.observe(lambda event: hits.append(event.near) if isinstance(event, Hit) else None)
        await f()
        for odd in ([b"k"], 5, [None]):
            await f()
            await f()
            reports[-1](odd)
        await f()
        assert hits == [False, True] * 3 + [False]


def test_a_class_in_place_of_an_instance_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"not on its class; write Cache\(MemoryStore\(\)\)"):
        Cache(MemoryStore)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"clock=FakeClock is a class; write clock=FakeClock\(\)"):
        Cache("memory://", clock=FakeClock)  # type: ignore[arg-type]


# --- a store that does not tell how much is left of a value ---------------------------------------


class Untimed:
    """A store with the verbs of `Store` and no others."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        for name in (
            *("shard", "get", "set", "get_with_lease", "run", "seize_lease", "delete", "get_and_delete"),
            *("window", "aclose"),
        ):
            setattr(self, name, getattr(self.store, name))


async def test_a_function_with_stale_windows_goes_on_without_them(caplog: pytest.LogCaptureFixture) -> None:
    store: Any = Untimed()
    async with Cache(store) as cache:
        loads: list[Event] = []
        cache.observe(lambda event: loads.append(event) if isinstance(event, Loaded) else None)

        @cache.cached(key="k", ttl=60, stale_while_revalidate=60, stale_if_error=60, refresh_ahead="auto")
        async def f() -> int:
            return 1

        assert [await f(), await f(), await f.peek(), await f.take(), await f.peek()] == [1, 1, 1, 1, MISS]
        assert len(loads) == 1
        await f()
        assert await store.get("k", PATIENCE) == b"1", "a plain entry"
        assert await f.expire()
        assert await f.peek() is MISS
        # By another process, whose store tells.
        await store.set("k", PATIENCE, b'2\n{"s":60000}', ttl_ms=90_000)
        assert await f.peek() is MISS
        assert await f() == 1
    assert len([text for text in caplog.messages if "has no stale values" in text]) == 1


@pytest.mark.parametrize("answer", [None, 5, (b"1",), (b"1", "soon"), (b"1", None, 5.0, 1)], ids=shown)
async def test_an_answer_that_is_none_to_a_timed_read_is_a_failure_of_the_store(answer: object) -> None:
    class Odd(MemoryStore):
        async def get_with_ttl(self, key: str, timeout: float) -> Any:
            return answer

    async with Cache(Odd()) as cache:
        failed: list[str] = []
        cache.observe(lambda event: failed.append(event.operation) if isinstance(event, StoreFailed) else None)

        @cache.cached(key="k", ttl=60, stale_if_error=60)
        async def f() -> int:
            return 1

        assert await f() == 1
        assert failed == ["get"]


# --- many keys and tags -------------------------------------------------------------------------------------


class AnswersMany(MemoryStore):
    """A store, one of whose verbs for many keys, or for tags, answers with something of its own."""

    def __init__(self, verb: str, answer: object) -> None:
        super().__init__()

        async def answering(*_args: object, **_options: object) -> object:
            return answer

        setattr(self, verb, answering)


@pytest.mark.parametrize("answer", [None, 5, "ab", [], [b"1"], [5, 5], [None, object()]], ids=shown)
@pytest.mark.parametrize("verb", ["get_many", "get_many_with_ttl", "run_many", "set_many"])
async def test_no_answer_of_a_verb_for_many_keys_reaches_the_caller(verb: str, answer: object) -> None:
    async with Cache(AnswersMany(verb, answer), timeout=PATIENCE) as cache:

        @cache.cached(key="k:<x>", ttl=60)
        async def f(x: int) -> int:
            return x

        @f.many(each="xs")
        async def several(xs: list[int]) -> dict[int, int]:
            return {x: x for x in xs}

        for _ in range(2):
            assert await several([1, 2]) == {1: 1, 2: 2}
        await cache.set_many({"a": 1, "b": 2}, ttl=60)
        assert set((await cache.get_many(["a", "b"])).values()) <= {1, 2}


@pytest.mark.parametrize(
    "answer",
    [None, 5, b"1", [], (b"1", 60.0), (b"1", []), TaggedValue(b"1", []), TaggedValue(b"1", None)],  # type: ignore[arg-type]
    ids=shown,
)
@pytest.mark.parametrize("verb", ["get_tagged", "run_tagged", "open_tags"])
async def test_no_answer_of_a_verb_for_tags_reaches_the_caller(verb: str, answer: object) -> None:
    async with Cache(AnswersMany(verb, answer), timeout=PATIENCE) as cache:

        @cache.cached(key="k", ttl=60, tags=["t"])
        async def f() -> int:
            return 7

        assert [await f(), await f()] == [7, 7]
        assert await f.peek() in (MISS, 7)
        assert await f.take() in (MISS, 7)


class Single:
    """A store with the verbs of `Store` alone."""

    def __init__(self) -> None:
        inner = MemoryStore()
        for name in ("shard", "get", "set", "get_with_lease", "run", "seize_lease", "delete", "get_and_delete"):
            if not hasattr(type(self), name):
                setattr(self, name, getattr(inner, name))
        self.window, self.aclose = inner.window, inner.aclose


@pytest.mark.parametrize("answer", [None, 5, "ab", [5], (1, 2)], ids=shown)
@pytest.mark.parametrize("verb", ["servers_of", "sweep"])
async def test_no_answer_of_a_verb_for_a_sweep_reaches_the_caller(verb: str, answer: object) -> None:
    async with Cache(AnswersMany(verb, answer), prefix="app:", timeout=PATIENCE) as cache:
        failed: list[Event] = []
        cache.observe(lambda event: failed.append(event) if isinstance(event, StoreFailed) else None)
        assert await cache.clear() is False
        assert failed


async def test_a_store_without_verbs_for_many_may_raise_any_exception() -> None:
    class Raises(Single):
        async def get(self, key: str, timeout: float) -> bytes | None:
            raise RuntimeError

    async with Cache(Raises(), timeout=PATIENCE) as cache:
        causes: list[str] = []
        cache.observe(lambda event: causes.append(event.cause) if isinstance(event, StoreFailed) else None)
        assert await cache.get_many(["a", "b"]) == {}
        assert {*causes} == {"RuntimeError"}


async def test_each_fill_of_a_batch_that_is_left_behind_is_told_when_its_result_comes() -> None:
    class LeavesFills(MemoryStore):
        async def run_many(self, steps: Sequence[tuple[str, Script[Any]]], timeout: float) -> list[Any]:
            if not isinstance(steps[0][1], Fill):
                return await super().run_many(steps, timeout)
            return [UnconfirmedError("unconfirmed", "under way", partial(result, key)) for key, _ in steps]

    async def result(key: str) -> bool:
        return key == "k:1"

    async with Cache(LeavesFills(), timeout=PATIENCE) as cache:
        told: list[Event] = []
        cache.observe(lambda event: told.append(event) if isinstance(event, (Filled, NotStored, StoreFailed)) else None)

        @cache.cached(key="k:<x>", ttl=60)
        async def f(x: int) -> int:
            return x

        @f.many(each="xs")
        async def several(xs: list[int]) -> dict[int, int]:
            return {x: x for x in xs}

        assert await several([1, 2]) == {1: 1, 2: 2}
        await until(lambda: len(told) >= 2)
        assert {(type(event), getattr(event, "key", "")) for event in told} == {(Filled, "k:1"), (NotStored, "k:2")}


async def test_a_value_whose_tags_cannot_be_asked_for_is_not_taken() -> None:
    class NoTags(MemoryStore):
        left = 0

        async def get_tagged(self, *args: Any) -> TaggedValue:
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailableError("unavailable", "on cue")
            return await super().get_tagged(*args)

    store = NoTags()
    async with Cache(store, timeout=PATIENCE) as cache:

        @cache.cached(key="k:<x>", ttl=60, tags=["of:<x>"])
        async def f(x: int) -> int:
            return x

        @cache.cached(key="r:<x>", ttl=60, tags=["result:<return>"])
        async def by_result(x: int) -> int:
            return x

        # Its value alone says which tags it has.
        await f(1)
        await by_result(1)
        assert await by_result(1) == 1
        assert await by_result.take(1) == 1
        await by_result(1)
        await by_result(1)
        by_result._self_plan.tags._hints.clear()  # type: ignore[attr-defined]
        store.left = 1
        assert await f.take(1) is MISS
        store.left = 1
        assert await by_result.take(1) is MISS
