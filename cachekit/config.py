"""What a user configures: durations, URLs, options. Checked at once, frozen afterwards.

All durations are seconds unless a name ends in ``_ms``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from cachekit.errors import ConfigurationError

DEFAULT_URL: Final = "redis://localhost:6379/0"
DEFAULT_TIMEOUT: Final = 0.25
DEFAULT_LEASE: Final = 5.0
DEFAULT_MAXSIZE: Final = 10_000
DEFAULT_NEAR: Final = 10_000
DEFAULT_NEAR_BYTES: Final = 64 * 1024 * 1024

# Redis counts expiry in milliseconds since the epoch in 63 bits; a century is far inside that.
DAY: Final = 86_400.0
SHORTEST_TTL: Final = 0.001
LONGEST_TTL: Final = 100 * 365 * DAY

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")
_TTL_FORMS: Final = 'seconds such as 600 or 0.5, a timedelta, or text such as "10m", "1h30m", "250ms"'


def parse_duration(value: object, name: str = "ttl") -> float:
    """Return ``value`` as seconds.

    Args:
        value: Seconds (int or float), a `datetime.timedelta`, or text of numbers with the units
            ms, s, m, h, d, w, such as ``"10m"`` or ``"1h30m"``.
        name: What the setting is called, for the message.

    Returns:
        Seconds, from 0.001 up to 100 years.

    Raises:
        ConfigurationError: The value is none of these, or out of range.

    Example:
        >>> parse_duration("1h30m")
        5400.0
    """
    seconds: float
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = _float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    else:
        message = f"{name}={_quoted(value)} is not a duration; write {_TTL_FORMS}"
        raise ConfigurationError(message)
    if not math.isfinite(seconds) or not SHORTEST_TTL <= seconds <= LONGEST_TTL:
        message = f"{name}={_quoted(value)} is out of range: it must be from 1 ms to 100 years; write {_TTL_FORMS}"
        raise ConfigurationError(message)
    return seconds


def _float(value: float) -> float:
    try:
        return float(value)
    # An int that no float can hold is as good as infinite here.
    except OverflowError:
        return math.inf


def _quoted(value: object) -> str:
    try:
        return repr(value)
    # An int of more digits than Python is willing to write.
    except ValueError:
        return f"a {type(value).__name__} of too many digits"


def parse_fraction(value: object, name: str) -> float:
    """Return ``value`` as a fraction from 0 up to, but not including, 1.

    Raises:
        ConfigurationError: It is not such a number.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    message = f"{name}={_quoted(value)} is not a fraction; write a number from 0 to below 1, such as 0.1"
    raise ConfigurationError(message)


def parse_count(value: object, name: str) -> int:
    """Return ``value`` as a whole number of at least 1.

    Raises:
        ConfigurationError: It is not such a number.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    message = f"{name}={_quoted(value)} is not a count; write a whole number of at least 1"
    raise ConfigurationError(message)


def check_prefix(prefix: object) -> str:
    """Return ``prefix`` when it may stand before every key.

    Raises:
        ConfigurationError: It is no text, or holds whitespace, control characters, surrogates or braces.
    """
    # Braces would move every key of a cluster into one slot, or into none that its lease can share.
    if isinstance(prefix, str) and not re.search(r"[\s\x00-\x1f\x7f\ud800-\udfff{}]", prefix):
        return prefix
    message = f'prefix={prefix!r} cannot stand before a key; write text without blanks or braces, such as "myapp:"'
    raise ConfigurationError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreURL:
    """Where a store is, taken apart. Its repr masks the password."""

    scheme: str
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    maxsize: int = DEFAULT_MAXSIZE
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    hosts: tuple[tuple[str, int], ...] = ()
    """The sentinels, or the nodes that a cluster is found by."""
    service: str = ""
    """What the sentinels call the master."""
    protocol: int = 2
    """The version of RESP that every connection speaks: 2 or 3."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Whether every connection is encrypted and verified."""
        return self.scheme.startswith("rediss")

    def __str__(self) -> str:
        """Return the URL for people: the password masked, the options left out."""
        if self.scheme == "memory":
            return "memory://"
        secret = ":***" if self.password else ""
        user = f"{self.username or ''}{secret}@" if self.username or secret else ""
        if self.scheme == "unix":
            return f"unix://{user}{self.path}?db={self.db}"
        places = self.hosts or ((self.host, self.port),)
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
        if self.scheme.endswith("+cluster"):
            return f"{self.scheme}://{user}{hosts}"
        service = f"{self.service}/" if self.service else ""
        return f"{self.scheme}://{user}{hosts}/{service}{self.db}"

    @classmethod
    def parse(cls, url: object) -> StoreURL:
        """Take ``url`` apart.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``; ``redis+sentinel://`` and
                ``redis+cluster://`` with several hosts, or ``rediss+…`` for TLS.

        Raises:
            ConfigurationError: An unknown scheme, option, port or database; the message never
                shows the password.

        Example:
            >>> str(StoreURL.parse("redis://app:secret@localhost/2"))
            'redis://app:***@localhost:6379/2'
        """
        if not isinstance(url, str):
            message = f"a URL must be text, not {type(url).__name__}; write {_URL_FORMS}"
            raise ConfigurationError(message)
        parts = _split(url)
        if parts.scheme not in _OPTIONS:
            # What stands before the last @ may be a password.
            scheme = parts.scheme if "://" in url else url.rpartition("@")[2]
            message = f"unknown URL scheme {scheme!r}; write {_URL_FORMS}"
            raise ConfigurationError(message)
        _check_login(parts)
        options = _options(parts)
        database = options.pop("db", None)
        place = _PLACES[parts.scheme](parts)
        if database is not None:
            place["db"] = _whole(database, "db")
        maxsize = options.pop("maxsize", None)
        settings: dict[str, Any] = {**place, **options}
        if "protocol" in options:
            settings["protocol"] = _protocol(options["protocol"])
        return cls(
            scheme=parts.scheme,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            maxsize=DEFAULT_MAXSIZE if maxsize is None else parse_count(_whole(maxsize, "maxsize"), "maxsize"),
            **settings,
        )


def _memory(parts: SplitResult) -> dict[str, Any]:
    if parts.netloc or parts.path.strip("/"):
        message = "memory:// takes no host and no path; write memory:// or memory://?maxsize=10000"
        raise ConfigurationError(message)
    return {}


def _unix(parts: SplitResult) -> dict[str, Any]:
    if not parts.path.strip("/"):
        message = "unix:// needs the path of a socket; write unix:///run/redis/redis.sock?db=0"
        raise ConfigurationError(message)
    return {"path": unquote(parts.path)}


def _server(parts: SplitResult) -> dict[str, Any]:
    if "," in parts.netloc.rpartition("@")[2]:
        message = f"{parts.scheme}:// takes one host; for several write {_SENTINEL_FORM} or {_CLUSTER_FORM}"
        raise ConfigurationError(message)
    return {"host": parts.hostname or "localhost", "port": _port(parts), "db": _database(parts.path.strip("/"))}


def _sentinels(parts: SplitResult) -> dict[str, Any]:
    service, _, number = parts.path.strip("/").partition("/")
    if not service:
        message = f"{parts.scheme}:// needs the name of the master's service; write {_SENTINEL_FORM}"
        raise ConfigurationError(message)
    return {"hosts": _hosts(parts, 26_379), "service": unquote(service), "db": _database(number)}


def _cluster(parts: SplitResult) -> dict[str, Any]:
    if parts.path.strip("/") not in {"", "0"}:
        message = f"a cluster has the database 0 alone; write {_CLUSTER_FORM}"
        raise ConfigurationError(message)
    return {"hosts": _hosts(parts, 6379)}


_PLACES: Final[dict[str, Callable[[SplitResult], dict[str, Any]]]] = {
    "redis": _server,
    "rediss": _server,
    "unix": _unix,
    "memory": _memory,
    "redis+sentinel": _sentinels,
    "rediss+sentinel": _sentinels,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}
_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_LOGIN: Final = frozenset({"db", "protocol", "sentinel_username", "sentinel_password"})
_OPTIONS: Final[dict[str, frozenset[str]]] = {
    "redis": frozenset({"db", "protocol"}),
    "rediss": frozenset({"db", "protocol"}) | _TLS,
    "unix": frozenset({"db", "protocol"}),
    "memory": frozenset({"maxsize"}),
    "redis+sentinel": _SENTINEL_LOGIN,
    "rediss+sentinel": _SENTINEL_LOGIN | _TLS,
    "redis+cluster": frozenset({"protocol"}),
    "rediss+cluster": frozenset({"protocol"}) | _TLS,
}
_SENTINEL_FORM: Final = "redis+sentinel://host:26379,host:26379/mymaster/0"
_CLUSTER_FORM: Final = "redis+cluster://host:6379,host:6379"
_URL_FORMS: Final = (
    "redis://host:6379/0, rediss://user:password@host:6379/0, unix:///run/redis.sock?db=0, "
    f"{_SENTINEL_FORM}, {_CLUSTER_FORM} or memory://"
)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # The standard library's message may quote the password: it is not passed on.
        message = f"the URL cannot be read; write {_URL_FORMS}"
        raise ConfigurationError(message) from None


def _check_login(parts: SplitResult) -> None:
    """Refuse what a password with a bare / ? or # is taken for: a host, and an option or path to be quoted."""
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
            raise ConfigurationError(message)
    return dict(pairs)


def _port(parts: SplitResult, default: int = 6379) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return default
    if port not in range(1, 65_536):
        message = f"the port of the {parts.scheme}:// URL is not a number from 1 to 65535; write {_URL_FORMS}"
        raise ConfigurationError(message)
    return port


def _database(text: str) -> int:
    return _whole(text, "the database in the URL's path") if text else 0


def _hosts(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    """Return the hosts of a URL that has several."""
    hosts = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = _split(f"{parts.scheme}://{place}")
        if not one.hostname:
            message = f"the {parts.scheme}:// URL has a host without a name; write {_URL_FORMS}"
            raise ConfigurationError(message)
        hosts.append((one.hostname, _port(one, default_port)))
    return tuple(hosts)


def _protocol(text: str) -> int:
    if text in {"2", "3"}:
        return int(text)
    message = f"protocol is {text!r}; write 2 or 3, the version of RESP to speak"
    raise ConfigurationError(message)


def _whole(text: str, name: str) -> int:
    # No database and no size has more digits, and Python refuses to read very many.
    if text.isascii() and text.isdigit() and len(text) < 20:  # noqa: PLR2004
        return int(text)
    message = f"{name} is {text!r}; write a whole number such as 0"
    raise ConfigurationError(message)


def url_from_environment() -> str:
    """Return ``CACHEKIT_URL``, else ``REDIS_URL``, else ``redis://localhost:6379/0``.

    Raises:
        ConfigurationError: The URL makes no sense; the message names the variable.
    """
    for name in ("CACHEKIT_URL", "REDIS_URL"):
        url = os.environ.get(name)
        if url:
            try:
                StoreURL.parse(url)
            except ConfigurationError as error:
                message = f"the environment's {name}: {error}"
                raise ConfigurationError(message) from None
            return url
    return DEFAULT_URL
