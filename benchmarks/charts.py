"""Charts as SVG, drawn by matplotlib: curves or bars under a title that says what was found.

The same figures give the same bytes. A chart is as wide as the pictures of the pages, so that it can be read on a
telephone, and it has its figures in its file: ``python -m benchmarks.charts docs/*.svg`` draws these charts anew.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from benchmarks.schemes import LIGHT, figures, readable
from docs.pictures.drawing import LINE, WIDTH

SIZE: Final = 14.5
"""The size of all text. A unit of a chart is a pixel, as in the pictures."""
EDGE: Final = 12
BROAD: Final = 50
"""So many letters fit into a line."""

OURS: Final = LIGHT["red"]
THEIRS: Final = LIGHT["blue"]
OTHERS: Final = tuple(LIGHT[name] for name in ("green", "purple", "amber", "teal", "brown", "olive", "pink", "faint"))
MARKERS: Final = "osD^vPXp*<>"
DASHES: Final = ("-", "--", ":", "-.")
# Its stub wants the names as literals.
SETTINGS: Final[Any] = {
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["ink"],
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "svg.fonttype": "none",
}
SPACES: Final = {"borderpad": 0, "borderaxespad": 0, "labelspacing": 0.15, "handlelength": 1.8, "columnspacing": 1.5}
"""Those of the names of the curves."""

Curve: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""The xs and the ys; a curve may be one point."""

Span: TypeAlias = tuple[str, float, float, bool]
"""A time on the x axis: its name, its begin, its end, and whether it is shaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A panel of named curves; ``log`` names the axes that are logarithmic, such as "xy"."""

    curves: Mapping[str, Curve]
    y: str
    x: str = ""
    log: str = ""
    tall: int = 3

    def draw(self, axes: Any) -> None:
        """Draw them. Each has the same look in all panels."""
        for (name, (xs, ys)), style in zip(self.curves.items(), _styles([*self.curves]), strict=True):
            point = {"linestyle": "", "markersize": 9} if len(xs) == 1 else {"marker": ""} if len(xs) > 9 else {}
            axes.plot(xs, ys, label=name, **style | point)
        axes.set(xlabel=self.x)
        axes.set_title(self.y, loc="left", fontsize=SIZE, color=LIGHT["faint"])
        axes.label_outer()
        for letter, places in zip("xy", zip(*self.curves.values(), strict=True), strict=True):
            ends = [end for each in places for end in (min(each), max(each))]
            _scale(axes, letter, min(ends), max(ends), log=letter in self.log)


def _scale(axes: Any, letter: str, least: float, most: float, *, log: bool) -> None:
    """Choose the scale of an axis: only a wide range has a logarithmic one."""
    axis = getattr(axes, f"{letter}axis")
    if log and most > 3 * least:
        axes.set(**{f"{letter}scale": "log"})
        axis.get_major_locator().set_params(subs=(1,) if most > 90 * least else (1, 2, 5))
        axis.set_minor_formatter("")
    elif letter == "y":
        axes.set_ylim(0, 1.2 * most or 1)
    if log or letter == "y":
        axis.set_major_formatter("{x:,g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A panel of named bars, each with its figure as ``label`` formats it."""

    bars: Mapping[str, float]
    label: str
    log: bool = False

    @property
    def tall(self) -> float:
        """How tall the panel is: as there are bars."""
        return 0.35 * len(self.bars)

    def draw(self, axes: Any) -> None:
        """Draw them, the first on top."""
        names = list(self.bars)
        drawn = axes.barh(names, list(self.bars.values()), color=[_own(name) or LIGHT["line"] for name in names])
        axes.bar_label(drawn, fmt=self.label, padding=4)
        axes.invert_yaxis()
        axes.set(xticks=[], xscale="log" if self.log else "linear")
        axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
        axes.margins(x=0.25, y=0.02)
        axes.spines["bottom"].set_visible(False)
        axes.grid(visible=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Panels over one x axis; ``name`` is that of the file, without its ending."""

    name: str
    title: str
    about: str
    panels: Sequence[Curves | Bars]
    spans: Sequence[Span] = ()


def draw(chart: Chart, path: Path) -> None:
    """Write ``chart`` to ``path``; its ending says in which format."""
    # matplotlib takes a second, and only a chart needs it; without pyplot there is no window to open.
    import matplotlib as mpl  # noqa: PLC0415 - takes long, and is needed when a chart is drawn alone

    written = _written(chart)
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": chart.name}):
        # As it will be read, so that it looks the same when it is drawn anew.
        figure = _figure(_read(written))
        if path.suffix != ".svg":
            figure.savefig(path)
            return
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = readable(drawn.getvalue(), title=chart.title, about=chart.about, figures=written)
    path.write_text(svg, encoding="utf-8")


def drawn(svg: str) -> Chart:
    """Return the chart of which an SVG was drawn."""
    return _read(figures(svg))


def _figure(chart: Chart) -> Any:
    """Draw the words at the top, then the names of the curves, then the panels."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    title, about, names = _lines(chart.title, BROAD - 4), _lines(chart.about, BROAD), _named(chart)
    columns = 1 if max(map(len, names), default=0) > 20 else 2
    words = EDGE + LINE * len(title + about)
    head = words + LINE * math.ceil(len(names) / columns) + 6
    heights = [panel.tall * 72 for panel in chart.panels]
    # A panel of curves has a title, and the last panel has names below its axis.
    titles = LINE * (len(_rows(chart.spans)) + sum(isinstance(panel, Curves) for panel in chart.panels))
    height = round(head + titles + sum(heights) + 2 * LINE + EDGE)
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    edge = EDGE / WIDTH
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(edge, EDGE / height, 1 - 2 * edge, 1 - (head + EDGE) / height), w_pad=0, h_pad=2 / 72)
    for number, line in enumerate(title + about):
        look: Any = {"fontweight": "bold"} if number < len(title) else {"color": LIGHT["faint"]}
        figure.text(edge, 1 - (EDGE + LINE * (number + 0.8)) / height, line, **look)
    shape: Any = {"squeeze": False, "sharex": True, "height_ratios": heights}
    rows = figure.subplots(len(heights), **shape)[:, 0]
    for axes, panel in zip(rows, chart.panels, strict=True):
        panel.draw(axes)
        _draw_spans(axes, chart.spans, named=axes is rows[0])
    if names:
        lines = {line.get_label(): line for axes in rows for line in axes.get_lines()}
        place = {"loc": "upper left", "bbox_to_anchor": (edge, 1 - (words + 4) / height), "ncols": columns}
        look = SPACES | place
        figure.legend([lines[name] for name in names], names, **look)
    return figure


def _lines(text: str, most: int) -> list[str]:
    """Return the text in lines of at most so many letters, which are about as long as each other."""
    number = len(textwrap.wrap(text, most))
    widths = (textwrap.wrap(text, width) for width in range(1, most + 1))
    return next((lines for lines in widths if len(lines) == number), [])


def _named(chart: Chart) -> list[str]:
    """Return the names of the curves, the highest at its end first; a curve alone in its panel needs none."""
    several = [panel.curves for panel in chart.panels if isinstance(panel, Curves) and len(panel.curves) > 1]
    ends = {name: ys[-1] for curves in reversed(several) for name, (_, ys) in curves.items()}
    return sorted(ends, key=lambda name: -ends[name])


def _rows(spans: Sequence[Span]) -> list[Sequence[Span]]:
    """Spread the names of many spans over two lines."""
    return [spans] if 0 < len(spans) < 4 else [row for row in (spans[::2], spans[1::2]) if row]


def _draw_spans(axes: Any, spans: Sequence[Span], *, named: bool) -> None:
    for _, began, ended, shaded in spans:
        if shaded:
            axes.axvspan(began, ended, color=LIGHT["red-ground"], linewidth=0, zorder=0)
    rows = _rows(spans) if named else []
    for number, row in enumerate(rows):
        for name, began, ended, _ in row:
            # Of many spans the last one is at the edge, and its name may be longer than it.
            at, align = (ended, "right") if len(rows) > 1 and name == spans[-1][0] else ((began + ended) / 2, "center")
            offset = {"xytext": (0, 4 + LINE * number), "textcoords": "offset points", "annotation_clip": False}
            axes.annotate(name, (at, 1), xycoords=axes.get_xaxis_transform(), ha=align, **offset)
    if rows:
        axes.set_title(axes.get_title(loc="left"), loc="left", color=LIGHT["faint"], pad=6 + LINE * len(rows))


def _own(name: str) -> str | None:
    """Return the colour that ours and by hand have in every chart, in each variant; None for others."""
    parts = name.split(", ")
    return OURS if "cachekit" in parts else THEIRS if "by hand" in parts else None


def _styles(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a look for each curve: two of one colour differ in their dashes, and all in their marks."""
    colours, marks = itertools.cycle(OTHERS), itertools.cycle(MARKERS)
    seen: dict[str, int] = {}
    for name in names:
        colour = _own(name) or next(colours)
        number = seen[colour] = seen.get(colour, -1) + 1
        yield {"color": colour, "linestyle": DASHES[number % len(DASHES)], "marker": next(marks)}


def _written(chart: Chart) -> str:
    """Return the figures of a chart as JSON, with as many digits as can be seen."""

    def short(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {name: short(each) for name, each in part.items()}
        if isinstance(part, list | tuple):
            return [short(each) for each in part]
        return float(f"{part:.6g}") if isinstance(part, float) else part

    return orjson.dumps(short(asdict(chart))).decode()


def _read(written: str) -> Chart:
    found = orjson.loads(written)
    panels = [(Curves if "curves" in panel else Bars)(**panel) for panel in found.pop("panels")]
    return Chart(panels=panels, **found)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        draw(drawn(Path(name).read_text(encoding="utf-8")), Path(name))
