"""Pauses between attempts: they grow, and have jitter, so that many processes do not come together."""

from __future__ import annotations

import random


class Backoff:
    """The pauses of one series of attempts. All durations are seconds.

    Each pause is taken at random from an interval that ends at a bound, and the bound grows by ``factor``.

    Args:
        first: The bound of the first pause.
        longest: The most that the bound grows to; without it all pauses have the same bound.
        factor: The bound is multiplied by it after each pause.
        least: The beginning of the interval, as a fraction of the bound.

    Example:
        >>> backoff = Backoff(0.1, 0.4)
        >>> pauses = [backoff.next() for _ in range(4)]
        >>> all(bound / 2 <= pause <= bound for pause, bound in zip(pauses, (0.1, 0.2, 0.4, 0.4)))
        True
    """

    __slots__ = ("_bound", "_factor", "_first", "_least", "_longest")

    def __init__(self, first: float, longest: float | None = None, *, factor: float = 2.0, least: float = 0.5) -> None:
        self._first = self._bound = first
        self._longest = first if longest is None else longest
        self._factor = factor
        self._least = least

    def next(self) -> float:
        """Return the next pause."""
        bound, self._bound = self._bound, min(self._factor * self._bound, self._longest)
        return bound * random.uniform(self._least, 1.0)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._bound = self._first
