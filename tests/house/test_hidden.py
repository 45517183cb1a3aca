"""The programs that CI hides from the README's commands are hidden: the commands bring a server, and no browser."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.kit.binaries import ON_PATH
from tests.kit.chromium import NAMES

HIDE = ROOT / ".ci" / "hide.py"
RUN = ROOT / ".ci" / "run"


def patterns() -> list[str]:
    """Return the patterns of the programs that .ci/run hides."""
    [line] = [line for line in RUN.read_text(encoding="utf-8").splitlines() if line.startswith("hidden=")]
    return shlex.split(line.removeprefix("hidden=").strip("()"))


def hide(folder: Path, *what: str, path: str | None = None) -> str:
    """Return the PATH that .ci/hide.py makes of ``path``, or of this process's own."""
    environment = {**os.environ, "PATH": os.environ["PATH"] if path is None else path}
    command = [sys.executable, str(HIDE), str(folder), *what]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def a_program(path: Path, says: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\n", encoding="ascii")
    path.chmod(0o755)


def test_a_hidden_program_is_missing_and_the_first_of_each_other_name_is_kept(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for name in ("redis-server", "redis-cli", "chromium", "sh", "tool"):
            a_program(tmp_path / folder / name, folder)
    (tmp_path / "two" / "redis-server").unlink()
    (tmp_path / "two" / "redis-server").symlink_to(tmp_path / "two" / "tool")
    path = hide(
        tmp_path / "bin", "redis-*", "chromium*", path=f"{tmp_path / 'one'}:{tmp_path / 'two'}:{tmp_path / 'none'}"
    )
    assert {program.name for program in Path(path).iterdir()} == {"sh", "tool"}
    assert subprocess.run([f"{path}/tool"], capture_output=True, text=True, check=True).stdout == "one\n"


def test_no_program_that_ci_hides_is_found_on_the_path_that_it_makes(tmp_path: Path) -> None:
    path = hide(tmp_path / "bin", *patterns())
    for name in (*ON_PATH, *NAMES):
        assert shutil.which(name, path=path) is None
    assert shutil.which("sh", path=path)


@pytest.mark.parametrize("name", [*ON_PATH, *NAMES])
def test_ci_hides_all_programs_that_the_tests_look_for_on_path(tmp_path: Path, name: str) -> None:
    a_program(tmp_path / "one" / name, "")
    assert [*Path(hide(tmp_path / "bin", *patterns(), path=str(tmp_path / "one"))).iterdir()] == []


def test_servers_come_from_wheels_alone_and_no_browser_is_found_when_these_are_hidden(tmp_path: Path) -> None:
    asked = (
        "from tests.kit.binaries import available_servers\n"
        "from tests.kit.chromium import chromium\n"
        "print(chromium(), *[server.path for server in available_servers()], sep=chr(10))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CACHEKIT_")}
    environment.pop("PLAYWRIGHT_BROWSERS_PATH", None)
    environment |= {"PATH": hide(tmp_path / "bin", *patterns()), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    browser, *servers = done.stdout.splitlines()
    assert browser == "None"
    assert servers
    assert all("site-packages" in Path(server).parts for server in servers)
