"""Sweeping: which keys a scan looks for, and which of the keys that it finds are a cache's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

SCAN_COUNT: Final = 500
"""Keys that a server looks at in one step: some 0.1 ms, in which it does nothing else."""

_LEASE: Final = b":lease\xff"


def scan_pattern(prefix: str) -> str:
    r"""Return a pattern that all keys with ``prefix`` match, and their leases, which may have a brace before it.

    Example:
        >>> print(scan_pattern("app:"), scan_pattern("a*b:"))
        *app:* *a\*b:*
    """
    return f"*{literal(prefix)}*" if prefix else "*"


def literal(text: str) -> str:
    r"""Return a pattern that ``text`` alone matches.

    Example:
        >>> print(literal("a*b:"))
        a\*b:
    """
    return _SPECIAL.sub(_escaped, text)


_SPECIAL: Final = re.compile(r"[\[\]*?^\\-]")


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


def of_prefix(names: Iterable[bytes], prefix: str) -> list[bytes]:
    """Return those of ``names`` that begin with ``prefix``, and the leases of keys that do."""
    own = prefix.encode()
    braced = b"{" + own
    return [name for name in names if name.startswith(own) or (name.startswith(braced) and name.endswith(_LEASE))]


def scanned(reply: object) -> tuple[int, list[bytes]] | None:
    """Return the next cursor, and the names that were found, from a reply to SCAN; None if it is no such reply."""
    match reply:
        case [bytes(cursor), list(names)] if cursor.isdigit() and all(type(name) is bytes for name in names):
            return int(cursor), names
        case _:
            return None


def as_bytes(name: str) -> bytes:
    """Return a name that was decoded with surrogates for what is no UTF-8."""
    return name.encode(errors="surrogateescape")
