"""What is decided once, at decoration, so that a call decides nothing."""

from __future__ import annotations

import inspect
import random
import typing
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from cachekit._tiers.reporter import Reporter
from cachekit.codecs import Codec
from cachekit.config import parse_duration, parse_fraction
from cachekit.errors import ConfigurationError, DecorationError, RenderError
from cachekit.keys import KeyFunction, compile_default_key, compile_key

P = ParamSpec("P")
R = TypeVar("R")

Duration: TypeAlias = float | str | timedelta
"""Seconds, a `datetime.timedelta`, or text such as ``"10m"``."""


class CallPlan(Generic[P, R]):
    """How calls of one function are cached.

    Args:
        function: The ``async def``, not bound.
        key: A key template, or None for the default key.
        ttl: A duration, or a callable that gets the result and returns one.
        when: Gets the result and tells whether to store it; None stores every one.
        jitter: The largest fraction by which a TTL is shortened at random, from 0 to below 1.
        lease: Seconds for which a killed loader can delay others.
        near: Whether results are kept in this process as well; None leaves it to the cache.

    Raises:
        DecorationError: The function or the template cannot be decorated.
        ConfigurationError: ``ttl``, ``jitter`` or ``lease`` makes no sense.
    """

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        *,
        key: str | None,
        ttl: Duration | Callable[[R], Duration],
        when: Callable[[R], bool] | None,
        jitter: float,
        lease: float,
        near: bool | None = None,
    ) -> None:
        signature = check_function(function, "cached")
        self.function = function
        self.name: str = describe(function)
        self.render: KeyFunction = (
            compile_default_key(function, signature) if key is None else compile_key(key, signature)
        )
        # Arguments that do not fit are an error of the function, and say its name.
        self.render.__name__, self.render.__qualname__ = function.__name__, function.__qualname__
        self._ttl = ttl if callable(ttl) else parse_duration(ttl)
        if when is not None and not callable(when):
            message = f"when={when!r} is not callable; write when=lambda result: result is not None"
            raise ConfigurationError(message)
        self._when = when
        self._jitter = parse_fraction(jitter, "jitter")
        self.lease: float = parse_duration(lease, "lease")
        if near not in {None, True, False}:
            message = (
                f"near={near!r} is no choice; write near=True or near=False, or leave it to Cache(url, near=10_000)"
            )
            raise ConfigurationError(message)
        self.near = near
        self.made: Codec | None = None
        """What `codec` returns, once it was made: a hit asks no further."""

    def key_of(self, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return the key of a call, or None, with one warning, when an argument cannot be rendered.

        Raises:
            TypeError: The arguments do not fit the function's signature.
        """
        try:
            key = self.render(*args, **kwargs)
        except RenderError as error:
            reporter.uncached(self.name, "argument", str(error))
            return None
        if reporter.troubles:
            reporter.cached(self.name, "argument")
        return key

    def codec(self, reporter: Reporter) -> Codec:
        """Return the codec of the return annotation.

        Made at the first call and not at decoration: an annotation may name what is defined further down.
        """
        if self.made is None:
            self.made = self._make_codec(reporter)
        return self.made

    def ttl_of(self, result: R, reporter: Reporter) -> float | None:
        """Return for how many seconds ``result`` is stored, or None when it is not."""
        try:
            if self._when is not None and not self._when(result):
                return None
            ttl = parse_duration(self._ttl(result)) if callable(self._ttl) else self._ttl
        # The user's policy is no part of the function: it must not break a call that has its result.
        except Exception as error:
            reporter.uncached(self.name, "policy", f"its when or ttl raised {type(error).__name__}")
            return None
        reporter.cached(self.name, "policy")
        # Shorter, never longer: what was asked for stays the bound.
        return ttl * (1 - self._jitter * random.random()) if self._jitter else ttl  # noqa: S311 - no secret

    def _make_codec(self, reporter: Reporter) -> Codec:
        try:
            hints = typing.get_type_hints(self.function, include_extras=True)
            return Codec(hints.get("return", Any))
        # NameError for a name that is not there at run time, TypeError for a type nobody can decode, and
        # whatever else evaluating an annotation raises. Plain JSON still makes the round trip, checked.
        except Exception as error:
            kind = type(error).__name__
            why = f"its return annotation cannot be used ({kind}), so only results that are plain JSON are"
            reporter.uncached(self.name, "annotation", why)
            return Codec(Any)


def describe(function: Callable[..., object]) -> str:
    """Return how logs and events call ``function``."""
    return f"{function.__module__}.{function.__qualname__}"


def check_function(function: Any, decorator: str) -> inspect.Signature:
    """Return the signature of what ``decorator`` was put on.

    Raises:
        DecorationError: It is no ``async def``.
    """
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isasyncgenfunction(function):
        message = (
            f"@{decorator} cannot decorate {name}: it is an async generator, which has no one result; "
            "collect it in an `async def` that returns a list, and decorate that"
        )
        raise DecorationError(message)
    # A partial is taken for a coroutine function, but has no name for a key or a log.
    if not inspect.iscoroutinefunction(function) or not hasattr(function, "__qualname__"):
        message = (
            f"@{decorator} cannot decorate {name}: it is not an `async def`; "
            "make it one (blocking work goes through asyncio.to_thread), and write "
            f"@{decorator}({'ttl=600' if decorator == 'cached' else 'a key template'}) with its parentheses above it"
        )
        raise DecorationError(message)
    return inspect.signature(function)
