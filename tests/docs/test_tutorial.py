"""The tutorial works: its files make an application at each step, and its commands print what it shows."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests import ROOT
from tests.docs.walkthrough import Files, Walkthrough, steps
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer

PAGE = ROOT / "docs" / "tutorial.md"
MODULES = ("app", "books", "database")


@pytest.fixture
def clean_imports() -> Iterator[None]:
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("step", [*steps(PAGE)], ids=lambda step: step.partition(".")[0])
def test_the_files_of_each_step_make_an_application(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_imports: None
) -> None:
    Files(tmp_path).follow(PAGE, step)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CACHEKIT_URL", "memory://")
    database, app = (importlib.import_module(name) for name in ("database", "app"))
    asyncio.run(database.create())
    with TestClient(app.app) as client:
        assert client.get("/books/1").json() == {"title": "Frankenstein", "reviews": 2, "stars": 4.5}
        assert client.post("/books/1/reviews?stars=3").status_code == 201


def test_the_page_says_how_many_minutes_each_step_takes() -> None:
    rows = re.findall(r"^\| \[(.+)\]\(#.+\) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert {title: int(minutes) for title, minutes in rows} == steps(PAGE)
    assert 45 < sum(steps(PAGE).values()) < 60


@pytest.mark.long
@pytest.mark.server
def test_the_commands_of_all_steps_print_what_the_page_shows(tmp_path: Path) -> None:
    server = RedisServer(first_server())
    reader = Walkthrough(tmp_path, server)
    try:
        reader.follow_all(PAGE)
    finally:
        reader.close()
        server.close()
