"""Which keys are asked for: popular ones by Zipf's law, and scans in between."""

from __future__ import annotations

import itertools
import random
from typing import Final

SKEW: Final = 0.9
"""The n-th popular key is asked for n ** -0.9 as often as the first: what caches in front of databases see."""


def zipf(keys: int, requests: int, *, seed: int = 7) -> list[int]:
    """Return ``requests`` numbers below ``keys``; which of them are popular is random, too."""
    dice = random.Random(seed)
    names = list(range(keys))
    dice.shuffle(names)
    weights = list(itertools.accumulate(n**-SKEW for n in range(1, keys + 1)))
    return dice.choices(names, cum_weights=weights, k=requests)


def scanned(trace: list[int], *, every: int = 2000, scan: int = 1000) -> list[int]:
    """Return ``trace`` with a scan after ``every`` requests: ``scan`` numbers that are never asked for again."""
    fresh = itertools.count(max(trace) + 1)
    mixed: list[int] = []
    for begin in range(0, len(trace), every):
        mixed += trace[begin : begin + every]
        mixed += itertools.islice(fresh, scan)
    return mixed
