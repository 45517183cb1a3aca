"""What the table of targets compares: a ratio of times, a factor of throughput, or a difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Measure(Protocol):
    """How two times are compared, and what is aimed at."""

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""

    def shown(self, figure: float) -> str:
        """Return the figure with its unit."""

    @property
    def target(self) -> str:
        """What is aimed at, in words; empty without a target."""

    def met(self, figure: float) -> bool | None:
        """Tell whether ``figure`` reaches the target; None without one."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our time by theirs: the smaller, the better."""

    at_most: float | None = None

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""
        return ours / theirs

    def shown(self, figure: float) -> str:
        """Return the figure with its unit."""
        return f"{figure:.2f} x time"

    @property
    def target(self) -> str:
        """What is aimed at, in words; empty without a target."""
        return "" if self.at_most is None else f"at most {self.at_most:g} x"

    def met(self, figure: float) -> bool | None:
        """Tell whether ``figure`` reaches the target; None without one."""
        return None if self.at_most is None else figure <= self.at_most


@dataclass(frozen=True, slots=True)
class Throughput:
    """Our calls a second by theirs: the larger, the better."""

    at_least: float

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""
        return theirs / ours

    def shown(self, figure: float) -> str:
        """Return the figure with its unit."""
        return f"{figure:.1f} x throughput"

    @property
    def target(self) -> str:
        """What is aimed at, in words."""
        return f"at least {self.at_least:g} x"

    def met(self, figure: float) -> bool:
        """Tell whether ``figure`` reaches the target."""
        return figure >= self.at_least


@dataclass(frozen=True, slots=True)
class Added:
    """Our time less theirs, in microseconds."""

    at_most: float

    def of(self, ours: float, theirs: float) -> float:
        """Return the figure, from microseconds a call."""
        return ours - theirs

    def shown(self, figure: float) -> str:
        """Return the figure with its unit."""
        return f"{figure:+.2f} us"

    @property
    def target(self) -> str:
        """What is aimed at, in words."""
        return f"at most {self.at_most:+g} us"

    def met(self, figure: float) -> bool:
        """Tell whether ``figure`` reaches the target."""
        return figure <= self.at_most
