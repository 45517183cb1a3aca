"""What a recording of an outage comes to: phase by phase, second by second, and in a few figures. Times are seconds."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from benchmarks.recording import HIT, LOADED, Held, Note, Recording
from benchmarks.suite import spread

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
class Window:
    """The calls that returned in some time.

    Attributes:
        calls: How many returned.
        hits: How many of these found their value.
        loads: How many ran the function.
        delayed: How many took `DELAYED` or longer.
        median: What they took.
        p99: What one in a hundred took, or more.
        longest: The most that one took.
        lag: By how much the event loop was late at worst.
        exceptions: How many calls raised, and tasks in the background.
    """

    calls: int
    hits: int
    loads: int
    delayed: int
    median: float
    p99: float
    longest: float
    lag: float
    exceptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Second(Window):
    """One second, until ``at``; ``breaker`` and ``figures``, what the process held, are as of its end."""

    at: float
    breaker: str
    figures: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Window):
    """One phase of the script.

    Attributes:
        name: What was done to the server.
        began: Seconds since the run did.
        seconds: How long it lasted.
        warnings: Records of the level WARNING or above.
        infos: Records of the level INFO.
        opened_after: From its beginning until the breaker opened, if it did.
        median_open: What calls took that began and returned while the breaker was open.
        used_after: From the first answer to a PING until the first hit, if the server came back.
    """

    name: str
    began: float
    seconds: float
    warnings: int
    infos: int
    opened_after: float | None
    median_open: float | None
    used_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run.

    Attributes:
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
    before: Held
    largest: Held
    last: Held
    after: Held
    events: list[Note]
    records: list[Note]
    exceptions: list[Note]


def report(recording: Recording, moments: Sequence[Moment], *, callers: int, rate: float) -> Report:
    """Return what ``recording`` comes to; the first phase began with it."""
    began = recording.began
    moments = [replace(moments[0], began=began, ready=began), *moments[1:]]
    ends = [*(moment.began for moment in moments[1:]), recording.ended[-1] + 1e-9]
    phases = [_phase(recording, moment, end) for moment, end in zip(moments, ends, strict=True)]
    used = [phase.used_after for phase, moment in zip(phases, moments, strict=True) if moment.back]
    held = [recording.before, *(tick.held for tick in recording.ticks)]
    return Report(
        callers=callers,
        rate=rate,
        phases=phases,
        seconds=[
            Second(
                **_window(recording, began + tick.at - 1, began + tick.at),
                at=tick.at,
                breaker=tick.breaker,
                figures=tick.held,
            )
            for tick in recording.ticks
        ],
        longest=max(recording.took),
        median_open=_median_open(recording, began, ends[-1]),
        undecorated=statistics.median(recording.undecorated),
        used_after=None if None in used else max(filter(None, used), default=0.0),
        raised=recording.raised,
        skipped=recording.skipped,
        store_failed=recording.store_failed,
        before=recording.before,
        largest=Held(*(max(getattr(each, figure.name) for each in held) for figure in fields(Held))),
        last=held[-1],
        after=recording.after,
        events=_since(recording.events, began),
        records=_since(recording.records, began),
        exceptions=_since(recording.exceptions, began),
    )


def _window(recording: Recording, began: float, end: float) -> dict[str, Any]:
    """Return the figures of a `Window`."""
    calls = _between(recording.ended, began, end)
    took, kinds = recording.took[calls], recording.kinds[calls]
    median, p99, longest = spread(took)
    return {
        "calls": len(took),
        "hits": sum(kind == HIT for kind in kinds),
        "loads": sum(kind == LOADED for kind in kinds),
        "delayed": sum(seconds >= DELAYED for seconds in took),
        "median": median,
        "p99": p99,
        "longest": longest,
        "lag": max(recording.lags[_between(recording.beats, began, end)], default=0.0),
        "exceptions": len(_named(recording.exceptions, began, end)),
    }


def _phase(recording: Recording, moment: Moment, end: float) -> Phase:
    infos = len(_named(recording.records, moment.began, end, "INFO"))
    opened = _named(recording.events, moment.began, end, "BreakerOpened")
    return Phase(
        **_window(recording, moment.began, end),
        name=moment.name,
        began=moment.began - recording.began,
        seconds=end - moment.began,
        warnings=len(_named(recording.records, moment.began, end)) - infos,
        infos=infos,
        opened_after=opened[0] - moment.began if opened else None,
        median_open=_median_open(recording, moment.began, end),
        used_after=_first_hit(recording, moment, end) if moment.back else None,
    )


def _first_hit(recording: Recording, moment: Moment, end: float) -> float | None:
    """Return how long after the server was ready the first call was a hit; a hit may be faster than a PING."""
    calls = _between(recording.ended, moment.began, end)
    pairs = zip(recording.ended[calls], recording.kinds[calls], strict=True)
    hit = next((ended for ended, kind in pairs if kind == HIT), None)
    return None if hit is None else max(0.0, hit - moment.ready)


def _median_open(recording: Recording, began: float, end: float) -> float | None:
    """Return the median of the calls between the two that began and returned while the breaker was open."""
    opens, closes = (_named(recording.events, 0.0, end, f"Breaker{name}") for name in ("Opened", "Closed"))
    took: list[float] = []
    for opened in opens:
        until = min([end, *(closed for closed in closes if closed > opened)])
        calls = _between(recording.ended, max(opened, began), until)
        pairs = zip(recording.ended[calls], recording.took[calls], strict=True)
        took += [seconds for ended, seconds in pairs if ended - seconds >= opened]
    return statistics.median(took) if took else None


def _between(moments: Sequence[float], began: float, end: float) -> slice:
    """Return where ``moments``, which ascend, lie between the two."""
    return slice(bisect_left(moments, began), bisect_left(moments, end))


def _named(notes: list[Note], began: float, end: float, name: str | None = None) -> list[float]:
    """Return the moments of the notes between the two, of those with that name alone, if there is one."""
    return [note.at for note in notes if began <= note.at < end and name in {None, note.name}]


def _since(notes: list[Note], began: float) -> list[Note]:
    return [Note(note.at - began, note.name, note.text) for note in notes]
