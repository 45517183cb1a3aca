"""Many keys at a store that has verbs for one: it is asked for each of them alone, at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar, cast

from cachekit.errors import StoreError
from cachekit.stores.base import Store, TimedStore
from cachekit.stores.scripts import Script

T = TypeVar("T")


class OneByOne:
    """The verbs of `cachekit.stores.base.ManyStore` for ``store``, which has none.

    Args:
        store: The store, by another author.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_many(self, keys: Sequence[str], timeout: float) -> list[bytes | StoreError | None]:
        return await _each([self._store.get(key, timeout) for key in keys])

    async def get_many_with_ttl(
        self, keys: Sequence[str], timeout: float
    ) -> list[tuple[bytes | None, float] | StoreError]:
        timed = cast("TimedStore", self._store)
        return await _each([timed.get_with_ttl(key, timeout) for key in keys])

    async def run_many(self, steps: Sequence[tuple[str, Script[T]]], timeout: float) -> list[T | StoreError]:
        return await _each([self._store.run(key, timeout, script) for key, script in steps])

    async def set_many(
        self, values: Sequence[tuple[str, bytes]], timeout: float, *, ttl_ms: int
    ) -> list[bool | StoreError]:
        return await _each([self._store.set(key, timeout, value, ttl_ms=ttl_ms) for key, value in values])


async def _each(questions: Sequence[Awaitable[T]]) -> list[T | StoreError]:
    """Return the answer to each question, or the error of the store in its place.

    Raises:
        BaseException: Any other that a question raised.
    """
    answers = await asyncio.gather(*questions, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
            raise answer
    return cast("list[T | StoreError]", answers)
