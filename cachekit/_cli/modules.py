"""The modules of an application: how they are imported, and the keys and tags that they name by hand."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Final

from msgspec import Struct

from cachekit.errors import ConfigurationError


def import_modules(names: Sequence[str]) -> list[ModuleType]:
    """Import ``names``, and the modules inside each one that is a package, and return all of them.

    Programs are left out: a module called ``__main__`` runs when it is imported.

    Raises:
        ConfigurationError: There is no module of a name.
        Exception: Any that a module raises when it is imported.
    """
    # As `python -m` does: the application stands in the folder in which the command runs.
    if "" not in sys.path:
        sys.path.insert(0, "")
    modules: dict[str, ModuleType] = {}
    for name in names:
        module = modules[name] = _import(name)
        inside = pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}.")
        modules |= {one.name: _import(one.name) for one in inside if not one.name.endswith("__main__")}
    return [*modules.values()]


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        imported = name.partition(":")[0].removesuffix(".py").strip("/").replace("/", ".")
        message = f"there is no module {error.name!r} here; name it as an import does, such as shop.views"
        if imported != name:
            message = f"there is no module {name!r} here; write {imported}"
        raise ConfigurationError(message) from None


class ByHand(Struct):
    """The keys and tags that code names beside decorators, as templates: a part that is not known has a placeholder."""

    keys: set[str]
    tags: set[str]
    whole: set[str]
    """The names of functions on which ``invalidate_all`` is called."""


_KEYS: Final = frozenset(
    {
        *("get", "set", "delete", "take", "touch", "erase", "get_many", "set_many", "delete_many"),
        *("cache_get", "cache_set", "cache_delete", "RollingWindow"),
    }
)

# The key of a `SnapshotStore`.
_ALWAYS: Final = "snapshots:<user_id>"

ANY: Final = "<any>"
"""The template of a text that only a run tells."""


def named_by_hand(modules: Iterable[ModuleType]) -> ByHand:
    """Return what the source of ``modules`` names by hand. A module without source names nothing."""
    found = ByHand({_ALWAYS}, set(), set())
    for module in modules:
        try:
            tree = ast.parse(inspect.getsource(module))
        except (OSError, TypeError):
            continue
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            _note(call, found)
    return found


def _note(call: ast.Call, found: ByHand) -> None:
    function = call.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name == "invalidate_tags":
        for argument in call.args:
            found.tags.update([*_texts(argument)] or [ANY])
    elif name == "invalidate_all" and isinstance(function, ast.Attribute):
        found.whole.add(getattr(function.value, "attr", getattr(function.value, "id", "")))
    elif name in _KEYS:
        found.keys.update(text for argument in call.args for text in _texts(argument))


def _template(node: ast.expr) -> str:
    """Return a text as a template, with a placeholder for what only a run tells."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_template, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left) + _template(node.right)
    return ANY


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts in an argument that may be keys: alone, in a list, as the keys of a dict, or made for each."""
    match node:
        case ast.Starred(value=inside):
            yield from _texts(inside)
        case ast.List(elts=several) | ast.Tuple(elts=several) | ast.Set(elts=several) | ast.Dict(keys=several):
            for one in several:
                yield from _texts(one) if one is not None else ()
        case ast.ListComp(elt=each) | ast.SetComp(elt=each) | ast.GeneratorExp(elt=each) | ast.DictComp(key=each):
            yield from _texts(each)
        case _:
            template = _template(node)
            if template != ANY:
                yield template
