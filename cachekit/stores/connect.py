"""Makes connections from a URL, and a store from a URL."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from cachekit.clock import Clock, check_clock
from cachekit.errors import ConfigurationError
from cachekit.stores.base import Store
from cachekit.stores.cluster import Cluster
from cachekit.stores.credentials import Credentials, Logins, check_credentials
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import Connect, ConnectTo
from cachekit.stores.memory import MemoryStore
from cachekit.stores.names import resolve
from cachekit.stores.network import SingleServer
from cachekit.stores.redis import RedisStore
from cachekit.stores.sentinel import SentinelMaster, Sentinels
from cachekit.stores.translate import refuses_login
from cachekit.urls import (
    TLS,
    ClusterURL,
    Endpoint,
    Login,
    MemoryURL,
    SentinelURL,
    ServerURL,
    StoreURL,
    UnixURL,
    parse,
    url_from_environment,
)

Make: TypeAlias = Callable[..., AbstractConnection]
"""Makes a connection that is not connected yet, from a user, a password, and what else is left open."""

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
    return _connecting(url)(Logins(url.login))


def _connecting(url: ServerURL | UnixURL) -> Callable[[Logins], Connect]:
    if isinstance(url, UnixURL):
        settings: dict[str, Any] = {**_SETTINGS, "path": url.path, "db": url.db, "protocol": url.protocol}
        return lambda logins: partial(_connect, partial(UnixDomainSocketConnection, **settings), logins)
    make = _connection_of(url, url.db)
    return lambda logins: _connect_to(make, logins)(url.host, url.port)


def sentinels_of(url: SentinelURL) -> Sentinels:
    """Return the sentinels of ``url``, with their login and the TLS settings of the master."""
    to_sentinel = _connect_to(_connection_of(url), Logins(url.sentinel_login))
    return Sentinels(url.service, [to_sentinel(*sentinel) for sentinel in url.sentinels], str(url))


def _connection_of(url: ServerURL | SentinelURL | ClusterURL, db: int = 0) -> Make:
    """Return what makes a connection to a host and a port, with the TLS settings of ``url``. They are checked now."""
    settings: dict[str, Any] = {**_SETTINGS, "db": db, "protocol": url.protocol}
    settings |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    kind: type[Connection] = Connection
    if url.tls is not None:
        kind = SSLConnection
        settings |= _tls(url.tls)
    return partial(kind, **settings)


def _connect_to(make: Make, logins: Logins) -> ConnectTo:
    return lambda host, port: partial(_connect, partial(make, host=host, port=port), logins, host)


def _tls(tls: TLS) -> dict[str, Any]:
    files = {"ssl_ca_certs": tls.ssl_ca_certs, "ssl_certfile": tls.ssl_certfile, "ssl_keyfile": tls.ssl_keyfile}
    for name, path in files.items():
        if path and not Path(path).is_file():
            message = f"{name}={path!r} is not a file; name a PEM file that exists"
            raise ConfigurationError(message)
    return {**files, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


async def _connect(make: Make, logins: Logins, host: str | None = None) -> AbstractConnection:
    if host is not None:
        await resolve(host)
    try:
        return await _connected(make, await logins.now())
    except RedisError as refusal:
        if not logins.change or not refuses_login(refusal):
            raise
    # The password may have changed since it was asked for.
    return await _connected(make, await logins.now())


async def _connected(make: Make, login: Login) -> AbstractConnection:
    connection = make(username=login.username, password=login.password)
    async with AsyncExitStack() as stack:
        # redis-py leaves the socket open when it is cancelled in the middle of the handshake.
        stack.push_async_callback(connection.disconnect, nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call] # redis-py has not annotated it
        stack.pop_all()
    return connection


def open_store(url: str | None = None, *, credentials: Credentials | None = None, clock: Clock | None = None) -> Store:
    """Return the store that ``url`` names: for several caches on the same connections, or for a store of your own.

    Nothing is connected yet. `Cache` takes the store in place of a URL.

    Args:
        url: As for `cachekit.Cache`; None for that of the environment.
        credentials: As for `cachekit.Cache`.
        clock: Tells the time of a store in memory.

    Raises:
        ConfigurationError: The URL has an unknown scheme or option, or takes no ``credentials``; or ``credentials``
            cannot be asked, or ``clock`` tells no time.

    Example:
        >>> from cachekit.stores import open_store
        >>> store = open_store("redis://localhost:6379/0")
        >>> users, orders = Cache(store, prefix="users:"), Cache(store, prefix="orders:")
        >>> users
        Cache(RedisStore(redis://localhost:6379/0), prefix='users:')
    """
    parsed = parse(url_from_environment() if url is None else url)
    check_clock(clock)
    if credentials is not None:
        check_credentials(credentials)
        _check_takes_credentials(parsed)
    match parsed:
        case MemoryURL() as memory:
            return MemoryStore(maxsize=memory.maxsize, clock=clock)
        case ClusterURL() as cluster:
            return _cluster_store(cluster, credentials)
        case SentinelURL() as sentinel:
            return _sentinel_store(sentinel, credentials)
        case server:
            connect = _connecting(server)
            return RedisStore(
                lambda deadlines, logins: SingleServer(connect(logins), deadlines, renews=logins.change),
                str(server),
                logins=partial(Logins, server.login, credentials),
            )


def _check_takes_credentials(url: StoreURL) -> None:
    if isinstance(url, MemoryURL):
        message = "memory:// has no login; leave credentials= out"
        raise ConfigurationError(message)
    if url.login.password is not None:
        message = "there is a password in the URL, and credentials= give one; leave one of them out"
        raise ConfigurationError(message)


def _cluster_store(url: ClusterURL, credentials: Credentials | None) -> RedisStore:
    make = _connection_of(url)

    def open_cluster(deadlines: Deadlines, logins: Logins) -> Cluster:
        return Cluster(url.nodes, _connect_to(make, logins), deadlines, renews=logins.change)

    return RedisStore(open_cluster, str(url), apart=True, logins=partial(Logins, url.login, credentials))


def _sentinel_store(url: SentinelURL, credentials: Credentials | None) -> RedisStore:
    sentinels, make = sentinels_of(url), _connection_of(url, url.db)

    def open_master(deadlines: Deadlines, logins: Logins) -> SentinelMaster:
        return SentinelMaster(sentinels, _connect_to(make, logins), deadlines, renews=logins.change)

    return RedisStore(open_master, str(url), logins=partial(Logins, url.login, credentials))


def member_connector(url: ClusterURL | SentinelURL, place: Endpoint, *, sentinel: bool = False) -> Connect:
    """Return a function that connects to ``place``, one of the servers to which ``url`` leads, or of its sentinels."""
    login, database = url.login, 0
    if isinstance(url, SentinelURL):
        login, database = (url.sentinel_login, 0) if sentinel else (url.login, url.db)
    return _connect_to(_connection_of(url, database), Logins(login))(*place)
