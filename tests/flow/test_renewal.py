"""Leases are renewed while their loads go on: all of one event loop by one timer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from cachekit._flow.renewal import Renewals
from cachekit._tiers.background import Background

PATIENCE = 30.0


class RecordingLeases:
    """Renews leases, and notes their keys in order."""

    def __init__(self, *, held: bool = True) -> None:
        self.renewed: asyncio.Queue[str] = asyncio.Queue()
        self.held = held

    async def renew(self, key: str, token: bytes, lease: float) -> bool:
        self.renewed.put_nowait(key)
        return self.held


async def test_a_short_lease_is_renewed_in_time_though_a_longer_one_was_taken_before() -> None:
    leases = RecordingLeases()
    renewals = Renewals(cast("Any", leases), Background())
    long = renewals.hold("long", b"a", 600.0, 6000.0)
    short = renewals.hold("short", b"b", 0.06, 6000.0)
    async with asyncio.timeout(PATIENCE):
        assert [await leases.renewed.get() for _ in range(3)] == ["short"] * 3
    for held in (long, short):
        renewals.stop(held)


async def test_a_long_lease_is_renewed_while_short_ones_come_and_go() -> None:
    leases = RecordingLeases()
    renewals = Renewals(cast("Any", leases), Background())
    long = renewals.hold("long", b"a", 0.6, 6000.0)
    async with asyncio.timeout(PATIENCE):
        while leases.renewed.empty():
            renewals.stop(renewals.hold("short", b"b", 0.06, 6000.0))
            await asyncio.sleep(0)
    assert leases.renewed.get_nowait() == "long"
    renewals.stop(long)


async def test_a_lease_that_is_lost_is_renewed_no_more() -> None:
    leases = RecordingLeases(held=False)
    background = Background()
    renewals = Renewals(cast("Any", leases), background)
    renewals.hold("lost", b"a", 0.03, 6000.0)
    async with asyncio.timeout(PATIENCE):
        await leases.renewed.get()
    await background.drain(PATIENCE)
    other = RecordingLeases()
    kept = Renewals(cast("Any", other), background).hold("kept", b"b", 0.06, 6000.0)
    async with asyncio.timeout(PATIENCE):
        # By now the lost one would have been renewed again, several times.
        for _ in range(3):
            await other.renewed.get()
    assert leases.renewed.empty()
    kept.renewals.stop(kept)
