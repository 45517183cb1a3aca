"""Both checkers must refuse exactly the lines that end in ``# refused``. Nothing in this module is ever called."""

from __future__ import annotations

from typing import assert_type

from cachekit import MISS, Cache, cache_set, cached, configure, invalidates
from cachekit._tiers.guard import Budget, Guard

cache = Cache("memory://")


@cached(key="profile:<user_id>", ttl=600)
async def profile(user_id: str, *, fresh: bool = False) -> dict[str, int]:
    return {}


@invalidates("profile:<user_id>")
async def record(user_id: str, number: int) -> None: ...


class Repository:
    @cached(key="item:<item_id>", ttl=60)
    async def item(self, item_id: int) -> str:
        return ""

    @cached(key="all:<limit>", ttl=60)
    @classmethod
    async def all(cls, limit: int) -> list[str]:
        return []

    @cached(key="price:<sku>", ttl=60)
    @staticmethod
    async def price(sku: str) -> float:
        return 0.0

    @invalidates("item:<item_id>")
    async def change(self, item_id: int) -> int:
        return 1


async def calls() -> None:
    await profile()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await profile(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await profile("42", True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await profile("42", old=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await profile(user="42")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _number: int = await profile("42")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert_type(await profile("42"), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]


async def methods_of_functions() -> None:
    profile.key()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    profile.key(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await profile.peek()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await profile.refresh("42", "43")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await profile.invalidate(user="42")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await profile.take(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    profile.forget("42")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    _text: bytes = profile.key("42")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _done: str = await profile.invalidate("42")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


async def misses() -> None:
    (await profile.peek("42")).items()  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]
    (await profile.take("42"))["a"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    _value: int = await profile.peek("42")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    found = await profile.peek("42")
    if found is not MISS:
        found.items()
    if found is MISS:
        found.items()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def methods(repository: Repository) -> None:
    await repository.item()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.item("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.item(repository, 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    repository.item.key("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.item.peek(repository, 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await Repository.item(1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await Repository.item("1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Repository.all("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Repository.all(Repository, 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await repository.all.invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.price(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Repository.price.take()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.change("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.change()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def writers() -> None:
    await record("42")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await record("42", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    record.key("42", 1)  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]


async def settings() -> None:
    cached(key=42, ttl=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached("a", 60)  # type: ignore[arg-type, call-arg, unused-ignore]  # pyright: ignore[reportCallIssue]
    cached(key="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cached(key="a", ttl=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=b"10m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, when=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, jitter="0.1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, refresh_ahead="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, stale_on=BaseException)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, background={"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    invalidates("a", soft=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, nonsense=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cache.cached(key="a", ttl=[60])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, tags=[7])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    invalidates("a", tags=[7])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    invalidates("a", always=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    invalidates("a", around="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.invalidate_tags(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.clear(progress=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    invalidates(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    invalidates(["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Cache("memory://", "prefix")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Cache("memory://", keys=42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cached(key="a", ttl=60, private="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache_set("a", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await cache_set(1, 1, 60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def plain() -> int:
    return 1


cached(ttl=60)(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
cached(key="a", ttl=60)(42)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
invalidates("a")(plain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
cached(plain)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]


async def the_door_to_the_store(guard: Guard, budget: Budget) -> None:
    store = guard.store
    await guard.ask(store.get)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await guard.ask(store.get, "k", 0.25)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await guard.ask(store.get, "k", budget, b"v")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await guard.ask(store.set, "k", budget, "v", ttl_ms=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await guard.ask(store.set, "k", budget, b"v")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await guard.ask(store.set, "k", budget, b"v", ttl=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def no_mapping(user_ids: list[str]) -> list[str]:
    return user_ids


async def another_type(user_id: str) -> str:
    return user_id


profile.many()(no_mapping)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
profile.puts(another_type)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@cache.cached_many(key="n:<user_id>", each="user_ids", ttl=60)
async def names(user_ids: list[int]) -> dict[int, str]:
    return {}


async def many_and_in_hand() -> None:
    cache.cached_many("a:<x>", ttl=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cache.cached_many(key="a:<x>", each="xs")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    profile.many(max_batch="9")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await names(["7"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await names.invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await profile.set("a text", "7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await profile.set("7")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    async with profile.writing("7") as put:
        put("a text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
