"""The options of `cachekit.cached`: written once, as a frozen value that checks itself.

``stale_while_revalidate``, ``refresh_ahead`` and ``soft_timeout`` are features of the background: a load may go on, or
begin, when its caller has gone. They need arguments that outlive the call (`Policy.background`).
"""

from __future__ import annotations

import difflib
import inspect
import random
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, Literal, Required, TypeAlias, TypedDict, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from cachekit.config import DEFAULT_LEASE, DEFAULT_RETRY, parse_count, parse_duration, parse_fraction, refuse_async
from cachekit.errors import ConfigurationError
from cachekit.freshness import Windows

Duration: TypeAlias = float | str | timedelta
"""Seconds, a `datetime.timedelta`, or text such as ``"10m"``."""


Provider: TypeAlias = Callable[[], Any] | AbstractAsyncContextManager[Any]
"""Provides an argument for a load in the background."""

StaleOn: TypeAlias = type[Exception] | tuple[type[Exception], ...]
"""The exceptions for which a stale value stands in."""


_ANY: Final = (Exception,)


class NoAnswerError(Exception):
    """A callable option returned an object to await or a generator, which is neither a truth nor a duration."""


class CachedOptions(TypedDict, total=False):
    """The options of `cachekit.cached` for type checkers: those of `Policy`, which has the defaults."""

    ttl: Required[Duration | Callable[[Any], Duration]]
    when: Callable[[Any], bool] | None
    jitter: float
    lease: Duration
    near: bool | None
    load_timeout: Duration | None
    strict: bool
    max_bytes: int | None
    stale_while_revalidate: Duration | None
    stale_if_error: Duration | None
    stale_on: StaleOn
    retry_after: Duration
    refresh_ahead: float | Literal["auto"] | None
    soft_timeout: Duration | None
    background: bool | Mapping[str, Provider]
    offline: Duration | None
    private: bool
    tags: bool | Sequence[str | bool]


class CachedManyOptions(CachedOptions, total=False):
    """The options of `cachekit.cached_many` for type checkers: those of `Policy`, and of a batch."""

    max_batch: int
    absent_ttl: Duration | None


class Policy(Struct, frozen=True, kw_only=True):
    """How the results of one function are cached.

    Raises:
        ConfigurationError: An option makes no sense; the message names it, and what to write instead.
    """

    ttl: Duration | Callable[[Any], Duration]
    when: Callable[[Any], bool] | None = None
    jitter: float = 0.0
    lease: Duration = DEFAULT_LEASE
    near: bool | None = None
    load_timeout: Duration | None = None
    strict: bool = False
    max_bytes: int | None = None
    stale_while_revalidate: Duration | None = None
    """For this time after its TTL a value is handed out at once, and one load in all processes replaces it in the
    background. None: never."""
    stale_if_error: Duration | None = None
    """For this time after its TTL a value stands in when the load raises one of ``stale_on``, or takes longer than
    ``load_timeout``. None: never."""
    stale_on: StaleOn = _ANY
    """A type of exceptions, or several in a tuple. A cancellation is none of them."""
    retry_after: Duration = DEFAULT_RETRY
    """The pause after a failed load of a key for which a value stands in: no process loads it in this time."""
    refresh_ahead: float | Literal["auto"] | None = None
    """When a call begins a load in the background before the TTL is over, so that no caller waits. ``"auto"``: by the
    time that the last load took; or a part of the TTL, such as 0.1 for its last tenth."""
    soft_timeout: Duration | None = None
    """A call waits for a load no longer than this when a value may stand in; the load goes on in the background."""
    background: bool | Mapping[str, Provider] = False
    """Provides arguments for loads in the background: ``{"session": open_session}``, a callable or an async context
    manager for each parameter that the key does not name. True: the arguments of each call outlive it."""
    offline: Duration | None = None
    """For this time after it was last known to be true a near value stands in when the load raises one of ``stale_on``
    and the store does not answer. It implies ``near=True``."""
    private: bool = False
    tags: bool | Sequence[str | bool] = ()
    """Templates for names of what the results depend on, ``["team:<team_id>"]``; True, alone or among them, for a tag
    of the function itself, which ``invalidate_all`` needs."""

    def __post_init__(self) -> None:
        """Check every option, and turn durations into seconds."""
        refuse_async(self.ttl, "ttl", 'ttl=lambda result: "10m"')
        refuse_async(self.when, "when", "when=lambda result: result is not None")
        if not callable(self.ttl):
            force_setattr(self, "ttl", parse_duration(self.ttl))
        if self.when is not None and not callable(self.when):
            message = f"when={self.when!r} is not callable; write when=lambda result: result is not None"
            raise ConfigurationError(message)
        force_setattr(self, "jitter", parse_fraction(self.jitter, "jitter"))
        force_setattr(self, "lease", parse_duration(self.lease, "lease"))
        if self.load_timeout is not None:
            force_setattr(self, "load_timeout", parse_duration(self.load_timeout, "load_timeout"))
        self._check_stale()
        if self.max_bytes is not None:
            parse_count(self.max_bytes, "max_bytes")
        force_setattr(self, "tags", _parse_tags(self.tags))
        # Not by equality: 1 equals True, and is a count of results to its author.
        if self.near is not None and not isinstance(self.near, bool):
            choice = "write near=True or near=False, or leave it to Cache(url, near=10_000)"
            message = f"near={self.near!r} is no choice; {choice}"
            raise ConfigurationError(message)
        if not isinstance(self.private, bool):
            message = f"private={self.private!r} is no choice; write private=True or private=False"
            raise ConfigurationError(message)
        if not isinstance(self.strict, bool):
            message = f"strict={self.strict!r} is no choice; write strict=True or strict=False"
            raise ConfigurationError(message)

    def _check_stale(self) -> None:
        """Check the options about stale values."""
        for name, (default, needed) in _NEEDS.items():
            given = getattr(self, name)
            # By identity: who writes the default asks for it.
            if given is not default and not any(getattr(self, one) for one in needed):
                choices = " or ".join(f"{one}={_EXAMPLES[one]}" for one in needed)
                message = f"{name}={_shown(given)} has no effect without {' or '.join(needed)}; write {choices} as well"
                raise ConfigurationError(message)
        self._parse_stale()
        if self.offline is not None and self.near is False:
            message = f"offline={self.offline!r} hands out near values, and near=False keeps none; leave near out"
            raise ConfigurationError(message)

    def _parse_stale(self) -> None:
        for name in ("stale_while_revalidate", "stale_if_error", "retry_after", "soft_timeout", "offline"):
            if getattr(self, name) is not None:
                force_setattr(self, name, parse_duration(getattr(self, name), name))
        if self.refresh_ahead not in (None, "auto"):
            force_setattr(self, "refresh_ahead", _parse_part(self.refresh_ahead))
        force_setattr(self, "stale_on", _parse_stale_on(self.stale_on))
        if not isinstance(self.background, bool):
            force_setattr(self, "background", _parse_background(self.background))

    @property
    def windows(self) -> Windows | None:
        """The stale windows; None for a function that has no option about stale values."""
        if not any((self.stale_while_revalidate, self.stale_if_error, self.refresh_ahead, self.offline)):
            return None
        # Seconds by now.
        revalidate, if_error = cast("tuple[float | None, ...]", (self.stale_while_revalidate, self.stale_if_error))
        ahead = 0.0 if self.refresh_ahead == "auto" else self.refresh_ahead
        ttl = None if callable(self.ttl) else cast("float", self.ttl)
        offline = cast("float | None", self.offline) or 0.0
        return Windows(revalidate=revalidate or 0.0, if_error=if_error or 0.0, ahead=ahead, ttl=ttl, offline=offline)

    @property
    def in_background(self) -> tuple[str, ...]:
        """The options that were given and that let a load go on when its caller has gone."""
        return tuple(name for name in _BEHIND if getattr(self, name) is not None)

    def wants(self, result: Any) -> bool:
        """Return the answer of ``when``, for a policy that has it.

        Raises:
            NoAnswerError: It returned a coroutine, which was closed, another awaitable or a generator.
            Exception: Any that ``when`` raises.
        """
        return self.when is None or bool(_answer(self.when(result), "when"))

    def ttl_of(self, result: Any) -> float:
        """Return for how many seconds ``result`` is stored, if ``when`` lets it be.

        Raises:
            NoAnswerError: ``ttl`` returned a coroutine, which was closed, another awaitable or a generator.
            Exception: Any that ``ttl`` raises; a `ConfigurationError` for a duration that makes no sense.
        """
        # Seconds already, unless it depends on the result.
        option: Any = self.ttl
        ttl: float = parse_duration(_answer(option(result), "ttl")) if callable(option) else option
        # Shorter, never longer: the TTL that was asked for stays the bound.
        return ttl * (1 - self.jitter * random.random()) if self.jitter else ttl  # noqa: S311 - no secret


_BEHIND: Final = ("stale_while_revalidate", "refresh_ahead", "soft_timeout")

_NEEDS: Final = {
    "soft_timeout": (None, ("stale_if_error",)),
    "retry_after": (DEFAULT_RETRY, ("stale_while_revalidate", "stale_if_error", "refresh_ahead")),
    "stale_on": (_ANY, ("stale_while_revalidate", "stale_if_error", "refresh_ahead", "offline")),
    "background": (False, _BEHIND),
}
"""Options that have no effect alone: their default, and the options of which they need one."""

_EXAMPLES: Final = {
    "stale_while_revalidate": '"1m"',
    "stale_if_error": '"1h"',
    "refresh_ahead": '"auto"',
    "soft_timeout": '"200ms"',
    "offline": '"60s"',
}


_MEANT: Final = {
    **dict.fromkeys(
        ("expire", "expires", "expires_in", "expiry", "expiration", "timeout", "max_age", "seconds", "ttl_seconds"),
        "ttl=600",
    ),
    **dict.fromkeys(("prefix", "namespace", "key_prefix", "name"), 'key="profile:<user_id>"'),
    **dict.fromkeys(("key_builder", "builder", "key_func", "keyfn", "make_key", "noself"), 'key="profile:<user_id>"'),
    **dict.fromkeys(("condition", "unless", "skip_if", "skip_cache_func", "cache_if"), "when=lambda result: …"),
    **dict.fromkeys(("swr", "stale", "stale_ttl", "early_ttl"), 'stale_while_revalidate="1m"'),
    **dict.fromkeys(("early", "beta", "refresh"), 'refresh_ahead="auto"'),
    **dict.fromkeys(("fallback", "stale_on_error", "soft_ttl"), 'stale_if_error="1h"'),
    "exceptions": "stale_on=ConnectionError",
    **dict.fromkeys(("maxsize", "max_size", "size", "local"), "near=True, and Cache(url, near=10_000) for how many"),
    **dict.fromkeys(("lock", "protected", "single_flight"), "nothing: calls of one key share a load in any case"),
    **dict.fromkeys(
        ("serializer", "coder", "codec", "pickle_type", "encoder", "response_model"),
        "nothing: the return annotation tells the type that comes back",
    ),
    **dict.fromkeys(
        ("cache", "alias", "backend", "store", "redis", "client", "url"),
        "nothing: the cache is that of configure(), or decorate with cache.cached",
    ),
}
"""What to write for options that other libraries have."""


def meant(name: str, options: Sequence[str]) -> str | None:
    """Return what to write in place of an option ``name`` that is not among ``options``; None if that is not known.

    Example:
        >>> meant("expire", ["ttl", "tags"]), meant("tag", ["ttl", "tags"])
        ('ttl=600', 'tags=…')
    """
    return _MEANT.get(name) or nearest(name, options)


def nearest(name: str, options: Sequence[str]) -> str | None:
    """Return that one of ``options`` whose name is like ``name``, as it is written; None without one."""
    close = difflib.get_close_matches(name, options, 1)
    return f"{close[0]}=…" if close else None


def _parse_tags(value: object) -> tuple[str | bool, ...]:
    if isinstance(value, bool):
        return (True,) if value else ()
    tags = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else (None,)
    if all(tag is True or isinstance(tag, str) for tag in tags):
        return tuple(dict.fromkeys(tags))
    message = f'tags={value!r} are no templates of tags; write tags=["team:<team_id>"], or tags=True'
    raise ConfigurationError(message)


def _shown(option: object) -> str:
    """Return an option as a message quotes it: no more of a dict than its names."""
    return f"{{{', '.join(map(repr, option))}: …}}" if isinstance(option, Mapping) else repr(option)


def _parse_part(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1:
        return float(value)
    message = (
        f"refresh_ahead={value!r} is no part of the ttl; "
        'write refresh_ahead="auto", or a number between 0 and 1, such as 0.1 for the last tenth'
    )
    raise ConfigurationError(message)


def _parse_stale_on(value: object) -> tuple[type[Exception], ...]:
    kinds = value if isinstance(value, tuple) else (value,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return cast("tuple[type[Exception], ...]", kinds)
    message = (
        f"stale_on={value!r} must be types of exceptions that are derived from Exception, which a cancellation is not; "
        "write stale_on=ConnectionError or stale_on=(ConnectionError, TimeoutError)"
    )
    raise ConfigurationError(message)


def _parse_background(value: object) -> dict[str, Provider]:
    form = 'write background={"session": open_session}, or background=True if all arguments outlive the call'
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        message = f"background={value!r} names no parameters; {form}"
        raise ConfigurationError(message)
    for name, provider in value.items():
        if not callable(provider) and not hasattr(provider, "__aenter__"):
            kind = type(provider).__name__
            message = f"background[{name!r}] is a {kind}, neither a callable nor an async context manager; {form}"
            raise ConfigurationError(message)
    return dict(value)


def _answer(value: Any, name: str) -> Any:
    generator = isinstance(value, (types.GeneratorType, types.AsyncGeneratorType))
    if not generator and not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    kind = type(value).__name__
    what = f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"
    unused = "iterates over" if generator else "awaits"
    message = f"its {name} returned {what}, which nothing {unused}; return the answer itself"
    raise NoAnswerError(message)
