"""What a part found: tables and charts, for a terminal, for a page and for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, TypeAlias

from rich.markup import escape
from rich.table import Table

from benchmarks.charts import Chart

Where: TypeAlias = dict[str, Any]
"""What the figures depend on."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table; what begins with a digit or a sign is a figure."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """What a part found: ``about`` says how, ``data`` is all of it, for programs."""

    name: str
    title: str
    about: str
    sheets: list[Sheet]
    data: Any
    charts: list[Chart] = field(default_factory=list)


def table(sheet: Sheet) -> Table:
    """Return ``sheet`` for a terminal."""
    result = Table(title=sheet.title, caption=sheet.note or None)
    for number, name in enumerate(sheet.columns):
        result.add_column(name, justify="right" if _is_figures(sheet, number) else "left")
    for row in sheet.rows:
        result.add_row(*map(escape, row))
    return result


def _is_figures(sheet: Sheet, column: int) -> bool:
    return any(row[column][:1] in set("+-0123456789") for row in sheet.rows)


def page(sections: list[Section], where: Where) -> str:
    """Return the page for the docs; the charts stand beside it."""
    return "\n".join(_page(sections, where))


def _page(sections: list[Section], where: Where) -> Iterator[str]:
    yield "# Benchmarks\n"
    yield "`python -m benchmarks --docs` has written this page. Variants take turns round by round in one process, so"
    yield "that a busy machine disturbs all of them alike; figures are medians, and ratios are medians of the ratios"
    yield "round by round.\n"
    yield f"Measured with {described(where)}, on loopback.\n"
    for section in sections:
        yield f"## {section.title}\n"
        yield f"`python -m benchmarks {section.name}`: {section.about}\n"
        for sheet in section.sheets:
            if sheet.title != section.title:
                yield f"**{sheet.title}**\n"
            yield from _markdown(sheet)
        for chart in section.charts:
            yield f"![{chart.title}](benchmarks-{chart.name}.svg)\n"


def _markdown(sheet: Sheet) -> Iterator[str]:
    yield f"| {' | '.join(sheet.columns)} |"
    yield f"|{'|'.join('--:' if _is_figures(sheet, number) else '---' for number in range(len(sheet.columns)))}|"
    for row in sheet.rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield f"\n{sheet.note}\n" if sheet.note else ""


def described(where: Where) -> str:
    """Return ``where`` as a phrase."""
    placed = {"same": "client and server on one", "apart": "client and server on two"}.get(where["pinned"], "unpinned")
    return (
        f"Python {where['python']}, {where['loop']}, redis-py {where['redis-py']}, hiredis {where['hiredis']}, "
        f"Redis {where['redis']}, {where['cores']} cores ({placed}), {where['system']} on {where['machine']}"
    )


def environment(redis_version: str) -> Where:
    """Return what the figures depend on."""
    return {
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "redis": redis_version,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
