"""``cachekit get``: print the value at a key. It alone prints texts of values."""

from __future__ import annotations

import argparse
import base64
from typing import Any, Final

import orjson

from cachekit._cli.existing import check_key
from cachekit._cli.output import Output
from cachekit._cli.places import add_place, nothing_at, url_of
from cachekit._cli.standing import Standing, standing_at
from cachekit.errors import ConfigurationError

HELP: Final = "print the value at a key, or the items of a window"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("key", help="without the prefix, as .key() of a function gives it")
    add_place(parser)


async def run(options: argparse.Namespace, out: Output) -> int:
    """Print the value; return 1 if there is none."""
    standing = await standing_at(url_of(options), options.prefix, check_key(options.key))
    if standing.kind == "none":
        out.document(None) if out.as_json else out.mention(nothing_at(options), "warning")
        return 1
    value = content_of(standing)
    if out.as_json:
        out.document({"key": options.key, "value": value, **standing.described()})
        return 0
    out.say(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
    out.mention(", ".join(f"{name} {told}" for name, told in standing.described().items()))
    return 0


def content_of(standing: Standing) -> Any:
    """Return the value, or the items of a window, newest first. A sealed one stays sealed.

    Raises:
        ConfigurationError: The bytes are no entry of this toolkit.
    """
    if standing.kind == "list":
        return [_json(item) for item in standing.items]
    if standing.entry is None:
        message = "what stands there is no entry that this version reads: another program, or a later version, wrote it"
        raise ConfigurationError(message)
    return _json(standing.entry.data)


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"bytes": base64.b64encode(data).decode()}
