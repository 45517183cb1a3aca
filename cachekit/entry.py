"""The entry at a key: compact JSON, and for some functions a second line of metadata.

Compact JSON never contains a newline, so a second line is unmistakable. It is a JSON object:

======  ========================================================================================================
member  meaning
======  ========================================================================================================
``s``   the stale window in ms: the last part of the time for which the server keeps the entry
``d``   how long the load took, in ms
``t``   the TTL in ms, if that depends on the value
``T``   the tags that the value depends on, and the generation that each had before the load: `cachekit.tags`
``E``   1: the value is sealed
``A``   1: there is no value: an id that a batch has asked for is absent, and that is remembered
======  ========================================================================================================

A ``!`` behind the object, or several, say that the value was expired by hand. A later version may add members. One that
begins with a capital letter changes what the value means: to this version such an entry is a miss. Others are ignored.
Version 0.1 takes every entry with a second line for a miss.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeAlias

import orjson
from msgspec import Struct


def lease_key(key: str) -> bytes:
    r"""Return the name of the lease of ``key``: in the key's slot of a cluster, and at no key and no other lease.

    A name ends in a byte that UTF-8 never has, so no key equals it, by template or by hand: a key is UTF-8. That byte
    tells how the name was made, so it leads back to one key:

    - ``FF``: the key has no ``}``; it stands in braces.
    - ``FE``: the key has a hash tag of its own.
    - ``FD``: any other key. Two bytes in braces, in front of its first ``{``, lead to its slot.

    Raises:
        UnicodeEncodeError: The key has a lone surrogate. It cannot be sent either.

    Example:
        >>> lease_key("profile:42"), lease_key("{user:42}:profile")
        (b'{profile:42}:lease\xff', b'{user:42}:profile:lease\xfe')
    """
    name = key.encode()
    if name and b"}" not in name:
        return b"{%b}:lease\xff" % name
    opened = name.find(b"{")
    if opened >= 0 and name.find(b"}", opened + 1) > opened + 1:
        return b"%b:lease\xfe" % name
    end = len(name) if opened < 0 else opened
    # In front of the first brace, so that the name begins with the prefix of the cache, and an ACL rule covers it.
    return b"%b{%b}%b:lease\xfd" % (name[:end], _tag_of(crc_hqx(name, 0) % _SLOTS), name[end:])


_SLOTS: Final = 16_384

# The checksum of each byte, and the byte by the low half of its checksum, which is another for each byte.
_CHECKSUMS: Final = [crc_hqx(bytes([byte]), 0) for byte in range(256)]
_BYTES: Final = {checksum & 0xFF: byte for byte, checksum in enumerate(_CHECKSUMS)}


def _tag_of(slot: int) -> bytes:
    """Return two bytes, none of them a brace, that stand for ``slot`` as a hash tag."""
    # Four checksums lead to a slot. For each slot at least one of them belongs to a pair without braces.
    pairs = map(_pair_of, range(slot, 4 * _SLOTS, _SLOTS))
    return next(pair for pair in pairs if not {*pair} & {*b"{}"})


def _pair_of(checksum: int) -> bytes:
    """Return the two bytes that have ``checksum``: the last step of the checksum is found first."""
    index = _BYTES[checksum & 0xFF]
    first = _BYTES[(_CHECKSUMS[index] ^ checksum) >> 8]
    return bytes([first, index ^ _CHECKSUMS[first] >> 8])


def is_token(holder: bytes) -> bool:
    """Return whether ``holder`` is the token of a load. Anything else at a lease was written by other code.

    Example:
        >>> is_token(b"0123456789abcdef01234567"), is_token(b"true")
        (True, False)
    """
    return _TOKEN.fullmatch(holder) is not None


_TOKEN: Final = re.compile(rb"[0-9a-f]{24}")


PAUSE: Final = b"~"
"""A lease that begins with it is no token. It is a pause after a failed load."""


def is_pause(holder: bytes) -> bool:
    """Return whether ``holder`` is a pause: the token of a load that failed stands behind its first byte.

    Example:
        >>> is_pause(b"~0123456789abcdef01234567"), is_pause(b"0123456789abcdef01234567")
        (True, False)
    """
    return holder.startswith(PAUSE)


class Entry(Struct, frozen=True, gc=False):
    """The entry at a key: the JSON of one value, and the metadata of its second line. All durations are seconds."""

    data: bytes
    stale: float = 0.0
    """The stale window: the TTL of the value is over when the server keeps it for no longer than this."""
    load: float = 0.0
    """How long its load took; 0.0 if the entry does not say."""
    ttl: float = 0.0
    """Its TTL; 0.0 if the entry does not say."""
    expired: bool = False
    """Whether it was expired by hand."""
    sealed: bool = False
    """Whether its data is sealed: text in base64."""
    tags: Mapping[str, str | None] | None = None
    """Its tags, and their generations; None if it has none."""
    absent: bool = False
    """Whether it remembers that there is no value. Its data is ``null``."""

    @property
    def dated(self) -> bool:
        """Whether the bytes alone do not tell that the value is fresh."""
        return self.expired or self.stale > 0

    def raw(self) -> bytes:
        r"""Return the bytes that stand in the store.

        Example:
            >>> Entry(b"1", stale=60.0, load=0.02).raw()
            b'1\n{"s":60000,"d":20}'
        """
        metadata = self.metadata()
        if metadata == _NOTHING and not self.expired:
            return self.data
        return self.data + b"\n" + metadata + EXPIRED * self.expired

    def metadata(self) -> bytes:
        """Return the object of the second line.

        Example:
            >>> Entry(b'"AQ=="', stale=60.0, sealed=True).metadata()
            b'{"E":1,"s":60000}'
        """
        named = (("s", self.stale), ("d", self.load), ("t", self.ttl))
        members: dict[str, object] = {"E": 1} if self.sealed else {}
        if self.tags is not None:
            members["T"] = self.tags
        if self.absent:
            members["A"] = 1
        members |= {name: max(1, round(seconds * 1000)) for name, seconds in named if seconds}
        return orjson.dumps(members)


_NOTHING: Final = b"{}"

EXPIRED: Final = b"!"
"""Behind the second line: the value was expired by hand. Each time adds one."""


def metadata_of(raw: bytes) -> bytes:
    r"""Return the object of the second line of ``raw``, as it was written; nothing if there is no such line.

    Example:
        >>> metadata_of(b'1\n{"s":60000}!')
        b'{"s":60000}'
    """
    return raw.partition(b"\n")[2].rstrip(EXPIRED)


def parse(raw: bytes, *, sealed: bool = False, tagged: bool = False, absent: bool = False) -> Entry | None:
    r"""Return the entry in ``raw``, or None for an entry that this version does not understand.

    ``sealed``: also one whose value is sealed. Who cannot open it does not understand it.
    ``tagged``: also one that has tags. Who does not ask for these tags does not know whether the value still holds.
    ``absent``: also one of a remembered absence, which only batches understand.

    Example:
        >>> parse(b"1") == Entry(b"1"), parse(b'1\n{"s":60000,"new":[]}!') == Entry(b"1", stale=60.0, expired=True)
        (True, True)
        >>> print(parse(b'1\n{"New":[]}'), parse(b'"AQ=="\n{"E":1}'))
        None None
    """
    # A number, which takes a fifth of the time that a text of one byte takes. Every hit asks.
    if NEWLINE not in raw:
        return Entry(raw)
    data, _, line = raw.partition(b"\n")
    # A function has few second lines, or few that are often read.
    parse_line = (
        _parse_often if len(line) <= _SHORT else _parse_tagged if tagged and len(line) <= _LONG else _parse_line
    )
    metadata = parse_line(line)
    if metadata is None:
        return None
    stale, load, ttl, expired, is_sealed, tags, is_absent = metadata
    if (is_sealed and not sealed) or (tags is not None and not tagged) or (is_absent and not absent):
        return None
    return Entry(data, stale, load, ttl, expired, is_sealed, tags, is_absent)


NEWLINE: Final = ord("\n")
"""Of a bytes object it is looked for in a fifth of the time that a bytes object of one byte takes."""

_Metadata: TypeAlias = tuple[float, float, float, bool, bool, dict[str, str] | None, bool]
"""The fields of an `Entry` behind its data."""


def _parse_line(line: bytes) -> _Metadata | None:
    object_ = line.rstrip(EXPIRED)
    try:
        members = orjson.loads(object_)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(members, dict):
        return None
    sealed, tagged, absent = "E" in members, "T" in members, "A" in members
    tags = members.pop("T", None)
    forms = (members.pop("E", 1), members.pop("A", 1))
    if any(type(form) is not int or form != 1 for form in forms) or any(name[:1].isupper() for name in members):
        return None
    if tagged and not (isinstance(tags, dict) and all(isinstance(one, str) for one in tags.values())):
        return None
    stale, load, ttl = (members.get(name, 0) for name in "sdt")
    if not _is_time(stale) or not _is_time(load) or not _is_time(ttl):
        return None
    return stale / 1000, load / 1000, ttl / 1000, len(object_) < len(line), sealed, tags, absent


_SHORT: Final = 60

_parse_often: Final = lru_cache(1024)(_parse_line)

_LONG: Final = 200
"""The bytes of a line with tags that is remembered, at most: of values that are read as often as others."""

_parse_tagged: Final = lru_cache(4096)(_parse_line)


def _is_time(value: object) -> bool:
    """Tell whether ``value`` is a time in ms, such as a store may keep."""
    return type(value) is int and 0 <= value <= _LONGEST


_LONGEST: Final = 2**53


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as fixed-width ISO 8601 in UTC, so that text order is time order.

    Example:
        >>> timestamp(0.25)
        '1970-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamped(item: bytes, stamp: str) -> bytes:
    """Return the JSON object ``item`` with ``stamp`` as its ``timestamp``, at the end, where a push looks first.

    Example:
        >>> stamped(b'{"n":1}', timestamp(0.25))
        b'{"n":1,"timestamp":"1970-01-01T00:00:00.250000Z"}'
    """
    return b'%b%b"timestamp":"%b"}' % (item[:-1], b"," if len(item) > len("{}") else b"", stamp.encode())


def set_back(item: bytes, now: str) -> bytes | None:
    """Return ``item`` with the timestamp ``now``, if its own is ahead of that and stands where `stamped` puts it."""
    ahead = timestamp_of(item)
    if ahead <= now or len(ahead) != len(now) or not item.endswith(end := b'"%b"}' % ahead.encode(errors="replace")):
        return None
    return b'%b"%b"}' % (item[: -len(end)], now.encode())


def timestamp_of(item: bytes) -> str:
    """Return the timestamp inside a window's item. An item without one gives ``""``, which is older than all."""
    try:
        fields = orjson.loads(item)
    except orjson.JSONDecodeError:
        return ""
    found = fields.get("timestamp") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else ""
