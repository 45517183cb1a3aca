"""The house: imports go downwards only, and the failure policy stands in its rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cachekit
from tests import ROOT

PACKAGE = Path(cachekit.__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# The modules that may catch everything, and the reason of each.
BROAD = {
    "_flow/background.py": "the user's function: no caller sees the failure of its load, which is an event",
    "_flow/batch_gather.py": "a failed load is told to observers, and raised again as it is",
    "_flow/batch_load.py": "a failed load is shared as its exception, and raised again as it is",
    "_flow/load.py": "a failed load is shared as its exception, and raised again as it is",
    "_flow/plan.py": "the user's policy and annotations",
    "_flow/stale.py": "a failed load is told to observers, and raised again as it is",
    "_flow/warm.py": "the user's function: its failure is counted, and the rest is warmed",
    "_tiers/guard.py": "the store",
    "_tiers/reporter.py": "observers",
    "codecs.py": "code of the user's types",
    "keys.py": "properties of the user's objects",
    "sealing.py": "the user's callable of keys",
    "stores/credentials.py": "the user's callable of credentials",
    "stores/lane.py": "the edge to redis-py",
    "stores/tracking.py": "the edge to redis-py",
}


def test_imports_go_downwards_only_and_stores_alone_import_redis() -> None:
    """The contracts stand in pyproject.toml; lazy imports are read as well."""
    root = PACKAGE.parent
    command = "import importlinter.cli as cli, sys; sys.exit(cli.lint_imports(no_cache=True))"
    if not (root / "pyproject.toml").exists():
        root = ROOT
    done = subprocess.run([sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_broad_except_stands_only_where_the_failure_policy_is(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    broad = [h for h in handlers if h.type is None or getattr(h.type, "id", None) == "Exception"]
    assert bool(broad) == (module in BROAD), f"broad except in {module}; those who may: {BROAD}"
    assert not [h for h in handlers if "BaseException" in ast.dump(h.type or ast.Constant(value="BaseException"))]


def test_pickle_and_eval_are_nowhere() -> None:
    for path in MODULES.values():
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        assert not (names | imported) & {"pickle", "shelve", "eval", "yaml", "loads"}, path


def test_marshal_is_written_to_compare_and_never_read() -> None:
    uses = {name: re.findall(r"marshal\.(\w+)", path.read_text()) for name, path in MODULES.items()}
    assert {name: {*used} for name, used in uses.items() if used} == {"codecs.py": {"dumps"}}


@pytest.mark.parametrize("name", [name for name in cachekit.__all__ if name != "MISS"])
def test_every_public_name_has_a_docstring_with_an_example(name: str) -> None:
    assert ">>>" in getattr(cachekit, name).__doc__
