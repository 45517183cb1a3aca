"""The code of the documentation runs: every example of a docstring, every Python block of the README and docs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import cachekit
from tests import ROOT

ELSEWHERE = [ROOT / "docs" / name for name in ("how-to", "migrate", "tutorial.md")]
"""Pages that tests/docs/test_how_to.py, tests/migrate and tests/docs/test_tutorial.py run."""
ALL = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL if not any(page.is_relative_to(place) for place in ELSEWHERE)]
MODULES = ["cachekit", *(module.name for module in pkgutil.walk_packages(cachekit.__path__, "cachekit."))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run_and_print_their_output(name: str) -> None:
    module = importlib.import_module(name)
    # The public names are imported, as they are for a reader who followed the README.
    names = {key: getattr(cachekit, key) for key in cachekit.__all__}
    results = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_blocks_of_the_pages_run(page: Path) -> None:
    document = Sybil(parsers=[PythonCodeBlockParser()], patterns=[page.name], path=str(page.parent)).parse(page)
    for example in document.examples():
        example.evaluate()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
