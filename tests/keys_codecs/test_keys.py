"""Keys never collide: every template, every value, every signature."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import importlib.machinery
import inspect
import itertools
import re
import runpy
import string
import sys
import types
import typing
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachekit.errors import DecorationError, RenderError
from cachekit.keys import (
    LONGEST_KEY,
    compile_default_key,
    compile_fit,
    compile_key,
    compile_lines,
    escape,
    fitting_counts,
    render,
    render_typed,
    shorten,
)
from tests.kit.ids import shown
from tests.kit.sizes import sized

few = settings(max_examples=sized(30, 100))
many = settings(max_examples=sized(80, 300))


class Colour(enum.Enum):
    RED = "red"
    BLUE = 1


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    ADMIN = "admin"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


# Characters that mean something to keys, templates, patterns, f-strings or UTF-8, each often enough to meet another.
MEANINGFUL = ":%{}<>*?[]\\(),='\"|.-_ \t\n\x00\x1f\x7f\x85\xa0\u200b\u2028\u3000\ufeff\ud800\udfff" + "abdflnstx01AF"
text = st.text(st.sampled_from(MEANINGFUL), max_size=6) | st.text(max_size=6)
any_text = text | st.sampled_from(["None", "%none", "%true", "True", "%l(a%,b%)", "a:b", "%3A", "%.Colour.RED", "%x00"])


class Berlin(dt.tzinfo):
    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta | None:
        return moment and dt.timedelta(hours=2 if 3 < moment.month < 11 else 1)


zones = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3)), Berlin()])
enums = st.sampled_from([*Colour, *Level, *Kind, *Right, Right.READ | Right.WRITE, Right(0)])
atoms = (
    any_text
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary(max_size=3)
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=zones)
    | st.times(timezones=st.sampled_from([None, dt.UTC]))
    | enums
)
hashables = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(hashables, max_size=3)
        | st.frozensets(hashables, max_size=3)
        | st.dictionaries(hashables, inner, max_size=3)
    ),
    max_leaves=6,
)


def meaning(value: object, *, typed: bool) -> object:
    """Return the meaning of a value, made without rendering: equal for two values exactly when their keys may be equal.

    In a template a number, a date and the like are the text that people write for them.
    """
    kind = type(value)
    if isinstance(value, str):
        return ("text", str.__str__(value))
    if value is None or isinstance(value, bool):
        return ("word", str(value))
    if isinstance(value, int):
        return ("int" if typed else "text", str(int(value)))
    if isinstance(value, enum.Enum):
        return ("enum", kind, value.name, value.value)
    if isinstance(value, bytes):
        return ("bytes", value)
    if isinstance(value, (list, tuple)):
        return (kind, *(meaning(item, typed=typed) for item in value))
    if isinstance(value, (set, frozenset)):
        return (kind, counted(meaning(item, typed=typed) for item in value))
    if isinstance(value, dict):
        pairs = ((meaning(key, typed=typed), meaning(item, typed=typed)) for key, item in value.items())
        return (kind, counted(pairs))
    written = value.isoformat() if isinstance(value, (dt.date, dt.time)) else str(value)
    return ((dt.date if isinstance(value, dt.date) else kind) if typed else "text", written)


def counted(items: Any) -> frozenset[tuple[object, int]]:
    # In a template {1, "1"} is a set of two items that are written alike.
    return frozenset(collections.Counter(items).items())


def signature_of(source: str) -> inspect.Signature:
    namespace: dict[str, Any] = {}
    exec(f"async def f({source}): ...", namespace)
    return inspect.signature(namespace["f"])


def compiled(template: str, parameters: str, *, with_result: bool = False) -> Callable[..., str]:
    return compile_key(template, signature_of(parameters), with_result=with_result)


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("a:b", "a%3Ab"),
        ("", ""),
        ("ü", "ü"),
        (":%{}<>*?[]\\", "%3A%25%7B%7D%3C%3E%2A%3F%5B%5D%5C"),
        (" \t\n\x00\x7f", "%20%09%0A%00%7F"),
        ("\u00a0\u2028\u200b", "%C2%A0%E2%80%A8%E2%80%8B"),
        ("\ud800", "%ED%A0%80"),
        (None, "%none"),
        (True, "%true"),
        (False, "%false"),
        (42, "42"),
        (-1, "-1"),
        (0.5, "0.5"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (Decimal("1.50"), "1.50"),
        (UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        (dt.date(2026, 11, 22), "2026-11-22"),
        (dt.datetime(2026, 11, 22, 10), "2026-11-22T10%3A00%3A00"),  # noqa: DTZ001 - naive ones have keys as well
        (dt.datetime(2026, 11, 22, 10, tzinfo=dt.UTC), "2026-11-22T10%3A00%3A00+00%3A00"),
        (dt.time(10), "10%3A00%3A00"),
        (Colour.RED, "%.tests.keys_codecs.test_keys.Colour.RED"),
        (Level.LOW, "1"),
        (Kind.ADMIN, "admin"),
        (Right.READ | Right.WRITE, "%.tests.keys_codecs.test_keys.Right.READ|WRITE"),
        (Right(0), "%.tests.keys_codecs.test_keys.Right%=0"),
        (b"\x00\xff", "%x00ff"),
        (["a", "b"], "%l(a%,b%)"),
        (("a", "b"), "%t(a%,b%)"),
        ({"b", "a"}, "%s(a%,b%)"),
        (frozenset({"b", "a"}), "%f(a%,b%)"),
        ({"k": "v", "a": None}, "%d(a%=%none%,k%=v%)"),
        ([], "%l%)"),
        ([""], "%l(%)"),
        ((), "%t%)"),
        ({}, "%d%)"),
        (set(), "%s%)"),
    ],
    ids=shown,
)
def test_each_kind_of_value_has_its_documented_form(value: object, form: str) -> None:
    assert render(value) == form
    assert compiled("k:<x>", "x")(value) == f"k:{form}"


@many
@given(values, values)
@example(None, "")
@example(None, "None")
@example(None, "%none")
@example(["a", "b"], "a:b")
@example([], [""])
@example([["a"], "b)"], [["a)", "b"]])
@example(["a,b"], ["a", "b"])
@example({"a": "b=c"}, {"a=b": "c"})
@example(("a",), ["a"])
@example({"a"}, frozenset({"a"}))
@example(True, 1)
@example(True, "True")
@example(1.0, 1)
@example(b"a", "a")
@example(Right(0), Right.READ)
def test_distinct_values_have_distinct_keys(a: object, b: object) -> None:
    for typed, form in ((False, render), (True, render_typed)):
        alike = meaning(a, typed=typed) == meaning(b, typed=typed)
        assert (form(a) == form(b)) == alike, (form(a), form(b))


@few
@given(st.lists(atoms, max_size=4), st.lists(atoms, max_size=4))
def test_brackets_keep_items_apart_however_they_are_nested(a: list[object], b: list[object]) -> None:
    nestings = [[*a, *b], [a, *b], [a, b], [*a, b], [[*a, *b]], [[a, *b]]]
    for one, other in itertools.combinations(nestings, 2):
        assert (render(one) == render(other)) == (meaning(one, typed=False) == meaning(other, typed=False))


@few
@given(values)
def test_no_rendered_value_holds_a_character_with_a_meaning(value: object) -> None:
    for form in (render(value), render_typed(value)):
        assert not re.search(r"[:{}<>*?\[\]\\\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", form), form
        # Every percent sign starts an escape or one of the forms.
        assert not re.search(r"%(?![0-9A-F]{2}|none|true|false|x|\.|[ltsfdm][()%]|[,=)])", form), form
        form.encode()


def test_blanks_and_controls_are_escaped_and_every_other_letter_is_left_alone() -> None:
    for character in [*map(chr, range(0x300)), *"\u1680\u2000\u2029\u202e\u205f\u2060\ufeff\ud800\udfff"]:
        unsafe = character in "%:{}<>*?[]\\" or character.isspace() or not character.isprintable()
        if character == "\xad":
            unsafe = False  # a soft hyphen is not printable, but neither a blank nor a control
        assert (escape(character) != character) is unsafe, ascii(character)


@few
@given(any_text)
def test_escaped_text_can_be_read_back(value: str) -> None:
    raw = bytearray()
    for plain, code in re.findall(r"([^%]+)|%([0-9A-F]{2})", escape(value)):
        raw += plain.encode() if plain else bytes.fromhex(code)
    assert raw.decode("utf-8", "surrogatepass") == value


@few
@given(st.integers() | st.uuids() | st.dates() | st.decimals(allow_nan=False) | st.floats(allow_nan=False))
def test_a_number_or_id_and_its_text_are_one_key_in_a_template_and_two_without(value: object) -> None:
    assert render(value) == render(str(value))
    assert render_typed(value) != render_typed(str(value))


@few
@given(st.lists(atoms, max_size=5, unique=True))
def test_the_order_of_a_set_or_dict_is_no_part_of_its_key(items: list[Any]) -> None:
    backwards = items[::-1]
    assert render(set(items)) == render(set(backwards))
    assert render(dict.fromkeys(items)) == render(dict.fromkeys(backwards))


@dataclasses.dataclass(frozen=True)
class Place:
    x: object
    y: object = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Other:
    x: object
    y: object = 2

    seen: typing.ClassVar[int] = 0


@dataclasses.dataclass(frozen=True)
class Circle:
    radius: int

    @functools.cached_property
    def area(self) -> int:
        return self.radius**2


class Pair(NamedTuple):
    x: object
    y: object = 2


class Frozen(pydantic.BaseModel, frozen=True, extra="allow"):
    x: typing.Any
    y: typing.Any = 2


class Nothing(NamedTuple):
    pass


class Named(NamedTuple):
    x: int


class ProxyToNothing:
    """As a context-local proxy outside its context."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("secret")


class LooksLikeText:
    @property
    def __class__(self) -> Any:
        return str


class NoZone(dt.tzinfo):
    pass


def endless() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@dataclasses.dataclass
class Changes:
    x: int = 1


class Thawed(Place):
    """Its base is frozen, and it is not."""


class Richer(Named):
    """It may have attributes beside its items."""


class ChangingModel(pydantic.BaseModel):
    x: int = 1


class Secretive(pydantic.BaseModel, frozen=True):
    _secret: int = 7


def richer() -> Richer:
    made = Richer(1)
    made.more = 2  # type: ignore[attr-defined]
    return made


def made_inside() -> Any:
    @dataclasses.dataclass(frozen=True)
    class Made:
        x: int = 1

    return Made()


WITHOUT_A_FORM: dict[str, Callable[[], Any]] = {
    "object": object,
    "dataclass that may change": Changes,
    "plain heir of a frozen dataclass": lambda: Thawed(1),
    "named tuple with more attributes": richer,
    "pydantic model that may change": ChangingModel,
    "pydantic model with private attributes": Secretive,
    "class that a function makes": made_inside,
    "class that a call makes": lambda: dataclasses.make_dataclass("Place", ["x"], frozen=True)(1),
    "model of objects": lambda: Place(object()),
    "class of a dataclass": lambda: Place,
    "function": lambda: endless,
    "subclass of dict": lambda: collections.OrderedDict(a=1),
    "bytearray": bytearray,
    "iterator": lambda: iter([1]),
    "complex": lambda: 1j,
    "int of 5000 digits": lambda: 10**5000,
    "class": lambda: Decimal,
    "list in itself": endless,
    "proxy to nothing": ProxyToNothing,
    "class that lies": LooksLikeText,
    "broken time zone": lambda: dt.datetime(2026, 1, 1, tzinfo=NoZone()),
    "list of objects": lambda: [object()],
    "dict of objects": lambda: {"k": object()},
    "deep inside": lambda: ({"secret": object()},),
}


@pytest.mark.parametrize("make", WITHOUT_A_FORM.values(), ids=WITHOUT_A_FORM)
def test_a_value_without_a_stable_text_form_is_refused_by_its_type_and_not_shown(make: Callable[[], Any]) -> None:
    value = make()
    for form in (render, render_typed):
        with pytest.raises(RenderError) as caught:
            form(value)
        assert "has no stable text form" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "0x" not in str(caught.value)
    for key in (compiled("k:<x>", "x"), compile_default_key(endless, signature_of("x"))):
        with pytest.raises(RenderError):
            key(value)


def test_an_enum_member_with_a_strange_name_cannot_leave_its_field() -> None:
    strange = enum.Enum("strange<>", {"a:b": 1, "a%,b": 2, "*": 3, "Inner.RED": 4})
    assert [render(member) for member in strange] == [
        f"%.{__name__}.strange%3C%3E.a%3Ab",
        f"%.{__name__}.strange%3C%3E.a%25,b",
        f"%.{__name__}.strange%3C%3E.%2A",
        f"%.{__name__}.strange%3C%3E.Inner%2ERED",
    ]


# --- whole keys -----------------------------------------------------------------------------------------


@many
@given(st.tuples(atoms, atoms), st.tuples(atoms, atoms))
@example(("a:b", "c"), ("a", "b:c"))
@example(("", "a"), ("a", ""))
@example(("{x}", ""), ("", "{x}"))
@example(("*", "a"), ("b", "a"))
@pytest.mark.parametrize("template", ["k:<a>:<b>", "<a>:<b>", "<a>]<b>", "<a>-:-<b>", "{k}:<a>:<b>", "k<a>[<b>"])
def test_a_value_cannot_leak_into_its_neighbours_field(template: str, one: Any, other: Any) -> None:
    key = compiled(template, "a, b")
    alike = all(meaning(x, typed=False) == meaning(y, typed=False) for x, y in zip(one, other, strict=True))
    assert (key(*one) == key(*other)) == alike


@few
@given(st.tuples(values, values), st.tuples(values, values))
@example((1, "1"), ("1", 1))
@example(("x:b=y", "z"), ("x", "y:b=z"))
def test_different_arguments_have_different_default_keys(one: Any, other: Any) -> None:
    key = compile_default_key(signature_of, signature_of("a, b"))
    alike = all(meaning(x, typed=True) == meaning(y, typed=True) for x, y in zip(one, other, strict=True))
    assert (key(*one) == key(*other)) == alike


@few
@given(st.lists(values, max_size=3), st.dictionaries(st.sampled_from("bcd"), values, max_size=3))
def test_star_arguments_have_different_default_keys(args: list[Any], kwargs: dict[str, Any]) -> None:
    key = compile_default_key(signature_of, signature_of("*args, **kwargs"))
    made = key(*args, **kwargs)
    assert made == shorten(f"{__name__}.signature_of:args={render_typed(tuple(args))}:kwargs={render_typed(kwargs)}")
    assert key(*args, *kwargs.values()) != made or not kwargs
    assert key(args, **kwargs) != made


@few
@given(any_text)
@example("*")
@example("{x}")
def test_no_argument_acts_as_a_pattern_a_hash_tag_or_a_placeholder(value: str) -> None:
    made = compiled("k:<x>", "x")(value)
    assert not set(made) & set("*?[]{}<>\\")
    assert made.count(":") == 1
    assert made == compiled("k:<x>", "x")(x=value)


@few
@given(st.lists(values, min_size=1, max_size=4), st.integers(1, 400))
def test_every_key_is_utf8_of_at_most_512_bytes(arguments: list[Any], times: int) -> None:
    for key in (compiled("k:<args>", "*args"), compile_default_key(signature_of, signature_of("*args"))):
        assert 0 < len(key(*arguments * times).encode()) <= LONGEST_KEY


@few
@given(st.text(st.sampled_from("aü€🎈:\n"), min_size=100, max_size=600), st.integers(0, 99))
def test_long_keys_stay_distinct_and_end_in_a_hash(value: str, position: int) -> None:
    key = compiled("k:<x>", "x")
    other = value[:position] + "z" + value[position + 1 :]
    made = key(value)
    assert key(value) == made != key(other)
    whole = f"k:{render(value)}"
    assert made.startswith(whole[:100])
    if len(whole.encode()) <= LONGEST_KEY:
        assert made == whole
    else:
        assert re.fullmatch(r"[^%]*(%[0-9A-F]{1,2}[^%]*|%[^%~]?)*%~[0-9a-f]{40}", made)
        assert len(made.encode()) > LONGEST_KEY - 4


@pytest.mark.parametrize("letter", ["a", "ü", "€", "🎈"])
def test_the_longest_key_that_stays_whole_has_512_bytes(letter: str) -> None:
    whole = letter * (LONGEST_KEY // len(letter.encode()))
    whole += "a" * (LONGEST_KEY - len(whole.encode()))
    assert shorten(whole) == whole
    assert shorten(whole + "a") != whole + "a"
    assert len(shorten(whole + "a").encode()) <= LONGEST_KEY
    assert shorten(whole + "a") != shorten(whole + "b")


def test_the_hash_of_a_long_key_never_changes_between_versions() -> None:
    assert shorten("a" * 513) == "a" * 470 + "%~" + "06a67eb140387c5e0f49f1b7cfd46ad001386f97"


# --- calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "calls"),
    [
        ("user_id", ["1", "user_id=1"]),
        ("user_id=1", ["", "1", "user_id=1"]),
        ("user_id, /", ["1"]),
        ("user_id=1, /", ["", "1"]),
        ("*, user_id", ["user_id=1"]),
        ("*, user_id=1", ["", "user_id=1"]),
        ("a, user_id=1, *rest", ["0", "0, 1", "a=0", "user_id=1, a=0", "0, user_id=1"]),
        ("a, /, b=2, *, user_id=1, **rest", ["0", "0, 2", "0, b=2", "0, user_id=1, b=2"]),
        ("self, user_id", ["None, 1", "None, user_id=1", "user_id=1, self=None"]),
    ],
)
def test_one_call_has_one_key_however_it_is_written(parameters: str, calls: list[str]) -> None:
    for key in (
        compiled("k:<user_id>", parameters),
        compile_default_key(signature_of, signature_of(parameters)),
    ):
        made = {eval(f"key({call})", {"key": key}) for call in calls}
        assert len(made) == 1
        assert "1" in made.pop()


KINDS = ["positional_only", "plain", "star", "keyword_only", "double_star"]
NAMES = ["user_id", "type", "str", "self", "key", "f", "render", "shorten", "_render_", "_shorten_", "_type_", "_str_"]
NAMES += ["_default0_", "_default1_", "_walk4_", "_result_", "result", "value", "__name__", "isinstance", "größe"]


@st.composite
def parameter_lists(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Source of a parameter list, and its names."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), min_size=len(names), max_size=len(names))), key=KINDS.index)
    for single in ("star", "double_star"):
        while kinds.count(single) > 1:
            kinds[kinds.index(single)] = KINDS[KINDS.index(single) - 1]
    kinds.sort(key=KINDS.index)
    parts, must_default, slash_open, star_seen = [], False, False, False
    for name, kind in zip(names, kinds, strict=True):
        if slash_open and kind != "positional_only":
            parts.append("/")
        slash_open = kind == "positional_only"
        if kind == "keyword_only" and not star_seen:
            parts.append("*")
            star_seen = True
        star_seen = star_seen or kind == "star"
        has_default = kind not in ("star", "double_star") and (draw(st.booleans()) or must_default)
        must_default = has_default and kind in ("positional_only", "plain")
        if kind in ("star", "keyword_only"):
            must_default = False
        parts.append({"star": "*", "double_star": "**"}.get(kind, "") + name + ("='d'" if has_default else ""))
    if slash_open:
        parts.append("/")
    return ", ".join(parts), names


@many
@given(parameter_lists(), st.lists(any_text, max_size=5), st.data())
def test_a_key_accepts_exactly_the_calls_that_the_function_accepts(
    parameters: tuple[str, list[str]], args: list[str], data: st.DataObject
) -> None:
    source, names = parameters
    signature = signature_of(source)
    # Python itself binds here: inspect.Signature.bind of 3.11 refuses some calls with **kwargs that Python accepts.
    namespace: dict[str, Any] = {}
    exec(f"def f({source}): return locals()", namespace)
    kwargs = data.draw(st.dictionaries(st.sampled_from([*names, "unknown"]), any_text, max_size=4))
    template = ":".join(["k", *(f"<{name}>" for name in names)])
    with_result = compile_key(f"{template}:<return>", signature, with_result=True)
    without = compile_key(template, signature)
    default = compile_default_key(signature_of, signature)
    fit, fits_by_count = compile_fit(signature), not kwargs and len(args) in fitting_counts(signature)
    try:
        arguments = namespace["f"](*args, **kwargs)
    except TypeError:
        assert not fits_by_count
        with pytest.raises(TypeError):
            fit(*args, **kwargs)
        for key, result in ((without, ()), (default, ()), (with_result, ("r",))):
            with pytest.raises(TypeError):
                key(*result, *args, **kwargs)
        return
    fit(*args, **kwargs)
    assert fits_by_count or kwargs
    expected = ":".join(["k", *(render(arguments[name]) for name in names)])
    assert without(*args, **kwargs) == shorten(expected)
    assert with_result("r", *args, **kwargs) == shorten(f"{expected}:r")
    assert default(*args, **kwargs) == shorten(
        f"{__name__}.signature_of:"
        + ":".join(f"{name}={render_typed(arguments[name])}" for name in signature.parameters)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["plain", "a b", 7, None])
def test_a_parameter_may_have_any_name(name: str, value: Any) -> None:
    rendered = render(value)
    assert compiled(f"k:<{name}>", name)(**{name: value}) == f"k:{rendered}"
    assert compiled(f"k:<{name}.__class__.__name__>", f"{name}='x'")() == "k:str"
    assert compiled(f"k:<return>:<{name}>", name, with_result=True)("r", value) == f"k:r:{rendered}"
    assert compile_default_key(signature_of, signature_of(f"a, {name}"))(1, value).endswith(
        f":a=1:{name}={render_typed(value)}"
    )


def test_a_default_is_passed_by_reference_and_not_as_source() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "__import__('os')"

        name = "odd"

    signature = inspect.Signature(
        [inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=Odd())],
    )
    assert compile_key("k:<x.name>", signature)() == "k:odd"


class Holder:
    async def method(self, a: int) -> None: ...

    async def this_method(_this, a: int) -> None: ...  # noqa: N805 - another usual name

    async def of_class(cls, a: int) -> None: ...  # noqa: N805 - as it is inside a classmethod

    async def static(a: int, self: int) -> None: ...  # noqa: N805 - as it is inside a staticmethod


class Heir(Holder):
    pass


def a_class(base: type) -> type:
    class Made(base):  # type: ignore[misc]
        pass

    return Made


def default_key(function: Any, *, of_class: bool = False) -> Callable[..., str]:
    return compile_default_key(function, inspect.signature(function), of_class=of_class)


def test_the_default_key_names_module_and_function() -> None:
    assert compile_default_key(signature_of, signature_of(""))() == f"{__name__}.signature_of:"
    assert default_key(Holder.static)(1, 2) == f"{__name__}.Holder.static:a=1:self=2"
    # Outside a class it is a parameter like any other.
    assert compile_default_key(signature_of, signature_of("self, a"))(2, 1).endswith(":self=2:a=1")


@pytest.mark.parametrize("method", [Holder.method, Holder.this_method])
def test_the_default_key_of_a_method_is_refused_with_the_text_to_write(method: Any) -> None:
    first = next(iter(inspect.signature(method).parameters))
    with pytest.raises(DecorationError) as refusal:
        default_key(method)
    for template in (f"{method.__qualname__}:<{first}.id>:<a>", f"{method.__qualname__}:<a>"):
        assert f'key="{template}"' in str(refusal.value)
        compile_key(template, inspect.signature(method))


def test_the_default_key_of_a_classmethod_has_the_class_on_which_it_is_called() -> None:
    key = default_key(Holder.of_class, of_class=True)
    assert key(Holder, 1) == f"{__name__}.Holder.of_class:cls='{__name__}.Holder:a=1"
    assert key(Heir, 1) == f"{__name__}.Holder.of_class:cls='{__name__}.Heir:a=1"


def test_classes_that_share_a_name_have_no_default_key() -> None:
    key = default_key(Holder.of_class, of_class=True)
    for made in (a_class(Holder), type("Heir", (Holder,), {}), type("NotThere", (Holder,), {})):
        with pytest.raises(RenderError, match="cannot be found by this name"):
            key(made, 1)


def test_a_function_that_is_made_inside_another_has_no_default_key_and_is_told_what_to_write() -> None:
    async def local(a: int, *rest: str) -> None: ...

    with pytest.raises(DecorationError, match=r"everything that tells these functions apart") as refusal:
        default_key(local)
    assert 'key="local:<a>:<rest>"' in str(refusal.value)


@pytest.mark.parametrize("main", ["__main__", "__mp_main__"])
@pytest.mark.parametrize(
    ("spec", "file", "name"),
    [
        (None, "/srv/worker.py", "worker"),
        ("shop.worker", "/srv/shop/worker.py", "shop.worker"),
        ("shop.__main__", "/srv/shop/__main__.py", "shop.__main__"),
        ("__main__", "/srv/shop.pyz/__main__.py", "shop.__main__"),
        (None, None, None),
        (None, "<stdin>", None),
    ],
)
def test_a_program_has_the_name_by_which_it_would_be_imported(
    monkeypatch: pytest.MonkeyPatch, main: str, spec: str | None, file: str | None, name: str | None
) -> None:
    program = types.ModuleType(main)
    program.__spec__ = importlib.machinery.ModuleSpec(spec, None) if spec else None
    program.__file__ = file
    monkeypatch.setitem(sys.modules, main, program)
    exec("import enum\nasync def load(): ...\nclass Size(enum.Enum):\n BIG = 1", vars(program))
    if name is None:
        with pytest.raises(DecorationError, match='write key="load"'):
            default_key(program.load)
    else:
        assert default_key(program.load)() == f"{name}.load:"
        assert render(program.Size.BIG) == f"%.{name}.Size.BIG"


def executed(path: Path) -> dict[str, Any]:
    program: dict[str, Any] = {}
    exec(path.read_text(), program)
    return program


@pytest.mark.parametrize("run", [lambda path: runpy.run_path(str(path)), executed], ids=["run_path", "exec"])
def test_a_program_that_another_runs_has_no_name_of_its_own(tmp_path: Path, run: Callable[[Path], Any]) -> None:
    path = tmp_path / "worker.py"
    path.write_text("async def load(): ...")
    program = run(path)
    with pytest.raises(DecorationError, match='write key="load"'):
        default_key(program["load"])


def test_enums_of_one_name_in_two_modules_have_two_keys() -> None:
    orders = enum.Enum("Status", {"ON": 1}, module="shop.orders")  # type: ignore[misc]
    users = enum.Enum("Status", {"ON": 1}, module="shop.users")  # type: ignore[misc]
    for form in (render, render_typed):
        assert (form(orders.ON), form(users.ON)) == ("%.shop.orders.Status.ON", "%.shop.users.Status.ON")


# --- models ---------------------------------------------------------------------------------------------


MODELS: tuple[Callable[..., Any], ...] = (Place, Other, Pair, lambda x, y=2: Frozen(x=x, y=y))


@pytest.mark.parametrize(
    ("value", "form", "typed"),
    [
        (Place("a:b", 1), "Place%,x%=a%3Ab%,y%=1", "Place%,x%='a%3Ab%,y%=1"),
        (Other(Place(None)), "Other%,x%=%m({0}Place%,x%=%none%,y%=2%)%,y%=2", ""),
        (Pair("%)"), "Pair%,x%=%25)%,y%=2", "Pair%,x%='%25)%,y%=2"),
        (Frozen(x=[1], more="z"), "Frozen%,x%=%l(1%)%,y%=2%,more%=z", "Frozen%,x%=%l(1%)%,y%=2%,more%='z"),
        (Nothing(), "Nothing", "Nothing"),
    ],
    ids=shown,
)
def test_a_frozen_model_is_its_class_and_its_fields(value: object, form: str, typed: str) -> None:
    module = f"{__name__}."
    assert render(value) == f"%m({module}{form.format(module)}%)"
    assert not typed or render_typed(value) == f"%m({module}{typed}%)"
    assert compiled("k:<x>", "x")([value]) == f"k:%l({render(value)}%)"


@many
@given(st.sampled_from(MODELS), st.sampled_from(MODELS), st.tuples(values, values), st.tuples(values, values))
@example(Place, Other, (1, 2), (1, 2))
@example(Pair, Pair, ("1%,y%=2", 3), (1, 2))
@example(Place, Place, (Place(1), 2), (Other(1), 2))
def test_distinct_models_have_distinct_keys(one: Any, other: Any, a: tuple[Any, Any], b: tuple[Any, Any]) -> None:
    for typed, form in ((False, render), (True, render_typed)):
        alike = one is other and meaning(list(a), typed=typed) == meaning(list(b), typed=typed)
        assert (form(one(*a)) == form(other(*b))) == alike
        assert form(one(*a)) not in {form(a), form(list(a)), form({"x": a[0], "y": a[1]}), form(str(a))}


def test_a_model_has_one_form_before_and_after_it_has_kept_a_computed_value() -> None:
    circle = Circle(3)
    before = render(circle)
    assert circle.area == 9
    assert render(circle) == before


# --- templates ------------------------------------------------------------------------------------------


@few
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="<>{}*?"), min_size=1)
)
@example("'")
@example('"')
@example("\"'\\")
@example('\\"')
@example("%s%(a)s$a")
@example("!r:10=")
def test_literal_text_of_a_template_stands_in_the_key_as_it_is(literal: str) -> None:
    key = compiled(f"{literal}<x>{literal}", "x")
    assert key("a") == shorten(f"{literal}a{literal}")


@pytest.mark.parametrize("template", ["posts:<x>:*", "*", "p?:<x>", "<x>*<x>", "{a*}:<x>"])
def test_a_template_with_a_pattern_is_refused_with_the_text_to_write(template: str) -> None:
    with pytest.raises(DecorationError, match="no pattern and matches nothing; write one key for each call") as refusal:
        compiled(template, "x")
    assert repr(template) in str(refusal.value)


@pytest.mark.parametrize(
    ("template", "parameters", "arguments", "expected"),
    [
        ("a", "x", ["1"], "a"),
        ("<x>", "x", ["1"], "1"),
        ("<x>:<x>", "x", ["1"], "1:1"),
        ("{user:<x>}:profile", "x", ["1"], "{user:1}:profile"),
        ("{user:<x>}:profile", "x", ["a}b{"], "{user:a%7Db%7B}:profile"),
        ("{user:<x>}", "x", [""], "{user:}"),
        ("{\\N'\"}:<x>", "x", ["1"], "{\\N'\"}:1"),
        ("k:<x.real>", "x", [7], "k:7"),
        ("k:<x[a]>", "x", [{"a": "b:c"}], "k:b%3Ac"),
        ("k:<x[0]>:<x[-1]>", "x", [["a", "b"]], "k:a:b"),
        ("k:<x[a b]>", "x", [{"a b": 1}], "k:1"),
        ("k:<x[a].real>", "x", [{"a": 5}], "k:5"),
        ("k:<x[a][0].real>", "x", [{"a": [5]}], "k:5"),
        ("k:<größe>", "größe", [1], "k:1"),
    ],
)
def test_a_template_reads_names_attributes_and_items(
    template: str, parameters: str, arguments: list[Any], expected: str
) -> None:
    assert compiled(template, parameters)(*arguments) == expected


class User:
    def __init__(self, id: object) -> None:  # noqa: A002 - what users call it
        self.id = id

    @property
    def broken(self) -> str:
        raise LookupError("secret")


@pytest.mark.parametrize(
    ("placeholder", "step", "kind"),
    [
        ("<user.nothing>", ".nothing", "AttributeError"),
        ("<user.broken>", ".broken", "LookupError"),
        ("<user.id.broken>", ".broken", "AttributeError"),
        ("<user[name]>", "[name]", "TypeError"),
        ("<user.id[7]>", "[7]", "IndexError"),
        ("<user.id[--7]>", "[--7]", "ValueError"),
    ],
)
def test_a_step_that_cannot_be_read_is_named_and_the_call_has_no_key(placeholder: str, step: str, kind: str) -> None:
    key = compiled(f"k:{placeholder}", "user")
    with pytest.raises(RenderError) as caught:
        key(User("abc"))
    assert str(caught.value) == f"{placeholder}: {step} cannot be read ({kind})"


def test_the_result_is_read_as_return() -> None:
    key = compiled("k:<return.id>", "user_id", with_result=True)
    assert key(User("a:b"), 1) == key(User("a:b"), user_id=1) == "k:a%3Ab"
    assert compiled("k:<return>", "*args", with_result=True)(7) == "k:7"


FORMS = ['"profile:<user_id>"', '"item:<item.id>"', '"price:<item[sku]>"']


@pytest.mark.parametrize(
    "template",
    [
        *("", None, 7, b"k", ["k"]),
        *("k:<", "k:>", "k:<user_id", "k:user_id>", "k:<<user_id>>", "k:<user_id>>", "<user_id><"),
        *("k :<user_id>", "k\n", "\tk", "k\x00", "k\u00a0<user_id>", "k\u2028", "k\ud800:<user_id>"),
        *("k:<>", "k:< user_id>", "k:<user_id >", "k:<0>", "k:<user id>", "k:<user_id.>", "k:<.id>", "k:<user_id..x>"),
        *("k:<user_id[]>", "k:<user_id[a>", "k:<user_id()>", "k:<user_id!r>", "k:<user_id:>10>", "k:<user_id.0>"),
    ],
    ids=repr,
)
def test_a_bad_template_is_refused_with_its_text_and_the_valid_forms(template: Any) -> None:
    with pytest.raises(DecorationError) as caught:
        compile_key(template, signature_of("user_id"))
    message = str(caught.value)
    assert repr(template) in message
    assert all(form in message for form in FORMS)
    message.encode()


@pytest.mark.parametrize(
    ("template", "parameters", "known"),
    [
        ("k:<uid>", "user_id, b", "the function has <b>, <user_id>"),
        ("k:<User_id>", "user_id", "the function has <user_id>"),
        ("k:<uid.x[0]>", "user_id", "the function has <user_id>"),
        ("k:<return>", "user_id", "the function has <user_id>"),
        ("k:<uid>", "", "the function has none, it has no parameters"),
    ],
)
def test_a_placeholder_that_names_no_parameter_is_refused_with_the_parameters_of_the_function(
    template: str, parameters: str, known: str
) -> None:
    with pytest.raises(DecorationError) as caught:
        compiled(template, parameters)
    message = str(caught.value)
    assert repr(template) in message
    assert re.findall("<.*?>", template)[0] in message
    assert known in message


def test_a_template_that_may_use_the_result_lists_it_among_the_known_names() -> None:
    with pytest.raises(DecorationError, match=r"the function has <a>, <return>"):
        compiled("k:<x>", "a", with_result=True)


@pytest.mark.parametrize(
    "template",
    ["a}b", "a{b", "{}", "{}a", "{<user_id>}", "{a}{b}", "{{a}}", "a}{b", "}a{", "{a}b}", "{<user_id>}:{b}", "{{}}"],
)
def test_braces_that_are_no_hash_tag_are_refused(template: str) -> None:
    with pytest.raises(DecorationError, match="hash tag") as caught:
        compile_key(template, signature_of("user_id"))
    assert repr(template) in str(caught.value)
    assert '"{user:<user_id>}:profile"' in str(caught.value)


@few
@given(any_text)
def test_no_argument_breaks_or_empties_a_hash_tag(value: str) -> None:
    made = compiled("k:{u<x>}:<x>", "x")(value)
    assert re.fullmatch(r"[^{}]*\{[^{}]+\}[^{}]*", made)
    assert not set(compiled("k:<x>", "x")(value)) & set("{}")


@pytest.mark.parametrize("between", ["", "-", "/", "_", ".", "x", "%", "%3A", "%,", "|", "(", "="])
def test_two_placeholders_that_could_run_into_each_other_are_refused(between: str) -> None:
    for names in ("<user_id>", "<b>"), ("<user_id.real>", "<b[x]>"), ("<b>", "<b>"):
        with pytest.raises(DecorationError) as caught:
            compile_key(f"k:{between.join(names)}:z", signature_of("user_id, b"))
        assert repr(between) in str(caught.value)
        assert f'write "{names[0]}:{names[1]}"' in str(caught.value)


@few
@given(st.text(string.printable, max_size=20))
@example("k:<user_id>{x}")
@example("<user_id>'+exit()+'")
def test_a_template_of_any_text_is_refused_or_makes_keys(template: str) -> None:
    try:
        key = compile_key(template, signature_of("user_id"))
    except DecorationError:
        return
    assert key("*") == re.sub("<.*?>", "%2A", template)


# --- several templates at once -------------------------------------------------------------------

LINES = ["team:<team>", "posts", "<team>:<user.name>", "user:<user.name>:of:<len>"]


def lines_signature() -> inspect.Signature:
    def function(team: Any, user: Any = None, len: Any = 0, type: Any = 0, _value0_: Any = 0) -> None: ...  # noqa: A002

    return inspect.signature(function)


@given(teams=st.lists(st.one_of(st.text(max_size=300), st.integers(), st.booleans(), st.none()), min_size=2))
@example(teams=[1, True, "1", 1, None, "%none", 2**70, -(2**63), "x" * 600, "x" * 600, "a:b", ""])
def test_several_templates_give_the_keys_that_each_gives_alone_whatever_was_rendered_before(teams: list[Any]) -> None:
    signature = lines_signature()
    together = compile_lines(LINES, signature, ("(", ")"), ["first"])
    alone = [compile_key(template, signature) for template in LINES]
    assert together is not None
    for team in [*teams, *teams]:
        user = types.SimpleNamespace(name=f"{team!r:.5}")
        expected = [f"({one(team, user)})" for one in alone]
        assert together(team, user) == ["first", *expected]


def test_a_placeholder_of_several_templates_is_read_once() -> None:
    class User:
        reads = 0

        @property
        def name(self) -> str:
            self.reads += 1
            return "ada"

    together = compile_lines(["a:<user.name>", "b:<user.name>"], lines_signature(), ("", ")"))
    user = User()
    assert together is not None
    assert together(0, user) == ["a:ada)", "b:ada)"]
    assert user.reads == 1


def test_the_keys_of_a_call_are_remembered_and_those_of_few_calls() -> None:
    together = compile_lines(["team:<team>"], lines_signature(), ("(", ")"))
    assert together is not None
    assert together("7") is together("7")
    kept = [together(n) for n in range(5000)]
    assert sum(together(n) is one for n, one in reversed([*enumerate(kept)])) < 2000
    long = "x" * 600
    assert together(long) is not together(long)


def test_templates_without_placeholders_give_one_list() -> None:
    together = compile_lines(["posts", "users"], lines_signature(), ("(", ")"))
    assert together is not None
    assert together(1) == ["(posts)", "(users)"]
    assert together(1) is together(2)


def test_a_template_with_a_star_is_not_rendered_with_others() -> None:
    assert compile_lines(["posts", "team:<*team>"], lines_signature(), ("(", ")")) is None
