"""The way of a call: a hit, a miss, a call that shares a load, and a store that fails."""

from __future__ import annotations

from typing import Final

from docs.pictures.drawing import Picture

WIDE: Final = 101
COLUMNS: Final = {"hit": 16.0, "miss": 125.0, "shared": 234.0, "failure": 343.0}
COLOURS: Final = {"hit": "green", "miss": "blue", "shared": "amber", "failure": "red"}
ABOUT: Final = """
A call of profile("42") renders its key, and reads the near cache, then the store. Four ways lead from there.
A hit finds a value: the caller gets it after one round trip.
A miss finds no value, and no load under way. It takes the lease, runs the function, and stores the result if it still
holds the lease. That takes three round trips.
A call that finds a load under way waits for it, and shares its result. That takes one round trip.
A failure is a store that does not answer within 0.25 seconds, or answers with an error. The call runs the function,
stores nothing, and asks the store no second time.
Each caller gets a value of the annotated type, or the exception of the function.
"""


def picture() -> Picture:
    """Return the picture."""
    picture = Picture("call", "The way of a call: hit, miss, shared, failure", ABOUT, 582)
    picture.box((16, 16), (428, 54), 'await profile("42")', "key: profile:42", look="ink code")
    picture.arrow((230, 70), (230, 92))
    picture.box((16, 92), (428, 54), "read: the near cache, then the store", "for all cache work: 0.25 s at most")
    for way, x in COLUMNS.items():
        picture.arrow((x + WIDE / 2, 146), (x + WIDE / 2, 170))
        picture.box((x, 170), (WIDE, 28), way, colour=COLOURS[way], look="ink strong")
    _found(picture)
    _done(picture)
    for x in COLUMNS.values():
        picture.arrow((x + WIDE / 2, 472), (x + WIDE / 2, 494))
    picture.box((16, 494), (428, 54), "the caller: a value of the annotated type,", "or the exception of the function")
    trips = {"hit": "1 round trip", "miss": "3 round trips", "shared": "1 round trip", "failure": "1 attempt"}
    for way, cost in trips.items():
        picture.text((COLUMNS[way] + WIDE / 2, 569), cost, look="faint", anchor="middle")
    return picture


def _found(picture: Picture) -> None:
    """Write what the read has found."""
    found = {
        "hit": ("a value,", "still fresh"),
        "miss": ("no value,", "no load yet"),
        "shared": ("a load is", "under way"),
        "failure": ("no answer,", "or an error"),
    }
    for way, lines in found.items():
        picture.text((COLUMNS[way] + WIDE / 2, 219), *lines, look="faint", anchor="middle")


def _done(picture: Picture) -> None:
    """Draw what is done then; a step that two ways have stands at one height."""
    steps = {
        "hit": [],
        "miss": [(264, ("take", "the lease")), (332, ("run the", "function")), (400, ("store, if the", "lease holds"))],
        "shared": [(332, ("wait for", "that load"))],
        "failure": [(332, ("run the", "function")), (400, ("store", "nothing"))],
    }
    for way, boxes in steps.items():
        x, middle, above = COLUMNS[way], COLUMNS[way] + WIDE / 2, 248.0
        for y, lines in boxes:
            picture.arrow((middle, above), (middle, y))
            picture.box((x, y), (WIDE, 46), *lines)
            above = y + 46
        picture.line((middle, above), (middle, 472))
