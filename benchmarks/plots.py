"""An outage as tables and lines for a terminal, and as a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from benchmarks.findings import DELAYED, Phase, Report
from benchmarks.tape import Figures, Second

# The targets, in seconds.
LONGEST: Final = 0.30
MEDIAN_OPEN: Final = 20e-6
USED_AFTER: Final = 1.0

DOWN: Final = ("paused", "killed")
"""The phases in which there is no Redis."""

_BARS: Final = "▁▂▃▄▅▆▇█"

# What is plotted, in which colour.
_LINES: Final[tuple[tuple[str, str, Callable[[Second], float]], ...]] = (
    ("max", "#c0392b", lambda second: second.longest),
    ("p99", "#e08e0b", lambda second: second.p99),
    ("median", "#1f6fb2", lambda second: second.median),
)
_HELD: Final[tuple[tuple[str, Callable[[Figures], float]], ...]] = (
    ("MB of memory", lambda figures: figures.memory / 1e6),
    ("tasks", lambda figures: figures.tasks),
    ("open files", lambda figures: figures.files),
)


def duration(seconds: float | None) -> str:
    """Return ``seconds`` in the unit that suits it, with three digits."""
    if seconds is None:
        return ""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.2f} s"


_ROWS: Final[tuple[tuple[str, Callable[[Phase], str]], ...]] = (
    ("calls", lambda phase: f"{phase.calls}"),
    ("hits", lambda phase: f"{phase.hits / max(1, phase.calls):.1%}"),
    ("loads", lambda phase: f"{phase.loads}"),
    ("median added", lambda phase: duration(phase.median)),
    ("99th percentile", lambda phase: duration(phase.p99)),
    ("largest", lambda phase: f"[{'green' if phase.longest <= LONGEST else 'yellow'}]{duration(phase.longest)}[/]"),
    (f"calls over {duration(DELAYED)}", lambda phase: f"{phase.delayed}"),
    ("event loop late by", lambda phase: duration(phase.lag)),
    ("breaker opened after", lambda phase: duration(phase.opened_after)),
    ("median while open", lambda phase: duration(phase.median_open)),
    ("hit again after", lambda phase: duration(phase.used_after)),
    ("WARNING, INFO", lambda phase: f"{phase.warnings}, {phase.infos}"),
    ("exceptions", lambda phase: f"[{'red' if phase.exceptions else 'green'}]{phase.exceptions}[/]"),
)


# --- for a terminal -------------------------------------------------------------------------------


def table(report: Report) -> Table:
    """Return the table of phases, one a column."""
    where = report.where
    machine = f"Python {where['python']}, {where['loop']}, Redis {where['redis']}, {where['cores']} cores"
    result = Table(
        title=f"What the cache adds to a call: {_load(report)}",
        caption=f"nothing is subtracted; the undecorated call takes {duration(report.undecorated)}\n{machine}",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    result.add_column("", no_wrap=True)
    for phase in report.phases:
        result.add_column(phase.name, justify="right")
    for name, figure in _ROWS:
        result.add_row(name, *(figure(phase) for phase in report.phases))
    return result


def _load(report: Report) -> str:
    callers = "1 caller" if report.callers == 1 else f"{report.callers} callers"
    return f"{callers}, {report.rate:g} calls a second in all"


def process_table(report: Report) -> Table:
    """Return the table of what the process of the callers held."""
    result = Table(title="What the process of the callers held", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "at the beginning", "at most", "in the last second", "after the end"):
        result.add_column(name, justify="right" if name else "left")
    moments = (report.before, report.largest, report.last, report.after)
    result.add_row("memory, MB", *(f"{figures.memory / 1e6:.1f}" for figures in moments))
    result.add_row("tasks", *(f"{figures.tasks}" for figures in moments))
    result.add_row("open files, sockets included", *(f"{figures.files}" for figures in moments))
    result.add_row("sockets", *(f"{figures.sockets}" for figures in moments))
    return result


def sparklines(report: Report) -> Text:
    """Return the latency added, second by second, on a logarithmic scale from 10 us to 1 s."""
    result = Text("latency added, each second, logarithmic from 10 us to 1 s\n")
    for name, colour, figure in _LINES:
        bars = "".join(_bar(figure(second)) * 2 for second in report.seconds)
        result.append(f"{name:>7} ").append(bars, style=colour).append("\n")
    names = [" "] * (2 * len(report.seconds))
    for phase in report.phases:
        start, width = 2 * round(phase.began), 2 * round(phase.seconds) - 1
        names[start : start + width] = f"{phase.name:{width}.{width}}"
    return result.append(f"{'':8}{''.join(names).rstrip()}")


def _bar(seconds: float) -> str:
    level = math.log10(max(seconds, 1e-5) / 1e-5) / 5
    return _BARS[min(len(_BARS) - 1, int(level * len(_BARS)))]


def verdicts(report: Report) -> Iterator[str]:
    """Yield a sentence for each promise, and whether it is kept."""
    yield _verdict(f"the most that any call took: {duration(report.longest)}", report.longest <= LONGEST, LONGEST)
    if report.median_open is not None:
        said = f"the median while the breaker is open: {duration(report.median_open)}"
        yield _verdict(said, report.median_open <= MEDIAN_OPEN, MEDIAN_OPEN)
    if report.used_after is None:
        yield "[red]no[/]  after an outage there was no hit again"
    else:
        said = f"from the first answer until the first hit, at most: {duration(report.used_after)}"
        yield _verdict(said, report.used_after <= USED_AFTER, USED_AFTER)
    yield _verdict(f"exceptions: {report.raised}", not report.raised)
    yield f"     operations that failed or were left out: {report.store_failed}"
    yield f"     calls not made, since their caller still waited for the one before: {report.skipped}"


def _verdict(said: str, kept: bool, target: float | None = None) -> str:  # noqa: FBT001 - it is the verdict
    aimed = "" if target is None else f" (target {duration(target)})"
    return f"{'[green]yes[/]' if kept else '[yellow]no[/] '}  {said}{aimed}"


# --- as a plot ------------------------------------------------------------------------------------


def draw(report: Report, path: Path) -> None:
    """Write the plot to ``path``; its ending says in which format.

    Raises:
        ImportError: There is no matplotlib; it is in the ``bench`` extra.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and only a plot needs it

    # Its stub wants the names as literals.
    settings: Any = {"svg.hashsalt": "outage", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        figure = _figure(report)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(report: Report) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above; without pyplot there is no window to open

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    heights = {"height_ratios": [6, *(1 for _ in _HELD)]}
    latency, *held = figure.subplots(1 + len(_HELD), sharex=True, gridspec_kw=heights)
    figure.suptitle(_finding(report), x=0.01, ha="left", fontsize=14, fontweight="bold")
    _draw_latency(latency, report)
    for axes, (name, of) in zip(held, _HELD, strict=True):
        _draw_held(axes, report, name, of)
    held[-1].set_xlabel("seconds since the run began")
    for axes in (latency, *held):
        for phase in report.phases:
            if phase.name in DOWN:
                axes.axvspan(phase.began, phase.began + phase.seconds, color="#c0392b", alpha=0.08, linewidth=0)
    return figure


def _finding(report: Report) -> str:
    if report.raised:
        return f"While Redis hangs and dies, {report.raised} calls raise"
    # Upwards: "no more than" must be true.
    longest = math.ceil(report.longest * 100) / 100
    return f"Redis hangs, dies and comes back: no call is delayed by more than {longest:.2f} s"


def _draw_latency(axes: Any, report: Report) -> None:
    seconds = report.seconds
    edges = [0.0, *(second.at for second in seconds)]
    axes.set_xlim(0, edges[-1])
    axes.set_yscale("log")
    axes.set_ylim(3e-6, 1.0)
    axes.set_yticks([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], ["10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s"])
    axes.minorticks_off()
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.stairs(
        [second.lag for second in seconds], edges, color="#999999", linewidth=1, linestyle=(0, (1, 1)), baseline=None
    )
    labels = [("event loop's lag", "#888888", seconds[-1].lag), (f"target {duration(LONGEST)}", "#555555", LONGEST)]
    # The largest last, so that it is seen where two of them are the same.
    for name, colour, of in reversed(_LINES):
        axes.stairs([of(second) for second in seconds], edges, color=colour, linewidth=1.8, baseline=None)
        labels.append((name, colour, of(seconds[-1])))
    axes.axhline(LONGEST, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
    for name, colour, height in _apart(labels):
        _say(axes, name, (edges[-1], height), (5, 0), color=colour)
    _draw_phases(axes, report)


def _apart(labels: list[tuple[str, str, float]]) -> Iterator[tuple[str, str, float]]:
    """Yield the labels from the lowest to the highest, each with room for its line of text."""
    lowest = 0.0
    for name, colour, height in sorted(labels, key=lambda label: label[2]):
        yield name, colour, max(height, lowest)
        lowest = 1.9 * max(height, lowest)


def _draw_phases(axes: Any, report: Report) -> None:
    axes.set_title(
        f"latency added to a call, by second: {_load(report)}",
        loc="left",
        fontsize=10,
        color="#555555",
        pad=22,
    )
    for phase in report.phases:
        down = phase.name in DOWN
        colour = "#c0392b" if down else "#222222"
        middle = phase.began + phase.seconds / 2
        axes.text(middle, 1.02, phase.name, transform=axes.get_xaxis_transform(), ha="center", color=colour)
        if down and phase.median_open is not None:
            said = f"breaker open:\nmedian {duration(phase.median_open)}"
            _say(axes, said, (phase.began + phase.seconds, phase.median_open), (-4, -4), ha="right", va="top")
        if down and phase.longest > 0.1:
            said = f"{phase.delayed} of {phase.calls} calls\ntook over {duration(DELAYED)}"
            _say(axes, said, (phase.began + 1, phase.longest), (5, -2), va="top")


def _say(axes: Any, said: str, at: tuple[float, float], offset: tuple[int, int], **options: Any) -> None:
    settings = {"va": "center", "fontsize": 9, "color": "#444444", **options}
    axes.annotate(said, at, offset, textcoords="offset points", annotation_clip=False, **settings)


def _draw_held(axes: Any, report: Report, name: str, of: Callable[[Figures], float]) -> None:
    values = [of(second.figures) for second in report.seconds]
    axes.stairs(values, [0.0, *(second.at for second in report.seconds)], color="#444444", linewidth=1.4, baseline=None)
    axes.set_ylim(0, 1.5 * max(values))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _say(axes, f"{values[-1]:.0f} {name}", (report.seconds[-1].at, values[-1]), (5, 0))
