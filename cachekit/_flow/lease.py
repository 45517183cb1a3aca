"""Leases: one load of a cold key across processes, and the fence that keeps voided loads out of the store."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any, Final, Self

from cachekit._flow.flight import Flight, inside
from cachekit._flow.plan import CallPlan
from cachekit._flow.runtime import Runtime
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import Down, Found

# Seconds between looks at a lease that somebody else holds. Of all callers of a key in one event loop one
# looks, so a loop and key cost the store at most 1 / (0.5 * 0.1) = 20 short scripts a second, 13 on average, and
# in the first second at most 24.
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.1

_MOST_HOLDERS: Final = 2
"""Leases of others that a caller waits out. Whoever finds a third one loads, and does not store: where
results cannot be stored, callers would otherwise load one after the other, each waiting for all before it."""


async def acquire(
    runtime: Runtime, plan: CallPlan[..., Any], flight: Flight, budget: Budget, *, seize: bool
) -> Found | None:
    """Take the lease for ``flight``, waiting while somebody else's load is alive.

    Returns:
        The value, if it was stored meanwhile. Otherwise None: then ``flight.token`` holds the lease, or is
        None when the store failed, and what is loaded is not stored.
    """
    tier, key = runtime.tier, flight.key
    # A token is never used twice: what a late server does with an old one must mean nothing.
    token = os.urandom(12).hex().encode()
    if seize:
        with _Taking(runtime, flight, token, plan.lease) as taking:
            taken = await tier.seize_lease(key, token, plan.lease, budget)
            taking.answered = taken
        if taken:
            flight.token = token
            keep(runtime, flight, plan.lease)
        return None
    codec = plan.codec(tier.reporter)
    holders: set[bytes] = set()
    unreadable: bytes | None = None
    pause, waited = FIRST_PAUSE, 0.0
    while True:
        left = budget.left
        with _Taking(runtime, flight, token, plan.lease) as taking:
            answer = await tier.take_lease(key, token, plan.lease, unreadable, codec, plan.name, budget)
            taking.answered = not isinstance(answer, Down)
        if isinstance(answer, Found):
            return answer
        if isinstance(answer, Down):
            return None
        if isinstance(answer, bytes):
            # They stand at the key and do not decode; the load is to replace them.
            unreadable = answer
            continue
        if answer.mine:
            flight.token = token
            keep(runtime, flight, plan.lease)
            return None
        holders.add(answer.holder)
        # Where another load waits for this one, nobody waits longer than a lease: two processes whose loads
        # need each other's would wait for ever.
        if len(holders) > _MOST_HOLDERS or ((flight.nested or inside()) and waited > plan.lease):
            return None
        # While the other load is alive, waiting for it is no work of the cache: it is the load, shared.
        budget.left = left
        slept = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        await asyncio.sleep(slept)
        waited += slept
        pause = min(1.5 * pause, LONGEST_PAUSE)


class _Taking:
    """Gives back a lease that was asked for when the answer is not heard: a timeout, or a cancelled caller.

    The store may take it all the same, for nobody, and everybody would wait until it ends. Before the next
    caller is chosen, so that what it asks for comes after this on the same connection.
    """

    __slots__ = ("_asked", "answered")

    def __init__(self, runtime: Runtime, flight: Flight, token: bytes, lease: float) -> None:
        self._asked = (runtime, flight, token, lease)
        self.answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if not self.answered:
            runtime, flight, token, lease = self._asked
            runtime.background.start(flight.loop, _give_back, runtime, flight.key, token, lease)


def keep(runtime: Runtime, flight: Flight, lease: float) -> None:
    """Keep the lease alive until the flight lands, whoever loads it."""
    # A third, so that one renewal may fail and the next still comes in time.
    flight.renewal = flight.loop.call_later(lease / 3, _due, runtime, flight, lease)


def _due(runtime: Runtime, flight: Flight, lease: float) -> None:
    keep(runtime, flight, lease)
    runtime.background.start(flight.loop, _renew, runtime, flight, lease)


async def _renew(runtime: Runtime, flight: Flight, lease: float) -> None:
    token = flight.token
    if token is not None and not await runtime.tier.renew_lease(flight.key, token, lease):
        flight.keep_no_longer()


def release(runtime: Runtime, flight: Flight, lease: float) -> None:
    """Give the lease back, without making anybody wait for it."""
    flight.keep_no_longer()
    token, flight.token = flight.token, None
    if token is not None:
        runtime.background.start(flight.loop, _give_back, runtime, flight.key, token, lease)


async def _give_back(runtime: Runtime, key: str, token: bytes, lease: float) -> None:
    """Give a lease back; while the store is down, try again until the lease has ended by itself.

    Otherwise whoever comes first when the store is back would wait for a load that nobody is at.
    """
    ends = time.monotonic() + lease
    while not await runtime.tier.release_lease(key, token) and (left := ends - time.monotonic()) > 0:
        await runtime.tier.until_asked(key, left)
