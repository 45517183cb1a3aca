"""Stale windows on a line of time: what a call gets, from the fill to the end of the entry."""

from __future__ import annotations

from typing import Final, NamedTuple

from docs.pictures.drawing import LINE, Picture

BAR: Final = 84.0
TEXT: Final = 128.0
ABOUT: Final = """
A line of time for ttl="10m", refresh_ahead=0.1, stale_while_revalidate="1m" and stale_if_error="1h".
Until 9 minutes the value is fresh: a hit.
Until 10 minutes it is due: a hit, and one load begins in the background.
At 10 minutes the TTL ends. Until 11 minutes the value is stale: a call gets it at once, and one load in the background
replaces it.
Until 70 minutes it is a spare: a call loads, and gets the old value only if that load fails. Then no process loads for
the time of retry_after.
At 70 minutes Redis removes the value: a call loads, and gets the exception if that load fails.
"""


class Part(NamedTuple):
    """A part of the time: its freshness, what the option is called, and what a call gets."""

    end: str
    height: int
    colour: str
    freshness: str
    option: str
    lines: tuple[str, ...]


PARTS: Final = (
    Part("9 min", 76, "green", "FRESH", 'ttl="10m"', ("A hit.",)),
    Part("10 min", 96, "blue", "DUE", "refresh_ahead=0.1", ("A hit, and one load begins", "in the background.")),
    Part(
        "11 min",
        96,
        "amber",
        "STALE",
        'stale_while_revalidate="1m"',
        ("The old value, at once. One load in", "the background replaces it."),
    ),
    Part(
        "70 min",
        120,
        "red",
        "SPARE",
        'stale_if_error="1h"',
        ("The call loads. If the load fails,", "the old value. Then no process", "loads for the time of retry_after."),
    ),
)


def picture() -> Picture:
    """Return the picture."""
    picture = Picture("stale", "Stale windows on a line of time", ABOUT, 534)
    picture.text((BAR - 10, 34), "0", look="faint", anchor="end")
    picture.text((TEXT, 34), "The value is stored.", look="faint")
    y = 44.0
    for part in PARTS:
        picture.bar((BAR, y), (26, part.height), part.colour, part.freshness)
        picture.text((TEXT, y + 26), part.option, look=f"{part.colour} code")
        picture.text((TEXT, y + 26 + LINE + 3), *part.lines)
        y += part.height
        picture.line((BAR - 6, y), (444, y), dashed=True)
        picture.text((BAR - 10, y + 5), part.end, look="faint", anchor="end")
    picture.arrow((BAR + 13, y), (BAR + 13, y + 88))
    picture.text((TEXT, y + 24), "Redis has removed the value.", look="faint")
    picture.text((TEXT, y + 24 + LINE + 3), "The call loads. If the load fails,", "the caller gets its exception.")
    return picture
