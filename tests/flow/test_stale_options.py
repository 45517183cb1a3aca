"""The options about stale values: checked at decoration, with errors that say what to write."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from cachekit import Cache
from cachekit._flow.policy import Policy
from cachekit.errors import ConfigurationError, DecorationError
from cachekit.freshness import Windows

NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"stale_while_revalidate": "soon"}, "stale_while_revalidate='soon' is not a duration; .* such as \"10m\""),
    ({"stale_while_revalidate": 0}, "stale_while_revalidate=0 is out of range"),
    ({"stale_if_error": -1}, "stale_if_error=-1 is out of range"),
    ({"stale_if_error": float("nan")}, "stale_if_error=nan is out of range"),
    ({"stale_if_error": True}, "stale_if_error=True is not a duration"),
    ({"soft_timeout": "200ms"}, "soft_timeout='200ms' has no effect without .*; write stale_if_error=\"1h\" as well"),
    ({"soft_timeout": 1, "stale_while_revalidate": 1}, "soft_timeout=1 has no effect without stale_if_error"),
    ({"soft_timeout": "x", "stale_if_error": 1}, "soft_timeout='x' is not a duration"),
    ({"retry_after": 10.0 + 0}, 'retry_after=10.0 has no effect .*; write stale_while_revalidate="1m" or'),
    ({"retry_after": "1m"}, "retry_after='1m' has no effect"),
    ({"retry_after": 0, "stale_if_error": 1}, "retry_after=0 is out of range"),
    ({"stale_on": ValueError}, "stale_on=<class 'ValueError'> has no effect"),
    ({"stale_on": asyncio.CancelledError, "stale_if_error": 1}, "which a cancellation is not; write stale_on="),
    ({"stale_on": (ValueError, BaseException), "stale_if_error": 1}, "must be types of exceptions"),
    ({"stale_on": (), "stale_if_error": 1}, "must be types of exceptions"),
    ({"stale_on": "ValueError", "stale_if_error": 1}, "must be types of exceptions"),
    (
        {"refresh_ahead": "soon"},
        "refresh_ahead='soon' is no part of the ttl; write refresh_ahead=\"auto\", or a number",
    ),
    ({"refresh_ahead": 1}, "refresh_ahead=1 is no part of the ttl"),
    ({"refresh_ahead": 0}, "refresh_ahead=0 is no part of the ttl"),
    ({"refresh_ahead": True}, "refresh_ahead=True is no part of the ttl"),
    ({"background": True}, "background=True has no effect without .*; write stale_while_revalidate="),
    ({"background": {"a": open}}, "background={'a': …} has no effect"),
    ({"background": {}, "refresh_ahead": 0.1}, "background={} names no parameters; write background={"),
    ({"background": {1: open}, "refresh_ahead": 0.1}, "names no parameters"),
    ({"background": "self", "refresh_ahead": 0.1}, "background='self' names no parameters"),
    ({"background": {"a": 5}, "refresh_ahead": 0.1}, "is a int, neither a callable nor an async context manager"),
    ({"offline": "60s", "near": False}, "near=False keeps none; leave near out"),
    ({"offline": 0}, "offline=0 is out of range"),
]


@pytest.mark.parametrize(("options", "message"), NONSENSE, ids=[str(n) for n in range(len(NONSENSE))])
def test_nonsense_is_refused_at_decoration_with_the_text_to_write(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Cache("memory://").cached(key="k", ttl=60, **options)


def test_a_message_about_a_provider_does_not_show_what_it_provides() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Cache("memory://").cached(key="k", ttl=60, background={"a": lambda: "SECRET"})
    assert "SECRET" not in str(raised.value)
    assert "lambda" not in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"stale_if_error": "1h", "retry_after": "5s"}, {"offline": 5, "stale_on": OSError}]
)
def test_options_that_have_an_effect_are_accepted(options: dict[str, Any]) -> None:
    policy = Policy(ttl=60, **options)
    assert isinstance(policy.windows, Windows)


def test_a_function_without_such_options_has_no_windows() -> None:
    assert Policy(ttl=60, near=True, load_timeout=5).windows is None


def test_the_windows_are_seconds() -> None:
    policy = Policy(ttl="10m", stale_while_revalidate="1m", stale_if_error="1h", refresh_ahead=0.1, offline="30s")
    assert policy.windows == Windows(revalidate=60, if_error=3600, ahead=0.1, ttl=600, offline=30)
    assert Policy(ttl=lambda _: 5, refresh_ahead="auto").windows == Windows(ahead=0.0)


# --- who loads in the background, and with what ----------------------------------------------------------

BEHIND: list[dict[str, Any]] = [
    {"stale_while_revalidate": 1},
    {"refresh_ahead": "auto"},
    {"refresh_ahead": 0.5},
    {"soft_timeout": 1, "stale_if_error": 1},
]


@pytest.mark.parametrize("options", BEHIND, ids=[next(iter(options)) + str(n) for n, options in enumerate(BEHIND)])
def test_a_parameter_that_is_not_in_the_key_must_be_declared(options: dict[str, Any]) -> None:
    cache = Cache("memory://")

    async def load(session: object, user_id: int) -> int:
        return 1

    with pytest.raises(DecorationError, match=r'does not name session, .* write background={"session": open_session}'):
        cache.cached(key="k:<user_id>", ttl=60, **options)(load)
    cache.cached(key="k:<user_id>", ttl=60, **options, background=True)(load)
    cache.cached(key="k:<user_id>", ttl=60, **options, background={"session": contextlib.nullcontext})(load)
    cache.cached(key="k:<user_id.id>:<session>", ttl=60, **options)(load)
    # Without a template the key names them all.
    other = cache.cached(ttl=60, **options)(_load)
    assert "session" in other.key(1, 2)


async def _load(session: object, user_id: int) -> int:
    return 1


def test_self_must_be_declared_as_any_other_parameter() -> None:
    cache = Cache("memory://")
    with pytest.raises(DecorationError, match="does not name self, which may be closed"):

        class Shop:
            @cache.cached(key="price:<sku>", ttl=60, stale_while_revalidate=5)
            async def price(self, sku: str) -> int:
                raise NotImplementedError

    class OtherShop:
        @cache.cached(key="price:<sku>", ttl=60, stale_while_revalidate=5, background=True)
        async def price(self, sku: str) -> int:
            raise NotImplementedError

        @cache.cached(key="quick:<sku>", ttl=60, stale_while_revalidate=5)
        @staticmethod
        async def quick(sku: str) -> int:
            raise NotImplementedError

        # A class outlives every call.
        @cache.cached(key="of_all:<sku>", ttl=60, stale_while_revalidate=5)
        @classmethod
        async def of_all(cls, sku: str) -> int:
            raise NotImplementedError


def test_a_message_names_every_parameter_that_lacks_a_declaration() -> None:
    async def load(db: object, user_id: int, *more: int, **_options: int) -> int:
        return 1

    with pytest.raises(
        DecorationError, match=r'name db and more and _options, .*"more": open_more, "_options": open_opt'
    ):
        Cache("memory://").cached(key="k:<user_id>", ttl=60, stale_while_revalidate=5)(load)


def test_stale_if_error_alone_loads_in_the_callers_own_task_and_needs_no_declaration() -> None:
    async def load(session: object) -> int:
        return 1

    Cache("memory://").cached(key="k", ttl=60, stale_if_error=5, offline=5)(load)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"sesion": object}, "'sesion': …} names no parameter of .*load; it has session, user_id"),
        ({"user_id": object}, "'user_id': …} would provide a parameter of .*load that is in its key"),
    ],
)
def test_a_declaration_of_what_cannot_be_provided_is_refused(declared: dict[str, Any], message: str) -> None:
    async def load(session: object, user_id: int) -> int:
        return 1

    with pytest.raises(DecorationError, match=message):
        Cache("memory://").cached(key="k:<user_id>", ttl=60, stale_while_revalidate=5, background=declared)(load)


def test_soft_is_a_choice() -> None:
    with pytest.raises(ConfigurationError, match="soft='yes' is no choice; write soft=True"):
        Cache("memory://").invalidates("k", soft="yes")  # type: ignore[arg-type]
