"""Lines that both checkers must accept, and the types that they must see. Nothing in this module is ever called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import CodeType, CoroutineType
from typing import Any, Protocol, assert_type

from cachekit import (
    MISS,
    BoundCachedFunction,
    BoundCachedManyFunction,
    Cache,
    CachedFunction,
    CachedManyFunction,
    Miss,
    Put,
    RollingWindow,
    SnapshotStore,
    cache_delete,
    cache_get,
    cache_set,
    cached,
    cached_many,
    configure,
    invalidates,
    new_key,
    using,
)
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.outcome import Down
from cachekit.events import Event
from cachekit.stores import Store, open_store
from cachekit.stores.base import Window
from cachekit.stores.scripts import Fill
from cachekit.testing import FailingStore, assert_loads, capture_events, disabled, reset


class Profile:
    user_id: str = ""


cache = Cache("memory://", prefix="myapp:", timeout="250ms")


# --- functions ------------------------------------------------------------------------------------------


@cached(key="profile:<user_id>", ttl=600)
async def profile(user_id: str, *, fresh: bool = False) -> Profile:
    return Profile()


@cache.cached("of:<n>", ttl=timedelta(minutes=10), when=lambda result: result is not None, jitter=0.1)
async def maybe(n: int = 1, /, *rest: str, **options: float) -> int | None:
    return n


@asynccontextmanager
async def open_session() -> AsyncGenerator[str, None]:
    yield "a session"


@cached(
    key="team:<team_id>",
    ttl=600,
    stale_while_revalidate="1m",
    stale_if_error=timedelta(hours=1),
    stale_on=(ConnectionError, TimeoutError),
    retry_after=5,
    lease="10s",
    refresh_ahead="auto",
    soft_timeout=0.2,
    offline="60s",
    background={"session": open_session},
)
async def team(team_id: int, session: str) -> list[str]:
    return [session]


@cache.cached(ttl=60, refresh_ahead=0.1, stale_if_error=60, stale_on=OSError, background=True)
async def rates() -> float:
    return 1.0


@cached(ttl=lambda result: "10m" if result else 1.5)
async def no_parameters() -> list[tuple[int, str]]:
    return []


async def a_call_is_typed_as_undecorated() -> None:
    assert_type(await profile("42"), Profile)
    assert_type(await profile(user_id="42", fresh=True), Profile)
    assert_type(await maybe(), int | None)
    assert_type(await maybe(1, "a", "b", c=1.0), int | None)
    assert_type(await no_parameters(), list[tuple[int, str]])
    assert_type([profile("42")], list[CoroutineType[Any, Any, Profile]])


async def the_methods_take_the_arguments_of_the_call() -> None:
    assert_type(profile.key("42"), str)
    assert_type(profile.key(user_id="42", fresh=True), str)
    assert_type(await profile.peek("42"), Profile | Miss)
    assert_type(await profile.take("42"), Profile | Miss)
    assert_type(await profile.expire("42"), bool)
    assert_type(await profile.refresh("42"), Profile)
    assert_type(await profile.invalidate("42", fresh=True), bool)
    assert_type(await maybe.peek(1, "a", c=1.0), int | None | Miss)


async def a_miss_is_told_from_a_value_by_identity() -> None:
    found = await profile.peek("42")
    if found is not MISS:
        assert_type(found, Profile)
        assert_type(found.user_id, str)
    taken = await maybe.take(1)
    if taken is not MISS:
        assert_type(taken, int | None)


async def takes_a_function(function: Callable[[str], Awaitable[Profile]]) -> Profile:
    return await function("42")


async def a_decorated_function_goes_wherever_the_function_goes() -> None:
    assert_type(await takes_a_function(profile), Profile)
    plain: Callable[[str], Coroutine[Any, Any, Profile]] = profile
    assert_type(await plain("42"), Profile)
    assert_type(profile.__name__, str)
    assert_type(profile.__qualname__, str)


class LoadsProfile(Protocol):
    async def __call__(self, user_id: str, *, fresh: bool = False) -> Profile: ...


class LoadsItem(Protocol):
    async def __call__(self, item_id: int) -> str: ...


class Records(Protocol):
    async def __call__(self, user_id: str, *errors: int, note: str | None = None) -> list[int]: ...


def take_callables(_profile: LoadsProfile, _item: LoadsItem, _record: Records) -> None: ...


def decorated_functions_satisfy_protocols(repository: Repository) -> None:
    take_callables(profile, repository.item, record)


# --- methods --------------------------------------------------------------------------------------------


class Repository:
    @cached(key="item:<self.name>:<item_id>", ttl=60)
    async def item(self, item_id: int) -> str:
        return ""

    @cached(key="all:<cls.__name__>:<limit>", ttl=60)
    @classmethod
    async def all(cls, limit: int = 10) -> list[str]:
        return []

    @cached(key="price:<sku>", ttl=60)
    @staticmethod
    async def price(sku: str) -> float:
        return 0.0

    @staticmethod
    @cached(key="weight:<sku>", ttl=60)
    async def weight(sku: str) -> int:
        return 0

    @invalidates("item:<self.name>:<item_id>", "last:<return.user_id>")
    async def change(self, item_id: int, text: str = "") -> Profile:
        return Profile()

    @invalidates("all:<cls.__name__>:<limit>")
    @classmethod
    async def reset(cls, limit: int) -> bytes:
        return b""

    @property
    def name(self) -> str:
        return ""

    async def inside(self) -> str:
        assert_type(await self.item.peek(1), str | Miss)
        return await self.item(1)


class HasItem(Protocol):
    async def item(self, item_id: int) -> str: ...


class AbstractRepository(ABC):
    @abstractmethod
    async def item(self, item_id: int) -> str: ...

    @abstractmethod
    async def change(self, item_id: int) -> int: ...


class ConcreteRepository(AbstractRepository):
    # pyright lets nothing but a plain function override a method, whatever it binds to.
    @cached(key="item:<item_id>", ttl=60)
    async def item(self, item_id: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ""

    @invalidates("item:<item_id>")
    async def change(self, item_id: int) -> int:
        return 1


def a_class_with_decorated_methods_satisfies_a_protocol_and_a_base() -> None:
    base: AbstractRepository = ConcreteRepository()
    # Nor does it bind a method of another kind before it compares it with a protocol's.
    has_item: HasItem = base  # pyright: ignore[reportAssignmentType]
    take_callables(profile, has_item.item, record)


class Special(Repository):
    async def more(self) -> str:
        return await super().item(1)


async def a_method_is_bound_by_its_instance(repository: Repository, special: Special) -> None:
    assert_type(await repository.item(1), str)
    assert_type(await repository.item(item_id=1), str)
    assert_type(repository.item.key(1), str)
    assert_type(await repository.item.peek(item_id=1), str | Miss)
    assert_type(await repository.item.invalidate(1), bool)
    assert_type(await special.item(1), str)
    assert_type(await special.item.refresh(1), str)


async def a_method_read_from_the_class_takes_the_instance(repository: Repository) -> None:
    assert_type(await Repository.item(repository, 1), str)
    assert_type(Repository.item.key(repository, 1), str)
    assert_type(await Repository.item.invalidate(repository, item_id=1), bool)


async def a_classmethod_is_bound_by_class_and_instance(repository: Repository) -> None:
    assert_type(await Repository.all(), list[str])
    assert_type(await Repository.all(limit=1), list[str])
    assert_type(await repository.all(1), list[str])
    assert_type(await Special.all(1), list[str])
    assert_type(Repository.all.key(1), str)
    assert_type(await repository.all.peek(), list[str] | Miss)
    assert_type(await Special.all.invalidate(1), bool)


async def a_staticmethod_is_not_bound(repository: Repository) -> None:
    assert_type(await Repository.price("a"), float)
    assert_type(await repository.price(sku="a"), float)
    assert_type(repository.price.key("a"), str)
    assert_type(await repository.price.take("a"), float | Miss)
    assert_type(await Repository.weight("a"), int)
    assert_type(await repository.weight(sku="a"), int)
    assert_type(await repository.weight.peek("a"), int | Miss)


# --- tags -----------------------------------------------------------------------------------------------


@cached(key="tagged:<user_id>", ttl="10m", tags=["team:<team>", True])
async def tagged(user_id: str, team: int) -> Profile:
    return Profile()


@cached(key="own:<user_id>", ttl="10m", tags=True)
async def own(user_id: str) -> int:
    return 1


@invalidates("tagged:<*user_ids>", tags=("team:<team>", "a:<return>"), around=True)
async def write_all(user_ids: list[str], team: int) -> int:
    return 1


@cache.invalidates(tags=["team:<team>"], always=True)
async def write_team(team: int) -> str:
    return ""


@tagged.puts
async def write_tagged(user_id: str, team: int, text: str) -> Profile:
    return Profile()


@cached_many(key="tagged:<x>", each="xs", ttl=60, tags=["x:<x>", True], absent_ttl="1m")
async def tagged_many(xs: list[int]) -> dict[int, str]:
    return {}


async def tags() -> None:
    assert_type(await write_tagged("42", 7, text="a"), Profile)
    assert_type(await tagged_many([1]), dict[int, str])
    assert_type(await tagged_many.invalidate_all(), bool)
    assert_type(await tagged("42", 7), Profile)
    assert_type(await tagged.peek("42", team=7), Profile | Miss)
    assert_type(await tagged.invalidate_all(), bool)
    assert_type(await own.invalidate_all(), bool)
    assert_type(await write_all(["42"], 7), int)
    assert_type(await write_team(team=7), str)
    assert_type(await cache.invalidate_tags("team:7", "team:8"), bool)
    assert_type(await cache.clear(within="1m", progress=print), bool)


# --- invalidates ----------------------------------------------------------------------------------------


@invalidates("profile:<user_id>")
async def record(user_id: str, *errors: int, note: str | None = None) -> list[int]:
    return [*errors]


@cache.invalidates("profile:<user_id>", "a:<return>")
async def rename(user_id: str) -> int:
    return 1


async def original(user_id: str) -> int:
    return 1


kept = invalidates("profile:<user_id>")(original)


async def an_invalidating_function_keeps_its_type(repository: Repository) -> None:
    assert_type(await record("42", 1, 2, note="a"), list[int])
    assert_type(await rename(user_id="42"), int)
    assert_type(await kept(user_id="42"), int)
    assert_type(kept.__code__, CodeType)
    assert_type(await repository.change(1, text="a"), Profile)
    assert_type(await Repository.change(repository, 1), Profile)
    assert_type(await Repository.reset(1), bytes)
    assert_type(await repository.reset(limit=1), bytes)


# --- the names that users write in their own annotations ------------------------------------------------


def takes_decorated(
    function: CachedFunction[[str], Profile], bound: BoundCachedFunction[[int], str]
) -> tuple[CachedFunction[[str], Profile], BoundCachedFunction[[int], str]]:
    return function, bound


@cached(ttl=1)
async def by_id(user_id: str, /) -> Profile:
    return Profile()


takes_decorated(by_id, Repository().item)


# --- by hand --------------------------------------------------------------------------------------------


async def by_hand() -> None:
    assert_type(await cache_set("k", {"a": 1}, ttl="10m"), bool)
    assert_type(await cache_delete("k"), bool)
    anything: str = await cache_get("k")
    assert_type(anything, str)
    assert_type(await cache.set("k", 1, timedelta(seconds=1)), bool)
    assert_type(await cache.delete("k"), bool)
    assert_type(configure("memory://", prefix="a:"), Cache)
    with using(cache) as current:
        assert_type(current, Cache)
    async with Cache("memory://") as opened:
        assert_type(opened, Cache)


@cached(key="notes:<user_id>", ttl=600, private=True)
async def notes(user_id: str) -> list[str]:
    return [user_id]


async def keys() -> None:
    assert_type(new_key(), str)
    Cache("memory://", keys=[new_key(), b"raw"])
    Cache("memory://", keys=lambda: [new_key()])
    SnapshotStore(cache, keys=new_key())
    RollingWindow(cache, "clicks", 10, "1h", keys=None)
    assert_type(await notes("42"), list[str])
    assert_type(await cache.erase("snapshots:42", "profile:42"), bool)


async def snapshots() -> None:
    store = SnapshotStore(cache, limit=50, ttl="24h")
    assert_type(await store.save_snapshot("42", "text", 1), bool)
    newest = await store.get_recent_snapshots("42", count=2)
    assert_type(newest[0].text, str)
    pair = await store.get_snapshot_pair("42")
    if pair is not None:
        previous, latest = pair
        assert_type(previous.word_count - latest.word_count, int)


async def the_door_to_the_store(guard: Guard, budget: Budget) -> None:
    store = guard.store
    assert_type(await guard.ask(store.get, "k", budget), bytes | Down | None)
    assert_type(await guard.ask(store.run, "k", budget, Fill(b"token", b"v", 1)), bool | Down)
    assert_type(await guard.ask(store.window, "k", budget, 10), Window | Down)


# --- many ids, and values in hand -----------------------------------------------------------------------


@profile.many(max_batch=100, absent_ttl="1m")
async def profiles(user_ids: Sequence[str], tenant: int = 1) -> Mapping[str, Profile]:
    return {}


@cached_many(key="name:<user_id>", each="user_ids", ttl="1m", max_batch=10, when=bool)
async def names(user_ids: list[int]) -> dict[int, str]:
    return {}


class Team:
    @cache.cached(key="member:<user_id>", ttl=60)
    async def member(self, user_id: int) -> str:
        return ""

    @member.many()
    async def members(self, user_ids: list[int]) -> dict[int, str]:
        return {}

    @cache.cached_many(key="of:<user_id>", each="user_ids", ttl=60)
    @classmethod
    async def of(cls, user_ids: list[int]) -> dict[int, str]:
        return {}

    @member.puts
    async def rename(self, user_id: int, text: str) -> str:
        return text


@profile.puts
async def save(user_id: str, text: str) -> Profile:
    return Profile()


async def many_and_in_hand(team: Team) -> None:
    assert_type(await profiles(["7"], tenant=2), dict[str, Profile])
    assert_type(await names([7]), dict[int, str])
    loads: CachedManyFunction[[list[int]], int, str] = names
    assert_type(await loads([7]), dict[int, str])
    assert_type(names.keys([7]), list[str])
    assert_type(await names.invalidate([7]), bool)
    assert_type(await team.members([7]), dict[int, str])
    bound: BoundCachedManyFunction[[list[int]], int, str] = team.members
    assert_type(await bound([7]), dict[int, str])
    assert_type(await Team.of([7]), dict[int, str])
    assert_type(await team.of([7]), dict[int, str])
    assert_type(await team.rename(7, "new"), str)
    assert_type(await save("7", text="new"), Profile)
    assert_type(await profile.set(Profile(), "7"), bool)
    async with profile.writing("7") as put:
        assert_type(put, Put[Profile])
        assert_type(put(Profile()), Profile)
    assert_type(await profile.ttl("7"), float | None)
    assert_type(await profile.touch("7", "10m"), bool)
    assert_type(await profile.invalidate_many(["7", ("8",)]), bool)
    assert_type(await cache.get_many(["a"]), dict[str, Any])
    assert_type(await cache.set_many({"a": 1}, ttl="1m"), bool)
    assert_type(await cache.delete_many({"a", "b"}), bool)


class Provider:
    def get_credentials(self) -> tuple[str, str]:
        return "user", "token"


async def fetch_token() -> str:
    return "token"


async def for_teams() -> None:
    for credentials in (lambda: "token", lambda: ("user", "token"), fetch_token, Provider()):
        assert_type(Cache("redis://localhost", credentials=credentials), Cache)
    assert_type(configure("redis://localhost", credentials=fetch_token), Cache)
    assert_type(cache.scoped("tenant-7:"), Cache)
    store = open_store("redis://localhost", credentials=Provider())
    assert_type(store, Store)
    Cache(store, prefix="users:")


def in_tests() -> None:
    with disabled() as nothing:
        assert_type(nothing, None)
    with capture_events() as events, assert_loads(1) as same:
        assert_type(events, list[Event])
        assert_type(same, list[Event])
    with FailingStore().failing():
        reset()
