"""The exception of a shared load: each caller raises a copy, since raising an exception changes it.

A raise adds to the traceback, and sets as context the exception that the caller is handling: another caller's secret.
A copy has the type, arguments, attributes and notes of the original, and copies of its cause and context. It is made
without code of its class: that may refuse, or do something. Attributes are not copied themselves.

A type of an extension module may keep its state where Python cannot copy it. Such an exception is raised as it is, by
all callers; its context stays as the load left it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, NoReturn, TypeVar

E = TypeVar("E", bound=BaseException)

_MADE_IN_PYTHON: Final = 1 << 9
"""The flag of a type that was not compiled into its module (``Py_TPFLAGS_HEAPTYPE``)."""

_UNSET: Final = object()

# Not `error.name = …`: an exception that is a frozen dataclass refuses that.
_set: Final = BaseException.__setattr__


def copied(error: E, outside: BaseException | None = None) -> E:
    """Return a copy of ``error``, or ``error`` itself when it cannot be copied.

    Its causes and contexts are copied with it. ``outside`` is left out of the contexts: the exception that the caller
    of the load was handling.
    """
    originals: list[BaseException] = []
    copies: dict[int, Any] = {}
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is None or id(one) in copies:
            continue
        originals.append(one)
        copies[id(one)] = _copy(one, outside)
        ahead.append(one.__cause__)
        if one.__context__ is not outside:
            ahead.append(one.__context__)
    for one in originals:
        twin = copies[id(one)]
        if twin is not one:
            context = None if one.__context__ is outside else one.__context__
            _set(twin, "__cause__", copies.get(id(one.__cause__)))
            _set(twin, "__context__", copies.get(id(context)))
            _set(twin, "__suppress_context__", one.__suppress_context__)
            _set(twin, "__traceback__", one.__traceback__)
    twin_of_error: E = copies[id(error)]
    return twin_of_error


def raise_copy(error: BaseException) -> NoReturn:
    """Raise a copy of ``error``, as if it had been raised in the load of this caller alone."""
    twin = copied(error)
    context, handled = twin.__context__, sys.exception()
    if twin is error:
        traceback = error.__traceback__
        try:
            raise error
        finally:
            # What this caller is handling is nothing for others.
            _set(error, "__context__", context)
            _set(error, "__traceback__", traceback)
    if context is None:
        raise twin
    last = _last_context(twin)
    if last is not handled:
        _set(last, "__context__", handled)
    try:
        raise twin
    finally:
        # The raise has put the handled exception in its place.
        _set(twin, "__context__", context)


def _last_context(error: BaseException) -> BaseException:
    seen = {id(error)}
    while error.__context__ is not None and id(error.__context__) not in seen:
        error = error.__context__
        seen.add(id(error))
    return error


def _copy(error: BaseException, outside: BaseException | None) -> BaseException:
    """Return a copy without cause, context and traceback, or ``error`` itself."""
    kind = type(error)
    base: Any = next(one for one in kind.__mro__ if not one.__flags__ & _MADE_IN_PYTHON)
    try:
        if isinstance(error, BaseExceptionGroup):
            twin = base.__new__(kind, error.message, [copied(member, outside) for member in error.exceptions])
        else:
            twin = base.__new__(kind, *error.args)
            _set(twin, "args", error.args)
        _copy_members(error, twin)
    # The type, or one of its members, lets nobody make or change it from outside.
    except (AttributeError, TypeError, ValueError):
        return error
    if type(twin) is not kind:
        return error
    twin.__dict__.update(error.__dict__)
    notes = twin.__dict__.get("__notes__")
    if isinstance(notes, list):
        twin.__dict__["__notes__"] = [*notes]
    copy: BaseException = twin
    return copy


def _copy_members(error: BaseException, twin: BaseException) -> None:
    """Copy the attributes that stand outside of ``__dict__``: slots, and those of a type in C.

    Raises:
        AttributeError, TypeError: One of them cannot be set, and is another in the copy.
    """
    for descriptor in _members(type(error)):
        value = _value(descriptor, error)
        if value is _UNSET or value is _value(descriptor, twin):
            continue
        descriptor.__set__(twin, value)


def _members(kind: type[BaseException]) -> Iterator[Any]:
    for base in kind.__mro__:
        if base in {BaseExceptionGroup, BaseException, object}:
            continue
        for name, member in vars(base).items():
            if isinstance(member, (MemberDescriptorType, GetSetDescriptorType)) and name not in _OF_EVERY_OBJECT:
                yield member


_OF_EVERY_OBJECT: Final = frozenset({"__dict__", "__weakref__"})


def _value(descriptor: Any, error: BaseException) -> object:
    try:
        value: object = descriptor.__get__(error, type(error))
    except AttributeError:
        return _UNSET
    return value
