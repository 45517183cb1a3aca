"""The entry at a key: compact JSON, and room for metadata behind one newline.

Compact JSON never contains a newline, so a second line is unmistakable. This version writes none and
understands none: an entry that has one was written by a later version and is a miss here.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from msgspec import Struct


def lease_key(key: str) -> str:
    """Return the key of the lease of ``key``: in the same slot of a cluster, where that is possible.

    A key with a hash tag gets ``:lease`` behind it. A key without one gets braces round it as well. A key such as
    ``a}b`` has no lease key in its slot; templates cannot make such a key, see `cachekit.keys`.

    Example:
        >>> lease_key("profile:42"), lease_key("{user:42}:profile")
        ('{profile:42}:lease', '{user:42}:profile:lease')
    """
    return f"{key}:lease" if "}" in key else f"{{{key}}}:lease"


class Entry(Struct, frozen=True, gc=False):
    """The entry at a key: the JSON of one value."""

    data: bytes


def parse(raw: bytes) -> Entry | None:
    """Return the entry in ``raw``, or None for an entry that this version does not understand."""
    return None if b"\n" in raw else Entry(raw)


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as fixed-width ISO 8601 in UTC, so that text order is time order.

    Example:
        >>> timestamp(0.25)
        '1970-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamp(item: dict[str, object], seconds: float) -> dict[str, object]:
    """Return ``item`` with its ``timestamp`` at the end, where the trimming script looks first."""
    stamped = {name: value for name, value in item.items() if name != "timestamp"}
    stamped["timestamp"] = timestamp(seconds)
    return stamped


def timestamp_of(item: bytes) -> str:
    """Return the timestamp inside a window's item. An item without one gives ``""``, which is older than all."""
    try:
        stamped = orjson.loads(item)
    except orjson.JSONDecodeError:
        return ""
    found = stamped.get("timestamp") if isinstance(stamped, dict) else None
    return found if isinstance(found, str) else ""
