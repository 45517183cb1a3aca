"""What one server says of itself: version, role, latency, memory, disk, clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cachekit._cli.lines import Line, Patient, Status, fault, ok, unseen
from cachekit._cli.rights import own_key
from cachekit.errors import StoreError
from cachekit.stores.visits import Door, Visit
from cachekit.urls import ClusterURL

OLDEST: Final = (6, 2)
"""The first version with GETDEL."""

_ROUNDS: Final = 200
_LONGEST: Final = 2.0
"""Seconds for which latency is measured, and the most round trips."""

_APART: Final = 1.0
_FAR_APART: Final = 30.0
"""Seconds between the clocks of this host and of the server that are worth a warning, and that are a fault."""


def pairs(reply: Any) -> dict[str, Any]:
    """Return a reply of names and values: a map of RESP3, or a list of RESP2."""
    if not isinstance(reply, (dict, list)):
        return {}
    found = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=False))
    return {_text(name): _text(value) if isinstance(value, bytes) else value for name, value in found.items()}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


async def asked(server: Visit, *command: str | bytes | int) -> Any:
    """Return the reply to ``command``; None if the server refuses it.

    Raises:
        StoreError: The server did not answer.
    """
    try:
        return await server.ask(*command)
    except StoreError as error:
        if error.answered:
            return None
        raise


async def info(server: Visit, section: str) -> dict[str, str] | None:
    """Return a section of INFO; None if this user may not see it."""
    reply = await asked(server, "INFO", section)
    if reply is None:
        return None
    fields = [line.partition(":") for line in _text(reply).splitlines() if ":" in line]
    return {name: value for name, _, value in fields}


# --- version and role --------------------------------------------------------------------------------------


async def check_version(server: Visit, patient: Patient) -> list[Line]:
    """Return the lines about the version, and about what kind of server it is. HELLO needs no right."""
    hello = pairs(await asked(server, "HELLO"))
    if hello:
        product = str(hello.get("server", "redis")).capitalize()
        return [_judged(product, str(hello.get("version", ""))), *_kind(hello, patient)]
    # Before Redis 6.0 no server knows HELLO.
    told = (await info(server, "server") or {}).get("redis_version")
    hidden = unseen("version", "the version", "+hello, behind a proxy that knows it")
    return [_judged("Redis", told) if told else hidden]


def _judged(product: str, told: str) -> Line:
    parts = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
    if parts >= OLDEST:
        return ok("version", f"{product} {told}")
    advice = "use Redis 6.2 or later, or Valkey: the first version with GETDEL"
    return fault("version", f"{product} {told} is too old", advice)


def _kind(hello: Mapping[str, Any], patient: Patient) -> list[Line]:
    mode, role = hello.get("mode"), hello.get("role")
    clustered = isinstance(patient.url, ClusterURL)
    if mode == "sentinel":
        advice = "write redis+sentinel://host:26379/mymaster/0"
        return [fault("role", "this is a sentinel, which keeps no keys", advice)]
    if mode == "cluster" and not clustered:
        advice = "write redis+cluster://host:6379: commands for keys of other nodes are refused here"
        return [fault("role", "this is a node of a cluster", advice)]
    if role != "master":
        advice = "name the master, or the sentinels that know it: redis+sentinel://host:26379/mymaster/0"
        return [fault("role", f"this is a {role}, which refuses writes (READONLY)", advice)]
    return [ok("role", "master")]


# --- latency and clock -------------------------------------------------------------------------------------


async def check_latency(server: Visit, door: Door, patient: Patient) -> Line:
    """Return the line about latency: one GET at a time. A GET that the ACL refuses takes a round trip, too."""
    took: list[float] = []
    key, ends = own_key(door, patient.prefix), time.monotonic() + _LONGEST
    while len(took) < _ROUNDS and (not took or time.monotonic() < ends):
        began = time.perf_counter()
        await server.refusal("GET", key)
        took.append(time.perf_counter() - began)
    took.sort()
    p50, p99 = took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]
    text = f"p50 {1000 * p50:.2f} ms, p99 {1000 * p99:.2f} ms of {len(took)} round trips"
    if p99 > patient.timeout:
        advice = f"all cache work of a call has {patient.timeout:g} s (timeout=): such calls run uncached"
        return fault("latency", text, advice)
    if p99 > patient.timeout / 4:
        advice = f"a miss takes three round trips, and all of them have {patient.timeout:g} s (timeout=)"
        return Line("latency", Status.WARNING, text, advice)
    return ok("latency", text)


async def check_clock(server: Visit) -> Line:
    """Return the line about the clock of the server, as far as this host's clock can judge it."""
    before = time.time()
    reply = await asked(server, "TIME")
    after = time.time()
    if reply is None:
        return unseen("clock", "the server's time", "+time")
    seconds, micros = reply
    distance = int(seconds) + int(micros) / 1_000_000 - (before + after) / 2
    # The way of the answer is no part of the distance.
    apart = max(0.0, abs(distance) - (after - before) / 2)
    text = f"{apart:.3f} s {'ahead of' if distance > 0 else 'behind'} this host"
    advice = (
        "let both follow NTP: the server stamps snapshots and judges their age; no value depends on this host's clock"
    )
    if apart > _FAR_APART:
        return fault("clock", text, advice)
    return Line("clock", Status.WARNING, text, advice) if apart > _APART else ok("clock", text)


# --- memory and disk ---------------------------------------------------------------------------------------


async def check_eviction(server: Visit) -> Line:
    """Return the line about what the server does when its memory is full."""
    memory = await info(server, "memory")
    if memory is None or "maxmemory" not in memory:
        return unseen("eviction", "maxmemory and its policy", "+info")
    most, policy = int(memory["maxmemory"]), memory.get("maxmemory_policy", "")
    used = int(memory.get("used_memory", 0))
    text = f"{policy}, maxmemory {most / 2**20:,.0f} MiB, {used / max(most, 1):.0%} used"
    if not most:
        text = f"no maxmemory, {used / 2**20:,.0f} MiB used"
        advice = "set maxmemory below the memory of the machine, and maxmemory-policy allkeys-lru or volatile-lru"
        return Line("eviction", Status.WARNING, text, advice)
    if policy == "noeviction":
        advice = (
            "set maxmemory-policy allkeys-lru, or volatile-lru beside data of others: when the memory is full, fills, "
            "snapshots and leases are refused (OOM)"
        )
        return fault("eviction", text, advice)
    if policy.endswith("random") or policy == "volatile-ttl":
        advice = "set maxmemory-policy allkeys-lru: this one evicts hot values, tags and snapshots as soon as cold ones"
        return Line("eviction", Status.WARNING, text, advice)
    return ok("eviction", text)


async def check_persistence(server: Visit, patient: Patient) -> list[Line]:
    """Return the lines about what the server writes to its disk, and whether it can."""
    told = await info(server, "persistence")
    saves = pairs(await asked(server, "CONFIG", "GET", "save")).get("save")
    if told is None:
        return [unseen("persistence", "what the server writes to disk", "+info and +config|get")]
    lines: list[Line] = []
    if told.get("rdb_last_bgsave_status") == "err":
        advice = "free its disk: with stop-writes-on-bgsave-error every write is refused (MISCONF)"
        lines.append(fault("persistence", "the last save to disk failed", advice))
    kinds = [*(["RDB"] if saves else []), *(["AOF"] if told.get("aof_enabled") == "1" else [])]
    if not kinds and saves is None:
        return [*lines, unseen("persistence", "whether the server saves to disk (save)", "+config|get")]
    if not kinds:
        return [*lines, ok("persistence", "nothing is written to disk")]
    text = f"{' and '.join(kinds)}: every key is written to disk"
    if patient.encrypted:
        return [*lines, ok("persistence", f"{text}, snapshots and private values sealed")]
    advice = (
        "snapshots would be there as plain text: give the cache keys (CACHEKIT_KEYS, docs/snapshots.md), or switch "
        'persistence off: save "" and appendonly no'
    )
    return [*lines, Line("persistence", patient.lack("windows"), text, advice)]


# --- nobody answers ----------------------------------------------------------------------------------------

_WAY: Final = (
    "ACL SETUSER for this user: +cluster|slots +asking in a cluster, +role behind sentinels, +select for a database"
)

_REASONS: Final[Sequence[tuple[str, str, str, str]]] = (
    ("AUTH", "login", "the login was refused", "give user and password: redis://user:password@host, in percent form"),
    ("MAXCLIENTS", "connection", "it has as many clients as it takes", "raise maxclients, or use fewer processes"),
    ("LOADING", "connection", "it reads its data from disk", "wait until it has"),
    ("NOPERM", "right: calls", "the ACL refuses what the way to the servers needs", _WAY),
    ("no cluster", "connection", "it is in no cluster", "write redis://host:6379 for one server"),
    ("timeout", "connection", "it does not answer in time", "look whether it hangs, or raise --timeout"),
)


def unreachable(error: StoreError) -> Line:
    """Return the line about a server that does not let the doctor in."""
    for cause, check, text, advice in _REASONS:
        if error.cause == cause:
            return fault(check, text, advice)
    said = str(error)
    if "certificate" in said or "TLS" in said:
        advice = "renew it, name its authority by ssl_ca_certs, or ask for the name that it has; it stays verified"
        return fault("tls", said, advice)
    return fault("connection", said, "look whether it runs, and whether host, port and firewall are right")
