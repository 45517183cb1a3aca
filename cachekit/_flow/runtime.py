"""The runtime of one cache: everything that its calls share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from cachekit._flow.flight import Flights
from cachekit._flow.renewal import Renewals
from cachekit._tiers.background import Background
from cachekit._tiers.breaker import Circuit
from cachekit._tiers.coherence import Coherence
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.leases import Leases
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.seals import Seals
from cachekit._tiers.sweeping import Sweeper
from cachekit._tiers.tagged_many import TaggedMany
from cachekit._tiers.tags import TaggedValues
from cachekit._tiers.values import Values
from cachekit._tiers.windows import Windows
from cachekit.loops import PerLoop
from cachekit.sealing import Sealer
from cachekit.stores.base import Store

DRAIN: Final = 1.0
"""Seconds that closing a cache spends on leases that are to be given back, at most, and as much on the journal."""


class Runtime:
    """The tiers, the flights and the background of one cache.

    Args:
        guard: The door to the store.
        coherence: The store, as far as it may be believed, and the near tier.
        reporter: Where events go.
        background: Owns every task.
        near: Whether results of functions that do not say so are kept near as well.
    """

    def __init__(
        self, guard: Guard, coherence: Coherence, reporter: Reporter, background: Background, *, near: bool = False
    ) -> None:
        self._guard = guard
        self.coherence = coherence
        self.reporter = reporter
        self.background = background
        self.near = near
        self.budget: Callable[[], Budget] = guard.budget
        """Returns the deadline of one call."""
        self.timeout: float = guard.timeout
        """The whole of it, in seconds."""
        self.circuits: Mapping[asyncio.AbstractEventLoop, Mapping[str, Circuit]] = guard.circuits
        """Empty while the store is healthy, so the hot path tests only its truth."""
        seals = Seals(guard.sealer, guard.with_prefix, reporter)
        self.values: Values = Values(coherence, reporter, guard.max_bytes, seals)
        self.sealer: Sealer | None = guard.sealer
        """The keys of the cache; None when it has none."""
        self.leases: Leases = Leases(guard, coherence)
        self.tagged: TaggedValues = TaggedValues(guard, coherence, self.values)
        self.tagged_many: TaggedMany = TaggedMany(guard, coherence, self.values, self.tagged)
        self.sweeper: Sweeper = Sweeper(guard)
        self.numbers: Iterator[int] = itertools.count(1)
        """The order of calls with tags, and of their questions, in this process."""
        self.windows: Windows = Windows(coherence, self.values, guard.budget, seals)
        self.flights: Flights = Flights()
        self.renewals: PerLoop[Renewals] = PerLoop(partial(Renewals, self.leases, background))
        self.loading: Background = Background()
        """The loads that go on in the background."""
        self.left_behind: dict[bytes, None] = {}
        """The tokens of leases that no load of this process uses any more, and that may not have been given back."""
        self.owed: dict[bytes, tuple[str, float]] = {}
        """Leases that were held when the store failed, by their tokens: the key, and when the lease ends. They are
        given back as soon as the store answers again."""
        self.giving_back: set[asyncio.Task[None]] = set()
        """The tasks that give leases back."""

    @property
    def store(self) -> Store:
        """The store, for tools that look at it without the tiers."""
        return self._guard.store

    @property
    def prefix(self) -> str:
        """The prefix of the cache."""
        (prefix,) = self._guard.with_prefix([""])
        return prefix

    async def aclose(self, scopes: Sequence[Runtime] = ()) -> None:
        """End the background work, and send the rest of the journal, for at most `DRAIN` seconds each.

        ``scopes`` have the same background, and journals of their own.
        """
        coherences = [self.coherence, *[scope.coherence for scope in scopes]]
        for coherence in coherences:
            coherence.replay.cancel()
        # First: when they end, they give leases back.
        await self.loading.drain(DRAIN)
        await self.background.drain(DRAIN)
        await asyncio.gather(*[coherence.aclose(DRAIN) for coherence in coherences])
        # One incident, however many scopes there are.
        self.coherence.journal.abandon(scope.coherence.journal for scope in scopes)
        await self.background.aclose()
        self._guard.close()


Lookup: TypeAlias = Callable[[], Runtime]
"""How a decorated function finds its cache, at each call."""
