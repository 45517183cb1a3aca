"""The outcome of a question to a tier, as a value. Above the guard a failure is a value, not an exception."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from math import inf
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from cachekit.entry import Entry
from cachekit.freshness import FRESH, Freshness


class Found(Struct, frozen=True):
    """A value, and the entry that it was decoded from."""

    value: Any
    entry: Entry
    freshness: Freshness = FRESH
    left: float = inf
    """Seconds for which the server keeps it, as of the read; infinite if it was not asked, or keeps it for ever."""

    @property
    def stale_for(self) -> float:
        """Seconds since the end of its TTL; 0.0 if that is still to come."""
        return max(0.0, self.entry.stale - self.left)


class Miss(Enum):
    """The type of `MISS`, so that a checker can tell it from every value: ``value is MISS``.

    Example:
        >>> bool(MISS), MISS is None, isinstance(MISS, Miss)
        (False, False, True)
    """

    MISS = "MISS"

    def __bool__(self) -> Literal[False]:
        """Return False: a miss is falsy. So may values be; compare with ``is``."""
        return False

    def __repr__(self) -> str:
        return "MISS"

    __str__ = __repr__


MISS: Final = Miss.MISS
"""No value: what `peek` and `take` return on a miss or a failure. Falsy, and not None: a cached None is a hit."""


class Down(Struct, frozen=True):
    """The store did not answer the question; ``cause`` is one word for all failures of one kind."""

    cause: str
    of_key: bool = False
    """Whether it says something about the key asked for, and nothing about the store."""
    keys: tuple[str, ...] | None = None
    """Of several keys asked for, the ones that it is about; None: all of them."""


class Unconfirmed(Down, frozen=True):
    """The store has not answered yet, and goes on. It is no failure."""

    result: Callable[[], Awaitable[Any]] | None = None
    """Waits for the answer; raises as a verb does."""


class Distrusted(Struct, frozen=True):
    """The value may have been invalidated, unknown to this process; see `cachekit._tiers.journal`."""


Outcome: TypeAlias = Found | Miss | Down | Distrusted
