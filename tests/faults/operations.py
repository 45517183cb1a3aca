"""The operations as data: how each uses a cache, the results that it has, and the results that it must never have.

Every operation has keys of its own behind a prefix of its own, so that no operation sees the work of another. A value
names the version of its source: an invalidated version must never be seen again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import ClassVar, Final, TypeAlias

from cachekit import MISS, Cache, SnapshotStore
from cachekit.clock import Clock
from cachekit.events import BreakerOpened, Event, Filled, StoreFailed

Command: TypeAlias = tuple[str | int, ...]

TTL_MS: Final = 600_000
AT_A_TIME: Final = 50
"""Loads that are begun together."""

WRITERS: Final = 40
"""Users who have snapshots."""

# The results of operations, each in a word or two.
HIT, FILLED, OWN_RESULT = "hit", "own result, filled", "own result"
ACKNOWLEDGED, KEPT = "acknowledged", "own result, kept"
VALUE, NO_VALUE, DEFAULT = "value", "MISS", "default"
TRUE, FALSE = "True", "False"
LIST, EMPTY = "list", "[]"


class WrongError(Exception):
    """An operation had a result that it must never have: a wrong value, or an invalidated one."""


class Subject:
    """A cache, and an application that uses it.

    Args:
        url: The URL of the cache.
        prefix: The prefix of all its keys.
        timeout: The cache's option.
        clock: The cache's option.
        lease: The option of its functions.
    """

    def __init__(self, url: str, prefix: str, timeout: float, clock: Clock, lease: float) -> None:
        self.cache = Cache(url, prefix=prefix, timeout=timeout, clock=clock)
        self.prefix = prefix
        self.snapshots = SnapshotStore(self.cache)
        self.runs = 0
        self.failures: list[StoreFailed] = []
        self.failed_at: dict[str, list[float]] = {}
        self.filled: set[str] = set()
        self.opened = False
        self.ended: dict[int, float] = {}
        self._versions: dict[int, int] = {}
        self._gates: dict[int, asyncio.Event] = {}

        @self.cache.cached(key="value:<x>", ttl=600, lease=lease)
        async def value(x: int) -> list[int]:
            self.runs += 1
            return [x, self.version(x)]

        @self.cache.invalidates("value:<x>")
        async def write(x: int) -> str:
            self._versions[x] = self.version(x) + 1
            return "written"

        @self.cache.cached(key="slow:<x>", ttl=600, lease=lease)
        async def slow(x: int) -> list[int]:
            self.runs += 1
            await self._gate(x).wait()
            self.ended[x] = time.perf_counter()
            return [x, self.version(x)]

        self.value = value
        self.write = write
        self.slow = slow
        self.look_away: Callable[[], None] = self.cache.observe(self._note)

    def version(self, x: int) -> int:
        """Return the version of ``x`` in its source; the first is 1."""
        return self._versions.get(x, 1)

    def finish(self, x: int) -> None:
        """Let ``slow(x)`` come to its end."""
        self._gate(x).set()

    def _gate(self, x: int) -> asyncio.Event:
        return self._gates.setdefault(x, asyncio.Event())

    def look_again(self) -> None:
        """Note events again, after `look_away`."""
        self.look_away = self.cache.observe(self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, StoreFailed):
            self.failures.append(event)
            self.failed_at.setdefault(event.cause, []).append(time.perf_counter())
        elif isinstance(event, Filled):
            self.filled.add(event.key)
        elif isinstance(event, BreakerOpened):
            self.opened = True

    async def connect(self) -> None:
        """Have the cache connect, and the server know its scripts."""
        await self.value(-1)

    async def result(self, x: int) -> str:
        """Call the decorated function, and return where its result came from.

        Raises:
            WrongError: The result is not the one that the function itself would return.
        """
        runs = self.runs
        found = await self.value(x)
        if found != [x, self.version(x)]:
            raise WrongError(f"value({x}) gave {found}, and the version is {self.version(x)}")
        if self.runs == runs:
            return HIT
        return FILLED if self.value.key(x) in self.filled else OWN_RESULT


class Operation:
    """One operation on one cache, called with one number after the other.

    Args:
        subject: The cache, and the application that uses it.
    """

    name: ClassVar[str]
    """A column of the table."""
    what: ClassVar[str]
    """The call, in words."""
    served: ClassVar[str]
    """Its result when it is served."""
    left_out: ClassVar[str]
    """Its result when it is not served."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def key(self, x: int) -> str:
        """Return the key that it uses, with the prefix."""
        return f"{self.subject.prefix}value:{x}"

    def prepared(self, x: int) -> Iterator[Command]:
        """Yield the commands that put into the store the keys that it has before the fault."""
        yield ("SET", self.key(x), _json([x, 1]), "PX", TTL_MS)

    async def begin(self, numbers: int) -> None:
        """Begin, before the fault, the work that `call` is to end, for each number below ``numbers``."""

    async def call(self, x: int) -> str:
        """Do it once, and return its result.

        Raises:
            WrongError: It had a result that it must never have.
        """
        raise NotImplementedError

    def added(self, x: int, began: float, ended: float) -> float:
        """Return the seconds that the cache added to a call that took from ``began`` to ``ended``."""
        return ended - began

    async def at_once(self, x: int) -> None:
        """Check the promises that must hold as soon as `call` has returned, under any fault.

        Raises:
            WrongError: One does not hold.
        """

    async def afterwards(self, x: int, word: str) -> None:
        """Check the promises that must hold when all is well again, after `call` had the result ``word``.

        Raises:
            WrongError: One does not hold.
        """

    def must_be_gone(self, x: int) -> str | None:
        """Return the value that must not stand at the key when all is well again."""
        return None

    async def end(self) -> None:
        """End the work that was begun and not called."""


class Hit(Operation):
    name, what, served, left_out = "hit", "a decorated function whose result is cached", HIT, OWN_RESULT

    async def call(self, x: int) -> str:
        return await self.subject.result(x)

    async def afterwards(self, x: int, word: str) -> None:
        await self.subject.result(x)


class MissAndFill(Operation):
    name, what, served, left_out = "miss", "a decorated function whose result is not cached", FILLED, OWN_RESULT

    def prepared(self, x: int) -> Iterator[Command]:
        yield from ()

    async def call(self, x: int) -> str:
        return await self.subject.result(x)

    async def afterwards(self, x: int, word: str) -> None:
        await self.subject.result(x)


class LoadUnderWay(Operation):
    name, what = "load under way", "a decorated function that was running when the fault came, from its end on"
    served, left_out = FILLED, OWN_RESULT

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._loads: dict[int, asyncio.Task[str]] = {}
        self._begun = 0
        self._returned: dict[int, float] = {}

    def key(self, x: int) -> str:
        return f"{self.subject.prefix}slow:{x}"

    def prepared(self, x: int) -> Iterator[Command]:
        yield from ()

    async def begin(self, numbers: int) -> None:
        self._begun = numbers
        for x in range(numbers):
            self._loads[x] = asyncio.create_task(self._load(x))
            # A few at a time, so that each has its lease in good time.
            while x - self.subject.runs > AT_A_TIME:
                await asyncio.sleep(0.001)
        while self.subject.runs < numbers:
            await asyncio.sleep(0.001)

    async def _load(self, x: int) -> str:
        found = await self.subject.slow(x)
        self._returned[x] = time.perf_counter()
        if found != [x, 1]:
            raise WrongError(f"slow({x}) gave {found}")
        return FILLED if f"slow:{x}" in self.subject.filled else OWN_RESULT

    async def call(self, x: int) -> str:
        self.subject.finish(x)
        loading = self._loads.pop(x, None)
        return await (self._load(x) if loading is None else loading)

    def added(self, x: int, began: float, ended: float) -> float:
        # It counts from the end of the function until the caller has its result.
        return self._returned[x] - (self.subject.ended[x] if x < self._begun else began)

    async def afterwards(self, x: int, word: str) -> None:
        await self.call(x)

    async def end(self) -> None:
        for x, loading in self._loads.items():
            self.subject.finish(x)
            await loading


class Invalidates(Operation):
    name, what, served, left_out = "invalidates", "a function under `@invalidates`", ACKNOWLEDGED, KEPT

    async def call(self, x: int) -> str:
        if await self.subject.write(x) != "written":
            raise WrongError(f"write({x}) did not give its own result")
        return KEPT if self.subject.cache.runtime.coherence.journal.holds(f"value:{x}") else ACKNOWLEDGED

    async def at_once(self, x: int) -> None:
        await self.subject.result(x)

    async def afterwards(self, x: int, word: str) -> None:
        await self.subject.result(x)

    def must_be_gone(self, x: int) -> str | None:
        return _json([x, self.subject.version(x) - 1])


class Take(Operation):
    name, what, served, left_out = "take", "`.take()` of a decorated function", VALUE, NO_VALUE

    async def call(self, x: int) -> str:
        taken = await self.subject.value.take(x)
        if taken is MISS:
            return NO_VALUE
        if taken != [x, 1]:
            raise WrongError(f"take({x}) gave {taken}")
        return VALUE

    async def afterwards(self, x: int, word: str) -> None:
        if await self.call(x) == VALUE == word:
            raise WrongError(f"take({x}) gave its value twice")


class Get(Operation):
    name, what, served, left_out = "get", "`cache.get()`", VALUE, DEFAULT

    async def call(self, x: int) -> str:
        found = await self.subject.cache.get(f"value:{x}", DEFAULT)
        if found == [x, 1]:
            return VALUE
        if found != DEFAULT:
            raise WrongError(f"get({x}) gave {found}")
        return DEFAULT

    async def afterwards(self, x: int, word: str) -> None:
        await self.call(x)


class Set(Operation):
    name, what, served, left_out = "set", "`cache.set()`", TRUE, FALSE

    async def call(self, x: int) -> str:
        return str(await self.subject.cache.set(f"value:{x}", [x, 2], ttl=600))

    async def afterwards(self, x: int, word: str) -> None:
        found = await self.subject.cache.get(f"value:{x}")
        if found not in ([[x, 2]] if word == TRUE else [None, [x, 1], [x, 2]]):
            raise WrongError(f"get({x}) gave {found} after set had said {word}")


class Delete(Operation):
    name, what, served, left_out = "delete", "`cache.delete()`", TRUE, FALSE

    async def call(self, x: int) -> str:
        return str(await self.subject.cache.delete(f"value:{x}"))

    async def at_once(self, x: int) -> None:
        found = await self.subject.cache.get(f"value:{x}")
        if found is not None:
            raise WrongError(f"get({x}) gave {found} after delete")

    async def afterwards(self, x: int, word: str) -> None:
        await self.at_once(x)

    def must_be_gone(self, x: int) -> str | None:
        return _json([x, 1])


class Save(Operation):
    name, what, served, left_out = "snapshot save", "`save_snapshot()`", TRUE, FALSE

    def key(self, x: int) -> str:
        return f"{self.subject.prefix}snapshots:{x % WRITERS}"

    def prepared(self, x: int) -> Iterator[Command]:
        yield from ()

    async def call(self, x: int) -> str:
        return str(await self.subject.snapshots.save_snapshot(x % WRITERS, f"text {x}", x))

    async def afterwards(self, x: int, word: str) -> None:
        found = await self.subject.snapshots.get_recent_snapshots(x % WRITERS, 50)
        texts = [snapshot.text for snapshot in found]
        if any(snapshot.text != f"text {snapshot.word_count}" for snapshot in found) or len(texts) > len({*texts}):
            raise WrongError(f"the snapshots of {x % WRITERS} are not those that were saved")
        if word == TRUE and f"text {x}" not in texts:
            raise WrongError(f"snapshot {x} is not there, though it was confirmed")


class Read(Operation):
    name, what, served, left_out = "snapshot read", "`get_recent_snapshots()`", LIST, EMPTY

    def key(self, x: int) -> str:
        return f"{self.subject.prefix}snapshots:{x % WRITERS}"

    def prepared(self, x: int) -> Iterator[Command]:
        if x < WRITERS:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            for text in ("first", "second"):
                yield ("LPUSH", self.key(x), _json({"text": text, "word_count": 1, "timestamp": now}))

    async def call(self, x: int) -> str:
        found = await self.subject.snapshots.get_recent_snapshots(x % WRITERS)
        if not found:
            return EMPTY
        if [snapshot.text for snapshot in found] != ["second", "first"]:
            raise WrongError(f"the snapshots of {x % WRITERS} are not those that were saved")
        return LIST

    async def afterwards(self, x: int, word: str) -> None:
        await self.call(x)


OPERATIONS: Final[tuple[type[Operation], ...]] = (
    Hit,
    MissAndFill,
    LoadUnderWay,
    Invalidates,
    Take,
    Get,
    Set,
    Delete,
    Save,
    Read,
)
NAMES: Final = frozenset(operation.name for operation in OPERATIONS)
READS: Final = frozenset({Hit.name, Get.name, Read.name})


def _json(value: object) -> str:
    """Return ``value`` as it stands in Redis."""
    return json.dumps(value, separators=(",", ":"))
