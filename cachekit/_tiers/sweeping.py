"""Clearing: all keys with the prefix of a cache are removed, in two passes over every server.

A scan finds the keys that are there from its beginning to its end. It may pass over a key that comes or goes meanwhile:
a load that had begun may fill between the moment at which its lease is looked at and that of its value. When the second
pass begins, every such load has lost its lease or has filled. The model in ``tests/models`` shows that one pass is not
enough.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias, cast

from msgspec.structs import replace

from cachekit._tiers.guard import Guard
from cachekit._tiers.near import NEAR_TIERS
from cachekit._tiers.outcome import Down
from cachekit.stores.base import Sweep, SweepingStore

PASSES: Final = 2

Progress: TypeAlias = Callable[[int], None]
"""Gets the number of keys that are removed."""


class Sweeper:
    """Removes all keys of one cache.

    Args:
        guard: The door to the store, which knows the prefix.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.supported: bool = isinstance(guard.store, SweepingStore)
        """Whether the store can be swept."""
        self._store = cast("SweepingStore", guard.store)

    async def clear(self, seconds: float, progress: Progress | None) -> bool:
        """Remove everything, for ``seconds`` at most. Returns whether that was done to the end.

        Raises:
            Exception: Any that ``progress`` raises.
        """
        try:
            return await self._pass_over(monotonic() + seconds, progress or _nobody)
        finally:
            # Redis may report the removals later. A read that is under way keeps nothing, either.
            NEAR_TIERS.forget_all()

    async def _pass_over(self, ends: float, progress: Progress) -> bool:
        servers = await self._guard.ask(self._store.servers_of, "", self._guard.budget())
        if isinstance(servers, Down):
            return False
        removed, ahead = 0, [Sweep(server) for server in [*servers] * PASSES]
        while ahead:
            answer = await self._guard.ask(self._store.sweep, "", self._guard.budget(), ahead[0])
            if isinstance(answer, Down):
                return False
            removed += answer.removed
            progress(removed)
            ahead[:1] = [replace(answer, removed=0)] if answer.cursor else []
            if ahead and monotonic() > ends:
                return False
        return True


def _nobody(removed: int) -> None:
    """Tell nothing."""
