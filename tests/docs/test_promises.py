"""The figures in docs/promises.md stand on the pages that it links; every page names tests and commands that exist."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import cachekit
from benchmarks.__main__ import PARTS
from benchmarks.questions import all_questions
from tests import ROOT
from tests.language import pages
from tests.models.__main__ import PROTOCOLS

PAGE = ROOT / "docs" / "promises.md"
PACKAGE = Path(cachekit.__file__).parent
OURS = {"benchmarks", "cachekit", "docs", "examples", "tests"}
WORDS = {"benchmarks": {*PARTS, *(question.name for question in all_questions())}, "tests.models": {*PROTOCOLS}}
"""The words that a command of ours takes, besides its options."""
MADE = {"benchmarks/results", "docs/_build/html"}
"""Folders that a command makes."""

SECTIONS = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
FIGURE = re.compile(r"^\*\*Figure\*\*: (.+?)\(`([^`]+)`,\s\[[\w.]+\]\(([\w.]+)\)\)\.$", re.MULTILINE | re.DOTALL)
"""What was found, by which command, and on which page it stands."""
NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")


def title(section: str) -> str:
    return section.partition("\n")[0]


@functools.cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of all functions in a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def place(name: str) -> Path:
    """Return where a file of the project is: the package may be the installed one."""
    return PACKAGE.parent / name if name.startswith("cachekit/") else ROOT / name


def missing_tests(text: str) -> list[str]:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    return [f"{path}::{test}" for path, test in named if not place(path).exists() or test not in functions(place(path))]


def missing_files(text: str) -> list[str]:
    named = re.findall(rf"`((?:{'|'.join(OURS)}|\.ci)/[\w/.-]*\w)", text)
    return [name for name in named if not place(name).exists() and name not in MADE]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind each ``python -m``, except a name that stands for any, such as ``examples.NAME``."""
    for command in re.findall(r"(?<![\w.])python -m ([a-z0-9_.]+(?![\w.])[^`|\n]*)", text):
        yield shlex.split(command.removesuffix("\\").removesuffix("-->"), comments=True)


@functools.cache
def help_of(module: str) -> str:
    """Return what a command of ours says about its options."""
    command = [sys.executable, "-m", module, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def wrong_words(module: str, *words: str) -> list[str]:
    """Return the words of a command that it does not know."""
    if module == "pytest":
        return [word for word in words if word.startswith("tests/") and not place(word).exists()]
    if module.partition(".")[0] not in OURS:
        return []
    found = find_spec(module)
    if found is None or (found.submodule_search_locations and find_spec(f"{module}.__main__") is None):
        return [module]
    options = [word for word in words if word.startswith("--") and word not in help_of(module)]
    names = [word for word in words if re.fullmatch(r"[a-z][\w-]*", word)] if module in WORDS else []
    taken = WORDS.get(module, {""}) | {"uvloop", "same", "apart"}
    return options + [name for name in names if name not in taken]


def lacking_figure(found: str, page: str) -> bool:
    """Tell whether no paragraph or table of ``page`` has all numbers of a figure."""
    numbers = {*NUMBER.findall(re.sub(r"`[^`]*`", "", found))}
    blocks = (ROOT / "docs" / page).read_text(encoding="utf-8").split("\n\n")
    return not numbers or not any(numbers <= {*NUMBER.findall(block)} for block in blocks)


def test_each_promise_has_tests_a_command_and_a_figure() -> None:
    assert [title(section).partition(".")[0] for section in SECTIONS] == [str(number) for number in range(1, 15)]
    for section in SECTIONS:
        assert section.count("::test_") >= 3, title(section)
        assert section.count("**Command**: ") == 1, title(section)
        assert section.count("**Figure**: ") == len(FIGURE.findall(section)) >= 1, title(section)


@pytest.mark.parametrize("section", SECTIONS, ids=title)
def test_each_figure_of_a_promise_stands_on_its_page(section: str) -> None:
    assert [found for found, _, page in FIGURE.findall(section) if lacking_figure(found, page)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_tests_and_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert missing_tests(text) + missing_files(text) == []


def test_the_pages_name_commands_that_exist_and_words_that_they_know() -> None:
    wrong = {
        (page.name, " ".join(words)): found
        for page in pages()
        for words in commands(page.read_text(encoding="utf-8"))
        if (found := wrong_words(*words))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "`tests/docs/test_promises.py::test_that_was_renamed`",
            ["tests/docs/test_promises.py::test_that_was_renamed"],
        ),
        ("`tests/docs/test_gone.py::test_of_it`", ["tests/docs/test_gone.py::test_of_it", "tests/docs/test_gone.py"]),
        ("see `cachekit/gone.py` and `cachekit/entry.py`", ["cachekit/gone.py"]),
    ],
)
def test_a_name_that_is_gone_is_found(text: str, found: list[str]) -> None:
    assert missing_tests(text) + missing_files(text) == found


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python -m tests.gone", ["tests.gone"]),
        ("python -m tests.kit", ["tests.kit"]),
        ("python -m benchmarks targets gone --only hit --only hits", ["gone", "hits"]),
        ("python -m tests.consistency --minutes 10 --gone  # for long", ["--gone"]),
        ("python -m tests.models batch bunch", ["bunch"]),
        ("python -m pytest tests/gone.py -k cancel", ["tests/gone.py"]),
    ],
)
def test_a_command_that_is_gone_is_found(command: str, found: list[str]) -> None:
    [words] = commands(f"Run `{command}`.")
    assert wrong_words(*words) == found


def test_a_figure_that_its_page_lacks_is_found() -> None:
    assert not lacking_figure("163,188 reads checked, 0 violations", "consistency.md")
    assert lacking_figure("163,189 reads checked, 0 violations", "consistency.md")
    assert lacking_figure("163,188 reads and 135,704 reads", "consistency.md"), "they stand in two tables"
