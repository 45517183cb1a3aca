"""The examples run on every store, print the output of their docstrings, and survive a store that does not answer."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import examples
from cachekit import MISS, Cache, SnapshotStore, configure
from examples import adaptive_loop, error_profile, passkey_challenge, slow_source
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer

ROOT = Path(examples.__file__).parent.parent
MODULES = [error_profile, passkey_challenge, adaptive_loop]
each_example = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])

Run = Callable[[ModuleType, str], str]


@pytest.fixture(autouse=True)
def a_plain_pipe_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich follows these variables. The shell or the CI that runs the tests may have set them."""
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in this process on a store, and return its output."""

    def run(module: ModuleType, url: str) -> str:
        module.main(["--redis", url])
        return capsys.readouterr().out

    return run


def rows(printed: str) -> list[list[str]]:
    """Return the cells of the rows of all printed tables."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if line[:1] == "│"]


def steps(printed: str) -> list[str]:
    """Return the outcomes in a table of steps, whose last column is a time."""
    return [row[1] for row in rows(printed) if len(row) == 3 and re.fullmatch(r"\d+\.\d\d ms", row[2])]


def flat(printed: str) -> str:
    """Return running text, without the frames and the line ends of its panels."""
    return " ".join(printed.replace("│", " ").split())


# --- all of them ------------------------------------------------------------------------------------


def test_the_examples_are_listed_with_how_to_run_them_and_whether_they_need_a_server() -> None:
    done = subprocess.run([sys.executable, "-m", "examples"], cwd=ROOT, capture_output=True, check=True, text=True)
    parts = done.stdout.strip().split("\n\n")
    about, commands = parts[::2], [line.strip() for line in parts[1::2]]
    names = [text.partition(":")[0] for text in about]
    assert {*names} >= {module.__name__.rpartition(".")[2] for module in [*MODULES, slow_source]} | {"writing_coach"}
    for name, text, command in zip(names, about, commands, strict=True):
        title, shows, server = text.splitlines()
        assert command.startswith(f"python -m examples.{name}")
        assert (bool(title), bool(shows.strip()), "server" in server) == (True, True, True)


HIDDEN = """
import runpy, sys

def without(finder):
    def find_spec(name, path=None, target=None):
        return None if name in {hidden!r} else finder.find_spec(name, path, target)

    return type("Without", (), {{"find_spec": staticmethod(find_spec)}})

sys.meta_path[:] = [without(finder) for finder in sys.meta_path]
runpy.run_module({module!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "lacks"),
    [
        ("examples.error_profile", "rich"),
        ("examples.writing_coach", "uvicorn"),
        ("examples.writing_coach", "sqlalchemy"),
        ("examples.observability", "promql_parser"),
    ],
)
def test_an_example_without_its_extra_names_it(module: str, lacks: str) -> None:
    program = HIDDEN.format(hidden=[lacks], module=module)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: No module named '{lacks}': the examples need it; write pip install '.[examples]'"
    )


def test_the_list_needs_no_extra_and_names_what_is_not_installed() -> None:
    program = HIDDEN.format(hidden=["rich", "uvicorn"], module="examples")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "Not installed: rich, uvicorn. Write pip install '.[examples]'"


def test_what_an_example_imports_and_cachekit_does_not_is_of_the_extra() -> None:
    own = {"cachekit", "examples", "pydantic", *sys.stdlib_module_names}
    files = [*(ROOT / "examples").rglob("*.py")]
    imported = {
        name.partition(".")[0]
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - own <= examples.OF_THE_EXTRA


# --- each of them ---------------------------------------------------------------------------------


@each_example
def test_an_example_runs_as_a_command_on_any_store_even_when_warnings_are_errors(
    module: ModuleType, store_url: str
) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", module.__name__, "--redis", store_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "\x1b" not in done.stdout  # no colours in a pipe
    assert store_url.partition("?")[0] in done.stdout


@each_example
def test_an_example_needs_no_arguments(
    module: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__])
    module.main()
    assert "on memory://" in capsys.readouterr().out


@each_example
def test_the_docstring_of_an_example_is_its_help(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        module.main(["--help"])
    printed = capsys.readouterr().out
    assert module.__doc__
    assert module.__doc__.strip() in printed
    assert f"python -m {module.__name__} [--redis " in printed


@each_example
def test_a_url_that_makes_no_sense_is_an_error_of_usage(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        module.main(["--redis", "postgres://localhost"])
    assert "postgres" in capsys.readouterr().err


@each_example
def test_an_example_prints_into_a_pipe_that_knows_only_ascii(module: ModuleType) -> None:
    command = [sys.executable, "-m", module.__name__]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env=ascii_only, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


@each_example
def test_an_example_keeps_the_secrets_of_its_url(module: ModuleType, run: Run) -> None:
    printed = run(module, f"redis://someone:hunter2@127.0.0.1:{free_port()}/0")
    assert "127.0.0.1" in printed
    assert "hunter2" not in printed
    assert "someone" not in printed


@pytest.mark.usefixtures("usual_timeout")
@each_example
@pytest.mark.parametrize("fault", ["dead", "hung"])
def test_an_example_runs_to_its_end_and_says_so_when_redis_does_not_answer(
    module: ModuleType, run: Run, own_server: RedisServer, fault: str
) -> None:
    own_server.kill() if fault == "dead" else own_server.pause()
    printed = run(module, own_server.url)
    assert printed.count("does not answer (") == 1
    last = {
        error_profile: "the profile was assembled every time, and nothing broke",
        passkey_challenge: "every answer is refused",
        adaptive_loop: "the store did not acknowledge it",
    }
    assert last[module] in printed


# --- error_profile --------------------------------------------------------------------------------


def test_error_profile_prints_a_miss_a_hit_an_invalidation_a_miss_and_a_hit(run: Run, store_url: str) -> None:
    printed = run(error_profile, store_url)
    assert steps(printed) == ["miss", "hit", "invalidated", "miss", "hit"]
    assert "The hit equals the miss: True" in printed
    assert "definately → definitely" in printed
    assert {category for category, *_ in rows(printed)} >= set(error_profile.MISSPELLINGS)


def test_error_profile_begins_with_a_miss_however_soon_it_is_run_again(run: Run, store_url: str) -> None:
    first, second = run(error_profile, store_url), run(error_profile, store_url)
    assert steps(first) == steps(second)


def test_error_profile_says_how_to_look_at_its_entry_in_redis(run: Run, redis_server: RedisServer) -> None:
    assert f"redis-cli -u {redis_server.url} GET profile:42" in run(error_profile, redis_server.url)
    assert f"redis-cli -s {redis_server.socket_path} GET profile:42" in run(error_profile, redis_server.unix_url)
    assert redis_server.cli("KEYS", "*") == [b"profile:42"]
    assert "redis-cli" not in run(error_profile, "memory://")


async def test_the_profile_stands_in_redis_as_plain_compact_json_for_at_most_600_seconds(
    redis_server: RedisServer,
) -> None:
    async with configure(redis_server.url):
        profile = await error_profile.error_profile("42")
        raw = (await asyncio.to_thread(redis_server.cli, "GET", "profile:42")).decode()
        ttl = await asyncio.to_thread(redis_server.cli, "TTL", "profile:42")
        assert await error_profile.error_profile("42") == profile
    stored = json.loads(raw)
    assert raw == json.dumps(stored, separators=(",", ":"), ensure_ascii=False)
    assert stored["user_id"] == "42"
    assert stored["total"] == profile.total == sum(habit["times"] for habit in stored["habits"])
    assert 1 <= ttl <= 600


async def test_a_recorded_error_shows_in_the_next_profile(store_url: str) -> None:
    async with configure(store_url):
        before = await error_profile.error_profile("7")
        await error_profile.record_errors("7", ["rythm", "rythm", "alot"])
        after = await error_profile.error_profile("7")
    assert after.total - before.total == 3
    assert (after.habits[0].wrong, after.habits[0].right) == ("rythm", "rhythm")


def test_the_table_of_misspellings_is_large_and_each_differs_from_its_correction() -> None:
    table = [pair for words in error_profile.MISSPELLINGS.values() for pair in words.items()]
    assert len(table) == len({wrong for wrong, _ in table}) >= 30
    assert all(wrong != right for wrong, right in table)


# --- passkey_challenge ----------------------------------------------------------------------------


def test_passkey_challenge_prints_creation_spending_replay_the_race_and_expiry(run: Run, store_url: str) -> None:
    printed = run(passkey_challenge, store_url)
    assert steps(printed) == ["miss", "new", "accepted", "refused", "miss", "1 of 50", "miss", "expired"]
    assert re.search(r"challenge +[\w-]{43}\b", printed)  # 32 bytes in base64url
    assert "Nothing is left in the store" in printed


def test_passkey_challenge_leaves_nothing_in_redis(run: Run, redis_server: RedisServer) -> None:
    run(passkey_challenge, redis_server.url)
    assert redis_server.cli("KEYS", "*") == []


async def test_a_wrong_answer_spends_the_challenge(store_url: str) -> None:
    async with configure(store_url):
        ticket = passkey_challenge.begin("42", "login")
        challenge = await passkey_challenge.create_challenge(ticket)
        assert not await passkey_challenge.finish(ticket, b"guessed")
        assert not await passkey_challenge.finish(ticket, challenge.value)
        assert await passkey_challenge.create_challenge.peek(ticket) is MISS


async def test_a_challenge_lives_in_redis_for_at_most_300_seconds(redis_server: RedisServer) -> None:
    async with configure(redis_server.url):
        ticket = passkey_challenge.begin("42", "registration")
        await passkey_challenge.create_challenge(ticket)
    assert 1 <= await asyncio.to_thread(redis_server.cli, "TTL", f"challenge:{ticket}") <= 300


# --- adaptive_loop --------------------------------------------------------------------------------


def test_adaptive_loop_prints_each_difference_each_correction_and_that_nothing_is_left(
    run: Run, store_url: str
) -> None:
    printed = run(adaptive_loop, store_url)
    text = flat(printed)
    assert len(re.findall(r"save \d, \d+ words, \d+\.\d\d ms", printed)) == len(adaptive_loop.VERSIONS)
    assert "[-recieved-] {+received+}" in text
    assert "[-long-] {+friendly+}" in text
    assert "learnt: recieved → received" in text
    assert ["seperate", "separate", "2"] in rows(printed)
    assert ["alot", "a lot", "1"] in rows(printed)
    assert not [row for row in rows(printed) if row[0] == "long"]
    assert "Snapshot(text=<private>, word_count=" in printed
    assert "0 snapshots are left" in printed


def test_adaptive_loop_leaves_nothing_in_redis(run: Run, redis_server: RedisServer) -> None:
    run(adaptive_loop, redis_server.url)
    assert redis_server.cli("KEYS", "*") == []


async def test_the_loop_compares_nothing_before_the_second_snapshot() -> None:
    async with Cache("memory://") as cache:
        loop = adaptive_loop.AdaptiveLoop(SnapshotStore(cache), "42")
        assert await loop.save("I recieve it") is None
        assert await loop.save("I receive it") == ("I recieve it", "I receive it")
        assert loop.learnt == {("recieve", "receive"): 1}


@pytest.mark.parametrize(
    ("previous", "latest", "learnt"),
    [
        ("it is wierd.", "it is weird!", [("wierd", "weird")]),
        ("alot of it", "a lot of it", [("alot", "a lot")]),
        ("a long letter", "a friendly letter", []),
        ("the end", "the end, perhaps", []),
        ("Seperate rooms", "separate rooms", [("seperate", "separate")]),
        ("the same text", "the same text", []),
        ("", "", []),
    ],
)
def test_only_a_similar_word_counts_as_a_correction(previous: str, latest: str, learnt: list[tuple[str, str]]) -> None:
    assert adaptive_loop.corrections(previous, latest) == learnt


# --- slow_source ----------------------------------------------------------------------------------


async def test_slow_source_shows_what_each_option_does(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_source, "PHASES", {"well": 0.01, "dead": None})
    async with Cache(store_url, prefix="slow:", timeout=5) as cache:
        # Longer than a TTL and a window: a value of the last moment ends before the source is well again.
        found = await slow_source.watch(cache, 2.0)
    for name, options in slow_source.OPTIONS.items():
        assert found["well", name]["failed"] == 0
        assert (found["dead", name]["failed"] == 0) == ("stale_if_error" in options), name
        assert found["dead", name]["asked"] >= 1


def test_slow_source_prints_a_row_for_each_phase_and_option(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_source, "LASTS", 0.05)
    monkeypatch.setattr(slow_source, "PHASES", dict.fromkeys(slow_source.PHASES, 0.001))
    printed = run(slow_source, "memory://")
    assert len([row for row in rows(printed) if row[0]]) == len(slow_source.PHASES) * len(slow_source.OPTIONS)
