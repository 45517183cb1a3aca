"""How much of a long test is run: a short form by default, all of it with ``--long``, as CI does."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def is_long() -> bool:
    """Tell whether this run is the long one."""
    return bool(os.environ.get("CACHEKIT_LONG"))


def sized(short: T, full: T) -> T:
    """Return ``full`` in the long run, else ``short``.

    The short form must be real: the same code, fewer rounds.
    """
    return full if is_long() else short
