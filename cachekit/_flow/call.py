"""One call that was no hit: what it needs until it returns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._tiers.guard import Budget
from cachekit.codecs import Codec

R = TypeVar("R")

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Those by position and those by name, as the caller gave them."""


class Call(Generic[R]):
    """A call of a decorated function that may have to load. A hit makes none.

    Args:
        runtime: Of the function's cache.
        plan: Of the function.
        key: What the plan rendered.
        budget: What is left of the deadline.
        arguments: What the function is called with.
    """

    __slots__ = ("arguments", "budget", "key", "plan", "runtime")

    def __init__(
        self, runtime: Runtime, plan: CallPlan[..., R], key: str, budget: Budget, arguments: Arguments
    ) -> None:
        self.runtime: Runtime = runtime
        self.plan: CallPlan[..., R] = plan
        self.key: str = key
        self.budget: Budget = budget
        self.arguments: Arguments = arguments

    @property
    def codec(self) -> Codec:
        """What encodes and decodes the results of the function."""
        return self.plan.codec(self.runtime.reporter)

    def run(self) -> Coroutine[Any, Any, R]:
        """Run the function, as if undecorated."""
        positional, named = self.arguments
        return self.plan.function(*positional, **named)
