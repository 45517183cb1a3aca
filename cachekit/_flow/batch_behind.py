"""Loads of a batch that go on when its caller has its results, since stale values stand in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from cachekit._flow.background import in_background, start_behind
from cachekit._flow.batch_gather import Gather
from cachekit._flow.batch_load import Member, flight_of
from cachekit._flow.batch_plan import Asked
from cachekit._flow.joining import Joining, board
from cachekit._flow.load import abandon, load_failed
from cachekit._flow.stale import hand_out
from cachekit._flow.verdict import LOAD, Verdict
from cachekit._tiers.leases import Seen
from cachekit._tiers.outcome import Found
from cachekit.stores.scripts import Copy


def load_behind(asked: Asked[Any, Any], members: Sequence[tuple[Member, Found]]) -> None:
    """Load in the background what was handed out stale, or is due: one load for all that is not being loaded."""
    led: list[Member] = []
    for member, found in members:
        call = member.call
        flights = call.runtime.flights
        if flights.open_loops and flights.find(call.key) is not None:
            continue
        call.seen = Seen(found.left)
        member.flight = flights.open(call.key, call.plan)
        led.append(member)
    if led and not _start(asked, led, Copy.BACKGROUND):
        _abandon(led)


def load_softly(asked: Asked[Any, Any], members: Sequence[Member], gather: Gather) -> list[Member]:
    """Load in the background what has a stale value that stands in after ``soft_timeout``; ``gather`` waits for it.

    Returns the members that are loaded as all others.
    """
    led: list[Member] = []
    spares: list[Found] = []
    others: list[Member] = []
    for member in members:
        call = member.call
        spare, soft_timeout = call.spare, call.plan.soft_timeout
        if spare is None or soft_timeout is None:
            others.append(member)
            continue
        member.flight, joining = board(call.runtime.flights, call.key, call.plan, member.result)
        if joining is Joining.ALONE:
            member.verdict = LOAD
            others.append(member)
            continue
        member.ends = asyncio.get_running_loop().time() + soft_timeout
        if joining is not Joining.JOIN:
            led.append(member)
            spares.append(spare)
        else:
            gather.share(member)
    if led and not _start(asked, led, Copy.HELD):
        _abandon(led)
        for member, spare in zip(led, spares, strict=True):
            gather.values[member.call.key] = hand_out(member.call, spare, "busy")
        return others
    for member in led:
        gather.share(member)
    return others


def _start(asked: Asked[Any, Any], led: Sequence[Member], copy: Copy) -> bool:
    """Load for the flights of ``led`` in a task of its own. Returns False when there are too many already."""
    runtime = led[0].call.runtime
    budget = runtime.budget()
    own = [
        replace(
            member,
            call=replace(in_background(member.call, runtime, copy), budget=budget),
            verdict=Verdict.LOAD_FILL,
            ends=None,
        )
        for member in led
    ]

    def failed(error: Exception) -> None:
        for member in own:
            landed = flight_of(member).landed
            # Of many loads, some may have succeeded, or not have begun.
            if landed is not None and landed.error is not None:
                load_failed(member.call, flight_of(member), error, raised=False)

    gather = Gather(asked, alone=True)
    return start_behind(runtime, flight_of(led[0]).loop, lambda: gather.load(own), failed)


def _abandon(members: Sequence[Member]) -> None:
    for member in members:
        abandon(member.call, flight_of(member))
