"""A page with the panels of the dashboard, and the alerts that fired: one file, drawn as SVG, in light and dark."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import yaml

from examples.observability.promql import Database, Labels

HERE: Final = Path(__file__).parent
WIDTH: Final = 560
HEIGHT: Final = 190
LEFT: Final = 58
BELOW: Final = 22
COLOURS: Final = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#ec4899", "#84cc16")

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2933; --faint: #64748b; --line: #e2e8f0; --ground: #f8fafc; --card: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --faint: #94a3b8; --line: #334155; --ground: #0f172a; --card: #1e293b }
}
body { margin: 0; padding: 24px; background: var(--ground); color: var(--ink); font: 14px/1.5 system-ui, sans-serif }
main { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px }
h1 { font-size: 20px } h2 { font-size: 15px; margin: 0 } p { color: var(--faint); margin: 0 0 8px; font-size: 12px }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--faint); font-size: 11px }
.grid { stroke: var(--line) } ul { display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 0; margin: 0 }
ul { list-style: none }
li { font-size: 12px } i { display: inline-block; width: 10px; height: 3px; margin-right: 5px; vertical-align: middle }
table { border-collapse: collapse; width: 100% } td { padding: 4px 8px 4px 0; font-size: 13px; overflow-wrap: anywhere }
.fired { color: #ef4444; font-weight: 600 }
"""


@dataclass(frozen=True)
class Rule:
    """An alert rule."""

    name: str
    query: str
    seconds: float
    """For how long the query has to have an answer before the alert fires."""
    summary: str


@dataclass(frozen=True)
class Fired:
    """When an alert fired, in minutes from the beginning, and its labels."""

    rule: Rule
    minutes: Sequence[float]
    labels: Labels


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads((HERE / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    return found


def rules() -> list[Rule]:
    """Return the alert rules."""
    groups = yaml.safe_load((HERE / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [
        Rule(rule["alert"], rule["expr"], _duration(rule.get("for", "0s")), rule["annotations"]["summary"])
        for group in groups
        for rule in group["rules"]
    ]


def _duration(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def queries(panel: Mapping[str, Any], interval: str) -> list[tuple[str, str]]:
    """Return the queries of a panel with their legends; Grafana puts the ``interval`` of a rate into them."""
    return [
        (target["expr"].replace("$__rate_interval", interval), target["legendFormat"]) for target in panel["targets"]
    ]


def fired(scrapes: Database, times: Sequence[float]) -> list[Fired]:
    """Return the alerts that fired at some of the ``times``, as Prometheus evaluates rules."""
    found: list[Fired] = []
    for rule in rules():
        since: dict[Labels, float] = {}
        going_on: dict[Labels, list[float]] = {}
        for at in [*times, math.inf]:
            active = scrapes.query(rule.query, at) if at < math.inf else {}
            since = {labels: since.get(labels, at) for labels in active}
            over = [labels for labels in going_on if labels not in active]
            found += [Fired(rule, going_on.pop(labels), labels) for labels in over]
            for labels, began in since.items():
                if at - began >= rule.seconds:
                    going_on.setdefault(labels, []).append(at / 60)
    return sorted(found, key=lambda one: one.minutes[0])


def page(scrapes: Database, times: Sequence[float], interval: str = "1m") -> str:
    """Return the page."""
    drawn = "\n".join(_panel(panel, scrapes, times, interval) for panel in panels())
    rows = "\n".join(_row(one) for one in fired(scrapes, times)) or "<tr><td>none</td></tr>"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>cachekit: the dashboard</title><style>{STYLE}</style>
<h1>An hour of the shop, as the dashboard shows it</h1>
<main>
{drawn}
</main>
<section style="margin-top: 16px"><h2>Alerts that fired</h2>
<table>{rows}</table></section>
</html>
"""


def _row(one: Fired) -> str:
    about = ", ".join(value for _, value in sorted(one.labels) if value)
    when = f"minute {one.minutes[0]:.0f} to {one.minutes[-1]:.0f}"
    return f'<tr><td class="fired">{escape(one.rule.name)}</td><td>{when}</td><td>{escape(about)}</td></tr>'


# --- panels ---------------------------------------------------------------------------------------


def lines(
    panel: Mapping[str, Any], scrapes: Database, times: Sequence[float], interval: str
) -> dict[str, list[tuple[float, float]]]:
    """Return the lines of a panel by their legends: minutes and values."""
    found: dict[str, list[tuple[float, float]]] = {}
    for query, legend in queries(panel, interval):
        for at in times:
            for labels, value in scrapes.query(query, at).items():
                if not math.isnan(value):
                    found.setdefault(_legend(legend, dict(labels)), []).append((at / 60, value))
    return dict(sorted(found.items()))


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        # The module is the same for all.
        form = form.replace(f"{{{{{name}}}}}", value.rpartition(".")[2] if name == "function" else value)
    return form.strip()


def _panel(panel: Mapping[str, Any], scrapes: Database, times: Sequence[float], interval: str) -> str:
    found = lines(panel, scrapes, times, interval)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    legend = "".join(
        f'<li><i style="background:{COLOURS[place % len(COLOURS)]}"></i>{escape(name)}</li>'
        for place, name in enumerate(found)
    )
    return (
        f"<section><h2>{escape(panel['title'])}</h2><p>{escape(panel['description'])}</p>"
        f"{_chart(found, times, unit)}<ul>{legend}</ul></section>"
    )


def _chart(found: Mapping[str, Sequence[tuple[float, float]]], times: Sequence[float], unit: str) -> str:
    highest = max((value for line in found.values() for _, value in line if math.isfinite(value)), default=0.0)
    top = _round_up(highest) if unit != "percentunit" else 1.0
    end = times[-1] / 60 if times else 1.0
    across, down = (WIDTH - LEFT - 8) / end, (HEIGHT - BELOW - 8) / top

    def place(minute: float, value: float) -> str:
        return f"{LEFT + minute * across:.1f},{HEIGHT - BELOW - min(value, top) * down:.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for part in range(5):
        value = top * part / 4
        y = HEIGHT - BELOW - value * down
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_shown(value, unit)}</text>')
    for minute in range(0, int(end) + 1, max(1, round(end / 6))):
        x, anchor = LEFT + minute * across, "middle" if minute < end else "end"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{minute} min</text>')
    for number, line in enumerate(found.values()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(place(minute, value) for minute, value in line if math.isfinite(value))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return "".join([*parts, "</svg>"])


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(float(step * power) for step in (1, 2, 5, 10) if step * power >= value)


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}/s" if unit == "reqps" else f"{value:.3g}"
