"""The options of `cachekit.cached`: written once, as a frozen value that checks itself."""

from __future__ import annotations

import functools
import inspect
import random
import types
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Required, TypeAlias, TypedDict

from msgspec import Struct
from msgspec.structs import force_setattr

from cachekit.config import DEFAULT_LEASE, parse_count, parse_duration, parse_fraction
from cachekit.errors import ConfigurationError

Duration: TypeAlias = float | str | timedelta
"""Seconds, a `datetime.timedelta`, or text such as ``"10m"``."""


class NoAnswerError(Exception):
    """A callable option returned an object to await or a generator, which is neither a truth nor a duration."""


class CachedOptions(TypedDict, total=False):
    """The options of `cachekit.cached` for type checkers: those of `Policy`, which has the defaults."""

    ttl: Required[Duration | Callable[[Any], Duration]]
    when: Callable[[Any], bool] | None
    jitter: float
    lease: float
    near: bool | None
    load_timeout: Duration | None
    strict: bool
    max_bytes: int | None


class Policy(Struct, frozen=True, kw_only=True):
    """How the results of one function are cached.

    Raises:
        ConfigurationError: An option makes no sense; the message names it, and what to write instead.
    """

    ttl: Duration | Callable[[Any], Duration]
    when: Callable[[Any], bool] | None = None
    jitter: float = 0.0
    lease: float = DEFAULT_LEASE
    near: bool | None = None
    load_timeout: Duration | None = None
    strict: bool = False
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check every option, and turn durations into seconds."""
        _refuse_async(self.ttl, "ttl", 'ttl=lambda result: "10m"')
        _refuse_async(self.when, "when", "when=lambda result: result is not None")
        if not callable(self.ttl):
            force_setattr(self, "ttl", parse_duration(self.ttl))
        if self.when is not None and not callable(self.when):
            message = f"when={self.when!r} is not callable; write when=lambda result: result is not None"
            raise ConfigurationError(message)
        force_setattr(self, "jitter", parse_fraction(self.jitter, "jitter"))
        force_setattr(self, "lease", parse_duration(self.lease, "lease"))
        if self.load_timeout is not None:
            force_setattr(self, "load_timeout", parse_duration(self.load_timeout, "load_timeout"))
        if self.max_bytes is not None:
            parse_count(self.max_bytes, "max_bytes")
        if self.near not in (None, True, False):
            choice = "write near=True or near=False, or leave it to Cache(url, near=10_000)"
            message = f"near={self.near!r} is no choice; {choice}"
            raise ConfigurationError(message)
        if not isinstance(self.strict, bool):
            message = f"strict={self.strict!r} is no choice; write strict=True or strict=False"
            raise ConfigurationError(message)

    def ttl_of(self, result: Any) -> float | None:
        """Return for how many seconds ``result`` is stored, or None when it is not.

        Raises:
            NoAnswerError: ``when`` or ``ttl`` returned a coroutine, which was closed, another awaitable or a generator.
            Exception: Any that ``when`` or ``ttl`` raises; a `ConfigurationError` for a duration that makes no sense.
        """
        if self.when is not None and not _answer(self.when(result), "when"):
            return None
        # Seconds already, unless it depends on the result.
        option: Any = self.ttl
        ttl: float = parse_duration(_answer(option(result), "ttl")) if callable(option) else option
        # Shorter, never longer: the TTL that was asked for stays the bound.
        return ttl * (1 - self.jitter * random.random()) if self.jitter else ttl  # noqa: S311 - no secret


def _refuse_async(option: object, name: str, instead: str) -> None:
    """Refuse a callable whose answer would have to be awaited or iterated over: the cache asks it and goes on."""
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
