"""``python -m tests.language``: reads the sentences of the pages and docstrings, and names those that are hard to read.

Many readers have another first language. `language.toml` beside this file has the rules: each is a pattern, with the
advice that is shown, and one sentence that it finds. proselint adds its own: words that are repeated, redundant, old or
confused, and phrases that are worn out. Code, in blocks or between backticks, is not read.

vale is not used: its wheel is a script that fetches the program when it first runs, and it reads no docstring.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from proselint.checks import __register__ as proselint_checks
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

import cachekit
from tests import ROOT

PACKAGE: Final = Path(cachekit.__file__).parent
"""Not below ``ROOT`` where the installed wheel is tested."""
RULES_FILE: Final = Path(__file__).with_suffix(".toml")
MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
CODE: Final = "`…`"
"""Stands in a sentence for code."""
END: Final = re.compile(r"(?<=[.!?])[)\"'*_]*\s+(?=[\"'(*_]*(?:[A-Z0-9`…]|[\w-]+\.md))")
"""The end of a sentence."""
LABELS: Final = {"h1", "h2", "h3", "h4", "td", "th"}
"""The elements of a page in which no whole sentence is needed."""
NO_TEXT: Final = re.compile(r"^\s*$|^\s*\w+:$|\S {2,}\S|[├└]")
"""A line of a docstring between paragraphs: empty, the name of a section, or a part of a table or a tree."""
ITEM: Final = re.compile(r" {4}[\w*`][\w*`, .]*: ")
"""A line of a docstring with which the description of a parameter begins."""
DIRECTIVE: Final = re.compile(r"^:{3,}.*$|^:\w+:.*$", re.MULTILINE)
"""A line of a page that is for Sphinx."""
ABBREVIATED: Final = re.compile(r"\b(e\.g|i\.e|vs|etc|No)\.$")
PROSELINT: Final = Config(
    max_errors=sys.maxsize,
    # Left out: curly quotes; "But" at the beginning of a paragraph; "more than" before "all"; and old words, of which
    # proselint finds one in "for every". `language.toml` has a rule for them.
    checks={"misc.but": False, "misc.illogic": False, **DEFAULT["checks"], "typography": False, "archaism": False},
)
"""A name with a dot has to stand before the name before its dot: the first that fits decides."""
CheckRegistry().register_many(proselint_checks)


class Rule(NamedTuple):
    """A pattern of words that are hard to read.

    Attributes:
        name: Its name.
        pattern: Finds it, in a sentence.
        advice: What to write in its place.
        finds: A sentence in which it is found.
        passes: The same sentence in better words.
    """

    name: str
    pattern: re.Pattern[str]
    advice: str
    finds: str
    passes: str


class Sentence(NamedTuple):
    """A sentence, the path of its file, the line in which it begins, and whether it is a label: no verb is needed."""

    path: Path
    line: int
    text: str
    label: bool


class Finding(NamedTuple):
    """A sentence that is hard to read, with the advice of a rule."""

    sentence: Sentence
    advice: str

    def __str__(self) -> str:
        """Return one line, such as an editor can follow."""
        path, line, text, _ = self.sentence
        place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        return f"{place}:{line}: {self.advice}: {' '.join(text.split())}"


def read_rules(path: Path = RULES_FILE) -> tuple[list[Rule], int]:
    """Return the rules, and how many words a sentence has at most."""
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    rules = [
        Rule(name, re.compile(pattern, re.IGNORECASE | re.VERBOSE | re.DOTALL), **rule)
        for name, rule in read["rules"].items()
        if (pattern := rule.pop("pattern"))
    ]
    return rules, read["longest"]


def pages() -> list[Path]:
    """Return all pages, without the copies in a site that was built."""
    below = [path for folder in ("docs", "examples") for path in sorted((ROOT / folder).rglob("*.md"))]
    written = [path for path in below if "_build" not in path.parts]
    return [*sorted(ROOT.glob("*.md")), ROOT / "tests" / "README.md", *written]


def sources() -> Iterator[Path]:
    """Yield the pages and the modules whose sentences are read."""
    yield from pages()
    for modules in (PACKAGE, ROOT / "benchmarks", ROOT / "docs", ROOT / "examples"):
        yield from sorted(modules.rglob("*.py"))


def sentences(path: Path) -> Iterator[Sentence]:
    """Yield the sentences of a page, or those of the docstrings of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from _of_markdown(path, text, first=1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for line, label, paragraph in _paragraphs(inspect.cleandoc(node.value.value)):
                for number, sentence in enumerate(_of_markdown(path, paragraph, first=node.lineno + line)):
                    yield sentence._replace(label=label and number == 0)


def _paragraphs(docstring: str) -> Iterator[tuple[int, bool, str]]:
    """Yield the paragraphs of a docstring, without its code and tables.

    Before each stand its first line, as a number, and whether it begins with a label, as the docstring itself does, and
    the description of a parameter.
    """
    lines, example = docstring.splitlines(), False
    begin, words = 0, list[str]()
    for number, line in enumerate([*lines, ""]):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        passed_over = example or bool(NO_TEXT.search(line))
        if (passed_over or ITEM.match(line)) and words:
            yield begin, begin == 0 or lines[begin].startswith("    "), "\n".join(words)
            words = []
        if not passed_over:
            begin = number if not words else begin
            words.append(line.strip())


def _of_markdown(path: Path, text: str, *, first: int) -> Iterator[Sentence]:
    around: list[str] = []
    for token in MARKDOWN.parse(text):
        around = [*around, token.tag] if token.nesting == 1 else around[: len(around) + token.nesting]
        if token.type == "inline" and token.map is not None:
            label = around[-1] in LABELS
            words = DIRECTIVE.sub("", _plain(token.children or []))
            yield from _split(Sentence(path, first + token.map[0], words, label))


def _plain(tokens: Sequence[Token]) -> str:
    """Return the words of a paragraph, with its line ends, and without links, emphasis and code."""
    words = {"code_inline": CODE, "softbreak": "\n", "hardbreak": "\n", "html_inline": ""}
    return "".join(words.get(token.type, token.content) for token in tokens)


def _split(whole: Sentence) -> Iterator[Sentence]:
    begin, text = 0, whole.text
    ends = [end for end in END.finditer(text) if not ABBREVIATED.search(text[: end.start()])]
    for start, stop in [*((end.start(), end.end()) for end in ends), (len(text), len(text))]:
        yield whole._replace(line=whole.line + text.count("\n", 0, begin), text=text[begin:start])
        begin = stop


def length(sentence: Sentence) -> int:
    """Return how many words a sentence has."""
    return sum(bool(re.search(r"\w|…", word)) for word in sentence.text.split())


def judge(sentence: Sentence, rules: Sequence[Rule], longest: int) -> Iterator[Finding]:
    """Yield what is found in a sentence. A label may begin with a question word."""
    for rule in rules:
        if (found := rule.pattern.search(sentence.text)) and not (sentence.label and rule.name == "what"):
            yield Finding(sentence, f'"{" ".join(found[0].split())}": {rule.advice}')
    if (words := length(sentence)) > longest:
        yield Finding(sentence, f"{words} words, {longest} at most: make two sentences")


def ask_proselint(read: Sequence[Sentence]) -> Iterator[Finding]:
    """Yield what proselint finds in the sentences of a file."""
    # A sentence is a line, with a number before it: its last word and the first word of the next are not a repetition.
    lines = [line for number, sentence in enumerate(read) for line in (f"({number})", " ".join(sentence.text.split()))]
    for result in LintFile("sentences", "\n".join(lines)).lint(PROSELINT) if lines else ():
        found = result.check_result
        yield Finding(read[result.pos[0] // 2 - 1], f"{found.message} ({found.check_path})")


def findings(paths: Sequence[Path]) -> list[Finding]:
    """Return what is found in these files."""
    rules, longest = read_rules()
    found = list[Finding]()
    for path in paths:
        read = [*sentences(path)]
        found += [finding for sentence in read for finding in judge(sentence, rules, longest)]
        found += ask_proselint(read)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found, and return 0 if that is nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.language", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, help="pages and modules; all of them without one")
    found = findings(parser.parse_args(argv).paths or [*sources()])
    for finding in found:
        sys.stdout.write(f"{finding}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
