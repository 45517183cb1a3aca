"""The results of a part: tables and charts, for a terminal, for a page and for programs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from rich.markup import escape
from rich.table import Table

from benchmarks.charts import Chart

Where: TypeAlias = dict[str, Any]
"""The machine, the versions and the choices that the figures depend on."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table; a cell that begins with a digit or a sign is a figure."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def is_figures(self, column: int) -> bool:
        """Tell whether figures stand in this column."""
        return any(row[column][:1] in set("+-0123456789") for row in self.rows)


@dataclass(frozen=True, slots=True)
class Section:
    """The results of a part.

    Attributes:
        name: That of the part.
        title: Its heading.
        about: How it was measured.
        sheets: Its tables.
        data: All figures, for programs.
        charts: Its charts.
        failure: An event that must not happen, and did.
    """

    name: str
    title: str
    about: str
    sheets: list[Sheet]
    data: Any
    charts: list[Chart] = field(default_factory=list)
    failure: str = ""


def table(sheet: Sheet) -> Table:
    """Return ``sheet`` for a terminal."""
    result = Table(title=sheet.title, caption=sheet.note or None)
    for number, name in enumerate(sheet.columns):
        result.add_column(name, justify="right" if sheet.is_figures(number) else "left")
    for row in sheet.rows:
        result.add_row(*map(escape, row))
    return result


INTRODUCTION: Final = """\
# Benchmarks

After this page you can compare the cost of cachekit with the same by hand, and with other libraries.

`python -m benchmarks --docs` has written this page. Variants take turns round by round in one process, so
that a busy machine disturbs all of them alike; figures are medians, and ratios are medians of the ratios
round by round.

Measured with {described}, on loopback."""

_MEASURED: Final = re.compile(r"^Measured with (.*), on loopback\.$", re.MULTILINE)
_NAMED: Final = re.compile(r"^`python -m benchmarks (\w+)`:", re.MULTILINE)


def page(sections: Sequence[Section], where: Where, *, order: Sequence[str], before: str = "") -> str:
    """Return the page for the docs, with the parts of ``order``; the charts stand beside it.

    Parts that are not among ``sections`` stay as they are on the page ``before``. A section that was measured in
    another environment than the page says so.
    """
    _, *others = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    texts = {name[1]: text.strip() for text in others if (name := _NAMED.search(text))}
    measured = _MEASURED.search(before.partition("## ")[0])
    # Where none of the older sections is left, the page is of this environment.
    stays = measured and any(name in texts for name in {*order} - {section.name for section in sections})
    environment = measured[1] if measured and stays else described(where)
    for section in sections:
        apart = "" if environment == described(where) else f"Measured with {described(where)}, on loopback."
        texts[section.name] = "\n".join(_section(section, apart)).strip()
    return (
        "\n\n".join([INTRODUCTION.format(described=environment), *(texts[name] for name in order if name in texts)])
        + "\n"
    )


def _section(section: Section, apart: str) -> Iterator[str]:
    yield f"## {section.title}\n"
    yield f"`python -m benchmarks {section.name}`: {section.about}\n"
    if apart:
        yield f"{apart}\n"
    for sheet in section.sheets:
        if sheet.title != section.title:
            yield f"**{sheet.title}**\n"
        yield from _markdown(sheet)
    for chart in section.charts:
        yield f"![{chart.title}]({chart.name}.svg)\n"


def _markdown(sheet: Sheet) -> Iterator[str]:
    yield f"| {' | '.join(sheet.columns)} |"
    yield f"|{'|'.join('--:' if sheet.is_figures(number) else '---' for number in range(len(sheet.columns)))}|"
    for row in sheet.rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield f"\n{sheet.note}\n" if sheet.note else ""


def duration(seconds: float | None) -> str:
    """Return ``seconds`` in the unit that suits it, with three digits."""
    if seconds is None:
        return ""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.2f} s"


def described(where: Where) -> str:
    """Return ``where`` as a phrase."""
    placed = {"same": "client and server on one", "apart": "client and server on two"}.get(where["pinned"], "unpinned")
    return (
        f"Python {where['python']}, {where['loop']}, redis-py {where['redis-py']}, hiredis {where['hiredis']}, "
        f"Redis {where['redis']}, {where['cores']} cores ({placed}), {where['system']} on {where['machine']}"
    )


def environment(*, redis: str, loop: str, pinned: str) -> Where:
    """Return the machine, the versions and the choices that the figures depend on."""
    return {
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "redis": redis,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "loop": loop,
        "pinned": pinned,
    }
