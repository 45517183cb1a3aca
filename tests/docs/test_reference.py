"""The reference is complete, and says what the code says: names, options, keys, settings, records, the wire format."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict
from uuid import UUID

import pytest

import cachekit
from cachekit import (
    Cache,
    CachedFunction,
    CachedManyFunction,
    RenderError,
    RollingWindow,
    SnapshotStore,
    cached_many,
    configure,
    entry,
    testing,
    urls,
)
from cachekit._flow.batch_plan import BatchPolicy
from cachekit._flow.policy import Policy
from cachekit._flow.write import Invalidation
from cachekit.codecs import Codec
from cachekit.config import DEFAULT_TIMEOUT
from cachekit.entry import lease_key
from cachekit.events import Uncached
from cachekit.keys import render
from cachekit.tags import tag_key
from cachekit.testing import FailingStore, FakeClock
from tests import ROOT
from tests.kit.servers import RedisServer

REFERENCE: Final = ROOT / "docs" / "reference"
API: Final = "\n".join(path.read_text() for path in sorted((REFERENCE / "api").glob("*.md")))
PACKAGE: Final = Path(cachekit.__file__).parent
SOURCE: Final = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))


def rows(page: str, heading: str, column: str) -> dict[str, list[str]]:
    """Return the rows of the first table behind ``heading`` with this first column: the other cells by the first."""
    text = (REFERENCE / page).read_text()
    behind = text[text.index(f"\n## {heading}\n") :]
    lines = behind[behind.index(f"\n| {column} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def defaults(function: Callable[..., object], without: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the parameters of ``function``, and the text of their defaults."""
    found = inspect.signature(function).parameters.values()
    return {one.name: shown(one.default) for one in found if one.name not in {"self", *without}}


def shown(default: object) -> str:
    if default is inspect.Parameter.empty:
        return "needed"
    return (
        "`(Exception,)`" if default == (Exception,) else f'`"{default}"`' if isinstance(default, str) else repr(default)
    )


# --- the API ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", ["cachekit", "cachekit.stores", "cachekit.testing", "cachekit.events", "cachekit.errors"]
)
def test_the_reference_has_every_public_name(module: str) -> None:
    if f"automodule:: {module}\n   :members:" in API:
        return
    found = importlib.import_module(module)
    # Errors are on a page for all of them.
    names = [name for name in found.__all__ if getattr(found.__dict__[name], "__module__", "") != "cachekit.errors"]
    assert [name for name in names if not re.search(rf"auto\w+:: {module}\.{name}\b\n", API)] == []


@pytest.mark.parametrize("kind", [Cache, CachedFunction, CachedManyFunction])
def test_the_reference_has_every_method_once(kind: type) -> None:
    bases = [base for base in kind.__mro__ if base.__module__.startswith("cachekit")]
    public = {name for base in bases for name in vars(base) if not name.startswith("_")} - {"switch"}
    listed = re.findall(rf"auto(?:method|attribute):: cachekit\.{kind.__name__}\.(\w+)\n", API)
    assert sorted(listed) == sorted(public)


def functions_of_the_api() -> list[str]:
    """Return the functions and methods that users call; those of the protocols of a store are for its author."""
    named = re.findall(r"auto(?:function|method):: cachekit\.([\w.]+)", API)
    for kind in (SnapshotStore, RollingWindow, FailingStore, FakeClock):
        home = kind.__module__.removeprefix("cachekit.")
        own = [name for name, found in vars(kind).items() if inspect.isfunction(found) and not name.startswith("_")]
        named += [f"{home}.{kind.__name__}.{name}" for name in own]
    return [*named, *(f"testing.{name}" for name in testing.__all__ if not isinstance(vars(testing)[name], type))]


@pytest.mark.parametrize("name", functions_of_the_api())
def test_each_function_of_the_api_has_an_example_and_says_what_its_parameters_are(name: str) -> None:
    function = pkgutil.resolve_name(f"cachekit.{name}")
    doc, signature = inspect.getdoc(function) or "", inspect.signature(function)
    if "; see `cachekit." in doc:
        return
    assert "Example" in doc or name.startswith("testing.FakeClock.")
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    taken = [one.name for one in signature.parameters.values() if one.kind not in variadic and one.name != "self"]
    # The options about stale values have a page, and all options are in one table.
    told = [one for one in taken if one not in table("cached") or name != "cached"]
    assert [one for one in told if not re.search(rf"``{one}\b|^ *{one}: ", doc, re.MULTILINE)] == []


# --- options ----------------------------------------------------------------------------------------


def table(heading: str) -> dict[str, str]:
    """Return the default of each option in a table."""
    found = rows("options.md", heading, "option").items()
    return {
        name.strip("`"): cells[0] if '"' in cells[0] else cells[0].replace("_", "").strip("`") for name, cells in found
    }


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("cached", {"key": "None"} | defaults(Policy)),
        ("cached_many", {"each": defaults(cached_many)["each"]} | defaults(BatchPolicy)),
        ("invalidates", defaults(Invalidation)),
        ("Cache", defaults(Cache) | {"timeout": repr(DEFAULT_TIMEOUT)}),
    ],
)
def test_the_tables_have_every_option_with_its_default(heading: str, expected: dict[str, str]) -> None:
    assert table(heading) == {name: text if '"' in text else text.strip("`") for name, text in expected.items()}


@pytest.mark.parametrize("name", ["Cache", "configure"])
def test_the_deadline_of_a_call_is_the_one_of_the_table(name: str) -> None:
    """A process of its own tells, since caches have a longer one in this process (tests/conftest.py)."""
    script = f"import cachekit, inspect; print(inspect.signature(cachekit.{name}).parameters['timeout'].default)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{table('Cache')['timeout']}\n"


def test_the_page_names_what_configure_takes() -> None:
    [sentence] = re.findall(r"`configure` takes (.+?) of these", (REFERENCE / "options.md").read_text())
    assert quoted(sentence) == [*inspect.signature(configure).parameters]


# --- keys -------------------------------------------------------------------------------------------


class Color(Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


VALUES: Final[dict[str, list[object]]] = {
    "`str`": ["a:b"],
    "`None`": [None],
    "`bool`": [True, False],
    "`int`": [42],
    "`float`": [0.5],
    "`Decimal`": [Decimal("1.50")],
    "`UUID`": [UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")],
    "`date`, `datetime`, `time`": [date(2026, 11, 22), datetime(2026, 11, 22, 10), time(10)],  # noqa: DTZ001 - as it is written
    "`Enum`": [Color.RED],
    "`bytes`": [b"\x00\xff"],
    "`list`, `tuple`": [["a", "b"], ("a", "b")],
    "`set`, `frozenset`": [{"a", "b"}, frozenset("ab")],
    "`dict`": [{"k": "v"}],
    "a frozen dataclass, `NamedTuple`, frozen pydantic model": [Point(1, 2)],
}


def test_each_form_of_a_value_is_the_one_on_the_page() -> None:
    found = rows("keys.md", "Forms of values", "a value")
    assert {*found} == {*VALUES}
    for kind, values in VALUES.items():
        examples = quoted(found[kind][1].rpartition("→")[2])
        here = [render(value).replace(f"{__name__}.", "shop.") for value in values]
        assert examples == here, kind


def test_an_object_without_a_text_form_has_none() -> None:
    with pytest.raises(RenderError):
        render(object())


# --- settings ---------------------------------------------------------------------------------------


def test_the_page_has_every_option_of_a_url() -> None:
    found = {name for cell in rows("settings.md", "URLs", "option") for name in quoted(cell)}
    assert found == {name for names in urls._OPTIONS.values() for name in names}


@pytest.mark.parametrize("url", [cell for row in rows("settings.md", "URLs", "URL") for cell in quoted(row)])
def test_each_url_of_the_page_can_be_read(url: str) -> None:
    assert urls.parse(url.replace("://…", "://host/service" if "sentinel" in url else "://host"))


def test_the_page_has_every_variable_of_the_environment() -> None:
    named = {name for cell in rows("settings.md", "The environment", "variable") for name in quoted(cell)}
    read = {
        name for name in re.findall(r'"([A-Z_]+)"', SOURCE) if name.startswith(("CACHEKIT_", "REDIS_", "PROMETHEUS_"))
    }
    assert named == read


# --- the log ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        text
        for heading in ("The store", "A function", "Code")
        for cell in rows("log.md", heading, "the record has")
        for text in quoted(cell)
        if "children" not in text
    ],
)
def test_each_record_of_the_page_is_written_somewhere(text: str) -> None:
    # A text is put together from a name, a few words, and a reason.
    code = re.sub(r'"\s*\n\s*f?"', "", SOURCE)
    parts = [part for part in re.split(r": |:$", text) if part]
    assert [part for part in parts if part.removeprefix("the cache ").removeprefix("a key ") not in code] == []


def messages() -> dict[str, set[str]]:
    """Return the texts that the code gives the log, and the reasons that it gives the event of a step skipped."""
    found: dict[str, set[str]] = {"texts": set(), "reasons": set()}
    for tree in (ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")):
        for verb, texts in calls_of(tree):
            if verb in {"skipped", "incident", "Uncached"} and len(texts) > 1:
                found["reasons"] |= texts[1]
            told = texts[0] if verb in {"warning", "info"} else texts[2] if verb in TELL and len(texts) > 2 else set()
            start = "is not cached: " if verb == "skipped" else ""
            found["texts"] |= {start + text for text in told if text.strip("%s* ")}
    return found


TELL: Final = {"skipped", "incident", "log"}
"""The methods of a reporter: their third argument is for the log."""


def calls_of(tree: ast.AST) -> Iterator[tuple[str, list[set[str]]]]:
    """Yield the name of each function that is called, and for each argument the texts that it may be."""
    named: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and (text := literal(node.value)):
                    named.setdefault(target.id, set()).add(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            yield name, [named.get(one.id, set()) if isinstance(one, ast.Name) else {literal(one)} for one in node.args]


def literal(node: ast.AST) -> str:
    """Return the text of an argument, a ``*`` in place of what is not known before the call; empty if nothing is."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) or "*" for part in node.values)
    return ""


def test_each_text_of_a_record_is_on_the_page() -> None:
    rows_of = [rows("log.md", heading, "the record has") for heading in ("The store", "A function", "Code")]
    told = [
        text.removeprefix("the cache ").removeprefix("a key ") for one in rows_of for row in one for text in quoted(row)
    ]
    # What was found stands in these, and there is a row for each of the ways to say it.
    found = messages()["texts"] - {"* is not cached: *", "%s, so only results that are plain JSON are"}
    assert len(found) > 25
    assert [text for text in sorted(found) if not any(one.split(" …")[0] in text for one in told)] == []


def test_every_reason_of_a_step_that_was_skipped_is_one_of_the_event() -> None:
    told = re.findall(r'- ``"([a-z]+)"``:', Uncached.__doc__ or "")
    assert messages()["reasons"] == {*told}


# --- the wire format --------------------------------------------------------------------------------


def test_the_page_has_every_member_of_the_second_line() -> None:
    described = re.findall(r"^``(\w)``  ", entry.__doc__ or "", re.MULTILINE)
    assert [name.strip("`") for name in rows("wire.md", "Values", "member")] == described


async def test_names_in_redis_are_those_of_the_page() -> None:
    names = [cells[0] for cells in rows("wire.md", "Names", "what").values()]
    assert names[1] == "`{<prefix>profile:42}:lease` and the byte `FF`"
    assert lease_key("<prefix>profile:42") == b"{<prefix>profile:42}:lease\xff"
    assert names[2] == f"`<prefix>{tag_key('team:7')}`"


async def test_a_lease_a_fence_and_a_tag_hold_what_the_page_says(redis_server: RedisServer) -> None:
    """A lease holds a token of 24 hexadecimal digits, a window's fence one of the same form, a tag 16 characters."""
    held: dict[str, bytes] = {}

    async with Cache(redis_server.url, prefix="app:", timeout=5) as cache:

        @cache.cached(key="product:<sku>", ttl=60, tags=["prices"])
        async def product(sku: str) -> int:
            held["lease"] = redis_server.cli("GET", lease_key("app:product:tea"))
            held["tag"] = redis_server.cli("GET", f"app:{tag_key('prices')}")
            return 3

        await product("tea")
        await RollingWindow(cache, "clicks:42", limit=2, ttl=60).push({"page": "home"})
        held["fence"] = redis_server.cli("GET", lease_key("app:clicks:42"))
        days = redis_server.cli("PTTL", f"app:{tag_key('prices')}") / 86_400_000
    assert re.fullmatch(rb"[0-9a-f]{24}", held["lease"])
    assert re.fullmatch(rb"[0-9a-f]{24}", held["fence"])
    assert len(held["tag"]) == 16
    assert 9.9 < days <= 10


class Price(TypedDict):
    cents: int


FORMS: Final[dict[str, list[tuple[Any, object, bytes]]]] = {
    "an object": [(Price, Price(cents=3), b'{"cents":3}'), (dict[str, int], {"a": 1}, b'{"a":1}')],
    "an array": [(set[int], {1}, b"[1]"), (tuple[int, str], (1, "a"), b'[1,"a"]'), (Point, Point(1, 2), b"[1,2]")],
    "themselves": [(str | None, None, b"null"), (float, 0.5, b"0.5"), (bool, True, b"true")],
    "ISO 8601 text": [
        (datetime, datetime(2026, 1, 1, tzinfo=UTC), b'"2026-01-01T00:00:00+00:00"'),
        (date, date(2026, 1, 1), b'"2026-01-01"'),
        (time, time(1, 2), b'"01:02:00"'),
        (timedelta, timedelta(seconds=3), b'"PT3S"'),
    ],
    "text": [(Decimal, Decimal("1.50"), b'"1.50"'), (UUID, UUID(int=1), b'"00000000-0000-0000-0000-000000000001"')],
    "its value": [(Color, Color.RED, b"1")],
    "base64 text": [(bytes, b"\0", b'"AA=="')],
}


def test_the_json_of_each_type_is_the_one_on_the_page() -> None:
    assert [cells[0] for cells in rows("wire.md", "JSON of Python types", "Python").values()] == [*FORMS]
    for kind, value, text in (one for form in FORMS.values() for one in form):
        assert Codec(kind, "a test").encode(value, 1000) == text
