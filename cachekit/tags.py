"""Tags: names for what values depend on, and the generations by which a value knows whether its tags still stand.

A tag is a key of the store, ``~{name}``, with a random generation. A value records the generations that stood before
its load, and is a hit as long as each of them stands. Each removal of the key of a tag, by an invalidation or
an eviction, makes all values that name it misses. This module is pure: no I/O, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from secrets import token_urlsafe
from typing import Final, TypeAlias

import orjson

MOST: Final = 8
"""The most tags of one value."""

LONGEST: Final = 10 * 86_400.0
"""Seconds that a tag is kept at least. Twice the time that a value may be kept, if that is longer."""

MARK: Final = "~{"
AROUND: Final = (MARK, "}")
"""The text before the name of a tag in its key, and the text behind it."""

Tags: TypeAlias = Mapping[str, str | None]
"""The generation of each tag by its name; None for a tag that is not there, or has nothing that is a generation."""


def tag_key(name: str) -> str:
    """Return the key of the tag ``name``: no template and no caller of `cachekit.Cache` can name it.

    The braces put it into the slot of all keys of a cluster that have the name as their hash tag.

    Example:
        >>> tag_key("team:7")
        '~{team:7}'
    """
    return f"{MARK}{name}}}"


def tag_keys(names: Iterable[str]) -> list[str]:
    """Return the keys of the tags ``names``."""
    return [f"{MARK}{name}}}" for name in names]


def is_tag(key: str) -> bool:
    """Tell whether ``key`` is that of a tag."""
    return key.startswith(MARK)


def name_of(key: str) -> str:
    """Return the name of the tag whose key is ``key``."""
    return key[len(MARK) : -1]


def is_name(text: str) -> bool:
    """Tell whether ``text`` may be the name of a tag, as a template gives it.

    Example:
        >>> is_name("team:7"), is_name("team:a b"), is_name("team:*")
        (True, False, False)
    """
    return _FOREIGN.search(text) is None and bool(text)


_FOREIGN: Final = re.compile(r"[{}<>?*\s\x00-\x1f\x7f\ud800-\udfff]")


def new_generation() -> bytes:
    """Return a generation that was never there: 16 characters that are no JSON, so that no value is taken for one."""
    return b"g" + token_urlsafe(11).encode()


def generations_of(raw: Sequence[bytes | None]) -> list[str | None]:
    """Return the generations that stand in the keys of tags; None for each that has none."""
    return [one.decode() if isinstance(one, bytes) and _GENERATION.fullmatch(one) else None for one in raw]


_GENERATION: Final = re.compile(rb"g[\w-]{15}", re.ASCII)


def are_known(tags: Tags) -> bool:
    """Tell whether each of ``tags`` has a generation. Only then may a value record them."""
    return None not in tags.values()


def line_of(tags: Tags) -> bytes:
    r"""Return the second line of an entry that has ``tags`` and no other metadata, with its newline.

    Example:
        >>> line_of({"team:7": "g0123456789abcde"})
        b'\n{"T":{"team:7":"g0123456789abcde"}}'
    """
    return b"\n" + orjson.dumps({"T": tags})


def members_of(standing: Mapping[str, object]) -> dict[str, bytes]:
    """Return by the key of a tag its member of the second line of an entry, for each one that has a generation.

    Example:
        >>> members_of({"~{team:7}": b"g0123456789abcde", "~{team:8}": None})
        {'~{team:7}': b'"team:7":"g0123456789abcde"'}
    """
    match, written, start = _GENERATION.fullmatch, orjson.dumps, len(MARK)
    return {
        key: written(key[start:-1]) + b':"' + one + b'"'
        for key, one in standing.items()
        if type(one) is bytes and match(one)
    }


def read_line(line: bytes) -> tuple[list[str], list[bytes]] | None:
    r"""Return the keys of the tags in the second ``line`` of an entry, and their generations.

    None for a line that has other metadata as well, or none that is a tag.

    Example:
        >>> read_line(b'\n{"T":{"team:7":"g0123456789abcde"}}')
        (['~{team:7}'], [b'g0123456789abcde'])
    """
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    tags = members.get("T") if isinstance(members, dict) and len(members) == 1 else None
    if not isinstance(tags, dict) or not all(isinstance(one, str) for one in tags.values()):
        return None
    return tag_keys(tags), [one.encode() for one in tags.values()]


def line_in(raw: bytes) -> bytes:
    r"""Return the second line of the entry in ``raw``, with its newline; all of it if it has none.

    Example:
        >>> line_in(b'1\n{"T":{}}'), line_in(b"1")
        (b'\n{"T":{}}', b'1')
    """
    start = raw.find(b"\n")
    return raw[start:] if start >= 0 else raw
