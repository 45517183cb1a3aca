"""``cachekit check``: what an application has decorated, and the mistakes that can be seen without calling it."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
from msgspec import Struct

from cachekit._cli.annotations import lost_of
from cachekit._cli.findings import CODES, Application, Finding, findings_of, ignored
from cachekit._cli.keys import counted
from cachekit._cli.modules import import_modules, named_by_hand
from cachekit._cli.output import Output
from cachekit._cli.reach import Reach, elsewhere, folders_left_out, reach_of
from cachekit.describing import Decorated, Description, all_decorated
from cachekit.errors import ConfigurationError

HELP: Final = "import an application, list its decorated functions, and find mistakes"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="modules or packages, as an import names them")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="CODE[:FUNCTION]",
        help=f"findings that are no mistake here: {', '.join(CODES)}; repeat it",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """List the functions and the findings; return 1 if there is a finding."""
    for choice in options.ignore:
        if choice.partition(":")[0] not in CODES:
            message = f"--ignore has no code {choice.partition(':')[0]!r}; it takes {', '.join(CODES)}"
            raise ConfigurationError(message)
    # The findings include the warnings of decoration.
    logging.getLogger("cachekit").addHandler(logging.NullHandler())
    examined = examine(options.modules)
    found = [one for one in examined.findings if not ignored(one, options.ignore)]
    if out.as_json:
        listed = [{**msgspec.to_builtins(one.told), "lost": [*one.lost]} for one in examined.functions]
        out.document({"functions": listed, "findings": msgspec.to_builtins(found), "elsewhere": examined.elsewhere})
    else:
        _show(examined, found, out)
    return 1 if found else 0


class Listed(Struct, frozen=True):
    """A function as the list has it."""

    told: Description
    lost: tuple[str, ...]
    """The parts of its result that do not come back."""


class Examined(Struct, frozen=True):
    """An application, as it was found."""

    functions: list[Listed]
    findings: list[Finding]
    elsewhere: dict[str, int]
    """The modules of functions that came along and are not judged, and how many of them each has."""


def examine(names: Sequence[str]) -> Examined:
    """Import modules, and return the functions that are decorated there, and the findings about them.

    Raises:
        ConfigurationError: There is no such module.
        Exception: Any that a module raises when it is imported.
    """
    before = {one.plan for one in all_decorated()}
    modules = import_modules(names)
    reach = reach_of(modules)
    everything = [(one, one.describe()) for one in all_decorated()]
    mine = [Listed(told, _lost(one)) for one, told in everything if reach.has(one)]
    others = elsewhere(one for one, _ in everything if not reach.has(one) and one.plan not in before)
    judged = frozenset(one.told.function for one in mine)
    by_hand = named_by_hand(_read(modules, reach, [one for one, _ in everything]))
    found = findings_of(Application(everything, judged, by_hand))
    return Examined(mine, found if mine else [_nothing(modules, others)], others)


def _read(modules: Sequence[ModuleType], reach: Reach, everything: Sequence[Decorated]) -> list[ModuleType]:
    """Return the modules whose source counts: the named ones, and the modules of the functions that are judged."""
    names = {one.plan.function.__module__ for one in everything if reach.has(one)}
    return [*dict.fromkeys([*modules, *(sys.modules[name] for name in names if name in sys.modules)])]


def _nothing(modules: Sequence[ModuleType], others: Mapping[str, int]) -> Finding:
    """Return the finding that there is nothing to judge: a check that looks at nothing must not pass."""
    names, folders = " ".join(module.__name__ for module in modules[:3]), folders_left_out(modules)
    text = "neither is a function decorated in these modules, nor do they hold one by name"
    if others:
        text += f"; others came along, so name their modules: {_each(others)}"
    elif folders:
        text += f"; these folders have no __init__.py, so they were not looked into: {', '.join(folders)}"
    else:
        text += "; name the modules that decorate functions, or the package around them"
    return Finding("no-functions", names, getattr(modules[0], "__file__", None) or "", text)


def _lost(one: Decorated) -> tuple[str, ...]:
    """Return the parts that do not come back; a batch returns a mapping of such values."""
    return () if one.call is None else tuple(lost_of(one.call.function))


def _show(examined: Examined, found: Sequence[Finding], out: Output) -> None:
    functions = examined.functions
    for (store, prefix), told in itertools.groupby(functions, lambda one: (one.told.store, one.told.prefix)):
        out.say(f"{store or 'no cache'}{f', prefix {prefix!r}' if prefix else ''}", "advice")
        for one in told:
            out.say(f"{one.told.function} @{one.told.kind}", "key")
            out.say(f"    {'; '.join(_facts(one.told, one.lost))}")
    for finding in found:
        place = f" ({_short(finding.line)})" if finding.line else ""
        out.labelled("fault", finding.code, f"{finding.function}{place}")
        out.advise(finding.text)
    if examined.elsewhere and functions:
        out.say(f"not judged, since no name leads there: {_each(examined.elsewhere)}", "advice")
    out.say(f"{counted(len(functions), 'function')}, {counted(len(found), 'finding')}", "fault" if found else "ok")


def _each(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _facts(told: Description, lost: Sequence[str]) -> list[str]:
    """Return what there is to say about one function, each in a few words."""
    if told.kind == "invalidates":
        return [*(["keys " + " ".join(told.invalidates)] if told.invalidates else []), *_options(told)]
    back = f"does not come back ({', '.join(lost)})" if lost else "comes back"
    back = back if told.annotation else "plain JSON comes back"
    ttl = "ttl depends on the result" if told.ttl is None else f"ttl {told.ttl:g} s"
    return [f"key {told.key}", ttl, f"{told.annotation} {back}".strip(), *_options(told)]


def _options(told: Description) -> list[str]:
    """Return the options of a function that are worth a word."""
    options: dict[str, Any] = {
        "when": told.when,
        "jitter": told.jitter,
        "tags": ",".join([*told.tags, *(["True"] if told.own_tag else [])]),
        "near": told.near,
        "private": told.private,
        "stale_while_revalidate": told.stale_while_revalidate,
        "stale_if_error": told.stale_if_error,
    }
    return [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in options.items()
        if value
    ]


def _short(line: str) -> str:
    """Return a file, and its line if there is one, as seen from the folder in which the command runs."""
    name, colon, number = line.rpartition(":")
    path, here = Path(name if number.isdigit() else line), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}{colon}{number}" if number.isdigit() else str(shown)
