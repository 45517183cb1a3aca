"""The loads of a batch: the leases in one write, one call of the function, the fills in one write.

A key meets here all that it meets alone: a value that was stored meanwhile, a lease that another load holds, a pause, a
store that fails. A caller loads and lands what it got before it waits for another.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from cachekit._flow.batch_plan import Asked
from cachekit._flow.batch_tags import ask_all_with_tags, tags_of_absence
from cachekit._flow.call import Call
from cachekit._flow.failure import copied
from cachekit._flow.flight import ABSENT, LOADING, Flight, Landed
from cachekit._flow.joining import ReadResult
from cachekit._flow.lease import (
    Asking,
    AskingAll,
    Wait,
    is_left_behind,
    load_timeout_of,
    new_token,
    release,
    release_left_behind,
    renew_from_now,
    seize,
    stop_renewing,
    taken_by,
)
from cachekit._flow.load import Filling, give_up, land_result, note_fill
from cachekit._flow.nesting import inside_of
from cachekit._flow.verdict import LOAD, Verdict
from cachekit._tiers.leases import Question
from cachekit.entry import Entry
from cachekit.errors import RoundTripError
from cachekit.events import LoadBegan, LoadCancelled, Loaded
from cachekit.loops import detached
from cachekit.stores.scripts import Lease


class Member(Struct, eq=False):
    """An id of a batch that was no hit, and how it is loaded."""

    one: Any
    """The id. Others with the same key stand for it."""
    call: Call[Any]
    result: ReadResult
    verdict: Verdict
    flight: Flight | None = None
    """The load that it leads, or shares."""
    wait: Wait | None = None
    """How long it has waited for loads of other processes."""
    ends: float | None = None
    """When its stale value stands in for the load that it shares, by the clock of the event loop."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.call.plan.name})"


_NOTHING: Final = object()


# --- leases ---------------------------------------------------------------------------------------


async def acquire_all(members: Sequence[Member]) -> dict[str, Landed | Lease | None]:
    """Ask for the leases of all members in one write.

    Returns:
        By key: the end of its flight, if nothing is to be loaded; a lease that another load holds; or None: it is to be
        loaded, with the lease if its flight has it.
    """
    found: dict[str, Landed | Lease | None] = {}
    unreadable: dict[str, bytes] = {}
    asked = []
    for member in members:
        flight = flight_of(member)
        if flight.lease is not None or member.verdict is LOAD:
            found[member.call.key] = None
        elif member.verdict is Verdict.REFRESH:
            # The value may have been invalidated, and nobody knows. That is seldom.
            await seize(member.call, flight)
            found[member.call.key] = None
        else:
            asked.append(member)
    while asked:
        again = []
        for member, taken in await _ask_all(asked, unreadable):
            if isinstance(taken, bytes):
                unreadable[member.call.key] = taken
            if taken is _NOTHING or isinstance(taken, bytes):
                again.append(member)
            else:
                found[member.call.key] = taken
        asked = again
    return found


async def _ask_all(members: Sequence[Member], unreadable: Mapping[str, bytes]) -> list[tuple[Member, Any]]:
    """Return with each member what the answer to its question means; `_NOTHING`: it is to be asked again."""
    first = members[0].call
    lease, budget, leases = first.plan.lease, first.budget, first.runtime.leases
    questions = [
        Question(member.call.key, new_token(), unreadable.get(member.call.key), member.call.seen) for member in members
    ]
    askings = [
        Asking(member.call, flight_of(member), question.token)
        for member, question in zip(members, questions, strict=True)
    ]
    with AskingAll(askings):
        if first.tagging is None:
            answers = await leases.acquire_many(questions, lease, budget)
        else:
            answers = await ask_all_with_tags([member.call for member in members], questions)
        for asking, answer in zip(askings, answers, strict=True):
            asking.note(answer)
    taken: list[tuple[Member, Any]] = []
    for member, question, answer in zip(members, questions, answers, strict=True):
        if not (type(answer) is Lease and answer.mine) and is_left_behind(answer, member.call.runtime):
            await release_left_behind(member.call, answer)
            taken.append((member, _NOTHING))
        else:
            taken.append((member, taken_by(member.call, flight_of(member), question.token, answer, absent=True)))
    return taken


def flight_of(member: Member) -> Flight:
    flight = member.flight
    assert flight is not None, "a member is boarded before it is loaded"  # noqa: S101 - for the type checkers
    return flight


# --- the function ---------------------------------------------------------------------------------


class Group(Struct, eq=False):
    """The ids of one call of the function."""

    asked: Asked[Any, Any]
    members: Sequence[Member]
    """Those with a key."""
    loose: Sequence[Any]
    """Ids that are loaded, and not stored: without a key, or changed by the block around the call."""
    led: Sequence[Flight]
    """All flights that the caller leads, those of others than the members included."""
    alone: bool = False
    """Whether it has no caller: it loads in the background."""
    timed_out: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.asked.plan.name})"

    @property
    def call(self) -> Call[Any] | None:
        """The call of one member, which stands for all: of one function, in one cache."""
        return self.members[0].call if self.members else None


async def load_group(group: Group) -> Mapping[Any, Any]:
    """Run the function for the ids of ``group``, land the flights of its members, and fill.

    Returns:
        What the function returned for the ids that it was asked for.

    Raises:
        Exception: Of the function; all flights have landed with a copy of it.
    """
    outside = sys.exception()
    for member in group.members:
        flight = flight_of(member)
        flight.become(LOADING)
        if flight.lease is not None:
            renew_from_now(member.call, flight.lease)
    reporter = group.members[0].call.runtime.reporter if group.members else None
    watched = reporter is not None and bool(reporter.observers)
    if watched:
        _tell_began(group)
    began, returned = time.monotonic(), False
    try:
        with inside_of(Flight("", group.asked.plan, asyncio.get_running_loop()), group.led):
            found = _checked(group, await _run(group))
        returned = True
    # As in `cachekit._flow.load.lead`.
    except Exception as error:
        for member in group.members:
            flight = flight_of(member)
            if flight.landed is None:
                flight.land(Landed(error=copied(error, outside) if flight.awaited else error))
                give_up(member.call, flight, error)
        raise
    finally:
        if watched:
            _tell_ended(group, time.monotonic() - began, returned=returned)
    fills, refused = _land_all(group, found, began)
    await _fill_all(fills)
    if refused is not None:
        raise refused
    return found


def _tell_began(group: Group) -> None:
    call = group.members[0].call
    keys = tuple([member.call.key for member in group.members])
    call.runtime.reporter.emit(LoadBegan(keys, call.plan.name, call.by))


def _tell_ended(group: Group, seconds: float, *, returned: bool) -> None:
    """Tell observers that the function has returned, or was cancelled. A failure is told by who knows who sees it."""
    failed = not returned and isinstance(sys.exception(), Exception)
    ended = time.monotonic()
    for member in group.members:
        call, flight = member.call, flight_of(member)
        flight.ended, flight.took = ended, seconds
        if returned:
            call.runtime.reporter.emit(Loaded(call.key, call.plan.name, seconds, call.by))
        elif not failed:
            call.runtime.reporter.emit(LoadCancelled(call.key, call.plan.name, seconds, call.by))


# Not `async`, as in `load`.
def _run(group: Group) -> Coroutine[Any, Any, Any]:
    seconds = None if group.call is None else load_timeout_of(group.call)
    return _begun(group) if seconds is None else _within(seconds, group)


def _begun(group: Group) -> Coroutine[Any, Any, Any]:
    plan = group.asked.plan
    args, kwargs = group.asked.arguments_for([*[member.one for member in group.members], *group.loose])
    if group.alone:
        return plan.arguments.call(plan.function, args, kwargs)
    return plan.function(*args, **kwargs)


async def _within(seconds: float, group: Group) -> Any:
    """Run the function, and cancel it after ``seconds``.

    Raises:
        TimeoutError: It took too long.
    """
    message = f"{group.asked.plan.name} did not return within its load_timeout of {seconds:g} s"
    # As in `load`: nobody else waits for the clean-up of a function that was cancelled.
    timer = detached(asyncio.get_running_loop().call_later, seconds, _time_out, group, message)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await _begun(group)
    except TimeoutError as error:
        if limit.expired():
            for member in group.members:
                flight_of(member).timed_out = True
            raise TimeoutError(message) from error
        raise
    finally:
        timer.cancel()


def _time_out(group: Group, message: str) -> None:
    for member in group.members:
        flight, call = flight_of(member), member.call
        error = TimeoutError(message)
        flight.timed_out = True
        flight.land(Landed(error=error))
        call.runtime.flights.close(flight)
        give_up(call, flight, error)


def _checked(group: Group, found: object) -> Mapping[Any, Any]:
    """Return what the function returned, without ids that it was not asked for.

    Raises:
        TypeError: It is no mapping.
    """
    plan = group.asked.plan
    if not isinstance(found, Mapping):
        message = f"{plan.name} returned a {type(found).__name__}; a batch function returns a mapping of ids to values"
        raise TypeError(message)
    wanted = {*[member.one for member in group.members], *group.loose}
    kept = {one: value for one, value in found.items() if one in wanted}
    call = group.call
    if call is not None:
        reporter = call.runtime.reporter
        if len(kept) < len(found):
            text = f"{plan.name} returned {len(found) - len(kept)} ids that it was not asked for; they are dropped"
            reporter.incident(plan.name, "ids", text)
        elif reporter.incidents:
            reporter.resolved(plan.name, "ids")
    return kept


# --- landing --------------------------------------------------------------------------------------


class _Fill(Struct, eq=False):
    """The fill that follows for one member."""

    member: Member
    filling: Filling


def _land_all(group: Group, found: Mapping[Any, Any], began: float) -> tuple[list[_Fill], RoundTripError | None]:
    """Land the flights of all members. Return the fills that are to follow.

    With them, of a function with ``strict=True``, the error about a result that would not come back as it was.
    """
    fills: list[_Fill] = []
    refused: RoundTripError | None = None
    for member in group.members:
        value = found.get(member.one, _NOTHING)
        try:
            filling = _land_absent(group, member) if value is _NOTHING else _land(member, value, began)
        except RoundTripError as error:
            refused = refused or error
            flight = flight_of(member)
            flight.land(Landed(error=copied(error)))
            give_up(member.call, flight, error)
            continue
        if filling is not None:
            fills.append(_Fill(member, filling))
    return fills, refused


def _land(member: Member, value: Any, began: float) -> Filling | None:
    call, flight = member.call, flight_of(member)
    if flight.landed is not None:
        # It took too long.
        return None
    return land_result(call, flight, value, began)


def _land_absent(group: Group, member: Member) -> Filling | None:
    """Land without a value: the function has left the id out. Return the fill that remembers it, if it is to be."""
    call, flight, ttl = member.call, flight_of(member), group.asked.plan.absent_ttl
    # Single calls that share it start over, and must not find it then.
    call.runtime.flights.close(flight)
    flight.land(ABSENT)
    held, tagging = flight.lease, call.tagging
    if held is None:
        return None
    tags = None if tagging is None else tags_of_absence(call, tagging, flight)
    if tagging is not None and tags is None:
        ttl = None
    absence = Entry(b"null", absent=True, tags=tags)
    entry = call.runtime.values.sealed(call.key, absence, call.codec) if call.codec.private else absence
    if ttl is None or entry is None or flight.void:
        release(call, flight)
        return None
    stop_renewing(held)
    return Filling(entry.raw(), held.token, ttl, ttl)


async def _fill_all(fills: Sequence[_Fill]) -> None:
    """Fill, in one write. A member that is not stored gives its lease back."""
    if not fills:
        return
    first = fills[0].member.call
    coherence = first.runtime.coherence
    steps = [
        (fill.member.call.key, coherence.script_of_fill(fill.filling.data, fill.filling.token, fill.filling.lasts))
        for fill in fills
    ]
    answers = await coherence.fill_many(steps, first.budget)
    for fill, filled in zip(fills, answers, strict=True):
        if filled is not True or first.runtime.reporter.observers:
            note_fill(fill.member.call, flight_of(fill.member), fill.filling, filled)
