"""The errors that a newcomer meets first say what to write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

from cachekit import Cache, DecorationError, RenderError, cached, cached_many, invalidates, using
from cachekit.events import Event, StoreFailed
from cachekit.stores import MemoryStore
from cachekit.testing import FakeClock, memory_cache

# --- a parameter that has no place in a key ---------------------------------------------------------------


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "cachekit")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "cachekit"]


@cached(ttl=60)
async def by_default(item_id: int, request: Request) -> int:
    return item_id


@cached(key="item:<item_id>:<request>", ttl=60)
async def by_template(item_id: int, request: Request) -> int:
    return item_id


@cached(ttl=60, tags=["items"])
async def with_tags(item_id: int, request: Request) -> int:
    return item_id


app = FastAPI()
for function in (by_default, by_template, with_tags):
    app.get(f"/{function.__name__}/{{item_id}}")(function)

NAME = "starlette.requests.Request"
BY_DEFAULT = (
    f'is not cached: its default key has all parameters, and request ({NAME}) cannot be part of a key; write key="'
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("by_default", f'{BY_DEFAULT}by_default:<item_id>", and in it a part such as <request.id> if'),
        ("with_tags", f'{BY_DEFAULT}with_tags:<item_id>", and in it a part such as <request.id> if'),
        (
            "by_template",
            f"its key has request ({NAME}), which has no stable text form; name a part of it, such as <req",
        ),
    ],
)
async def test_an_endpoint_with_its_request_in_the_key_is_told_which_parameter_and_what_to_write(
    path: str, said: str, warnings: Callable[[], list[str]]
) -> None:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        with using(memory_cache()):
            for _ in range(2):
                assert (await client.get(f"/{path}/7")).json() == 7
    [warning] = warnings()
    assert said in warning


def test_a_key_that_cannot_be_made_says_so_where_it_is_asked_for() -> None:
    @cached(key="two:<one>:<other>", ttl=60)
    async def two(one: object, other: object) -> int: ...

    with pytest.raises(RenderError, match=r"its key has one \(builtins.object\) and other \(builtins.object\), which"):
        two.key(object(), object())


def test_the_template_to_write_for_a_classmethod_has_its_class() -> None:
    with pytest.raises(RenderError, match=r'write key="by_class:<cls.__name__>:<item_id>"'):
        Shop.by_class.key(7, object())


class Shop:
    @cached(ttl=60)
    @classmethod
    async def by_class(cls, item_id: int, request: object) -> int:
        return item_id


def test_a_part_of_an_argument_that_cannot_be_read_is_told_as_before() -> None:
    @cached(key="part:<request.user.id>", ttl=60)
    async def part(request: object) -> int: ...

    with pytest.raises(RenderError, match=r"<request.user.id>: .user cannot be read \(AttributeError\)"):
        part.key(object())


# --- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"expire": 60}, r"there is no option expire=; write ttl=600; its options are ttl, when, .*"),
        ({"ttl": 60, "tag": ["a"]}, r"there is no option tag=; write tags=…"),
        ({"ttl": 60, "near_": True}, r"there is no option near_=; write near=…"),
        ({"ttl": 60, "namespace": "a"}, r'there is no option namespace=; write key="profile:<user_id>"'),
        ({"ttl": 60, "key_builder": repr}, r'there is no option key_builder=; write key="profile:<user_id>"'),
        ({"ttl": 60, "condition": bool}, r"there is no option condition=; write when="),
        ({"ttl": 60, "lock": True}, r"there is no option lock=; write nothing: calls of one key share a load"),
        ({"ttl": 60, "noself": True}, r'there is no option noself=; write key="profile:<user_id>"'),
        ({"ttl": 60, "soft_ttl": 10}, r'there is no option soft_ttl=; write stale_if_error="1h"'),
        ({"ttl": 60, "exceptions": OSError}, r"there is no option exceptions=; write stale_on=ConnectionError"),
        ({"ttl": 60, "alias": "default"}, r"there is no option alias=; write nothing: the cache is that of configure"),
        ({"ttl": 60, "zebra": True}, r"there is no option zebra=; its options are"),
        ({}, r"Missing required argument 'ttl'; its options are .* write @cached\(ttl=600\)"),
    ],
)
def test_an_unknown_option_says_what_to_write_in_its_place(options: dict[str, Any], said: str) -> None:
    for decorator in (cached, Cache("memory://").cached):
        with pytest.raises(DecorationError, match=f"^@cached: {said}"):
            decorator(**options)


def test_an_unknown_option_of_a_batch_says_what_to_write_in_its_place() -> None:
    with pytest.raises(DecorationError, match=r"there is no option expire=; write ttl=600; it needs key, each and ttl"):
        cached_many("user:<user_id>", each="user_ids", expire=60)  # type: ignore[call-arg]
    with pytest.raises(DecorationError, match=r"there is no option max_bath=; write max_batch=…"):
        cached_many("user:<user_id>", each="user_ids", ttl=60, max_bath=60)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("tag", r"write tags=…; its options are tags, soft, always, around"),
        ("alway", r"write always=…"),
        ("key", r'write @invalidates\("profile:<user_id>"\)'),
        ("expire", r'write @invalidates\("profile:<user_id>"\)'),
    ],
)
def test_an_unknown_option_of_invalidates_says_what_to_write_in_its_place(option: str, said: str) -> None:
    for decorator in (invalidates, Cache("memory://").invalidates):
        with pytest.raises(DecorationError, match=rf"^@invalidates: there is no option {option}=; {said}"):
            decorator(**{option: "profile:<user_id>"})  # type: ignore[arg-type]


# --- a call without time ---------------------------------------------------------------------------------


class LateStore(MemoryStore):
    """Its answer to a read comes when the time of a call is over, and is taken all the same."""

    async def get(self, key: str, timeout: float) -> bytes | None:
        until = asyncio.get_running_loop().time() + timeout
        while asyncio.get_running_loop().time() <= until:
            await asyncio.sleep(0.001)
        return None

    async def get_many(self, keys: Any, timeout: float) -> list[Any]:
        return [await self.get(key, timeout) for key in keys]


async def test_a_call_without_time_says_that_this_process_did_not_ask(warnings: Callable[[], list[str]]) -> None:
    cache, events = Cache(LateStore(), timeout=0.01, clock=FakeClock()), list[Event]()
    cache.observe(events.append)

    @cache.cached(key="value:<x>", ttl=60)
    async def value(x: int) -> int:
        return x

    @value.many()
    async def values(xs: list[int]) -> dict[int, int]:
        return {x: x for x in xs}

    assert await value(1) == 1
    assert await values([1, 2]) == {1: 1, 2: 2}
    [warning] = warnings()
    assert warning == (
        "calls are left uncached for now: this process did not ask the store, since earlier steps of a call took its "
        "whole timeout (0.01 s)"
    )
    assert {event.cause for event in events if isinstance(event, StoreFailed)} == {"congested"}
    assert cache.healthy, "nobody has asked the store"
