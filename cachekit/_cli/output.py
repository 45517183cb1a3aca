"""The output of the command: for people by rich, with colours on a terminal alone; for programs one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

STYLES: Final = {
    "ok": "green",
    "warning": "yellow",
    "fault": "bold red",
    "unknown": "cyan",
    "advice": "dim",
    "key": "bold",
}

_INDENT: Final = 29
"""Blanks before advice: it stands below the text of its line."""


class Output:
    """Where a command prints.

    Args:
        as_json: Whether it prints one JSON document and nothing else.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json: bool = as_json
        # A line that is not on a terminal is read by a program: it is not wrapped.
        self._console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._aside = Console(highlight=False, stderr=True, soft_wrap=not sys.stderr.isatty())

    def document(self, content: Any) -> None:
        """Print a JSON document."""
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def say(self, text: str, style: str = "") -> None:
        """Print a line. Nothing in it is taken for markup."""
        self._console.print(Text(text, STYLES.get(style, style)))

    def mention(self, text: str, style: str = "advice") -> None:
        """Print a line beside the output of the command."""
        self._aside.print(Text(text, STYLES.get(style, style)))

    def labelled(self, word: str, name: str, text: str) -> None:
        """Print a line with a word that tells how good it is, and its name."""
        self._console.print(Text.assemble((f"{word:<8}", STYLES.get(word, "")), (f"{name:<20} ", "bold"), text))

    def advise(self, text: str) -> None:
        """Print a line of advice below a labelled one."""
        advice = Text(text, STYLES["advice"])
        if self._console.is_terminal:
            self._console.print(Padding(advice, (0, 0, 0, _INDENT)))
        else:
            self._console.print(Text(" " * _INDENT).append(advice))

    def fact(self, name: str, value: str) -> None:
        """Print a line with a name and its value."""
        self._console.print(Text.assemble((f"{name:<13}", "bold"), value))

    def confirm(self, question: str) -> bool:
        """Ask a person; without a terminal no person is there to answer, and the answer is no."""
        if not sys.stdin.isatty():
            self.mention(f"{question} Nobody can be asked here; write --yes", "warning")
            return False
        self._aside.print(Text(f"{question} [y/N] "), end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @contextmanager
    def progress(self, what: str) -> Generator[Callable[[int], None], None, None]:
        """Show on a terminal how many are done: the function that it gives is called with that number."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"))
        shown = self._aside.is_terminal and not self.as_json
        with Progress(*columns, TimeElapsedColumn(), console=self._aside, transient=True, disable=not shown) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done: bar.update(task, completed=done)
