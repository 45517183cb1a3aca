"""The figures of an outage, from its recording: by phase, by second, and in all. Times are seconds.

A window of time, be it a phase or a second, has of the calls that returned in it:

    calls, hits, loads   how many there were, how many of these found their value, how many ran the function
    delayed              how many took `DELAYED` or longer
    median, p99, longest the times that they took
    lag                  by how much the event loop was late at worst
    exceptions           how many calls raised, and tasks in the background

and a phase has also:

    name, began, seconds the step of the script, its begin since the run began, and how long it lasted
    warnings, infos      records of the level WARNING or above, and of the level INFO
    opened_after         from its beginning until the breaker opened, if it did
    median_open          the median of the calls that began and returned while the breaker was open
    used_after           from the first answer to a PING until the first hit, if the server came back
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias

from benchmarks.recording import HIT, LOADED, Held, Note, Recording
from benchmarks.suite import spread

DELAYED: Final = 0.01
"""Seconds from which a call counts as delayed: far more than a hit takes, far less than a deadline."""

Figures: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """When a phase began, when the server was as the phase says, and whether Redis is to be used again from then on."""

    name: str
    began: float
    ready: float
    back: bool


def report(recording: Recording, moments: Sequence[Moment]) -> Figures:
    """Return the figures; the first phase began with the recording."""
    began = recording.began
    moments = [replace(moments[0], began=began, ready=began), *moments[1:]]
    ends = [*(moment.began for moment in moments[1:]), recording.ended[-1] + 1e-9]
    phases = [_phase(recording, moment, end) for moment, end in zip(moments, ends, strict=True)]
    used = [phase["used_after"] for phase, moment in zip(phases, moments, strict=True) if moment.back]
    held = [recording.before, *(tick.held for tick in recording.ticks)]
    return {
        "phases": phases,
        "seconds": [
            {
                "at": tick.at,
                **_window(recording, began + tick.at - 1, began + tick.at),
                "breaker": tick.breaker,
                "figures": tick.held,
            }
            for tick in recording.ticks
        ],
        "longest": max(recording.took),
        "median_open": _median_open(recording, began, ends[-1]),
        "undecorated": statistics.median(recording.undecorated),
        # The longest, if there was a hit each time that the server came back.
        "used_after": None if None in used else max(used, default=0.0),
        "raised": recording.raised,
        "skipped": recording.skipped,
        "store_failed": recording.store_failed,
        "before": recording.before,
        # At the end of any second, each figure by itself.
        "largest": Held(*(max(getattr(each, figure.name) for each in held) for figure in fields(Held))),
        "last": held[-1],
        "after": recording.after,
        "events": _since(recording.events, began),
        "records": _since(recording.records, began),
        "exceptions": _since(recording.exceptions, began),
    }


def _window(recording: Recording, began: float, end: float) -> Figures:
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


def _phase(recording: Recording, moment: Moment, end: float) -> Figures:
    began = moment.began
    infos = len(_named(recording.records, began, end, "INFO"))
    opened = _named(recording.events, began, end, "BreakerOpened")
    return {
        "name": moment.name,
        "began": began - recording.began,
        "seconds": end - began,
        **_window(recording, began, end),
        "warnings": len(_named(recording.records, began, end)) - infos,
        "infos": infos,
        "opened_after": opened[0] - began if opened else None,
        "median_open": _median_open(recording, began, end),
        "used_after": _first_hit(recording, moment, end) if moment.back else None,
    }


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
    """Return the moments of the notes between the two; with a name, of these alone."""
    return [note.at for note in notes if began <= note.at < end and name in {None, note.name}]


def _since(notes: list[Note], began: float) -> list[Note]:
    return [Note(note.at - began, note.name, note.text) for note in notes]
