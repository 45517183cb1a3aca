"""The settings of a user: durations, counts, fractions, the prefix, and the defaults. Checked at once.

All durations are seconds unless a name ends in ``_ms``.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from datetime import timedelta
from typing import Final

from cachekit.errors import ConfigurationError

DEFAULT_URL: Final = "redis://localhost:6379/0"
DEFAULT_TIMEOUT: Final = 0.25
DEFAULT_LEASE: Final = 5.0
DEFAULT_RETRY: Final = 10.0
DEFAULT_MAXSIZE: Final = 10_000
DEFAULT_MAX_BYTES: Final = 1024 * 1024
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
        name: The name of the setting, for the message.

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


def refuse_async(option: object, name: str, instead: str) -> None:
    """Refuse a callable whose answer would have to be awaited or iterated over: the cache asks it and goes on.

    Raises:
        ConfigurationError: It is one. ``instead`` is what the message says to write.
    """
    while isinstance(option, functools.partial):
        option = option.func
    # Of its class: Python calls an object by the method of its class.
    called = inspect.getattr_static(type(option), "__call__", None)
    for function in (option, getattr(called, "__func__", called)):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            message = f"{name} is an `async def`, and nothing awaits it; write a plain function: {instead}"
            raise ConfigurationError(message)
        if inspect.isgeneratorfunction(function):
            message = f"{name} is a generator, and nothing iterates over it; write a plain function: {instead}"
            raise ConfigurationError(message)


def check_callback(callback: object, name: str, instead: str) -> None:
    """Refuse what cannot be called, and what `refuse_async` refuses.

    Raises:
        ConfigurationError: It cannot be called, or its answer would have to be awaited.
    """
    if not callable(callback):
        message = f"{name}={_quoted(callback)} is not callable; write {instead}"
        raise ConfigurationError(message)
    refuse_async(callback, name, instead)


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


def check_scope(prefix: object) -> str:
    """Return ``prefix`` when it may stand between the prefix of a cache and its keys.

    Raises:
        ConfigurationError: It may not stand before a key, is empty, or ends in a letter or digit: then the keys of
            ``t1`` and ``t10`` could be the same.
    """
    if isinstance(prefix, str) and prefix and not prefix[-1].isalnum():
        return check_prefix(prefix)
    form = f"{prefix}:" if isinstance(prefix, str) and prefix else "tenant-7:"
    message = f'scoped({prefix!r}) does not tell where the prefix ends; write scoped("{form}")'
    raise ConfigurationError(message)
