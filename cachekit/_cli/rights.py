"""The rights that each feature needs, and which of them a user lacks on one server.

``ACL DRYRUN`` of Redis 7 says so without carrying anything out, to users who may ask it. For all others each command is
sent, on one key of the doctor's own that lives for ten seconds: what the ACL does not let through is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from cachekit._cli.lines import Line, Patient, Status, ok
from cachekit.entry import lease_key
from cachekit.errors import StoreError
from cachekit.stores.visits import Door, Visit, is_at, visit
from cachekit.urls import ClusterURL, SentinelURL, ServerURL, UnixURL

FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "calls": ("+get", "+mget", "+set", "+eval", "+evalsha", "+del", "+pexpire"),
    "invalidation": ("+unlink",),
    "take": ("+getdel",),
    "windows": (
        *("+get", "+set", "+unlink", "+eval", "+evalsha"),
        *("+lrange", "+time", "+lpush", "+ltrim", "+pexpire", "+llen", "+lindex"),
    ),
    "tags": ("+get", "+mget", "+set", "+eval", "+evalsha", "+pexpire", "+pttl", "+multi", "+exec"),
    "stale": ("+pttl", "+append", "+exists", "+multi", "+exec"),
    "touch": ("+get", "+eval", "+evalsha", "+pexpire", "+pttl"),
    "near": ("+client|tracking", "+ping", "+pttl"),
    "clear": ("+scan", "+unlink"),
}
"""The features, in the order of the report, and the commands of each. docs/operations.md says the same."""

TITLES: Final = {
    "calls": "cached calls",
    "invalidation": "invalidation, erase and the journal's replay",
    "take": "take",
    "windows": "windows and snapshots",
    "tags": "tags",
    "stale": "stale values",
    "touch": "ttl and touch",
    "near": "near cache",
    "clear": "clear, and the commands keys, invalidate and erase of patterns",
}

NEAR_BY_RESP2: Final = ("+client|id", "+subscribe")
CHANNEL: Final = "&__redis__:invalidate"

ALWAYS: Final = frozenset({"calls", "invalidation"})
"""The features that every application needs."""

_LIFE: Final = 10_000
"""Milliseconds for which the doctor's own key lives."""

_NOTHING: Final = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
"""The digest of the script ``return 1``."""

Command: TypeAlias = tuple[str | bytes | int, ...]
Refusal: TypeAlias = Callable[..., Awaitable[str]]


def own_key(door: Door, prefix: str) -> str:
    """Return a key of the doctor's own that the server behind ``door`` has."""
    number = 0
    while not is_at(door, f"{prefix}cachekit:doctor:{number}"):
        number += 1
    return f"{prefix}cachekit:doctor:{number}"


def features_of(patient: Patient) -> dict[str, tuple[str, ...]]:
    """Return the features with the commands that each needs where ``patient`` is: a cluster needs more, for one."""
    url, more = patient.url, list[str]()
    if isinstance(url, ClusterURL):
        more = ["+cluster|slots", "+asking"]
    elif isinstance(url, SentinelURL):
        more = ["+role"]
    if isinstance(url, (ServerURL, UnixURL, SentinelURL)) and url.db:
        more.append("+select")
    features = {name: (*rights, *more) if name == "calls" else rights for name, rights in FEATURES.items()}
    if getattr(url, "protocol", 2) == 2:  # noqa: PLR2004 - the version of RESP
        features["near"] += (*NEAR_BY_RESP2, CHANNEL)
    return features


async def check_rights(door: Door, patient: Patient) -> list[Line]:
    """Return a line for each feature: whether this user has its rights at the server behind ``door``.

    Raises:
        StoreError: The server did not answer.
    """
    features = features_of(patient)
    asked = dict.fromkeys(right for rights in features.values() for right in rights)
    lacking, untried = await _lacking(door, patient, [*asked])
    lines: list[Line] = []
    for name, rights in features.items():
        without = [right for right in (*key_rules(patient.prefix), *rights) if right in lacking]
        if without:
            advice = f"ACL SETUSER for this user: {' '.join(without)}"
            text = f"{TITLES[name]}: refused without {' '.join(without)}"
            lines.append(Line(f"right: {name}", patient.lack(name), text, advice))
        elif untried & {*rights}:
            text = f"{TITLES[name]}: {' '.join(sorted(untried & {*rights}))} cannot be tried without +set"
            lines.append(Line(f"right: {name}", Status.UNKNOWN, text))
        else:
            lines.append(ok(f"right: {name}", f"{TITLES[name]}: allowed"))
    return lines


def key_rules(prefix: str) -> tuple[str, ...]:
    """Return the rules for the keys of a prefix, and for their leases."""
    return (f"~{prefix}*", f"~{{{prefix}*") if prefix else ("~*",)


async def _lacking(door: Door, patient: Patient, rights: list[str]) -> tuple[set[str], set[str]]:
    """Return the rules that this user lacks, and the ones that cannot be tried."""
    key = own_key(door, patient.prefix)
    async with visit(door, patient.patience) as server:
        dry_run = await _by_dry_run(server)
        if dry_run is not None:
            return await _refused(dry_run, patient, key, rights), set()
        together = [right for right in _in_order(rights) if right not in _APART]
        try:
            lacking = await _refused(server.refusal, patient, key, together[:1])
            # Without a value at the key they would leave one without an end.
            untried = {"+append", "+lpush"} & {*rights} if lacking else set[str]()
            lacking |= await _refused(server.refusal, patient, key, [one for one in together if one not in untried])
        finally:
            await server.refusal("UNLINK", key)
    for right in [right for right in rights if right in _APART]:
        # It leaves the connection in another state.
        async with visit(door, patient.patience) as another:
            lacking |= await _refused(another.refusal, patient, key, [right])
    return lacking, untried


async def _by_dry_run(server: Visit) -> Refusal | None:
    """Return the function that asks ``ACL DRYRUN``; None if the server has no such command, or the user may not ask."""
    try:
        user = await server.ask("ACL", "WHOAMI")
        await server.ask("ACL", "DRYRUN", user, "GET", "k")
    except StoreError as error:
        if not error.answered:
            raise
        return None

    async def refusal(*command: str | bytes | int) -> str:
        return await server.dry_run(user, *command)

    return refusal


async def _refused(refusal: Refusal, patient: Patient, key: str, rights: list[str]) -> set[str]:
    """Return which of ``rights``, and of the rules for keys, ``refusal`` says that the user lacks."""
    names, lacking = (key, lease_key(key)), set[str]()
    for right in rights:
        reason = await refusal(*_example(right, *names, patient))
        if reason == "command":
            lacking.add(right)
        elif reason == "channel":
            lacking.add(CHANNEL)
        elif reason == "key":
            lacking |= await _lacking_keys(refusal, patient, names)
    return lacking


async def _lacking_keys(refusal: Refusal, patient: Patient, names: tuple[str, bytes]) -> set[str]:
    """Return the rules for keys that this user lacks, who was refused one of the two ``names``."""
    rules = key_rules(patient.prefix)
    if len(rules) == 1:
        return {*rules}
    lacking = set[str]()
    for rule, name in zip(rules, names, strict=True):
        for command in (("GET", name), ("SET", name, "1", "PX", _LIFE), ("UNLINK", name)):
            reason = await refusal(*command)
            if reason == "key":
                lacking.add(rule)
            if reason != "command":
                break
    return lacking


def _in_order(rights: list[str]) -> list[str]:
    """Return ``rights`` so that a value is there for each one that needs it, and removed by the last."""
    last = ["+getdel", "+del", "+unlink"]
    others = [right for right in rights if right not in {"+set", *last}]
    return ["+set", *others, *last]


_APART: Final = frozenset({"+multi", "+exec", "+subscribe", "+asking", CHANNEL})

_EXAMPLES: Final[dict[str, Callable[[str, bytes], Command]]] = {
    "+get": lambda key, _: ("GET", key),
    "+mget": lambda key, lease: ("MGET", key, lease),
    "+set": lambda key, _: ("SET", key, "1", "PX", _LIFE),
    "+getdel": lambda key, _: ("GETDEL", key),
    "+unlink": lambda key, lease: ("UNLINK", key, lease),
    "+eval": lambda key, lease: ("EVAL", "return 1", 2, key, lease),
    "+evalsha": lambda key, lease: ("EVALSHA", _NOTHING, 2, key, lease),
    "+del": lambda key, lease: ("DEL", key, lease),
    "+pexpire": lambda key, _: ("PEXPIRE", key, _LIFE),
    "+lrange": lambda key, _: ("LRANGE", key, 0, 0),
    "+time": lambda *_: ("TIME",),
    "+lpush": lambda key, _: ("LPUSH", key, "1"),
    "+ltrim": lambda key, _: ("LTRIM", key, 0, 0),
    "+llen": lambda key, _: ("LLEN", key),
    "+lindex": lambda key, _: ("LINDEX", key, 0),
    "+pttl": lambda key, _: ("PTTL", key),
    "+append": lambda key, _: ("APPEND", key, ""),
    "+exists": lambda key, _: ("EXISTS", key),
    "+multi": lambda *_: ("MULTI",),
    "+exec": lambda *_: ("EXEC",),
    "+scan": lambda key, _: ("SCAN", 0, "MATCH", key, "COUNT", 1),
    "+client|tracking": lambda *_: ("CLIENT", "TRACKING", "OFF"),
    "+client|id": lambda *_: ("CLIENT", "ID"),
    "+ping": lambda *_: ("PING",),
    "+subscribe": lambda *_: ("SUBSCRIBE", CHANNEL[1:]),
    CHANNEL: lambda *_: ("SUBSCRIBE", CHANNEL[1:]),
    "+role": lambda *_: ("ROLE",),
    "+asking": lambda *_: ("ASKING",),
    "+cluster|slots": lambda *_: ("CLUSTER", "SLOTS"),
}
"""A command for each right. At a key that holds a value commands for lists answer WRONGTYPE, not NOPERM."""


def _example(right: str, key: str, lease: bytes, patient: Patient) -> Command:
    if right == "+select":
        return ("SELECT", getattr(patient.url, "db", 0))
    return _EXAMPLES[right](key, lease)
