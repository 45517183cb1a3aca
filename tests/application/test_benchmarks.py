"""The benchmarks run, so that they cannot rot. No time is asserted."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest

import cachekit
from benchmarks.__main__ import PARTS, main
from benchmarks.against import CALLS
from benchmarks.against import main as against
from benchmarks.charts import Bars, Chart, Curves, draw
from benchmarks.parts import app, source
from benchmarks.parts.maps import KINDS
from benchmarks.peers import PEERS
from benchmarks.questions import added, all_questions, ratio, throughput
from benchmarks.report import Section, Sheet, page
from benchmarks.suite import spread
from benchmarks.work import scanned, zipf
from tests import ROOT

CHART = Chart(
    name="benchmarks-both",
    title="a finding",
    about="less is better",
    panels=[
        Bars(bars={"cachekit": 1.0, "by hand": 2.5}, label="{:.1f} us"),
        Curves(curves={"cachekit": ([1, 2], [3, 4]), "a point": ([1], [3])}, x="callers", y="us", log="y"),
    ],
    spans=[("down", 0, 1, True)],
)


def run(*arguments: str) -> str:
    # In a process of their own: in this one they would measure asyncio's debug mode.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def part(name: str, folder: Path) -> tuple[Any, str]:
    """Return the findings of a quick run of one part, and the text that it printed."""
    printed = run(name, "--quick", "--results", str(folder))
    for chart in folder.glob("*.svg"):
        assert ET.parse(chart).getroot().tag.endswith("svg")
    return orjson.loads((folder / f"{name}.json").read_bytes())[name], printed


@pytest.mark.long
def test_every_target_has_a_figure_for_both_variants(tmp_path: Path) -> None:
    answers, printed = part("targets", tmp_path)
    assert [answer["name"] for answer in answers] == [question.name for question in all_questions()]
    for answer in answers:
        assert answer["cachekit_us"] > 0
        assert answer["by_hand_us"] > 0
    assert "at least 12 x" in printed


@pytest.mark.long
def test_every_peer_is_measured(tmp_path: Path) -> None:
    found, _ = part("peers", tmp_path)
    assert not found["missing"]
    names = {peer.name for peer in PEERS}
    assert all(set(figures) == names for figures in found["us"].values())
    assert all(isinstance(us, float) for figures in found["us"].values() for us in figures.values()), found["us"]


@pytest.mark.long
def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    found, _ = part("growth", tmp_path)
    assert list(found["callers"]) == ["1", "10", "100", "1,000"]
    assert list(found["kinds"]) == ["dict", "dataclass", "pydantic"]
    assert {chart.stem for chart in tmp_path.glob("*.svg")} == {
        f"benchmarks-{name}" for name in ("callers", "sizes", "kinds", "keys")
    }


@pytest.mark.long
def test_a_stampede_is_one_load(tmp_path: Path) -> None:
    found, _ = part("stampede", tmp_path)
    loads = {stampede["name"]: stampede["loads"] for stampede in found}
    assert loads["cachekit"] == 1
    assert loads["by hand"] > 1
    assert all(stampede["raised"] == 0 for stampede in found if stampede["name"] == "cachekit")


@pytest.mark.long
def test_hot_keys_are_asked_for_by_zipf(tmp_path: Path) -> None:
    found, _ = part("zipf", tmp_path)
    assert {"by hand", "cachekit", "cashews", "aiocache"} <= set(found["us"])


@pytest.mark.long
def test_maps_are_compared(tmp_path: Path) -> None:
    found, _ = part("maps", tmp_path)
    assert [kind["name"] for kind in found] == [kind.name for kind in KINDS]
    assert all(0 < kind["scanned"] < kind["zipf"] < 1 for kind in found)


@pytest.mark.long
def test_the_hot_path_is_shown_step_by_step(tmp_path: Path) -> None:
    found, _ = part("hotpath", tmp_path)
    assert all(isinstance(us, float) for us in found.values()), found


@pytest.mark.long
def test_the_writing_coach_is_asked_over_http(tmp_path: Path) -> None:
    found, _ = part("app", tmp_path)
    assert [(each["callers"], each["variant"]) for each in found] == list(itertools.product(app.CALLERS, app.VARIANTS))
    assert all(each["requests_per_second"] > 0 for each in found)
    # Of many callers most ask for a cached profile. A profile that is not cached takes three queries.
    queries = {each["variant"]: each["queries_per_request"] for each in found[-len(app.VARIANTS) :]}
    assert queries["cached"] < 1
    assert queries["uncached"] > 2


@pytest.mark.long
def test_a_source_dies_under_each_variant(tmp_path: Path) -> None:
    found, _ = part("source", tmp_path)
    outage = {each["name"]: each for each in found["outage"]}
    assert set(outage) == set(source.VARIANTS)
    assert outage["cachekit, stale_if_error"]["failed"] == 0
    assert outage["cachekit, plain"]["failed"] > 0
    assert {each["name"] for each in found["hot"]} == set(source.HOT)
    assert (tmp_path / "benchmarks-source.svg").exists()


def test_attempts_within_a_span_are_counted() -> None:
    assert source._most_within([0.0, 1.0, 11.0, 12.0, 13.0], 10.0) == 3
    assert source._most_within([], 10.0) == 0


def test_a_checkout_is_compared_with_another_in_pairs() -> None:
    # With itself, which may be installed.
    other = Path(cachekit.__file__).parent.parent
    command = [sys.executable, "-m", "benchmarks.against", str(other), "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│")]
    assert rows == [*CALLS]


def test_a_folder_that_is_no_checkout_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        against([str(tmp_path)])
    assert "name another checkout, such as a git worktree" in capsys.readouterr().err


def test_parts_and_questions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list"])
    listed = capsys.readouterr().out
    assert "hit-100" in listed
    assert all(name in listed for name in PARTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nonsense"], "there is no question called nonsense"),
        (["nonsense"], "there is no part called nonsense"),
        (["zipf", "--docs"], "--docs writes one page about all parts"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code
    assert said in f"{refusal.value.code}{capsys.readouterr().err}"


def test_one_question_is_answered_alone_and_with_all_figures_on_request(tmp_path: Path) -> None:
    run("--only", "pair", "--quick", "--json", str(tmp_path / "all.json"), "--results", str(tmp_path))
    figures = orjson.loads((tmp_path / "all.json").read_bytes())
    assert [answer["name"] for answer in figures["targets"]] == ["pair"]
    assert figures["where"]["cores"] >= 1


def test_a_target_is_a_ratio_a_factor_of_throughput_or_a_difference() -> None:
    assert (ratio(0.75).of(3, 4), ratio(0.75).met(0.75), ratio().met(9)) == (0.75, True, None)
    assert (throughput(12).of(1, 12), throughput(12).met(11.9)) == (12, False)
    assert (added(3).of(5, 2.5), added(3).met(2.5), added(3).target) == (2.5, True, "at most +3 us")


def test_half_of_the_figures_are_up_to_the_median_and_one_in_a_hundred_above_the_99th_percentile() -> None:
    assert spread([float(n) for n in range(101)]) == (50, 99, 100)
    assert (spread([]), spread([3.0])) == ((0, 0, 0), (3, 3, 3))


def test_a_trace_has_its_scans_and_is_the_same_each_time() -> None:
    trace = zipf(100, 4000)
    assert trace == zipf(100, 4000)
    mixed = scanned(trace)
    assert len(mixed) == 6000
    assert [number for number in mixed if number < 100] == trace
    assert len({number for number in mixed if number > max(trace)}) == 2000


def test_the_page_has_the_tables_and_names_the_charts() -> None:
    section = Section("zipf", "Hot keys", "how.", [Sheet("A table", ("", "us"), [("a|b", "1")])], None, [CHART])
    names = ("python", "loop", "redis-py", "hiredis", "redis", "cores", "pinned", "system", "machine")
    where = dict.fromkeys(names, "?")
    written = page([section], where)
    assert "|  | us |\n|---|--:|\n| a\\|b | 1 |" in written
    assert "![a finding](benchmarks-both.svg)" in written


def test_a_chart_of_the_same_figures_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw(CHART, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
