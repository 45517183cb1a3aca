"""Values in the store that all processes see: encoded, decoded, and never believed beyond what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, cast

from msgspec import Struct

from cachekit._tiers.coherence import Coherence, NearRead
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import MISS, Distrusted, Down, Found, Miss, Outcome
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.seals import Seals
from cachekit.codecs import Codec
from cachekit.entry import NEWLINE, Entry, parse
from cachekit.errors import DecodeError, RoundTripError, TooLargeError
from cachekit.freshness import FRESH, Windows, draw, judge

_DATED: Final = Down("dated")
"""In place of a value that may be stale: the server was not asked how much is left of it."""


class Reading(Struct, frozen=True):
    """How many keys are read."""

    windows: Windows | None = None
    near: bool = False
    """Whether their values may be kept near."""


def keep_near(reading: NearRead, found: Found, codec: Codec, windows: Windows | None) -> None:
    """Keep near what ``reading`` has found. A remembered absence is not kept."""
    if found.entry.absent:
        return
    early = 0.0 if windows is None else draw(found.entry, windows)
    kept = windows is not None and windows.offline > 0
    reading.add_to_near(found, codec, found.left - found.entry.stale - early, kept=kept)


class Values:
    """Turns values into entries, and back.

    Args:
        coherence: Where entries come from, and go to.
        reporter: Where it is told that a value has no round trip, or that bytes do not decode.
        max_bytes: The most bytes of JSON that a value may have, unless its codec has a bound of its own.
        seals: Seals the values of private functions, and opens them.
    """

    def __init__(self, coherence: Coherence, reporter: Reporter, max_bytes: int, seals: Seals) -> None:
        self._coherence = coherence
        self._get = coherence.get
        self._get_with_ttl = coherence.get_with_ttl
        self._reporter = reporter
        self._max_bytes = max_bytes
        self._seals = seals

    async def read(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key``, decoded by ``codec``."""
        outcome = self.decoded(key, await self._get(key, budget), codec)
        return outcome if outcome is not _DATED else await self.read_fresh(key, codec, budget)

    async def read_on(self, key: str, raw: bytes | Down | Distrusted | None, codec: Codec, budget: Budget) -> Outcome:
        """Return as `read`, for ``raw``, which was read already."""
        outcome = self.decoded(key, raw, codec)
        return outcome if outcome is not _DATED else await self.read_fresh(key, codec, budget)

    async def read_timed(self, key: str, codec: Codec, budget: Budget, windows: Windows | None) -> Outcome:
        """Return the value at ``key``, and how fresh it is for a function with ``windows``.

        A store that does not tell how much is left of a value has fresh ones alone.
        """
        if not self._coherence.times:
            return await self.read(key, codec, budget)
        return self._judged(key, await self._get_with_ttl(key, budget), codec, windows)

    async def read_fresh(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key`` if its TTL is not over."""
        if not self._coherence.times:
            outcome = self.decoded(key, await self._get(key, budget), codec)
            return MISS if outcome is _DATED else outcome
        outcome = await self.read_timed(key, codec, budget, None)
        return outcome if not isinstance(outcome, Found) or outcome.freshness is FRESH else MISS

    async def read_near(self, key: str, codec: Codec, budget: Budget, windows: Windows | None = None) -> Outcome:
        """Return the value at ``key``, as `read` or `read_timed` does, and have it kept near if that may be."""
        with self._coherence.near_read(key) as reading:
            if reading is None:
                timed = self.read if windows is None else partial(self.read_timed, windows=windows)
                return await timed(key, codec, budget)
            answer = await self._coherence.get_near(key, budget)
            outcome = self._judged(key, answer, codec, windows)
            if isinstance(outcome, Found):
                if outcome.freshness is FRESH:
                    keep_near(reading, outcome, codec, windows)
                elif windows is None:
                    return MISS
            return outcome

    async def read_with_lease(
        self, key: str, codec: Codec, budget: Budget, windows: Windows | None = None
    ) -> tuple[Outcome, bytes | None]:
        """Return as `read`, or with ``windows`` as `read_timed`, and the token that holds the lease at that moment."""
        if windows is not None and self._coherence.times:
            raw, holder, left = await self._coherence.get_with_lease_and_ttl(key, budget)
            answer = raw if isinstance(raw, (Down, Distrusted)) else (raw, left)
            return self._judged(key, answer, codec, windows), holder
        raw, holder = await self._coherence.get_with_lease(key, budget)
        outcome = self.decoded(key, raw, codec)
        return outcome if outcome is not _DATED else await self.read_fresh(key, codec, budget), holder

    async def read_many(self, keys: Sequence[str], codec: Codec, budget: Budget, reading: Reading) -> list[Outcome]:
        """Return for each of ``keys`` as `read`, `read_timed` or `read_near` does, in one round trip.

        An entry of a remembered absence is `Found`, and says so.
        """
        coherence = self._coherence
        if not coherence.times or not (reading.near or reading.windows is not None):
            return await self.read_many_on(keys, await coherence.get_many(keys, budget, timed=False), codec, budget)
        with ExitStack() as stack:
            marks = [stack.enter_context(coherence.near_read(key)) if reading.near else None for key in keys]
            answers: Any = await coherence.get_many(keys, budget, timed=True)
            outcomes = []
            for key, answer, mark in zip(keys, answers, marks, strict=True):
                outcome = self._judged(key, answer, codec, reading.windows, absent=True)
                fresh = isinstance(outcome, Found) and outcome.freshness is FRESH
                if fresh and mark is not None:
                    keep_near(mark, cast("Found", outcome), codec, reading.windows)
                elif isinstance(outcome, Found) and not fresh and reading.windows is None:
                    outcome = MISS
                outcomes.append(outcome)
        return outcomes

    async def read_many_on(
        self, keys: Sequence[str], raw: Sequence[Any], codec: Codec, budget: Budget
    ) -> list[Outcome]:
        """Return for each of ``keys`` as `read_on`, for ``raw``, which was read already."""
        return await self._dated_anew(keys, self._all_decoded(keys, raw, codec), codec, budget)

    def _all_decoded(self, keys: Sequence[str], raw: Sequence[Any], codec: Codec) -> list[Outcome]:
        """Return for each of ``keys`` as `decoded`, a remembered absence included."""
        outcomes: list[Outcome] = []
        usual = not codec.private and not self._reporter.incidents
        for key, one in zip(keys, raw, strict=True):
            # Most values are plain JSON, and are decoded in place.
            if usual and type(one) is bytes and NEWLINE not in one:
                try:
                    outcomes.append(Found(codec.decode(one), Entry(one)))
                except DecodeError:
                    # It is reported below, and the next one that decodes ends that.
                    usual = False
                else:
                    continue
            outcomes.append(MISS if one is None else self.decoded(key, one, codec, absent=True))
        return outcomes

    async def _dated_anew(
        self, keys: Sequence[str], outcomes: list[Outcome], codec: Codec, budget: Budget
    ) -> list[Outcome]:
        """Return ``outcomes``, with those of values that may be stale read again."""
        dated = [place for place, outcome in enumerate(outcomes) if outcome is _DATED]
        if dated:
            again = await asyncio.gather(*[self.read_fresh(keys[place], codec, budget) for place in dated])
            for place, outcome in zip(dated, again, strict=True):
                outcomes[place] = outcome
        return outcomes

    async def take(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key`` and remove it, in one step. One that may be stale is removed, and is a miss."""
        return self.decoded(key, await self._coherence.take(key, budget), codec)

    async def take_fresh(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key`` and remove it, in one step. A stale one is removed, and is a miss."""
        if not self._coherence.times:
            return await self.take(key, codec, budget)
        outcome = self._judged(key, await self._coherence.take_with_ttl(key, budget), codec, None)
        return outcome if not isinstance(outcome, Found) or outcome.freshness is FRESH else MISS

    async def store(self, key: str, value: object, codec: Codec, ttl: float, budget: Budget) -> bool:
        """Store ``value`` for ``ttl`` seconds, in place of loads that are going on. Returns whether it is confirmed."""
        entry = self.encoded(value, codec, key)
        return entry is not None and await self._coherence.set(key, entry.data, ttl, budget)

    def encoded(self, value: object, codec: Codec, key: str | None = None) -> Entry | None:
        """Return the entry of ``value``; None, with one warning, when it is too large or would not come back as it is.

        ``key`` is where it was to be stored: observers are told that it will not be. None: it is not to be stored.

        Raises:
            RoundTripError: It would not, and ``codec`` is strict.
        """
        try:
            entry = Entry(codec.encode(value, self._max_bytes))
        except TooLargeError as error:
            self._refuse(codec, "size", error, key)
            return None
        except RoundTripError as error:
            if codec.strict:
                if key is not None:
                    self._reporter.not_stored(codec.name, key, "round trip")
                raise
            self._refuse(codec, "value", error, key)
            return None
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "value")
            self._reporter.resolved(codec.name, "size")
        return entry

    def _refuse(self, codec: Codec, incident: str, error: Exception, key: str | None) -> None:
        """Note that a value will not be stored at ``key``: it is too large, or would not come back as it is."""
        if incident != "value" or not codec.announced:
            self._reporter.log(codec.name, incident, f"{codec.name} is not cached: {error}")
        if key is not None:
            self._reporter.not_stored(codec.name, key, "size" if incident == "size" else "round trip")

    def sealed(self, key: str, entry: Entry, codec: Codec) -> Entry | None:
        """Return ``entry`` as it stands at ``key`` for a private function; None, with one warning, if it cannot be."""
        return self._seals.of_value(key, entry, codec)

    def decoded(
        self,
        key: str,
        raw: bytes | Down | Distrusted | None,
        codec: Codec,
        *,
        anew: bool = False,
        absent: bool = False,
    ) -> Outcome:
        """Return the outcome of a read of ``key``; bytes that do not decode are a miss, with one warning.

        ``anew``: they were stored a moment ago, so that they are fresh unless they were expired by hand. ``absent``: a
        remembered absence is found, for a batch; to other calls it is a miss.
        """
        if type(raw) is not bytes:
            if isinstance(raw, (Down, Distrusted)):
                return raw
            raw = None if raw is None else self._as_bytes(key, raw, codec)
            if raw is None:
                return MISS
        entry = parse(raw) if not codec.private else self._seals.value_in(key, raw, codec)
        if entry is None:
            return MISS if not absent else self._absence(key, raw, codec)
        if entry.data is not raw and entry.dated and (entry.expired or not anew):
            return _DATED
        # As in `_judged` and `found`: every hit would pay for the call of a method for all.
        try:
            value = codec.decode(entry.data)
        except DecodeError as error:
            self._reporter.skipped(codec.name, "bytes", str(error), key)
            return MISS
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "bytes")
        return Found(value, entry)

    def _absence(self, key: str, raw: bytes, codec: Codec) -> Outcome:
        """Return the remembered absence that ``raw`` at ``key`` is, or a miss."""
        entry = parse(raw, absent=True) if not codec.private else self._seals.value_in(key, raw, codec, absent=True)
        return MISS if entry is None or not entry.absent or entry.expired else Found(None, entry)

    def _judged(
        self,
        key: str,
        answer: tuple[bytes | None, float] | Down | Distrusted,
        codec: Codec,
        windows: Windows | None,
        *,
        absent: bool = False,
    ) -> Outcome:
        """Return the outcome of a timed read, with the freshness that the value has for a function with ``windows``."""
        if type(answer) is not tuple:
            return cast("Down | Distrusted", answer)
        raw, left = answer
        if type(raw) is not bytes:
            raw = None if raw is None else self._as_bytes(key, raw, codec)
        if raw is None:
            return MISS
        entry = parse(raw) if not codec.private else self._seals.value_in(key, raw, codec)
        if entry is None and absent:
            return self._absence(key, raw, codec)
        if entry is None:
            return MISS
        try:
            value = codec.decode(entry.data)
        except DecodeError as error:
            self._reporter.skipped(codec.name, "bytes", str(error), key)
            return MISS
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "bytes")
        # Most hits are neither due nor stale, and would pay for the calls.
        if windows is not None and left - entry.stale > windows.earliest and not entry.expired:
            return Found(value, entry, FRESH, left)
        early = 0.0 if windows is None else draw(entry, windows, left - entry.stale)
        return Found(value, entry, judge(entry, left, windows, early), left)

    def tagged(self, key: str, raw: bytes, codec: Codec, *, absent: bool = False) -> Entry | None:
        """Return the entry in ``raw``, which stands at ``key``, with its tags; None for one that is not understood.

        ``absent``: a remembered absence is understood, too.
        """
        if not codec.private:
            return parse(raw, tagged=True, absent=absent)
        return self._seals.value_in(key, raw, codec, tagged=True, absent=absent)

    def found(self, key: str, entry: Entry, codec: Codec) -> Found | Miss:
        """Return the value of ``entry`` at ``key``; bytes that do not decode are a miss, with one warning."""
        try:
            value = codec.decode(entry.data)
        except DecodeError as error:
            self._reporter.skipped(codec.name, "bytes", str(error), key)
            return MISS
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "bytes")
        return Found(value, entry)

    def _as_bytes(self, key: str, raw: object, codec: Codec) -> bytes | None:
        # The stores of this package return nothing but bytes; one by somebody else may.
        if isinstance(raw, (bytes, bytearray, memoryview)):
            return bytes(raw)
        text = f"the store returned a {type(raw).__name__} in place of bytes"
        self._reporter.skipped(codec.name, "bytes", text, key)
        return None
