"""Private values and snapshots: with keys, the store has nothing of them that it can read, and never the plain text."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest

import cachekit
from cachekit import MISS, Cache, RollingWindow, SnapshotStore, configure, default_cache, new_key, using
from cachekit.errors import ConfigurationError
from cachekit.events import Event, Filled, Loaded, ServedStale, Uncached
from cachekit.stores.memory import MemoryStore
from cachekit.testing import memory_cache
from tests.kit.servers import RedisServer
from tests.kit.stale import HOUR, PATIENCE, Source, raw_at, watch
from tests.kit.waiting import until
from tests.kit.windows import lay

TEXT: Final = "a text that nobody else may read"
KEY, OTHER = new_key(), new_key()


async def items(store: MemoryStore, key: str = "snapshots:42") -> list[bytes]:
    return (await store.window(key, 1, 100)).items


async def texts(cache: Cache, user_id: str = "42", **options: Any) -> list[str]:
    return [found.text for found in await SnapshotStore(cache, **options).get_recent_snapshots(user_id, 50)]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "passes over bytes in the store" in message]


# --- snapshots ------------------------------------------------------------------------------------------


async def test_sealed_snapshots_come_back_as_they_were(store_url: str) -> None:
    async with Cache(store_url, timeout=5, keys=[KEY]) as cache:
        store = SnapshotStore(cache)
        for text in ("", "one", TEXT * 100, "\0é🙂"):
            assert await store.save_snapshot("42", text, 7)
        assert await texts(cache) == ["\0é🙂", TEXT * 100, "one", ""]
        previous, latest = await store.get_snapshot_pair("42") or (None, None)
        assert previous is not None
        assert latest is not None
        assert (latest.text, latest.word_count, previous.text) == ("\0é🙂", 7, TEXT * 100)
        assert latest.timestamp >= previous.timestamp
        assert await store.forget("42")
        assert await texts(cache) == []


async def test_the_store_sees_the_time_and_sizes_to_256_bytes_and_nothing_else() -> None:
    store = MemoryStore()
    cache = Cache(store, keys=[KEY])
    for text in (TEXT, TEXT + TEXT, "x" * 300):
        await SnapshotStore(cache).save_snapshot("42", text, 7)
    found = [orjson.loads(item) for item in await items(store)]
    assert all([*item] == ["~sealed", "timestamp"] for item in found)
    assert [len(b64decode(item["~sealed"])) for item in found] == [33 + 512, 33 + 256, 33 + 256]
    assert not any(TEXT[:12].encode() in b64decode(item["~sealed"]) for item in found)


@pytest.mark.parametrize("where", ["the cache", "the window", "the environment", "a callable"])
async def test_keys_may_come_from_several_places(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "the environment":
        monkeypatch.setenv("CACHEKIT_KEYS", f"{KEY},{OTHER}")
    store = MemoryStore()
    cache = Cache(store, keys=[KEY] if where == "the cache" else ())
    options: dict[str, Any] = {"the window": {"keys": [KEY]}, "a callable": {"keys": lambda: [KEY]}}.get(where, {})
    await SnapshotStore(cache, **options).save_snapshot("42", TEXT, 7)
    assert TEXT.encode() not in b"".join(await items(store))
    assert await texts(Cache(store, keys=None), keys=[KEY]) == [TEXT]


async def test_none_leaves_them_plain_whatever_the_environment_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_KEYS", KEY)
    store = MemoryStore()
    await SnapshotStore(Cache(store), keys=None).save_snapshot("42", TEXT, 7)
    assert TEXT.encode() in b"".join(await items(store))
    assert Cache(store, keys=None).runtime.sealer is None


async def test_after_a_rotation_old_snapshots_are_read_until_their_key_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    await SnapshotStore(Cache(store), keys=[OTHER]).save_snapshot("42", "before", 1)
    assert await SnapshotStore(Cache(store), keys=[KEY, OTHER]).save_snapshot("42", "after", 1)
    assert await texts(Cache(store), keys=[KEY, OTHER]) == ["after", "before"]
    assert not told(caplog)
    last = Cache(store)
    for _ in range(3):
        assert await texts(last, keys=[KEY]) == ["after"]
    assert len(told(caplog)) == 1


Damage = Callable[[bytes], bytes]


def inside(change: Damage) -> Damage:
    """Return the damage of an item whose sealed bytes are changed."""

    def damage(item: bytes) -> bytes:
        found = orjson.loads(item)
        found["~sealed"] = b64encode(change(b64decode(found["~sealed"]))).decode()
        return orjson.dumps(found)

    return damage


DAMAGES: Final[dict[str, Damage]] = {
    "cut": inside(lambda sealed: sealed[:-1]),
    "empty": inside(lambda _: b""),
    "flipped": inside(lambda sealed: sealed[:-20] + bytes([sealed[-20] ^ 1]) + sealed[-19:]),
    "no base64": lambda item: item.replace(b'"~sealed":"', b'"~sealed":"!\xc3\xa9'),
    "no text": lambda item: orjson.dumps({**orjson.loads(item), "~sealed": [1]}),
    "plain": lambda item: orjson.dumps({"text": TEXT, "word_count": 7, "timestamp": orjson.loads(item)["timestamp"]}),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_no_key_opens_is_not_there_with_one_warning_and_no_plain_text(
    damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, events = MemoryStore(), list[Event]()
    cache = Cache(store, keys=[KEY])
    cache.observe(events.append)
    snapshots = SnapshotStore(cache)
    for text in ("one", "two"):
        await snapshots.save_snapshot("42", text, 1)
    newest, oldest = await items(store)
    await snapshots.forget("42")
    await lay(store, "snapshots:42", oldest, DAMAGES[damage](newest))
    for _ in range(3):
        assert await texts(cache) == ["one"]
    assert len(told(caplog)) == 1
    assert events.count(Uncached("a rolling window", "seal")) == 3
    assert TEXT not in caplog.text


async def test_an_item_that_was_moved_to_another_user_or_window_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    cache = Cache(store, prefix="app:", keys=[KEY])
    await SnapshotStore(cache).save_snapshot("42", TEXT, 7)
    stolen = await items(store, "app:snapshots:42")
    await lay(store, "app:snapshots:43", *stolen)
    await lay(store, "other:snapshots:42", *stolen)
    assert await texts(cache, "43") == []
    assert await texts(Cache(store, prefix="other:", keys=[KEY])) == []
    assert len(told(caplog)) == 2, "one of each cache"


async def test_a_reader_without_keys_gets_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    await SnapshotStore(Cache(store), keys=[KEY]).save_snapshot("42", TEXT, 7)
    plain = Cache(store)
    assert await texts(plain) == []
    assert await RollingWindow(plain, "snapshots:42", 50, "24h").recent(10) == []
    assert len(told(caplog)) == 1
    assert "there are no keys" in caplog.text


async def test_when_the_keys_cannot_be_had_nothing_is_saved_and_nothing_breaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys: list[Any] = [[KEY]]

    def ask() -> list[str]:
        if not keys:
            raise RuntimeError(f"no access with {KEY}")
        found: list[str] = keys[0]
        return found

    store = MemoryStore()
    snapshots = SnapshotStore(Cache(store), keys=ask)
    assert await snapshots.save_snapshot("42", "before", 1)
    kept = keys.pop()
    for _ in range(3):
        assert await snapshots.save_snapshot("42", TEXT, 7) is False
        assert await snapshots.get_recent_snapshots("42") == []
    assert len(await items(store)) == 1
    assert KEY not in caplog.text
    assert TEXT not in caplog.text
    assert len([text for text in caplog.messages if "the keys cannot be had: RuntimeError" in text]) == 1
    keys.append(kept)
    assert [found.text for found in await snapshots.get_recent_snapshots("42")] == ["before"]


async def test_a_save_inside_a_block_is_sealed_as_well() -> None:
    store = MemoryStore()
    cache = Cache(store, keys=[KEY])
    snapshots = SnapshotStore(cache)
    await snapshots.save_snapshot("42", "before", 1)
    async with cache.after_commit():
        await snapshots.forget("42")
        await snapshots.save_snapshot("42", TEXT, 7)
    assert await texts(cache) == [TEXT]
    assert TEXT.encode() not in b"".join(await items(store))


# --- values ---------------------------------------------------------------------------------------------


async def test_a_private_value_is_a_hit_of_the_same_type_and_sealed_in_the_store(redis_server: RedisServer) -> None:
    loads: list[Event] = []
    async with Cache(redis_server.url, timeout=5, keys=[KEY]) as cache:
        cache.observe(lambda event: loads.append(event) if isinstance(event, Loaded) else None)

        @cache.cached(key="notes:<user_id>", ttl=600, private=True)
        async def notes(user_id: str) -> tuple[str, ...]:
            return (TEXT, user_id)

        assert await notes("42") == await notes("42") == await notes.peek("42") == (TEXT, "42")
        assert len(loads) == 1
        raw: bytes = redis_server.cli("GET", "notes:42")
        assert TEXT.encode() not in raw
        line, meta = raw.split(b"\n")
        assert TEXT.encode() not in b64decode(orjson.loads(line))
        assert orjson.loads(meta) == {"E": 1}, "a reader that does not understand it takes it for a miss"
        assert await cache.get("notes:42") is None
        assert await notes.refresh("42") == (TEXT, "42")
        assert await notes.take("42") == (TEXT, "42")
        assert await notes.take("42") is MISS


async def test_private_values_are_kept_near_as_others_are(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=5, near=10, keys=[KEY]) as cache:

        @cache.cached(key="notes:<user_id>", ttl=600, private=True)
        async def notes(user_id: str) -> list[str]:
            return [TEXT, user_id]

        for _ in range(50):
            assert await notes("42") == [TEXT, "42"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-30] + raw[-9:],
        lambda raw: raw.replace(b'\n{"E":1}', b""),
        lambda _: orjson.dumps([TEXT, "plain"]),
        lambda _: b'""\n{"E":1}',
    ],
    ids=["cut", "no second line", "plain", "empty"],
)
async def test_a_value_that_no_key_opens_is_loaded_anew_and_replaced(
    damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    cache = Cache(store, keys=[KEY])
    loads: list[Event] = []
    cache.observe(lambda event: loads.append(event) if isinstance(event, Loaded) else None)

    @cache.cached(key="notes:<user_id>", ttl=600, private=True)
    async def notes(user_id: str) -> list[str]:
        return [TEXT, user_id]

    await notes("42")
    raw = await store.get("notes:42", 1)
    assert raw is not None
    await store.set("notes:42", 1, damage(raw), ttl_ms=60_000)
    assert await notes.peek("42") is MISS
    for _ in range(2):
        assert await notes("42") == [TEXT, "42"]
    assert len(loads) == 2
    assert len(told(caplog)) == 1


async def test_a_private_value_that_was_moved_to_another_key_is_loaded_anew() -> None:
    store = MemoryStore()
    cache = Cache(store, keys=[KEY])

    @cache.cached(key="notes:<user_id>", ttl=600, private=True)
    async def notes(user_id: str) -> str:
        return user_id

    await notes("42")
    raw = await store.get("notes:42", 1)
    assert raw is not None
    await store.set("notes:43", 1, raw, ttl_ms=60_000)
    assert await notes("43") == "43"


async def test_a_private_value_is_read_after_a_rotation() -> None:
    store = MemoryStore()

    async def notes(user_id: str) -> str:
        return user_id

    for keys, there in (([OTHER], False), ([KEY, OTHER], True), ([KEY], False)):
        found = Cache(store, keys=keys).cached(key="notes:<user_id>", ttl=600, private=True)(notes)
        assert (await found.peek("42") is not MISS) == there
        await found("42")


async def test_a_refresh_inside_a_block_is_sealed_as_well() -> None:
    store = MemoryStore()
    cache = Cache(store, keys=[KEY])

    @cache.cached(key="notes:<user_id>", ttl=600, private=True)
    async def notes(user_id: str) -> str:
        return TEXT

    async with cache.after_commit():
        await notes.invalidate("42")
        await notes.refresh("42")
    raw = await store.get("notes:42", 1)
    assert raw is not None
    assert TEXT.encode() not in raw
    assert await notes.peek("42") == TEXT


# --- values that may be stale ---------------------------------------------------------------------------

STALE: Final[dict[str, Any]] = {"key": "k", "ttl": 600, "private": True, "stale_if_error": HOUR}
DOWN: Final = ConnectionError("the database is down")


async def let_end(cache: Cache, seconds: float) -> bytes:
    """Let the TTL of the value at "k" have ended ``seconds`` ago, and return the bytes."""
    raw, _ = await raw_at(cache, "k")
    assert raw is not None
    await cache._store.set("k", PATIENCE, raw, ttl_ms=round((HOUR - seconds) * 1000))
    return raw


async def test_a_sealed_value_stands_in_when_a_load_fails_and_its_stale_window_stays_readable(store_url: str) -> None:
    source = Source(TEXT)
    async with Cache(store_url, timeout=5, keys=[KEY]) as cache:
        call, events = cache.cached(**STALE)(source.load), watch(cache)
        assert await call() == TEXT
        line, meta = (await let_end(cache, 5)).split(b"\n")
        assert TEXT.encode() not in b64decode(orjson.loads(line))
        assert orjson.loads(meta) == {"E": 1, "s": HOUR * 1000}
        assert await call.peek() is MISS
        source.error = DOWN
        assert await call() == TEXT
        assert [event.why for event in events if isinstance(event, ServedStale)] == ["error"]
        assert await call.take() is MISS, "a stale value is removed, and is a miss"
        with pytest.raises(ConnectionError):
            await call()


async def test_a_sealed_value_is_replaced_in_the_background_by_a_sealed_one(store_url: str) -> None:
    source = Source("old")
    async with Cache(store_url, timeout=5, keys=[KEY]) as cache:
        call = cache.cached(**STALE, stale_while_revalidate=60, refresh_ahead="auto")(source.load)
        await call()
        await let_end(cache, 5)
        source.version = TEXT
        events = watch(cache)
        assert await call() == "old"
        await until(lambda: any(isinstance(event, Filled) for event in events))
        assert await call() == TEXT
        raw, _ = await raw_at(cache, "k")
        assert raw is not None
        line, meta = raw.split(b"\n")
        assert TEXT.encode() not in b64decode(orjson.loads(line))
        assert {"E", "s", "d"} <= {*orjson.loads(meta)}


async def test_a_sealed_value_that_was_expired_by_hand_stands_in_for_failures_alone(store_url: str) -> None:
    source = Source("old")
    async with Cache(store_url, timeout=5, keys=[KEY]) as cache:
        call = cache.cached(**STALE)(source.load)
        await call()
        assert await call.expire()
        raw, _ = await raw_at(cache, "k")
        assert raw is not None
        assert raw.endswith(b"}!")
        source.error = DOWN
        assert await call() == "old"
        source.error, source.version = None, "new"
        assert await call.refresh() == await call() == "new"


METADATA: Final[dict[str, Damage]] = {
    "a longer stale window": lambda meta: meta.replace(b'"s":3600000', b'"s":9600000'),
    "no stale window": lambda meta: meta.replace(b',"s":3600000', b""),
    "a longer load": lambda meta: meta.replace(b'"d":', b'"d":9'),
    "another ttl": lambda meta: meta.replace(b'"t":', b'"t":9'),
    "one more member": lambda meta: meta.replace(b"}", b',"new":1}'),
    "spaces": lambda meta: meta.replace(b",", b", "),
}


@pytest.mark.parametrize("change", METADATA)
async def test_a_sealed_value_whose_metadata_was_changed_is_loaded_anew_with_one_warning(
    change: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, source = MemoryStore(), Source("old")
    call = Cache(store, keys=[KEY]).cached(**{**STALE, "ttl": lambda _: 600, "refresh_ahead": "auto"})(source.load)
    await call()
    line, meta = (await store.get("k", PATIENCE) or b"").split(b"\n")
    assert {*orjson.loads(meta)} == {"E", "s", "d", "t"}
    changed = METADATA[change](meta)
    assert changed != meta
    await store.set("k", PATIENCE, line + b"\n" + changed, ttl_ms=2 * HOUR * 1000)
    source.version = "new"
    assert await call.peek() is MISS
    assert await call() == await call() == "new"
    assert len(told(caplog)) == 1


async def test_a_stale_value_that_no_key_opens_does_not_stand_in(caplog: pytest.LogCaptureFixture) -> None:
    store, source = MemoryStore(), Source(TEXT)
    await Cache(store, keys=[OTHER]).cached(**STALE)(source.load)()
    for cache, options in ((Cache(store, keys=[KEY]), STALE), (Cache(store), {**STALE, "private": False})):
        call = cache.cached(**options)(source.load)
        await let_end(cache, 5)
        source.error = DOWN
        with pytest.raises(ConnectionError):
            await call()
    assert len(told(caplog)) == 1, "to a function that is not private it is an entry of another kind"


async def test_an_entry_of_a_later_version_is_a_miss_of_a_private_function_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, source = MemoryStore(), Source()
    call = Cache(store, keys=[KEY]).cached(**STALE)(source.load)
    for meta in (b'{"E":2}', b'{"E":1,"New":1}', b'{"E":true}'):
        await store.set("k", 1, b'"AQ=="\n' + meta, ttl_ms=60_000)
        assert await call.peek() is MISS
    assert not told(caplog)


# --- private functions ----------------------------------------------------------------------------------


def test_private_without_keys_is_an_error_at_decoration() -> None:
    with pytest.raises(ConfigurationError, match=r"write Cache\(url, keys=\[key\]\) or set CACHEKIT_KEYS"):
        memory_cache().cached(key="notes:<user_id>", ttl=600, private=True)


def test_a_private_batch_without_keys_is_an_error_at_decoration() -> None:
    with pytest.raises(ConfigurationError, match=r"write Cache\(url, keys=\[key\]\) or set CACHEKIT_KEYS"):
        memory_cache().cached_many(key="notes:<user_id>", each="user_ids", ttl=600, private=True)


async def test_private_with_a_default_cache_without_keys_is_an_error_of_each_call_and_stores_nothing() -> None:
    runs = 0

    @cachekit.cached(key="notes:<user_id>", ttl=600, private=True)
    async def notes(user_id: str) -> str:
        nonlocal runs
        runs += 1
        return TEXT

    with using(memory_cache()) as cache:
        for call in (notes, notes.peek, notes.refresh, notes.take):
            with pytest.raises(ConfigurationError, match="private=True needs a cache with keys"):
                await call("42")
        assert await cache.get("notes:42") is None
    assert runs == 0
    with using(memory_cache(keys=[KEY])):
        assert await notes("42") == await notes("42") == TEXT
    assert runs == 1


@pytest.mark.parametrize("private", [1, None, "yes"])
def test_private_is_a_choice_of_two(private: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"private={private!r}"):
        memory_cache(keys=[KEY]).cached(key="notes:<user_id>", ttl=600, private=private)


# --- keys -----------------------------------------------------------------------------------------------


def test_bad_keys_are_refused_where_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ([], ["short"], [b"x" * 31], "short"):
        for make in (
            lambda: Cache("memory://", keys=bad),  # noqa: B023 - called at once
            lambda: configure("memory://", keys=bad),  # noqa: B023
            lambda: SnapshotStore(memory_cache(), keys=bad),  # noqa: B023
            lambda: RollingWindow(memory_cache(), "w", 1, 1, keys=bad),  # noqa: B023
        ):
            with pytest.raises(ConfigurationError, match="keys="):
                make()
    with pytest.raises(ConfigurationError, match="give them to the Cache"):
        configure(memory_cache(), keys=[KEY])
    monkeypatch.setenv("CACHEKIT_KEYS", "short")
    with pytest.raises(ConfigurationError, match="CACHEKIT_KEYS"):
        Cache("memory://")


async def test_bad_keys_in_the_environment_leave_functions_of_the_default_cache_uncached(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cachekit.functions._configured", None)
    monkeypatch.setenv("CACHEKIT_KEYS", "short")

    @cachekit.cached(key="f", ttl=60)
    async def f() -> int:
        return 1

    assert [await f(), await f()] == [1, 1]
    assert "CACHEKIT_KEYS" in caplog.text
    with pytest.raises(ConfigurationError, match="CACHEKIT_KEYS"):
        default_cache()


async def test_no_log_event_or_repr_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    cache = Cache(MemoryStore(), keys=[KEY, OTHER])
    cache.observe(events.append)
    snapshots = SnapshotStore(cache)
    await snapshots.save_snapshot("42", TEXT, 7)
    await SnapshotStore(cache, keys=[new_key()]).get_recent_snapshots("42")
    shown = [repr(thing) for thing in (cache, cache.runtime.sealer, snapshots, vars(snapshots), events)]
    for key in (KEY, OTHER):
        assert key not in "".join([*shown, caplog.text])
