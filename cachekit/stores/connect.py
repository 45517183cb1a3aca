"""Makes connections from a URL, and a store from a URL."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from cachekit.clock import Clock
from cachekit.errors import ConfigurationError
from cachekit.stores.base import Store
from cachekit.stores.cluster import Cluster
from cachekit.stores.lane import Connect, ConnectTo
from cachekit.stores.memory import MemoryStore
from cachekit.stores.names import resolve
from cachekit.stores.network import SingleServer
from cachekit.stores.redis import RedisStore
from cachekit.stores.sentinel import SentinelMaster, Sentinels
from cachekit.urls import TLS, ClusterURL, Login, MemoryURL, SentinelURL, ServerURL, UnixURL, parse

# Each setting is given, since redis-py's defaults differ between its entry points and its releases.
_SETTINGS: Final[dict[str, Any]] = {
    # The lane has a timeout for connecting. A socket timeout costs 20 us a GET, and swallows cancellations.
    "socket_timeout": None,
    "socket_connect_timeout": None,
    # The lane decides which operations may be sent twice.
    "retry": Retry(NoBackoff(), 0),
    "health_check_interval": 0,
    # Without CLIENT SETINFO: it is two commands for each connection, which an ACL would have to allow.
    "driver_info": None,
    # Maintenance notifications would also switch off the check for stray replies. RESP2, which is used unless the URL
    # asks for 3, has no such notifications, and needs no HELLO, so no odd reply to HELLO is possible.
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}

# A peer that vanished without closing is noticed after about 15 s of silence instead of two hours.
_KEEPALIVE: Final[dict[int, int]] = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2))
    if hasattr(socket, name)
}


def connector(url: ServerURL | UnixURL) -> Connect:
    """Return a function that connects to the server of ``url``. TLS is verified, host name included."""
    if isinstance(url, UnixURL):
        settings: dict[str, Any] = {**_SETTINGS, **_login(url.login), "db": url.db, "protocol": url.protocol}
        return lambda: _connect(UnixDomainSocketConnection(path=url.path, **settings))
    return _connector_to(url, url.login, url.db)(url.host, url.port)


def sentinels_of(url: SentinelURL) -> Sentinels:
    """Return the sentinels of ``url``, with their login and the TLS settings of the master."""
    to_sentinel = _connector_to(url, url.sentinel_login)
    return Sentinels(url.service, [to_sentinel(*sentinel) for sentinel in url.sentinels], str(url))


def _connector_to(url: ServerURL | SentinelURL | ClusterURL, login: Login, db: int = 0) -> ConnectTo:
    """Return a function that makes connections as ``login``, with the TLS settings of ``url``."""
    settings: dict[str, Any] = {**_SETTINGS, **_login(login), "db": db, "protocol": url.protocol}
    settings |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    kind: type[Connection] = Connection
    if url.tls is not None:
        kind = SSLConnection
        settings |= _tls(url.tls)
    return lambda host, port: lambda: _connect(kind(host=host, port=port, **settings), host)


def _login(login: Login) -> dict[str, Any]:
    return {"username": login.username, "password": login.password}


def _tls(tls: TLS) -> dict[str, Any]:
    files = {"ssl_ca_certs": tls.ssl_ca_certs, "ssl_certfile": tls.ssl_certfile, "ssl_keyfile": tls.ssl_keyfile}
    for name, path in files.items():
        if path and not Path(path).is_file():
            message = f"{name}={path!r} is not a file; name a PEM file that exists"
            raise ConfigurationError(message)
    return {**files, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


async def _connect(connection: AbstractConnection, host: str | None = None) -> AbstractConnection:
    if host is not None:
        await resolve(host)
    async with AsyncExitStack() as stack:
        # redis-py leaves the socket open when it is cancelled in the middle of the handshake.
        stack.push_async_callback(connection.disconnect, nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call] # redis-py has not annotated it
        stack.pop_all()
    return connection


def open_store(url: str, *, clock: Clock) -> Store:
    """Return the store that ``url`` names; nothing is connected yet.

    Raises:
        ConfigurationError: The URL has an unknown scheme or option.
    """
    match parse(url):
        case MemoryURL() as memory:
            return MemoryStore(maxsize=memory.maxsize, clock=clock)
        case ClusterURL() as cluster:
            return _cluster_store(cluster)
        case SentinelURL() as sentinel:
            return _sentinel_store(sentinel)
        case server:
            connect, address = connector(server), str(server)
            return RedisStore(lambda deadlines: SingleServer(connect, deadlines), address)


def _cluster_store(url: ClusterURL) -> RedisStore:
    connect_to, address = _connector_to(url, url.login), str(url)
    return RedisStore(lambda deadlines: Cluster(url.nodes, connect_to, deadlines), address, apart=True)


def _sentinel_store(url: SentinelURL) -> RedisStore:
    sentinels, connect_to, address = sentinels_of(url), _connector_to(url, url.login, url.db), str(url)
    return RedisStore(lambda deadlines: SentinelMaster(sentinels, connect_to, deadlines), address)
