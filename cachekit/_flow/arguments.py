"""The arguments of a load in the background: those of the call, and what is provided for it anew.

By the time of such a load the call has returned, and so may have the request around it: its database session is closed.
So each parameter that the key does not name, ``self`` included, needs a declaration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

from cachekit._flow.policy import Policy, Provider
from cachekit.errors import DecorationError
from cachekit.keys import parameters_of

R = TypeVar("R")

Function: TypeAlias = Callable[..., Coroutine[Any, Any, R]]


class Arguments(Struct, frozen=True):
    """How a load in the background gets its arguments."""

    signature: inspect.Signature
    providers: Mapping[str, Provider]

    async def call(self, function: Function[R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        """Run ``function`` with these arguments, and with what the providers give, which ends with the load.

        Raises:
            Exception: Of the function, or of a provider.
        """
        if not self.providers:
            return await function(*args, **kwargs)
        bound = self.signature.bind(*args, **kwargs)
        async with AsyncExitStack() as stack:
            for name, provider in self.providers.items():
                bound.arguments[name] = await _provided(provider, stack)
            return await function(*bound.args, **bound.kwargs)


async def _provided(provider: Provider, stack: AsyncExitStack) -> Any:
    given: Any = provider() if callable(provider) else provider
    if inspect.isawaitable(given):
        given = await given
    if hasattr(given, "__aenter__"):
        return await stack.enter_async_context(given)
    if hasattr(given, "__enter__"):
        return stack.enter_context(given)
    return given


def arguments_of(
    policy: Policy, signature: inspect.Signature, key: str | None, name: str, *, of_class: bool
) -> Arguments:
    """Return how loads of the function ``name`` in the background get their arguments.

    Args:
        policy: Its options.
        signature: Its signature.
        key: Its key template; None without one: then the key has every parameter.
        name: What a message calls it.
        of_class: Whether it is a classmethod's: a class outlives every call.

    Raises:
        DecorationError: A parameter is neither in the key nor declared; or one that is declared is no parameter, or is
            in the key.
    """
    declared, features = policy.background, policy.in_background
    providers = {} if isinstance(declared, bool) else declared
    names = [*signature.parameters]
    in_key = {*names} if key is None else {*parameters_of(key), *names[:of_class]}
    for parameter in providers:
        if parameter not in names:
            known = ", ".join(names) or "none"
            message = f"background={{{parameter!r}: …}} names no parameter of {name}; it has {known}"
            raise DecorationError(message)
        if parameter in in_key:
            message = (
                f"background={{{parameter!r}: …}} would provide a parameter of {name} that is in its key, and so the "
                "value of another key; leave it out"
            )
            raise DecorationError(message)
    lacking = [parameter for parameter in names if parameter not in in_key and parameter not in providers]
    if features and declared is not True and lacking:
        raise DecorationError(_undeclared(lacking, features, name))
    return Arguments(signature, providers)


def _undeclared(lacking: list[str], features: tuple[str, ...], name: str) -> str:
    them = " and ".join(lacking)
    providers = ", ".join(f'"{parameter}": open_{parameter.lstrip("_")}' for parameter in lacking)
    return (
        f"{name} may load in the background ({', '.join(features)}) after its call has returned, and its key does not "
        f"name {them}, which may be closed by then; write background={{{providers}}}, a callable or an async context "
        "manager for each that provides it for such a load, or background=True if the arguments outlive the call"
    )
