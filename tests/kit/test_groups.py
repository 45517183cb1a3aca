"""Tests that share a costly fixture run in one worker, so that the fixture is made once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(8))
@pytest.mark.xdist_group("costly")
def test_of_the_group(number): ...
"""


def test_the_tests_of_a_group_run_in_one_worker(tmp_path: Path) -> None:
    (tmp_path / "test_group.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist=loadgroup", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    workers = re.findall(r"^\[(gw\d+)\].* PASSED ", done.stdout, flags=re.MULTILINE)
    assert len(workers) == 8, done.stdout + done.stderr
    assert len(set(workers)) == 1, "pytest-xdist spreads a group over workers: pytest is too new for it"
