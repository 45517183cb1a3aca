"""One call that was no hit: everything that it needs until it returns."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from msgspec import Struct

from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._flow.tagging import Tagging
from cachekit._tiers.guard import Budget
from cachekit._tiers.leases import Seen
from cachekit._tiers.outcome import Found, Outcome
from cachekit.codecs import Codec
from cachekit.tags import tag_keys

R = TypeVar("R")


class Call(Struct, Generic[R], eq=False):
    """A call of a decorated function that may have to load. A hit makes none."""

    runtime: Runtime
    plan: CallPlan[..., R]
    key: str
    """As the plan renders it."""
    codec: Codec
    """Of the function's results."""
    budget: Budget
    """The rest of the deadline."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seen: Seen | None = None
    """What it saw at the key, if the function has stale windows."""
    spare: Found | None = None
    """A stale value of its own, which stands in for a load that fails. It is never given to another call."""
    alone: bool = False
    """Whether it has no caller: its load goes on in the background."""
    refreshes: bool = False
    """Whether it loads also where a value is cached."""
    waited: float = 0.0
    """Seconds for which it has waited for loads of others, if there is an observer."""

    tagging: Tagging | None = None
    """Its tags, if the function has any."""

    @property
    def pending(self) -> bool:
        """Whether this process has invalidated the key, or one of its tags, and the store may not know."""
        coherence = self.runtime.coherence
        if not coherence.journal:
            return False
        tags = () if self.tagging is None else tag_keys(self.tagging.wanted.names)
        return coherence.pending(self.key) or any(map(coherence.journal.holds, tags))

    @property
    def by(self) -> str:
        """Why its load runs, as events have it."""
        return "background" if self.alone else "refresh" if self.refreshes else "call"

    async def read_again(self) -> Outcome:
        """Return the value that stands by now."""
        runtime = self.runtime
        if self.tagging is not None:
            return (await runtime.tagged.read(self.tagging.wanted, runtime.budget())).outcome
        return await runtime.values.read_timed(self.key, self.codec, runtime.budget(), self.plan.windows)

    def __repr__(self) -> str:
        # In debug mode asyncio logs the arguments of callbacks. Those of the call are nothing for a log.
        return f"{type(self).__name__}({self.plan.name})"
