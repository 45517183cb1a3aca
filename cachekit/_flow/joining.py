"""Who may join a load that is going on: one pure table, and nothing else decides it.

=========================================================  ==========  ============================================
the flight of the key                                      a call      why
=========================================================  ==========  ============================================
``FOREIGN``  it is another function's                      ``OPEN``    functions that share a key by mistake share no
                                                                       result
``LATER``    its load begins after the call did            ``JOIN``    it loads what the call would load
``FENCED``   its load had begun; its lease still holds     ``JOIN``    it was not invalidated before the call
``VOIDED``   its load had begun; its lease is gone, or     ``OPEN``    it may bring an invalidated value
             one of its tags was removed
``UNKNOWN``  its load had begun; the store cannot tell     ``FOLLOW``  it is not known whether it was invalidated
``CIRCLE``   its load waits for this call                  ``ALONE``   else each would wait for the other
=========================================================  ==========  ============================================

"Had begun" is before the call did. A call that follows shares the next load, which begins when that one has ended, or
when the deadline of the cache's work is over: a load that hangs holds no caller up.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from msgspec import Struct

from cachekit._flow.flight import Flight, Flights
from cachekit._flow.nesting import may_wait_for
from cachekit._tiers.outcome import Down, Outcome
from cachekit.tags import Tags


class Joining(Enum):
    """The ways in which a call that has to load does so."""

    OPEN = "open a flight of its own, which later calls find"
    JOIN = "wait for the flight to land"
    FOLLOW = "open a flight that begins when the earlier one has ended, or takes too long"
    ALONE = "load, and let nobody share it"


class Relation(Enum):
    """How the flight of a key stands to a call that has to load, and what the call does then."""

    FOREIGN = "it is another function's", Joining.OPEN
    LATER = "its load begins after the call did", Joining.JOIN
    FENCED = "its load had begun, and its lease still holds", Joining.JOIN
    VOIDED = "its load had begun, and its lease is gone, or one of its tags", Joining.OPEN
    UNKNOWN = "its load had begun, and the store cannot tell", Joining.FOLLOW
    CIRCLE = "its load waits for this call", Joining.ALONE

    def __init__(self, flight: str, joining: Joining) -> None:
        self.flight: str = flight
        self.joining: Joining = joining


def board(flights: Flights, key: str, plan: object, result: ReadResult) -> tuple[Flight, Joining]:
    """Return the flight of a call of ``plan`` that has to load ``key``, and how the call takes part in it."""
    flight = flights.find(key) if flights.open_loops else None
    if flight is None:
        return flights.open(key, plan), Joining.OPEN
    joining = result.relation(flight, plan).joining
    if joining is Joining.JOIN:
        return flight, joining
    if joining is Joining.ALONE:
        # A function that calls itself runs as if undecorated.
        return Flight(key, plan, asyncio.get_running_loop(), unleased="lease"), joining
    opened = flights.open(key, plan)
    if joining is Joining.FOLLOW:
        # All calls that come meanwhile share it, rather than load beside the earlier one.
        opened.after = flight
    return opened, joining


class ReadResult(Struct, eq=False):
    """The outcome of a call's read, and the load of its key that had begun before, with the lease."""

    outcome: Outcome
    earlier: Flight | None = None
    """The flight whose load had begun before the read, if there was one."""
    holder: bytes | None = None
    """The token that held the lease as of the read."""
    tags: Tags | None = None
    """The tags that the call has read; None if the function has none."""

    def relation(self, flight: Flight, plan: object) -> Relation:
        """Return what ``flight``, the one of the key by now, is to a call of ``plan`` with this result."""
        if flight.plan is not plan:
            return Relation.FOREIGN
        if not may_wait_for(flight):
            return Relation.CIRCLE
        if flight is not self.earlier:
            return Relation.LATER
        if isinstance(self.outcome, Down):
            return Relation.UNKNOWN
        held = flight.lease is not None and flight.lease.token == self.holder
        # A removal of a tag leaves the lease, and is seen by the tags that the call has read.
        return Relation.FENCED if held and flight.tags == self.tags else Relation.VOIDED
