"""What a decorated function was decorated with, as a value: for the command `cachekit` and for tools of your own.

A description is made when it is asked for. No call pays for it.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, Literal, TypeAlias, cast

from msgspec import Struct

from cachekit._flow.batch_plan import BatchPlan
from cachekit._flow.plan import CallPlan
from cachekit._flow.put import PutPlan
from cachekit._flow.runtime import Lookup, Runtime
from cachekit._flow.write import WritePlan
from cachekit.decorators import DECORATED, Plan
from cachekit.errors import CachekitError, DecorationError
from cachekit.stores.memory import MemoryStore

Kind: TypeAlias = Literal["cached", "many", "invalidates", "puts"]


class Description(Struct, frozen=True, kw_only=True):
    """What one function was decorated with. All durations are seconds."""

    kind: Kind
    """The decorator: `cachekit.cached`, ``cached_many`` or ``.many``, `cachekit.invalidates`, ``.puts``."""
    function: str
    """Module and name."""
    line: str
    """File and line, as editors read them; empty if they are not known."""
    store: str
    """Of its cache, the password masked; empty while the cache cannot be made."""
    prefix: str
    key: str = ""
    """The key template; without one the default key, written as a template. Empty for a function that invalidates."""
    has_template: bool = True
    """Whether the key was written by hand."""
    ttl: float | None = None
    """None if it depends on the result."""
    jitter: float = 0.0
    annotation: str = ""
    """The type that comes back."""
    when: str = ""
    """The name of the function that decides whether a result is stored."""
    tags: tuple[str, ...] = ()
    """Templates of its tags, or of the tags that it invalidates."""
    own_tag: bool = False
    """Whether it has a tag of its own, for ``invalidate_all``."""
    near: bool | None = None
    private: bool = False
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    invalidates: tuple[str, ...] = ()
    """The key templates that it invalidates."""


class Decorated(Struct, frozen=True, eq=False):
    """A decorated function as the toolkit knows it."""

    kind: Kind
    plan: Plan
    lookup: Lookup

    @property
    def call(self) -> CallPlan[..., Any] | None:
        """The plan of one call of it; None for a function that writes."""
        if isinstance(self.plan, CallPlan):
            return self.plan
        return self.plan.one if isinstance(self.plan, BatchPlan) else None

    def describe(self) -> Description:
        """Return its description."""
        runtime = self.runtime
        common: dict[str, Any] = {
            "kind": self.kind,
            "function": self.plan.name,
            "line": _line_of(self.plan.function),
            "store": "" if runtime is None else repr(runtime.store),
            "prefix": "" if runtime is None else runtime.prefix,
        }
        if isinstance(self.plan, WritePlan):
            options = self.plan.options
            return Description(**common, invalidates=options.keys, tags=tuple(options.tags))
        one = self.plan.one if isinstance(self.plan, PutPlan) else cast("CallPlan[..., Any]", self.call)
        return Description(**common, **_of_call(one))

    @property
    def runtime(self) -> Runtime | None:
        """The runtime of its cache; None while that cannot be made."""
        try:
            return self.lookup()
        # Private, and its cache has no keys here; or the URL of the environment makes no sense.
        except CachekitError:
            return None

    def keeps_as(self, other: Decorated) -> bool:
        """Tell whether its keys and those of ``other`` stand in one store, behind one prefix."""
        mine, theirs = self.runtime, other.runtime
        if mine is None or theirs is None or mine.prefix != theirs.prefix:
            return False
        # Each store in memory is one of its own. A server may have several names: that is not seen.
        if mine.store is theirs.store or isinstance(mine.store, MemoryStore):
            return mine.store is theirs.store
        return repr(mine.store) == repr(theirs.store)


def describe(function: Any) -> Description:
    """Return what ``function`` was decorated with; one that stands under other decorators as well.

    Raises:
        DecorationError: It is not decorated with `cachekit.cached` or one of its kin.

    Example:
        >>> _ = configure("memory://", prefix="myapp:")
        >>> @cached(key="profile:<user_id>", ttl="10m")
        ... async def profile(user_id: str) -> dict[str, int]: ...
        >>> found = describe(profile)
        >>> found.key, found.ttl, found.annotation, found.prefix
        ('profile:<user_id>', 600.0, 'dict[str, int]', 'myapp:')
    """
    return decorated(function).describe()


def decorated(function: Any) -> Decorated:
    """Return ``function``, or the decorated one that it wraps, as the toolkit knows it.

    Raises:
        DecorationError: As `describe`.
    """
    one = function
    while one is not None:
        plan = getattr(one, "_self_plan", None)
        if plan is not None and plan in DECORATED:
            return Decorated(_KINDS[_class_of(plan)], plan, plan.lookup)
        one = getattr(one, "__wrapped__", None)
    name = getattr(function, "__qualname__", repr(function))
    message = f"{name} is not decorated with @cached, @cached_many, @invalidates or .puts"
    raise DecorationError(message)


def all_decorated() -> list[Decorated]:
    """Return every decorated function of this process that is alive, in the order of their decoration."""
    return [Decorated(_KINDS[_class_of(plan)], plan, plan.lookup) for plan in [*DECORATED]]


_KINDS: Final[dict[type, Kind]] = {
    CallPlan: "cached",
    BatchPlan: "many",
    WritePlan: "invalidates",
    PutPlan: "puts",
}


def _class_of(plan: Plan) -> type:
    return next(kind for kind in _KINDS if isinstance(plan, kind))


def _of_call(one: CallPlan[..., Any]) -> dict[str, Any]:
    policy, windows = one.policy, one.windows
    return {
        "key": key_of(one),
        "has_template": one.has_template,
        "ttl": None if callable(policy.ttl) else policy.ttl,
        "jitter": policy.jitter,
        "annotation": annotation_of(one),
        "when": "" if policy.when is None else getattr(policy.when, "__qualname__", type(policy.when).__qualname__),
        "tags": tuple(tag for tag in cast("tuple[str | bool, ...]", policy.tags) if isinstance(tag, str)),
        "own_tag": one.tags is not None and one.tags.own is not None,
        "near": one.near,
        "private": policy.private,
        "stale_while_revalidate": windows.revalidate if windows else 0.0,
        "stale_if_error": windows.if_error if windows else 0.0,
    }


def key_of(one: CallPlan[..., Any]) -> str:
    """Return the key template of a plan; the default key in the form of one."""
    if one.has_template:
        return one.template
    return one.template + ":".join(f"{name}=<{name}>" for name in one.signature.parameters)


def annotation_of(one: CallPlan[..., Any]) -> str:
    """Return the annotation of the results, as it is written."""
    written = getattr(one.function, "__annotations__", {}).get("return", "")
    return inspect.formatannotation(written) if written != "" and not isinstance(written, str) else str(written)


def _line_of(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
