"""``cachekit keys``: list the keys that exist."""

from __future__ import annotations

import argparse
from typing import Final

from cachekit._cli.existing import MOST, WITHIN, Wanted, existing
from cachekit._cli.output import Output
from cachekit._cli.places import add_place, url_of

HELP: Final = "list the keys that exist, by prefix and pattern"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="of the part behind the prefix: *, ?, [ab], [^a], [a-c] (default: *)"
    )
    add_place(parser)
    add_bounds(parser)
    parser.add_argument("--windows", action="store_true", help="windows and snapshots alone")
    parser.add_argument("--tags", action="store_true", help="the keys of tags, too")


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """Declare the bounds of a scan."""
    parser.add_argument("--limit", type=int, default=MOST, help=f"the most keys (default: {MOST:,})")
    parser.add_argument("--within", default=WITHIN, help=f"the most time (default: {WITHIN})")


async def run(options: argparse.Namespace, out: Output) -> int:
    """List the keys; return 1 if there may be more."""
    wanted = Wanted(
        url=url_of(options),
        prefix=options.prefix,
        pattern=options.pattern,
        kind="list" if options.windows else "",
        limit=options.limit,
        within=options.within,
        tags=options.tags,
    )
    with out.progress("looking") as progress:
        found = await existing(wanted, progress)
    if out.as_json:
        out.document({"keys": found.keys, "whole": found.whole})
        return 0 if found.whole else 1
    for key in found.keys:
        out.say(key)
    end = "" if found.whole else ", and there may be more: raise --limit or --within"
    out.mention(f"{counted(len(found.keys), 'key')}{end}")
    return 0 if found.whole else 1


def counted(count: int, thing: str) -> str:
    """Return a number of things.

    Example:
        >>> counted(1, "key"), counted(2000, "key")
        ('1 key', '2,000 keys')
    """
    return f"{count:,} {thing if count == 1 else f'{thing}s'}"
