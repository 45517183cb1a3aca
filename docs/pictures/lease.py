"""A lease under an invalidation: two processes and Redis on a line of time."""

from __future__ import annotations

from typing import Final

from docs.pictures.drawing import Picture

HERE: Final = 40.0
REDIS: Final = 230.0
THERE: Final = 420.0
ABOUT: Final = """
A line of time with process A, Redis and process B.
A finds no value, and takes the lease with the token 7f. Its function reads the old row.
Meanwhile B writes the new row and invalidates: one command removes the value and the lease.
The function of A returns, and A asks Redis to store the old row under the token 7f.
The lease is gone, so Redis refuses.
The caller in A began before the invalidation: it gets the old row.
B calls next, takes a lease with the token c2, and reads the new row. Its result is stored.
The next call of A is a hit: it gets the new row.
"""


def picture() -> Picture:
    """Return the picture."""
    picture = Picture("lease", "A lease under an invalidation: the invalidation wins", ABOUT, 712)
    for x, name in ((16, "process A"), (176, "Redis"), (336, "process B")):
        picture.box((x, 16), (108, 28), name, look="ink strong")
    for place in (HERE, REDIS, THERE):
        picture.line((place, 44), (place, 650))
    _load(picture)
    _invalidation(picture)
    _refusal(picture)
    _next_load(picture)
    rules = (
        "A result is stored only while the lease has its token.",
        "An invalidation removes value and lease at once.",
    )
    picture.text((16, 676), *rules)
    return picture


def _load(picture: Picture) -> None:
    picture.text((56, 70), "read: no value")
    picture.arrow((HERE, 78), (REDIS, 78))
    picture.text((56, 106), "take the lease: 7f")
    picture.arrow((HERE, 114), (REDIS - 9, 114))
    picture.bar((REDIS - 9, 106), (18, 152), "blue", "lease 7f")
    picture.bar((HERE - 9, 130), (18, 188), "blue", "the function runs")
    picture.text((56, 150), "it reads the old", "row of the source")


def _invalidation(picture: Picture) -> None:
    picture.text((404, 190), "B writes the new", "row to the source", anchor="end")
    picture.text((404, 244), "invalidate", look="red strong", anchor="end")
    picture.arrow((THERE, 252), (REDIS + 9, 252), "red")
    picture.text((404, 271), "value, lease: gone", look="red", anchor="end")


def _refusal(picture: Picture) -> None:
    picture.text((56, 336), "store the old row", "under 7f")
    picture.arrow((HERE, 363), (REDIS, 363))
    picture.arrow((REDIS, 385), (HERE, 385), "red", dashed=True)
    picture.text((56, 404), "refused: no lease 7f", look="red strong")
    picture.text((56, 427), "A's caller began", "before: it gets", "the old row", look="faint")


def _next_load(picture: Picture) -> None:
    picture.text((404, 436), "read: no value;", "take the lease: c2", anchor="end")
    picture.arrow((THERE, 463), (REDIS + 9, 463))
    picture.bar((REDIS - 9, 455), (18, 106), "green", "lease c2")
    picture.bar((THERE - 9, 478), (18, 68), "green", "it runs")
    picture.text((404, 498), "it reads", "the new row", anchor="end")
    picture.text((404, 546), "store it under c2", anchor="end")
    picture.arrow((THERE, 555), (REDIS + 9, 555))
    picture.bar((REDIS - 9, 569), (18, 74), "green", "value")
    picture.text((56, 602), "read: the new row", look="green strong")
    picture.arrow((REDIS - 9, 612), (HERE, 612), "green")
