"""``cachekit erase``: values and windows of which nothing is to be left."""

from __future__ import annotations

import argparse
from typing import Final

from cachekit._cli.output import Output
from cachekit._cli.removal import add_removal, remove
from cachekit.errors import ConfigurationError

HELP: Final = "leave nothing at keys, or at those of a pattern: values, windows and snapshots"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_removal(parser)


async def run(options: argparse.Namespace, out: Output) -> int:
    """Erase, and return 1 if the store did not acknowledge it, or there may be more keys."""
    if not options.keys:
        message = "name keys or a pattern: cachekit erase snapshots:42; `cachekit clear` removes all of a prefix"
        raise ConfigurationError(message)
    return await remove(options, out, "erase")
