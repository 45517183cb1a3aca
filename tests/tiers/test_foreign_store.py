"""A store by somebody else, which may return or raise what it likes: the application never notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cachekit import MISS, Cache, SnapshotStore
from cachekit.errors import ConfigurationError, StoreRefusedError, StoreUnavailableError
from cachekit.events import Event, Hit, Loaded, StoreFailed
from cachekit.stores.base import Tracking, Window
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import Lease, Script
from cachekit.testing import FakeClock

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


@pytest.mark.parametrize("answer", [None, 5, object(), "text"], ids=lambda odd: type(odd).__name__)
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


@pytest.mark.parametrize("answer", [None, 5, (b"1",), (b"1", "soon"), (b"1", None, 5.0, 1)], ids=repr)
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
