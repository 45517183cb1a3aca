"""How fresh a value is, by the time that the server says is left of it. Pure: no I/O, no clock.

An entry with a stale window lives for its TTL and the window. No clock of a host is asked: hosts disagree.

=============  ==================================================================================
freshness      meaning
=============  ==================================================================================
``FRESH``      its TTL is not over
``DUE``        its TTL is not over, and ``refresh_ahead`` says that a load should begin
``STALE``      its TTL is over for no longer than ``stale_while_revalidate``
``SPARE``      its TTL is over for no longer than ``stale_if_error``; or it was expired by hand
``OVER``       its TTL is over for longer
=============  ==================================================================================
"""

from __future__ import annotations

import math
import random
from enum import Enum
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from cachekit.entry import Entry

LEAST_LOAD: Final = 0.02
"""Seconds that a load takes at least when it is decided how early it begins: its lease and its fill take time, too."""

LARGEST_PART: Final = 0.25
"""The largest part of a TTL by which ``refresh_ahead="auto"`` begins a load before the end."""


class Freshness(Enum):
    """How fresh a value is; the table above has the meaning of each."""

    FRESH = "its TTL is not over"
    DUE = "its TTL is not over, and it is time for a load"
    STALE = "its TTL is over, and it may be handed out at once"
    SPARE = "it may be handed out when a load fails"
    OVER = "it is not handed out any more"


FRESH: Final = Freshness.FRESH


class Windows(Struct, frozen=True, kw_only=True):
    """The stale windows of one function, and how early its loads begin. All durations are seconds."""

    revalidate: float = 0.0
    """For how long after its TTL a value is handed out at once, while one load replaces it."""
    if_error: float = 0.0
    """For how long after its TTL a value stands in for a load that fails."""
    ahead: float | None = None
    """The part of the TTL before whose beginning no load begins; 0.0 decides by the time that a load takes."""
    ttl: float | None = None
    """The TTL of every value; None if it depends on the value."""
    offline: float = 0.0
    """For how long after it was last known to be true a near value stands in, while the store does not answer."""
    earliest: float = 0.0
    """With more than so much of its TTL left no value is due. It follows from the other fields."""

    def __post_init__(self) -> None:
        """Find ``earliest`` once, so that a hit only compares it."""
        if self.ahead is not None:
            part = self.ahead or LARGEST_PART
            force_setattr(self, "earliest", math.inf if self.ttl is None else part * self.ttl)

    @property
    def longest(self) -> float:
        """For how long after its TTL a value is kept."""
        return max(self.revalidate, self.if_error)


def judge(entry: Entry, left: float, windows: Windows | None, early: float = 0.0) -> Freshness:
    """Return how fresh ``entry`` is, of which the server keeps for ``left`` seconds more.

    Args:
        entry: The entry.
        left: Seconds until the server forgets it; infinite if it never does.
        windows: Those of the function that reads it; None if it has none.
        early: How many seconds before the end of its TTL it is due, as `draw` says.

    Example:
        >>> minute = Entry(b"1", stale=60.0)
        >>> windows = Windows(revalidate=10, if_error=60)
        >>> [judge(minute, left, windows).name for left in (61, 55, 45)]
        ['FRESH', 'STALE', 'SPARE']
        >>> judge(minute, 55, None).name
        'OVER'
    """
    fresh = left - entry.stale
    # Without a stale window it is fresh as long as it is there.
    if not entry.expired and (fresh > 0 or not entry.stale):
        return Freshness.DUE if 0 < fresh <= early else FRESH
    if windows is None:
        return Freshness.OVER
    if not entry.expired and -fresh <= windows.revalidate:
        return Freshness.STALE
    if windows.if_error and -fresh <= windows.if_error:
        return Freshness.SPARE
    return Freshness.OVER


def dated(entry: Entry, windows: Windows, ttl: float, took: float) -> tuple[Entry, float]:
    r"""Return the entry to store for a new value, with its metadata, and for how long.

    Args:
        entry: Of the value.
        windows: Of the function that has loaded it.
        ttl: Seconds until it is stale.
        took: Seconds that its load took.

    Example:
        >>> entry, seconds = dated(Entry(b"1"), Windows(if_error=60, ttl=10), ttl=10, took=0.2)
        >>> entry.raw(), seconds
        (b'1\n{"s":60000}', 70)
    """
    load = took if windows.ahead == 0.0 else 0.0
    own_ttl = ttl if windows.ahead is not None and windows.ttl is None else 0.0
    return Entry(entry.data, windows.longest, load, own_ttl, tags=entry.tags), ttl + windows.longest


def draw(entry: Entry, windows: Windows, fresh: float = 0.0) -> float:
    """Return how many seconds before the end of its TTL ``entry`` is due, for this read.

    With so much ``fresh``, the seconds until the end, that it is not due in any case, nothing is drawn.

    ``"auto"`` draws at random for each read: not all callers ask for the load at the same moment, and the more callers
    there are, the earlier the first one does. With the time ``d`` of the last load it is ``d * (1 + Exp(1))``. That is
    XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, 2015) with ``d`` added:
    a load that begins less than ``d`` before the end is late. It is a quarter of the TTL at most.
    """
    if windows.ahead is None:
        return 0.0
    ttl = windows.ttl or entry.ttl
    if windows.ahead:
        return windows.ahead * ttl
    most = ttl * LARGEST_PART
    if fresh > most:
        return 0.0
    early = max(entry.load, LEAST_LOAD) * (1 + random.expovariate(1))
    return min(early, most)
