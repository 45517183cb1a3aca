"""Looks through all worlds that a model can reach, and returns the way to the first one that breaks a promise.

A world is a number here: that of its shared part, and beside it, in bits of its own, that of the state of each task.
The steps of a task depend on these two parts alone. So they are found once for each pair, as differences between
numbers, and a search adds and looks up. Worlds are equal if their numbers are, and are looked at once.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from tests.models.frame import Frame, W

_SHARED: Final = 24
_TASK: Final = 18
"""The bits of a number: so many shared parts, and states of one task, have room."""


@dataclass
class Found:
    """The end of a search.

    Attributes:
        states: How many different worlds were looked at; of random ways, how many steps were taken.
        complete: Whether there are no others.
        wrong: The promise that is broken, or empty text.
        way: The steps to the world that is wrong.
    """

    states: int
    complete: bool
    wrong: str = ""
    way: list[str] = field(default_factory=list)


class _WrongError(Exception):
    """A step breaks a promise."""

    def __init__(self, label: str, wrong: str) -> None:
        super().__init__(label)
        self.label = label
        self.wrong = wrong


class _Ids:
    """Numbers for values, in the order in which they are met."""

    def __init__(self, bits: int, shift: int) -> None:
        self.shift = shift
        self.mask = ((1 << bits) - 1) << shift
        self.values: list[Any] = []
        self._ids: dict[Hashable, int] = {}
        self._most = 1 << bits

    def of(self, key: Hashable, value: Any) -> int:
        """Return the number of ``key``, in its place. The first ``value`` of it is kept."""
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.values)
            self.values.append(value)
            assert found < self._most, "there are more states than numbers"
        return found << self.shift

    def value(self, world: int) -> Any:
        return self.values[(world & self.mask) >> self.shift]


class Search(Generic[W]):
    """The worlds of a model, as numbers."""

    def __init__(self, model: Frame[W]) -> None:
        self._model = model
        world = model.first()
        self._names = [*world.tasks]
        self._shared = _Ids(_SHARED, 0)
        self._tasks = {name: _Ids(_TASK, _SHARED + _TASK * place) for place, name in enumerate(self._names)}
        self.first: int = sum(self._tasks[name].of(task, task) for name, task in world.tasks.items())
        self.first += self._number_of_shared(world)
        # Those of no task have no name.
        self.parts: list[tuple[int, dict[int, tuple[int, ...]], str]] = [(self._shared.mask, {}, "")]
        """For each task the bits that its steps depend on, the steps that are known by them, and its name."""
        self.parts += [(self._shared.mask | ids.mask, {}, name) for name, ids in self._tasks.items()]

    def steps(self, world: int, name: str) -> tuple[int, ...]:
        """Return the differences between ``world`` and the worlds behind the steps of one task.

        Raises:
            _WrongError: A step breaks a promise.
        """
        found: dict[int, None] = {}
        for label, difference, wrong in self._look(world, name):
            if wrong:
                raise _WrongError(label, wrong)
            found[difference] = None
        return tuple(found)

    def stuck(self, world: int) -> str:
        """Return what is wrong if no step follows."""
        whole: W = self._shared.value(world).copied()
        whole.tasks = {name: ids.value(world) for name, ids in self._tasks.items()}
        return whole.stuck()

    def way(self, worlds: list[int], last: str = "") -> list[str]:
        """Return the names of the steps from each of ``worlds`` to the next one, and ``last``."""
        way = []
        for before, after in itertools.pairwise(worlds):
            steps = [step for name in ("", *self._names) for step in self._look(before, name)]
            way.append(next(label for label, difference, _ in steps if before + difference == after))
        return [*way, last] if last else way

    def _look(self, world: int, name: str) -> Iterator[tuple[str, int, str]]:
        """Yield the name of each step of one task, the difference that it makes, and the promise that it breaks."""
        part = self._shared.value(world).copied()
        part.tasks = {name: self._tasks[name].value(world)} if name else {}
        steps = self._model.of_task(part, name) if name else self._model.of_others(part)
        for label, after in steps:
            difference = -(world & self._shared.mask)
            for other, task in after.tasks.items():
                ids = self._tasks[other]
                # A task that this one begins has been as it was in the first world.
                difference += ids.of(task, task) - ((world if other == name else self.first) & ids.mask)
            yield label, difference + self._number_of_shared(after), after.wrong

    def _number_of_shared(self, world: W) -> int:
        world.tasks = {}
        return self._shared.of(world.shared(), world)


def explore(model: Frame[W], *, most: int) -> Found:
    """Look at up to ``most`` states, breadth first, so that the way to a violation is a shortest one."""
    search = Search(model)
    before = {search.first: search.first}
    ahead, parts = [search.first], search.parts
    while ahead:
        level, ahead = ahead, []
        for world in level:
            followed = False
            for mask, known, name in parts:
                part = world & mask
                steps = known.get(part)
                if steps is None:
                    try:
                        steps = known[part] = search.steps(world, name)
                    except _WrongError as error:
                        way = search.way(_to(before, world), error.label)
                        return Found(len(before), complete=False, wrong=error.wrong, way=way)
                for difference in steps:
                    followed = True
                    after = world + difference
                    if after not in before:
                        before[after] = world
                        ahead.append(after)
            if not followed and (wrong := search.stuck(world)):
                return Found(len(before), complete=False, wrong=wrong, way=search.way(_to(before, world)))
            if len(before) >= most:
                return Found(len(before), complete=False)
    return Found(len(before), complete=True)


def sample(model: Frame[W], *, runs: int, seed: int) -> Found:
    """Take ``runs`` random ways to the end. A wrong step beside a way is found as well."""
    chance, states, search = random.Random(seed), 0, Search(model)
    for _ in range(runs):
        worlds = [search.first]
        while True:
            world, steps = worlds[-1], list[int]()
            for mask, known, name in search.parts:
                part = world & mask
                if part not in known:
                    try:
                        known[part] = search.steps(world, name)
                    except _WrongError as error:
                        way = search.way(worlds, error.label)
                        return Found(states, complete=False, wrong=error.wrong, way=way)
                steps += known[part]
            if not steps:
                break
            worlds.append(world + chance.choice(steps))
            states += 1
        if wrong := search.stuck(worlds[-1]):
            return Found(states, complete=False, wrong=wrong, way=search.way(worlds))
    return Found(states, complete=False)


def _to(before: dict[int, int], world: int) -> list[int]:
    """Return the worlds on the way to ``world``, with both ends."""
    worlds = [world]
    while before[worlds[-1]] != worlds[-1]:
        worlds.append(before[worlds[-1]])
    return worlds[::-1]
