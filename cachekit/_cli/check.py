"""``cachekit check``: what an application has decorated, and the mistakes that can be seen without calling it."""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from cachekit._cli.annotations import lost_of
from cachekit._cli.findings import CODES, Application, Finding, findings_of, ignored
from cachekit._cli.keys import counted
from cachekit._cli.modules import import_modules, named_by_hand
from cachekit._cli.output import Output
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
    functions, found = examine(options.modules)
    found = [one for one in found if not ignored(one, options.ignore)]
    if out.as_json:
        listed = [{**msgspec.to_builtins(one.told), "lost": [*one.lost]} for one in functions]
        out.document({"functions": listed, "findings": msgspec.to_builtins(found)})
    else:
        _show(functions, found, out)
    return 1 if found else 0


class Listed(Struct, frozen=True):
    """A function as the list has it."""

    told: Description
    lost: tuple[str, ...]
    """The parts of its result that do not come back."""


def examine(names: Sequence[str]) -> tuple[list[Listed], list[Finding]]:
    """Import modules, and return the functions that are decorated there, and the findings about them.

    Raises:
        ConfigurationError: There is no such module.
        Exception: Any that a module raises when it is imported.
    """
    modules = import_modules(names)
    inside = {module.__name__ for module in modules}
    everything = [(one, one.describe()) for one in all_decorated()]
    mine = [Listed(told, _lost(one)) for one, told in everything if one.plan.function.__module__ in inside]
    judged = frozenset(one.told.function for one in mine)
    return mine, findings_of(Application(everything, judged, named_by_hand(modules)))


def _lost(one: Decorated) -> tuple[str, ...]:
    """Return the parts that do not come back; a batch returns a mapping of such values."""
    return () if one.call is None else tuple(lost_of(one.call.function))


def _show(functions: Sequence[Listed], found: Sequence[Finding], out: Output) -> None:
    for (store, prefix), told in itertools.groupby(functions, lambda one: (one.told.store, one.told.prefix)):
        out.say(f"{store or 'no cache'}{f', prefix {prefix!r}' if prefix else ''}", "advice")
        for one in told:
            out.say(f"{one.told.function} @{one.told.kind}", "key")
            out.say(f"    {'; '.join(_facts(one.told, one.lost))}")
    for finding in found:
        out.labelled("fault", finding.code, f"{finding.function} ({_short(finding.line)})")
        out.advise(finding.text)
    out.say(f"{counted(len(functions), 'function')}, {counted(len(found), 'finding')}", "fault" if found else "ok")


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
    """Return file and line, as seen from the folder in which the command runs."""
    path, _, number = line.rpartition(":")
    here = Path.cwd()
    return f"{Path(path).relative_to(here) if Path(path).is_relative_to(here) else path}:{number}"
