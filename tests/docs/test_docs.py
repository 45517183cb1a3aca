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

# The blocks of the tutorial are the files of an application: test_tutorial.py writes and runs them.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "tutorial.md")]
MODULES = ["cachekit", *(module.name for module in pkgutil.walk_packages(cachekit.__path__, "cachekit."))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run_and_print_their_output(name: str) -> None:
    module = importlib.import_module(name)
    # The public names are imported, as they are for a reader who followed the README.
    names = {key: getattr(cachekit, key) for key in cachekit.__all__}
    results = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_the_pages_run(page: Path) -> None:
    document = Sybil(parsers=[PythonCodeBlockParser()], patterns=[page.name], path=str(page.parent)).parse(page)
    for example in document.examples():
        example.evaluate()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
