"""An outage: Redis, the circuit breaker and the journal on a line of time, and what a call gets meanwhile."""

from __future__ import annotations

from typing import Final

from docs.pictures.drawing import LINE, Picture

REDIS: Final = 28.0
BREAKER: Final = 96.0
JOURNAL: Final = 164.0
TEXT: Final = 216.0
BROAD: Final = 26.0
END: Final = 592.0
ABOUT: Final = """
A line of time with three tracks: Redis, the circuit breaker and the journal.
First Redis answers, the breaker is closed, and the journal is empty: calls are hits and loads.
Then Redis hangs. The calls under way wait for 0.25 seconds at most, and run their function.
The breaker opens. While it is open, a call runs its function at once, and stores nothing.
An invalidation is kept in the journal, and its key is a miss in this process. Probes in the background ask Redis.
Redis is back: a probe is answered, and the breaker closes.
The journal is replayed, and calls are hits again within a second.
"""


def picture() -> Picture:
    """Return the picture."""
    picture = Picture("outage", "An outage: circuit breaker, journal and recovery", ABOUT, 608)
    for x, name in ((REDIS, "Redis"), (BREAKER, "breaker"), (JOURNAL, "journal")):
        picture.text((x + BROAD / 2, 34), name, anchor="middle")
    picture.text((TEXT, 34), "what a call meets")
    # The bars stand on the lines.
    _calls(picture)
    _tracks(picture)
    return picture


def _tracks(picture: Picture) -> None:
    """Draw a bar for each state, from where it begins to where the next one does."""
    tracks = {
        REDIS: ((48, "green", "answers"), (140, "red", "hangs"), (424, "green", "answers")),
        BREAKER: ((48, "green", "closed"), (226, "red", "open"), (444, "green", "closed")),
        JOURNAL: ((48, "green", "empty"), (306, "amber", "keeps keys"), (530, "green", "empty")),
    }
    for x, states in tracks.items():
        ends = [y for y, _, _ in states[1:]] + [END]
        for (y, colour, says), end in zip(states, ends, strict=True):
            picture.bar((x, y), (BROAD, end - y), colour, says)


def _calls(picture: Picture) -> None:
    """Write what happens beside the tracks, and what a call gets by it."""
    picture.text((TEXT, 66), "It is a hit, or it loads", "and its result is stored.")
    notes = (
        (140, "Redis hangs.", ("Calls under way wait for", "0.25 s at most (timeout),", "and run the function.")),
        (226, "The breaker opens.", ("The function runs at once;", "nothing is stored.")),
        (306, "An invalidation is kept.", ("Its key is a miss here.", "In the background probes", "ask Redis.")),
        (424, "Redis is back.", ("A probe is answered, so", "the breaker closes.")),
        (506, "The journal is replayed.", ("Calls are hits again,", "within a second.")),
    )
    for y, heading, lines in notes:
        picture.line((REDIS, y), (444, y), dashed=True)
        picture.text((TEXT, y + 20), heading, look="ink strong")
        picture.text((TEXT, y + 20 + LINE), *lines)
