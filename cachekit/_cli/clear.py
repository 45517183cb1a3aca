"""``cachekit clear``: everything of a prefix."""

from __future__ import annotations

import argparse
from typing import Final

from cachekit._cli.existing import WITHIN
from cachekit._cli.output import Output
from cachekit._cli.places import add_place, url_of
from cachekit._cli.removal import TIMEOUT, finish, nothing
from cachekit.cache import Cache
from cachekit.config import parse_duration
from cachekit.errors import ConfigurationError

HELP: Final = "remove everything of a prefix: values, windows, tags and leases"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_place(parser)
    parser.add_argument("--within", default=WITHIN, help=f"the most time (default: {WITHIN})")
    parser.add_argument("--yes", action="store_true", help="do not ask")


async def run(options: argparse.Namespace, out: Output) -> int:
    """Remove all keys of the prefix; return 1 if some are left."""
    # Before the question, which is about a command that makes sense.
    seconds = parse_duration(options.within, "--within")
    if not options.prefix:
        message = "it would remove every key of the database; write --prefix myapp:"
        raise ConfigurationError(message)
    removed = 0
    async with Cache(url_of(options), prefix=options.prefix, timeout=TIMEOUT, keys=None) as cache:
        question = f"remove every key that begins with {options.prefix!r}?"
        if not options.yes and not out.confirm(question):
            return nothing(out, "removed")
        with out.progress("removing") as progress:

            def note(count: int) -> None:
                nonlocal removed
                removed = count
                progress(count)

            done = await cache.clear(within=seconds, progress=note)
    return finish(out, "removed", removed, whole=done)
