"""`cachekit check` finds mistakes that are there, and none where there is none."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr
from typing_extensions import TypeAliasType

from cachekit import Cache, CachekitError, cached
from cachekit._cli import main
from cachekit._cli.annotations import has_form, has_no_form, hints_of, lost_parts
from cachekit._cli.check import examine
from cachekit._cli.findings import Finding
from cachekit._cli.modules import named_by_hand
from cachekit._cli.overlap import common_key
from cachekit.describing import describe
from cachekit.errors import DecorationError
from cachekit.keys import render
from tests import ROOT
from tests.kit.sizes import sized

PLANTED = "tests.cli.planted"

MISTAKES = {
    ("same-key", "name_of"),
    ("same-key", "post"),
    ("no-text", "front_page"),
    ("no-text", "rows"),
    ("default-key", "report"),
    ("matches-nothing", "rename"),
    ("unused-tag", "member"),
    ("unknown-tag", "rename_team"),
    ("annotation", "basket"),
    ("not-in-key", "greeting"),
}


def found_in(*names: str) -> list[tuple[str, str]]:
    return [(one.code, one.function.rpartition(".")[2]) for one in examine(names).findings]


# --- the application with ten mistakes ------------------------------------------------------------------------


def test_all_ten_planted_mistakes_are_found_and_nothing_else() -> None:
    found = found_in(PLANTED)
    assert {*found} == MISTAKES
    assert len(found) == len(MISTAKES) == 10


def test_each_finding_says_where_it_is_and_what_to_write() -> None:
    found = examine([PLANTED]).findings
    texts = {one.code: one.text for one in found}
    assert all(re.search(r"tests/cli/planted\.py:\d+$", one.line) for one in found)
    assert "can both be 'post:newest'" in next(one.text for one in found if one.function.endswith(".post"))
    assert 'key="front_page:<request.url.path>"' in next(one.text for one in found if "front_page" in one.function)
    assert "'user:<user_id>' is the nearest" in texts["matches-nothing"]
    assert ".session: Session" in texts["annotation"]
    assert "write <language> into the key" in texts["not-in-key"]


def test_the_exit_status_is_for_ci(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", PLANTED, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (len(told["findings"]), len(told["functions"])) == (10, 13)
    codes = {code for code, _ in MISTAKES}
    assert main(["check", PLANTED, *[f"--ignore={code}" for code in codes]]) == 0
    assert "13 functions, 0 findings" in capsys.readouterr().out
    assert main(["check", PLANTED, f"--ignore=not-in-key:{PLANTED}.greeting"]) == 1
    assert "9 findings" in capsys.readouterr().out
    assert main(["check", PLANTED, "--ignore=nonsense"]) == 2


def test_the_list_says_what_is_known_about_each_function(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", PLANTED])
    told = capsys.readouterr().out
    assert f"{PLANTED}.member" in told
    assert "key member:<member_id>; ttl 600 s; str comes back; tags=team:<team_id>" in told
    assert "Basket does not come back (.session: Session)" in told
    assert "keys users:<user_id>" in told


@pytest.mark.parametrize(
    "modules",
    [
        ["examples.error_profile", "examples.passkey_challenge", "examples.adaptive_loop", "examples.slow_source"],
        ["examples.writing_coach"],
        ["examples.observability.shop"],
    ],
    ids=["the small ones", "the writing coach", "the dashboard"],
)
def test_nothing_is_found_in_the_examples(modules: Sequence[str]) -> None:
    # Each application is examined in a process of its own: its default cache is no other one's.
    command = [sys.executable, "-m", "cachekit", "check", "--json", *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    assert (done.returncode, told["findings"]) == (0, []), done.stderr
    assert len(told["functions"]) >= 3


def test_a_module_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tests.cli.no_such_module"]) == 2
    assert "there is no module 'tests.cli.no_such_module' here; name it as" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["tests.cli.planted.py", "tests/cli/planted.py", "tests.cli.planted:cache"])
def test_the_name_of_a_module_is_told_where_a_file_or_an_object_is_named(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", written]) == 2
    assert f"there is no module {written!r} here; write tests.cli.planted\n" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["sumary", "summarry", "smumary", "summaries"])
def test_the_template_that_was_meant_is_named_beside_one_with_a_typing_error(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"""
from cachekit import Cache
cache = Cache("memory://")
@cache.cached(key="stars:<book_id>", ttl=600)
async def stars(book_id: int) -> int: ...
@cache.cached(key="summary:<book_id>", ttl=600)
async def summary(book_id: int) -> str: ...
@cache.invalidates("{typed}:<book_id>")
async def write(book_id: int) -> None: ...
"""
    module = f"typing_error_{typed}"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", module]) == 1
    told = capsys.readouterr().out
    assert "'summary:<book_id>' is the nearest" in told
    assert told.endswith("3 functions, 1 finding\n")


def test_a_comment_in_the_source_silences_a_finding(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from cachekit import Cache
cache = Cache("memory://")
@cache.cached(key="greeting:<name>", ttl=600)
async def loud(name: str, language: str) -> str: ...
@cache.cached(key="farewell:<name>", ttl=600)
async def silent(name: str, language: str) -> str:
    # All languages look alike here. cachekit: ignore not-in-key
    ...
"""
    (tmp_path / "silenced.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert found_in("silenced") == [("not-in-key", "loud")]


def test_what_code_names_by_hand_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from cachekit import Cache, RollingWindow
cache = Cache("memory://")
@cache.cached(key="page:<number>", ttl=600, tags=["pages", "book:<book>", True])
async def page(number: int, book: int) -> str: ...
@cache.invalidates("greeting:<name>", "clicks:<user>", "snapshots:<user>", "settings")
async def write(name: str, user: int) -> None: ...
async def by_hand(name: str, user: int, book: int) -> None:
    await cache.set(f"greeting:{name}", 1, ttl=60)
    await cache.get_many(["settings", "others"])
    await RollingWindow(cache, f"clicks:{user}", 5, 60).push({})
    await cache.invalidate_tags("pages", f"book:{book}")
    await page.invalidate_all()
"""
    (tmp_path / "by_hand.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert found_in("by_hand") == []


def test_a_tag_of_the_function_itself_that_nothing_invalidates_is_found(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
from cachekit import Cache
cache = Cache("memory://")
@cache.cached(key="page:<number>", ttl=600, tags=[True])
async def page(number: int) -> str: ...
"""
    (tmp_path / "own_tag.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert found_in("own_tag") == [("unused-tag", "page")]


def test_the_keys_of_a_dict_are_keys_by_hand(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from cachekit import Cache
cache = Cache("memory://")
@cache.invalidates("greeting:<name>", "settings")
async def write(name: str) -> None: ...
async def by_hand(name: str, more: dict[str, int]) -> None:
    await cache.set_many({f"greeting:{name}": 1, "settings": 2, **more}, ttl=60)
"""
    (tmp_path / "by_dict.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert found_in("by_dict") == []


TAGGED = """@cache.cached(key="page:<number>", ttl=600, tags=["book:<book>"])
async def page(number: int, book: int) -> str: ..."""
INVALIDATING = """@cache.invalidates("greeting:<name>")
async def write(name: str) -> None: ..."""


@pytest.mark.parametrize(
    ("decorated", "line"),
    [
        (TAGGED, 'cache.invalidate_tags(*[f"book:{book}" for book in several])'),
        (TAGGED, 'cache.invalidate_tags(*(f"book:{book}" for book in several))'),
        (TAGGED, 'cache.invalidate_tags("book:" + str(several[0]))'),
        (TAGGED, 'cache.invalidate_tags(*["book:1", "book:2"])'),
        (TAGGED, "cache.invalidate_tags(*map(str, several))"),
        (INVALIDATING, 'cache.delete_many([f"greeting:{name}" for name in several])'),
        (INVALIDATING, 'cache.erase(*{f"greeting:{name}" for name in several})'),
        (INVALIDATING, 'cache.set_many({f"greeting:{name}": 1 for name in several}, ttl=60)'),
        (INVALIDATING, 'cache.get("greeting:" + several[0])'),
    ],
)
def test_tags_and_keys_that_are_made_for_each_element_count(
    decorated: str, line: str, write_files: Callable[[Mapping[str, str]], str]
) -> None:
    source = f"""
from cachekit import Cache
cache = Cache("memory://")
{decorated}
async def by_hand(several: list[str]) -> None:
    await {line}
"""
    assert found_in(write_files({"APP.py": source})) == []


def test_a_parameter_that_the_background_is_given_is_no_value(
    write_files: Callable[[Mapping[str, str]], str],
) -> None:
    source = """
from cachekit import Cache
cache = Cache("memory://")
async def address() -> str: ...
@cache.cached(key="team:<team>", ttl=600, stale_while_revalidate="1m", background={"database": address})
async def team(team: int, database: str) -> str: ...
"""
    assert found_in(write_files({"APP.py": source})) == []


def test_a_module_without_source_names_nothing_by_hand() -> None:
    assert not named_by_hand([sys]).tags


def test_a_package_that_a_module_lacks_is_not_taken_for_the_module(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_installed"):
        main(["check", "lacking"])


def test_a_module_may_run_an_event_loop_when_it_is_imported(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "import asyncio\nasync def main(): ...\nasyncio.run(main())\n"
    (tmp_path / "running.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "running", "--ignore=no-functions"]) == 0
    assert "0 functions, 0 findings" in capsys.readouterr().out


# --- an application of several modules --------------------------------------------------------------------------

_DECORATES = """
from cachekit import Cache
cache = Cache("memory://")
@cache.cached(key="greeting:<name>", ttl=600)
async def greeting(name: str, language: str) -> str: ...
"""

_DECORATES_TWICE = f"""{_DECORATES}
import functools
@functools.wraps(greeting)
async def timed(*args): ...
"""

_HAS_METHODS = """
from cachekit import Cache
cache = Cache("memory://")
class Greetings:
    @cache.cached(key="greeting:<name>", ttl=600)
    async def greeting(self, name: str, language: str) -> str: ...
class Polite(Greetings): ...
polite = Polite()
"""

_NUMBERS = itertools.count()


@pytest.fixture
def write_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], str]]:
    """A function that writes modules, each under its path, and returns what APP stands for: no two tests share it.

    They are forgotten afterwards.
    """
    monkeypatch.syspath_prepend(tmp_path)
    before = {*sys.modules}

    def write(files: Mapping[str, str]) -> str:
        app = f"application_{next(_NUMBERS)}"
        for name, source in files.items():
            path = tmp_path / name.replace("APP", app)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source.replace("APP", app))
        return app

    yield write
    for name in {*sys.modules} - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "line",
    [
        "from APP.reads import greeting",
        "from APP.reads import greeting as hello",
        "import APP.reads",
        "from APP import reads",
        "from APP.reads import timed",
    ],
)
@pytest.mark.parametrize("holder", ["APP_main.py", "APP/main.py"])
def test_a_function_that_a_module_holds_by_name_is_judged(
    holder: str, line: str, write_files: Callable[[Mapping[str, str]], str]
) -> None:
    app = write_files({"APP/__init__.py": "", "APP/reads.py": _DECORATES_TWICE, holder: line})
    name = holder.removesuffix(".py").replace("/", ".")
    assert found_in(name.replace("APP", app)) == [("not-in-key", "greeting")]


@pytest.mark.parametrize("name", ["Greetings", "Polite", "polite"])
def test_the_methods_of_a_class_or_an_instance_that_a_module_holds_are_judged(
    name: str, write_files: Callable[[Mapping[str, str]], str]
) -> None:
    app = write_files({"APP_reads.py": _HAS_METHODS, "APP.py": f"from APP_reads import {name}"})
    assert found_in(app) == [("not-in-key", "greeting")]


@pytest.mark.parametrize("init", ["", "from . import main"])
def test_a_package_is_judged_with_all_that_is_inside(
    init: str, write_files: Callable[[Mapping[str, str]], str]
) -> None:
    # A folder without an __init__.py is a package as well, as soon as a module is imported from it.
    main_py = "from APP.deep.reads import cache"
    app = write_files({"APP/__init__.py": init, "APP/main.py": main_py, "APP/deep/reads.py": _DECORATES})
    assert found_in(app) == [("not-in-key", "greeting")]


def test_a_name_inside_a_folder_of_the_package_leads_to_a_function(
    write_files: Callable[[Mapping[str, str]], str],
) -> None:
    files = {"APP/__init__.py": "import APP.deep.main", "APP/deep/main.py": "from APP_reads import greeting"}
    app = write_files({**files, "APP_reads.py": _DECORATES})
    assert found_in(app) == [("not-in-key", "greeting")]


def test_a_value_that_stands_for_another_one_is_not_asked(write_files: Callable[[Mapping[str, str]], str]) -> None:
    proxy = """
class Proxy:
    def __getattribute__(self, name): raise RuntimeError("outside of a request")
request = Proxy()
"""
    app = write_files({"APP.py": _DECORATES + proxy})
    assert found_in(app) == [("not-in-key", "greeting")]


def test_functions_that_came_along_are_named_and_not_judged(
    write_files: Callable[[Mapping[str, str]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    own = 'from APP_reads import cache\n@cache.cached(key="n:<n>", ttl=60)\nasync def f(n: int) -> int: ...\n'
    app = write_files({"APP_reads.py": _DECORATES, "APP.py": own})
    assert main(["check", app]) == 0
    told = capsys.readouterr().out
    assert f"not judged, since no name leads there: {app}_reads (1)\n1 function, 0 findings" in told


def test_the_modules_that_came_along_are_in_the_document(
    write_files: Callable[[Mapping[str, str]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    app = write_files({"APP_reads.py": _DECORATES, "APP.py": "from APP_reads import cache"})
    assert main(["check", app, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["elsewhere"] == {f"{app}_reads": 1}


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ({"APP.py": ""}, "name the modules that decorate functions, or the package around them"),
        (
            {"APP.py": "from APP_reads import cache", "APP_reads.py": _DECORATES},
            "others came along, so name their modules: APP_reads (1)",
        ),
        (
            {"APP/__init__.py": "", "APP/deep/reads.py": _DECORATES, "APP/data/a.txt": ""},
            "these folders have no __init__.py, so they were not looked into: APP.deep",
        ),
    ],
    ids=["nothing", "elsewhere", "a folder"],
)
def test_a_check_that_finds_no_function_fails_with_advice(
    files: Mapping[str, str],
    advice: str,
    write_files: Callable[[Mapping[str, str]], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = write_files(files)
    assert main(["check", app]) == 1
    told = capsys.readouterr().out
    assert "no-functions" in told
    assert told.splitlines()[1].endswith(advice.replace("APP", app))


def test_a_result_without_an_annotation_is_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from cachekit import Cache
cache, other = Cache("memory://"), Cache("memory://")
@cache.cached(key="a:<x>", ttl=60)
async def untold(x: int): ...
@cache.cached(key="b:<x>", ttl=60)
async def unknown(x: int) -> "Missing": ...
@other.cached(key="a:<x>", ttl=60)
async def elsewhere(x: int) -> list[int]: ...
"""
    (tmp_path / "untold.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert found_in("untold") == [("no-annotation", "untold"), ("annotation", "unknown")]


# --- templates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ("user:<id>", "user:<name>", "user:1"),
        ("user:<id>", "user:me", "user:me"),
        ("<user>:profile", "user:<id>", "user:profile"),
        ("a<x>c", "ab<y>", "abc"),
        ("user:<id>", "user:<id>:mail", None),
        ("user:<id>", "users:<id>", None),
        ("user:<id>", "user:a b", None),
        ("{user:<id>}:x", "{user:<id>}:y", None),
        ("x", "x", "x"),
    ],
)
def test_two_templates_have_a_common_key_or_none(one: str, other: str, key: str | None) -> None:
    assert common_key(one, other) == common_key(other, one) == key


PARTS = st.lists(st.sampled_from(["a", "b:", ":", "<x>", "<y>", "a:b"]), max_size=5).map("".join)
VALUES = st.one_of(st.text("ab:", max_size=3), st.none(), st.integers(0, 3), st.lists(st.text("a", max_size=1)))


@settings(max_examples=sized(60, 2000))
@given(PARTS, PARTS, st.tuples(VALUES, VALUES, VALUES, VALUES))
def test_two_templates_that_render_one_key_have_a_common_key(
    one: str, other: str, values: tuple[Any, Any, Any, Any]
) -> None:
    def rendered(template: str, x: object, y: object) -> str:
        return template.replace("<x>", render(x)).replace("<y>", render(y))

    if rendered(one, *values[:2]) == rendered(other, *values[2:]):
        assert common_key(one, other) is not None


# --- annotations ----------------------------------------------------------------------------------------------


class Opaque: ...


class Color(Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    opaque: Opaque


class Movie(TypedDict):
    name: str
    reel: list[Opaque]


class Account(BaseModel):
    name: str
    password: SecretStr


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    x: int


@dataclass
class Node:
    value: int
    children: list[Node]
    lock: Opaque | None = None


UserId = NewType("UserId", int)
Opaques = NewType("Opaques", list[Opaque])
Secrets = TypeAliasType("Secrets", list[Opaque])


@pytest.mark.parametrize(
    ("annotation", "lost"),
    [
        (int, []),
        (dict[str, list[Color]], []),
        (Any, []),
        (object, ["all of it: object"]),
        (Frozen | None, []),
        (Literal["a", "b"], []),
        (tuple[int, ...], []),
        (Annotated[list[int], "a note"], []),
        (UserId, []),
        (Opaques, ["[…]: Opaque"]),
        (list[Secrets], ["[…][…]: Opaque"]),
        (Opaque, ["all of it: Opaque"]),
        (list[Opaque], ["[…]: Opaque"]),
        (tuple[int, Opaque], ["[1]: Opaque"]),
        (dict[str, Opaque | None], ["{…}: Opaque"]),
        (Mapping[str, Point], ["{…}.opaque: Opaque"]),
        (Movie, [".reel[…]: Opaque"]),
        (Node, [".lock: Opaque"]),
        (Account, [".password: SecretStr"]),
    ],
)
def test_the_parts_that_do_not_come_back_are_named(annotation: Any, lost: list[str]) -> None:
    assert lost_parts(annotation) == lost


@pytest.mark.parametrize(
    ("name", "annotation", "has_none"),
    [
        ("x", int, False),
        ("x", Sequence[int], False),
        ("x", Literal["a"], False),
        ("x", Frozen, False),
        ("x", Point, False),
        ("x", Any, False),
        ("session", None, True),
        ("x", Opaque, True),
        ("x", Opaque | None, True),
        ("x", Annotated[Opaque, "Depends()"], True),
        ("x", list[Opaque], True),
        ("x", Node, True),
        ("x", UserId, False),
        ("x", Opaques, True),
        ("x", Secrets, True),
        ("x", TypeVar("T"), False),
        ("x", object, False),
    ],
)
def test_an_argument_without_a_text_is_known_by_its_type_or_its_name(
    name: str, annotation: Any, has_none: bool
) -> None:
    assert has_no_form(name, annotation) is has_none


def test_annotations_are_read_one_by_one_where_one_cannot_be_evaluated() -> None:
    async def mixed(x: int, request: Missing, y: Request) -> list[int]: ...  # type: ignore[name-defined] # noqa: F821

    hints = hints_of(mixed)
    assert (hints["x"], hints["return"]) == (int, list[int])
    assert has_no_form("y", hints["y"])
    assert not has_no_form("other", hints["request"])


def test_a_plain_value_may_change_a_result_and_a_service_does_not() -> None:
    assert all(map(has_form, (int, str | None, list[str], Literal["a"], Color)))
    assert not any(map(has_form, (Opaque, Any, Node, threading.Thread)))


# --- descriptions ---------------------------------------------------------------------------------------------


def test_a_description_is_found_under_other_decorators_and_of_bound_methods() -> None:
    cache = Cache("memory://", prefix="shop:")

    class Shop:
        @cache.cached(key="price:<sku>", ttl="1h", jitter=0.1, when=bool, tags=["prices", True], stale_if_error="1d")
        async def price(self, sku: str) -> int: ...

        @price.puts
        async def reprice(self, sku: str) -> int: ...

    told = describe(Shop().price)
    assert (told.kind, told.key, told.ttl, told.jitter, told.when) == ("cached", "price:<sku>", 3600.0, 0.1, "bool")
    assert (told.tags, told.own_tag, told.stale_if_error, told.prefix) == (("prices",), True, 86_400.0, "shop:")
    assert describe(Shop.reprice).kind == "puts"
    with pytest.raises(DecorationError, match="is not decorated"):
        describe(print)


def test_a_default_key_is_described_in_the_form_of_a_template() -> None:
    assert describe(of_module).key == "tests.cli.test_check.of_module:x=<x>:y=<y>"


@cached(ttl=60)
async def of_module(x: int, y: int = 2) -> int:
    return x + y


def test_a_private_function_without_keys_is_described_without_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHEKIT_KEYS", raising=False)

    @cached(key="secret:<x>", ttl=60, private=True)
    async def secret(x: int) -> int: ...

    assert (describe(secret).store, describe(secret).private) == ("", True)


def test_a_finding_is_a_value_and_errors_are_of_the_tree() -> None:
    assert Finding("a", "b", "c", "d") == Finding("a", "b", "c", "d")
    assert issubclass(DecorationError, CachekitError)
