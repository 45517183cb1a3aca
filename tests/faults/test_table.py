"""Each operation has its documented result under each fault: the whole table, against real servers.

No time is asserted; ``python -m tests.faults`` measures times.
"""

from __future__ import annotations

import pytest

from cachekit.stores.translate import FAULTS
from tests.faults.measure import Sizes, run
from tests.faults.operations import OPERATIONS
from tests.faults.page import PAGE
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.kit.binaries import first_server
from tests.kit.sizes import sized

# In debug mode, and on a noisy machine, a call costs many times as much: a server that answers gets the time for it.
SIZES = sized(
    Sizes(calls=25, seconds=0.3, timed=3, crowds=(20,), loads=40, timeout=0.35, longer=5.0, busy=True),
    Sizes(calls=200, seconds=0.45, timed=10, crowds=(20,), loads=260, timeout=0.35, longer=5.0, busy=True),
)


@pytest.mark.usefixtures("usual_quiet")
@pytest.mark.server
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_each_operation_has_its_documented_result_under_each_fault(scenario: Scenario) -> None:
    cells = await run(scenario, OPERATIONS, SIZES, first_server())
    wrong = [what for cell in cells for what in cell.wrong]
    assert not wrong, "\n".join(wrong)


def test_the_page_has_every_fault_and_every_operation() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for scenario in SCENARIOS:
        [row] = [line for line in lines if line.startswith(f"| **{scenario.name}** |")]
        assert len(row.split(" | ")) == 1 + len(OPERATIONS)
        section = lines[lines.index(f"### {scenario.name}") :]
        assert section[2].startswith(scenario.what), "`python -m tests.faults` writes the page anew"
        for operation, row in zip(OPERATIONS, section[6:], strict=False):
            assert row.startswith(f"| {operation.name} |")


def test_the_page_has_every_row_of_the_classification() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for fault in FAULTS:
        [row] = [line for line in lines if line.startswith(f"| `{fault.cause}` |")]
        assert f" | {fault.meaning} | `{fault.error.__name__}` | " in row
        assert f" | {fault.connection.value} | " in row
