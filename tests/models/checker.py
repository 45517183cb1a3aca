"""Looks through all states that a model can reach, and returns the way to the first one that breaks a promise.

A world is everything that can change: the server, the processes, and how far each task is. A model says which worlds
may follow a world, one step of one task at a time. Worlds that are equal are looked at once.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar


class World(Protocol):
    """A state of a model."""

    wrong: str
    """The promise that is broken, or empty text."""

    def key(self) -> Hashable:
        """Return a value that is equal for worlds that are equal."""
        ...

    def stuck(self) -> str:
        """Return what is wrong if no step follows: a task that waits for ever, or empty text."""
        ...


W = TypeVar("W", bound=World)
W_co = TypeVar("W_co", bound=World, covariant=True)
W_in = TypeVar("W_in", bound=World)


class Model(Protocol[W]):
    """A protocol."""

    def first(self) -> W:
        """Return the world in which all begins."""
        ...

    def steps(self, world: W) -> Iterator[tuple[str, W]]:
        """Yield each step that may come next, and the world behind it."""
        ...


@dataclass
class Found:
    """The end of a search."""

    states: int
    complete: bool
    wrong: str = ""
    way: list[str] = field(default_factory=list)
    """The steps to the world that is wrong."""


def explore(model: Model[W], *, most: int) -> Found:
    """Look at up to ``most`` states, breadth first, so that the way to a violation is a shortest one."""
    first = model.first()
    before: dict[Hashable, tuple[Hashable, str] | None] = {first.key(): None}
    ahead = [first]
    while ahead:
        level, ahead = ahead, []
        for world in level:
            key = world.key()
            followed = False
            for label, after in model.steps(world):
                followed = True
                name = after.key()
                if name in before:
                    continue
                before[name] = (key, label)
                if after.wrong:
                    return Found(len(before), complete=False, wrong=after.wrong, way=_way(before, name))
                ahead.append(after)
            if not followed and (wrong := world.stuck()):
                return Found(len(before), complete=False, wrong=wrong, way=_way(before, key))
            if len(before) >= most:
                return Found(len(before), complete=False)
    return Found(len(before), complete=True)


def sample(model: Model[W], *, runs: int, seed: int) -> Found:
    """Take ``runs`` random ways to the end."""
    chance, states = random.Random(seed), 0
    for _ in range(runs):
        world, way = model.first(), list[str]()
        while steps := [*model.steps(world)]:
            label, world = chance.choice(steps)
            way.append(label)
            states += 1
            if world.wrong:
                return Found(states, complete=False, wrong=world.wrong, way=way)
        if wrong := world.stuck():
            return Found(states, complete=False, wrong=wrong, way=way)
    return Found(states, complete=False)


def _way(before: dict[Hashable, tuple[Hashable, str] | None], key: Hashable) -> list[str]:
    way = []
    while (step := before[key]) is not None:
        key, label = step
        way.append(label)
    return way[::-1]
