"""``python -m tests.docs.search SITE``: asks the search of the built site real questions, in a real Chromium.

The questions are in questions.toml, each with the pages that answer it. One of them has to be among the first three
results, and each result has to lead to a place that its page has. Without a Chromium nobody is asked; with
``CACHEKIT_REQUIRE=browser`` that is an error.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Final

from tests.docs.asking import told

LIST: Final = Path(__file__).with_name("questions.toml")
FIRST: Final = 3
ASK: Final = """
addEventListener("load", () => {
  const found = (text) => Search._performSearch(...Search._parseQuery(text)).reverse();
  const ask = (text) => found(text).map(([page, , anchor]) => [page, anchor]);
  const wait = () => Search._index === null ? setTimeout(wait, 10) : document.getElementById("told").append(
    JSON.stringify(QUESTIONS.map(ask)));
  wait();
});
"""


def answers(site: Path, texts: list[str]) -> list[list[tuple[str, str]]]:
    """Return the pages that the search of ``site`` finds for each text, and where in them, the best first."""
    page = (site / "search.html").read_text(encoding="utf-8")
    # Its script would ask for the query in the address.
    found = told(site, page, ASK.replace("QUESTIONS", json.dumps(texts).replace("<", "\\u003c")))
    return [[(page, anchor) for page, anchor in one] for one in found]


def rank(found: list[str], pages: list[str]) -> int | None:
    """Return the place of the first of ``pages`` among the pages that were found; None if none of them is."""
    return next((place for place, page in enumerate(found, 1) if page in pages), None)


def broken(site: Path, places: Sequence[tuple[str, str]]) -> list[str]:
    """Return the places that their pages do not have."""
    anchors: dict[str, set[str]] = {}
    for page in {page for page, _ in places}:
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        anchors[page] = {unescape(one) for one in re.findall(r'id="([^"]+)"', text)}
    return sorted({f"{page}{anchor}" for page, anchor in places if anchor and anchor[1:] not in anchors[page]})


def main(site: Path) -> int:
    """Print the place of the right page for each question. Returns 1 if one is not among the first."""
    lists = tomllib.loads(LIST.read_text(encoding="utf-8"))
    questions = [*lists["question"], *lists["spelling"]]
    missed = 0
    answered = answers(site, [one["text"] for one in questions])
    for question, places in zip(questions, answered, strict=True):
        found = [*dict.fromkeys(page for page, _ in places)]
        place = rank(found, question["pages"])
        others = ""
        if place is None or place > FIRST:
            missed += 1
            others = f"; wanted {', '.join(question['pages'])}, found {', '.join(found[:5])}"
        sys.stdout.write(f"{place or '-':>3}  {question['text']}{others}\n")
    right = len(questions) - missed
    sys.stdout.write(f"{right} of {len(questions)} questions have a right page among the first {FIRST}\n")
    lost = broken(site, [place for places in answered for place in places])
    sys.stdout.write("".join(f"no such place: {place}\n" for place in lost))
    return int(missed > 0 or bool(lost))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
