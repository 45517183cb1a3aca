"""The options of a decorated function: written once, checked at once."""

from __future__ import annotations

import inspect
import typing

import pytest

from cachekit import Cache, cached, invalidates
from cachekit._flow.policy import CachedOptions, Policy
from cachekit.errors import DecorationError


def test_the_options_that_checkers_know_are_the_options_of_the_policy() -> None:
    known = typing.get_type_hints(CachedOptions, include_extras=True)
    for name, option in inspect.signature(Policy).parameters.items():
        needed = option.default is option.empty
        assert known.pop(name) == (typing.Required[option.annotation] if needed else option.annotation)
    assert not known


@pytest.mark.parametrize("decorator", [cached, Cache("memory://").cached], ids=["module", "cache"])
def test_people_and_tools_see_every_option_with_its_default(decorator: object) -> None:
    seen = inspect.signature(decorator).parameters  # type: ignore[arg-type]
    assert list(seen) == ["key", *inspect.signature(Policy).parameters]
    assert seen["jitter"].default == Policy(ttl=60).jitter


@pytest.mark.parametrize("options", [{}, {"ttl": 60, "tll": 60}], ids=["no ttl", "a typing error"])
def test_a_wrong_option_is_refused_with_the_names_of_all(options: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"its options are ttl, when, jitter, lease, near, .* write @cached\(ttl=600\)"):
        cached(**options)  # type: ignore[arg-type]


def test_a_decorator_without_its_parentheses_is_refused_with_the_text_to_write() -> None:
    with pytest.raises(DecorationError, match=r"write @cached\(ttl=600\) with its parentheses"):
        cached(test_a_wrong_option_is_refused_with_the_names_of_all)  # type: ignore[arg-type, call-arg]


def test_the_decorators_of_the_module_are_functions_of_it() -> None:
    for decorator in (cached, invalidates):
        assert inspect.isfunction(decorator)
        assert (decorator.__module__, decorator.__qualname__) == ("cachekit.functions", decorator.__name__)
