"""Makes `docs/faults.md` of cells: the table of all, a table of figures for each fault, and the classification."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from cachekit.errors import CongestedError, KeyRefusedError, StoreError
from cachekit.stores.translate import FAULTS
from tests.faults.measure import MEDIANS, Cell
from tests.faults.operations import OPERATIONS
from tests.faults.scenarios import SCENARIOS, Scenario

PAGE: Final = Path(__file__).parents[2] / "docs" / "faults.md"

_BEGINNING: Final = """\
# The effect of each fault on a call

After this page you know what a call returns under each fault of a server or a network, and how long it takes.

A cache is there to save time, so it must not cost any time when it is broken. The tests try every fault on this page
against every operation. The page shows the result of each call, and the time that it takes. In short:

- No fault raises an exception. A decorated function returns a hit or its own result; helpers return their defaults.
- If a server does not answer, the first call that meets it waits for the deadline (`timeout`, 0.25 s by default). Calls
  that are under way at that moment wait for it as well. Then the circuit breaker is open, and a call costs
  microseconds.
- A server that answers with an error costs a round trip. Commands that it still serves are used: if a server refuses
  writes, reads go on.
- An invalidation during the fault is kept. Its key is a miss in this process at once, and is removed when the server is
  back.
- The log has one WARNING when an incident begins and one INFO when it ends; observers get an event each time.

## How it was measured

```sh
python -m tests.faults
```

This command starts a real redis-server of its own for each cell. It causes the fault in the server, or on the way to
the server (a proxy, a name server, this process's own file table). It calls the operation, ends the fault, and calls
again until everything is normal. A scripted server sends the replies that a real server sends only in a disaster. The
caches have default options. The functions take no time, so the time of a call is the time that the cache adds to it.
Everything ran in one process beside its server, on loopback, with {server}. Proxies and scripted servers share the
event loop with the callers, so the figures are too high rather than too low. The tests run the same table and check the
result of each call. Times are measured only here; they differ from run to run and from machine to machine.

| operation | the call |
|---|---|
{operations}

## All faults, all operations

A cell has the result of a call, the time of the first call, and, where the circuit breaker opens, the median of the
calls that follow. *Own result* is the result of the function itself; *filled* says that it was stored as well; *kept*
is an invalidation that waits in the journal.
"""

_FIGURES: Final = """\
- *first*: the time of the first call under the fault, alone
- *worst of {crowds}*: the slowest of so many callers at the same moment, on a cache that has not met the
  fault before
- *open*: the median once the circuit breaker is open, in µs (the lowest of {medians}, of {timed} calls each); a dash
  where it does not open
- *log*: WARNINGs when the incident begins, and INFOs when it ends, in {calls} calls of one caller
- *back after*: the time from the end of the fault until a call is a hit again
- *afterwards*: the slowest call since then
"""

_CLASSES: Final = """\
## How faults are classified

The table in `cachekit/stores/translate.py` translates every foreign error into an error of cachekit. Logs and events
(`StoreFailed`) name the cause. A reply with another code is treated as `ERR` is, under its own code. Any other
exception, of a store of your own for instance, is treated as `unavailable` is, under the name of its type.
"""


def page(cells: Sequence[Cell], *, server: str, calls: int, timed: int) -> str:
    """Return the whole page."""
    crowds = [*cells[0].crowds]
    beginning = _BEGINNING.format(
        server=server, operations="\n".join(f"| {operation.name} | {operation.what} |" for operation in OPERATIONS)
    )
    figures = _FIGURES.format(
        crowds=" and of ".join(f"{callers:,}" for callers in crowds), timed=timed, medians=MEDIANS, calls=calls
    )
    parts = [
        beginning,
        "\n".join(_all_in_one(cells)),
        f"\n## The figures of each fault\n\n{figures}",
        *("\n".join(_of_one(scenario, of)) for scenario, of in _by_scenario(cells)),
        _CLASSES,
        "\n".join(_classes()),
    ]
    return "\n".join(parts) + "\n"


def _by_scenario(cells: Sequence[Cell]) -> Iterator[tuple[Scenario, list[Cell]]]:
    for scenario in SCENARIOS:
        yield scenario, [cell for cell in cells if cell.scenario.name == scenario.name]


def _row(*columns: str) -> str:
    return f"| {' | '.join(columns)} |"


def _all_in_one(cells: Sequence[Cell]) -> Iterator[str]:
    yield _row("fault", *(operation.name for operation in OPERATIONS))
    yield _row(*["---"] * (1 + len(OPERATIONS)))
    for scenario, of in _by_scenario(cells):
        yield _row(f"**{scenario.name}**", *map(_in_short, of))


def _in_short(cell: Cell) -> str:
    then = "" if cell.opened is None else f", then {_us(cell.opened)} µs"
    return f"{_words(cell)}; {_ms(cell.first)}{then}"


def _of_one(scenario: Scenario, cells: Sequence[Cell]) -> Iterator[str]:
    yield f"### {scenario.name}\n"
    causes = sorted({cause for cell in cells for cause in cell.causes})
    names = " and ".join(f"`{cause}`" for cause in causes)
    yield f"{scenario.what} {f'Cause: {names}.' if causes else 'No failure is reported.'}\n"
    crowds = [f"worst of {callers:,}" for callers in cells[0].crowds]
    yield _row("operation", "result", "first", *crowds, "open, µs", "log", "back after", "afterwards")
    yield _row("---", "---", *["--:"] * (6 + len(crowds) - 1))
    for cell in cells:
        yield _row(
            cell.operation.name,
            _words(cell),
            _ms(cell.first),
            *(_ms(seconds) for seconds in cell.crowds.values()),
            "-" if cell.opened is None else _us(cell.opened),
            f"{cell.began} / {cell.ended}",
            _ms(cell.back),
            _ms(cell.afterwards),
        )
    yield ""


def _classes() -> Iterable[str]:
    yield _row("cause", "meaning", "our error", "the circuit breaker", "the connection is", "the log says")
    yield _row(*["---"] * 6)
    for fault in FAULTS:
        yield _row(
            f"`{fault.cause}`",
            fault.meaning,
            f"`{fault.error.__name__}`",
            _opens(fault.error),
            fault.connection.value,
            _log_says(fault.error),
        )


def _log_says(error: type[StoreError]) -> str:
    if issubclass(error, CongestedError):
        return "calls are left uncached for now"
    return f"{'a key' if issubclass(error, KeyRefusedError) else 'the cache'} is left out for now"


def _opens(error: type[StoreError]) -> str:
    if error.answered or issubclass(error, CongestedError):
        return "stays closed: the server answers"
    if error.opens_after is None:
        return "stays closed: nothing was asked"
    return "opens at once" if error.opens_after == 1 else f"opens at {error.opens_after} in a row"


def _words(cell: Cell) -> str:
    return " or ".join(word for word, _ in cell.words.most_common())


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds < 0.01 else f"{1e3 * seconds:.0f} ms"


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.1f}"
