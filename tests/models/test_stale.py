"""The model of stale values: the rules are enough, and none of them can be left out.

A scene has up to millions of states, and 20,000 of them take about two seconds. So a test looks at the first ones;
`python -m tests.models` looks further.
"""

from __future__ import annotations

import pytest

from tests.kit.sizes import sized
from tests.models.checker import explore, sample
from tests.models.stale import BROKEN, LARGE, SCENES, without


@pytest.mark.parametrize("scene", SCENES.values(), ids=[*SCENES])
def test_no_order_of_steps_breaks_a_promise(scene: object) -> None:
    found = explore(scene, most=sized(2_000, 20_000))  # type: ignore[type-var]
    assert not found.wrong, "\n".join([found.wrong, *found.way])


def test_random_ways_through_a_large_scene_break_no_promise() -> None:
    found = sample(LARGE, runs=sized(100, 1_500), seed=7)
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("rule", BROKEN)
def test_without_one_of_its_rules_a_promise_is_broken(rule: str) -> None:
    found = explore(without(rule), most=60_000)
    assert found.wrong, f"{rule} is not needed"
    assert found.way
