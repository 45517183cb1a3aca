"""Invalidations of functions that raise, that are cancelled, or that cannot use after_commit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from cachekit import Cache, ConfigurationError, DecorationError
from cachekit.events import Invalidated
from cachekit.testing import FailingStore

T = 5.0


class Table:
    """A table, a cached read and writers of it."""

    def __init__(self, cache: Cache) -> None:
        self.rows = {"42": "old"}
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        @cache.cached(key="profile:<user>", ttl=60, tags=["users"])
        async def profile(user: str) -> str:
            return self.rows[user]

        @cache.invalidates("profile:<user>", tags=["users"], always=True)
        async def rename(user: str, name: str, fails: bool = False) -> str:
            self.rows[user] = name
            if fails:
                raise ConnectionError(name)
            self.begun.set()
            await self.go_on.wait()
            return name

        @cache.invalidates("profile:<user>")
        async def rename_plainly(user: str, name: str) -> None:
            self.rows[user] = name
            raise ConnectionError(name)

        self.profile = profile
        self.rename = rename
        self.rename_plainly = rename_plainly


async def test_a_function_that_raises_invalidates_all_the_same() -> None:
    cache = Cache("memory://")
    table = Table(cache)
    assert await table.profile("42") == "old"
    with pytest.raises(ConnectionError, match="new"):
        await table.rename("42", "new", fails=True)
    assert await table.profile("42") == "new"


async def test_without_the_option_a_function_that_raises_invalidates_nothing() -> None:
    table = Table(Cache("memory://"))
    assert await table.profile("42") == "old"
    with pytest.raises(ConnectionError):
        await table.rename_plainly("42", "new")
    assert await table.profile("42") == "old"


async def test_a_function_that_is_cancelled_invalidates_all_the_same_and_its_cancellation_is_not_delayed() -> None:
    store = FailingStore()
    async with Cache(store) as cache, Cache(store) as other:
        table = Table(cache)
        assert await table.profile("42") == "old"
        task = asyncio.create_task(table.rename("42", "new"))
        await table.begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        # Soon in all other processes, whether or not this one goes on to use the cache.
        theirs = Table(other).profile
        async with asyncio.timeout(T):
            while await theirs.peek("42") == "old":
                await asyncio.sleep(0.005)
            while len(cache.runtime.coherence.journal):
                await asyncio.sleep(0.005)
        assert await table.profile("42") == await table.profile.peek("42") == "new"


async def test_a_coroutine_that_is_closed_invalidates_all_the_same() -> None:
    async with Cache("memory://") as cache:
        table = Table(cache)
        assert await table.profile("42") == "old"
        call: Any = table.rename("42", "new")
        call.send(None)
        call.close()
        assert await table.profile("42") == "new"


async def test_the_error_of_the_function_passes_through_an_outage() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        table = Table(cache)
        store.fail()
        with pytest.raises(ConnectionError, match="new"):
            await table.rename("42", "new", fails=True)
        assert len(cache.runtime.coherence.journal) == 2
        store.recover()


async def test_inside_a_block_it_waits_for_the_commit() -> None:
    cache = Cache("memory://")
    table = Table(cache)
    assert await table.profile("42") == "old"
    async with cache.after_commit():
        with pytest.raises(ConnectionError):
            await table.rename("42", "new", fails=True)
        task = asyncio.create_task(table.rename("42", "newer"))
        await table.begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert await Table(Cache(cache._store)).profile("42") == "old"
    assert await table.profile("42") == "newer"


async def test_around_a_function_it_is_invalidated_before_and_after() -> None:
    cache = Cache("memory://")
    table = Table(cache)
    seen = []

    @cache.invalidates("profile:<user>", "profile:<return>", tags=["users"], around=True)
    async def rename(user: str) -> str:
        seen.append(await table.profile.peek("42"))
        # Another reader, in the middle.
        await table.profile("42")
        table.rows["42"] = "new"
        return "43"

    events = []
    assert await table.profile("42") == "old"
    stop = cache.observe(lambda event: events.append(event) if isinstance(event, Invalidated) else None)
    assert await rename("42") == "43"
    stop()
    assert not seen[0]
    assert [event.keys for event in events] == [("profile:42",), ("profile:42", "profile:43")]
    assert [event.tags for event in events] == [("users",), ("users",)]
    assert await table.profile("42") == "new"


async def test_a_cancellation_before_the_function_leaves_it_out() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        ran = False

        @cache.invalidates("profile:<user>", around=True)
        async def rename(user: str) -> None:
            nonlocal ran
            ran = True

        task = asyncio.create_task(rename("42"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert ran != task.cancelled()


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"always": 1}, ConfigurationError, "write always=True or always=False"),
        ({"around": None}, ConfigurationError, "write around=True or around=False"),
        ({"soft": True, "tags": ["a"]}, ConfigurationError, "leave it out"),
        ({"tags": "a"}, ConfigurationError, "write tags="),
        ({"tags": [7]}, DecorationError, "not the template of a tag"),
        ({"tags": ["a:<return.id>"], "always": True}, DecorationError, "has no result"),
        ({}, DecorationError, "needs the keys or tags"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):

        @Cache("memory://").invalidates(**options)
        async def function() -> None: ...


ENDS = """
import asyncio
from cachekit import Cache

cache = Cache("memory://")

@cache.invalidates("profile:42", always=True)
async def rename():
    await asyncio.sleep(60)

async def main():
    asyncio.get_running_loop().create_task(rename())
    await asyncio.sleep(0)

asyncio.run(main())
print(len(cache.runtime.coherence.journal))
"""


def test_a_loop_that_ends_with_such_a_function_under_way_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", ENDS], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert not done.stderr
