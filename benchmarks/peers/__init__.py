"""An adapter per peer: a module with the same few names, so that all of them do the same work.

    NAME          what it is called in tables
    PACKAGE       the distribution whose version is told
    OPTIONS       what is not its default
    PROTECTS      whether it has a protection against stampedes that is switched on by `opened`
    opened        sets up, gives the decorated function, cleans up

The first is doing it by hand, to which all others are compared.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Protocol, TypeAlias, cast

Load: TypeAlias = Callable[[int], Coroutine[Any, Any, dict[str, Any]]]
"""The function to decorate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a peer is set up for.

    Attributes:
        callers: How many call at the same time.
        protected: Whether its protection against stampedes is on, where it can be off.
        entries: How many entries it may hold in the process, where it holds some.
    """

    callers: int
    protected: bool = False
    entries: int = 10_000


class Peer(Protocol):
    """What a module here has."""

    NAME: str
    PACKAGE: str
    OPTIONS: str
    PROTECTS: bool

    def opened(self, url: str, load: Load, setup: Setup, /) -> AbstractAsyncContextManager[Load]:
        """Decorate ``load``."""


MODULES: Final = ("by_hand", "cachekit", "cachekit_near", "cashews", "aiocache", "fastapi_cache2", "async_lru")

BY_HAND: Final = "by hand"


def peer(module: str) -> Peer:
    """Return the adapter of that name.

    Raises:
        ImportError: Its package is not installed.
    """
    return cast("Peer", importlib.import_module(f"{__name__}.{module}"))


def described() -> list[tuple[str, str, str]]:
    """Return name, version and options of each peer; of one that does not import, the error."""
    rows: list[tuple[str, str, str]] = []
    for module in MODULES:
        try:
            found = peer(module)
        except Exception as error:
            rows.append((module, "", repr(error)))
        else:
            rows.append((found.NAME, _version(found.PACKAGE), found.OPTIONS))
    return rows


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # It is imported from its source.
        return "this one"
