"""The habits: one version of each thing, and the pages, hooks and workflows name commands that exist."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

import cachekit
from tests import ROOT

PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOOKS: Final = (ROOT / ".pre-commit-config.yaml").read_text()
CONTRIBUTING: Final = (ROOT / "CONTRIBUTING.md").read_text()
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS: Final = sorted(
    set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"}
)
LOWEST: Final = ROOT / ".ci" / "lowest.py"


def tox_environments() -> configparser.ConfigParser:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    return tox


def named_environments() -> list[str]:
    places = (".github/pull_request_template.md", "docs/servers.md", "tests/README.md", "README.md")
    pages = [CONTRIBUTING, HOOKS, *((ROOT / place).read_text() for place in places)]
    pages += [path.read_text() for path in WORKFLOWS]
    return sorted({name for page in pages for name in re.findall(r"tox -e (\w+)", page)})


def test_the_package_has_the_version_of_the_distribution() -> None:
    assert cachekit.__version__ == version("cachekit-redis")
    assert "__version__" not in cachekit.__all__


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]


def test_the_changelog_has_the_version_or_an_unreleased_section() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {cachekit.__version__, "Unreleased"} & {*headings}


def test_the_hooks_have_the_ruff_of_the_lint_environment() -> None:
    pins = [line for line in PROJECT["optional-dependencies"]["lint"] if line.startswith("ruff")]
    hooks = re.findall(r"ruff[=<>~!][^],\s]*", HOOKS)
    assert len(pins) == 1
    assert re.fullmatch(r"ruff==\d+\.\d+\.\d+", pins[0])
    assert hooks == pins * 2, "one for the check and one for the format"


def test_every_hook_comes_from_the_package_index_at_one_version() -> None:
    assert set(re.findall(r"repo: (\S+)", HOOKS)) == {"local"}
    needed = re.findall(r"additional_dependencies: \[(.+)\]", HOOKS)
    assert len(needed) == len(re.findall(r"- id:", HOOKS))
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", need) for need in needed)


@pytest.mark.parametrize(("workflow", "command"), [("ci.yml", ".ci/run"), ("servers.yml", "tox -e servers")])
def test_a_workflow_runs_a_command_that_runs_on_any_machine(workflow: str, command: str) -> None:
    text = (ROOT / ".github" / "workflows" / workflow).read_text()
    assert command in re.findall(r"\brun: (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_the_code_and_nothing_else(workflow: Path) -> None:
    text = workflow.read_text()
    assert re.findall(r"^ *permissions:\n(.+)$", text, re.MULTILINE) == ["  contents: read"]
    assert "write" not in text
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_ends_by_itself_and_gives_way_to_a_newer_one(workflow: Path) -> None:
    text = workflow.read_text()
    assert re.search(r"^concurrency:\n  group: .+\n  cancel-in-progress: true$", text, re.MULTILINE)
    assert text.count("timeout-minutes:") == text.count("runs-on:") > 0
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in re.findall(r"uses: (\S+)", text))


@pytest.mark.parametrize("path", [*WORKFLOWS, *FORMS], ids=lambda path: path.name)
def test_the_lint_environment_checks_every_workflow_and_form(path: Path) -> None:
    assert path.relative_to(ROOT).as_posix() in tox_environments()["testenv:lint"]["commands"]


@pytest.mark.parametrize("name", named_environments())
def test_each_tox_environment_that_is_named_exists(name: str) -> None:
    assert tox_environments().has_section(f"testenv:{name}")


def test_public_types_are_complete_or_the_types_environment_fails() -> None:
    commands = tox_environments()["testenv:types"]["commands"].splitlines()
    assert "pyright --verifytypes cachekit --ignoreexternal" in commands


def test_the_lowest_versions_are_the_floors_in_pyproject() -> None:
    done = subprocess.run([sys.executable, LOWEST, ROOT / "pyproject.toml"], capture_output=True, text=True, check=True)
    pins = done.stdout.split()
    assert len(pins) == len(PROJECT["dependencies"])
    for pin, requirement in zip(pins, PROJECT["dependencies"], strict=True):
        assert requirement.startswith(pin.replace("==", ">="))


@pytest.mark.parametrize(
    ("requirement", "pin"),
    [
        ("redis[hiredis]>=8.1,<9", "redis[hiredis]==8.1"),
        ("wrapt<3, >= 2.0", "wrapt==2.0"),
        ("tomli>=2.0; python_version < '3.11'", "tomli==2.0"),
    ],
)
def test_a_floor_is_found_wherever_it_stands(requirement: str, pin: str, tmp_path: Path) -> None:
    pyproject, target = tmp_path / "pyproject.toml", tmp_path / "lowest.txt"
    pyproject.write_text(f'[project]\ndependencies = ["{requirement}"]\n')
    subprocess.run([sys.executable, LOWEST, pyproject, target], capture_output=True, check=True)
    assert target.read_text() == f"{pin}\n"


@pytest.mark.parametrize("requirement", ["orjson", "orjson<4", "orjson; python_version >= '3.11'"])
def test_a_dependency_without_a_floor_is_refused(requirement: str, tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(f'[project]\ndependencies = ["{requirement}"]\n')
    done = subprocess.run([sys.executable, LOWEST, pyproject], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no floor" in done.stderr


@pytest.mark.parametrize(("page", "lines"), [("CONTRIBUTING.md", 80), ("SECURITY.md", 40)])
def test_a_page_for_contributors_is_short(page: str, lines: int) -> None:
    assert len((ROOT / page).read_text().splitlines()) <= lines
