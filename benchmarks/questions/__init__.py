"""A file per question, each with a list ``QUESTIONS``: the same work in two variants, and how they are compared."""

from __future__ import annotations

import importlib
import operator
import pkgutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

from benchmarks.suite import CAN_PIN, Run

Variant: TypeAlias = Callable[[str], AbstractAsyncContextManager[Run]]
"""Gets the URL of a server; sets up, gives the run, cleans up."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A way of comparing two times, and the target.

    Attributes:
        of: Gives the figure, from our microseconds a call and the other's.
        unit: Shows the figure.
        aim: Shows the bound.
        bound: The target, if there is one.
        upwards: Whether more is better.
    """

    of: Callable[[float, float], float]
    unit: str
    aim: str
    bound: float | None
    upwards: bool = False

    @property
    def target(self) -> str:
        """The target in words; empty without one."""
        return "" if self.bound is None else self.aim.format(self.bound)

    def met(self, figure: float) -> bool | None:
        """Tell whether ``figure`` reaches the target; None without one."""
        return None if self.bound is None else figure >= self.bound if self.upwards else figure <= self.bound


def ratio(at_most: float | None = None) -> Measure:
    """Compare our time by theirs."""
    return Measure(operator.truediv, "{:.2f} x time", "at most {:g} x", at_most)


def throughput(at_least: float | None = None) -> Measure:
    """Compare our calls a second by theirs."""
    return Measure(lambda a, b: b / a, "{:.1f} x throughput", "at least {:g} x", at_least, upwards=True)


def added(at_most: float) -> Measure:
    """Compare our time less theirs, in microseconds."""
    return Measure(operator.sub, "{:+.2f} us", "at most {:+g} us", at_most)


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table of targets.

    Attributes:
        name: Its name on the command line.
        work: The work in words.
        ours: Does it with cachekit.
        against: The other way of doing it, in words, and its variant.
        calls: How many calls one round makes.
        measure: How the two are compared.
        most: Bounds the rounds of what takes long.
        one_core: Whether the processes of both, the client and the server, share one core.
    """

    name: str
    work: str
    ours: Variant
    against: tuple[str, Variant]
    calls: int
    measure: Measure = field(default_factory=ratio)
    most: int = 1000
    one_core: bool = False


def all_questions() -> list[Question]:
    """Return the questions of every file here, in the order of their files.

    Those about one core are left out where a process cannot choose its cores.
    """
    found: list[Question] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found.extend(importlib.import_module(f"{__name__}.{module.name}").QUESTIONS)
    return [question for question in found if CAN_PIN or not question.one_core]
