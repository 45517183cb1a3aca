"""Callers at a fixed rate: the time of each call, and the needs of the process.

    python -m benchmarks.load URL LOOP SCRIPT

This is a process of its own, started by `benchmarks.parts.outage`: neither a progress bar nor the process that hurts
the server takes time from the event loop that is measured. It prints a line of JSON each second, and ends when its
input is closed; its last line is the recording.

The time of a call is that between the two lines around its ``await``, by the monotonic clock. Nothing is subtracted
from it: the decorated function returns a constant, and what that costs undecorated is measured in the same run, with
each 64th call, and told beside. Times of other tasks that ran while a call waited count, since a caller in a
real application meets them too; the heartbeat tells how late the event loop is at worst.

The garbage collector is on, as in an application; all objects before the first call are frozen, so that its pauses do
not grow with the modules that are imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import random
import sys
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from benchmarks.children import loop_factory, tell
from benchmarks.recording import LOADED, SHARED, Recording, Records, held
from benchmarks.work import DOCUMENT, TTL, load
from cachekit import Cache

HOT: Final = 50
"""How many keys most calls are about."""

COLD: Final = 0.05
"""The share of calls about a key that is new."""

BEAT: Final = 0.01
"""Seconds between two heartbeats. The selector rounds each wait up to a millisecond: so much of the lag is its own."""

UNDECORATED: Final = 64
"""One in so many calls is followed by a call of the undecorated function."""

LONGEST: Final = 900.0
"""Seconds after which the load ends, even with its input open."""


@dataclass(frozen=True, slots=True)
class Script:
    """A load.

    Attributes:
        callers: How many call, each after its last call has returned.
        rate: Calls per second in all, evenly spread over the callers and over the second.
        seconds: How long each phase of the outage lasts.
        most: The most calls; the load ends soon after them.
    """

    callers: int
    rate: float
    seconds: int
    most: int


class Load:
    """Callers of one decorated function, until `ending` is set."""

    def __init__(self, script: Script, cache: Cache, tape: Recording) -> None:
        self.script = script
        self.tape = tape
        self.ending = asyncio.Event()
        dice = random.Random(7)
        self._numbers = itertools.cycle([dice.randrange(HOT) if dice.random() >= COLD else None for _ in range(4096)])
        self._cold = itertools.count(HOT)
        self._decorated = cache.cached(key="outage:<number>", ttl=TTL)(load)

    async def warm_up(self) -> None:
        """Store the hot keys, and have everything happen once that happens once."""
        for _ in range(20):
            for number in range(HOT):
                await self._decorated(number)
                await load(number)
        held()

    async def caller(self, due: float) -> None:
        """Call whenever it is time to."""
        tape, decorated, now = self.tape, self._decorated, time.monotonic
        pause = self.script.callers / self.script.rate
        while True:
            await asyncio.sleep(due - now())
            if self.ending.is_set():
                return
            number = self._number()
            kind = SHARED
            began = now()
            try:
                # Not kept: a thousand documents in a thousand callers' hands would be memory, too.
                kind = LOADED if await decorated(number) is DOCUMENT else SHARED
            except Exception as error:
                tape.failed(error, f"a call raised {error!r}")
            ended = now()
            tape.returned(ended, ended - began, kind)
            if not tape.calls % UNDECORATED:
                await self._compare(number)
            if tape.calls >= self.script.most:
                self.ending.set()
            due += pause
            if due < ended:
                # The rate is fixed: missed calls are not made up for in a burst.
                missed = math.ceil((ended - due) / pause)
                tape.skipped += missed
                due += missed * pause

    async def heartbeat(self, due: float) -> None:
        """Note by how much the event loop is late, time and again."""
        while True:
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            self.tape.beats.append(now)
            self.tape.lags.append(now - due)
            due = max(due + BEAT, now)

    async def each_second(self, began: float) -> None:
        """Tell the figures of the last second, once it is over."""
        tape = self.tape
        while True:
            calls = tape.calls
            await asyncio.sleep(began + len(tape.ticks) + 1 - time.monotonic())
            tell(tape.tick(calls))

    def _number(self) -> int:
        """Return the argument of the next call."""
        number = next(self._numbers)
        return next(self._cold) if number is None else number

    async def _compare(self, number: int) -> None:
        began = time.monotonic()
        await load(number)
        self.tape.undecorated.append(time.monotonic() - began)


async def _record(url: str, script: Script) -> Recording:
    tape = Recording()
    # Each caller may be in a call when the last one that counts returns.
    tape.reserve(script.most + script.callers)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: tape.failed(context.get("exception"), context["message"]))
    logging.getLogger("cachekit").addHandler(Records(tape.records))
    logging.getLogger("cachekit").setLevel(logging.INFO)
    async with Cache(url) as cache:
        work = Load(script, cache, tape)
        await work.warm_up()
        cache.observe(tape.observe)
        gc.collect()
        gc.freeze()
        loop.add_reader(sys.stdin.fileno(), work.ending.set)
        tape.began = began = time.monotonic() + 0.1
        callers = [loop.create_task(work.caller(began + n / script.rate)) for n in range(script.callers)]
        others = [loop.create_task(work.heartbeat(began)), loop.create_task(work.each_second(began))]
        await asyncio.sleep(0.05)
        tape.before = held()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(work.ending.wait(), LONGEST)
        loop.remove_reader(sys.stdin.fileno())
        work.ending.set()
        await asyncio.wait(callers, timeout=1.0)
        for task in [*callers, *others]:
            task.cancel()
        for ended in await asyncio.gather(*callers, *others, return_exceptions=True):
            if isinstance(ended, Exception):
                tape.failed(ended, f"the load itself raised {ended!r}")
    tape.close()
    return tape


def main() -> None:
    """Record the load that the command line describes."""
    url, loop, script = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        tell(runner.run(_record(url, msgspec.json.decode(script, type=Script))))


if __name__ == "__main__":
    main()
