"""Many values with tags at once: read in one round trip, each distinct tag once; and leases taken with all tags opened.

Each key and each tag has an answer of its own. So a shard that is down costs the values that have a tag there, and no
others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, repeat
from typing import Any, Final, TypeAlias, TypeVar, cast

from msgspec.structs import replace

from cachekit._tiers.coherence import Coherence
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.outcome import MISS, Distrusted, Down, Found, Outcome
from cachekit._tiers.tags import AGAIN, TaggedOutcome, TaggedValues, Wanted, opening_for, put_values_in, wanted_of
from cachekit._tiers.values import Reading, Values, keep_near
from cachekit.codecs import Codec
from cachekit.freshness import FRESH
from cachekit.stores.base import TaggedStore
from cachekit.stores.scripts import OpenTags, Script
from cachekit.tags import generations_of, name_of, tag_keys

T = TypeVar("T")

Standing: TypeAlias = Mapping[str, str | Down | None]
"""By name, the generation of each tag; why it is not known; or None for a tag that is not there."""

MOST: Final = 256
"""The most tags that are opened in one step, for which a server does nothing else."""


class TaggedMany:
    """Reads many values, each of which is a hit as long as its tags stand, and opens tags for many.

    Args:
        guard: The door to the store.
        coherence: Knows the keys and the tags that this process has invalidated.
        values: Decodes values.
        tagged: Judges them.
    """

    def __init__(self, guard: Guard, coherence: Coherence, values: Values, tagged: TaggedValues) -> None:
        self._guard = guard
        self._coherence = coherence
        self._values = values
        self._tagged = tagged

    # --- reading ----------------------------------------------------------------------------------

    async def read(self, wanted: Sequence[Wanted], budget: Budget, reading: Reading) -> list[TaggedOutcome]:
        """Return each value that is ``wanted`` if all of its tags stand, in one round trip.

        An entry of a remembered absence is `Found`, and says so. Values whose tags are known from them alone take a
        second round trip, all together.
        """
        coherence, near = self._coherence, reading.near and self._coherence.times
        timed = near or (reading.windows is not None and coherence.times)
        with ExitStack() as stack:
            marks = (
                [stack.enter_context(coherence.near_read(one.key, tag_keys(one.names))) for one in wanted]
                if near
                else [None] * len(wanted)
            )
            found = await self._read(wanted, budget, timed=timed)
            for mark, one, outcome in zip(marks, wanted, found, strict=True):
                value = outcome.outcome
                if mark is not None and isinstance(value, Found) and value.freshness is FRESH:
                    keep_near(mark, value, one.codec, reading.windows)
        return found

    async def read_plain(
        self, tags: Mapping[str, list[str]], codec: Codec, budget: Budget
    ) -> tuple[dict[str, Any], list[tuple[Wanted, TaggedOutcome]]]:
        """Return the values that are hits, by key, and the outcomes of the others, in one round trip.

        The keys of the tags of each are ``tags``. Most values are plain JSON with their tags and nothing else: they
        cost no object. It is for calls that find nothing in the journal, and keep nothing near.
        """
        distinct = dict.fromkeys(chain.from_iterable(tags.values()))
        answers: list[Any] = await self._guard.get_many([*tags, *distinct], budget)
        raw, standing = dict(zip(tags, answers, strict=False)), dict(zip(distinct, answers[len(tags) :], strict=True))
        values: dict[str, Any] = {}
        # Behind the store as well, as in `_conclude`.
        others = [*tags] if self._coherence.journal else put_values_in(values, raw, tags, standing, codec)
        wanted = [wanted_of(key, tags[key], codec) for key in others]
        needed = dict.fromkeys([tag for one in wanted for tag in tag_keys(one.names)])
        stand = _standing(needed, map(standing.__getitem__, needed))
        found = [self._conclude(one, (raw[one.key], None), stand) for one in wanted]
        return values, [*zip(wanted, await self._settled(wanted, found, budget), strict=True)]

    async def _read(self, wanted: Sequence[Wanted], budget: Budget, *, timed: bool) -> list[TaggedOutcome]:
        return await self._settled(wanted, await self._read_once(wanted, budget, timed=timed), budget)

    async def _settled(
        self, wanted: Sequence[Wanted], found: list[TaggedOutcome], budget: Budget
    ) -> list[TaggedOutcome]:
        """Return what was ``found``, and another answer for each that needs another question."""
        again = [place for place, one in enumerate(found) if one.outcome is AGAIN]
        if again:
            named = [self._named(wanted[place], found[place].raw) for place in again]
            outcomes = await self._read_once(named, budget, timed=self._coherence.times)
            for place, one in zip(again, outcomes, strict=True):
                # Where the store does not tell for how long it keeps a value, nobody knows that it is fresh.
                found[place] = one if one.outcome is not AGAIN else replace(one, outcome=MISS)
        return found

    async def _read_once(self, wanted: Sequence[Wanted], budget: Budget, *, timed: bool) -> list[TaggedOutcome]:
        coherence = self._coherence
        known: dict[str, Outcome] = {}
        if coherence.journal:
            overrides = [(one.key, coherence.override(one.key, tag_keys(one.names))) for one in wanted]
            known = {key: override for key, override in overrides if override is not None}
        asked = [one for one in wanted if one.key not in known]
        answers, standing = await self._ask(asked, budget, timed=timed)
        rest = iter(answers)
        return [
            TaggedOutcome(known[one.key], {}) if one.key in known else self._conclude(one, next(rest), standing)
            for one in wanted
        ]

    def _named(self, wanted: Wanted, raw: bytes | None) -> Wanted:
        """Return the value that is ``wanted``, with the names of the tags that stand in it."""
        names = self._tagged.names_in(raw, wanted.codec)
        return replace(wanted, names=wanted.names if names is None else names, least=None)

    async def _ask(
        self, wanted: Sequence[Wanted], budget: Budget, *, timed: bool
    ) -> tuple[list[tuple[bytes | Down | None, float | None]], Standing]:
        """Return what stands at each key, with its seconds if ``timed``, and the generations of all tags."""
        if not wanted:
            return [], {}
        keys = [one.key for one in wanted]
        tags = [*dict.fromkeys([tag for one in wanted for tag in tag_keys(one.names)])]
        if not timed:
            raw: list[Any] = await self._guard.get_many([*keys, *tags], budget)
            return [(one, None) for one in raw[: len(keys)]], _standing(tags, raw[len(keys) :])
        # The values first: they wait for others of their turn, so that all travel in one write.
        own = Budget(budget.left)
        answers, stand = await asyncio.gather(
            self._guard.get_many_with_ttl(keys, budget), self._guard.get_many(tags, own) if tags else _nothing()
        )
        budget.left = min(budget.left, own.left)
        return [(one, None) if isinstance(one, Down) else one for one in answers], _standing(tags, stand)

    def _conclude(
        self, wanted: Wanted, answer: tuple[bytes | Down | None, float | None], standing: Standing
    ) -> TaggedOutcome:
        coherence = self._coherence
        # Behind the store as well: the journal may have come to hold one of them meanwhile.
        if coherence.journal and (override := coherence.override(wanted.key, tag_keys(wanted.names))):
            return TaggedOutcome(override, {})
        raw, left = answer
        if isinstance(raw, Down):
            return TaggedOutcome(raw, {})
        # Two calls for each id of a batch would tell the type checkers no more.
        tags: Any = dict(zip(wanted.names, map(standing.__getitem__, wanted.names), strict=True))
        if Down in map(type, tags.values()):
            return TaggedOutcome(next(one for one in tags.values() if isinstance(one, Down)), {})
        outcome = self._tagged.judged(wanted, raw, tags, left, absent=True)
        stale = isinstance(outcome, Found) and outcome.freshness is not FRESH
        # A function without stale windows has no use for a stale value.
        return TaggedOutcome(MISS if stale and wanted.windows is None else outcome, tags, raw=raw)

    async def read_by_hand(self, keys: Sequence[str], codec: Codec, budget: Budget) -> list[Outcome]:
        """Return the value at each of ``keys``, with any tags. With tags it takes two round trips for all."""
        raw = await self._coherence.get_many(keys, budget, timed=False)
        outcomes = await self._values.read_many_on(keys, raw, codec, budget)
        named = {
            place: names
            for place, one in enumerate(raw)
            if isinstance(one, bytes) and (names := self._tagged.names_in(one, codec)) is not None
        }
        if named:
            wanted = [Wanted(keys[place], names, codec) for place, names in named.items()]
            found = await self._read(wanted, budget, timed=self._coherence.times)
            for place, one in zip(named, found, strict=True):
                outcomes[place] = one.outcome
        return outcomes

    # --- opening ----------------------------------------------------------------------------------

    async def run_and_open(
        self, steps: Sequence[tuple[str, Script[T]]], names: Sequence[str], seconds: float, budget: Budget
    ) -> tuple[list[T | Down], dict[str, str | None]]:
        """Do each script at its key, and open the tags ``names`` for ``seconds``, in one round trip.

        Each key has its own failure. A tag that could not be opened is None.
        """
        shards: dict[str | None, list[str]] = {}
        for tag in tag_keys(names):
            shards.setdefault(self._guard.shard(tag) if self._tagged.apart else None, []).append(tag)
        groups = [tags[start : start + MOST] for tags in shards.values() for start in range(0, len(tags), MOST)]
        budgets, opening = [Budget(budget.left) for _ in groups], opening_for(seconds)
        # In one turn of the event loop, the scripts first: they wait for the others, so that all travel in one write.
        run: Any = self._guard.run_many(steps, budget)
        answers, *opened = await asyncio.gather(run, *map(self._open_group, groups, repeat(opening), budgets))
        budget.left = min([budget.left, *[own.left for own in budgets]])
        return answers, {name: generation for group in opened for name, generation in group.items()}

    async def _open_group(self, tags: Sequence[str], opening: OpenTags, budget: Budget) -> dict[str, str | None]:
        """Open ``tags`` of one shard, and return them by name."""
        store = cast("TaggedStore", self._guard.store)
        more = self._guard.with_prefix(tags[1:])
        answer = await self._guard.ask(store.open_tags, tags[0], budget, more, opening)
        if not isinstance(answer, Down):
            return dict(zip(map(name_of, tags), generations_of(answer), strict=True))
        if not answer.of_key or len(tags) == 1:
            return dict.fromkeys(map(name_of, tags))
        # One of them was refused, and the answer does not say which. Each gets another generation than before.
        own = [Budget(budget.left) for _ in tags]
        alone = await asyncio.gather(
            *[self._open_group([tag], opening, one) for tag, one in zip(tags, own, strict=True)]
        )
        budget.left = min([one.left for one in own])
        return {name: generation for group in alone for name, generation in group.items()}


def _standing(tags: Iterable[str], answers: Iterable[bytes | Down | Distrusted | None]) -> Standing:
    stand: dict[str, str | Down | None] = {}
    for tag, answer in zip(tags, answers, strict=True):
        stand[name_of(tag)] = answer if isinstance(answer, Down) else generations_of([cast("bytes | None", answer)])[0]
    return stand


async def _nothing() -> list[Any]:
    return []
