"""One word for one thing: each word of the glossary is used where it says, and no synonym is used anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

import cachekit
from tests import ROOT

PACKAGE = Path(cachekit.__file__).parent
PAGE = ROOT / "docs" / "glossary.md"
PROSE = [
    *[path for path in (ROOT / "docs").rglob("*.md") if path != PAGE],
    *ROOT.glob("*.md"),
    *(ROOT / "examples").rglob("*.md"),
    ROOT / "tests" / "README.md",
]
CODE = [path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]


class Word(NamedTuple):
    word: str
    file: str
    synonyms: list[str]


def words() -> list[Word]:
    """Return the rows of the glossary."""
    rows = [re.split(r" ?\| ?", line.strip("| ")) for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    found = []
    for word, _, file, *synonyms in rows:
        if file.startswith("`"):
            others = [other.strip() for other in "".join(synonyms).split(",")]
            found.append(Word(word.strip("`"), file.strip("`"), [other for other in others if other]))
    return found


def uses(word: str, text: str) -> bool:
    """Tell whether ``text`` has ``word``, in whichever form English and Python give it."""
    stem = re.escape(word.removesuffix("e")).replace(r"\ ", r"[\s_-]*")
    return re.search(rf"(?<![a-z]){stem}", text, re.IGNORECASE) is not None


def has(synonym: str, text: str) -> bool:
    """Tell whether ``text`` has exactly ``synonym``, as a word of its own or as a part of a name."""
    pattern = re.escape(synonym).replace(r"\ ", r"[\s_-]+")
    return re.search(rf"(?<![a-z]){pattern}(?![a-z])", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("word", words(), ids=lambda word: word.word)
def test_a_word_of_the_glossary_is_used_in_its_file(word: Word) -> None:
    assert uses(word.word, (PACKAGE / word.file).read_text())


def test_no_synonym_is_used() -> None:
    synonyms = [(synonym, word.word) for word in words() for synonym in word.synonyms]
    wrong = [
        f"{path.relative_to(path.parents[1])} says {synonym!r}: write {word!r}"
        for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua"), *PROSE, *CODE]
        for synonym, word in synonyms
        if has(synonym, path.read_text())
    ]
    assert wrong == []


def test_the_glossary_is_in_order_to_be_searched() -> None:
    found = [word.word for word in words()]
    assert len(found) == len({*found}) > 50


def test_a_synonym_is_seen_in_names_and_in_prose() -> None:
    assert has("turned away", "def turned_away(self)")
    assert has("trouble", "a trouble.")
    assert not has("trouble", "troublesome")
    assert uses("invalidate", "an invalidation")
    assert uses("per loop", "class PerLoop:")
