"""Tags in the store: values are read together with their tags, and tags are opened together with a lease.

In a cluster a value and its tags are at several shards. Each shard is asked at the same time, behind its own breaker: a
shard that is down makes the functions load that have a tag there, and no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import repeat
from math import inf
from typing import Any, Final, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from cachekit._tiers.coherence import Coherence, milliseconds
from cachekit._tiers.guard import Budget, Guard
from cachekit._tiers.outcome import MISS, Distrusted, Down, Found, Outcome
from cachekit._tiers.values import Values
from cachekit.codecs import Codec
from cachekit.entry import Entry, parse
from cachekit.errors import DecodeError
from cachekit.freshness import FRESH, Windows, draw, judge
from cachekit.stores.base import TaggedStore, TaggedValue, Want
from cachekit.stores.scripts import OpenTags, Script
from cachekit.tags import (
    LONGEST,
    Tags,
    are_known,
    generations_of,
    line_of,
    members_of,
    name_of,
    new_generation,
    read_line,
    tag_keys,
)

T = TypeVar("T")


class Wanted(Struct, frozen=True):
    """The value that a call wants: its key, and the tags that it has to have."""

    key: str
    names: tuple[str, ...]
    """Of all of its tags."""
    codec: Codec
    windows: Windows | None = None
    least: frozenset[str] | None = None
    """For tags of the result, whose names stand in the value alone: the names that it has in any case."""

    @property
    def stored(self) -> list[str]:
        """Its key, and those of its tags."""
        return [self.key, *tag_keys(self.names)]


class TaggedOutcome(Struct, frozen=True):
    """The outcome of a read with tags."""

    outcome: Outcome
    tags: Tags
    """The tags that were asked for, with the generations that stood."""
    holder: bytes | None = None
    """The token that held the lease as of the read, if it was asked for."""
    raw: bytes | None = None
    """What stood at the key."""


class TaggedValues:
    """Reads values that are hits as long as their tags stand, and opens tags for values that are loaded.

    Args:
        guard: The door to the store.
        coherence: Knows the keys and the tags that this process has invalidated.
        values: Decodes values.
    """

    def __init__(self, guard: Guard, coherence: Coherence, values: Values) -> None:
        self._guard = guard
        self._coherence = coherence
        self._values = values
        self.supported: bool = isinstance(guard.store, TaggedStore)
        """Whether the store has tags."""
        self.apart: bool = getattr(guard.store, "apart", True)
        """Whether a value and its tags may be at several shards."""
        self.simple: bool = self.supported and not self.apart
        """Whether a value and its tags are read by one question in any case."""
        self.get: Callable[[str, list[str], Budget], Awaitable[TaggedValue | Down]] = guard.get_tagged
        self._store = cast("TaggedStore", guard.store)

    # --- reading ----------------------------------------------------------------------------------

    async def read(self, wanted: Wanted, budget: Budget, want: int = Want.NOTHING) -> TaggedOutcome:
        """Return the value that is ``wanted`` if all of its tags stand."""
        if wanted.windows is not None:
            want |= Want.TTL
        return await self.conclude(wanted, await self._ask(wanted, budget, want), budget, want)

    async def conclude(
        self, wanted: Wanted, answer: TaggedValue | Down | Distrusted, budget: Budget, want: int = Want.NOTHING
    ) -> TaggedOutcome:
        """Return the outcome of a read of the value that is ``wanted``, from the answer of the store."""
        coherence = self._coherence
        # Behind the store as well: the journal may have come to hold one of them meanwhile.
        if coherence.journal and (override := coherence.override(wanted.key, tag_keys(wanted.names))):
            return TaggedOutcome(override, {})
        if not isinstance(answer, TaggedValue):
            return TaggedOutcome(answer, {})
        tags = dict(zip(wanted.names, generations_of(answer.tags), strict=True))
        outcome = self.judged(wanted, answer.value, tags, answer.left if want & Want.TTL else None)
        if outcome is AGAIN:
            # The names of its tags stand in the value, or it is stale for some functions.
            named = self.names_in(answer.value, wanted.codec)
            names = wanted.names if named is None else named
            return await self.read(replace(wanted, names=names, least=None), budget, want | Want.TTL)
        return TaggedOutcome(outcome, tags, answer.holder, answer.value)

    async def read_near(self, wanted: Wanted, budget: Budget, want: int = Want.NOTHING) -> TaggedOutcome:
        """Return as `read`, and have the value kept near if that may be."""
        windows = wanted.windows
        with self._coherence.near_read(wanted.key, tag_keys(wanted.names)) as reading:
            if reading is None:
                return await self.read(wanted, budget, want)
            found = await self.read(wanted, budget, want | Want.TTL)
            outcome = found.outcome
            if isinstance(outcome, Found) and outcome.freshness is FRESH:
                early = 0.0 if windows is None else draw(outcome.entry, windows)
                kept = windows is not None and windows.offline > 0
                reading.add_to_near(outcome, wanted.codec, outcome.left - outcome.entry.stale - early, kept=kept)
            return found

    async def take(self, wanted: Wanted, budget: Budget) -> Outcome:
        """Return the value that is ``wanted`` and remove it, if all of its tags stand; else remove it."""
        # The tags are asked for after the call began, and that is all that matters.
        timed = self._coherence.times
        take = self._coherence.take_with_ttl if timed else self._coherence.take
        answer, tags = await asyncio.gather(take(wanted.key, budget), self.standing(wanted.names, budget))
        if isinstance(answer, (Down, Distrusted)):
            return answer
        if isinstance(tags, (Down, Distrusted)):
            return tags
        raw, left = answer if isinstance(answer, tuple) else (answer, inf)
        if wanted.least is not None and (names := self.names_in(raw, wanted.codec)) is not None:
            tags = await self.standing(names, budget)
            if isinstance(tags, (Down, Distrusted)):
                return tags
        outcome = self.judged(replace(wanted, least=None), raw, tags, left)
        return outcome if not isinstance(outcome, Found) or outcome.freshness is FRESH else MISS

    async def standing(self, names: Sequence[str], budget: Budget) -> Tags | Down | Distrusted:
        """Return the tags ``names`` with the generations that stand."""
        if not names:
            return {}
        first, *more = tag_keys(names)
        answer = await self._ask(Wanted(first, (), _NO_CODEC), budget, Want.NOTHING, more)
        if self._coherence.journal and (override := self._coherence.override(first, more)):
            return override
        if not isinstance(answer, TaggedValue):
            return answer
        return dict(zip(names, generations_of([answer.value, *answer.tags]), strict=True))

    def names_in(self, raw: bytes | None, codec: Codec) -> tuple[str, ...] | None:
        """Return the names of the tags of the value in ``raw``; None if it is none, or has no tags."""
        entry = parse(raw, sealed=codec.private, tagged=True) if isinstance(raw, bytes) else None
        return None if entry is None or entry.tags is None else tuple(entry.tags)

    def judged(
        self, wanted: Wanted, raw: bytes | None, tags: Tags, left: float | None, *, absent: bool = False
    ) -> Outcome:
        """Return the outcome for the bytes ``raw``, when so much is left of them and ``tags`` stand.

        ``left``: None if the server was not asked. ``absent``: a remembered absence is found, for a batch.
        """
        # A store by somebody else may answer with anything.
        entry = self._valid(wanted, raw, tags, absent=absent) if isinstance(raw, bytes) else None
        if entry is None:
            return MISS
        if entry is _MORE or (left is None and entry.dated):
            return AGAIN
        if entry.absent:
            return Found(None, entry)
        windows = wanted.windows
        found = self._values.found(wanted.key, entry, wanted.codec)
        if left is None or not isinstance(found, Found):
            return found
        # As in `Values`: most hits are neither due nor stale, and would pay for the calls.
        if windows is not None and left - entry.stale > windows.earliest and not entry.expired:
            return Found(found.value, entry, FRESH, left)
        early = 0.0 if windows is None or windows.ahead is None else draw(entry, windows, left - entry.stale)
        return Found(found.value, entry, judge(entry, left, windows, early), left)

    def _valid(self, wanted: Wanted, raw: bytes, tags: Tags, *, absent: bool) -> Entry | None:
        """Return the entry in ``raw`` if it has exactly ``tags``, and all stand; `_MORE` to ask for others."""
        known = are_known(tags)
        # With windows, most lines have other members as well.
        if known and wanted.windows is None and not wanted.codec.private and raw.endswith(line := line_of(tags)):
            return Entry(raw[: -len(line)], tags=tags)
        entry = self._values.tagged(wanted.key, raw, wanted.codec, absent=absent)
        if entry is None or entry.tags is None:
            return None
        if wanted.least is not None and entry.tags.keys() != tags.keys() and wanted.least <= entry.tags.keys():
            return _MORE
        return entry if known and entry.tags == tags else None

    # --- opening ----------------------------------------------------------------------------------

    async def open_with(
        self, script: Script[T], wanted: Wanted, seconds: float, budget: Budget
    ) -> tuple[T | Down, Tags | None]:
        """Do ``script`` at the key that is ``wanted``, and open its tags for ``seconds``, in one round trip.

        Returns the tags with the generations that stand now; None if one of them could not be opened.
        """
        keys, opening = tag_keys(wanted.names), opening_for(seconds)
        here, others = self._by_shard(wanted.key, keys)
        run = self._run(wanted.key, script, here, opening, budget)
        if not others:
            answer = await run
            if isinstance(answer, Down):
                return answer, None
            return answer[0], _tags(wanted.names, keys, [(here, answer[1])])
        budgets = [Budget(budget.left) for _ in others]
        answer, opened = await asyncio.gather(run, asyncio.gather(*map(self._open, others, repeat(opening), budgets)))
        budget.left = min([budget.left, *[own.left for own in budgets]])
        if isinstance(answer, Down):
            return answer, None
        return answer[0], _tags(wanted.names, keys, [(here, answer[1]), *zip(others, opened, strict=True)])

    async def open(self, names: Sequence[str], seconds: float, budget: Budget) -> Tags | None:
        """Open the tags ``names`` for ``seconds``, and return them; None if one of them could not be opened."""
        if not names:
            return {}
        keys = tag_keys(names)
        here, others = self._by_shard(keys[0], keys)
        groups, opening = [here, *others], opening_for(seconds)
        budgets = [Budget(budget.left) for _ in groups]
        opened = await asyncio.gather(*map(self._open, groups, repeat(opening), budgets))
        budget.left = min([own.left for own in budgets])
        return _tags(names, keys, [*zip(groups, opened, strict=True)])

    async def _run(
        self, key: str, script: Script[T], tags: Sequence[str], opening: OpenTags, budget: Budget
    ) -> tuple[T, list[bytes | None]] | Down:
        stored = self._guard.with_prefix(tags)
        if stored:
            return await self._guard.ask(self._store.run_tagged, key, budget, script, stored, opening)
        answer = await self._guard.ask(self._guard.store.run, key, budget, script)
        return answer if isinstance(answer, Down) else (answer, [])

    async def _open(self, tags: Sequence[str], opening: OpenTags, budget: Budget) -> list[bytes | None] | Down:
        more = self._guard.with_prefix(tags[1:])
        return await self._guard.ask(self._store.open_tags, tags[0], budget, more, opening)

    # --- asking -----------------------------------------------------------------------------------

    async def _ask(
        self, wanted: Wanted, budget: Budget, want: int, keys: Sequence[str] | None = None
    ) -> TaggedValue | Down | Distrusted:
        """Return what stands at the key that is ``wanted`` and at its tags, as far as the journal allows."""
        coherence = self._coherence
        keys = tag_keys(wanted.names) if keys is None else keys
        if coherence.journal and (override := coherence.override(wanted.key, keys)):
            return override
        return await self._read(wanted.key, keys, budget, want)

    async def _read(self, key: str, tags: Sequence[str], budget: Budget, want: int) -> TaggedValue | Down:
        here, others = self._by_shard(key, tags)
        get, prefix = self._store.get_tagged, self._guard.with_prefix
        if not others:
            return await self._guard.ask(get, key, budget, prefix(here), want)
        budgets = [Budget(budget.left) for _ in others]
        answers = await asyncio.gather(
            self._guard.ask(get, key, budget, prefix(here), want),
            *[
                self._guard.ask(get, group[0], own, prefix(group[1:]), Want.NOTHING)
                for group, own in zip(others, budgets, strict=True)
            ],
        )
        budget.left = min([budget.left, *[own.left for own in budgets]])
        stands: dict[str, bytes | None] = {}
        for group, answer in zip([[key, *here], *others], answers, strict=True):
            if isinstance(answer, Down):
                return answer
            stands |= zip(group, [answer.value, *answer.tags], strict=True)
        return replace(cast("TaggedValue", answers[0]), tags=[stands[tag] for tag in tags])

    def _by_shard(self, key: str, tags: Sequence[str]) -> tuple[Sequence[str], list[list[str]]]:
        """Return those of ``tags`` that are at the shard of ``key``, and the others, by shard."""
        shard = self._guard.shard(key) if self.apart else None
        # One server, or nobody knows yet.
        if not shard:
            return tags, []
        shards: dict[str | None, list[str]] = {shard: []}
        for tag in tags:
            shards.setdefault(self._guard.shard(tag), []).append(tag)
        return shards.pop(shard), [*shards.values()]


_MORE: Final = Entry(b"")
AGAIN: Final = Down("again")
"""In place of a value that needs another question: for its tags, or for what is left of it."""
_NO_CODEC: Final = cast("Codec", None)


def opening_for(seconds: float) -> OpenTags:
    """Return how tags are opened for values that are kept for so many ``seconds``."""
    return OpenTags(milliseconds(max(LONGEST, 2 * seconds)), new_generation)


def _tags(
    names: Sequence[str], keys: Sequence[str], opened: Sequence[tuple[Sequence[str], list[bytes | None] | Down]]
) -> Tags | None:
    """Return the tags with what was ``opened`` for each group of their keys; None if one of them is not known."""
    stands: dict[str, bytes | None] = {}
    for group, answers in opened:
        if isinstance(answers, Down):
            return None
        stands |= zip(group, answers, strict=True)
    tags = dict(zip(names, generations_of([stands[key] for key in keys]), strict=True))
    return tags if are_known(tags) else None


def wanted_of(key: str, tags: Sequence[str], codec: Codec, windows: Windows | None = None) -> Wanted:
    """Return the value at ``key`` with tags at the keys ``tags``. Two templates may have given one of them."""
    return Wanted(key, tuple(dict.fromkeys(map(name_of, tags))), codec, windows)


def value_in(raw: bytes | None, keys: list[str], tags: Sequence[bytes | None], codec: Codec) -> Any:
    """Return the value in ``raw`` if it has exactly the tags ``keys`` and nothing else, and ``tags`` stand there.

    Else return `MISS`: it may be one, or the bytes need a closer look.
    """
    if raw is None or (start := raw.rfind(b"\n")) < 0:
        return MISS
    line = raw[start:]
    known = _LINES.get(line) or _read_anew(line)
    if known is None or known[0] != keys or known[1] != tags:
        return MISS
    try:
        return codec.decode(raw[:start])
    except DecodeError:
        return MISS


def put_values_in(
    values: dict[str, Any],
    raw: Mapping[str, Any],
    tags: Mapping[str, list[str]],
    standing: Mapping[str, Any],
    codec: Codec,
) -> list[str]:
    """Put into ``values`` what `value_in` would return for each of ``raw``. Return the keys of the others.

    By key, ``tags`` has the keys of its tags. By the key of a tag, ``standing`` has what stands there.
    """
    others: list[str] = []
    member, decode, join = members_of(standing).__getitem__, codec.decode, b",".join
    # Once for each id of a batch: a call of `value_in` would cost as much as all that it does. A line that is not
    # remembered would cost more to read than to write, and batches ask for more ids than lines are remembered.
    for key, one in raw.items():
        try:
            line = b'\n{"T":{' + join(map(member, tags[key])) + b"}}"
            if type(one) is bytes and one.endswith(line):
                values[key] = decode(one[: -len(line)])
                continue
        except (KeyError, DecodeError):
            # One of its tags has no generation, or the bytes need a closer look.
            pass
        others.append(key)
    return others


def _read_anew(line: bytes) -> tuple[list[str], list[bytes]] | None:
    """Return what is in a second ``line``, and remember it."""
    known = read_line(line)
    if known is not None:
        if len(_LINES) >= _MOST_LINES:
            _LINES.clear()
        _LINES[line] = known
    return known


_LINES: Final[dict[bytes, tuple[list[str], list[bytes]]]] = {}
"""Second lines that were read: to look for one costs less than to read it, or to write one to compare it with."""

_MOST_LINES: Final = 4096
