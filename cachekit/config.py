"""What a user configures: durations, URLs, options. Checked at once, frozen afterwards.

All durations are seconds unless a name ends in ``_ms``.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from cachekit.errors import ConfigurationError

DEFAULT_URL: Final = "redis://localhost:6379/0"
DEFAULT_TIMEOUT: Final = 0.25
DEFAULT_LEASE: Final = 5.0
DEFAULT_MAXSIZE: Final = 10_000

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

    def __str__(self) -> str:
        """Return the URL for people: the password masked, the options left out."""
        if self.scheme == "memory":
            return "memory://"
        secret = ":***" if self.password else ""
        user = f"{self.username or ''}{secret}@" if self.username or secret else ""
        if self.scheme == "unix":
            return f"unix://{user}{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}/{self.db}"

    @classmethod
    def parse(cls, url: object) -> StoreURL:
        """Take ``url`` apart.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``.

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
        database: int | None = None
        if parts.scheme == "memory":
            if parts.netloc or parts.path.strip("/"):
                message = "memory:// takes no host and no path; write memory:// or memory://?maxsize=10000"
                raise ConfigurationError(message)
        elif parts.scheme == "unix":
            if not parts.path.strip("/"):
                message = "unix:// needs the path of a socket; write unix:///run/redis/redis.sock?db=0"
                raise ConfigurationError(message)
        elif parts.path.strip("/"):
            database = _whole(parts.path.strip("/"), "the database in the URL's path")
        db_option = options.pop("db", None)
        if db_option is not None:
            database = _whole(db_option, "db")
        maxsize = options.pop("maxsize", None)
        return cls(
            scheme=parts.scheme,
            host=parts.hostname or "localhost",
            port=_port(parts),
            path=unquote(parts.path) if parts.scheme == "unix" else "",
            db=database or 0,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            maxsize=DEFAULT_MAXSIZE if maxsize is None else parse_count(_whole(maxsize, "maxsize"), "maxsize"),
            **options,
        )


_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_OPTIONS: Final[dict[str, frozenset[str]]] = {
    "redis": frozenset({"db"}),
    "rediss": frozenset({"db"}) | _TLS,
    "unix": frozenset({"db"}),
    "memory": frozenset({"maxsize"}),
}
_URL_FORMS: Final = "redis://host:6379/0, rediss://user:password@host:6379/0, unix:///run/redis.sock?db=0 or memory://"


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
            message = f"unknown option {name!r} for {parts.scheme}://; it takes {', '.join(sorted(known))}"
            raise ConfigurationError(message)
    return dict(pairs)


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return 6379
    if port not in range(1, 65_536):
        message = f"the port of the {parts.scheme}:// URL is not a number from 1 to 65535; write {_URL_FORMS}"
        raise ConfigurationError(message)
    return port


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
