"""Ids of tests that are the same in every process: workers compare theirs."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SET = re.compile(r"\{([^{}:]*)\}")


def shown(value: object) -> str:
    """Return ``value`` as ASCII, without an address in it, and with the members of a set in order."""
    text = _ADDRESS.sub("", ascii(value))
    return _SET.sub(lambda match: f"{{{', '.join(sorted(match[1].split(', ')))}}}", text)
