"""The benchmarks run, so that they cannot rot. No time is asserted."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import orjson
import pytest
from matplotlib.figure import Figure
from redis import Redis

import cachekit
from benchmarks import instructions
from benchmarks.__main__ import ON_THE_PAGE, PARTS, main
from benchmarks.against import CALLS
from benchmarks.against import main as against
from benchmarks.charts import OTHERS, OURS, THEIRS, Bars, Chart, Curves, draw, drawn
from benchmarks.parts import app, source, warmup
from benchmarks.parts.maps import KINDS
from benchmarks.peers import PEERS
from benchmarks.questions import added, all_questions, ratio, throughput
from benchmarks.report import Section, Sheet, page
from benchmarks.schemes import COLOURS, LIGHT
from benchmarks.suite import Bench, on_one_core, spread
from benchmarks.work import scanned, zipf
from cachekit.events import Filled
from tests import ROOT
from tests.kit.colours import READABLE, contrast
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized

CHARTS = sorted((ROOT / "docs").glob("*.svg"))
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


WHERE = dict.fromkeys(("python", "loop", "redis-py", "hiredis", "redis", "cores", "pinned", "system", "machine"), "?")


def run(*arguments: str) -> str:
    # In a process of their own: in this one they would measure asyncio's debug mode.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def part(name: str, folder: Path) -> tuple[Any, str]:
    """Return the findings of a quick run of one part, and the text that it printed."""
    printed = run(name, "--quick", "--rounds", "1", "--results", str(folder))
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
    assert "at most 1.6 x" in printed


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


def test_a_burst_is_stored_while_others_keep_their_hits(own_server: RedisServer) -> None:
    size = sized(200, 20_000)
    for kind in warmup.KINDS:
        own_server.reset()
        command = [sys.executable, "-m", "benchmarks.parts.warmup", own_server.url, "asyncio", kind, str(size)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = msgspec.json.decode(done.stdout, type=warmup.Told)
        assert own_server.cli("EXISTS", *[f"burst:{number}" for number in range(size)]) == size
        assert (told.failed, told.opened) == (0, 0), (kind, told)
        assert 0 < told.returned <= told.ended
        assert told.hits == told.calls > 0


@pytest.mark.long
def test_bursts_are_measured_and_drawn_by_size(tmp_path: Path) -> None:
    found, printed = part("warmup", tmp_path)
    assert {kind: {size: told["stored"] for size, told in sizes.items()} for kind, sizes in found.items()} == {
        kind: {"100": 100, "300": 300} for kind in warmup.KINDS
    }
    assert all(title in printed for title, _ in warmup.KINDS.values())
    assert [chart.stem for chart in tmp_path.glob("*.svg")] == ["benchmarks-warmup"]


async def test_a_burst_is_over_when_all_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "QUIET", math.inf)
    tape = warmup.Tape(2)
    over = asyncio.create_task(tape.settled())
    for key in ("a", "b"):
        await asyncio.sleep(0)
        assert not over.done()
        tape.observe(Filled(key, "f", 1))
    await over


async def test_a_burst_is_over_when_no_more_fills_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "QUIET", 0.01)
    tape = warmup.Tape(2)
    tape.observe(Filled("a", "f", 1))
    await tape.settled()
    assert tape.filled == 1


def test_of_several_bursts_the_worst_counts_and_a_lost_one_is_the_finding() -> None:
    good = warmup.Told(returned=1, ended=2, stored=100, failed=0, opened=0, memory=5, calls=10, hits=10, slowest=0.1)
    late = replace(good, returned=3, ended=4, memory=7)
    lost = replace(good, stored=0, failed=9, opened=1, hits=2, slowest=0.5)
    assert warmup.worst([good, late, lost]) == replace(lost, ended=2, memory=7)
    assert warmup.finding({"cold calls": {100: good, 300: replace(good, stored=300)}}) == (
        "Every burst is stored: 100 cold calls at once in 2.00 s, 300 in 2.00 s"
    )
    found = {"cold calls": {100: good}, "sets": {100: lost}}
    assert warmup.finding(found) == "A burst is lost: of 100 sets at once 0 are stored"


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


@pytest.mark.parametrize("kind", instructions.KINDS)
def test_calls_whose_instructions_are_counted_are_made(kind: str, redis_server: RedisServer) -> None:
    """By the worker; the count itself needs valgrind, and minutes."""
    words = ["-P", instructions.__file__, "elsewhere", "--kind", kind, "--calls", "3", "--url", redis_server.url]
    environment = os.environ | {"PYTHONPATH": str(Path(cachekit.__file__).parent.parent)}
    subprocess.run([sys.executable, *words], env=environment, check=True)


@pytest.mark.parametrize("compare", [against, instructions.main])
def test_a_folder_that_is_no_checkout_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, compare: Callable[[list[str]], None]
) -> None:
    with pytest.raises(SystemExit):
        compare([str(tmp_path)])
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
        (["outage", "--docs"], "--docs writes whole parts of the page"),
        (["--only", "pair", "--docs"], "--docs writes whole parts of the page"),
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
    written = page([section], WHERE, order=["zipf"])
    assert "|  | us |\n|---|--:|\n| a\\|b | 1 |" in written
    assert "![a finding](benchmarks-both.svg)" in written


def test_a_part_that_is_measured_anew_takes_its_place_on_the_page_and_leaves_the_others() -> None:
    maps, zipf, peers = (Section(name, f"The {name}", "how.", [], None) for name in ("maps", "zipf", "peers"))
    before = page([maps, zipf], WHERE, order=ON_THE_PAGE)
    assert page([], WHERE, order=ON_THE_PAGE, before=before) == before
    other = WHERE | {"redis": "8.2"}
    written = page([peers, replace(zipf, about="otherwise.")], other, order=ON_THE_PAGE, before=before)
    assert re.findall("## The .*", written) == ["## The peers", "## The zipf", "## The maps"]
    assert "`python -m benchmarks zipf`: otherwise.\n\nMeasured with Python ?" in written
    assert written.count("Redis ?") == 1, "the page says once in which environment it was measured"
    assert written.count("Redis 8.2") == 2, "the new sections say in which one they were"
    assert page([maps, zipf, peers], other, order=ON_THE_PAGE, before=before).count("Measured with") == 1


def test_the_page_in_the_docs_is_read_as_it_was_written() -> None:
    written = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page([], WHERE, order=ON_THE_PAGE, before=written) == written


def test_a_client_and_its_server_are_on_one_core_until_the_question_is_answered(own_server: RedisServer) -> None:
    allowed = os.sched_getaffinity(0)
    with on_one_core(Bench(own_server, 1, quick=True, loop="asyncio", step=print)) as url:
        with Redis.from_url(url) as client:
            server = int(client.info("server")["process_id"])
        assert os.sched_getaffinity(server) == os.sched_getaffinity(0) == {min(allowed)}
    assert os.sched_getaffinity(0) == allowed


def test_a_curve_has_the_same_colour_in_every_panel() -> None:
    ends = {"first": 1, "second": 2}, {"first": 2, "second": 1}
    colours = []
    for panel in ends:
        axes = Figure().subplots()
        Curves(curves={name: ([0, 1], [0, y]) for name, y in panel.items()}, y="us").draw(axes)
        colours.append({line.get_label(): line.get_color() for line in axes.get_lines()})
    assert colours[0] == colours[1]
    assert len({*colours[0].values()}) == 2


def test_a_chart_of_the_same_figures_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw(CHART, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def words(svg: str) -> list[str | None]:
    """Return what a chart says, in its order."""
    return [text.text for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("path", CHARTS, ids=lambda path: path.stem)
def test_a_chart_in_the_docs_is_drawn_anew_from_the_figures_in_its_file(path: Path, tmp_path: Path) -> None:
    # Where its lines are, to a fraction of a pixel, is a matter of matplotlib's version.
    before, after = path.read_text(encoding="utf-8"), tmp_path / path.name
    draw(drawn(before), after)
    again = after.read_text(encoding="utf-8")
    assert (words(again), drawn(again)) == (words(before), drawn(before))
    assert [set(re.findall(r"class=\"[^\"]+\"|\.[\w-]+ {.*?}", svg)) for svg in (again, before)] == 2 * [
        {*re.findall(r"class=\"[^\"]+\"|\.[\w-]+ {.*?}", before)}
    ]


@pytest.mark.parametrize("path", CHARTS, ids=lambda path: path.stem)
def test_a_chart_in_the_docs_has_its_title_on_its_page(path: Path) -> None:
    chart = drawn(path.read_text(encoding="utf-8"))
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert chart.name == path.stem
    assert f"]({path.name})" in pages
    assert not path.stem.startswith("benchmarks-") or f"![{chart.title}]({path.name})" in pages


def test_charts_are_drawn_anew_by_a_command(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks-both.svg"
    draw(CHART, path)
    before = path.read_bytes()
    path.write_bytes(before.replace(b"</svg>", b"<text>by hand</text></svg>"))
    subprocess.run([sys.executable, "-m", "benchmarks.charts", str(path)], cwd=ROOT, check=True)
    assert path.read_bytes() == before


def test_an_svg_without_figures_is_no_chart() -> None:
    with pytest.raises(ValueError, match="no chart of the benchmarks"):
        drawn('<svg xmlns="http://www.w3.org/2000/svg"/>')


def test_every_colour_of_a_chart_has_a_class_which_differs_in_light_and_dark(tmp_path: Path) -> None:
    draw(CHART, tmp_path / "chart.svg")
    root = ET.parse(tmp_path / "chart.svg").getroot()
    styles = [element.attrib.get("style", "") for element in root.iter()]
    assert not [style for style in styles if "#" in style]
    looks = {name.removesuffix("-line") for element in root.iter() for name in element.attrib.get("class", "").split()}
    assert {"ink", "faint", "ground", "red", "blue", "green", "red-ground"} <= looks <= {*COLOURS}


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_curves_of_a_chart_can_be_told_from_their_ground(scheme: int) -> None:
    names = {light: name for name, light in LIGHT.items()}
    ratios = {
        name: contrast(COLOURS[name][scheme], COLOURS["ground"][scheme])
        for name in ("ink", "faint", *(names[colour] for colour in (OURS, THEIRS, *OTHERS)))
    }
    assert {name: ratio for name, ratio in ratios.items() if ratio < READABLE} == {}


def test_two_curves_of_one_colour_differ_in_their_dashes() -> None:
    axes = Figure().subplots()
    names = ["cachekit, plain", "cachekit, near", "by hand", "cachekit, all"]
    Curves(curves={name: ([0, 1], [1, 2]) for name in names}, y="us").draw(axes)
    dashes = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.get_lines()}
    assert len({*dashes.values()}) == len(names)


def test_a_logarithmic_axis_is_for_figures_that_are_far_apart() -> None:
    for ys, scale in (([100, 120], "linear"), ([10, 120], "log")):
        axes = Figure().subplots()
        Curves(curves={"a": ([1, 2], ys)}, y="us", log="y").draw(axes)
        assert axes.get_yscale() == scale
