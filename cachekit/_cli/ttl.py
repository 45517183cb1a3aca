"""``cachekit ttl``: print for how long a key lives."""

from __future__ import annotations

import argparse
from typing import Final

from cachekit._cli.existing import check_key
from cachekit._cli.output import Output
from cachekit._cli.places import add_place, nothing_at, url_of
from cachekit._cli.standing import standing_at

HELP: Final = "print for how many seconds a key lives, and its value is fresh"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("key", help="without the prefix, as .key() of a function gives it")
    add_place(parser)


async def run(options: argparse.Namespace, out: Output) -> int:
    """Print the seconds; return 1 if nothing stands at the key."""
    standing = await standing_at(url_of(options), options.prefix, check_key(options.key))
    there = standing.kind != "none"
    fresh = standing.fresh if standing.entry is not None else standing.left
    if out.as_json:
        out.document({"key": options.key, "there": there, "ttl": fresh, "kept": standing.left if there else None})
    elif not there:
        out.mention(nothing_at(options), "warning")
    elif fresh is None:
        out.say("never ends")
    else:
        kept = f", kept for {standing.left:.3f}" if fresh != standing.left else ""
        out.say(f"{fresh:.3f}{kept}")
    return 0 if there else 1
