"""Charts as SVG, drawn by matplotlib: curves or bars under a title that says what was found.

The same figures give the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

OURS: Final = "#c0392b"
THEIRS: Final = "#1f6fb2"
OTHERS: Final = (
    *("#2a9d5c", "#8e5bb5", "#e08e0b", "#17808f", "#7a5c43"),
    *("#888888", "#c27ba0", "#222222", "#9acd32", "#f4b183"),
)
# Its stub wants the names as literals.
SETTINGS: Final[Any] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}

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
        """Draw them, and name them beside the axes in the order in which they end there."""
        # Each has the same colour in all panels.
        colours = dict(zip((name for name in self.curves if not _own(name)), itertools.cycle(OTHERS), strict=False))
        for name, (xs, ys) in sorted(self.curves.items(), key=lambda curve: -curve[1][1][-1]):
            own = _own(name)
            style = {"color": own, "linestyle": "--" if ", " in name else "-"} if own else {"color": colours[name]}
            axes.plot(xs, ys, label=name, marker="o" if len(xs) < 10 else "", **style)
        axes.set(xlabel=self.x, ylabel=self.y)
        axes.label_outer()
        if "y" not in self.log:
            axes.set_ylim(0, 1.2 * axes.dataLim.y1)
        for letter in self.log:
            axes.set(**{f"{letter}scale": "log"})
            axis = getattr(axes, f"{letter}axis")
            axis.get_major_locator().set_params(subs=(1, 2, 5))
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_formatter("")
        if len(self.curves) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A panel of named bars, each with its figure as ``label`` formats it."""

    bars: Mapping[str, float]
    label: str
    log: bool = False

    @property
    def tall(self) -> float:
        """How tall the panel is: as there are bars."""
        return 0.3 * len(self.bars)

    def draw(self, axes: Any) -> None:
        """Draw them, the first on top."""
        names = list(self.bars)
        drawn = axes.barh(names, list(self.bars.values()), color=[_own(name) or "#b8b8b8" for name in names])
        axes.bar_label(drawn, fmt=self.label, padding=4)
        axes.invert_yaxis()
        axes.set(xticks=[], xscale="log" if self.log else "linear")
        axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
        axes.margins(x=0.15)
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
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(SETTINGS | {"svg.hashsalt": chart.name}):
        heights = [panel.tall for panel in chart.panels]
        figure = Figure(figsize=(9, 1.6 + sum(heights)), layout="constrained")
        shape: Any = {"squeeze": False, "sharex": True, "height_ratios": heights}
        rows = figure.subplots(len(heights), **shape)[:, 0]
        figure.suptitle(chart.title, x=0.01, ha="left", fontweight="bold")
        rows[0].set_title(chart.about, loc="left", fontsize="medium", color="#555555", pad=20 if chart.spans else 6)
        for axes, panel in zip(rows, chart.panels, strict=True):
            panel.draw(axes)
            _draw_spans(axes, chart.spans, named=axes is rows[0])
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_spans(axes: Any, spans: Sequence[Span], *, named: bool) -> None:
    for name, began, ended, shaded in spans:
        if shaded:
            axes.axvspan(began, ended, color=OURS, alpha=0.08, linewidth=0)
        if named:
            axes.text((began + ended) / 2, 1.02, name, transform=axes.get_xaxis_transform(), ha="center")


def _own(name: str) -> str | None:
    """Return the colour that ours and by hand have in every chart, in each variant; None for others."""
    parts = name.split(", ")
    return OURS if "cachekit" in parts else THEIRS if "by hand" in parts else None
