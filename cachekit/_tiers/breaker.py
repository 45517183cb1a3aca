"""The circuit breaker: after a few failures only a probe in the background asks a store that does not answer.

One circuit for each shard of the store, in each event loop that uses it:

============  =====================================  ==========================================================
state         callers                                leaves it
============  =====================================  ==========================================================
``CLOSED``    are let through                        open, at as many failures in a row as the last one says
``OPEN``      are rejected, in microseconds          half-open, after a pause that doubles, with jitter
``HALF_OPEN`` are rejected; one probe is going on    closed when the probe is answered, else open again
============  =====================================  ==========================================================

The class of a failure says how many it takes (`cachekit.errors.StoreError.opens_after`): one timeout, since
it has cost a caller the whole deadline, or three failures that were seen at once. An answer that refuses one key
or one kind of command is a sign of life. A probe reads the key that failed last: it needs no command, no key and
no permission that callers do not need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Final, TypeAlias

from cachekit._tiers.background import Background
from cachekit._tiers.outcome import Down
from cachekit._tiers.reporter import Reporter
from cachekit.backoff import Backoff
from cachekit.errors import FAILURES, StoreError
from cachekit.events import BreakerClosed, BreakerOpened
from cachekit.loops import PerLoop

# Seconds between probes. With the time that a lane gives a dead connection (`cachekit.stores.lane.PATIENCE`) they
# add up to less than the second after which a store that is back is used again.
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.25

Probe: TypeAlias = Callable[[str], Awaitable[bool]]
"""Reads a key, within the deadline of a call. Returns whether the store answered."""


class State(Enum):
    """How a circuit treats callers."""

    CLOSED = "they are let through"
    OPEN = "they are rejected"
    HALF_OPEN = "they are rejected while a probe is going on"


# A member that is looked up in its class takes 60 ns on Python 3.11.
_CLOSED: Final = State.CLOSED


class Circuit:
    """The circuit of one shard in one event loop, from its first failure until it answers again."""

    __slots__ = ("failures", "key", "opened", "probing", "rejection", "state")

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.failures = 0
        self.key = ""
        """Of the operation that failed last; the probe reads it."""
        self.rejection: Down | None = None
        """The outcome of every question while it is open: made once, since a rejection takes microseconds."""
        self.opened = 0.0
        self.probing: asyncio.Task[None] | None = None


class Breaker:
    """The circuits of one store. Any event loop may use it, each has circuits of its own.

    Args:
        probe: Reads a key of the store.
        background: Owns the probes.
        reporter: Where it is told that a circuit opens or closes.
    """

    def __init__(self, probe: Probe, background: Background, reporter: Reporter) -> None:
        self._probe = probe
        self._background = background
        self._reporter = reporter
        self._clock = reporter.clock
        self._loops: PerLoop[dict[str, Circuit]] = PerLoop(dict)
        self.circuits: Mapping[asyncio.AbstractEventLoop, dict[str, Circuit]] = self._loops.states
        """By loop and shard, those alone of which the last operation failed: empty while the store is healthy."""

    def rejects(self, shard: str) -> Down | None:
        """Return the outcome of asking ``shard`` if it is not asked now."""
        circuits = self.circuits.get(asyncio.get_running_loop())
        circuit = circuits.get(shard) if circuits else None
        if circuit is None or circuit.state is _CLOSED:
            return None
        if circuit.probing is None or circuit.probing.done():
            # Somebody cancelled every task of the loop, and went on using it.
            self._start_probing(shard, circuit)
        return circuit.rejection

    def failed(self, shard: str, key: str, error: StoreError, *, in_full: bool) -> None:
        """Note that ``shard`` failed when it was asked for ``key``.

        ``in_full`` tells whether the store had a whole deadline to answer: a timeout after less than that counts as
        any other failure does.
        """
        if error.answered:
            self.answered(shard)
            return
        if error.opens_after is None:
            return
        circuit = self._loops.get().setdefault(shard, Circuit())
        circuit.failures += 1
        circuit.key = key
        threshold = error.opens_after if in_full else FAILURES
        if circuit.state is _CLOSED and circuit.failures >= threshold:
            circuit.rejection = Down(error.cause)
            circuit.opened = self._clock.monotonic()
            circuit.state = State.OPEN
            self._start_probing(shard, circuit)
            if self._reporter.observers:
                self._reporter.emit(BreakerOpened(shard, error.cause))

    def answered(self, shard: str) -> None:
        """Note that ``shard`` answered a caller. An open circuit stays open: the question may be an old one."""
        circuit = self._find(shard)
        if circuit is not None and circuit.state is _CLOSED:
            self._remove(shard)

    def probing(self, shard: str) -> asyncio.Task[None] | None:
        """Return the task that ends when ``shard`` may be asked again; None when it may be now."""
        circuit = self._find(shard)
        return circuit.probing if circuit is not None and circuit.state is not _CLOSED else None

    def close(self) -> None:
        """Forget the circuits of the running event loop, whose probes have ended."""
        self._loops.pop()

    def _find(self, shard: str) -> Circuit | None:
        circuits = self._loops.find()
        return circuits.get(shard) if circuits else None

    def _remove(self, shard: str) -> None:
        circuits = self._loops.find()
        if circuits:
            circuits.pop(shard, None)
        if not circuits:
            self._loops.pop()

    def _start_probing(self, shard: str, circuit: Circuit) -> None:
        loop = asyncio.get_running_loop()
        circuit.probing = self._background.start_daemon(loop, self._until_answered, shard, circuit)

    async def _until_answered(self, shard: str, circuit: Circuit) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            await asyncio.sleep(backoff.next())
            circuit.state = State.HALF_OPEN
            if await self._probe(circuit.key):
                break
            circuit.state = State.OPEN
        self._remove(shard)
        if self._reporter.observers:
            self._reporter.emit(BreakerClosed(shard, self._clock.monotonic() - circuit.opened))
