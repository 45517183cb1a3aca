"""A short outage under load: no call raises, and the cache is used again. No time is asserted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from benchmarks.findings import Moment, report
from benchmarks.parts.outage import STEPS, promises
from benchmarks.recording import HIT, LOADED, Note, Recording
from benchmarks.report import duration
from tests.application.test_benchmarks import run


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, bytes]:
    """The findings, the output and the plot of a short run."""
    folder = tmp_path_factory.mktemp("outage")
    figures, plot = folder / "outage.json", folder / "outage.svg"
    printed = run("outage", "--quick", "--json", str(figures), "--svg", str(plot))
    return orjson.loads(figures.read_bytes())["outage"], printed, plot.read_bytes()


@pytest.mark.long
def test_no_call_raises_in_any_phase(outage: tuple[dict[str, Any], str, bytes]) -> None:
    found, printed, _ = outage
    assert [phase["name"] for phase in found["phases"]] == [step.name for step in STEPS]
    assert all(phase["calls"] > 0 and phase["exceptions"] == 0 for phase in found["phases"])
    assert found["raised"] == 0
    assert all(phase["name"] in printed for phase in found["phases"][:-1])


@pytest.mark.long
def test_hits_resume_when_the_server_does(outage: tuple[dict[str, Any], str, bytes]) -> None:
    found = {phase["name"]: phase for phase in outage[0]["phases"]}
    assert found["healthy"]["hits"] > 0
    assert found["paused"]["opened_after"] is not None
    assert found["killed"]["opened_after"] is not None
    assert found["resumed"]["used_after"] is not None
    assert found["restarted"]["used_after"] is not None


@pytest.mark.long
def test_no_task_file_or_socket_is_left(outage: tuple[dict[str, Any], str, bytes]) -> None:
    before, last, after = (outage[0][name] for name in ("before", "last", "after"))
    # A lane and a probe come and go.
    assert last["tasks"] <= before["tasks"] + 2
    assert last["files"] <= before["files"] + 1
    assert after["tasks"] == 1
    assert after["sockets"] < before["sockets"]


@pytest.mark.long
def test_the_plot_shows_every_phase(outage: tuple[dict[str, Any], str, bytes]) -> None:
    assert outage[2].startswith(b"<svg ")
    assert all(f">{step.name}</text>".encode() in outage[2] for step in STEPS)


def test_a_recording_becomes_figures_for_each_phase() -> None:
    """Ten calls, two a second: hits, an outage in which one waits, and a hit 0.5 s after the server is back."""
    took = [0.001, 0.001, 0.25, 0.00001, 0.00003, 0.00002, 0.001, 0.001, 0.001, 0.001]
    recording = Recording(
        began=100.0,
        ended=[100.5 + n / 2 for n in range(10)],
        took=took,
        kinds=[HIT, HIT, *[LOADED] * 4, HIT, HIT, HIT, HIT],
        undecorated=[0.0000002],
        beats=[100.5, 101.5],
        lags=[0.001, 0.002],
        store_failed=4,
        events=[Note(101.6, "BreakerOpened", ""), Note(103.2, "BreakerClosed", "")],
        records=[Note(101.6, "WARNING", ""), Note(103.2, "INFO", "")],
    )
    moments = [
        Moment("healthy", 99.0, 99.0, back=False),
        Moment("paused", 101.2, 101.2, back=False),
        Moment("resumed", 102.9, 103.0, back=True),
    ]
    found = report(recording, moments)
    healthy, paused, resumed = found["phases"]
    assert (healthy["calls"], healthy["hits"], healthy["lag"]) == (2, 2, 0.001)
    assert (paused["calls"], paused["hits"], paused["loads"], paused["longest"], paused["lag"]) == (
        3,
        0,
        3,
        0.25,
        0.002,
    )
    assert paused["delayed"] == 1
    assert paused["opened_after"] == pytest.approx(0.4)
    assert paused["median_open"] == pytest.approx(0.00002)
    assert (paused["warnings"], paused["infos"], resumed["warnings"], resumed["infos"]) == (1, 0, 0, 1)
    assert resumed["used_after"] == pytest.approx(0.5)
    assert found["longest"] == 0.25
    assert found["used_after"] == pytest.approx(0.5)
    assert [kept for *_, kept in promises(found)] == ["yes"] * 4


def test_a_duration_is_shown_in_a_unit_of_its_size() -> None:
    assert [duration(seconds) for seconds in (None, 0.0000123, 0.00056, 0.0123, 0.2531, 1.5)] == [
        "",
        "12.3 us",
        "560 us",
        "12.3 ms",
        "253 ms",
        "1.50 s",
    ]
