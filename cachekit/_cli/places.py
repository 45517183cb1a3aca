"""Where the keys are: the URL and the prefix, which nearly all commands take."""

from __future__ import annotations

import argparse

from cachekit.config import check_prefix
from cachekit.errors import ConfigurationError
from cachekit.urls import MemoryURL, parse, url_from_environment

_URL = "the store (default: CACHEKIT_URL, else REDIS_URL, else redis://localhost:6379/0)"


def add_place(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Declare the URL and the prefix."""
    if positional:
        parser.add_argument("url", nargs="?", metavar="URL", help=_URL)
    else:
        parser.add_argument("--url", help=_URL)
    add_prefix(parser)


def add_prefix(parser: argparse.ArgumentParser) -> None:
    """Declare the prefix."""
    parser.add_argument("--prefix", type=_prefix, default="", help="the prefix= of the cache (default: none)")


def _prefix(text: str) -> str:
    try:
        return check_prefix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def nothing_at(options: argparse.Namespace) -> str:
    """Return what is said when nothing stands at the key: a prefix that was left out is the usual reason."""
    advice = "" if options.prefix else "; if the cache has a prefix, give it as --prefix"
    return f"nothing stands at {options.key!r}{advice}"


def url_of(options: argparse.Namespace) -> str:
    """Return the URL of the store.

    Raises:
        ConfigurationError: It makes no sense, or its store is in one process.
    """
    url: str = url_from_environment() if options.url is None else options.url
    if isinstance(parse(url), MemoryURL):
        message = "memory:// is a store inside of one process, which no other process can look into; name a server"
        raise ConfigurationError(message)
    return url
