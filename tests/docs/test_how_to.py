"""The how-to pages are programs: their Python blocks run on a real server, and their commands print what they show."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from cachekit._cli import main
from tests import ROOT
from tests.kit.console import commands
from tests.kit.servers import RedisServer

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
URL = "redis://localhost:6379/0"


class Console:
    """Runs the commands of a console block."""

    def __init__(self, server: RedisServer, captured: pytest.CaptureFixture[str]) -> None:
        self._server = server
        self._captured = captured

    def __call__(self, example: Example) -> None:
        for command, output in commands(example.parsed):
            self._captured.readouterr()
            main(shlex.split(command)[1:])
            told = self._captured.readouterr()
            assert (told.out + told.err).replace(self._server.url, URL) == output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_how_to_page_run_on_a_server_in_order(
    page: Path,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The server of a reader is at the usual place. The lines stay where they are, for a traceback.
    copy = tmp_path / page.name
    copy.write_text(page.read_text().replace(URL, redis_server.url))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHEKIT_URL", redis_server.url)
    monkeypatch.delenv("CACHEKIT_KEYS", raising=False)
    console: Any = CodeBlockParser(language="console", evaluator=Console(redis_server, capsys))
    document = Sybil(parsers=[PythonCodeBlockParser(), console], patterns=[page.name], path=str(tmp_path)).parse(copy)
    examples = [*document.examples()]
    assert examples
    for example in examples:
        example.evaluate()


def test_the_page_about_metrics_names_panels_of_the_dashboard() -> None:
    page = (ROOT / "docs" / "how-to" / "metrics.md").read_text()
    panels = json.loads((ROOT / "examples" / "observability" / "dashboard.json").read_text())["panels"]
    named = re.findall(r"^\|[^|]+\| \*(.+?)\* \|", page, re.MULTILINE)
    assert named
    assert {*named} <= {panel["title"] for panel in panels}
