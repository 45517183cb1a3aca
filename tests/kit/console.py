"""Console blocks of pages: the commands in them, and what each prints."""

from __future__ import annotations

import re
from collections.abc import Iterator


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, and what it prints."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output
