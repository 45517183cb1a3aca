"""The index of the search: how often each section has each word. Sphinx's own index knows only which pages have it.

``static/search.js`` reads it. Sphinx's lists of words are then of no use, and are left out of its index.

Pagefind is no alternative: version 1.5.2 had a right page among the first three for 22 of 125 questions of
``tests/docs/questions.toml``, and for 68 when it was asked for each word alone. From a folder, without a web server, it
does not answer.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

LANGUAGE: Final = SearchEnglish({})
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PARTS: Final = re.compile(r"_|(?<=[a-z0-9])(?=[A-Z])")


class Section:
    """A heading, or an entry of the API, and the words below it. ``level`` is the number of headings above it."""

    def __init__(self, anchor: str, heading: str, level: int) -> None:
        """Begin one without a word."""
        self.anchor, self.heading, self.level = anchor, heading, level
        self.words: Counter[str] = Counter()

    def read(self, text: str, *, code: bool = False) -> None:
        """Count the words of a text. Code counts nothing: that it has a word is all that is known."""
        self.words.update(dict.fromkeys(stems(text), 0) if code else Counter(stems(text)))


def stems(text: str) -> Iterator[str]:
    """Yield the stems of the words, and of their parts: ``stale_on`` is a word, and so is ``stale``."""
    for word in re.findall(r"\w+", text):
        parts = [part for part in _PARTS.split(word) if part]
        for one in {word, *parts} if len(parts) > 1 else [word]:
            if LANGUAGE.word_filter(one.lower()) and not one.isdecimal():
                yield LANGUAGE.stem(one.lower())


def sections(node: nodes.Node, at: Section | None = None) -> Iterator[Section]:
    """Yield the sections of a page in order, each with the words that stand below its heading, and below no other."""
    for child in node.children:
        if isinstance(child, (nodes.section, addnodes.desc)):
            inside = _section(child, at.level + 1 if at else 0)
            yield inside
            yield from sections(child, inside)
        elif isinstance(child, (nodes.title, nodes.comment, nodes.raw)) or at is None:
            continue
        elif isinstance(child, nodes.Text):
            at.read(child.astext())
        elif isinstance(child, nodes.literal_block):
            at.read(child.astext(), code=True)
        else:
            yield from sections(child, at)


def _section(node: nodes.Element, level: int) -> Section:
    if isinstance(node, nodes.section):
        return Section(node["ids"][0], next(node.findall(nodes.title)).astext(), level)
    signature = next(node.findall(addnodes.desc_signature))
    return Section(next(iter(signature["ids"]), ""), signature.get("fullname") or signature.astext(), level)


def index(pages: dict[str, nodes.document]) -> dict[str, Any]:
    """Return the sections of each page with their number of words, and of each word how often sections have it.

    Numbers of sections are written as distances, to base 36: ``1c 5*3`` is section 48, once, and section 53, three
    times.
    """
    places: dict[str, list[tuple[str, str, int, int]]] = {}
    found: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    number = 0
    for page, document in pages.items():
        places[page] = []
        # All of a page first: a section has its words when the next one begins.
        for section in [*sections(document)]:
            places[page].append((section.anchor, section.heading, section.level, section.words.total()))
            _add(section, number, found, last)
            number += 1
    return {"places": places, "words": {word: " ".join(found[word]) for word in sorted(found)}}


def _add(section: Section, number: int, found: dict[str, list[str]], last: dict[str, int]) -> None:
    for word, count in section.words.items():
        distance = _base36(number - last.get(word, 0))
        found.setdefault(word, []).append(distance if count == 1 else f"{distance}*{count}")
        last[word] = number


def _base36(number: int) -> str:
    rest, digit = divmod(number, len(_DIGITS))
    return (_base36(rest) if rest else "") + _DIGITS[digit]


def _write(path: Path, before: str, content: object, behind: str) -> None:
    path.write_text(before + json.dumps(content, ensure_ascii=False, separators=(",", ":")) + behind, encoding="utf-8")


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the index beside the other scripts of the site, and leave the words out of Sphinx's own."""
    if exception is not None or app.builder.name != "html":
        return
    pages = {page: app.env.get_doctree(page) for page in sorted(app.env.found_docs)}
    _write(Path(app.outdir) / "_static" / "sections.js", "const SECTIONS=", index(pages), ";\n")
    own = Path(app.outdir) / "searchindex.js"
    content = json.loads(own.read_text(encoding="utf-8").removeprefix("Search.setIndex(").removesuffix(")"))
    _write(own, "Search.setIndex(", content | {"terms": {}, "titleterms": {}}, ")")


def scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None) -> None:
    """Load the index, and the script that reads it, on the page of the search alone."""
    if page == "search":
        for name in ("sections.js", "search.js"):
            app.add_js_file(name, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add both halves."""
    app.connect("html-page-context", scripts)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
