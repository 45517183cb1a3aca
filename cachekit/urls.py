"""Where a store is: one frozen type for each kind of URL, and `parse`, which returns one of them.

==================== ================================================= =============================
`MemoryURL`          ``memory://``                                     in this process
`ServerURL`          ``redis://``, ``rediss://``                       one server
`UnixURL`            ``unix://``                                       one server, by a socket's path
`SentinelURL`        ``redis+sentinel://``, ``rediss+sentinel://``     the master of a service
`ClusterURL`         ``redis+cluster://``, ``rediss+cluster://``       a Redis Cluster
==================== ================================================= =============================

``rediss`` stands for TLS. Each type checks its own values. Its text is the URL for people, without the options;
a password is masked in that text, and every repr leaves it out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from cachekit.config import DEFAULT_MAXSIZE, DEFAULT_URL, parse_count
from cachekit.errors import ConfigurationError

_LOGGER: Final = logging.getLogger("cachekit")

_SENTINEL_FORM: Final = "redis+sentinel://host:26379,host:26379/mymaster/0"
_CLUSTER_FORM: Final = "redis+cluster://host:6379,host:6379"
_FORMS: Final = (
    "redis://host:6379/0, rediss://user:password@host:6379/0, unix:///run/redis.sock?db=0, "
    f"{_SENTINEL_FORM}, {_CLUSTER_FORM} or memory://"
)


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The user and the password for a server. There is no login when both are None."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the part of a URL before the host, the password masked."""
        secret = ":***" if self.password else ""
        return f"{self.username or ''}{secret}@" if self.username or secret else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Files for TLS, each a PEM file or None. The server is verified in any case, its host name included."""

    ssl_ca_certs: str | None = None
    """The authorities that are trusted, instead of the system's."""

    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryURL:
    """A store in this process.

    Raises:
        ConfigurationError: ``maxsize`` is not a whole number of at least 1.
    """

    maxsize: int = DEFAULT_MAXSIZE

    def __post_init__(self) -> None:
        parse_count(self.maxsize, "maxsize")

    def __str__(self) -> str:
        return "memory://"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerURL:
    """One server, by host and port; ``protocol`` is the version of RESP, 2 or 3.

    Raises:
        ConfigurationError: No host, or a port, a database or a protocol that does not exist.
    """

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    login: Login = Login()
    tls: TLS | None = None
    protocol: int = 2

    def __post_init__(self) -> None:
        _check_host(self.host, self.scheme)
        _check_port(self.port, self.scheme)
        _check_database(self.db)
        _check_protocol(self.protocol)

    @property
    def scheme(self) -> str:
        """The scheme of the URL, which says whether connections are encrypted."""
        return "rediss" if self.tls else "redis"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.login}{Endpoint(self.host, self.port)}/{self.db}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixURL:
    """One server, by the path of its socket; ``protocol`` is the version of RESP, 2 or 3.

    Raises:
        ConfigurationError: No path, or a database or a protocol that does not exist.
    """

    path: str
    db: int = 0
    login: Login = Login()
    protocol: int = 2

    def __post_init__(self) -> None:
        _check_path(self.path)
        _check_database(self.db)
        _check_protocol(self.protocol)

    def __str__(self) -> str:
        return f"unix://{self.login}{self.path}?db={self.db}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelURL:
    """The master of a service, by its sentinels; ``protocol`` is the version of RESP, 2 or 3.

    Raises:
        ConfigurationError: No sentinel, no service, or a port, a database or a protocol that does not exist.
    """

    sentinels: tuple[Endpoint, ...]
    service: str
    """The name by which the sentinels know the master."""

    db: int = 0
    login: Login = Login()
    """For the master."""

    sentinel_login: Login = Login()
    tls: TLS | None = None
    """For the master and for the sentinels."""

    protocol: int = 2

    def __post_init__(self) -> None:
        _check_service(self.service, self.scheme)
        _check_endpoints(self.sentinels, self.scheme)
        _check_database(self.db)
        _check_protocol(self.protocol)

    @property
    def scheme(self) -> str:
        """The scheme of the URL, which says whether connections are encrypted."""
        return "rediss+sentinel" if self.tls else "redis+sentinel"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.login}{','.join(map(str, self.sentinels))}/{self.service}/{self.db}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterURL:
    """A Redis Cluster, by some of its nodes; ``protocol`` is the version of RESP, 2 or 3.

    Raises:
        ConfigurationError: No node, or a port or a protocol that does not exist.
    """

    nodes: tuple[Endpoint, ...]
    """The nodes by which the others are found."""

    login: Login = Login()
    tls: TLS | None = None
    protocol: int = 2

    def __post_init__(self) -> None:
        _check_endpoints(self.nodes, self.scheme)
        _check_protocol(self.protocol)

    @property
    def scheme(self) -> str:
        """The scheme of the URL, which says whether connections are encrypted."""
        return "rediss+cluster" if self.tls else "redis+cluster"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.login}{','.join(map(str, self.nodes))}"


StoreURL: TypeAlias = MemoryURL | ServerURL | UnixURL | SentinelURL | ClusterURL


def parse(url: object) -> StoreURL:
    """Return the value that ``url`` stands for.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``; ``redis+sentinel://`` and
            ``redis+cluster://`` with several hosts, or ``rediss+…`` for TLS.

    Raises:
        ConfigurationError: An unknown scheme, option, port or database; the message never
            shows the password.

    Example:
        >>> str(parse("redis://app:secret@localhost/2"))
        'redis://app:***@localhost:6379/2'
    """
    if not isinstance(url, str):
        message = f"a URL must be text, not {type(url).__name__}; write {_FORMS}"
        raise ConfigurationError(message)
    parts = _split(url)
    if parts.scheme not in _OPTIONS:
        # The text before the last @ may be a password.
        scheme = parts.scheme if "://" in url else url.rpartition("@")[2]
        message = f"unknown URL scheme {scheme!r}; write {_FORMS}"
        raise ConfigurationError(message)
    _check_login(parts)
    if "redis" in parts.scheme and parts.path and "://" not in url:
        # Otherwise its host would be taken for a database.
        message = f"the {parts.scheme}:// URL has no // before its host; write {_FORMS}"
        raise ConfigurationError(message)
    return _KINDS[parts.scheme](parts, _options(parts))


def url_from_environment() -> str:
    """Return ``CACHEKIT_URL``, else ``REDIS_URL``, else ``redis://localhost:6379/0``.

    ``REDIS_URL`` belongs to other libraries as well: options that cachekit does not know are left out of it, and
    noted in the log by name, once. In ``CACHEKIT_URL`` they are errors.

    Raises:
        ConfigurationError: The URL makes no sense; the message names the variable.
    """
    for name in ("CACHEKIT_URL", "REDIS_URL"):
        url = os.environ.get(name)
        if not url:
            continue
        try:
            used = _without_options_of_others(url) if name == "REDIS_URL" else url
            parse(used)
        except ConfigurationError as error:
            message = f"the environment's {name}: {error}"
            raise ConfigurationError(message) from None
        return used
    return DEFAULT_URL


# --- a URL that other libraries use as well -------------------------------------------------------------

# Known to redis-py, Celery, kombu, aiocache, django-redis and their kin, and of no use here: cachekit has one timeout,
# one connection, and decodes by itself.
_OF_OTHERS: Final = frozenset(
    {
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size", "timeout"),
        *("retry_on_timeout", "retry_on_error", "max_connections", "health_check_interval", "client_name"),
        *("decode_responses", "encoding", "encoding_errors", "legacy_responses", "virtual_host", "visibility_timeout"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_path", "ssl_ca_data", "ssl_min_version", "ssl_ciphers"),
    }
)
_REQUIRED: Final = frozenset({"required", "cert_required"})
_FALSE: Final = frozenset({"0", "f", "false", "n", "no", "off", "none"})

_noted: Final[set[str]] = set()
"""What was noted about ``REDIS_URL`` in this process, so that it is noted once."""


def _without_options_of_others(url: str) -> str:
    """Return ``url`` with the options that cachekit knows, and note the names of the others in the log, once.

    Other libraries are configured by the same variable, so an option of theirs is no error.
    """
    parts = _split(url)
    known = _OPTIONS.get(parts.scheme)
    if known is None:
        # `parse` says which schemes there are.
        return url
    _check_login(parts)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    others = {name: value for name, value in pairs if name not in known}
    if not others:
        return url
    _note(parts.scheme, others)
    kept = urlencode([(name, value) for name, value in pairs if name in known])
    return url.partition("?")[0] + (f"?{kept}" if kept else "")


def _note(scheme: str, others: dict[str, str]) -> None:
    """Log the names of options that are passed over. Their values may be secrets."""
    text = f"options in REDIS_URL that cachekit has no use for are passed over: {', '.join(sorted(others))}"
    unverified = [name for name, value in others.items() if _turns_verification_off(name, value)]
    if unverified and scheme.startswith("rediss"):
        text += (
            f"; {' and '.join(sorted(unverified))} would turn the verification of TLS off, and it stays on: "
            "name a private authority by ssl_ca_certs"
        )
    if text not in _noted:
        _noted.add(text)
        harmless = not unverified and others.keys() <= _OF_OTHERS
        _LOGGER.log(logging.INFO if harmless else logging.WARNING, "%s", text)


def _turns_verification_off(name: str, value: str) -> bool:
    if name == "ssl_cert_reqs":
        return value.lower() not in _REQUIRED
    return name == "ssl_check_hostname" and value.lower() in _FALSE


# --- one function for each kind -----------------------------------------------------------------------


def _memory(parts: SplitResult, options: dict[str, str]) -> MemoryURL:
    if parts.netloc or parts.path.strip("/"):
        message = "memory:// takes no host and no path; write memory:// or memory://?maxsize=10000"
        raise ConfigurationError(message)
    return MemoryURL(maxsize=_whole(options["maxsize"], "maxsize")) if "maxsize" in options else MemoryURL()


def _server(parts: SplitResult, options: dict[str, str]) -> ServerURL:
    if "," in parts.netloc.rpartition("@")[2]:
        message = f"{parts.scheme}:// takes one host; for several write {_SENTINEL_FORM} or {_CLUSTER_FORM}"
        raise ConfigurationError(message)
    return ServerURL(
        host=parts.hostname or "localhost",
        port=_port(parts, 6379),
        db=_database(parts.path.strip("/"), options),
        login=_login(parts),
        tls=_tls(parts, options),
        protocol=_protocol(options),
    )


def _unix(parts: SplitResult, options: dict[str, str]) -> UnixURL:
    _check_path(parts.path.strip("/"))
    return UnixURL(
        path=unquote(parts.path), db=_database("", options), login=_login(parts), protocol=_protocol(options)
    )


def _sentinel(parts: SplitResult, options: dict[str, str]) -> SentinelURL:
    service, _, number = parts.path.strip("/").partition("/")
    _check_service(service, parts.scheme)
    return SentinelURL(
        sentinels=_endpoints(parts, 26_379),
        service=unquote(service),
        db=_database(number, options),
        login=_login(parts),
        sentinel_login=Login(username=options.get("sentinel_username"), password=options.get("sentinel_password")),
        tls=_tls(parts, options),
        protocol=_protocol(options),
    )


def _cluster(parts: SplitResult, options: dict[str, str]) -> ClusterURL:
    if parts.path.strip("/") not in {"", "0"}:
        message = f"a cluster has the database 0 alone; write {_CLUSTER_FORM}"
        raise ConfigurationError(message)
    return ClusterURL(
        nodes=_endpoints(parts, 6379), login=_login(parts), tls=_tls(parts, options), protocol=_protocol(options)
    )


_KINDS: Final[dict[str, Callable[[SplitResult, dict[str, str]], StoreURL]]] = {
    "redis": _server,
    "rediss": _server,
    "unix": _unix,
    "memory": _memory,
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}
_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL: Final = frozenset({"db", "protocol", "sentinel_username", "sentinel_password"})
_OPTIONS: Final[dict[str, frozenset[str]]] = {
    "redis": frozenset({"db", "protocol"}),
    "rediss": frozenset({"db", "protocol"}) | _TLS,
    "unix": frozenset({"db", "protocol"}),
    "memory": frozenset({"maxsize"}),
    "redis+sentinel": _SENTINEL,
    "rediss+sentinel": _SENTINEL | _TLS,
    "redis+cluster": frozenset({"protocol"}),
    "rediss+cluster": frozenset({"protocol"}) | _TLS,
}


# --- the parts of a URL ---------------------------------------------------------------------------------


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # The standard library's message may quote the password: it is not passed on.
        message = f"the URL cannot be read; write {_FORMS}"
        raise ConfigurationError(message) from None


def _check_login(parts: SplitResult) -> None:
    """Refuse a password with a bare / ? or #: its rest would be read as a path or an option, and be quoted."""
    beyond = parts.query if parts.scheme == "unix" else parts.path + parts.query
    if parts.fragment or "@" in beyond:
        message = (
            f"the {parts.scheme}:// URL has a # in it, or an @ behind a / or ?; "
            "write these in percent form, such as %23 and %40, also / ? : in a password"
        )
        raise ConfigurationError(message)


def _options(parts: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    known = _OPTIONS[parts.scheme]
    for name, _ in pairs:
        if name not in known:
            message = f"unknown option {name!r} for {parts.scheme}://; it takes {', '.join(sorted(known)) or 'none'}"
            if name in {"ssl_cert_reqs", "ssl_check_hostname"}:
                message += "; leave it out: TLS is always verified, host name included"
            elif name in _OF_OTHERS:
                message += "; leave it out: it is an option of other libraries"
            raise ConfigurationError(message)
    return dict(pairs)


def _login(parts: SplitResult) -> Login:
    return Login(
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _tls(parts: SplitResult, options: dict[str, str]) -> TLS | None:
    if not parts.scheme.startswith("rediss"):
        return None
    return TLS(**{name: value for name, value in options.items() if name in _TLS})


def _port(parts: SplitResult, default: int) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return default
    _check_port(port, parts.scheme)
    return port


def _endpoints(parts: SplitResult, default_port: int) -> tuple[Endpoint, ...]:
    """Return the hosts of a URL that has several, with their ports."""
    endpoints: list[Endpoint] = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        one = _split(f"{parts.scheme}://{text}")
        host = one.hostname or ""
        _check_host(host, parts.scheme)
        endpoints.append(Endpoint(host, _port(one, default_port)))
    return tuple(endpoints)


def _database(path: str, options: dict[str, str]) -> int:
    """Return the database that the path names, or the option ``db``, which goes before it."""
    number = _whole(path, "the database in the URL's path") if path else 0
    return _whole(options["db"], "db") if "db" in options else number


def _protocol(options: dict[str, str]) -> int:
    text = options.get("protocol", "2")
    # A text such as 03 is not a version, though it is a number.
    _check_protocol(int(text) if text in {"2", "3"} else text)
    return int(text)


def _whole(text: str, name: str) -> int:
    # No database and no size has more digits, and Python refuses to read very many.
    if text.isascii() and text.isdigit() and len(text) < 20:  # noqa: PLR2004
        return int(text)
    message = f"{name} is {text!r}; write a whole number such as 0"
    raise ConfigurationError(message)


# --- checks -------------------------------------------------------------------------------------------


def _check_port(port: int, scheme: str) -> None:
    if port not in range(1, 65_536):
        message = f"the port of the {scheme}:// URL is not a number from 1 to 65535; write {_FORMS}"
        raise ConfigurationError(message)


def _check_host(host: str, scheme: str) -> None:
    if not host:
        message = f"the {scheme}:// URL has a host without a name; write {_FORMS}"
        raise ConfigurationError(message)


def _check_endpoints(endpoints: tuple[Endpoint, ...], scheme: str) -> None:
    for host, port in endpoints or (("", 0),):
        _check_host(host, scheme)
        _check_port(port, scheme)


def _check_path(path: str) -> None:
    if not path:
        message = "unix:// needs the path of a socket; write unix:///run/redis/redis.sock?db=0"
        raise ConfigurationError(message)


def _check_service(service: str, scheme: str) -> None:
    if not service:
        message = f"{scheme}:// needs the name of the master's service; write {_SENTINEL_FORM}"
        raise ConfigurationError(message)


def _check_database(db: int) -> None:
    if db < 0:
        message = f"db is {db!r}; write a whole number such as 0"
        raise ConfigurationError(message)


def _check_protocol(protocol: int | str) -> None:
    if protocol not in {2, 3}:
        message = f"protocol is {protocol!r}; write 2 or 3, the version of RESP to speak"
        raise ConfigurationError(message)
