"""When certificates end: that of the server, those of the authorities that are trusted, and that of this client."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cachekit._cli.lines import Line, Status, fault, ok
from cachekit.stores.visits import Visit
from cachekit.urls import TLS

_DAY: Final = 86_400
_SOON: Final = 30
_VERY_SOON: Final = 7
"""Days until a certificate ends that are worth a warning, and that are a fault."""


def check_certificate(server: Visit, *, local: bool) -> Line:
    """Return the line about the encryption of the connection, and when the server's certificate ends."""
    shown = server.certificate()
    if shown is not None:
        return _ending("verified; the server's certificate", ssl.cert_time_to_seconds(str(shown["notAfter"])))
    if local:
        return ok("tls", "no TLS, on this machine alone")
    advice = "use rediss://, unless the network between is your own: values and passwords travel readable"
    return Line("tls", Status.WARNING, "no TLS", advice)


def check_files(tls: TLS | None) -> list[Line]:
    """Return the lines about the certificates in files: of the authority, and of this client."""
    lines: list[Line] = []
    if tls is not None and tls.ssl_ca_certs and Path(tls.ssl_ca_certs).is_file():
        context = ssl.create_default_context(cafile=tls.ssl_ca_certs)
        ends = [ssl.cert_time_to_seconds(str(one["notAfter"])) for one in context.get_ca_certs()]
        lines += [_ending("the first authority to end in ssl_ca_certs", min(ends))] if ends else []
    if tls is not None and tls.ssl_certfile and Path(tls.ssl_certfile).is_file():
        lines.append(_of_client(Path(tls.ssl_certfile)))
    return lines


def _of_client(path: Path) -> Line:
    try:
        from cryptography import x509  # noqa: PLC0415 - another extra, and slow to import
    except ImportError:
        advice = 'to see it, write pip install "cachekit-redis[encryption]"'
        return Line("tls", Status.UNKNOWN, "the end of ssl_certfile cannot be read without cryptography", advice)
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return _ending("the certificate of this client", ends.timestamp())


def _ending(what: str, ends: float) -> Line:
    days = (ends - time.time()) / _DAY
    text = f"{what} ends in {days:.0f} days ({datetime.fromtimestamp(ends, UTC):%Y-%m-%d})"
    if days < 0:
        text = f"{what} has ended ({datetime.fromtimestamp(ends, UTC):%Y-%m-%d})"
    advice = "renew it: without it no connection is made, and every call runs uncached"
    if days < _VERY_SOON:
        return fault("tls", text, advice)
    return Line("tls", Status.WARNING, text, advice) if days < _SOON else ok("tls", text)
