"""Which keys exist: a scan of every server, bounded in number and in time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from cachekit.config import parse_count, parse_duration
from cachekit.errors import ConfigurationError
from cachekit.stores.sweeping import literal
from cachekit.stores.visits import masters_of, scan
from cachekit.tags import MARK
from cachekit.urls import parse

MOST: Final = 10_000
WITHIN: Final = "1m"
ANSWER: Final = 5.0
"""Seconds within which a server has to answer each step."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which keys are looked for, and for how long.

    Raises:
        ConfigurationError: A bound makes no sense, or there is no store to look into.
    """

    url: str
    prefix: str = ""
    pattern: str = "*"
    """A pattern of Redis for the part of a key behind the prefix: ``*``, ``?``, ``[ab]``, ``[^a]``, ``[a-c]``."""
    kind: str = ""
    """The type of Redis's that values have: "string", "list" for windows, "" for any."""
    limit: int = MOST
    within: float | str = WITHIN
    tags: bool = False
    """Whether keys of tags are wanted, too."""

    def __post_init__(self) -> None:
        """Refuse a pattern that Redis reads otherwise than a shell."""
        if re.search(r"(?<!\\)\[!", self.pattern):
            message = (
                f"in {self.pattern!r} Redis takes the ! for one of the letters; "
                "write [^a] for every letter but a, and [a!] for an a or a !"
            )
            raise ConfigurationError(message)


class Found(Struct, frozen=True):
    """The keys that were found, without the prefix, in order."""

    keys: list[str]
    whole: bool
    """Whether that is all: no bound was reached."""


async def existing(wanted: Wanted, progress: Callable[[int], None]) -> Found:
    """Return the keys that match. ``progress`` is called with the number of keys that were found.

    Raises:
        StoreError: A server did not answer.
        ConfigurationError: As `Wanted`.
    """
    limit, ends = parse_count(wanted.limit, "--limit"), time.monotonic() + parse_duration(wanted.within, "--within")
    pattern = f"{literal(wanted.prefix)}{wanted.pattern}".encode(errors="surrogateescape")
    keys: dict[str, None] = {}
    for door in await masters_of(parse(wanted.url), ANSWER):
        async for names in scan(door, ANSWER, pattern, wanted.kind):
            keys.update(dict.fromkeys(key for key in map(_key, names) if _is_wanted(key, wanted)))
            progress(len(keys))
            if len(keys) > limit or time.monotonic() > ends:
                return Found([*_without(wanted.prefix, keys)][:limit], whole=False)
            # Ctrl-C gets its turn, and so does the display.
            await asyncio.sleep(0)
    return Found(sorted(_without(wanted.prefix, keys)), whole=True)


def _key(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _is_wanted(key: str, wanted: Wanted) -> bool:
    # The name of a lease is no UTF-8; nor is a key of this toolkit any other such name.
    is_lease = any("\udc80" <= letter <= "\udcff" for letter in key)
    return not is_lease and (wanted.tags or not key.startswith(wanted.prefix + MARK))


def _without(prefix: str, keys: dict[str, None]) -> list[str]:
    return [key[len(prefix) :] for key in keys]


def is_pattern(text: str) -> bool:
    """Tell whether ``text`` stands for several keys: no key has these letters, which are escaped in values."""
    return any(mark in text for mark in "*?[")


def check_key(key: str) -> str:
    """Return ``key`` if it is one.

    Raises:
        ConfigurationError: It is a pattern.
    """
    if is_pattern(key):
        message = f"{key!r} is a pattern, and one key is needed; `cachekit keys {key!r}` lists those that match"
        raise ConfigurationError(message)
    return key
