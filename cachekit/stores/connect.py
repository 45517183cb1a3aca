"""From a URL to a connection, and from a URL to a store."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cachekit.clock import Clock
from cachekit.config import StoreURL
from cachekit.errors import ConfigurationError
from cachekit.stores.base import Store
from cachekit.stores.memory import MemoryStore
from cachekit.stores.redis import RedisStore

# Stated one by one, since redis-py's own differ between its entry points and its releases.
_SETTINGS: Final[dict[str, Any]] = {
    # The lane has deadlines of its own; a socket timeout costs 20 us a GET and swallows cancellations.
    "socket_timeout": None,
    "socket_connect_timeout": 0.5,
    # The lane decides what may be sent twice.
    "retry": Retry(NoBackoff(), 0),
    "health_check_interval": 0,
    # No CLIENT SETINFO: two commands a connection that an ACL would have to allow.
    "driver_info": None,
    # RESP2: no HELLO, so no odd reply to it, and no maintenance notifications, which would also switch
    # off the check for stray replies.
    "protocol": 2,
}

# A peer that vanished without a word is noticed after about 15 s of silence instead of two hours.
_KEEPALIVE: Final[dict[int, int]] = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2))
    if hasattr(socket, name)
}


def connection_factory(url: StoreURL) -> Callable[[], AbstractConnection]:
    """Return what makes unconnected connections to ``url``. TLS is verified, host name included."""
    settings: dict[str, Any] = {**_SETTINGS, "db": url.db, "username": url.username, "password": url.password}
    if url.scheme == "unix":
        return lambda: UnixDomainSocketConnection(path=url.path, **settings)
    settings |= {"host": url.host, "port": url.port, "socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if url.scheme == "redis":
        return lambda: Connection(**settings)
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        path = getattr(url, name)
        if path and not Path(path).is_file():
            message = f"{name}={path!r} is not a file; name a PEM file that exists"
            raise ConfigurationError(message)
    return lambda: SSLConnection(
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        ssl_ca_certs=url.ssl_ca_certs,
        ssl_certfile=url.ssl_certfile,
        ssl_keyfile=url.ssl_keyfile,
        **settings,
    )


def open_store(url: str, *, clock: Clock) -> Store:
    """Return the store that ``url`` names; nothing is connected yet.

    Raises:
        ConfigurationError: The URL has an unknown scheme or option.
    """
    parsed = StoreURL.parse(url)
    if parsed.scheme == "memory":
        return MemoryStore(maxsize=parsed.maxsize, clock=clock)
    return RedisStore(connection_factory(parsed), str(parsed))
