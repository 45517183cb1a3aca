"""Values in hand: a caller has them, and no load has brought them.

`set_call` is for values that no other code can be writing: the last writer wins, and that may be the one whose value is
older. Writers of a database use `writing`: the lease is taken over *before* the write, and the value is stored while
the lease still holds. Any other write or invalidation voids it meanwhile, and then the key is invalidated: writes that
overlap leave no value, never a wrong one.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from types import CoroutineType
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

from cachekit._flow.call import Call
from cachekit._flow.commit import BLOCKS, Block, Write, block_for, block_for_any, open_block, runs_uncached
from cachekit._flow.flight import Flight
from cachekit._flow.lease import release, seize, stop_renewing
from cachekit._flow.load import fill_inside, stored_form, tell_filled
from cachekit._flow.plan import CallPlan, Serve, check_function, describe
from cachekit._flow.runtime import Lookup, Runtime
from cachekit._flow.stale import UNTIMED
from cachekit._flow.tagged_lease import with_tags
from cachekit._flow.tagged_put import tagging_of_put, touch_tags
from cachekit._flow.tagging import TagPlan
from cachekit._flow.write import invalidate
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import Found
from cachekit.errors import DecorationError, RenderError
from cachekit.freshness import Freshness
from cachekit.keys import Fit, KeyFunction, compile_fit, compile_key, fits

P = ParamSpec("P")
R = TypeVar("R")

_NOTHING: Final = object()


# --- set, ttl and touch ---------------------------------------------------------------------------


async def set_call(
    runtime: Runtime, plan: CallPlan[..., R], value: R, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Store ``value`` as the result of one call. Returns whether the store confirmed it.

    A value that is not stored, for its type, its size or the options of the function, invalidates the key: what stands
    there is out of date.

    Raises:
        RoundTripError: It would not come back as it is, of a function with ``strict=True``.
    """
    key = plan.key_of(runtime.reporter, args, kwargs)
    if key is None or runtime.reporter.off:
        return False
    call = Call(runtime, plan, key, plan.codec(runtime.reporter), runtime.budget(), args, kwargs)
    if plan.tags is not None:
        return await _set_with_tags(call, plan.tags, value)
    entry = None
    try:
        entry = _entry_of(call, value)
    finally:
        if entry is None:
            await invalidate(runtime, [key], function=plan.name)
    if entry is None:
        return False
    # Later callers do not join a load that began before.
    runtime.flights.void([key])
    block = block_for(runtime, key) if BLOCKS.get() else None
    if block is not None:
        block.write(key, Write(partial(_set, call, entry)))
        return False
    return await _set(call, entry, runtime.budget())


async def _set(call: Call[Any], entry: tuple[bytes, float, float], budget: Budget) -> bool:
    """Store an ``entry`` that `_entry_of` has returned. Returns whether the store confirmed it."""
    data, lasts, ttl = entry
    reporter = call.runtime.reporter
    began = time.monotonic() if reporter.observers else 0.0
    stored = await call.runtime.coherence.set(call.key, data, lasts, budget)
    if reporter.observers:
        tell_filled(call, stored or None, ttl, began)
    return stored


async def _set_with_tags(call: Call[R], plan: TagPlan, value: R) -> bool:
    """Store ``value`` with the tags that stand now: as a write that changes nothing."""
    runtime = call.runtime
    call.tagging = tagging_of_put(call, plan)
    flight = Flight(call.key, call.plan, asyncio.get_running_loop())
    asked = False
    try:
        await seize(call, flight)
        asked = True
    finally:
        if not asked:
            await _fail(call, flight)
    stored = [call.key] if call.tagging is None else call.tagging.wanted.stored
    return await _store(call, flight, value, block_for_any(runtime, stored))


async def ttl_of_call(
    runtime: Runtime, plan: CallPlan[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> float | None:
    """Return how many seconds are left of the TTL of a cached value; None when there is none, or the store fails."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    if key is None or (BLOCKS.get() and runs_uncached(runtime, key)):
        return None
    if not runtime.coherence.times:
        runtime.reporter.incident(plan.name, "untimed", f"{plan.name} {UNTIMED}")
        return None
    codec = plan.codec(runtime.reporter)
    outcome = await runtime.values.read_timed(key, codec, runtime.budget(), plan.windows)
    if not isinstance(outcome, Found) or outcome.freshness not in {Freshness.FRESH, Freshness.DUE}:
        return None
    return outcome.left - outcome.entry.stale


async def touch_call(
    runtime: Runtime, plan: CallPlan[..., Any], ttl: float, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Let the cached value of one call live for ``ttl`` seconds from now on. Returns whether there is one."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    return key is not None and await touch(runtime, key, ttl)


async def touch(runtime: Runtime, key: str, ttl: float) -> bool:
    """Let the value at ``key`` live for ``ttl`` seconds from now on. Returns whether there is one."""
    if BLOCKS.get() and runs_uncached(runtime, key):
        return False
    budget = runtime.budget()
    touched = await runtime.coherence.touch(key, ttl, budget)
    return touched if isinstance(touched, bool) else await touch_tags(runtime, touched, ttl, budget)


def _entry_of(call: Call[R], value: R, flight: Flight | None = None) -> tuple[bytes, float, float] | None:
    """Return the bytes to store for ``value``, for how long, and its TTL; None when it is not stored.

    ``flight``: has the tags that stood before it was written.
    """
    runtime = call.runtime
    ttl = call.plan.ttl_of(value, runtime.reporter, call.key)
    entry = None if ttl is None else runtime.values.encoded(value, call.codec, call.key)
    if ttl is not None and entry is not None and call.plan.tags is not None:
        if call.tagging is None or flight is None:
            # It cannot have its tags.
            runtime.reporter.not_stored(call.plan.name, call.key, "tags")
            return None
        entry = with_tags(call, flight, entry, value, ttl)
    if ttl is None or entry is None:
        return None
    # No load has brought it, so it is unknown how long one takes.
    stored = stored_form(call, entry, ttl, time.monotonic())
    return None if stored is None else (*stored, ttl)


# --- writing --------------------------------------------------------------------------------------


class Put(Generic[R]):
    """Takes the value that the block of a ``.writing`` has written. It is stored when the block ends.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> @cached(key="name:<user_id>", ttl=600)
        ... async def name(user_id: int) -> str: ...
        >>> async def main() -> None:
        ...     async with name.writing(7) as put:
        ...         print(put("Ada"))
        ...     print(await name.peek(7))
        >>> asyncio.run(main())
        Ada
        Ada
    """

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: Any = _NOTHING

    def __call__(self, value: R) -> R:
        """Take ``value``, in place of any before it, and return it."""
        self._value = value
        return value

    def __repr__(self) -> str:
        # A value is nothing for a log.
        return f"{type(self).__name__}(<private>)"

    def taken(self) -> Any:
        """Return the value; `_NOTHING` if there is none."""
        return self._value


@asynccontextmanager
async def writing(
    runtime: Runtime, plan: CallPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Put[R], None]:
    """Write the source of one call's value inside the block, and hand the value to the `Put`."""
    key = plan.key_of(runtime.reporter, args, kwargs)
    if key is None or runtime.reporter.off:
        yield Put()
        return
    call = Call(runtime, plan, key, plan.codec(runtime.reporter), runtime.budget(), args, kwargs)
    async with writing_of(call, plan.tags) as put:
        yield put


@asynccontextmanager
async def writing_of(call: Call[R], tags: TagPlan | None) -> AsyncGenerator[Put[R], None]:
    """Do as `writing` for ``call``, which has the arguments of the writer; ``tags`` names tags by them."""
    put: Put[R] = Put()
    runtime, key = call.runtime, call.key
    # No other call finds this flight: it is there for its lease.
    flight = Flight(key, call.plan, asyncio.get_running_loop())
    if tags is not None:
        call.tagging = tagging_of_put(call, tags)
    around = BLOCKS.get()
    block = _being_written(around.get(runtime), key)
    written = False
    try:
        # Before the write: a load that reads the source before it is not stored behind it.
        await seize(call, flight)
        BLOCKS.set({**around, runtime: block})
        yield put
        written = True
    finally:
        block.writes_now = False
        # As in `after_commit`.
        if BLOCKS.get().get(runtime) is block:
            BLOCKS.set(around)
        if not written:
            await _fail(call, flight)
    await _store(call, flight, put.taken(), open_block(runtime))


def _being_written(around: Block | None, key: str) -> Block:
    """Return a block that holds nothing back, and in which calls of ``key`` run uncached."""
    block = Block(around)
    block.open, block.writes_now = False, True
    block.held.invalidated[key] = False
    return block


async def _fail(call: Call[Any], flight: Flight) -> None:
    """Invalidate the key after an exception: it is not known whether the source was changed."""
    runtime, key = call.runtime, call.key
    try:
        if isinstance(sys.exception(), Exception):
            await invalidate(runtime, [key], function=call.plan.name)
            return
        # A cancellation waits for nobody. The key is a miss in this process from now on, and the journal removes it.
        runtime.flights.void([key])
        runtime.coherence.journal.add([key])
        if not flight.loop.is_closed():
            runtime.coherence.replay.soon()
    finally:
        release(call, flight)


async def _store(call: Call[R], flight: Flight, value: Any, block: Block | None) -> bool:
    """Store ``value`` under the lease, at the end of ``block`` if there is one. Returns whether that is confirmed.

    If it is not stored, for any reason, the key is invalidated.
    """
    held, filled, kept = flight.lease, False, False
    try:
        entry = None if held is None or value is _NOTHING else _entry_of(call, value, flight)
        if held is None and value is not _NOTHING:
            call.runtime.reporter.not_stored(call.plan.name, call.key, flight.unleased)
        if held is not None and entry is not None:
            data, lasts, ttl = entry
            stop_renewing(held)
            if block is not None:
                write = partial(fill_inside, call, data, held.token, lasts)
                block.write(call.key, Write(write, drop=partial(release, call, flight), fenced=True))
                kept = True
                return False
            budget = call.runtime.budget()
            began = time.monotonic() if call.runtime.reporter.observers else 0.0
            # One that is not confirmed in time counts as refused.
            answer = await call.runtime.coherence.fill(call.key, data, held.token, lasts, budget)
            filled = answer is True
            if call.runtime.reporter.observers:
                tell_filled(call, answer, ttl, began)
    finally:
        if not filled and not kept:
            await _fail_or_invalidate(call, flight)
    return filled


async def _fail_or_invalidate(call: Call[Any], flight: Flight) -> None:
    if sys.exception() is not None:
        await _fail(call, flight)
        return
    try:
        await invalidate(call.runtime, [call.key], function=call.plan.name)
    finally:
        release(call, flight)


class PutPlan(Generic[P, R]):
    """A function that writes the source of a value, and returns the value.

    Args:
        function: The ``async def``, not bound.
        one: The plan of the calls whose value it is.

    Raises:
        DecorationError: It cannot be decorated, or lacks a parameter of the key or of a tag.
    """

    lookup: Lookup
    """How its cache is found; its decorator sets it."""
    serve: Serve
    """Serves a call whose arguments fit, under the name of the function; its decorator sets it."""

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], one: CallPlan[..., R]) -> None:
        signature = check_function(function, "puts")
        self.function = function
        self.name: str = describe(function)
        self.one: CallPlan[..., R] = one
        self.fit: Fit = compile_fit(signature)
        self.render: KeyFunction = (
            compile_key(one.template, signature) if one.has_template else _render_as(one, signature, self.name)
        )
        self.tags: TagPlan | None = TagPlan(one.policy.tags, signature, one.template) if one.tags is not None else None
        """Names the tags of the value by the arguments of the function."""


def _render_as(one: CallPlan[..., Any], signature: inspect.Signature, name: str) -> KeyFunction:
    """Return the function that renders the default key of ``one`` from the arguments of a writer, by their names."""
    lacking = [parameter for parameter in one.signature.parameters if parameter not in signature.parameters]
    if lacking:
        message = f"{name} lacks {' and '.join(lacking)}, which the default key of {one.name} has; give it a key="
        raise DecorationError(message)

    def render(*args: Any, **kwargs: Any) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return one.render(**{parameter: bound.arguments[parameter] for parameter in one.signature.parameters})

    return render


# Not `async`: arguments that do not fit are an error of the call, not of the `await`.
def write_through(
    runtime: Runtime, plan: PutPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CoroutineType[Any, Any, R]:
    """Run the function, and store what it returns, as `writing` does.

    Raises:
        TypeError: The arguments do not fit; at once, and from the function itself.
    """
    if fits(plan.fit, args, kwargs):
        return plan.serve(runtime, plan, args, kwargs)
    return cast("CoroutineType[Any, Any, R]", plan.function(*args, **kwargs))


async def run_and_store(runtime: Runtime, plan: PutPlan[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Do as `write_through`, for arguments that fit."""
    try:
        key = plan.render(*args, **kwargs)
    except RenderError as error:
        text = f"{plan.name} did not store its result, and the value of {plan.one.name} may now be out of date: {error}"
        runtime.reporter.incident(plan.name, "argument", text)
        return await plan.function(*args, **kwargs)
    runtime.reporter.resolved(plan.name, "argument")
    if runtime.reporter.off:
        return await plan.function(*args, **kwargs)
    one = plan.one
    call = Call(runtime, one, key, one.codec(runtime.reporter), runtime.budget(), args, kwargs)
    async with writing_of(call, plan.tags) as put:
        return put(await plan.function(*args, **kwargs))
