"""TLS for tests: certificates of a throwaway authority, and what shows them.

A redis-server that was built with TLS speaks it itself; for another, a front of our own does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import pytest
import trustme

from tests.kit.servers import RedisServer, ServerBinary, ServerError, available_servers

NO_TLS = (
    "This test needs a redis-server that was built with TLS and found none: apt-get install redis-server, "
    "or set CACHEKIT_REDIS_SERVER to the path of one."
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of one authority: a server's for this machine, one for elsewhere, a client's.

    Attributes:
        ca: Who trusts this trusts all the others.
        server: Certificate and key of ``localhost`` and 127.0.0.1 in one file.
        elsewhere: Of a server with another name.
        client: Of a client.
    """

    ca: Path
    server: Path
    elsewhere: Path
    client: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Write the files into ``folder``."""
        authority = trustme.CA()
        places = cls(*(folder / f"{name}.pem" for name in ("ca", "server", "elsewhere", "client")))
        authority.cert_pem.write_to_path(str(places.ca))
        names = {
            places.server: ("localhost", "127.0.0.1"),
            places.elsewhere: ("elsewhere.test",),
            places.client: ("app@client.test",),
        }
        for place, identities in names.items():
            authority.issue_cert(*identities).private_key_and_cert_chain_pem.write_to_path(str(place))
        return places


def tls_config(certificates: Certificates, port: int, shown: Path, *, clients: bool | Literal["optional"]) -> list[str]:
    """Return the lines of redis.conf for TLS on ``port``, beside the plain port.

    Args:
        certificates: Whose authority the server trusts.
        port: Where it speaks TLS.
        shown: The certificate that it shows, and its key.
        clients: Whether clients must show one, too; ``"optional"`` checks those that are shown.
    """
    asked = clients if clients == "optional" else "yes" if clients else "no"
    return [
        f"tls-port {port}",
        f"tls-cert-file {shown}",
        f"tls-key-file {shown}",
        f"tls-ca-cert-file {certificates.ca}",
        f"tls-auth-clients {asked}",
    ]


@functools.cache
def has_tls(binary: ServerBinary) -> bool:
    """Tell whether ``binary`` was built with TLS: one that was not does not know the setting."""
    server = RedisServer(binary, "tls-session-caching no")
    try:
        server.start()
    except ServerError as trouble:
        if "Bad directive" not in str(trouble):
            raise
        return False
    finally:
        server.close()
    return True


def tls_server_or_failure() -> ServerBinary:
    """Return the preferred server that has TLS; without one fail the test, and say what to install."""
    binary = next(filter(has_tls, available_servers()), None)
    if binary is None:
        pytest.fail(NO_TLS, pytrace=False)
    return binary


@asynccontextmanager
async def tls_front(
    certificates: Certificates, port: int, shown: Path, *, clients: bool, behind: int
) -> AsyncIterator[None]:
    """Speak TLS on ``port`` for a server that cannot, and listens on the port ``behind``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.load_cert_chain(shown)
    context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
    going_on: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        going_on.add(task)
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(_pass_on(reader, their_writer), _pass_on(their_reader, writer))
        going_on.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    yield
    server.close()
    if going_on:
        await asyncio.wait(going_on, timeout=5)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
