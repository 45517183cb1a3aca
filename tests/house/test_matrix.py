"""The matrix of servers: its program reads reports and writes a table, and the page is about the tested servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import matrix
from tests.kit.binaries import MATRIX, ServerBinary
from tests.matrix import AREAS, PAGE, Result, area_of, page, read_report, rows

REPORT = """<testsuites><testsuite>
<testcase classname="tests.flow.test_flight" name="one"/>
<testcase classname="tests.flow.test_flight" name="two"><failure>x</failure></testcase>
<testcase classname="tests.stores.test_model" name="three"><error>x</error></testcase>
<testcase classname="tests.tiers.test_journal" name="four"/>
<testcase classname="tests.tiers.test_journal" name="five"><skipped/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def result(tmp_path: Path) -> Result:
    report = tmp_path / "report.xml"
    report.write_text(REPORT, encoding="utf-8")
    result = Result(ServerBinary(Path("/x"), "8.1.8", "valkey"))
    read_report(report, result)
    return result


def test_a_report_is_counted_by_area(result: Result) -> None:
    assert result.passed == {"calls and flights": 1, "journal": 1}
    assert result.failed == {"calls and flights": ["two"], "contract of a store": ["three"], "journal": ["five"]}


def test_all_is_well_only_where_every_area_has_tests_and_none_failed(result: Result) -> None:
    assert not result.ok
    result.failed.clear()
    assert not result.ok, "an area without a test is not tested"
    result.passed.update([*AREAS])
    assert result.ok


def test_a_test_of_no_area_is_an_error() -> None:
    for stranger in ("tests.house.test_matrix", "tests.flower.test_rose"):
        with pytest.raises(ValueError, match="in none of the areas"):
            area_of(stranger)


def test_the_table_replaces_the_one_that_the_page_has(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "has_tls", lambda _binary: True)
    table = rows([result])
    before = f"before\n{matrix.BEGIN}\n\n| old |\n\n{matrix.END}\nbehind\n"
    after = page(before, table)
    assert after == page(after, table)
    assert "old" not in after
    assert "|  | Valkey 8.1.8 |\n|---|--:|\n" in after
    assert "| calls and flights | 1 of 2 failed |" in after
    assert "| journal | 1 of 2 failed |" in after
    assert "| TLS by | its own, and a terminator |" in after
    assert (after.startswith("before\n"), after.endswith("behind\n")) == (True, True)


def test_a_missing_server_is_named_with_the_way_to_bring_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matrix, "available_servers", list)
    assert matrix.main([]) == 1
    said = capsys.readouterr().out
    assert all(f"{label}: {how}" in said for label, how in MATRIX.items())


def test_the_page_has_a_column_for_every_server_a_row_for_every_area_and_no_failure() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = lines[lines.index(matrix.BEGIN) + 2 : lines.index(matrix.END) - 1]
    heading, _, *areas = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    series = [f"{name.split()[0].lower()}-{'.'.join(name.split()[1].split('.')[:2])}" for name in heading[1:]]
    assert series == [*MATRIX]
    assert [row[0] for row in areas] == [*AREAS, "TLS by"]
    assert all(cell.isdigit() and int(cell) for row in areas[:-1] for cell in row[1:])
