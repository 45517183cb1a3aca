"""The site: each page is of one kind, each says first what a reader can do after it, and nothing is fetched."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests import ROOT
from tests.docs.search import LIST, broken, rank

DOCS: Final = ROOT / "docs"
INDEX: Final = (DOCS / "index.md").read_text()
LISTS: Final = tomllib.loads(LIST.read_text())
QUESTIONS: Final = LISTS["question"]


PAGES: Final = [page for page in sorted(DOCS.rglob("*.md")) if page != DOCS / "index.md"]


def listed(caption: str) -> list[Path]:
    """Return the pages below one caption of the first page, and those that they list."""
    [block] = re.findall(rf"```{{toctree}}\n:caption: {caption}\n(.+?)```", INDEX, re.DOTALL)
    names = [line for line in block.splitlines() if line and not line.startswith(":")]
    pages = [path for name in names for path in sorted(DOCS.glob(f"{name}.md"))]
    return [page for one in pages for page in ([one] if one.name != "index.md" else sorted(one.parent.glob("*.md")))]


@pytest.mark.parametrize("caption", ["Tutorial", "How-to guides", "Reference", "Explanation", "Project"])
def test_the_first_page_lists_pages_of_each_kind(caption: str) -> None:
    assert listed(caption)


def test_each_page_is_of_one_kind() -> None:
    pages = [page for caption in re.findall(r":caption: (.+)", INDEX) for page in listed(caption)]
    assert len(pages) == len({*pages})
    assert {*PAGES} == {*pages}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_says_first_what_its_reader_can_do_after_it(page: Path) -> None:
    text = page.read_text()
    # Some pages are files of the root.
    included = re.match(r"```{include} (\S+)", text)
    lines = ((page.parent / included[1]).read_text() if included else text).splitlines()
    assert lines[0].startswith("# ")
    assert re.match("After this page you (can|know|have) ", lines[2])


def test_the_site_fetches_nothing() -> None:
    own = [*(DOCS / "_site").rglob("*"), DOCS / "conf.py"]
    assert [path for path in own if path.is_file() and re.search(r"https?://", path.read_text(errors="ignore"))] == []
    assert "intersphinx" not in (DOCS / "conf.py").read_text()


def test_the_search_is_asked_thirty_questions_or_more_from_public_threads() -> None:
    assert len({question["text"] for question in QUESTIONS}) == len(QUESTIONS) >= 30
    assert all(question["thread"].startswith("https://") for question in QUESTIONS)


@pytest.mark.parametrize("question", [*QUESTIONS, *LISTS["spelling"]], ids=lambda question: question["text"])
def test_a_question_has_a_page_that_answers_it(question: dict[str, list[str]]) -> None:
    assert any((DOCS / f"{page}.md").exists() for page in question["pages"])


def test_a_right_page_has_the_place_of_the_first_of_them() -> None:
    assert rank(["tags", "near", "faq"], ["faq", "near"]) == 2
    assert rank(["tags"], ["faq"]) is None


def test_a_result_that_leads_to_no_place_of_its_page_is_told(tmp_path: Path) -> None:
    (tmp_path / "tags.html").write_text('<section id="names"><dt id="cachekit.Cache">')
    places = [("tags", ""), ("tags", "#names"), ("tags", "#cachekit.Cache"), ("tags", "#gone")]
    assert broken(tmp_path, places) == ["tags#gone"]
