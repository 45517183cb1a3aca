"""What a call does after looking: one pure table, and nothing else decides it.

==========  ===============  =====================================================
outcome     verdict          why
==========  ===============  =====================================================
`Found`     ``SERVE``        a hit, of the type of the miss
`Miss`      ``LOAD_FILL``    a miss: load, and store what was loaded
`Down`      ``LOAD``         the store has failed already; the call pays no second time
==========  ===============  =====================================================
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from cachekit._tiers.outcome import Down, Found, Miss, Outcome


class Verdict(Enum):
    """What a call does after looking."""

    SERVE = "hand out what was found"
    LOAD_FILL = "run the function and store its result"
    LOAD = "run the function"


TABLE: Final[dict[type[Outcome], Verdict]] = {
    Found: Verdict.SERVE,
    Miss: Verdict.LOAD_FILL,
    Down: Verdict.LOAD,
}


def verdict(outcome: Outcome) -> Verdict:
    """Return what to do after ``outcome``."""
    return TABLE[type(outcome)]
