"""Changes by hand: invalidations, of one call's key and of the keys that a writing function names; values; windows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, cast

from msgspec import Struct

from cachekit._flow.commit import BLOCKS, Changes, Write, block_for, open_block
from cachekit._flow.plan import CallPlan, Serve, check_function, describe
from cachekit._flow.runtime import Lookup, Runtime
from cachekit._flow.tagging import compile_tags, of_result
from cachekit._tiers.guard import Budget
from cachekit._tiers.reporter import Reporter
from cachekit._tiers.sweeping import Progress
from cachekit._tiers.windows import WindowForm
from cachekit.codecs import Codec
from cachekit.errors import ConfigurationError, DecorationError, RenderError
from cachekit.events import Invalidated
from cachekit.keys import Fit, KeysFunction, compile_fit, compile_keys, fits
from cachekit.tags import is_tag, name_of, tag_keys

P = ParamSpec("P")
R = TypeVar("R")

Item: TypeAlias = dict[str, object]
"""Of a window."""


class InvalidationOptions(TypedDict, total=False):
    """The options of `cachekit.invalidates` for type checkers: those of `Invalidation`, which has the defaults."""

    tags: Sequence[str]
    soft: bool
    always: bool
    around: bool


class Invalidation(Struct, frozen=True, kw_only=True):
    """The options of `cachekit.invalidates`.

    Raises:
        ConfigurationError: An option makes no sense; the message names it, and what to write instead.
    """

    keys: tuple[str, ...] = ()
    """Key templates; each may use the result, as ``<return.id>``."""
    tags: Sequence[str] = ()
    """Templates of tags."""
    soft: bool = False
    """Whether the values of the keys are to stay for loads that fail."""
    always: bool = False
    """Whether to invalidate also when the function raises, or is cancelled."""
    around: bool = False
    """Whether to invalidate also before the function runs."""

    def __post_init__(self) -> None:
        """Check every option."""
        for name in ("soft", "always", "around"):
            if not isinstance(getattr(self, name), bool):
                message = f"{name}={getattr(self, name)!r} is no choice; write {name}=True or {name}=False"
                raise ConfigurationError(message)
        if isinstance(self.tags, str) or not isinstance(self.tags, Sequence):
            message = f'tags={self.tags!r} are no templates of tags; write tags=["team:<team_id>"]'
            raise ConfigurationError(message)
        if self.soft and self.tags:
            message = "soft=True keeps values for loads that fail, and none stays whose tag is removed; leave it out"
            raise ConfigurationError(message)


class WritePlan(Generic[P, R]):
    """Which keys and tags a function invalidates after it has returned.

    Args:
        function: The ``async def``, not bound.
        options: At least one template of a key or a tag.

    Raises:
        DecorationError: The function or a template cannot be decorated.
    """

    lookup: Lookup
    """How its cache is found; its decorator sets it."""
    serve: Serve
    """Serves a call whose arguments fit, under the name of the function; its decorator sets it."""

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], options: Invalidation) -> None:
        signature = check_function(function, "invalidates")
        self.function = function
        self.name: str = describe(function)
        if not options.keys and not options.tags:
            message = (
                "@invalidates needs the keys or tags it invalidates; write "
                '@invalidates("profile:<user_id>") or @invalidates(tags=["team:<team_id>"])'
            )
            raise DecorationError(message)
        for template in (*options.keys, *options.tags) if options.always else ():
            if of_result(template):
                message = f"always=True cannot invalidate {template!r}: a function that raises has no result"
                raise DecorationError(message)
        self.fit: Fit = compile_fit(signature)
        self.options: Invalidation = options
        keys = [(template, compile_keys(template, signature, with_result=True)) for template in options.keys]
        tags = [(template, _as_keys(render)) for template, render in compile_tags(options.tags, signature)]
        self._render: list[tuple[str, KeysFunction]] = [*keys, *tags]
        self._of_call = [(template, render) for template, render in self._render if not of_result(template)]

    def keys_before(self, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Return the keys to invalidate that are known without a result, those of tags included."""
        return self._rendered(self._of_call, None, reporter, args, kwargs)

    def keys_of(self, result: R, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Return the keys to invalidate, those of tags included."""
        return self._rendered(self._render, result, reporter, args, kwargs)

    def _rendered(
        self,
        templates: Sequence[tuple[str, KeysFunction]],
        result: R | None,
        reporter: Reporter,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> list[str]:
        """Return the keys of ``templates``; one that cannot be rendered is left out, with one warning."""
        keys: list[str] = []
        for template, render in templates:
            try:
                keys += render(result, *args, **kwargs)
            except RenderError as error:
                text = f"{self.name} did not invalidate {template!r}, which may now be out of date: {error}"
                reporter.incident(self.name, "argument", text)
            else:
                reporter.resolved(self.name, "argument")
        return keys


def _as_keys(render: KeysFunction) -> KeysFunction:
    def keys(*args: Any, **kwargs: Any) -> list[str]:
        return tag_keys(render(*args, **kwargs))

    return keys


# Not `async`: arguments that do not fit are an error of the call, not of the `await`.
def write(
    runtime: Runtime, plan: WritePlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CoroutineType[Any, Any, R]:
    """Run the function; when it has returned normally, invalidate its keys and tags in one round trip.

    Raises:
        TypeError: The arguments do not fit; at once, and from the function itself.
    """
    if fits(plan.fit, args, kwargs):
        return plan.serve(runtime, plan, args, kwargs)
    return cast("CoroutineType[Any, Any, R]", plan.function(*args, **kwargs))


async def run_and_invalidate(
    runtime: Runtime, plan: WritePlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R:
    """Do as `write`, for arguments that fit."""
    options = plan.options
    if options.around:
        before = plan.keys_before(runtime.reporter, args, kwargs)
        await invalidate(runtime, before, soft=options.soft, function=plan.name)
    call = plan.function(*args, **kwargs)
    result = await (call if not options.always else _in_any_case(runtime, plan, call, args, kwargs))
    keys = plan.keys_of(result, runtime.reporter, args, kwargs)
    await invalidate(runtime, keys, soft=options.soft, function=plan.name)
    return result


async def _in_any_case(
    runtime: Runtime,
    plan: WritePlan[..., R],
    call: Coroutine[Any, Any, R],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R:
    """Await ``call``; when it raises, or is cancelled, invalidate what is known without its result."""
    returned = False
    try:
        result = await call
        returned = True
        return result
    finally:
        if not returned:
            keys = plan.keys_before(runtime.reporter, args, kwargs)
            if isinstance(sys.exception(), Exception):
                await invalidate(runtime, keys, soft=plan.options.soft, function=plan.name)
            else:
                # Nothing is waited for: a cancellation is not delayed.
                _invalidate_later(runtime, keys)


def _invalidate_later(runtime: Runtime, keys: Sequence[str]) -> None:
    """Invalidate ``keys`` by the journal, or at the end of an enclosing `after_commit`."""
    block = open_block(runtime)
    if block is not None:
        block.invalidate(keys)
        return
    runtime.flights.void(keys)
    runtime.coherence.invalidate_later(keys)


async def invalidate(runtime: Runtime, keys: Sequence[str], *, soft: bool = False, function: str = "") -> bool:
    """Invalidate ``keys``, or collect them for the end of an enclosing `after_commit`.

    The key of a tag is one as any other (`cachekit.tags`). Returns whether the store acknowledged it. If it did not,
    the journal replays it. ``soft``: the values stay for loads that fail; the journal removes them. ``function``: the
    name that events have for the caller.
    """
    if not keys:
        return True
    block = open_block(runtime)
    if block is not None:
        block.invalidate(keys, soft=soft)
        return False
    return await _invalidate(runtime, keys, runtime.budget(), soft=soft, function=function)


async def _invalidate(
    runtime: Runtime, keys: Sequence[str], budget: Budget, *, soft: bool = False, function: str = ""
) -> bool:
    # First, so that no call that starts from now on joins a load that began before.
    runtime.flights.void(keys)
    coherence = runtime.coherence
    began = time.monotonic() if runtime.reporter.observers else 0.0
    acknowledged = await (coherence.expire if soft else coherence.invalidate)(keys, budget)
    # Not for a caller that is cancelled: its loop may be ending. The next read or invalidation sees to it then.
    if coherence.journal:
        coherence.replay.soon()
    if runtime.reporter.observers:
        named = tuple([key for key in keys if not is_tag(key)])
        tags = tuple([name_of(key) for key in keys if is_tag(key)])
        runtime.reporter.emit(
            Invalidated(named, acknowledged, soft, tags, function, time.monotonic() - began if began else 0.0)
        )
    return acknowledged


async def clear(runtime: Runtime, seconds: float, progress: Progress | None) -> bool:
    """Remove all keys of the cache, for ``seconds`` at most. Returns whether that was done to the end."""
    # No call gets what was loaded before, since the leases go. This is for calls that would wait for such a load where
    # the store cannot tell, and for stale values of later, behind which nothing is loaded while such a load goes on.
    runtime.flights.void_all()
    return await runtime.sweeper.clear(seconds, progress)


async def invalidate_call(
    runtime: Runtime, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Invalidate the key of one call. Returns whether the store acknowledged it."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    return key is not None and await invalidate(runtime, [key], function=plan.name)


async def expire_call(
    runtime: Runtime, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Expire the value of one call by hand; without ``stale_if_error`` remove it. Returns as `invalidate_call`."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    soft = plan.windows is not None and plan.windows.if_error > 0
    return key is not None and await invalidate(runtime, [key], soft=soft, function=plan.name)


async def store(runtime: Runtime, key: str, value: object, codec: Codec, ttl: float) -> bool:
    """Store ``value`` by hand for ``ttl`` seconds. Returns whether the store confirmed it.

    Inside an `after_commit` block that is to invalidate the key, the value is stored when the block ends.
    """
    block = block_for(runtime, key) if BLOCKS.get() else None
    if block is None:
        return await runtime.values.store(key, value, codec, ttl, runtime.budget())
    # Encoded now: the caller may go on changing the value.
    entry = runtime.values.encoded(value, codec, key)
    if entry is not None:
        block.write(key, Write(partial(runtime.coherence.set, key, entry.data, ttl)))
    return False


async def store_many(runtime: Runtime, values: Mapping[str, object], codec: Codec, ttl: float) -> bool:
    """Store each value at its key by hand, as `store` does. Returns whether the store confirmed all of them."""
    entries: list[tuple[str, bytes]] = []
    held_back = False
    for key, value in values.items():
        entry = runtime.values.encoded(value, codec, key)
        block = block_for(runtime, key) if BLOCKS.get() else None
        if entry is not None and block is not None:
            block.write(key, Write(partial(runtime.coherence.set, key, entry.data, ttl)))
            held_back = True
        elif entry is not None:
            entries.append((key, entry.data))
    stored = await runtime.coherence.set_many(entries, ttl, runtime.budget()) if entries else []
    return all(stored) and len(entries) == len(values) and not held_back


async def push(runtime: Runtime, key: str, item: Item, form: WindowForm) -> bool:
    """Put an item at the head of a window. Returns whether the store confirmed it.

    Inside an `after_commit` block that is to forget the window, it is put there when the block ends.
    """
    block = block_for(runtime, key) if BLOCKS.get() else None
    if block is None:
        return await runtime.windows.push(key, item, form)
    entry = runtime.values.encoded(item, form.codec, key)
    if entry is None:
        return False
    kept = form.codec.decode(entry.data)

    async def perform(budget: Budget) -> bool:  # noqa: ARG001 - a window has the whole deadline, as outside a block
        return await runtime.windows.push(key, kept, form)

    block.write(key, Write(perform, whole=False))
    return False


async def commit(runtime: Runtime, held: Changes) -> None:
    """Perform the changes that an `after_commit` block held back: invalidations first, in one step."""
    budget = runtime.budget()
    fenced = {key: writes.pop(0) for key, writes in held.writes.items() if writes[0].fenced}
    # Thousands of keys, nearly always without a write: no step of Python for each of them.
    at_once = [key for key in held.invalidated if key not in fenced] if fenced else [*held.invalidated]
    soft = [key for key in at_once if held.invalidated[key]] if any(held.invalidated.values()) else []
    left = [*fenced, *soft]
    try:
        hard = [key for key in at_once if not held.invalidated[key]] if soft else at_once
        if hard:
            await _invalidate(runtime, hard, budget)
        if soft:
            await _invalidate(runtime, soft, budget, soft=True)
        left = list(fenced)
        left = [key for key, write in fenced.items() if not await write.perform(budget)]
        if left:
            refused, left = left, []
            await _invalidate(runtime, refused, budget)
    finally:
        if left:
            # Cancelled before it was known whether they are stored. They must not stay as they were.
            runtime.flights.void(left)
            runtime.coherence.journal.add(left)
    for writes in held.writes.values():
        for write in writes:
            await write.perform(budget)
