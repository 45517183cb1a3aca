"""The corrections between two versions of a text: words whose spelling changed, and no others.

The comparison uses the letters alone. So it cannot distinguish a mistake from a change of mind between two words that
look alike (``these``, ``those``); `alike` has the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise, takewhile
from typing import Final

ALIKE: Final = 0.7
"""The similarity of two words, from 0 to 1, from which one is the other's correction and not another word."""

LONGEST: Final = 40
"""Letters of a correction: a longer word was written anew, and its comparison takes time."""

LONGEST_EDIT: Final = 100
"""Words from the first change to the last: if there are more, it is another text, and its comparison takes time."""

LONGEST_RUN: Final = 4
"""Changed words without an unchanged word between them: if there are more, a passage was written anew."""

ENDINGS: Final = ("s", "es", "d", "ed", "ing", "er", "ly")
"""Endings that make another form of a word, not another spelling."""


def changes(previous: str, latest: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield difflib's tag, the removed words and the added words, in the order of the text."""
    old, new = previous.split(), latest.split()
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield tag, old[i:j], new[k:m]


def corrections(previous: str, latest: str) -> list[tuple[str, str]]:
    """Return the corrections between two versions, as pairs of wrong and right, in lower case."""
    old, new = previous.split(), latest.split()
    start = _in_common(old, new)
    old, new = old[start:], new[start:]
    end = _in_common(old[::-1], new[::-1])
    old, new = old[: len(old) - end], new[: len(new) - end]
    if max(len(old), len(new)) > LONGEST_EDIT:
        return []
    pairs: list[tuple[str, str]] = []
    for tag, went, came in changes(" ".join(old), " ".join(new)):
        if tag == "replace" and max(len(went), len(came)) <= LONGEST_RUN:
            pairs += _matched([*map(_bare, went)], [*map(_bare, came)])
    return pairs


def alike(wrong: str, right: str) -> bool:
    """Return whether one word may be a misspelling of the other, and is no other form or another short word."""
    short, long = sorted((wrong, right), key=len)
    if wrong == right or len(long) > LONGEST or not (wrong + right).isprintable() or re.search(r"\d", wrong + right):
        return False
    if sorted(_letters(wrong)) == sorted(_letters(right)):
        return True
    if "'" in wrong + right or len(short) < 4 or any(short + ending == long for ending in ENDINGS):
        return False
    # A word that is still being typed, or was begun anew, differs by more.
    return len(long) - len(short) <= 1 + (len(long) > 8) and SequenceMatcher(None, wrong, right).ratio() >= ALIKE


def _matched(went: Sequence[str], came: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each removed word with the added word in its place. A word may become two words, and two words one."""
    left = [*came]
    for place, word in enumerate(went):
        together = f"{word} {went[place + 1]}" if place + 1 < len(went) else ""
        candidates = [
            *((word, f"{one} {other}") for one, other in pairwise(left)),
            *((together, one) for one in left if together),
        ]
        split = [pair for pair in candidates if _letters(pair[0]) == _letters(pair[1]) != ""]
        whole = sorted((one for one in left if alike(word, one)), key=lambda one: -_ratio(word, one))
        if split:
            yield split[0]
            left = left[left.index(split[0][1].split()[-1]) + 1 :]
        elif whole and word not in left:
            yield word, whole[0]
            left = left[left.index(whole[0]) + 1 :]


def _in_common(old: Sequence[str], new: Sequence[str]) -> int:
    return len([*takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))])


def _bare(word: str) -> str:
    return re.sub(r"^\W+|\W+$", "", word.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _ratio(wrong: str, right: str) -> float:
    return SequenceMatcher(None, wrong, right).ratio()
