"""The kit's authority is trusted by who knows it, and servers with TLS show and demand what it issued."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.kit import tls
from tests.kit.servers import DEADLINE, RedisServer, ServerBinary, ServerError, available_servers, free_port
from tests.kit.tls import NO_TLS, Certificates, has_tls, tls_config, tls_server_or_failure

Start = Callable[..., int]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start_tls(start_server: Callable[..., RedisServer], certificates: Certificates) -> Start:
    """A function that starts a server of redis's own TLS, and returns the port where it speaks it."""

    def start(shown: Path = certificates.server, *, clients: bool | Literal["optional"] = False) -> int:
        port = free_port()
        lines = tls_config(certificates, port, shown, clients=clients)
        assert start_server(*lines, binary=tls_server_or_failure()).cli("PING") is True
        return port

    return start


def trusting(authority: Path | None, client: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if client:
        context.load_cert_chain(client)
    return context


def ping(port: int, context: ssl.SSLContext, host: str = "localhost") -> bytes:
    """Return what comes back through TLS from ``port``; ``host`` is the name that must be certified."""
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
        trusting(certificates.ca, certificates.ca)  # who has the authority's certificate cannot issue in its name


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


def test_a_certificate_of_elsewhere_is_for_elsewhere_alone(start_tls: Start, certificates: Certificates) -> None:
    port = start_tls(certificates.elsewhere)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'localhost'"):
        ping(port, trusting(certificates.ca))
    assert ping(port, trusting(certificates.ca), "elsewhere.test") == b"+PONG\r\n"


@pytest.mark.parametrize("clients", [False, True, "optional"])
def test_a_server_asks_clients_for_a_certificate_as_it_is_told(
    start_tls: Start, certificates: Certificates, tmp_path: Path, clients: bool | Literal["optional"]
) -> None:
    port = start_tls(clients=clients)

    def is_served(client: Path | None) -> bool:
        try:
            return ping(port, trusting(certificates.ca, client)) == b"+PONG\r\n"
        except (ssl.SSLError, ConnectionError):
            return False  # with TLS 1.3 a refusal comes after the client's handshake

    assert is_served(certificates.client)
    assert is_served(None) == (clients is not True)
    assert is_served(Certificates.make(tmp_path).client) == (clients is False)


@pytest.mark.parametrize("binary", available_servers(), ids=lambda binary: binary.label)
def test_a_server_has_tls_if_it_starts_with_it(
    start_server: Callable[..., RedisServer], certificates: Certificates, binary: ServerBinary
) -> None:
    lines = tls_config(certificates, free_port(), certificates.server, clients=False)
    if has_tls(binary):
        assert start_server(*lines, binary=binary).running
    else:
        with pytest.raises(ServerError, match="tls-port"):
            start_server(*lines, binary=binary)


def test_without_a_server_that_has_tls_a_test_fails_with_the_sentence_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert has_tls(tls_server_or_failure())
    monkeypatch.setattr(tls, "has_tls", lambda _binary: False)
    with pytest.raises(pytest.fail.Exception) as failure:
        tls_server_or_failure()
    assert str(failure.value) == NO_TLS
