"""The models of batches and of values in hand with tags: the rules are enough, and none of them can be left out."""

from __future__ import annotations

import pytest

from tests.kit.sizes import sized
from tests.models import tagged_batch, tagged_put
from tests.models.checker import explore, sample

SCENES = {**tagged_batch.SCENES, **tagged_put.SCENES}
BROKEN = {rule: tagged_batch.without(rule) for rule in tagged_batch.BROKEN} | {
    rule: tagged_put.without(rule) for rule in tagged_put.BROKEN
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=[*SCENES])
def test_no_order_of_steps_breaks_a_promise(scene: object) -> None:
    found = explore(scene, most=sized(1_200, 25_000))  # type: ignore[type-var]
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("large", [tagged_batch.LARGE, tagged_put.LARGE], ids=["batch", "put"])
def test_random_ways_through_a_large_scene_break_no_promise(large: object) -> None:
    found = sample(large, runs=sized(60, 1_500), seed=7)  # type: ignore[type-var]
    assert not found.wrong, "\n".join([found.wrong, *found.way])


@pytest.mark.parametrize("rule", BROKEN)
def test_without_one_of_its_rules_a_promise_is_broken(rule: str) -> None:
    found = explore(BROKEN[rule], most=20_000)  # type: ignore[type-var]
    assert found.wrong, f"{rule} is not needed"
    assert found.way
