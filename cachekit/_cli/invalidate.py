"""``cachekit invalidate``: values that the next call loads again."""

from __future__ import annotations

import argparse
from typing import Final

from cachekit._cli.output import Output
from cachekit._cli.places import url_of
from cachekit._cli.removal import TIMEOUT, add_removal, finish, nothing, remove
from cachekit.cache import Cache
from cachekit.errors import ConfigurationError, StoreUnavailableError
from cachekit.tags import is_name

HELP: Final = "invalidate keys, the values of a pattern, or tags: the next call loads"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_removal(parser)
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="all values with this tag; repeat it")


async def run(options: argparse.Namespace, out: Output) -> int:
    """Invalidate, and return 1 if the store did not acknowledge it, or there may be more keys.

    A pattern stands for values alone: windows cannot be loaded again (`erase`).
    """
    if not options.tag:
        if not options.keys:
            message = "name keys, a pattern or tags: cachekit invalidate profile:42, or --tag team:7"
            raise ConfigurationError(message)
        return await remove(options, out, "invalidate", "string")
    if options.keys:
        message = "keys and tags are invalidated one after the other; leave one of them out"
        raise ConfigurationError(message)
    for tag in options.tag:
        if not is_name(tag):
            message = f"{tag!r} is no name of a tag; write it as a template gives it, such as team:7"
            raise ConfigurationError(message)
    if not options.yes and not out.confirm(f"invalidate every value with {' or '.join(options.tag)}?"):
        return nothing(out, "invalidated")
    async with Cache(url_of(options), prefix=options.prefix, timeout=TIMEOUT, keys=None) as cache:
        acknowledged = await cache.invalidate_tags(*options.tag)
    if not acknowledged:
        cause = "unacknowledged"
        raise StoreUnavailableError(cause, "the store did not acknowledge it")
    return finish(out, "invalidated", len(options.tag), whole=True, thing="tag")
