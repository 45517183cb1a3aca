"""The verdict on a read: one pure table says how a call goes on, and nothing else decides it.

==============  =========  ===============  =====================================================
outcome         freshness  verdict          why
==============  =========  ===============  =====================================================
`Found`         ``FRESH``  ``SERVE``        a hit, of the type of the miss
`Found`         ``DUE``    ``SERVE_LOAD``   a hit, and soon nobody would find one
`Found`         ``STALE``  ``SERVE_LOAD``   the function allows it to be handed out at once
`Found`         ``SPARE``  ``LOAD_SPARE``   the function allows it to stand in for a load that fails
`Found`         ``OVER``   ``LOAD_FILL``    a miss: its windows are over
`Miss`          none       ``LOAD_FILL``    a miss: load, and fill
`Down`          none       ``LOAD``         the store has failed already; the call pays no second time
`Distrusted`    none       ``REFRESH``      the value may have been invalidated: replace it
==============  =========  ===============  =====================================================

``REFRESH`` takes the lease over, loads and fills. `refresh` does the same, without a read.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from cachekit._tiers.outcome import Distrusted, Down, Found, Miss, Outcome
from cachekit.freshness import Freshness


class Verdict(Enum):
    """How a call goes on after its read."""

    SERVE = "return the value that was found"
    SERVE_LOAD = "return the value that was found, and load in the background"
    LOAD_SPARE = "run the function and store its result; if that fails, return the value that was found"
    LOAD_FILL = "run the function and store its result"
    LOAD = "run the function"
    REFRESH = "run the function and store its result, in place of what any load before it stores"


# A member that is looked up in its class takes 60 ns on Python 3.11, and every hit asks for one.
SERVE: Final = Verdict.SERVE
LOAD: Final = Verdict.LOAD
SERVE_LOAD: Final = Verdict.SERVE_LOAD

TABLE: Final[dict[tuple[type[Outcome], Freshness | None], Verdict]] = {
    (Found, Freshness.FRESH): Verdict.SERVE,
    (Found, Freshness.DUE): Verdict.SERVE_LOAD,
    (Found, Freshness.STALE): Verdict.SERVE_LOAD,
    (Found, Freshness.SPARE): Verdict.LOAD_SPARE,
    (Found, Freshness.OVER): Verdict.LOAD_FILL,
    (Miss, None): Verdict.LOAD_FILL,
    (Down, None): Verdict.LOAD,
    (Distrusted, None): Verdict.REFRESH,
}
"""The verdict on each outcome, by its type and its freshness."""

OF_FRESH: Final[dict[type[Outcome], Verdict]] = {
    outcome: verdict for (outcome, freshness), verdict in TABLE.items() if freshness in {None, Freshness.FRESH}
}
"""The rows for a function without stale windows, to which every value that it finds is fresh. Every hit is looked up
here, since a lookup in the whole table takes six times as long."""


def verdict_on(outcome: Outcome) -> Verdict:
    """Return the verdict on ``outcome``."""
    return TABLE[type(outcome), outcome.freshness if isinstance(outcome, Found) else None]
