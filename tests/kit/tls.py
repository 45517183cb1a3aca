"""TLS for tests: certificates of a throwaway authority, and servers that show them.

A terminator of our own stands in front of any server. A redis-server that was built with TLS speaks it itself, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import trustme

from tests.kit.binaries import SERVERS, ServerBinary, label, server_or_failure
from tests.kit.ports import free_port
from tests.kit.servers import DEADLINE, RedisServer, ServerError

T = TypeVar("T")

Clients: TypeAlias = bool | Literal["optional"]
"""Whether clients must show a certificate. ``"optional"`` checks a certificate if one is shown."""

VERIFY: Final[dict[Clients, ssl.VerifyMode]] = {
    False: ssl.CERT_NONE,
    True: ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
}


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of one authority: for a server on this machine, for a server with another name, for a client.

    Attributes:
        ca: The certificate of the authority. A client that trusts it trusts all the others.
        server: Certificate and key of ``localhost`` and 127.0.0.1 in one file.
        elsewhere: Certificate and key of a server with another name.
        client: Certificate and key of a client.
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


def tls_config(certificates: Certificates, port: int, shown: Path, *, clients: Clients) -> list[str]:
    """Return the lines of redis.conf for TLS on ``port``, beside the plain port.

    Args:
        certificates: The server trusts their authority.
        port: The port for TLS.
        shown: The certificate that the server shows, and its key.
        clients: Whether clients must show one, too. ``"optional"`` checks a certificate if one is shown.
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
    """Tell whether ``binary`` was built with TLS, from its reason not to start TLS without a certificate.

    Raises:
        ServerError: It gave another reason, such as none within the deadline, or it started.
    """
    server = RedisServer(binary, f"tls-port {free_port()}")
    try:
        server.start()
    except ServerError as error:
        if "tls-cert-file" in str(error):
            return True
        # The second text is of Valkey, which knows the setting even without TLS.
        if any(reason in str(error) for reason in ("Bad directive", "Failed finding TLS support")):
            return False
        raise
    finally:
        server.close()
    message = f"{server!r} started TLS without a certificate"
    raise ServerError(message)


@dataclass(frozen=True, slots=True)
class TlsVariant:
    """One way in which a server comes to speak TLS.

    Attributes:
        binary: The server; None where the machine has none.
        built_in: Whether it speaks TLS itself; else a terminator stands in front of it.
    """

    binary: ServerBinary | None
    built_in: bool

    @property
    def label(self) -> str:
        """A short name for test ids, such as ``"redis-6.2-terminated"``."""
        return f"{label(self.binary)}-{'built-in' if self.built_in else 'terminated'}"


def tls_variants() -> list[TlsVariant]:
    """Return every server behind a terminator. A server that was built with TLS is returned by itself, too."""
    built_in = [binary for binary in SERVERS if binary is not None and has_tls(binary)]
    return [
        *(TlsVariant(binary, built_in=False) for binary in SERVERS),
        *(TlsVariant(b, built_in=True) for b in built_in),
    ]


@contextmanager
def tls_server(
    variant: TlsVariant,
    certificates: Certificates,
    shown: Path,
    *config: str,
    clients: Clients = False,
) -> Iterator[int]:
    """Start a server that speaks TLS, and yield the port where it does.

    Args:
        variant: The server, and how it comes to speak TLS.
        certificates: Their authority is trusted.
        shown: The certificate that is shown, and its key.
        config: Further lines of redis.conf.
        clients: Whether clients must show one, too.
    """
    binary = server_or_failure(variant.binary)
    port = free_port()
    clustered = "cluster-enabled yes" in config
    if variant.built_in:
        lines = [*tls_config(certificates, port, shown, clients=clients), *(["tls-cluster yes"] if clustered else [])]
        with RedisServer(binary, *config, *lines):
            yield port
        return
    # A node announces its address to clients: it is the one of the terminator.
    announced = [f"cluster-announce-port {port}"] if clustered else []
    with (
        RedisServer(binary, *config, *announced) as server,
        TlsTerminator(certificates, shown, clients=clients, behind=server.port, port=port),
    ):
        yield port


class TlsTerminator:
    """Speaks TLS on a free port for a server on the port ``behind``, even if that was built without TLS.

    It has a thread and an event loop of its own, so that neither a test that blocks nor one whose loop stands still
    holds it up.

    Args:
        certificates: It trusts their authority.
        shown: The certificate that it shows, and its key.
        clients: Whether clients must show one, too. ``"optional"`` checks a certificate if one is shown.
        behind: The port of the server.
        port: The port of the terminator; a free port unless given.

    Example:
        >>> with TlsTerminator(certificates, certificates.server, clients=False, behind=server.port) as front:
        ...     Cache(f"rediss://localhost:{front.port}?ssl_ca_certs={certificates.ca}")
    """

    def __init__(
        self,
        certificates: Certificates,
        shown: Path,
        *,
        clients: Clients,
        behind: int,
        port: int | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        self._behind = behind
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
        self._context.load_cert_chain(shown)
        self._context.verify_mode = VERIFY[clients]
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        # Tests have clients that refuse our certificate. asyncio would log each of them as an error.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="TlsTerminator", daemon=True)

    @property
    def ended(self) -> bool:
        """Whether nothing is left of it: no thread, no loop, no connection."""
        return not self._thread.is_alive() and self._loop.is_closed() and not self._connections

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._server = self._wait_for(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        except BaseException:  # a KeyboardInterrupt would leave the thread behind, too; it is raised again
            self._end_thread()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._wait_for(self._end())
        finally:
            self._end_thread()

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    async def _end(self) -> None:
        # The server accepts no more clients. An accepted one gets the turns of the loop that it needs: closing the
        # server earlier would leave its socket open.
        for sock in self._server.sockets:
            self._loop.remove_reader(sock.fileno())
        for _ in range(5):
            await asyncio.sleep(0)
        self._server.close()
        connections = [*self._connections]
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        # The transports of closed connections end in the next turns, too.
        for _ in range(5):
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a connection at its first moment. With asyncio's own ``ssl=`` it is known only after its handshake."""
        self._writers.add(writer)
        task = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            # A handshake that fails, or a server behind that is gone, is the end of the connection.
            with contextlib.suppress(OSError):
                await writer.start_tls(self._context)
                their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._behind)
                writers.append(their_writer)
                self._writers.add(their_writer)
                await asyncio.gather(_pass_on(reader, their_writer), _pass_on(their_reader, writer))
            for each in writers:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()
        finally:
            for each in writers:
                each.transport.abort()
            self._writers.difference_update(writers)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one direction ends, then end the other direction as well."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
