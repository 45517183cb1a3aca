"""From a URL to connections, and from a URL to a store."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from cachekit.clock import Clock
from cachekit.config import StoreURL
from cachekit.errors import ConfigurationError
from cachekit.stores.base import Store
from cachekit.stores.cluster import Cluster, Node
from cachekit.stores.lane import Connect
from cachekit.stores.memory import MemoryStore
from cachekit.stores.names import found
from cachekit.stores.network import SingleServer
from cachekit.stores.redis import RedisStore
from cachekit.stores.sentinel import SentinelMaster, Sentinels

# Stated one by one, since redis-py's own differ between its entry points and its releases.
_SETTINGS: Final[dict[str, Any]] = {
    # Who connects has deadlines of its own; a socket timeout costs 20 us a GET and swallows cancellations.
    "socket_timeout": None,
    "socket_connect_timeout": None,
    # The lane decides what may be sent twice.
    "retry": Retry(NoBackoff(), 0),
    "health_check_interval": 0,
    # No CLIENT SETINFO: two commands a connection that an ACL would have to allow.
    "driver_info": None,
    # They would also switch off the check for stray replies. RESP2, unless the URL asks for 3, has none, and needs
    # no HELLO, so there is no odd reply to it.
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}

# A peer that vanished without a word is noticed after about 15 s of silence instead of two hours.
_KEEPALIVE: Final[dict[int, int]] = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2))
    if hasattr(socket, name)
}


def connector(url: StoreURL) -> Connect:
    """Return what connects to the server of ``url``. TLS is verified, host name included."""
    if url.scheme == "unix":
        settings = {**_SETTINGS, **_login(url), "protocol": url.protocol}
        return lambda: _connected(UnixDomainSocketConnection(path=url.path, **settings))
    return connector_to(url)(url.host, url.port)


def connector_to(url: StoreURL) -> Callable[[str, int], Connect]:
    """Return what returns what connects to a host and port, with the login and the TLS settings of ``url``."""
    kind, settings = _transport(url)
    settings |= _login(url)
    return lambda host, port: lambda: _connected(kind(host=host, port=port, **settings), host)


def sentinels_of(url: StoreURL) -> Sentinels:
    """Return the sentinels of ``url``, with their login and the TLS settings of the master."""
    kind, settings = _transport(url)
    settings |= {"username": url.sentinel_username, "password": url.sentinel_password}

    def to_sentinel(host: str, port: int) -> Connect:
        return lambda: _connected(kind(host=host, port=port, **settings), host)

    sentinels = [to_sentinel(host, port) for host, port in url.hosts]
    return Sentinels(url.service, sentinels, str(url))


def _login(url: StoreURL) -> dict[str, Any]:
    return {"db": url.db, "username": url.username, "password": url.password}


def _transport(url: StoreURL) -> tuple[type[Connection], dict[str, Any]]:
    """Return the kind of connection that ``url`` asks for, and its settings but for where it leads and as whom."""
    settings = {**_SETTINGS, "socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE, "protocol": url.protocol}
    if not url.tls:
        return Connection, settings
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        path = getattr(url, name)
        if path and not Path(path).is_file():
            message = f"{name}={path!r} is not a file; name a PEM file that exists"
            raise ConfigurationError(message)
        settings[name] = path
    return SSLConnection, {**settings, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


async def _connected(connection: AbstractConnection, host: str | None = None) -> AbstractConnection:
    if host is not None:
        await found(host)
    async with AsyncExitStack() as stack:
        # Cancelled in the middle of the handshake, it would leave its socket open.
        stack.push_async_callback(connection.disconnect, nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call] # redis-py has not annotated it
        stack.pop_all()
    return connection


def open_store(url: str, *, clock: Clock) -> Store:
    """Return the store that ``url`` names; nothing is connected yet.

    Raises:
        ConfigurationError: The URL has an unknown scheme or option.
    """
    parsed = StoreURL.parse(url)
    if parsed.scheme == "memory":
        return MemoryStore(maxsize=parsed.maxsize, clock=clock)
    address = str(parsed)
    if parsed.scheme.endswith("+cluster"):
        seeds, connect_to = [Node(*place) for place in parsed.hosts], connector_to(parsed)
        return RedisStore(lambda deadlines: Cluster(seeds, connect_to, address, deadlines), address)
    if parsed.service:
        sentinels, to_master = sentinels_of(parsed), connector_to(parsed)
        return RedisStore(lambda _: SentinelMaster(sentinels, to_master, address), address)
    connect = connector(parsed)
    return RedisStore(lambda _: SingleServer(connect, address), address)
