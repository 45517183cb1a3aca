"""A file per question, each with a list ``QUESTIONS``: the same work in two variants, and how they are compared."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from benchmarks.suite import Run

Variant: TypeAlias = Callable[[str], AbstractAsyncContextManager[Run]]
"""Gets the URL of a server; sets up, gives the run, cleans up."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our time by theirs, the smaller the better; the other ways of comparing differ from it in a few lines."""

    bound: float | None = None
    FIGURE: ClassVar[str] = "{:.2f} x time"
    AIM: ClassVar[str] = "at most {:g} x"

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""
        return ours / theirs

    def met(self, figure: float) -> bool | None:
        """Tell whether ``figure`` reaches the target; None without one."""
        return None if self.bound is None else figure <= self.bound

    def shown(self, figure: float) -> str:
        """Return the figure with its unit."""
        return self.FIGURE.format(figure)

    @property
    def target(self) -> str:
        """What is aimed at, in words; empty without a target."""
        return "" if self.bound is None else self.AIM.format(self.bound)


class Throughput(Ratio):
    """Our calls a second by theirs, the larger the better."""

    FIGURE = "{:.1f} x throughput"
    AIM = "at least {:g} x"

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""
        return theirs / ours

    def met(self, figure: float) -> bool | None:
        """Tell whether ``figure`` reaches the target; None without one."""
        return None if self.bound is None else figure >= self.bound


class Added(Ratio):
    """Our time less theirs, in microseconds, the smaller the better."""

    FIGURE = "{:+.2f} us"
    AIM = "at most {:+g} us"

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""
        return ours - theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of the table of targets.

    ``calls`` is how many calls one round makes; ``most`` bounds the rounds of what takes long.
    """

    name: str
    work: str
    ours: Variant
    against: str
    theirs: Variant
    calls: int
    measure: Ratio = field(default_factory=Ratio)
    most: int = 1000


def all_questions() -> list[Question]:
    """Return the questions of every file here, in the order of their files."""
    found: list[Question] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found.extend(importlib.import_module(f"{__name__}.{module.name}").QUESTIONS)
    return found
