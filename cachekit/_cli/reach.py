"""Which decorated functions `check` judges: the functions of the modules that it is given, and what these hold by name.

A module of an application often decorates nothing itself: it imports the functions, or the modules that have them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from msgspec import Struct

from cachekit.decorators import ObjectProxy, Plan
from cachekit.describing import Decorated


class Reach(Struct, frozen=True):
    """The functions that are judged."""

    modules: frozenset[str]
    """The modules whose functions are."""
    plans: frozenset[int]
    """Functions of other modules, each by the identity of its plan."""

    def has(self, one: Decorated) -> bool:
        """Tell whether ``one`` is judged."""
        return one.plan.function.__module__ in self.modules or id(one.plan) in self.plans


def reach_of(modules: Iterable[ModuleType]) -> Reach:
    """Return what is judged, where ``modules`` were given: they, what is inside of them, and what they hold by name."""
    given = {module.__name__ for module in modules}
    values = [value for name in _with_inside(given) for value in [*vars(sys.modules[name]).values()]]
    # By type and identity: a value that stands for another one, such as the request of a web framework, may raise
    # an error when it is asked what it is.
    held = {id(value) for value in values if issubclass(type(value), ModuleType)}
    names = given | {name for name, module in [*sys.modules.items()] if id(module) in held}
    return Reach(frozenset(_with_inside(names)), frozenset(map(id, _plans_in(values))))


def _with_inside(names: Iterable[str]) -> set[str]:
    """Return ``names``, and the modules inside them that are loaded: also from folders without an ``__init__.py``."""
    known = {*names}
    return {name for name in [*sys.modules] if _is_inside(name, known)}


def _is_inside(name: str, packages: set[str]) -> bool:
    while name and name not in packages:
        name = name.rpartition(".")[0]
    return bool(name)


def _plans_in(values: Iterable[Any]) -> Iterator[Plan]:
    """Yield the plans of decorated functions, of the methods of classes, and of those of instances."""
    classes: dict[type, None] = {}
    for value in values:
        yield from _plans_of(value)
        is_class = issubclass(type(value), type) and value is not type
        classes |= dict.fromkeys(type.mro(value) if is_class else type.mro(type(value)))
    for one in classes:
        for value in [*vars(one).values()]:
            yield from _plans_of(value)


_ASKED: Final = (FunctionType, staticmethod, classmethod, ObjectProxy)


def _plans_of(value: Any) -> Iterator[Plan]:
    """Yield the plan of a decorated function, which may stand under other decorators."""
    while issubclass(type(value), _ASKED):
        plan = getattr(value, "_self_plan", None)
        if plan is not None:
            yield plan
            return
        value = getattr(value, "__wrapped__", None)


def elsewhere(others: Iterable[Decorated]) -> dict[str, int]:
    """Return the modules of functions, and how many of them each has."""
    return dict(Counter(one.plan.function.__module__ for one in others))


def folders_left_out(modules: Sequence[ModuleType]) -> list[str]:
    """Return the folders with code inside of packages that have no ``__init__.py``: no module inside was imported."""
    roots = {Path(path): module.__name__ for module in modules for path in getattr(module, "__path__", ())}
    inside = [(name, folder) for root, name in roots.items() for folder in sorted(root.iterdir())]
    return [
        f"{name}.{folder.name}"
        for name, folder in inside
        if folder.is_dir() and folder not in roots and next(folder.glob("*.py"), None) and folder.name.isidentifier()
    ]
