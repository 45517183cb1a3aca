"""Charts as SVG: lines, bars and dots, each named where it is drawn, under a title that says what was found.

The same figures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

OURS: Final = "#c0392b"
THEIRS: Final = "#1f6fb2"
_OTHERS: Final = ("#2a9d5c", "#8e5bb5", "#e08e0b", "#17808f", "#7a5c43", "#888888")
_GREY: Final = "#555555"


@dataclass(frozen=True, slots=True)
class Line:
    """A curve, and what is written at its end."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Curves over logarithmic axes; the file's name, the finding, and what is on the axes."""

    name: str
    title: str
    about: str
    x: str
    y: str
    lines: list[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Bars with their figures; from zero, or logarithmic."""

    name: str
    title: str
    about: str
    bars: list[tuple[str, float, str]]
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """Named dots, of which the first is told apart; logarithmic along x."""

    name: str
    title: str
    about: str
    x: str
    y: str
    dots: list[tuple[str, float, float]]


Chart: TypeAlias = Lines | Bars | Dots


def draw(chart: Chart, path: Path) -> None:
    """Write ``chart`` to ``path`` as SVG."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and only a chart needs it

    # Its stub wants the names as literals.
    settings: Any = {
        "svg.hashsalt": chart.name,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#aaaaaa",
    }
    with mpl.rc_context(settings):
        _figure(chart).savefig(path, format="svg", metadata={"Date": None})


def _own(name: str) -> str | None:
    """Return the colour that ours and by hand have in every chart, in whichever variant; None for others."""
    parts = name.split(", ")
    return OURS if "cachekit" in parts else THEIRS if "by hand" in parts else None


def _colours(names: Sequence[str]) -> dict[str, str]:
    others = [name for name in names if _own(name) is None]
    return {name: _own(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in names}


def _figure(chart: Chart) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above; without pyplot there is no window to open

    tall = 1.3 + 0.34 * len(chart.bars) if isinstance(chart, Bars) else 4.4
    figure = Figure(figsize=(8.4, tall), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(chart.title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    axes.set_title(chart.about, loc="left", fontsize=9.5, color=_GREY)
    if isinstance(chart, Lines):
        _draw_lines(axes, chart)
    elif isinstance(chart, Bars):
        _draw_bars(axes, chart)
    else:
        _draw_dots(axes, chart)
    return figure


def _draw_lines(axes: Any, chart: Lines) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    colours = _colours([line.name for line in chart.lines])
    for line in chart.lines:
        style = {"linewidth": 2.4 if line.name == "cachekit" else 1.6, "linestyle": "--" if ", " in line.name else "-"}
        axes.plot(line.xs, line.ys, color=colours[line.name], marker="o", ms=4, **style)
    heights = [height for line in chart.lines for height in line.ys]
    # With room below and above, and so that the ends keep apart whatever the span.
    axes.set_ylim(min(heights) / 1.5, max(heights) * 1.5)
    gap = (max(heights) / min(heights) * 2.25) ** 0.06
    for line, height in _apart(chart.lines, gap):
        _say(axes, line.name, (line.xs[-1], height), (8, 0), color=colours[line.name])
    xs = sorted({x for line in chart.lines for x in line.xs})
    axes.set_xticks(xs, [short(x) for x in xs])
    ticks = list(_ticks(min(heights) / 1.5, max(heights) * 1.5))
    axes.set_yticks(ticks, [short(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)


def _draw_bars(axes: Any, chart: Bars) -> None:
    names = [name for name, _, _ in chart.bars]
    places = range(len(names), 0, -1)
    values = [value for _, value, _ in chart.bars]
    axes.barh(places, values, color=[_own(name) or "#b8b8b8" for name in names], height=0.62)
    if chart.log:
        axes.set_xscale("log")
        axes.set_xlim(left=min(values) / 2)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.spines["bottom"].set_visible(False)
    for place, (_, value, said) in zip(places, chart.bars, strict=True):
        _say(axes, said, (value, place), (5, 0))


def _draw_dots(axes: Any, chart: Dots) -> None:
    axes.set_xscale("log")
    first = chart.dots[0]
    for number, dot in enumerate(sorted(chart.dots, key=lambda dot: (dot[2], dot[1]))):
        name, x, y = dot
        shade = OURS if dot is first else "#444444"
        axes.plot([x], [y], color=shade, marker="o", ms=7 if dot is first else 5)
        # Neighbours in a row are named at three heights in turn.
        _say(axes, name, (x, y), (7, (9, -3, -15)[number % 3]), color=shade)
    xs = [x for _, x, _ in chart.dots]
    ticks = list(_ticks(min(xs) / 1.3, max(xs) * 1.3))
    axes.set_xlim(min(xs) / 1.3, max(xs) * 2.2)
    axes.margins(y=0.15)
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)


def _apart(lines: list[Line], gap: float) -> Iterator[tuple[Line, float]]:
    """Yield each line with a height for its name, from the lowest to the highest, ``gap`` times apart at least."""
    lowest = 0.0
    for line in sorted(lines, key=lambda line: line.ys[-1]):
        height = max(line.ys[-1], lowest)
        yield line, height
        lowest = height * gap


def _ticks(low: float, high: float) -> Iterator[float]:
    """Yield 1, 2, 5, 10 and so on between the two; over a wide span, powers of ten alone."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in steps:
            if low <= step * 10.0**power <= high:
                yield step * 10.0**power


def short(number: float) -> str:
    """Return ``number`` without needless zeros, with thousands set apart."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.3g}"


def _say(axes: Any, said: str, at: tuple[float, float], offset: tuple[int, int], **options: Any) -> None:
    settings = {"va": "center", "fontsize": 9.5, "color": "#444444", **options}
    axes.annotate(said, at, offset, textcoords="offset points", annotation_clip=False, **settings)
