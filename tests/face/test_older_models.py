"""Entries of another release: docs/how-to/deploys.md has a table of what a changed model makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

import pydantic
import pytest

from cachekit import Cache, new_key
from cachekit.stores import open_store
from tests import ROOT
from tests.kit.ids import shown
from tests.kit.waiting import PATIENCE

PAGE = ROOT / "docs" / "how-to" / "deploys.md"
KEYS = [new_key()]


@dataclass
class Named:
    name: str


@dataclass
class Aged:
    name: str
    age: int


@dataclass
class Defaulted:
    name: str
    age: int = 0


@dataclass
class Titled:
    title: str


@dataclass
class Numbered:
    name: int


class Red(Enum):
    RED = "red"


class RedAndBlue(Enum):
    RED = "red"
    BLUE = "blue"


class Text(pydantic.BaseModel):
    name: str


class Number(pydantic.BaseModel):
    name: int


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    name: str


class NamedAndAged(pydantic.BaseModel):
    name: str
    age: int


class Release(NamedTuple):
    """What the function of a release returns, and its options."""

    value: Any
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Change(NamedTuple):
    """Two releases, and the values that each reads from an entry of the other; a miss is `MISS`."""

    old: Release
    new: Release
    new_reads: Any
    old_reads: Any


MISS = object()

CHANGES: dict[str, list[Change]] = {
    "a field is added, without a default": [Change(Release(Named("a")), Release(Aged("b", 3)), MISS, Named("b"))],
    "a field is added, with a default": [
        Change(Release(Named("a")), Release(Defaulted("b", 3)), Defaulted("a", 0), Named("b"))
    ],
    "a field is removed": [Change(Release(Aged("a", 3)), Release(Named("b")), Named("a"), MISS)],
    "a field is renamed, or has another type": [
        Change(Release(Named("a")), Release(Titled("b")), MISS, MISS),
        Change(Release(Named("a")), Release(Numbered(4)), MISS, MISS),
    ],
    "the meaning changes, and the type does not": [Change(Release(3), Release(300), 3, 300)],
    "an `Enum` has a new member": [
        Change(Release(Red.RED), Release(RedAndBlue.BLUE), RedAndBlue.RED, MISS),
        Change(Release(Red.RED), Release(RedAndBlue.RED), RedAndBlue.RED, Red.RED),
    ],
    "`tags=` is added or removed": [
        Change(Release("a"), Release("b", {"tags": ["all"]}), MISS, MISS),
        Change(Release("a", {"tags": ["all"]}), Release("b"), MISS, MISS),
    ],
    "a stale window is added or removed": [
        Change(Release("a"), Release("b", {"stale_if_error": 60}), "a", "b"),
        Change(Release("a", {"stale_if_error": 60}), Release("b"), "a", "b"),
    ],
    "`private=True` is added or removed": [
        Change(Release("a"), Release("b", {"private": True}), MISS, MISS),
        Change(Release("a", {"private": True}), Release("b"), MISS, MISS),
    ],
    "`ttl=` is changed": [Change(Release("a", {"ttl": 600}), Release("b", {"ttl": 60}), "a", "b")],
}

OF_PYDANTIC = [
    Change(Release(Text(name="1")), Release(Number(name=2)), Number(name=1), MISS),
    Change(Release(NamedAndAged(name="a", age=3)), Release(Strict(name="b")), MISS, MISS),
]


def decorated(cache: Cache, release: Release) -> Any:
    async def function() -> Any:
        return release.value

    function.__annotations__["return"] = type(release.value)
    return cache.cached(key="key", **{"ttl": 600, **release.options})(function)


async def is_read(url: str, writer: Release, reader: Release, expected: object) -> None:
    """One release stores its value, and the other one reads it, or loads its own."""
    store = open_store(url)
    async with Cache(store, keys=KEYS, timeout=PATIENCE) as ours, Cache(store, keys=KEYS, timeout=PATIENCE) as theirs:
        write, read = decorated(theirs, writer), decorated(ours, reader)
        await write.refresh()
        assert await read() == (reader.value if expected is MISS else expected)
        if expected is MISS:
            assert await read.peek() == reader.value, "a miss is replaced"
        else:
            left, ttl = await read.ttl(), writer.options.get("ttl", 600)
            assert ttl - PATIENCE < left <= ttl, "a hit keeps the TTL that it has"


@pytest.mark.parametrize("change", [*chain(*CHANGES.values()), *OF_PYDANTIC], ids=shown)
async def test_an_entry_of_another_release_is_a_hit_where_it_fits_and_else_a_miss(
    store_url: str, change: Change
) -> None:
    await is_read(store_url, change.old, change.new, change.new_reads)
    await is_read(store_url, change.new, change.old, change.old_reads)


def test_the_page_about_deploys_has_each_change_with_its_hits_and_misses() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {row[0]: row[1:] for row in rows}
    for text, changes in CHANGES.items():
        reads = changes[0].new_reads, changes[0].old_reads
        assert [re.split(r"\W", cell)[0] for cell in told[text]] == [
            "miss" if read is MISS else "hit" for read in reads
        ]
