"""The guides for users of other libraries: both sides of each example run on one server, and give the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from cachekit import functions
from cachekit._cli import main
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer
from tests.migrate.features import names_of
from tests.migrate.guides import FOLDER, Guide, GuideError, Output, Program

GUIDES = sorted(path for path in FOLDER.glob("*.md") if path.name != "index.md")

pytestmark = pytest.mark.server


@dataclass
class Ran:
    """A guide whose programs have run.

    Attributes:
        outputs: What they printed.
        loads: How often each `main` asked its source: by program, and by the line of the `main`.
        keys: The keys that each side has left on the server.
        removed: The keys that the commands of the page removed behind both.
    """

    guide: Guide
    outputs: list[Output] = field(default_factory=list)
    loads: dict[str, dict[int, int]] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


def check_installed(guide: Guide) -> None:
    """Fail if the other library of a guide is missing, or is older than the one of which the guide speaks."""
    name, needed = guide.other
    advice = f"{guide.page.name} is about {name} {needed}. Bring it: pip install '.[migrate]'"
    try:
        found = version(name)
    except PackageNotFoundError:
        pytest.fail(f"{name} is not installed, and {advice}")
    if [*map(int, found.split(".")[:3])] < [*map(int, needed.split("."))]:
        pytest.fail(f"{name} is {found} here, and {advice}")


def keys_of(server: RedisServer) -> set[str]:
    """Return the keys on a server. Leases are in braces, and end in a byte that is no text."""
    return {key.decode(errors="replace").lstrip("{") for key in server.cli("KEYS", "*")}


def clean_up(guide: Guide, server: RedisServer) -> set[str]:
    """Run the commands of a guide that remove what the other library left, and return the keys that are gone."""
    before = keys_of(server)
    for prefix in guide.cleared():
        assert main(["clear", "--url", server.url, "--prefix", prefix, "--yes"]) == 0
    return before - keys_of(server)


# A guide runs once for all tests, in one worker.
ONCE = [pytest.param(page, marks=pytest.mark.xdist_group(f"migrate-{page.stem}"), id=page.stem) for page in GUIDES]


@pytest.fixture(scope="module", params=ONCE)
def ran(request: pytest.FixtureRequest) -> Iterator[Ran]:
    ran = Ran(Guide(request.param))
    check_installed(ran.guide)
    with pytest.MonkeyPatch.context() as patch, RedisServer(first_server()) as server:
        patch.setattr(functions, "_configured", None)
        for who, blocks in ran.guide.programs():
            if who == "beside":
                ran.removed |= clean_up(ran.guide, server)
                server.reset()
            before = keys_of(server)
            program = Program(ran.guide.page, who, server.port)
            program.run(blocks)
            ran.outputs += program.outputs
            ran.loads[who] = program.loads
            ran.keys[who] = keys_of(server) - before
        yield ran


def test_each_program_prints_what_the_guide_says(ran: Ran) -> None:
    assert sorted(ran.outputs) == sorted(ran.guide.outputs())


def test_both_sides_of_an_example_load_equally_often(ran: Ran) -> None:
    there, here = ({line: ran.loads[who][line] for line in ran.guide.shared()} for who in ("there", "here"))
    assert there == here
    assert sum(here.values()) > 0


def test_the_two_libraries_share_no_entry(ran: Ran) -> None:
    # Both have run on one server, this one behind the other one.
    [prefix] = {found for block in ran.guide.blocks for found in re.findall(r'prefix="(\w+:)"', block.text)}
    assert {key for key in ran.keys["here"] if not key.startswith(prefix)} == set()
    assert {key for key in ran.keys["there"] if key.startswith(prefix)} == set()
    assert ran.keys["here"]


def test_the_command_of_a_guide_removes_the_keys_of_the_other_library_alone(ran: Ran) -> None:
    prefixes = tuple(ran.guide.cleared())
    assert ran.removed == {key for key in ran.keys["there"] if key.startswith(prefixes)}
    assert all(any(key.startswith(prefix) for key in ran.removed) for prefix in prefixes)


def test_each_name_of_the_other_library_stands_in_a_table_of_its_guide(ran: Ran) -> None:
    assert names_of(ran.guide.other[0]) - ran.guide.tabled() == set()


PYTHON = "<!-- {} -->\n```python\nloads = []\ndef main(): ...\n```\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\n```python\n1 / 0\n```\n", "above each block of Python stands a comment"),
        (PYTHON.format("hear"), "above each block of Python stands a comment"),
        (PYTHON.format("both"), "line 3: no output of here and there below it"),
        (PYTHON.format("both") + "<!-- here prints -->\n```text\n```\n", "line 3: no output of there below it"),
        (PYTHON.format("beside") + PYTHON.format("both"), "line 3: no output of beside below it"),
    ],
)
def test_a_block_that_would_not_be_tested_is_refused(text: str, message: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(GuideError, match=message):
        list(Guide(page).outputs())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("redis 99.0.0", r"redis is \d+\.\d+\.\d+ here, and page.md is about"),
        ("no-such 1.0.0", "no-such is not installed"),
    ],
)
def test_a_library_that_is_missing_or_old_is_a_failure_with_advice(name: str, message: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"The examples ran with {name}.\n", encoding="utf-8")
    with pytest.raises(pytest.fail.Exception, match=message) as failure:
        check_installed(Guide(page))
    assert "pip install '.[migrate]'" in str(failure.value)
