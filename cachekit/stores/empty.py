"""EmptyStore: it answers at once, and keeps nothing. It stands in for the store of a cache that is off."""

from __future__ import annotations

from collections.abc import Sequence

from cachekit.clock import LIVE
from cachekit.errors import StoreError
from cachekit.stores.keyspace import Keyspace
from cachekit.stores.memory import MemoryStore


class EmptyStore(MemoryStore):
    """Has no key before a verb, and none after it. Removals are acknowledged, and nothing else is confirmed.

    Example:
        >>> import asyncio
        >>> cache = Cache(EmptyStore())
        >>> asyncio.run(cache.set("greeting", "hello", ttl=60)), asyncio.run(cache.delete("greeting"))
        (False, True)
    """

    @property
    def _keyspace(self) -> Keyspace:
        return Keyspace(1, LIVE)

    @_keyspace.setter
    def _keyspace(self, keyspace: Keyspace) -> None:
        """Drop what `MemoryStore` makes."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> bool:
        return False

    async def set_many(
        self, values: Sequence[tuple[str, bytes]], timeout: float, *, ttl_ms: int
    ) -> list[bool | StoreError]:
        return [False] * len(values)
