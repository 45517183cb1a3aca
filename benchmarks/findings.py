"""What a recording of an outage comes to: phase by phase, second by second, and in a few figures. Times are seconds."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.tape import HIT, LOADED, Figures, Note, Recording, Second, spread

DELAYED: Final = 0.01
"""Seconds from which a call counts as delayed: far more than a hit takes, far less than a deadline."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a phase began, when the server was as the phase says, and whether Redis is to be used again from then on."""

    name: str
    began: float
    ready: float
    back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase, by the calls that returned in it.

    Attributes:
        name: What was done to the server.
        began: Seconds since the run did.
        seconds: How long it lasted.
        calls: How many returned.
        hits: How many of these found their value.
        loads: How many ran the function.
        delayed: How many took `DELAYED` or longer.
        median: What they took.
        p99: What one in a hundred took, or more.
        longest: The most that one took.
        lag: By how much the event loop was late at worst.
        exceptions: How many calls raised, and tasks in the background.
        warnings: Records of the level WARNING or above.
        infos: Records of the level INFO.
        opened_after: From its beginning until the breaker opened, if it did.
        median_open: What calls took that began and returned while the breaker was open.
        used_after: From the first answer to a PING until the first hit, if the server came back.
    """

    name: str
    began: float
    seconds: float
    calls: int
    hits: int
    loads: int
    delayed: int
    median: float
    p99: float
    longest: float
    lag: float
    exceptions: int
    warnings: int
    infos: int
    opened_after: float | None
    median_open: float | None
    used_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run.

    Attributes:
        where: What the figures depend on.
        callers: How many there were.
        rate: Calls per second in all, as asked for.
        phases: One by one.
        seconds: One by one.
        longest: The most that any call took.
        median_open: What calls took that began and returned while the breaker was open.
        undecorated: What calls of the undecorated function took: the median.
        used_after: The longest that it took until the first hit, if the server came back and there was one each time.
        raised: Exceptions, of calls and of tasks in the background.
        skipped: Calls that were not made, since their caller was still waiting for the one before.
        store_failed: Operations that failed or were left out.
        before: What the process held when every caller waited for its first call.
        largest: The most that it held at the end of any second, each figure by itself.
        last: What it held at the end of the last second.
        after: What it held when the callers had ended and the cache was closed.
        events: Other than those that come with every call.
        records: What was logged.
        exceptions: The first of what was raised.
    """

    where: dict[str, Any]
    callers: int
    rate: float
    phases: list[Phase]
    seconds: list[Second]
    longest: float
    median_open: float | None
    undecorated: float
    used_after: float | None
    raised: int
    skipped: int
    store_failed: int
    before: Figures
    largest: Figures
    last: Figures
    after: Figures
    events: list[Note]
    records: list[Note]
    exceptions: list[Note]


def report(
    recording: Recording, moments: Sequence[Moment], *, callers: int, rate: float, where: dict[str, Any]
) -> Report:
    """Return what ``recording`` comes to; the first phase began with it."""
    moments = [replace(moments[0], began=recording.began, ready=recording.began), *moments[1:]]
    ends = [*(moment.began for moment in moments[1:]), recording.ended[-1] + 1e-9]
    phases = [_phase(recording, moment, end) for moment, end in zip(moments, ends, strict=True)]
    used = [phase.used_after for phase, moment in zip(phases, moments, strict=True) if moment.back]
    held = [recording.before, *(second.figures for second in recording.seconds)]
    return Report(
        where=where,
        callers=callers,
        rate=rate,
        phases=phases,
        seconds=recording.seconds,
        longest=max(recording.took),
        median_open=_median_open(recording, recording.began, ends[-1]),
        undecorated=statistics.median(recording.undecorated),
        used_after=None if None in used else max(filter(None, used), default=0.0),
        raised=recording.raised,
        skipped=recording.skipped,
        store_failed=recording.store_failed,
        before=recording.before,
        largest=Figures(
            max(figures.memory for figures in held),
            max(figures.tasks for figures in held),
            max(figures.files for figures in held),
            max(figures.sockets for figures in held),
        ),
        last=held[-1],
        after=recording.after,
        events=_since(recording.events, recording.began),
        records=_since(recording.records, recording.began),
        exceptions=_since(recording.exceptions, recording.began),
    )


def _phase(recording: Recording, moment: Moment, end: float) -> Phase:
    first, last = bisect_left(recording.ended, moment.began), bisect_left(recording.ended, end)
    took = recording.took[first:last]
    kinds = recording.kinds[first:last]
    median, p99, longest = spread(took)
    levels = [note.name for note in recording.records if moment.began <= note.at < end]
    opened = [note.at for note in _named(recording.events, "BreakerOpened") if moment.began <= note.at < end]
    return Phase(
        name=moment.name,
        began=moment.began - recording.began,
        seconds=end - moment.began,
        calls=len(took),
        hits=kinds.count(HIT),
        loads=kinds.count(LOADED),
        delayed=sum(seconds >= DELAYED for seconds in took),
        median=median,
        p99=p99,
        longest=longest,
        lag=max(recording.lags[slice(*(bisect_left(recording.beats, at) for at in (moment.began, end)))], default=0.0),
        exceptions=sum(moment.began <= note.at < end for note in recording.exceptions),
        warnings=len(levels) - levels.count("INFO"),
        infos=levels.count("INFO"),
        opened_after=opened[0] - moment.began if opened else None,
        median_open=_median_open(recording, moment.began, end),
        used_after=_first_hit(recording, first, last, moment.ready) if moment.back else None,
    )


def _first_hit(recording: Recording, first: int, last: int, ready: float) -> float | None:
    """Return how long after ``ready`` one of these calls was the first hit; a hit may be faster than a PING."""
    hits = (recording.ended[call] for call in range(first, last) if recording.kinds[call] == HIT)
    hit = next(hits, None)
    return None if hit is None else max(0.0, hit - ready)


def _median_open(recording: Recording, began: float, end: float) -> float | None:
    """Return the median of the calls between the two that began and returned while the breaker was open."""
    opened = [note.at for note in _named(recording.events, "BreakerOpened")]
    closed = [note.at for note in _named(recording.events, "BreakerClosed")]
    took: list[float] = []
    for at in opened:
        until = min([end, *(other for other in closed if other > at)])
        first, last = bisect_left(recording.ended, max(at, began)), bisect_left(recording.ended, until)
        took += [
            seconds
            for ended, seconds in zip(recording.ended[first:last], recording.took[first:last], strict=True)
            if ended - seconds >= at
        ]
    return statistics.median(took) if took else None


def _named(notes: list[Note], name: str) -> list[Note]:
    return [note for note in notes if note.name == name]


def _since(notes: list[Note], began: float) -> list[Note]:
    return [Note(note.at - began, note.name, note.text) for note in notes]
