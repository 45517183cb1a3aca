"""Runs operations under a fault: checks their results, and measures their cost.

Each operation has several caches. The first has one caller, which calls many times. Each of the
others has many callers at the same moment. A log record belongs to the cache whose clock was asked last: an
incident asks for the time just before it writes a record.

All durations are seconds.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Final

import redis

from cachekit._tiers import incidents
from cachekit.config import DEFAULT_LEASE, DEFAULT_TIMEOUT
from cachekit.entry import lease_key
from cachekit.errors import DENIED
from tests.faults.operations import HIT, LoadUnderWay, Operation, Subject, WrongError
from tests.faults.scenarios import Scenario, Warmth
from tests.kit.binaries import ServerBinary
from tests.kit.servers import RedisServer

PATIENCE: Final = 30.0
"""Seconds within which an event that is sure to come must have come."""

LEASE: Final = 120.0
"""Seconds of a lease. It does not end by itself within `PATIENCE`, so it was given back if it is gone."""

PAUSE: Final = 0.001
"""Seconds between two calls of one caller, in which the background may go on."""

LOOK: Final = 0.005
"""Seconds between two looks at whether all is well again."""

MEDIANS: Final = 3
"""The lowest of so many medians is taken: other work of the machine lasts for longer than a few calls."""

SAMPLE: Final = 6
"""The number of calls of each cache whose leftovers are checked afterwards."""

# The number of a call that belongs to no operation: it tells whether the cache is used again.
AGAIN: Final = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The numbers of calls and callers.

    Attributes:
        calls: Calls of one caller, one after the other, each checked.
        seconds: The most that these calls may take together; then the caller stops.
        timed: Further calls, once the circuit breaker is open, for each of several medians.
        crowds: Numbers of callers at the same moment. Each number has a cache of its own.
        loads: The most loads of one cache that are under way when the fault begins.
        timeout: The caches' option for faults that callers notice by the deadline.
        longer: The caches' option for all other faults.
        busy: Whether other programs may take the machine's time. Then nothing is wrong because it is late: an
            operation may time out, and a waiting record may come twice, or together with another.
    """

    calls: int
    seconds: float
    timed: int
    crowds: tuple[int, ...]
    loads: int = 1000
    timeout: float = DEFAULT_TIMEOUT
    longer: float = DEFAULT_TIMEOUT
    busy: bool = False


@dataclass(slots=True)
class Cell:
    """The results of one operation under one fault, and their cost.

    Attributes:
        scenario: The fault.
        operation: Its class.
        words: The results of the calls of one caller, and how often each came.
        causes: The causes of calls that were not served.
        wrong: The violations; empty if all is well.
        first: Seconds of the first call.
        slowest: Seconds of the slowest call of one caller.
        crowds: Seconds of the slowest of so many callers.
        opened: Median seconds of a call once the circuit breaker is open; None: it did not open.
        began: Log records that say that an incident began.
        ended: Log records that say that an incident ended.
        back: Seconds from the end of the fault until a call is a hit.
        afterwards: Seconds of the slowest call since then.
    """

    scenario: Scenario
    operation: type[Operation]
    words: Counter[str] = field(default_factory=Counter)
    causes: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    first: float = 0.0
    slowest: float = 0.0
    crowds: dict[int, float] = field(default_factory=dict)
    opened: float | None = None
    began: int = 0
    ended: int = 0
    back: float = 0.0
    afterwards: float = 0.0

    @property
    def expected(self) -> frozenset[str]:
        """The words of the results that the operation may have."""
        name, scenario = self.operation.name, self.scenario
        if name in scenario.instead:
            return scenario.instead[name]
        return frozenset({self.operation.served if name in scenario.served else self.operation.left_out})

    @property
    def left_out(self) -> bool:
        """Whether the fault keeps the operation from being served, so that there is an event each time."""
        return self.operation.name not in {*self.scenario.served, *self.scenario.instead}


async def run(
    scenario: Scenario, operations: Sequence[type[Operation]], sizes: Sizes, binary: ServerBinary
) -> list[Cell]:
    """Hurt a server once while ``operations`` go on, all together, and heal it. Returns a cell for each."""
    cells = [Cell(scenario, operation) for operation in operations]
    with RedisServer(binary, *scenario.config) as server, _listening() as records:
        async with scenario.stage(server) as place, AsyncExitStack() as caches:
            ones = [_One(cell, place.url, sizes) for cell in cells]
            crowds = [[_Crowd(cell, place.url, callers, sizes) for cell in cells] for callers in sizes.crowds]
            parts: list[_Part] = [*ones, *[part for crowd in crowds for part in crowd]]
            for part in parts:
                caches.push_async_callback(part.subject.cache.aclose)
            _prepare(server, parts)
            await _one_by_one(parts, lambda part: part.warm_up(scenario.warm))
            keys = dict.fromkeys(key for part in parts for key in part.keys)
            async with place.hurting([*keys]):
                await _all_together(ones, lambda part: part.suffer())
                for crowd in crowds:
                    await _all_together(crowd, lambda part: part.suffer())
            healed = time.perf_counter()
            await _one_by_one(parts, lambda part: part.recover(healed, records))
            await _look_into(server, parts)
            await _one_by_one(parts, lambda part: part.look_back())
        for one in ones:
            one.cell.began = len(records.of(one.speaker, logging.WARNING))
            one.cell.ended = len(records.of(one.speaker, logging.INFO))
    return cells


class _Part:
    """One of the caches of a cell, and its callers."""

    def __init__(self, cell: Cell, kind: str, url: str, numbers: int, sizes: Sizes) -> None:
        self.cell = cell
        self.sizes = sizes
        self.numbers = numbers
        self.speaker = f"{cell.operation.name.replace(' ', '-')}-{kind}"
        timeout = sizes.timeout if cell.scenario.silent else sizes.longer
        # An ACL that refuses a lease refuses to give it back as well. Then the lease ends by itself.
        self.lease = DEFAULT_LEASE if DENIED in cell.scenario.causes else LEASE
        self.subject = Subject(url, f"{self.speaker}:", timeout, _Clock(self.speaker), self.lease)
        self.operation = cell.operation(self.subject)
        self.expected = cell.expected
        if cell.scenario.partly and sizes.busy:
            self.expected |= {cell.operation.served, cell.operation.left_out}
        self.words: dict[int, str] = {}

    @property
    def keys(self) -> list[str]:
        """The keys that are used."""
        return [self.operation.key(x) for x in range(self.numbers)]

    def complain(self, what: str) -> None:
        self.cell.wrong.append(f"{self.speaker}: {what}")

    async def contained(self, work: Callable[[_Part], Awaitable[None]]) -> None:
        """Do ``work``; an exception becomes a complaint."""
        [raised] = await asyncio.gather(work(self), return_exceptions=True)
        if isinstance(raised, WrongError):
            self.complain(str(raised))
        elif isinstance(raised, Exception):
            self.complain(f"raised {raised!r}")
        elif raised is not None:
            raise raised

    async def warm_up(self, warm: Warmth) -> None:
        """Do the calls that come before the fault."""
        if warm is Warmth.ELSEWHERE:
            await asyncio.to_thread(asyncio.run, self.subject.connect())
        elif warm is Warmth.CONNECTED:
            await self.subject.connect()
            await self.operation.begin(min(self.numbers, self.sizes.loads))

    async def suffer(self) -> None:
        """Call, while the fault is in force."""
        raise NotImplementedError

    async def timed(self, x: int) -> float:
        """Call once, check the result, and return the seconds that it took."""
        failures = len(self.subject.failures)
        began = time.perf_counter()
        word = await self.operation.call(x)
        seconds = self.operation.added(x, began, time.perf_counter())
        self.words[x] = word
        self.check(x, word)
        unreported = word == self.operation.left_out and len(self.subject.failures) == failures
        # A busy machine may have had no time to take a lease, or the lease may run out. That is no failure of the
        # store by now, and the result is not stored. Or so little of the call's time is left that it does not wait
        # until the silence of the server is a failure.
        lost = self.sizes.busy and self.operation.name == LoadUnderWay.name
        if self.cell.left_out and unreported and not lost:
            self.complain(f"call {x} was not served, and no event reports it")
        return seconds

    def check(self, x: int, word: str) -> None:
        """Check the result of a call."""
        if word not in self.expected:
            self.complain(f"call {x} came to {word!r}, expected {sorted(self.expected)}")

    async def recover(self, healed: float, records: _Records) -> None:
        """Call until the cache is used again and every incident is over."""
        async with asyncio.timeout(PATIENCE):
            while await self.subject.result(AGAIN) != HIT:
                await asyncio.sleep(LOOK)
            self.is_back(time.perf_counter() - healed)
            await self._until_all_is_over(records)
        await self.operation.end()
        async with asyncio.timeout(PATIENCE):
            await self._until_all_is_over(records)
        self._check_records(records)

    async def _until_all_is_over(self, records: _Records) -> None:
        """Wait until each incident has ended: an incident ends when it has not come again for half a second."""
        while len(self.subject.cache.runtime.coherence.journal):
            await asyncio.sleep(LOOK)
        while len(records.of(self.speaker, logging.INFO)) < len(records.of(self.speaker, logging.WARNING)):
            await self.subject.result(AGAIN)
            await asyncio.sleep(LOOK)

    def is_back(self, seconds: float) -> None:
        """Note that the cache was used again after so many seconds."""

    def _check_records(self, records: _Records) -> None:
        """Check that each incident began and ended with one record, and that none was without a cause."""
        causes = {failure.cause for failure in self.subject.failures}
        self.cell.causes |= causes
        # A process that other programs keep from running cannot tell whether its server is silent.
        late = {"timeout", "congested"} if self.sizes.busy else set[str]()
        if not causes <= self.cell.scenario.causes | late:
            self.complain(f"the causes are {sorted(causes)}, expected {sorted(self.cell.scenario.causes)}")
        began = records.of(self.speaker, logging.WARNING)
        ended = records.of(self.speaker, logging.INFO)
        # An incident ends after half a second without it. On a machine that stands still for so long it begins anew.
        times = self.subject.failed_at.values()
        pauses = sum(later - earlier > incidents.QUIET / 2 for moments in times for earlier, later in pairwise(moments))
        more = pauses if self.sizes.busy else 0
        if len(began) > len(causes) + more or len(began) > len({*began}) + more or bool(began) != bool(causes):
            self.complain(f"for the causes {sorted(causes)} the warnings are {began}")
        if len(ended) != len(began):
            self.complain(f"{len(began)} warnings, and {len(ended)} that report an end: {ended}")

    async def look_back(self) -> None:
        """Look at the leftovers of the calls, now that all is well again."""
        for x in range(0, len(self.words), max(1, len(self.words) // SAMPLE)):
            began = time.perf_counter()
            await self.operation.afterwards(x, self.words[x])
            self.cell.afterwards = max(self.cell.afterwards, time.perf_counter() - began)


class _One(_Part):
    """One caller, which calls many times."""

    def __init__(self, cell: Cell, url: str, sizes: Sizes) -> None:
        super().__init__(cell, "one", url, 1 + sizes.calls + MEDIANS * sizes.timed, sizes)

    async def suffer(self) -> None:
        numbers = count()
        began = time.perf_counter()
        taken: list[float] = []
        while len(taken) <= self.sizes.calls and time.perf_counter() - began < self.sizes.seconds:
            x = next(numbers)
            taken.append(await self.timed(x))
            await self.operation.at_once(x)
            await asyncio.sleep(PAUSE)
        self.cell.first, self.cell.slowest = taken[0], max(taken)
        self.cell.words.update(self.words.values())
        if self.subject.opened:
            self.cell.opened = await self._median(numbers)

    async def _median(self, numbers: Iterator[int]) -> float:
        """Return the median seconds of a call that the circuit breaker rejects, without an observer."""
        self.subject.look_away()
        medians = []
        for _ in range(MEDIANS):
            medians.append(statistics.median([await self._rejected(next(numbers)) for _ in range(self.sizes.timed)]))
            await asyncio.sleep(0.05)
        self.subject.look_again()
        return min(medians)

    async def _rejected(self, x: int) -> float:
        began = time.perf_counter()
        word = await self.operation.call(x)
        seconds = self.operation.added(x, began, time.perf_counter())
        self.check(x, word)
        await asyncio.sleep(0)
        return seconds

    def is_back(self, seconds: float) -> None:
        self.cell.back = seconds


class _Crowd(_Part):
    """Many callers at the same moment."""

    def __init__(self, cell: Cell, url: str, callers: int, sizes: Sizes) -> None:
        super().__init__(cell, f"{callers}", url, callers, sizes)
        if cell.scenario.partly:
            self.expected |= {cell.operation.served, cell.operation.left_out}

    async def suffer(self) -> None:
        self.cell.crowds[self.numbers] = max(await asyncio.gather(*[self.timed(x) for x in range(self.numbers)]))
        for x in range(0, self.numbers, max(1, self.numbers // SAMPLE)):
            await self.operation.at_once(x)


class _Clock:
    """The clock of one cache, by the system's. The last one that was asked is known."""

    asked = ""

    def __init__(self, speaker: str) -> None:
        self._speaker = speaker

    def monotonic(self) -> float:
        _Clock.asked = self._speaker
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class _Records(logging.Handler):
    """Keeps the log records of the package, by the cache that wrote them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._of: dict[str, list[logging.LogRecord]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self._of.setdefault(_Clock.asked, []).append(record)

    def of(self, speaker: str, level: int) -> list[str]:
        return [record.getMessage() for record in self._of.get(speaker, ()) if record.levelno == level]


@contextmanager
def _listening() -> Iterator[_Records]:
    logger, records = logging.getLogger("cachekit"), _Records()
    before = logger.level
    logger.addHandler(records)
    logger.setLevel(logging.INFO)
    try:
        yield records
    finally:
        logger.setLevel(before)
        logger.removeHandler(records)


async def _all_together(parts: Sequence[_Part], work: Callable[[_Part], Awaitable[None]]) -> None:
    await asyncio.gather(*[part.contained(work) for part in parts])


async def _one_by_one(parts: Sequence[_Part], work: Callable[[_Part], Awaitable[None]]) -> None:
    """Do ``work`` for one cache after the other, since nothing may be late before the fault."""
    for part in parts:
        await asyncio.create_task(part.contained(work))


def _prepare(server: RedisServer, parts: Sequence[_Part]) -> None:
    """Put into the store the keys that it has before the fault."""
    with (
        redis.Redis(unix_socket_path=str(server.socket_path)) as client,
        client.pipeline(transaction=False) as pipeline,
    ):
        for part in parts:
            for x in range(part.numbers):
                for command in part.operation.prepared(x):
                    pipeline.execute_command(*command)
        pipeline.execute()


async def _look_into(server: RedisServer, parts: Sequence[_Part]) -> None:
    """Check that the store has no invalidated value, and no lease that nobody holds."""
    for part in parts:
        gone = {part.operation.key(x): old for x in part.words if (old := part.operation.must_be_gone(x)) is not None}
        found = server.cli("MGET", *gone) if gone else []
        for (key, old), value in zip(gone.items(), found, strict=True):
            if value == old.encode():
                part.complain(f"{key} was invalidated, and holds {old} still")
        # The lease of a window holds its generation, for as long as the window stands.
        leases = [lease_key(key) for key in part.keys if server.cli("TYPE", key) != b"list"]
        deadline = time.monotonic() + PATIENCE
        while leases and (held := server.cli("EXISTS", *leases)) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if leases and held:
            part.complain(f"{held} leases are held, and nobody loads")
