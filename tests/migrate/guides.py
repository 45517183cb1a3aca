"""Reads the guides in docs/migrate, and runs their programs.

A guide holds several programs, in blocks between its text. A comment above each block says to which it belongs::

    <!-- source -->         stands at the beginning of every program, and has a list `loads`
    <!-- there -->          the program with the other library
    <!-- here -->           the program with cachekit
    <!-- both -->           both of these programs: a function `main`, which runs at once
    <!-- beside -->         a program of its own, with both libraries: a function `main`, which runs at once
    <!-- prints -->         the output of the `main` above; `there prints` and `here prints` where the two differ

Forges and Sphinx show the blocks and hide the comments.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

from cachekit import default_cache
from tests import ROOT
from tests.kit.waiting import PATIENCE

FOLDER: Final = ROOT / "docs" / "migrate"

_BLOCK: Final = re.compile(r"^<!-- ([a-z ]+) -->\n```(?:python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE_SPAN: Final = re.compile(r"`([^`]+)`")
_PATIENT: Final = "setup('redis://127.0.0.1:{port}/0', socket_timeout=20)"
"""In place of the one second of cashews, which a busy machine may take: the call would go on uncached, and load."""

_CODE: Final = {"source", "there", "here", "both", "beside"}
_MAINS: Final = {"both": {"there", "here"}, "beside": {"beside"}}
_OUTPUTS: Final = {"prints": {"there", "here", "beside"}, "there prints": {"there"}, "here prints": {"here"}}


class GuideError(Exception):
    """A guide is not written as it has to be."""


class Block(NamedTuple):
    """A block of a guide: the comment above it, its text, and the line of the page on which it begins."""

    role: str
    text: str
    line: int


class Output(NamedTuple):
    """What one `main` prints: the line of the page on which that stands, the program, and the text."""

    line: int
    who: str
    text: str


class Guide:
    """A guide of docs/migrate."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self._text = page.read_text(encoding="utf-8")
        self.blocks = [
            Block(found[1], found[2], self._text.count("\n", 0, found.start(2)) + 1)
            for found in _BLOCK.finditer(self._text)
        ]
        if sum(block.role in _CODE for block in self.blocks) != self._text.count("\n```python\n"):
            message = f"{page.name}: above each block of Python stands a comment, such as <!-- here -->"
            raise GuideError(message)

    @property
    def other(self) -> tuple[str, str]:
        """The other library and its version, as the page names them."""
        found = re.search(r"The examples ran with ([\w-]+) (\d+\.\d+\.\d+)", self._text)
        if found is None:
            message = f"{self.page.name} does not say with which version its examples ran"
            raise GuideError(message)
        return found[1], found[2]

    def cleared(self) -> list[str]:
        """Return the prefixes that the page removes with `cachekit clear`."""
        return sorted({*re.findall(r"cachekit clear --prefix ([^\s`]+)", self._text)})

    def tabled(self) -> set[str]:
        """Return the words in the code of all tables."""
        rows = [line for line in self._text.splitlines() if line.startswith("|")]
        return {word for row in rows for code in _CODE_SPAN.findall(row) for word in re.findall(r"\w+", code)}

    def programs(self) -> Iterator[tuple[str, list[Block]]]:
        """Yield each program: its name and its blocks, in order."""
        for who in ("there", "here"):
            yield who, [block for block in self.blocks if block.role in {"source", "both", who}]
        source = [block for block in self.blocks if block.role == "source"]
        for block in self.blocks:
            if block.role == "beside":
                yield "beside", [*source, block]

    def outputs(self) -> Iterator[Output]:
        """Yield what each `main` prints, as the page says.

        Raises:
            GuideError: There is no output below a `main`.
        """
        line, waiting = 0, set[str]()
        for block in [*self.blocks, Block("both", "", 0)]:
            if block.role in _MAINS:
                if waiting:
                    message = f"{self.page.name}, line {line}: no output of {' and '.join(sorted(waiting))} below it"
                    raise GuideError(message)
                line, waiting = block.line, {*_MAINS[block.role]}
            for who in sorted(waiting & _OUTPUTS.get(block.role, set())):
                waiting.remove(who)
                yield Output(line, who, block.text)

    def shared(self) -> set[int]:
        """Return the lines of the `main` whose output is one for both sides."""
        seen = [(output.line, output.text) for output in self.outputs() if output.who != "beside"]
        return {line for line, text in seen if seen.count((line, text)) == len(_MAINS["both"])}


class Loads(list[object]):
    """The list of a source, which knows how much was ever appended to it."""

    total = 0

    def append(self, load: object, /) -> None:
        """Note a load."""
        self.total += 1
        super().append(load)


class Program:
    """A program of a guide, in a module of its own, on the server at ``port``.

    Attributes:
        outputs: What each `main` has printed so far.
        loads: How often each `main` asked the source, by its line.
    """

    def __init__(self, page: Path, who: str, port: int) -> None:
        self._page = page
        self._who = who
        self._port = port
        # It has a name that can be imported, since some libraries pickle its classes.
        self._module = ModuleType(f"{page.stem.replace('-', '_')}_{who}")
        self.outputs: list[Output] = []
        self.loads: dict[int, int] = {}

    def run(self, blocks: list[Block]) -> None:
        """Run ``blocks``, each `main` included, and close what they opened."""
        with asyncio.Runner() as runner, self._imported(), warnings.catch_warnings():
            if self._who != "here":
                # What another library does with its own dependencies is no mistake of ours.
                warnings.simplefilter("ignore", DeprecationWarning)
            try:
                for block in blocks:
                    self._define(block)
                    if block.role in _MAINS:
                        self._run_main(block, runner)
            finally:
                runner.run(self._close())

    def _define(self, block: Block) -> None:
        source = block.text.replace('setup("redis://localhost:6379/0")', _PATIENT.format(port=self._port))
        source = source.replace("localhost", "127.0.0.1").replace("6379", str(self._port))
        # Tracebacks have the lines of the page.
        code = compile("\n" * (block.line - 1) + source, str(self._page), "exec", dont_inherit=True)
        exec(code, vars(self._module))
        if block.role == "source":
            vars(self._module)["loads"] = Loads()

    def _run_main(self, block: Block, runner: asyncio.Runner) -> None:
        loads, before = vars(self._module)["loads"], vars(self._module)["loads"].total
        printed = io.StringIO()
        with redirect_stdout(printed):
            done = vars(self._module)["main"]()
            if inspect.iscoroutine(done):
                # A guide that is wrong may wait for a load that never begins.
                runner.run(asyncio.wait_for(done, PATIENCE))
        self.outputs.append(Output(block.line, self._who, printed.getvalue()))
        self.loads[block.line] = loads.total - before

    async def _close(self) -> None:
        """Close clients, caches, and the caches that decorated functions have."""
        for value in [default_cache(), *vars(self._module).values()]:
            for opened in (value, getattr(value, "cache", None)):
                close = getattr(opened, "aclose", None) or getattr(opened, "close", None)
                if inspect.iscoroutinefunction(close) and not isinstance(opened, type):
                    await close()

    @contextmanager
    def _imported(self) -> Iterator[None]:
        sys.modules[self._module.__name__] = self._module
        try:
            yield
        finally:
            del sys.modules[self._module.__name__]
