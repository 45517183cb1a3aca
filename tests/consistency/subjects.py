"""The tested caches: cachekit, and a naive cache-aside on bare redis-py whose violations must be found."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import orjson
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cachekit import MISS, Cache, CachedFunction
from cachekit._flow.policy import CachedOptions
from cachekit.events import Event, Invalidated
from cachekit.tags import tag_key

OWN_TTL = 600.0

PREFIX: Final = "app:"
"""The prefix of cachekit's caches."""

ALL: Final = "items"
"""The tag of all items that have tags."""


def has_tags(key: int) -> bool:
    """Tell whether ``key`` belongs to the function with tags, in a run with tags: one of the two hottest keys does."""
    return key % 2 == 0


STALE: CachedOptions = {  # type: ignore[typeddict-item]
    "stale_while_revalidate": 0.25,
    "stale_if_error": 60.0,
    "retry_after": 0.15,
    "soft_timeout": 0.03,
    "refresh_ahead": "auto",
    "load_timeout": 1.0,
}
"""The options of a run with stale windows: short enough that values go through all of them."""

SPARE: CachedOptions = {  # type: ignore[typeddict-item]
    "stale_if_error": 60.0,
    "retry_after": 0.15,
    "load_timeout": 1.0,
}
"""Those of the other half of the processes: as soon as a TTL is over a caller loads, in its own task, and all others of
its process wait for that load. Each of them has a stale value, unless that was invalidated before it came."""


@dataclass(frozen=True, slots=True)
class Item:
    """The cached value: the version of one key, and the number of the load that brought it, unique in the run."""

    key: int
    version: int
    load: int


Load = Callable[[int], Awaitable[Item]]
LoadMany = Callable[[Sequence[int]], Awaitable[dict[int, Item]]]
Commit = Callable[[Sequence[int]], Awaitable[None]]


class Subject(Protocol):
    """A cache under test. Misses are None; invalidations return whether the store acknowledged them."""

    keeps: bool
    """Whether an invalidation that failed is promised to hold in this process at once, and to be replayed; and
    whether there is an `after_commit`."""

    async def read(self, key: int) -> Item: ...
    async def peek(self, key: int) -> Item | None: ...
    async def get(self, key: int) -> Item | None: ...
    async def take(self, key: int) -> Item | None: ...
    async def refresh(self, key: int) -> Item: ...
    async def write(self, first: int, second: int) -> None: ...
    async def invalidate(self, key: int) -> bool: ...
    async def expire(self, key: int) -> bool: ...
    async def everything(self) -> bool: ...
    async def clear(self) -> bool: ...
    def after_commit(self) -> AbstractAsyncContextManager[None]: ...
    def undelivered(self, key: int) -> bool: ...
    async def aclose(self) -> int: ...


class CachekitSubject:
    """cachekit as a user decorates with it.

    Args:
        url: The URL of the server.
        load: Loads a key.
        commit: Writes keys. The decorator invalidates them.
        ttl: The time to live of a loaded value, in seconds.
        observer: Gets the events of the cache.
        timeout: The option of the cache, in seconds.
        lease: The option of the functions, in seconds.
        load_many: Loads several keys, for a batch.
        change_source: Writes one key, and returns what it has written: what is put.
        near: How many results are kept in this process as well; 0 for no near cache.
        stale: The options about stale values.
        tags: Whether there is a function with tags besides the one without, and most of its invalidations are of tags.
    """

    keeps = True

    def __init__(
        self,
        url: str,
        load: Load,
        commit: Commit,
        *,
        ttl: Callable[[Item], float],
        observer: Callable[[Event], object],
        timeout: float,
        lease: float,
        change_source: Load,
        load_many: LoadMany,
        near: int = 0,
        stale: CachedOptions | None = None,
        tags: bool = False,
    ) -> None:
        self._tags = tags
        self._cache = cache = Cache(url, timeout=timeout, near=near or None, prefix=PREFIX)
        cache.observe(observer)
        options: CachedOptions = {"ttl": ttl, "lease": lease, **(stale or {})}

        async def item(key: int) -> Item:
            return await load(key)

        async def items(keys: Sequence[int]) -> dict[int, Item]:
            return await load_many(keys)

        async def change(key: int) -> Item:
            return await change_source(key)

        @cache.cached(key="own:<name>", ttl=OWN_TTL, when=bool, lease=lease)
        async def own(name: str) -> int:
            return 0

        @cache.invalidates("item:<*plain>", tags=["row:<*tagged>"])
        async def write(plain: list[int], tagged: list[int]) -> None:
            await commit([*plain, *tagged])

        self.own = own
        self._write = write
        # By whether it has tags.
        self._functions = {
            False: cache.cached(key="item:<key>", **options)(item),
            True: cache.cached(key="item:<key>", tags=["row:<key>", ALL], **options)(item),
        }
        self._changes = {with_tags: function.puts(change) for with_tags, function in self._functions.items()}
        many = {with_tags: function.many(each="keys", max_batch=5) for with_tags, function in self._functions.items()}
        self._batches = {with_tags: decorate(items) for with_tags, decorate in many.items()}

    def _has_tags(self, key: int) -> bool:
        return self._tags and has_tags(key)

    def _of(self, key: int) -> CachedFunction[[int], Item]:
        """Return the function that ``key`` belongs to."""
        return self._functions[self._has_tags(key)]

    async def read(self, key: int) -> Item:
        return await self._of(key)(key)

    async def read_many(self, keys: Sequence[int]) -> dict[int, Item]:
        """Read several keys at the same time, those of one function in one call."""
        unique = dict.fromkeys(keys)
        calls: list[Awaitable[dict[int, Item]]] = []
        for with_tags in (False, True):
            own = [key for key in unique if self._has_tags(key) is with_tags]
            if own:
                calls.append(self._batches[with_tags](own))
        if len(calls) == 1:
            return await calls[0]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_awaited(call)) for call in calls]
        found = {key: item for task in tasks for key, item in task.result().items()}
        return {key: found[key] for key in unique if key in found}

    async def change(self, key: int) -> Item:
        return await self._changes[self._has_tags(key)](key)

    async def write(self, first: int, second: int) -> None:
        keys = [first, second]
        await self._write([key for key in keys if not self._has_tags(key)], [*filter(self._has_tags, keys)])

    async def peek(self, key: int) -> Item | None:
        found = await self._of(key).peek(key)
        return None if found is MISS else found

    async def get(self, key: int) -> Item | None:
        # Values with tags are left out of what `get_many` returns.
        by_hand = self._cache.get_many if random.random() < 0.5 else self._get
        found = (await by_hand([f"item:{key}"])).get(f"item:{key}")
        return None if found is None else Item(**found)

    async def _get(self, keys: list[str]) -> dict[str, Any]:
        return {key: await self._cache.get(key) for key in keys}

    async def take(self, key: int) -> Item | None:
        found = await self._of(key).take(key)
        return None if found is MISS else found

    async def refresh(self, key: int) -> Item:
        return await self._of(key).refresh(key)

    async def invalidate(self, key: int) -> bool:
        # Now and then the key itself: tags and keys have to get along.
        if self._has_tags(key) and random.random() < 0.8:
            return await self._cache.invalidate_tags(f"row:{key}")
        return await self._of(key).invalidate(key)

    async def everything(self) -> bool:
        """Invalidate all items that have tags."""
        return await self._cache.invalidate_tags(ALL)

    async def clear(self) -> bool:
        return await self._cache.clear(within=5)

    async def expire(self, key: int) -> bool:
        return await self._of(key).expire(key)

    async def put(self, name: str, number: int) -> bool:
        """Set the value that `own` finds. Returns whether the store confirmed it."""
        return await self._cache.set(f"own:{name}", number, OWN_TTL)

    def after_commit(self) -> AbstractAsyncContextManager[None]:
        return self._cache.after_commit()

    def undelivered(self, key: int) -> bool:
        journal = self._cache.runtime.coherence.journal
        return any(map(journal.holds, (f"item:{key}", tag_key(f"row:{key}"), tag_key(ALL))))

    async def aclose(self) -> int:
        """Close the cache. Returns how many invalidations were not delivered."""
        await self._cache.aclose()
        return len(self._cache.runtime.coherence.journal)


async def _awaited(call: Awaitable[dict[int, Item]]) -> dict[int, Item]:
    return await call


class NaiveSubject:
    """GET, load, SET; DEL: the usual first version, with errors of the store contained.

    It has the arguments of `CachekitSubject`.
    """

    keeps = False

    def __init__(
        self,
        url: str,
        load: Load,
        commit: Commit,
        *,
        ttl: Callable[[Item], float],
        observer: Callable[[Event], object],
        timeout: float,
        lease: float,
        change_source: Load,
        load_many: LoadMany,
        near: int = 0,
        stale: CachedOptions | None = None,
        tags: bool = False,
    ) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._load = load
        self._commit = commit
        self._ttl = ttl
        self._observer = observer

    async def _ask(self, *command: Any) -> tuple[bool, Any]:
        client: Any = self._redis
        try:
            async with asyncio.timeout(1.0):
                return True, await client.execute_command(*command)
        except (RedisError, OSError, TimeoutError):
            return False, None

    async def read(self, key: int) -> Item:
        return await self.peek(key) or await self.refresh(key)

    async def peek(self, key: int) -> Item | None:
        _, raw = await self._ask("GET", f"item:{key}")
        return Item(**orjson.loads(raw)) if raw else None

    get = peek

    async def take(self, key: int) -> Item | None:
        _, raw = await self._ask("GETDEL", f"item:{key}")
        return Item(**orjson.loads(raw)) if raw else None

    async def refresh(self, key: int) -> Item:
        item = await self._load(key)
        await self._ask("SET", f"item:{key}", orjson.dumps(asdict(item)), "PX", round(1000 * self._ttl(item)))
        return item

    async def write(self, first: int, second: int) -> None:
        await self._commit([first, second])
        await self._delete([first, second])

    async def invalidate(self, key: int) -> bool:
        return await self._delete([key])

    expire = invalidate

    async def everything(self) -> bool:
        raise NotImplementedError

    clear = everything

    async def _delete(self, keys: Sequence[int]) -> bool:
        names = tuple(f"item:{key}" for key in keys)
        acknowledged, _ = await self._ask("DEL", *names)
        self._observer(Invalidated(names, acknowledged))
        return acknowledged

    def after_commit(self) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    def undelivered(self, key: int) -> bool:
        return False

    async def aclose(self) -> int:
        await self._redis.aclose()
        return 0
