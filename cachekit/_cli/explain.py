"""``cachekit explain``: what stands at the key of one call, and whether that call would be served."""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from cachekit._cli.annotations import lost_of
from cachekit._cli.invocation import Invocation, invocation_of, is_batch
from cachekit._cli.output import Output
from cachekit._cli.places import add_prefix
from cachekit._flow.runtime import Runtime
from cachekit.cache import Cache
from cachekit.codecs import Codec
from cachekit.entry import Entry, is_pause, is_token
from cachekit.entry import parse as parse_entry
from cachekit.errors import ConfigurationError, DecodeError, RenderError
from cachekit.freshness import Freshness, judge
from cachekit.functions import using
from cachekit.stores.base import TaggedStore, TaggedValue, Want
from cachekit.stores.memory import MemoryStore
from cachekit.tags import generations_of, tag_keys

HELP: Final = "say what stands at the key of one call, and whether that call would be served"

_TIMEOUT: Final = 5.0
"""Seconds for each answer of the store."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="MODULE:FUNCTION", help="such as shop.views:profile")
    parser.add_argument(
        "args", nargs="*", default=[], metavar="ARG", help="of the call: 42, name=Ada, or JSON; -- before a -1"
    )
    parser.add_argument("--url", help="of the default cache, if the module does not configure it when it is imported")
    add_prefix(parser)


class Explained(Struct, frozen=True, kw_only=True):
    """What stands at the key of a call, and what becomes of the call. No part of the value is in it. Seconds."""

    function: str
    key: str | None
    """Without the prefix; None if an argument has no stable text form."""
    prefix: str = ""
    store: str = ""
    type: str | None = None
    """Of the value, as the call returns it; None if there is none that can be read."""
    bytes: int = 0
    """Of the entry in the store."""
    age: float | None = None
    """Since it was stored or prolonged; None if its TTL does not tell."""
    ttl: float | None = None
    """Until its TTL is over; below 0 for a stale value."""
    kept: float | None = None
    """Until the store forgets it."""
    lease: str = "free"
    tags: dict[str, str]
    """Each tag, and whether it stands as it did before the load of the value."""
    freshness: str = ""
    served: bool
    """Whether the call is served without waiting for a load."""
    why: list[str]


def run(options: argparse.Namespace, out: Output) -> int:
    """Explain a call; return 1 if it would not be served."""
    # The warnings of decoration are for `cachekit check`.
    logging.getLogger("cachekit").addHandler(logging.NullHandler())
    call = invocation_of(options.target, options.args)
    if options.url is None and not options.prefix:
        told = asyncio.run(explain(call))
    else:
        with using(Cache(options.url, prefix=options.prefix, timeout=_TIMEOUT)):
            told = asyncio.run(explain(call))
    if out.as_json:
        out.document(msgspec.to_builtins(told))
    else:
        _show(told, out)
    return 0 if told.served else 1


def _show(told: Explained, out: Output) -> None:
    facts = msgspec.to_builtins(told)
    for name in ("function", "store", "prefix", "key", "type", "bytes", "age", "ttl", "kept", "lease", "freshness"):
        if facts[name] not in ("", None, 0):
            value = f"{facts[name]:.1f} s" if isinstance(facts[name], float) else str(facts[name])
            out.fact(name, value)
    for tag, state in told.tags.items():
        out.fact("tag", f"{tag} {state}")
    out.say(f"{'served' if told.served else 'loads':<13}{'; '.join(told.why)}", "ok" if told.served else "warning")


async def explain(call: Invocation) -> Explained:
    """Return what stands at the key of ``call``.

    Raises:
        StoreError: The store did not answer.
        ConfigurationError: The function is private, and its cache has no keys; or its store cannot be looked into.
    """
    runtime = call.function.lookup()
    name, reporter = call.plan.name, runtime.reporter
    try:
        key = call.plan.render(*call.args, **call.kwargs)
        names = call.plan.tags.names(call.args, call.kwargs) if call.plan.tags is not None else ()
    except RenderError as error:
        return Explained(function=name, key=None, tags={}, served=False, why=[f"it runs uncached: {error}"])
    try:
        found = await _read(runtime, key)
        codec = call.plan.codec(reporter)
        entry, why = _entry_of(runtime, key, found.value, codec)
        wanted = {*names, *(entry.tags or {} if entry else {})}
        tags = await _tags(runtime, entry, sorted(wanted))
        return _judged(call, runtime, key, found, (entry, why, tags))
    finally:
        await runtime.aclose()
        await runtime.store.aclose()


async def _read(runtime: Runtime, key: str) -> TaggedValue:
    if not isinstance(runtime.store, TaggedStore):
        message = f"{runtime.store!r} cannot be looked into: it has no verbs for values with tags (TaggedStore)"
        raise ConfigurationError(message)
    return await runtime.store.get_tagged(runtime.prefix + key, _TIMEOUT, (), Want.TTL | Want.HOLDER)


def _entry_of(runtime: Runtime, key: str, raw: bytes | None, codec: Codec) -> tuple[Entry | None, str]:
    """Return the entry at a key, opened; or None, and why a call cannot use what stands there."""
    if raw is None:
        return None, "nothing stands at the key"
    read = parse_entry(raw, sealed=True, tagged=True, absent=True)
    if read is None:
        return None, "another program, or a later version, wrote what stands there"
    if read.absent:
        return read, ""
    entry = runtime.values.tagged(key, raw, codec)
    if entry is not None:
        return entry, ""
    if read.sealed and not codec.private:
        return None, "what stands there is sealed, and the function is not private"
    return None, "no key of this cache opens what stands there"


async def _tags(runtime: Runtime, entry: Entry | None, names: list[str]) -> dict[str, str]:
    """Return each tag, and whether it stands as the value has recorded it."""
    recorded = (entry.tags or {}) if entry is not None else {}
    raw = [await runtime.store.get(runtime.prefix + key, _TIMEOUT) for key in tag_keys(names)]
    states: dict[str, str] = {}
    for name, generation in zip(names, generations_of(raw), strict=True):
        if generation is None:
            states[name] = "gone"
        elif entry is not None and recorded.get(name) != generation:
            states[name] = "invalidated since" if name in recorded else "not of this value"
        else:
            states[name] = "stands"
    return states


def _judged(
    call: Invocation,
    runtime: Runtime,
    key: str,
    found: TaggedValue,
    read: tuple[Entry | None, str, dict[str, str]],
) -> Explained:
    entry, why, tags = read
    raw, left, plan = found.value or b"", found.left, call.plan
    told: dict[str, Any] = {"lease": _lease(found.holder), "bytes": len(raw), "tags": tags}
    told |= {"function": plan.name, "key": key, "prefix": runtime.prefix, "store": repr(runtime.store)}
    if entry is not None:
        fresh = left - entry.stale
        told |= {"ttl": _finite(fresh), "kept": _finite(left), "age": _age(call, entry, left)}
    if entry is None:
        return Explained(**told, served=False, why=_load(call, runtime, why, found.holder))
    kind, why = _type_of(call, entry)
    broken = [name for name, state in tags.items() if state != "stands"]
    if broken:
        why = f"a tag does not stand: {', '.join(broken)}"
    if why:
        return Explained(**told, type=kind, served=False, why=_load(call, runtime, why, found.holder))
    freshness = judge(entry, left, plan.windows)
    served = freshness in _SERVED
    reasons = [_SERVED[freshness]] if served else _load(call, runtime, _LOADED[freshness], found.holder)
    return Explained(**told, type=kind, freshness=freshness.name, served=served, why=reasons)


_SERVED: Final = {
    Freshness.FRESH: "its TTL is not over",
    Freshness.DUE: "its TTL is not over, and a load may begin in the background",
    Freshness.STALE: "it is stale, and handed out at once while one load replaces it",
}

_LOADED: Final = {
    Freshness.SPARE: "it is stale, and stands in only if the load fails",
    Freshness.OVER: "its time is over",
}


def _type_of(call: Invocation, entry: Entry) -> tuple[str | None, str]:
    """Return the type of the value, or None and why there is none to hand out."""
    if entry.absent:
        return None, "" if is_batch(call.function) else "a batch has remembered that there is no value"
    try:
        value = call.plan.codec(call.function.lookup().reporter).decode(entry.data)
    except DecodeError as error:
        return None, str(error)
    return type(value).__qualname__, ""


def _load(call: Invocation, runtime: Runtime, why: str, holder: bytes | None) -> list[str]:
    """Return why a call loads, and what it meets."""
    reasons = [why]
    if holder is not None and not is_pause(holder):
        reasons.append("a load holds the lease: the call waits for it, as long as the lease lives")
    elif holder is not None:
        reasons.append("the last load failed, and there is a pause for callers with a stale value")
    lost = lost_of(call.plan.function)
    if lost:
        reasons.append(f"its results are not stored: {', '.join(lost)} does not come back")
    if call.plan.policy.when is not None:
        reasons.append("its when= decides whether a result is stored")
    if isinstance(runtime.store, MemoryStore):
        reasons.append("its store is in memory, and each process has its own: that of the application is not seen here")
    return reasons


def _lease(holder: bytes | None) -> str:
    if holder is None:
        return "free"
    if is_pause(holder):
        return "a pause after a failed load"
    return "held by a load" if is_token(holder) else "held by something unknown"


def _age(call: Invocation, entry: Entry, left: float) -> float | None:
    """Return for how long a value has been there, by its TTL; None if that depends on the value or on chance."""
    policy = call.plan.policy
    # Seconds by now.
    ttl = entry.ttl or (0.0 if callable(policy.ttl) or policy.jitter else cast("float", policy.ttl))
    return round(ttl + entry.stale - left, 3) if ttl and _finite(left) is not None else None


def _finite(seconds: float) -> float | None:
    return round(seconds, 3) if seconds < float("inf") else None
