"""The models of tags: the rules are enough, and none of them can be left out."""

from __future__ import annotations

import pytest

from tests.kit.sizes import sized
from tests.models.checker import explore, sample
from tests.models.near_tags import CLEAR, CLEAR_ONCE, NEAR_BROKEN, NEAR_SCENES, near_without
from tests.models.tags import BROKEN, LARGE, SCENES, without


@pytest.mark.parametrize("scene", SCENES.values(), ids=[*SCENES])
def test_no_order_of_steps_breaks_a_promise(scene: object) -> None:
    found = explore(scene, most=sized(2_000, 60_000))  # type: ignore[type-var]
    assert not found.wrong, "\n".join([found.wrong, *found.way])


def test_random_ways_through_a_large_scene_break_no_promise() -> None:
    found = sample(LARGE, runs=sized(100, 1_000), seed=7)
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("rule", BROKEN)
def test_without_one_of_its_rules_a_promise_is_broken(rule: str) -> None:
    found = explore(without(rule), most=100_000)
    assert found.wrong, f"{rule} is not needed"
    assert found.way


@pytest.mark.parametrize("scene", NEAR_SCENES.values(), ids=[*NEAR_SCENES])
def test_no_order_of_steps_leaves_an_invalid_value_near(scene: object) -> None:
    found = explore(scene, most=sized(2_000, 60_000))  # type: ignore[type-var]
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("rule", NEAR_BROKEN)
def test_without_one_of_its_rules_an_invalid_value_is_left_near(rule: str) -> None:
    found = explore(near_without(rule), most=100_000)
    assert found.wrong, f"{rule} is not needed"


def test_two_passes_clear_everything_and_one_does_not() -> None:
    assert explore(CLEAR, most=60_000).complete
    assert not explore(CLEAR, most=60_000).wrong
    assert explore(CLEAR_ONCE, most=60_000).wrong
