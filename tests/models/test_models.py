"""The models: the rules are enough, and none of them can be left out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ROOT
from tests.models.checker import explore, sample
from tests.models.frame import Frame, World
from tests.models.protocols import PROTOCOLS

SCENES = {f"{name}: {title}": scene for name, one in PROTOCOLS.items() for title, scene in one.scenes.items()}
EXTRAS = {f"{name}: {extra}": scene for name, one in PROTOCOLS.items() for extra, scene in one.extras.items()}
BROKEN = {f"{name}: {rule}": scene for name, one in PROTOCOLS.items() for rule, scene in one.broken.items()}


@pytest.mark.parametrize("scene", SCENES.values(), ids=[*SCENES])
def test_no_order_of_the_first_steps_breaks_a_promise(scene: Frame[World]) -> None:
    found = explore(scene, most=3_000)
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_random_ways_through_a_large_scene_break_no_promise(name: str) -> None:
    found = sample(PROTOCOLS[name].large, runs=50, seed=7)
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("scene", BROKEN.values(), ids=[*BROKEN])
def test_without_one_of_its_rules_a_promise_is_broken(scene: Frame[World]) -> None:
    found = explore(scene, most=100_000)
    assert found.wrong, "the rule is not needed"
    assert found.way


@pytest.mark.parametrize("scene", EXTRAS.values(), ids=[*EXTRAS])
def test_without_what_is_there_for_another_reason_no_promise_is_broken(scene: Frame[World]) -> None:
    found = explore(scene, most=100_000)
    assert not found.wrong, "\n".join([found.wrong, *found.way])


# In a process of its own: coverage, which measures the library alone, would slow these loops down.
@pytest.mark.long
@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_order_of_all_steps_breaks_a_promise_in_a_million_states(name: str) -> None:
    command = [sys.executable, "-m", "tests.models", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
