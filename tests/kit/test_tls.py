"""A client that knows the kit's authority trusts it, and servers with TLS show and demand its certificates."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit import tls
from tests.kit.binaries import SERVERS, ServerBinary, label, server_or_failure
from tests.kit.ports import free_port
from tests.kit.servers import DEADLINE, RedisServer, ServerError
from tests.kit.tls import Certificates, Clients, TlsTerminator, has_tls, tls_config, tls_server, tls_variants

Start = Callable[..., int]


@pytest.fixture(params=tls_variants(), ids=lambda variant: variant.label)
def start_tls(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Start]:
    """A function that starts a server which speaks TLS, and returns the port where it does."""
    with ExitStack() as stack:

        def start(shown: Path = certificates.server, *, clients: Clients = False) -> int:
            return stack.enter_context(tls_server(request.param, certificates, shown, clients=clients))

        yield start


def trusting(authority: Path | None, client: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if client:
        context.load_cert_chain(client)
    return context


def ping(port: int, context: ssl.SSLContext, host: str = "localhost") -> bytes:
    """Return the bytes that come back through TLS from ``port``; ``host`` is the name that must be certified."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"PING\r\n")
        return secure.recv(7)


def test_the_files_stand_in_the_folder_and_each_certificate_has_its_key(certificates: Certificates) -> None:
    for shown in (certificates.server, certificates.elsewhere, certificates.client):
        assert shown.parent == certificates.ca.parent
        trusting(certificates.ca, shown)
    with pytest.raises(ssl.SSLError):
        trusting(certificates.ca, certificates.ca)  # the certificate of the authority issues none


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_answers_through_tls_to_each_of_its_names(
    start_tls: Start, certificates: Certificates, host: str
) -> None:
    assert ping(start_tls(), trusting(certificates.ca), host) == b"+PONG\r\n"


def test_a_client_that_does_not_know_the_authority_trusts_nothing(start_tls: Start, tmp_path: Path) -> None:
    port = start_tls()
    for stranger in (None, Certificates.make(tmp_path).ca):
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
            ping(port, trusting(stranger))


def test_a_certificate_of_another_host_is_for_that_host_alone(start_tls: Start, certificates: Certificates) -> None:
    port = start_tls(certificates.elsewhere)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'localhost'"):
        ping(port, trusting(certificates.ca))
    assert ping(port, trusting(certificates.ca), "elsewhere.test") == b"+PONG\r\n"


@pytest.mark.parametrize("clients", [False, True, "optional"])
def test_a_server_asks_clients_for_a_certificate_as_it_is_configured(
    start_tls: Start, certificates: Certificates, tmp_path: Path, clients: Clients
) -> None:
    port = start_tls(clients=clients)

    def is_served(client: Path | None) -> bool:
        try:
            return ping(port, trusting(certificates.ca, client)) == b"+PONG\r\n"
        except (ssl.SSLError, ConnectionError):
            return False  # with TLS 1.3 the refusal comes after the client's handshake

    assert is_served(certificates.client)
    assert is_served(None) == (clients is not True)
    assert is_served(Certificates.make(tmp_path).client) == (clients is False)


@pytest.mark.parametrize("binary", SERVERS, ids=label)
def test_a_server_has_tls_if_it_starts_with_it(
    start_server: Callable[..., RedisServer], certificates: Certificates, binary: ServerBinary | None
) -> None:
    lines = tls_config(certificates, free_port(), certificates.server, clients=False)
    if has_tls(server_or_failure(binary)):
        assert start_server(*lines, binary=binary).running
    else:
        with pytest.raises(ServerError, match=r"tls-port|TLS support"):
            start_server(*lines, binary=binary)


def test_each_server_is_tried_behind_a_terminator_and_by_itself_if_it_was_built_with_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built, plain = ServerBinary(Path("/x"), "7.0.15"), ServerBinary(Path("/y"), "9.1.2", "valkey")
    monkeypatch.setattr(tls, "SERVERS", [built, plain])
    monkeypatch.setattr(tls, "has_tls", lambda binary: binary is built)
    assert [variant.label for variant in tls_variants()] == [
        "redis-7.0-terminated",
        "valkey-9.1-terminated",
        "redis-7.0-built-in",
    ]


def test_a_terminator_carries_large_replies_and_reports_the_end_of_its_server(
    own_server: RedisServer, certificates: Certificates
) -> None:
    with (
        TlsTerminator(certificates, certificates.server, clients=False, behind=own_server.port) as front,
        socket.create_connection(("127.0.0.1", front.port), timeout=DEADLINE) as plain,
        trusting(certificates.ca).wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"ECHO %s\r\n" % (b"x" * 60_000))
        received = b""
        while len(received) < 60_010:
            received += secure.recv(65_536)
        assert received == b"$60000\r\n" + b"x" * 60_000 + b"\r\n"
        own_server.kill()
        assert secure.recv(1) == b""
        # Nothing is behind it any more: a new connection is closed, and the terminator lives on.
        for _ in range(2):
            with pytest.raises((OSError, IndexError)):
                assert ping(front.port, trusting(certificates.ca))[0]


@pytest.mark.parametrize("state", ["before the handshake", "in use", "the server has ended"])
def test_a_terminator_ends_in_any_state_of_its_clients(
    own_server: RedisServer, certificates: Certificates, state: str
) -> None:
    with ExitStack() as clients:
        front = TlsTerminator(certificates, certificates.server, clients=False, behind=own_server.port)
        with front:
            plain = clients.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=DEADLINE))
            if state != "before the handshake":
                secure = clients.enter_context(
                    trusting(certificates.ca).wrap_socket(plain, server_hostname="localhost")
                )
                secure.sendall(b"PING\r\n")
                assert secure.recv(7) == b"+PONG\r\n"
            if state == "the server has ended":
                own_server.kill()
        assert front.ended


def test_a_server_that_fails_for_another_reason_does_not_count_as_a_server_with_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(server: RedisServer) -> RedisServer:
        message = f"{server!r} did not answer PING within 10 s"
        raise ServerError(message)

    monkeypatch.setattr(RedisServer, "start", start)
    with pytest.raises(ServerError, match="did not answer"):
        has_tls.__wrapped__(ServerBinary(Path("/x"), "7.0.15"))
