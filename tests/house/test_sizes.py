"""The size of things: functions that can be read at once, few parameters, no circle between modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import grimp

import cachekit

PACKAGE = Path(cachekit.__file__).parent

LONGEST = 44
"""Lines of a function, its docstring included."""
DEEPEST = 3
MANY = 6
"""A function with so many parameters has too many."""
HAVE_MANY = {"cache.py:Cache.__init__", "functions.py:configure"}
"""The functions that may have so many: their callers write each parameter by name."""

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


class Function(NamedTuple):
    name: str
    parameters: int
    lines: int
    depth: int


def functions() -> list[Function]:
    """Return every function of the package."""
    return [
        Function(f"{path.relative_to(PACKAGE)}:{name}", parameters(node), lines(node), depth(node))
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, node in definitions(ast.parse(path.read_text()))
    ]


def definitions(node: ast.AST, around: str = "") -> Iterator[tuple[str, Definition]]:
    """Yield the functions inside ``node``, with their dotted names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not isinstance(child, ast.ClassDef):
                yield f"{around}{child.name}", child
            yield from definitions(child, f"{around}{child.name}.")
        else:
            yield from definitions(child, around)


def parameters(node: Definition) -> int:
    """Return how many parameters a caller sees."""
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    variadic = [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
    return sum(one.arg not in {"self", "cls"} for one in [*every, *variadic])


def lines(node: Definition) -> int:
    """Return how long a function is."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def depth(node: ast.AST, reached: int = 0) -> int:
    """Return how deep blocks stand inside each other; an ``elif`` is as deep as its ``if``."""
    deepest = reached
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth(child, reached + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


def test_a_function_can_be_read_at_once() -> None:
    assert {function.name: function.lines for function in functions() if function.lines > LONGEST} == {}


def test_no_block_stands_deeper_than_three() -> None:
    assert {function.name: function.depth for function in functions() if function.depth > DEEPEST} == {}


def test_a_function_has_few_parameters() -> None:
    assert {function.name for function in functions() if function.parameters >= MANY} == HAVE_MANY


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("cachekit", cache_dir=None)
    # `prepare` raises a CycleError that names the circle.
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_the_measures_count_parameters_lines_and_depth() -> None:
    loop = " for x in a:\n  if x:\n   pass\n  elif b:\n   with c:\n    try: pass\n    finally: pass"
    (name, node), *_ = definitions(ast.parse(f"async def f(self, a, *, b, **c):\n{loop}"))
    assert (name, parameters(node), lines(node), depth(node)) == ("f", 3, 8, 4)
