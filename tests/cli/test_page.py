"""The page about the command shows what the command prints."""

from __future__ import annotations

import asyncio
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import cachekit
from cachekit._cli import doctor, main, program
from cachekit._cli.findings import CODES
from cachekit._cli.program import parser
from cachekit._cli.rights import FEATURES
from tests import ROOT
from tests.kit.console import commands
from tests.kit.servers import RedisServer

PAGE = ROOT / "docs" / "cli.md"
URL = "redis://localhost:6379/0"


def blocks() -> list[str]:
    return re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)


def without_numbers(text: str) -> str:
    """Return ``text`` without what another machine, or another moment, has in it."""
    text = re.sub(r"(Redis|Valkey) [\d.]+", "a server", text).replace("ahead of", "behind")
    return re.sub(r"\d[\d,.]*", "#", text)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: RedisServer) -> Iterator[ModuleType]:
    source = re.search(r"<!-- shop.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert source
    (tmp_path / "shop.py").write_text(source[1].replace(URL, server.url))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CACHEKIT_URL", server.url)
    # A busy machine is slow, and the page is not about that.
    monkeypatch.setattr(doctor, "DEFAULT_TIMEOUT", 30.0)
    monkeypatch.delenv("CACHEKIT_KEYS", raising=False)
    yield importlib.import_module("shop")
    sys.modules.pop("shop")


@pytest.fixture
def server(start_server: object) -> RedisServer:
    started: RedisServer = start_server("maxmemory 100mb")  # type: ignore[operator]
    return started


def test_what_the_page_shows_is_printed(
    shop: ModuleType, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {2: lambda: shop.product("tea"), 3: shop.new_prices, 4: lambda: shop.product("tea")}
    for number, block in enumerate(blocks()):
        if number in before:
            asyncio.run(before[number]())
        for command, output in commands(block):
            main(shlex.split(command)[1:])
            told = capsys.readouterr()
            printed = (told.out + told.err).replace(server.url, URL)
            assert without_numbers(printed) == without_numbers(output), printed


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"cachekit {cachekit.__version__}\n"


def test_each_option_of_each_command_is_on_the_page_and_each_on_the_page_exists() -> None:
    (choices,) = [action.choices for action in parser()._actions if action.dest == "command"]
    assert choices
    options = {name for one in choices.values() for action in one._actions for name in action.option_strings}
    options |= {name for action in parser()._actions for name in action.option_strings}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE.read_text()))
    assert {name for name in options if name.startswith("--")} == told


def test_the_page_has_every_exit_status() -> None:
    table = PAGE.read_text().partition("| exit status |")[2].partition("\n\n")[0]
    statuses = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert statuses == {0, 1, program._USAGE, program._INTERRUPTED}


def test_each_command_feature_and_finding_is_on_the_page() -> None:
    page = PAGE.read_text()
    (choices,) = [action.choices for action in parser()._actions if action.dest == "command"]
    assert choices
    assert all(f"cachekit {name}" in page or f"`{name}`" in page for name in choices)
    assert all(f"| `{code}` |" in page for code in CODES)
    assert all(re.search(rf"^ok +right: {name} ", page, re.MULTILINE) for name in FEATURES)
