"""The parts that the three examples share: the ``--redis`` option, and a table of the outcome of each step."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from cachekit import Cache, configure
from cachekit.errors import ConfigurationError
from cachekit.events import Event, Hit, Invalidated, Missed, StoreFailed
from cachekit.testing import FakeClock

T = TypeVar("T")

STYLES: Final = {
    "hit": "bold green",
    "accepted": "bold green",
    "miss": "bold yellow",
    "invalidated": "bold magenta",
    "expired": "bold magenta",
    "refused": "bold red",
    "no answer": "bold red",
}


class Scene:
    """The cache of an example, which becomes the default cache, and its console.

    Args:
        story: The example's docstring, which ``--help`` prints.
        argv: The arguments, or None for those of the command line.
        clock: Tells the time if the store is ``memory://``; a Redis has its own.
    """

    def __init__(self, story: str | None, argv: Sequence[str] | None, *, clock: FakeClock | None = None) -> None:
        parser = argparse.ArgumentParser(description=story, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--redis", metavar="URL", default="memory://", help="the store (default: memory://)")
        self.url: str = parser.parse_args(argv).redis
        self.on_redis = not self.url.startswith("memory:")
        try:
            self.cache = configure(Cache(self.url, clock=None if self.on_redis else clock))
        except ConfigurationError as error:
            parser.error(str(error))
        self.cache.observe(self._note)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a pipe may lack the letters for bars and boxes
        self.console = Console(highlight=False)
        self.reachable = True
        self.seconds: list[float] = []
        self._events: list[Event] = []
        self._table = Table("step", "outcome", Column("time", justify="right"))

    def title(self, text: str) -> None:
        """Print a heading with the name of the store, without the secrets that its URL may hold."""
        self.console.rule(f"[bold]{text}[/] on {escape(self.address)}")

    @property
    def address(self) -> str:
        """The URL without user, password and options."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def redis_cli(self, command: str) -> str:
        """Return the shell command that sends ``command`` to the server of this scene."""
        where = f"-s {urlsplit(self.url).path}" if self.url.startswith("unix:") else f"-u {self.address}"
        return f"redis-cli {where} {command}"

    async def step(self, what: str, call: Awaitable[T], outcome: Callable[[T], str] | None = None) -> T:
        """Await ``call`` and note a row: the step, its outcome and its time.

        ``outcome`` gets the result. Without it the events of the cache give the outcome: hit, miss, invalidated.
        """
        self._events.clear()
        began = time.perf_counter()
        result = await call
        self.seconds.append(time.perf_counter() - began)
        label = outcome(result) if outcome else self._told()
        self._table.add_row(Text(what), Text(label, STYLES.get(label, "bold")), milliseconds(self.seconds[-1]))
        return result

    def steps(self) -> None:
        """Print the table of the steps so far."""
        self.console.print(self._table)

    def say(self, text: str) -> None:
        """Print a line of running text. It is not wrapped, so that commands in it can be copied."""
        self.console.print(text, soft_wrap=True)

    def _told(self) -> str:
        kinds = {type(event) for event in self._events}
        names = {StoreFailed: "no answer", Hit: "hit", Missed: "miss", Invalidated: "invalidated"}
        return next((name for kind, name in names.items() if kind in kinds), "")

    def _note(self, event: Event) -> None:
        self._events.append(event)
        if isinstance(event, StoreFailed) and self.reachable:
            self.reachable = False
            address = escape(self.address)
            self.say(f"[red]{address} does not answer ({event.cause}).[/] The example goes on without a cache.")


def milliseconds(seconds: float) -> str:
    """Return a duration for people."""
    return f"{1000 * seconds:.2f} ms"
