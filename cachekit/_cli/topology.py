"""Which servers there are, and whether all of them can be reached: sentinels, a cluster's nodes, replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar

from cachekit._cli.lines import Line, Patient, Status, fault, ok, unseen
from cachekit._cli.server import asked, pairs
from cachekit.errors import DENIED, StoreError
from cachekit.stores.visits import Door, Shard, door_to, sentinel_doors, shards_of, visit
from cachekit.urls import ClusterURL, SentinelURL

T = TypeVar("T")

_REPLICA = "without one its keys are misses while it is away, and their invalidations wait"


async def _each(calls: Iterable[Awaitable[T]]) -> list[T | StoreError]:
    """Await all ``calls`` at the same time. A failure of the store is an answer."""
    return [_answer(one) for one in await asyncio.gather(*calls, return_exceptions=True)]


def _answer(one: T | BaseException) -> T | StoreError:
    if isinstance(one, BaseException) and not isinstance(one, StoreError):
        raise one
    return one


async def _hello(door: Door, timeout: float) -> dict[str, Any]:
    async with visit(door, timeout) as server:
        return pairs(await asked(server, "HELLO"))


# --- one server --------------------------------------------------------------------------------------------


async def check_replicas(door: Door, patient: Patient) -> Line:
    """Return the line about the replicas of a master, as far as this user may see them."""
    async with visit(door, patient.patience) as server:
        role = await asked(server, "ROLE")
    if not isinstance(role, list):
        return unseen("replicas", "the replicas of the master", "+role")
    count = len(role[2]) if role[0] == b"master" else 0
    text = f"{count} {'replica' if count == 1 else 'replicas'}"
    if not count and isinstance(patient.url, SentinelURL):
        return fault("replicas", text, "add a replica: sentinels have nothing to promote")
    return ok("replicas", text)


# --- Sentinel ----------------------------------------------------------------------------------------------


async def check_sentinels(url: SentinelURL, timeout: float) -> list[Line]:
    """Return the lines about the sentinels of a service."""
    doors = sentinel_doors(url)
    answers = await _each(_named_by(door, url.service, timeout) for door in doors)
    lines: list[Line] = []
    for door, answer in zip(doors, answers, strict=True):
        if isinstance(answer, StoreError):
            advice = "start it, or take it out of the URL"
            if answer.cause == DENIED:
                advice = "allow its login: ACL SETUSER … +sentinel|get-master-addr-by-name +sentinel|master"
            lines.append(Line("sentinel", Status.WARNING, f"{door.name} is no help: {answer}", advice))
    named = [answer for answer in answers if not isinstance(answer, StoreError)]
    known = [answer for answer in named if answer is not None]
    if len(named) <= len(doors) // 2:
        text = f"{len(named)} of {len(doors)} sentinels answer"
        return [*lines, fault("sentinel", text, "no majority, no failover: start the others")]
    if not known:
        text = f"no sentinel knows a master called {url.service!r}"
        return [*lines, fault("sentinel", text, "write the name of the service as `sentinel monitor` has it")]
    if len({*known}) > 1:
        text = f"the sentinels name different masters: {', '.join(sorted({*known}))}"
        return [*lines, fault("sentinel", text, "wait for the failover to end, or look for a partition")]
    return [*lines, ok("sentinel", f"{len(known)} of {len(doors)} sentinels name {known[0]}")]


async def _named_by(door: Door, service: str, timeout: float) -> str | None:
    """Return the master that a sentinel names; None if it knows none."""
    async with visit(door, timeout) as sentinel:
        place = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        if place:
            # The toolkit asks both.
            await sentinel.ask("SENTINEL", "MASTER", service)
    return f"{place[0].decode()}:{place[1].decode()}" if place else None


# --- a cluster ---------------------------------------------------------------------------------------------


async def check_cluster(url: ClusterURL, timeout: float) -> list[Line]:
    """Return the lines about the nodes of a cluster.

    Raises:
        StoreError: No node of the URL answers.
    """
    shards = await shards_of(url, timeout)
    lines = [*await _nodes(url, shards, timeout), _slots(shards)]
    alone = [shard.master.name for shard in shards if not shard.replicas]
    if alone:
        text = f"no replica of {', '.join(alone)}"
        lines.append(Line("replicas", Status.WARNING, text, f"add a replica of each master: {_REPLICA}"))
    else:
        lines.append(ok("replicas", f"{sum(len(shard.replicas) for shard in shards)} of {len(shards)} masters"))
    return lines


async def _nodes(url: ClusterURL, shards: Sequence[Shard], timeout: float) -> list[Line]:
    """Return a line for each node that is down, or one about all of them."""
    doors = {door.name: door for shard in shards for door in (shard.master, *shard.replicas)}
    masters = {shard.master.name for shard in shards}
    doors |= {str(place): door_to(url, place) for place in url.nodes if str(place) not in doors}
    answers = await _each(_hello(door, timeout) for door in doors.values())
    lines: list[Line] = []
    for name, answer in zip(doors, answers, strict=True):
        role = "a master" if name in masters else "a node"
        if isinstance(answer, StoreError):
            advice = "start it, or have the cluster forget it and take it out of the URL"
            lines.append(fault("cluster", f"{role}, {name}, is away: {answer}", advice))
        elif name in masters and answer.get("role", "master") != "master":
            advice = "wait for the failover to end"
            lines.append(fault("cluster", f"{name} has slots and says that it is a replica", advice))
    return [*lines, *await _failed(shards, {*doors}, timeout)] or [ok("cluster", f"all {len(doors)} nodes answer")]


async def _failed(shards: Sequence[Shard], seen: set[str], timeout: float) -> list[Line]:
    """Return a line for each node that the cluster has given up, and that its slots do not name any more."""
    try:
        async with visit(shards[0].master, timeout) as server:
            told = await asked(server, "CLUSTER", "NODES")
    except (StoreError, IndexError):
        return []
    lines: list[Line] = []
    for line in (told or b"").decode().splitlines():
        _, place, flags, *_ = line.split()
        name = place.partition("@")[0]
        if "fail" in flags.split(",") and name not in seen:
            lines.append(fault("cluster", f"a node, {name}, has failed", "start it, or have the cluster forget it"))
    return lines


def _slots(shards: Sequence[Shard]) -> Line:
    count = sum(last - first + 1 for shard in shards for first, last in shard.master.slots)
    if count < SLOTS:
        advice = "give them a master: with cluster-require-full-coverage the whole cluster refuses every key"
        return fault("slots", f"{SLOTS - count:,} of {SLOTS:,} slots have no master", advice)
    return ok("slots", f"all {SLOTS:,} slots, on {len(shards)} masters")


SLOTS = 16_384
