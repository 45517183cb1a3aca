"""A source that is slow, then dies, then comes back: what callers get, with and without each option.

Run it:

    python -m examples.slow_source [--redis redis://localhost:6379/0]

It needs no server: without --redis it is in memory.

Five functions cache the price of one thing for 0.8 seconds. They differ in their options. The source takes 100 ms at
first, then two seconds, then it raises, then it is well again. Callers ask every 20 ms. The table says for each
function how many calls were answered at once (in 50 ms), how many had to wait, how many failed, and how often the
source was asked. With `refresh_ahead` or `stale_while_revalidate` no caller waits while the source is well; with
`stale_if_error` none fails while it is dead; with `soft_timeout` none waits while it is slow.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from cachekit import Cache
from examples._console import Scene

PHASES: Final = {"well": 0.1, "slow": 2.0, "dead": None, "well again": 0.1}
"""The seconds that the source takes; None: it raises."""

LASTS: Final = 2.0
"""Seconds of a phase."""

EVERY: Final = 0.02
AT_ONCE: Final = 0.05

OPTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "no option": {},
    "stale_while_revalidate": {"stale_while_revalidate": 0.5},
    'refresh_ahead="auto"': {"refresh_ahead": "auto"},
    "stale_if_error": {"stale_if_error": "1h", "retry_after": 0.5},
    "all of them, and soft_timeout": {
        "stale_while_revalidate": 0.5,
        "refresh_ahead": "auto",
        "stale_if_error": "1h",
        "retry_after": 0.5,
        "soft_timeout": 0.03,
    },
}


class Source:
    """A source that can be slow or dead, and counts how often each function asks it."""

    def __init__(self) -> None:
        self.takes: float | None = 0.0
        self.asked: Counter[str] = Counter()

    async def price(self, name: str) -> int:
        """Return the price, after the time that the source takes.

        Raises:
            ConnectionError: It is dead.
        """
        self.asked[name] += 1
        if self.takes is None:
            message = "the source is dead"
            raise ConnectionError(message)
        await asyncio.sleep(self.takes)
        return 42


def decorated(cache: Cache, source: Source, name: str, options: dict[str, Any]) -> Callable[[], Awaitable[int]]:
    """Return a function that caches the price under a key of its own."""

    @cache.cached(key="price:<name>", ttl=0.8, **options)
    async def price(name: str) -> int:
        return await source.price(name)

    return lambda: price(name)


async def call(function: Callable[[], Awaitable[int]], outcomes: Counter[str]) -> None:
    """Call once, and count how it went."""
    began = time.perf_counter()
    try:
        await function()
    except ConnectionError:
        outcomes["failed"] += 1
    else:
        outcomes["at once" if time.perf_counter() - began < AT_ONCE else "waited"] += 1


async def watch(cache: Cache, lasts: float) -> dict[tuple[str, str], Counter[str]]:
    """Let the source go through its phases. Return what the callers of each function got in each."""
    source = Source()
    source.takes = PHASES["well"]
    functions = {name: decorated(cache, source, name, options) for name, options in OPTIONS.items()}
    await asyncio.gather(*[function() for function in functions.values()])
    found: dict[tuple[str, str], Counter[str]] = {}
    for phase, takes in PHASES.items():
        source.takes = takes
        before = Counter(source.asked)
        outcomes = {name: found.setdefault((phase, name), Counter()) for name in functions}
        calls: list[asyncio.Task[None]] = []
        ends = time.monotonic() + lasts
        while time.monotonic() < ends:
            calls += [asyncio.create_task(call(function, outcomes[name])) for name, function in functions.items()]
            await asyncio.sleep(EVERY)
        for name in functions:
            outcomes[name]["asked"] = source.asked[name] - before[name]
        await asyncio.gather(*calls)
    return found


def shown(found: Mapping[tuple[str, str], Counter[str]]) -> Table:
    """Return the table of what callers got."""
    table = Table("source", "option", "at once", "waited", "failed", "source asked", title="What callers get")
    for phase in PHASES:
        for name in OPTIONS:
            counts = found[phase, name]
            failed = f"[bold red]{counts['failed']}[/]" if counts["failed"] else "0"
            table.add_row(phase, name, f"{counts['at once']}", f"{counts['waited']}", failed, f"{counts['asked']}")
        table.add_section()
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example with ``argv``, or with the arguments of the command line."""
    scene = Scene(__doc__, argv)

    async def run() -> None:
        async with scene.cache as cache:
            scene.console.print(shown(await watch(cache, LASTS)))

    asyncio.run(run())


if __name__ == "__main__":
    main()
