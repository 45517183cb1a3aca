"""Stale values: what is known already stands in while the source is slow or down, where a function allows that.

Three rules keep an invalidated value from being handed out:

- A stale value is handed out by the call that read it, and by no other. The flight has none, and nothing is remembered.
- Whether it is stale, the server says: no clock of a host is asked.
- A load in the background holds the lease, as every load does, so an invalidation keeps its result out.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar, cast

from cachekit._flow.background import load_soon
from cachekit._flow.call import Call
from cachekit._flow.flight import PAUSED, Flight, Landed, is_open
from cachekit._flow.joining import Joining, ReadResult, board
from cachekit._flow.load import abandon, counts_as_failure, lead, load_failed, result_of, share
from cachekit._flow.verdict import LOAD, SERVE_LOAD, Verdict
from cachekit._tiers.leases import Seen
from cachekit._tiers.outcome import Down, Found, Outcome
from cachekit.entry import EXPIRED
from cachekit.errors import RoundTripError
from cachekit.events import Hit, ServedStale
from cachekit.freshness import Freshness
from cachekit.stores.scripts import Copy, Paused

R = TypeVar("R")

_AT_HAND: Final = frozenset({Freshness.STALE, Freshness.SPARE})

UNTIMED: Final = "has no stale values, since its store does not tell for how long it keeps a value (TimedStore)"


async def serve_stale(call: Call[R], result: ReadResult, verdict: Verdict) -> R:
    """Return the result of a call whose value is no plain hit: a stale value, or loaded."""
    outcome = result.outcome
    if verdict is SERVE_LOAD:
        # The table says that it was found.
        found = cast("Found", outcome)
        _load_behind(call, found)
        value: R = found.value
        return value
    if call.plan.windows is None:
        return await load(call, result, verdict)
    note_seen(call, outcome, verdict)
    if call.spare is not None and call.plan.soft_timeout is not None:
        return await _load_softly(call, result, call.spare)
    return await load(call, result, verdict)


def note_seen(call: Call[Any], outcome: Outcome, verdict: Verdict) -> None:
    """Note what a call that has to load has seen, and its stale value."""
    if not call.runtime.coherence.times:
        call.runtime.reporter.incident(call.plan.name, "untimed", f"{call.plan.name} {UNTIMED}")
    elif verdict is not LOAD and verdict is not Verdict.REFRESH:
        call.seen = _seen(outcome)
        call.spare = cast("Found", outcome) if verdict is Verdict.LOAD_SPARE else None


def _seen(outcome: Outcome) -> Seen:
    """Return what a call that has to load tells the store when it asks for the lease."""
    if not isinstance(outcome, Found):
        return Seen()
    copy = Copy.HELD if outcome.freshness is Freshness.SPARE else Copy.NONE
    # It has as much left as a new value has, so it is told by its end.
    return Seen(suffix=EXPIRED, copy=copy) if outcome.entry.expired else Seen(outcome.left, copy=copy)


def _load_behind(call: Call[Any], found: Found) -> None:
    """Load in the background, unless the key is being loaded in this event loop, or much else is."""
    flights = call.runtime.flights
    if flights.open_loops and flights.find(call.key) is not None:
        return
    call.seen = Seen(found.left)
    flight = flights.open(call.key, call.plan)
    if not load_soon(call, flight, Copy.BACKGROUND):
        abandon(call, flight)


# --- loading, with a value that stands in ---------------------------------------------------------


async def load(call: Call[R], result: ReadResult, verdict: Verdict) -> R:
    """Load, or share the load of another caller; a stale value of this call stands in when that fails."""
    while True:
        flight, joining = board(call.runtime.flights, call.key, call.plan, result)
        joined = joining is Joining.JOIN
        landed = await share(call, flight) if joined else None
        if landed is None:
            return await _lead(call, result, flight, LOAD if joining is Joining.ALONE else verdict)
        if not is_open(landed) and (landed is not PAUSED or call.spare is not None):
            return share_result(call, result, flight, landed)
        # The flight that it had joined brought nothing. Any flight that it finds now began after this call did.
        result = ReadResult(result.outcome)


async def _lead(call: Call[R], result: ReadResult, flight: Flight, verdict: Verdict) -> R:
    reporter = call.runtime.reporter
    try:
        value = await lead(call, flight, verdict)
    # The function's own: anything about the store is a value here.
    except call.plan.failures as error:
        standing = await in_place_of(call, result, flight, error)
        if standing is None:
            _tell_raised(call, flight, error)
            raise
        load_failed(call, flight, error, raised=False)
        return hand_out(call, standing, "offline" if call.spare is None else "error")
    except Exception as error:
        _tell_raised(call, flight, error)
        raise
    if flight.landed is PAUSED and call.spare is not None:
        return hand_out(call, call.spare, "paused")
    if reporter.incidents:
        reporter.resolved(call.plan.name, "load")
    return value


def _tell_raised(call: Call[Any], flight: Flight, error: Exception) -> None:
    """Tell observers that the caller of a load sees its ``error``, if they were not told when the load ended."""
    # A strict function refuses its result after the load has ended well.
    refused = call.codec.strict and isinstance(error, RoundTripError)
    if call.plan.windows is not None and not refused:
        load_failed(call, flight, error, raised=True)


def share_result(call: Call[R], result: ReadResult, flight: Flight, landed: Landed) -> R:
    """Return the value of a shared load, or what stands in for it; or raise its error."""
    if landed is PAUSED and call.spare is not None:
        return hand_out(call, call.spare, "paused")
    if landed.error is not None and counts_as_failure(call, flight, landed.error):
        standing = _last_known(call) if _is_offline(call, result) else call.spare
        if standing is not None:
            return hand_out(call, standing, "offline" if call.spare is None else "error")
    return result_of(call, landed)


async def _load_softly(call: Call[R], result: ReadResult, spare: Found) -> R:
    """Wait for a load, in a task of its own, no longer than ``soft_timeout``."""
    soft_timeout = call.plan.soft_timeout
    loop = asyncio.get_running_loop()
    ends = loop.time() + (soft_timeout or 0.0)
    flight, joining = board(call.runtime.flights, call.key, call.plan, result)
    if joining is Joining.ALONE:
        return await _lead(call, result, flight, LOAD)
    leads = joining is not Joining.JOIN
    while True:
        if leads and not load_soon(call, flight, Copy.HELD):
            abandon(call, flight)
            return hand_out(call, spare, "busy")
        try:
            async with asyncio.timeout_at(ends):
                landed = await share(call, flight)
        except TimeoutError:
            return hand_out(call, spare, "slow")
        if landed is not None and is_open(landed):
            flight, joining = board(call.runtime.flights, call.key, call.plan, ReadResult(result.outcome))
        elif landed is not None:
            return share_result(call, result, flight, landed)
        # Promoted, since the caller that was loading was cancelled; or the first caller of another flight.
        leads = landed is None or joining is not Joining.JOIN


async def in_place_of(call: Call[Any], result: ReadResult, flight: Flight, error: Exception) -> Found | None:
    """Return what stands in for the load of ``flight``, which this call led and which ended with ``error``."""
    spare = call.spare
    if not counts_as_failure(call, flight, error) or call.pending:
        return None
    if spare is None:
        return _last_known(call) if _is_offline(call, result) else None
    if flight.pausing is not None:
        await asyncio.wait([flight.pausing])
        paused = not flight.pausing.cancelled() and flight.pausing.result() is Paused.SET
        if paused and call.tagging is None:
            # The lease held until now, so nothing has removed the value, and others pause. The removal of a tag leaves
            # the lease.
            return spare
    # It may have been invalidated meanwhile, or stored anew: the value that stands now counts.
    outcome = await call.read_again()
    if isinstance(outcome, Found):
        return None if outcome.freshness is Freshness.OVER else outcome
    # Where the store does not answer, its own value is as good as before: it has read that after it began.
    return spare if isinstance(outcome, Down) and not outcome.of_key else None


def _is_offline(call: Call[Any], result: ReadResult) -> bool:
    """Tell whether a near value may stand in: the function allows it, and the store does not answer."""
    windows, outcome = call.plan.windows, result.outcome
    return windows is not None and windows.offline > 0 and isinstance(outcome, Down) and not outcome.of_key


def _last_known(call: Call[Any]) -> Found | None:
    near, windows = call.runtime.coherence.near, call.plan.windows
    if near is None or windows is None or call.pending:
        return None
    return near.last_known(call.key, call.codec, windows.offline)


# --- events ---------------------------------------------------------------------------------------


def hand_out(call: Call[R], found: Found, why: str) -> R:
    """Return the value of ``found``, and tell observers, unless another load has made it fresh."""
    reporter = call.runtime.reporter
    if reporter.observers:
        if found.freshness in _AT_HAND:
            reporter.emit(ServedStale(call.key, call.plan.name, found.stale_for, why))
        else:
            reporter.emit(Hit(call.key, call.plan.name))
    value: R = found.value
    return value
