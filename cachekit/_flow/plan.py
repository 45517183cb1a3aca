"""The plan of a decorated function: everything is decided once, at decoration, so that a call decides nothing."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from cachekit._flow.policy import Policy
from cachekit._tiers.reporter import Reporter
from cachekit.codecs import Codec
from cachekit.errors import DecorationError, RenderError
from cachekit.keys import KeyFunction, compile_default_key, compile_key

P = ParamSpec("P")
R = TypeVar("R")


class CallPlan(Generic[P, R]):
    """How calls of one function are cached.

    Args:
        function: The ``async def``, not bound.
        key: A key template, or None for the default key.
        policy: The options of `cachekit.cached`.

    Raises:
        DecorationError: The function or the template cannot be decorated.
    """

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], key: str | None, policy: Policy) -> None:
        signature = check_function(function, "cached")
        self.function = function
        self.name: str = describe(function)
        self.policy: Policy = policy
        self.near: bool | None = policy.near
        self.render: KeyFunction = (
            compile_default_key(function, signature) if key is None else compile_key(key, signature)
        )
        # Arguments that do not fit are an error of the function, and say its name.
        self.render.__name__, self.render.__qualname__ = function.__name__, function.__qualname__
        self.built_codec: Codec | None = None
        """The codec, once `codec` has built it: a hit reads it here, without a call."""

    def key_of(self, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return the key of a call, or None, with one warning, when an argument cannot be rendered.

        Raises:
            TypeError: The arguments do not fit the function's signature.
        """
        try:
            key = self.render(*args, **kwargs)
        except RenderError as error:
            reporter.skipped(self.name, "argument", str(error))
            return None
        if reporter.incidents:
            reporter.resolved(self.name, "argument")
        return key

    def codec(self, reporter: Reporter) -> Codec:
        """Return the codec of the return annotation.

        Made at the first call and not at decoration: an annotation may name a type that is defined further down.
        """
        if self.built_codec is None:
            self.built_codec = self._make_codec(reporter)
        return self.built_codec

    def ttl_of(self, result: R, reporter: Reporter) -> float | None:
        """Return for how many seconds ``result`` is stored, or None when it is not."""
        try:
            ttl = self.policy.ttl_of(result)
        # The user's policy is no part of the function: it must not break a call that has its result.
        except Exception as error:
            reporter.skipped(self.name, "policy", f"its when or ttl raised {type(error).__name__}")
            return None
        if ttl is not None:
            reporter.resolved(self.name, "policy")
        return ttl

    def _make_codec(self, reporter: Reporter) -> Codec:
        try:
            hints = typing.get_type_hints(self.function, include_extras=True)
            return Codec(hints.get("return", Any), self.name)
        # NameError for a name that is not there at run time, TypeError for a type nobody can decode, and
        # any other exception that evaluating an annotation raises. Plain JSON still makes the round trip, checked.
        except Exception as error:
            kind = type(error).__name__
            why = f"its return annotation cannot be used ({kind}), so only results that are plain JSON are"
            reporter.skipped(self.name, "annotation", why)
            return Codec(Any, self.name)


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
