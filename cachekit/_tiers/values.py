"""Values in the store that all processes see: encoded, decoded, and never believed beyond what they are."""

from __future__ import annotations

from cachekit._tiers.coherence import Coherence
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import MISS, Distrusted, Down, Found, Outcome
from cachekit._tiers.reporter import Reporter
from cachekit.codecs import Codec
from cachekit.entry import Entry, parse
from cachekit.errors import DecodeError, RoundTripError, TooLargeError


class Values:
    """Turns values into entries, and back.

    Args:
        coherence: Where entries come from, and go to.
        reporter: Where it is told that a value has no round trip, or that bytes do not decode.
        max_bytes: The most bytes of JSON that a value may have, unless its codec has a bound of its own.
    """

    def __init__(self, coherence: Coherence, reporter: Reporter, max_bytes: int) -> None:
        self._coherence = coherence
        self._get = coherence.get
        self._reporter = reporter
        self._max_bytes = max_bytes

    async def read(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key``, decoded by ``codec``."""
        return self.decoded(await self._get(key, budget), codec)

    async def read_near(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key``, as `read` does, and have it kept near if that may be."""
        with self._coherence.near_read(key) as reading:
            if reading is None:
                return await self.read(key, codec, budget)
            outcome = self.decoded(await reading.get(budget), codec)
            if isinstance(outcome, Found):
                reading.add_to_near(outcome, codec)
            return outcome

    async def read_with_lease(self, key: str, codec: Codec, budget: Budget) -> tuple[Outcome, bytes | None]:
        """Return the value at ``key``, and the token that holds its lease, as of one moment."""
        raw, holder = await self._coherence.get_with_lease(key, budget)
        return self.decoded(raw, codec), holder

    async def take(self, key: str, codec: Codec, budget: Budget) -> Outcome:
        """Return the value at ``key`` and remove it, in one step."""
        return self.decoded(await self._coherence.take(key, budget), codec)

    async def store(self, key: str, value: object, codec: Codec, ttl: float, budget: Budget) -> bool:
        """Store ``value`` for ``ttl`` seconds, in place of loads that are going on. Returns whether it is confirmed."""
        entry = self.encoded(value, codec)
        return entry is not None and await self._coherence.set(key, entry.data, ttl, budget)

    def encoded(self, value: object, codec: Codec) -> Entry | None:
        """Return the entry of ``value``; None, with one warning, when it is too large or would not come back as it is.

        Raises:
            RoundTripError: It would not, and ``codec`` is strict.
        """
        try:
            entry = Entry(codec.encode(value, self._max_bytes))
        except TooLargeError as error:
            self._reporter.skipped(codec.name, "size", str(error))
            return None
        except RoundTripError as error:
            if codec.strict:
                raise
            self._reporter.skipped(codec.name, "value", str(error))
            return None
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "value")
            self._reporter.resolved(codec.name, "size")
        return entry

    def decoded(self, raw: bytes | Down | Distrusted | None, codec: Codec) -> Outcome:
        """Return the outcome of a read; bytes that do not decode are a miss, with one warning."""
        if type(raw) is not bytes:
            if isinstance(raw, (Down, Distrusted)):
                return raw
            raw = None if raw is None else self._as_bytes(raw, codec)
            if raw is None:
                return MISS
        entry = parse(raw)
        if entry is None:
            return MISS
        try:
            value = codec.decode(entry.data)
        except DecodeError as error:
            self._reporter.skipped(codec.name, "bytes", str(error))
            return MISS
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "bytes")
        return Found(value, entry)

    def _as_bytes(self, raw: object, codec: Codec) -> bytes | None:
        # The stores of this package return nothing but bytes; one by somebody else may.
        if isinstance(raw, (bytes, bytearray, memoryview)):
            return bytes(raw)
        self._reporter.skipped(codec.name, "bytes", f"the store returned a {type(raw).__name__} in place of bytes")
        return None
