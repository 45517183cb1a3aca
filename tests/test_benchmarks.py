"""The benchmarks run, so that they cannot rot. No time is asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson

from benchmarks.suite import all_questions

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> str:
    # In a process of their own: asyncio's debug mode would be what is measured.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_question_is_answered_with_a_figure_for_both_variants(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = run("--quick", "--json", str(figures))
    answers = orjson.loads(figures.read_bytes())["answers"]
    assert [answer["name"] for answer in answers] == [question.name for question in all_questions()]
    assert all(answer["cachekit_us"] > 0 and answer["by_hand_us"] > 0 and answer["ratio"] > 0 for answer in answers)
    assert "by hand" in printed


def test_the_hot_path_is_shown_step_by_step() -> None:
    assert "packing GET" in run("hotpath", "--quick")


def test_the_questions_are_listed_and_an_unknown_one_is_refused() -> None:
    assert "hit-100" in run("--list")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "there is no question called nonsense" in done.stderr
