"""Removing keys: which ones, whether a person wants it, and how the cache does it."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cachekit._cli.existing import Wanted, existing, is_pattern
from cachekit._cli.keys import add_bounds, counted
from cachekit._cli.output import Output
from cachekit._cli.places import add_place, url_of
from cachekit.cache import Cache
from cachekit.errors import ConfigurationError, StoreUnavailableError
from cachekit.tags import is_tag

TIMEOUT: Final = 5.0
"""Seconds for each step: a person waits for it, no caller."""

STEP: Final = 500
_SHOWN: Final = 10


def add_removal(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of a command that removes keys."""
    parser.add_argument("keys", nargs="*", metavar="KEY", help="without the prefix; or a pattern of keys that exist")
    add_place(parser)
    add_bounds(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask before more than one key is removed")


async def named(options: argparse.Namespace, out: Output, kind: str = "") -> tuple[list[str], bool]:
    """Return the keys that the arguments name, and whether those are all: patterns stand for what exists.

    Raises:
        StoreError: A server did not answer.
        ConfigurationError: One is the key of a tag.
    """
    for one in filter(is_tag, options.keys):
        message = f"{one!r} is the key of a tag; write cachekit invalidate --tag, and its name"
        raise ConfigurationError(message)
    keys: dict[str, None] = dict.fromkeys(one for one in options.keys if not is_pattern(one))
    for doubled in [one for one in options.keys if options.prefix and one.startswith(options.prefix)]:
        out.mention(f"{doubled} begins with the prefix, which stands before it once more; leave it out", "warning")
    whole = True
    for pattern in [one for one in options.keys if is_pattern(one)]:
        bounds = {"limit": options.limit, "within": options.within}
        wanted = Wanted(url=url_of(options), prefix=options.prefix, pattern=pattern, kind=kind, **bounds)
        with out.progress("looking") as progress:
            found = await existing(wanted, progress)
        mine = [key for key in found.keys if not is_pattern(key)]
        if len(mine) < len(found.keys):
            foreign = counted(len(found.keys) - len(mine), "key")
            out.mention(f"{foreign} with a *, ? or [, which no template gives: left to those who wrote them", "warning")
        keys.update(dict.fromkeys(mine))
        whole = whole and found.whole
    return [*keys], whole


async def remove(options: argparse.Namespace, out: Output, verb: str, kind: str = "") -> int:
    """Remove the keys that the arguments name, after a question if they are several; return the exit status."""
    keys, whole = await named(options, out, kind)
    done = "invalidated" if verb == "invalidate" else "erased"
    if len(keys) > 1 and not options.yes and not _wanted(keys, out, verb):
        return nothing(out, done)
    async with Cache(url_of(options), prefix=options.prefix, timeout=TIMEOUT, keys=None) as cache:
        with out.progress(verb) as progress:
            await in_steps(keys, cache.erase, progress)
    return finish(out, done, len(keys), whole=whole)


def _wanted(keys: Sequence[str], out: Output, verb: str) -> bool:
    for key in keys[:_SHOWN]:
        out.mention(f"  {key}")
    if len(keys) > _SHOWN:
        out.mention(f"  and {len(keys) - _SHOWN:,} more")
    return out.confirm(f"{verb} {counted(len(keys), 'key')}?")


async def in_steps(
    keys: Sequence[str], remove_some: Callable[..., Awaitable[bool]], progress: Callable[[int], None]
) -> None:
    """Remove ``keys``, some at a time.

    Raises:
        StoreError: The store did not acknowledge one of the steps.
    """
    for start in range(0, len(keys), STEP):
        some = keys[start : start + STEP]
        if not await remove_some(*some):
            cause = "unacknowledged"
            raise StoreUnavailableError(cause, f"the store did not acknowledge it; {start:,} keys are removed")
        progress(start + len(some))


def nothing(out: Output, done: str) -> int:
    """Say that the removal was not wanted, and return the exit status."""
    if out.as_json:
        out.document({done: 0, "whole": False})
    else:
        out.say(f"nothing was {done}")
    return 1


def finish(out: Output, done: str, count: int, *, whole: bool, thing: str = "key") -> int:
    """Say what was done, and return the exit status: 1 if there may be more."""
    if out.as_json:
        out.document({done: count, "whole": whole})
    else:
        end = "" if whole else ", and there may be more"
        out.say(f"{counted(count, thing)} {done}{end}")
    return 0 if whole else 1
