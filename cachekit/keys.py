r"""Keys that cannot collide: templates are parsed once, values are escaped, forms are fixed.

==================  =====================================  =========================
a value             becomes                                example
==================  =====================================  =========================
``str``             its text, escaped                      ``a:b`` → ``a%3Ab``
``None``            a form that no text has                ``%none``
``bool``            a form that no text has                ``%true``, ``%false``
``int``             its digits                             ``42``
``float``           its shortest text                      ``0.5``
``Decimal``         its text                               ``1.50``
``UUID``            its hyphenated text                    ``6ba7b810-…``
``date``            ISO 8601                               ``2026-11-22``
``datetime``        ISO 8601, escaped                      ``2026-11-22T10%3A00%3A00``
``Enum``            module, class and member; a ``str``    ``%.shop.Color.RED``
                    or ``int`` member is its value
``bytes``           hexadecimal                            ``%x00ff``
``list``, ``tuple`` their items, in brackets of our own    ``%l(a%,b%)``, ``%t(a%,b%)``
``set``, …          the same, sorted                       ``%s(a%,b%)``, ``%f(…%)``
``dict``            its items, sorted by key               ``%d(k%=v%)``
a frozen model      its class and its fields, by name      ``%m(shop.Point%,x%=1%,y%=2%)``
an empty one        no opening bracket: ``[""]`` has one   ``%l%)``, ``%d%)``
==================  =====================================  =========================

Escaped text is UTF-8 in percent form, in upper case hexadecimal, for
``% : { } < > * ? [ ] \``, whitespace, control characters and surrogates. A percent sign that is not
followed by two such digits therefore starts one of the forms above, which no text can imitate.

A frozen model is a frozen dataclass, a ``NamedTuple`` or a frozen pydantic model. It has a form when its fields have
one. It has none when it may change, when it has private attributes, or when its class is not found by its name.

The module ``__main__`` stands in no form. The name by which the script would be imported stands in its place, so
that a class has one form in every process. Only a program without a file, such as ``python -c`` or
one that Python reads from a pipe, has no such name.

In a template an ``int`` and the text of its digits are one key on purpose. In a URL and in a database
they are one id, and the caching and the invalidating function often have different types for it. The default
key (no template) is private to its function, so the type counts in it, and they are two keys.

This module is pure: no I/O, no clock.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import inspect
import re
import sys
import weakref
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import cached_property
from pathlib import PurePath
from typing import Any, Final, TypeAlias
from uuid import UUID

from cachekit.errors import DecorationError, RenderError

LONGEST_KEY: Final = 512
"""Bytes of the longest rendered key; a longer one keeps its beginning and ends in a hash."""

KeyFunction: TypeAlias = Callable[..., str]
KeysFunction: TypeAlias = Callable[..., list[str]]
Fit: TypeAlias = Callable[..., None]

# \s and the C0/C1 controls, all Unicode blanks and line separators, and lone surrogates, which have no UTF-8.
_UNSAFE: Final = re.compile(
    r"[%:{}<>*?\[\]\\\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ud800-\udfff]"
)
_FORMS: Final = 'write "profile:<user_id>", "item:<item.id>" or "price:<item[sku]>"'


def escape(text: str) -> str:
    """Return ``text`` so that it cannot leave its field, forge another key or act as a pattern.

    Example:
        >>> escape("a:b*")
        'a%3Ab%2A'
    """
    if text.isalnum() and text.isascii():
        return text
    return _UNSAFE.sub(_percent, text) if _UNSAFE.search(text) else text


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def render(value: Any) -> str:
    """Return the one documented form of ``value`` in a template.

    Raises:
        RenderError: The type has no stable text form. The message names the type, never the value.

    Example:
        >>> render(["a", "b"]), render("a:b"), render(None), render("None")
        ('%l(a%,b%)', 'a%3Ab', '%none', 'None')
    """
    kind = type(value)
    if kind is str:
        return escape(value)
    # Nearly all numbers are short, and this takes a third of the time; larger ones may have too many digits.
    if kind is int and -_SHORT < value < _SHORT:
        return int.__repr__(value)
    return _render(value, typed=False)


_SHORT: Final = 1 << 63


def render_typed(value: object) -> str:
    """Return a form of ``value`` that no value of an unequal type has: for default keys."""
    return _render(value, typed=True)


def _render(value: object, *, typed: bool) -> str:
    try:
        if isinstance(value, str):
            # A str Enum is rendered as the text that it is equal to.
            text = escape(str.__str__(value))
            return f"'{text}" if typed else text
        for kind, mark, form in _ATOMS:
            if isinstance(value, kind):
                return f"{mark}{form(value)}" if typed else form(value)
        return _render_container(value, typed=typed)
    except RenderError:
        raise
    # A list may contain itself, an int may have more digits than Python is willing to write, and code of the user's
    # types may raise: a time zone without an offset, a proxy to nothing, whose __class__ raises.
    except Exception as error:
        message = f"this {type(value).__name__} has no stable text form for a key ({type(error).__name__})"
        raise RenderError(message) from None


def _render_enum(value: Any) -> str:
    kind = escape(_name_of_class(type(value)))
    # A member of a Flag that combines no members, or a member without a name, has no name.
    if value.name is None:
        return f"%.{kind}%={value.value!r}"
    # A dot in the name of a member would make it a member of a class inside the class.
    return f"%.{kind}.{escape(value.name).replace('.', '%2E')}"


# Order matters: bool is an int, datetime is a date, and a mixed-in Enum is also of the type that it is mixed with.
_ATOMS: Final[tuple[tuple[Any, str, Callable[[Any], str]], ...]] = (
    (type(None), "", lambda _: "%none"),
    (bool, "", lambda value: "%true" if value else "%false"),
    (int, "", int.__repr__),
    (Enum, "", _render_enum),
    (float, "", float.__repr__),
    (Decimal, "d", Decimal.__str__),
    (UUID, "u", UUID.__str__),
    (dt.datetime, "@", lambda value: escape(dt.datetime.isoformat(value))),
    (dt.date, "@", dt.date.isoformat),
    (dt.time, "t", lambda value: escape(dt.time.isoformat(value))),
    (bytes, "", lambda value: f"%x{value.hex()}"),
)


def _render_container(value: object, *, typed: bool) -> str:
    def each(items: Iterable[object]) -> list[str]:
        return [_render(item, typed=typed) for item in items]

    # Exact types: the items of a subclass, such as a named tuple, may have another meaning.
    kind = type(value)
    if isinstance(value, (list, tuple)) and kind in (list, tuple):
        return _bracketed("l" if kind is list else "t", each(value))
    if isinstance(value, (set, frozenset)) and kind in (set, frozenset):
        return _bracketed("s" if kind is set else "f", sorted(each(value)))
    if isinstance(value, Mapping) and kind is dict:
        pairs = sorted(f"{k}%={v}" for k, v in zip(each(value.keys()), each(value.values()), strict=True))
        return _bracketed("d", pairs)
    fields = _fields_of(value)
    if fields is None:
        message = (
            f"a {kind.__module__}.{kind.__qualname__} has no stable text form for a key; "
            'name a part of it in the template, such as "<user.id>"'
        )
        raise RenderError(message)
    parts = (f"{escape(name)}%={text}" for name, text in zip(fields, each(fields.values()), strict=True))
    return _bracketed("m", [escape(_own_name(kind)), *parts])


def _fields_of(model: object) -> Mapping[str, object] | None:
    """Return the fields of a frozen model by name, or None for a value of any other type."""
    value: Any = model
    kind: Any = type(model)
    fields: dict[str, object]
    if tuple in kind.__mro__ and hasattr(kind, "_fields"):
        fields = dict(zip(kind._fields, tuple.__iter__(value), strict=True))
    # Of the class itself: a plain subclass of a frozen dataclass is not frozen.
    elif "__dataclass_params__" in vars(kind) and kind.__dataclass_params__.frozen:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    # A model is recognised by its parts: pydantic is the user's dependency, not ours.
    elif hasattr(kind, "__pydantic_validator__") and getattr(kind, "model_config", {}).get("frozen"):
        if value.__pydantic_private__:
            return None
        fields = {name: getattr(value, name) for name in kind.model_fields} | (value.__pydantic_extra__ or {})
    else:
        return None
    # An attribute beside the fields may change the result, unless it is computed from them and kept.
    more = vars(value).keys() - fields.keys() if hasattr(value, "__dict__") else ()
    return fields if all(isinstance(getattr(kind, name, None), cached_property) for name in more) else None


def _own_name(kind: Any) -> str:
    """Return module and name of the class ``kind``, if it alone has them.

    Raises:
        RenderError: The class cannot be found by its name. A function may make many classes of one name.
    """
    name = _OWN_NAMES.get(kind)
    if name is None:
        found: Any = sys.modules.get(kind.__module__)
        for part in kind.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is not kind:
            message = (
                f"the class {kind.__module__}.{kind.__qualname__} cannot be found by this name, which others may "
                "have, so it has no stable text form for a key"
            )
            raise RenderError(message)
        _OWN_NAMES[kind] = name = _name_of_class(kind)
    return name


_OWN_NAMES: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def _name_of_class(kind: type) -> str:
    return f"{module_name(kind.__module__) or kind.__module__}.{kind.__qualname__}"


def module_name(name: str | None) -> str | None:
    """Return the name by which the module ``name`` is imported, or None if it is a program without a file.

    A script that runs is the module ``__main__``, and ``__mp_main__`` in a process that `multiprocessing` spawned.
    One that is read from a pipe has the file ``<stdin>``, as any other.
    """
    if name not in ("__main__", "__mp_main__"):
        return None if _is_made_up(name) else name
    main = sys.modules.get(name)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name not in (name, "__main__"):
        return str(spec.name)
    if file is None or _is_made_up(file):
        return None
    path = PurePath(file)
    # A folder or an archive that runs is named by itself: the file in it is always called __main__.
    return f"{path.parent.stem}.__main__" if path.stem == "__main__" else path.stem


def _is_made_up(name: str | None) -> bool:
    """Tell whether a name stands for any program: ``<stdin>``, ``<run_path>`` of `runpy`, or none, by `exec`."""
    return name is None or name.startswith("<")


def _bracketed(mark: str, items: list[str]) -> str:
    # Each bracket and comma has a percent sign, or text could close the bracket: [["a"], "b)"] is not [["a)", "b"]].
    return f"%{mark}({'%,'.join(items)}%)" if items else f"%{mark}%)"


def shorten(key: str) -> str:
    """Return ``key``. For a key of over 512 bytes return its beginning and a hash of the whole.

    The hash is BLAKE2b (RFC 7693) of 20 bytes; ``%~`` before it appears in no shorter key.
    """
    if len(key) <= _SHORT_KEY:
        return key
    raw = key.encode()
    if len(raw) <= LONGEST_KEY:
        return key
    digest = hashlib.blake2b(raw, digest_size=20).hexdigest()
    head = raw[: LONGEST_KEY - len(digest) - 2].decode(errors="ignore")
    return f"{head}%~{digest}"


_SHORT_KEY: Final = LONGEST_KEY // 4
"""A character has at most four bytes, so most keys need no encoding here."""


def shorten_each(key: str) -> str:
    """Return ``key`` as `shorten` does: one of several."""
    return shorten(key)


# --- templates -----------------------------------------------------------------------------------

_PATH: Final = re.compile(r"([^\W\d]\w*)((?:\.[^\W\d]\w*|\[[^\[\]<>]+\])*)")
_STEP: Final = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")
RESULT: Final = "return"


def compile_key(template: str, signature: inspect.Signature, *, with_result: bool = False) -> KeyFunction:
    """Compile ``template`` into one function that takes the call's arguments and returns the key.

    Args:
        template: Literal text and placeholders: ``<user_id>``, ``<user.id>``, ``<item[sku]>``.
        signature: The signature of the decorated function. The compiled function has the same parameters.
        with_result: Take the function's result before the arguments, for ``<return.id>``.

    Returns:
        A function that raises TypeError for arguments that do not fit the signature, and
        `RenderError` for a value without a stable text form.

    Raises:
        DecorationError: The template is no text, is empty, or has unbalanced marks. Or it names a parameter that the
            signature lacks, has braces that are no hash tag, or has nothing between two placeholders
            that keeps their values apart.

    Example:
        >>> key = compile_key("profile:<user_id>", inspect.signature(lambda user_id: None))
        >>> key(42), key(user_id="a:b")
        ('profile:42', 'profile:a%3Ab')
    """
    pieces = _parse(template, signature, with_result=with_result)
    for piece in pieces:
        if isinstance(piece, _EachPlaceholder):
            message = f"{piece} in key template {template!r} would give several keys, and a call has one; {_FORMS}"
            raise DecorationError(message)
    key: KeyFunction = _build(pieces, signature, with_result=with_result, helper=render)
    return key


def compile_keys(template: str, signature: inspect.Signature, *, with_result: bool = False) -> KeysFunction:
    """Compile ``template`` as `compile_key` does, into a function that returns a list of keys.

    It has one key, or with ``<*ids>`` a key for each element of a collection. An empty collection gives no key.

    Raises:
        DecorationError: As `compile_key` does; or there are two placeholders with a ``*``.

    Example:
        >>> keys = compile_keys("profile:<*ids>", inspect.signature(lambda ids: None))
        >>> keys([1, "a:b"]), keys(ids=())
        (['profile:1', 'profile:a%3Ab'], [])
    """
    pieces = _parse(template, signature, with_result=with_result)
    if sum(isinstance(piece, _EachPlaceholder) for piece in pieces) > 1:
        message = f"key template {template!r} has two placeholders with a *; write one template for each"
        raise DecorationError(message)
    keys: KeysFunction = _build(pieces, signature, with_result=with_result, helper=render, split=shorten_each)
    return keys


def compile_lines(
    templates: Sequence[str], signature: inspect.Signature, around: tuple[str, str], first: Sequence[str] = ()
) -> KeysFunction | None:
    """Compile ``templates`` into one function that returns a key for each; None if one of them has a ``*``.

    It costs less than a function for each: a placeholder of several templates is rendered once, and the keys of earlier
    calls are remembered. So no caller may change the list that it returns. Each key stands between the two texts
    ``around`` it, and behind the keys that come ``first``, which are the same for all calls.

    Example:
        >>> keys = compile_lines(["team:<team>", "posts"], inspect.signature(lambda team: None), ("(", ")"))
        >>> keys("a:b") if keys else None
        ['(team:a%3Ab)', '(posts)']
    """
    pieces: list[str | _Placeholder] = []
    before, after = around
    for template in templates:
        # No key has a newline: in a value it is escaped, and a template has none.
        pieces.append(f"\n{before}" if pieces else before)
        pieces += [*_parse(template, signature, with_result=False), after]
    if any(isinstance(piece, _EachPlaceholder) for piece in pieces):
        return None
    known: dict[object, list[str]] = {}

    def shortened(line: str) -> str:
        return f"{before}{shorten(line[len(before) : -len(after)])}{after}"

    def split(values: object, text: str) -> list[str]:
        lines = text.split("\n") if text else []
        if len(text) > _SHORT_KEY:
            lines = [line if len(line) <= _SHORT_KEY else shortened(line) for line in lines]
        keys = [*first, *lines]
        if len(text) <= _LONGEST_KNOWN:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[values] = keys
        return keys

    return _build_lines(pieces, signature, (known.get, split))


_MOST_KNOWN: Final = 1024
"""The calls of a function whose tags are remembered: all are forgotten when there are more."""

_LONGEST_KNOWN: Final = 512
"""The characters of the tags that are remembered, at most."""


def _parse(template: object, signature: inspect.Signature, *, with_result: bool) -> list[str | _Placeholder]:
    """Return the literal text and the placeholders of ``template``, checked."""
    if not isinstance(template, str) or not template:
        message = f"key={template!r} is not a key template; {_FORMS}"
        raise DecorationError(message)
    _check_braces(template, signature)
    _check_pattern(template)
    names = {*signature.parameters} | ({RESULT} if with_result else set())
    pieces: list[str | _Placeholder] = []
    for index, part in enumerate(re.split(r"<([^<>]*)>", template)):
        if index % 2:
            pieces.append(_parse_placeholder(part, template, names))
        elif re.search(r"[<>\s\x00-\x1f\x7f\ud800-\udfff]", part):
            what = "a blank, a control character or an unbalanced < or >"
            message = f"key template {template!r} has {what} in {part!r}; {_FORMS}"
            raise DecorationError(message)
        else:
            pieces.append(part)
    _check_neighbours(pieces, template)
    return pieces


def parameters_of(template: str) -> frozenset[str]:
    """Return the parameters that a ``template`` names, which `compile_key` or `compile_keys` has accepted.

    Example:
        >>> sorted(parameters_of("item:<item[sku]>:<user.id>:<*ids>"))
        ['ids', 'item', 'user']
    """
    matches = [_PATH.fullmatch(text.removeprefix("*")) for text in re.findall(r"<([^<>]*)>", template)]
    return frozenset(match[1] for match in matches if match is not None)


def compile_default_key(
    function: Callable[..., object], signature: inspect.Signature, *, of_class: bool = False
) -> KeyFunction:
    """Compile the key of a function without a template: ``module.qualname:`` and every argument by name.

    Args:
        function: The function, whose name has to tell it from every other one.
        signature: Its signature.
        of_class: Whether the first argument is the class on which a classmethod is called. Its module and name
            enter the key.

    Raises:
        DecorationError: The function is made inside another one, is a method, bound or not, or stands in a program
            without a file.
            The message has a template to write.
    """
    names = [*signature.parameters]
    if not of_class and names and names[0].strip("_") in ("self", "this") and defined_in_class(function):
        raise DecorationError(needs_key_of_instance(function, names))
    _check_own_name(function, [f"{names[0]}.__name__", *names[1:]] if of_class else names)
    pieces: list[str | _Placeholder] = [default_head(function)]
    for position, name in enumerate(names):
        placeholder = _ClassPlaceholder(name) if of_class and position == 0 else _Placeholder(name, ())
        pieces += [f"{':' if len(pieces) > 1 else ''}{name}=", placeholder]
    key: KeyFunction = _build(pieces, signature, with_result=False, helper=render_typed)
    return key


def parameters_alone(template: str) -> list[str]:
    """Return the parameters that a ``template``, which `compile_key` has accepted, names without a part of them.

    Example:
        >>> parameters_alone("item:<item>:<user.id>")
        ['item']
    """
    return re.findall(r"<(\w+)>", template)


def without_text(names: Iterable[str], arguments: Mapping[str, object]) -> dict[str, str]:
    """Return the parameters among ``names`` whose arguments have no stable text form, and what kind each is of.

    Example:
        >>> without_text(["user", "request"], {"user": 7, "request": object()})
        {'request': 'builtins.object'}
    """
    found: dict[str, str] = {}
    for name in names:
        try:
            render(arguments[name])
        except RenderError:
            kind = type(arguments[name])
            found[name] = f"{kind.__module__}.{kind.__qualname__}"
    return found


def compile_fit(signature: inspect.Signature) -> Fit:
    """Compile a function that does nothing, and raises TypeError for arguments that do not fit ``signature``."""
    namespace: dict[str, Any] = {}
    parameters = _parameters(signature, namespace, result=None)
    exec(f"def fit({parameters}): pass", namespace)  # noqa: S102 - as in `_build`
    fit: Fit = namespace["fit"]
    return fit


def fits(fit: Fit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether the arguments of a call fit the function of which ``fit`` is compiled.

    Example:
        >>> fits(compile_fit(inspect.signature(lambda a: None)), (1, 2), {})
        False
    """
    try:
        fit(*args, **kwargs)
    except TypeError:
        return False
    return True


def fitting_counts(signature: inspect.Signature) -> Container[int]:
    """Return how many arguments fit ``signature`` when all are given by position; empty when none do.

    Example:
        >>> fitting_counts(inspect.signature(lambda a, b=1: None))
        frozenset({1, 2})
    """
    kinds = inspect.Parameter
    by_position = [one for one in signature.parameters.values() if one.kind < kinds.VAR_POSITIONAL]
    least = sum(one.default is kinds.empty for one in by_position)
    others = [one for one in signature.parameters.values() if one not in by_position]
    if any(one.kind is kinds.KEYWORD_ONLY and one.default is kinds.empty for one in others):
        return frozenset()
    if any(one.kind is kinds.VAR_POSITIONAL for one in others):
        return range(least, sys.maxsize)
    # Each call asks, and a range takes three times as long.
    return frozenset(range(least, len(by_position) + 1))


def default_head(function: Callable[..., object]) -> str:
    """Return the beginning of the default key of ``function``, which names it."""
    return escape(f"{module_name(function.__module__)}.{function.__qualname__}") + ":"


def _check_own_name(function: Callable[..., object], names: Iterable[str]) -> None:
    """Refuse a function whose module and name may be those of another function."""
    arguments = "".join(f":<{name}>" for name in names)
    if inspect.ismethod(function):
        name = function.__qualname__
        message = (
            f"@cached cannot name the bound method {name} in a key: it has this name for each object to which it is "
            f'bound, and they would share their results; write key="{name}{arguments}", '
            "and in it what tells these objects apart; or decorate the function in its class"
        )
        raise DecorationError(message)
    if "<locals>" in function.__qualname__:
        message = (
            f"@cached cannot name {function.__qualname__} in a key: every function that is made there has this "
            f'name, and they would share their results; write key="{function.__name__}{arguments}", '
            "and in it everything that tells these functions apart"
        )
        raise DecorationError(message)
    if module_name(function.__module__) is None:
        message = (
            f"@cached cannot name {function.__qualname__} in a key: its module is a program without a file, and any "
            f'other such program has the same name; write key="{function.__name__}{arguments}"'
        )
        raise DecorationError(message)


def needs_key_of_instance(function: Callable[..., object], names: Sequence[str]) -> str:
    """Return the message for a method without a template, with two to write."""
    instance, *rest = names or ["self"]
    arguments = "".join(f":<{name}>" for name in rest)
    name = function.__qualname__.rpartition("<locals>.")[2]
    return (
        f"@cached cannot make the key of the method {name}: its result may depend on the instance, and subclasses "
        f'inherit it; write key="{name}:<{instance}.id>{arguments}" with an attribute that tells instances apart, '
        f'or key="{name}{arguments}" if all instances share the results'
    )


def defined_in_class(function: Callable[..., object]) -> bool:
    """Tell whether ``function`` stands in the body of a class."""
    return "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]


PATTERN: Final = (
    "a * or ? in a key is no pattern and matches nothing; write one key for each call, as `function.key(...)` "
    "gives it, and ids in a key of your own as `cachekit.keys.escape(id)` gives them"
)


def is_pattern(key: str) -> bool:
    """Tell whether a key is meant as a pattern, which no key is: in an argument both marks are escaped."""
    return "*" in key or "?" in key


def _check_pattern(template: str) -> None:
    """Refuse a ``*`` or ``?`` outside the placeholders."""
    if is_pattern(re.sub(r"<[^<>]*>", "", template)):
        message = (
            f"key template {template!r} cannot be used: {PATTERN}; "
            'in a template a placeholder stands for each argument, as in "profile:<user_id>"'
        )
        raise DecorationError(message)


def _check_braces(template: str, signature: inspect.Signature) -> None:
    """Refuse braces that are no hash tag: their author wants a slot of a cluster, and would get another one."""
    if "{" not in template and "}" not in template:
        return
    if template.startswith("~{"):
        message = f"key template {template!r} begins as the key of a tag does; write another first character"
        raise DecorationError(message)
    for name in re.findall(r"\{(\w+)[^{}]*\}", template):
        if name in signature.parameters:
            message = f"{{{name}}} in key template {template!r} is no placeholder; write <{name}>"
            raise DecorationError(message)
    match = re.fullmatch(r"[^{}]*\{([^{}]+)\}[^{}]*", template)
    # An empty argument must not turn {<user_id>} into {}, which is no tag, so some literal text has to be inside.
    if match is None or not re.sub(r"<[^<>]*>", "", match[1]):
        message = (
            f"key template {template!r} has braces that are not one hash tag with literal text inside; "
            'write "{user:<user_id>}:profile", or leave the braces out'
        )
        raise DecorationError(message)


def _check_neighbours(pieces: list[str | _Placeholder], template: str) -> None:
    """Refuse two placeholders when their values may contain the text between them.

    With ``<a>-<b>`` the arguments ``"x-y", "z"`` and ``"x", "y-z"`` would have one key. A rendered value never
    contains a colon, so one between two placeholders keeps them apart.
    """
    for before, between, after in zip(pieces[1::2], pieces[2::2], pieces[3::2], strict=False):
        if isinstance(between, str) and not re.search(r"[:{}\[\]\\]", between):
            message = (
                f"key template {template!r} has only {between!r} between {before} and {after}, which a value may "
                f'contain, so two calls could share a key; write "{before}:{after}"'
            )
            raise DecorationError(message)


class _Placeholder:
    """One ``<name.attribute[item]>``: a name, and the steps from it to the value."""

    __slots__ = ("name", "steps")

    def __init__(self, name: str, steps: tuple[tuple[str, str], ...]) -> None:
        self.name = name
        self.steps = steps

    def __str__(self) -> str:
        steps = (f".{attribute}" if attribute else f"[{item}]" for attribute, item in self.steps)
        return f"<{self.name}{''.join(steps)}>"

    def walk(self, value: Any) -> Any:
        for attribute, item in self.steps:
            try:
                if attribute:
                    value = getattr(value, attribute)
                else:
                    value = value[int(item) if item.lstrip("-").isdecimal() else item]
            # A property of the user's object may raise anything. The call then has no key; nothing else happens.
            except Exception as error:
                step = f".{attribute}" if attribute else f"[{item}]"
                message = f"{self}: {step} cannot be read ({type(error).__name__})"
                raise RenderError(message) from None
        return value


class _ClassPlaceholder(_Placeholder):
    """The class on which a classmethod is called: module and name, for default keys."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, (("__qualname__", ""),))

    def walk(self, value: Any) -> Any:
        """Return module and name of the class ``value``."""
        return _own_name(value)


class _EachPlaceholder(_Placeholder):
    """A ``<*name.attribute>``: each element of a collection."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"<*{super().__str__()[1:]}"

    def walk(self, value: Any) -> Any:
        """Return the elements, in a list."""
        elements = super().walk(value)
        if isinstance(elements, Collection) and not isinstance(elements, (str, bytes, bytearray)):
            try:
                return list(elements)
            # As in the class above.
            except Exception as error:
                message = f"{self}: its elements cannot be read ({type(error).__name__})"
                raise RenderError(message) from None
        # The function would find an iterator empty.
        message = f"{self} needs a collection, such as a list or a set, not a {type(elements).__name__}"
        raise RenderError(message)


def _parse_placeholder(text: str, template: str, names: set[str]) -> _Placeholder:
    match = _PATH.fullmatch(text.removeprefix("*"))
    if match is None:
        message = f"placeholder <{text}> in key template {template!r} cannot be read; {_FORMS}"
        raise DecorationError(message)
    if match[1] not in names:
        known = ", ".join(f"<{name}>" for name in sorted(names)) or "none, it has no parameters"
        message = f"placeholder <{text}> in key template {template!r} names no parameter; the function has {known}"
        raise DecorationError(message)
    return (_EachPlaceholder if text.startswith("*") else _Placeholder)(match[1], tuple(_STEP.findall(match[2])))


def _build(
    pieces: list[str | _Placeholder],
    signature: inspect.Signature,
    *,
    with_result: bool,
    helper: Callable[[object], str],
    split: Callable[[str], Any] = shorten,
) -> Any:
    """Make one function with the parameters of ``signature`` whose body is one f-string, shortened if it is long.

    It returns what ``split`` makes of the text; with `shorten_each` a list of that for each element.

    `inspect.Signature.bind` and a format cost 4 to 7 us a call; this function costs 0.15 us. Only names that
    Python itself accepted as parameters, and literals through `repr`, enter the source.
    """
    names = ("render", "shorten", "type", "str", "int", "len", "text", "result", "element")
    own = {name: _unused(name, signature) for name in names}
    # The builtins too: a parameter may be called `type` or `str`.
    namespace: dict[str, Any] = dict(zip(own.values(), (helper, split, type, str, int, len), strict=False))
    source, elements = "", ""
    for piece in pieces:
        if isinstance(piece, str):
            source += _literal(piece)
            continue
        name = own["result"] if piece.name == RESULT else piece.name
        if piece.steps or isinstance(piece, _EachPlaceholder):
            walk = _unused(f"walk{len(namespace)}", signature)
            namespace[walk] = piece.walk
            name = f"{walk}({name})"
        if isinstance(piece, _EachPlaceholder):
            elements, name = f" for {own['element']} in {name}", own["element"]
        plain = _if_plain(name, own) if helper is render and name == piece.name else ""
        source += f"{{{plain}{own['render']}({name})}}"
    parameters = _parameters(signature, namespace, result=own["result"] if with_result else None)
    code, text, short = f"def key({parameters}):\n ", own["text"], own["shorten"]
    if split is shorten_each:
        code += f'return [{short}(f"{source}"){elements}]'
    else:
        # In line, as `shorten` does: every hit would pay for the call.
        code += f'{text} = f"{source}"\n return {text} if {own["len"]}({text}) <= {_SHORT_KEY} else {short}({text})'
    exec(code, namespace)  # noqa: S102 - the docstring says of which parts the source is made
    return namespace["key"]


def _build_lines(
    pieces: list[str | _Placeholder],
    signature: inspect.Signature,
    known: tuple[Callable[[object], list[str] | None], Callable[[object, str], list[str]]],
) -> KeysFunction:
    """Make one function as `_build` does: it renders each placeholder once, and asks for what is ``known`` of these.

    If nothing is, it returns what the other function makes of them and the text.
    """
    own = {name: _unused(name, signature) for name in ("render", "find", "make", "type", "str", "int", "found")}
    namespace: dict[str, Any] = dict(zip(own.values(), (render, *known, type, str, int), strict=False))
    source, rendered = "", dict[str, str]()
    lines: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            source += _literal(piece)
            continue
        if str(piece) not in rendered:
            name, plain = piece.name, ""
            if piece.steps:
                walk = _unused(f"walk{len(namespace)}", signature)
                namespace[walk] = piece.walk
                name = f"{walk}({name})"
            else:
                plain = _if_plain(name, own)
            value = rendered[str(piece)] = _unused(f"value{len(rendered)}", signature)
            lines.append(f"{value} = {plain}{own['render']}({name})")
        source += f"{{{rendered[str(piece)]}}}"
    values = [*rendered.values()]
    of_all = values[0] if len(values) == 1 else f"({', '.join(values)})"
    lines.append(f"{own['found']} = {own['find']}({of_all})")
    lines.append(f'return {own["make"]}({of_all}, f"{source}") if {own["found"]} is None else {own["found"]}')
    code = f"def keys({_parameters(signature, namespace, result=None)}):\n " + "\n ".join(lines)
    exec(code, namespace)  # noqa: S102 - as in `_build`
    keys: KeysFunction = namespace["keys"]
    return keys


def _if_plain(name: str, own: Mapping[str, str]) -> str:
    """Return the source before an ``else`` that takes a value as it is, if an f-string writes it as `render` does.

    These are the usual values: letters and digits, which need no escaping, and short numbers.
    """
    text = f"{own['type']}({name}) is {own['str']} and {name}.isalnum()"
    return f"{name} if {text} or {own['type']}({name}) is {own['int']} and {-_SHORT} < {name} < {_SHORT} else "


def _literal(text: str) -> str:
    """Return the source of ``text`` inside an f-string."""
    return repr(text)[1:-1].replace("{", "{{").replace("}", "}}").replace('"', '\\"')


def _unused(name: str, signature: inspect.Signature) -> str:
    candidate = f"_{name}_"
    while candidate in signature.parameters:
        candidate += "_"
    return candidate


def _parameters(signature: inspect.Signature, namespace: dict[str, Any], *, result: str | None) -> str:
    """Return the source of the parameter list, defaults by reference."""
    kinds = inspect.Parameter
    parts: list[str] = [] if result is None else [result]
    open_slash = result is not None
    seen_star = False
    for index, parameter in enumerate(signature.parameters.values()):
        if parameter.kind is kinds.POSITIONAL_ONLY:
            open_slash = True
        elif open_slash:
            parts.append("/")
            open_slash = False
        if parameter.kind is kinds.KEYWORD_ONLY and not seen_star:
            parts.append("*")
            seen_star = True
        text = parameter.name
        if parameter.kind is kinds.VAR_POSITIONAL:
            text, seen_star = f"*{text}", True
        elif parameter.kind is kinds.VAR_KEYWORD:
            text = f"**{text}"
        if parameter.default is not kinds.empty:
            default = _unused(f"default{index}", signature)
            namespace[default] = parameter.default
            text += f"={default}"
        parts.append(text)
    if open_slash:
        parts.append("/")
    return ", ".join(parts)
