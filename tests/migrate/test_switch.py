"""The steps of docs/migrate/index.md, forward and back: with all releases of a step side by side, no value is old."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from cachekit import Cache
from cachekit._cli import main
from tests.kit.servers import RedisServer

pytestmark = pytest.mark.server

OLD, NEW = "old:", "myapp:"


class Release(NamedTuple):
    """An application at one step of the move: which cache it reads, and which caches its writer invalidates."""

    name: str
    reads: str
    invalidates: str


BEFORE = Release("before", reads=OLD, invalidates=OLD)
STEP3 = Release("step 3", reads=OLD, invalidates=OLD + NEW)
STEP4 = Release("step 4", reads=NEW, invalidates=OLD + NEW)
STEP6 = Release("step 6", reads=NEW, invalidates=NEW)

FORWARD = [[BEFORE], [BEFORE, STEP3], [STEP3], [STEP3, STEP4], [STEP4]]
TO_THE_END = [*FORWARD, [STEP4, STEP6], [STEP6]]
TO_BEFORE = [*FORWARD, [STEP4, STEP3], [STEP3], [STEP3, BEFORE], [BEFORE], [BEFORE, STEP3], [STEP3]]
FROM_THE_END = [*TO_THE_END, [STEP6, STEP4], [STEP4]]
TO_STEP_3 = [[STEP4, STEP3], [STEP3]]
"""Which releases run at the same time, from one moment to the next."""


class Shop:
    """A database of one row for each moment of a way, the old cache in front of it, and cachekit."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._rows: dict[int, int] = {}
        self._cache = Cache(server.url, prefix=NEW, timeout=20)
        self._price = self._cache.cached(key="price:<row>", ttl=600)(self._select)

    def play(self, way: Sequence[list[Release] | str]) -> list[str]:
        """Let the releases of each moment read and write, run `cachekit clear` for a prefix; return what was old."""
        self._rows = dict.fromkeys(range(len(way)), 0)
        wrong: list[str] = []
        for number, moment in enumerate(way):
            if isinstance(moment, str):
                assert main(["clear", "--url", self._server.url, "--prefix", moment, "--yes"]) == 0
            else:
                wrong += asyncio.run(self._play(number, moment))
        return wrong

    async def _play(self, number: int, releases: list[Release]) -> list[str]:
        """Read all rows, then let each release write the row of this moment; a later moment writes another one."""
        async with self._cache:
            wrong = [f"{one.name} at first" for one in releases for row in self._rows if await self._is_old(one, row)]
            for writer in releases:
                await self._write(writer, number)
                wrong += [f"{one.name} behind {writer.name}" for one in releases if await self._is_old(one, number)]
        return wrong

    async def _select(self, row: int) -> int:
        return self._rows[row]

    async def _is_old(self, release: Release, row: int) -> bool:
        if release.reads == NEW:
            return await self._price(row) != self._rows[row]
        found = self._server.cli("GET", f"{OLD}price:{row}")
        if found is None:
            self._server.cli("SET", f"{OLD}price:{row}", self._rows[row])
        return found is not None and int(found) != self._rows[row]

    async def _write(self, release: Release, row: int) -> None:
        self._rows[row] += 1
        if OLD in release.invalidates:
            self._server.cli("DEL", f"{OLD}price:{row}")
        if NEW in release.invalidates:
            await self._price.invalidate(row)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(TO_THE_END, id="to the end"),
        pytest.param([*FORWARD, *TO_STEP_3], id="back to step 3"),
        pytest.param([*TO_BEFORE, NEW, [STEP3, STEP4], [STEP4]], id="back to the first release, and once more"),
        pytest.param(FROM_THE_END, id="back to step 5"),
        pytest.param([*FROM_THE_END, OLD, *TO_STEP_3], id="from the end to step 3"),
    ],
)
def test_no_reader_gets_an_old_value_on_a_way_of_the_page(
    way: list[list[Release] | str], redis_server: RedisServer
) -> None:
    assert Shop(redis_server).play(way) == []


@pytest.mark.parametrize(
    "way",
    [
        pytest.param([[BEFORE], [BEFORE, STEP4]], id="the readers before the writers"),
        pytest.param([*FORWARD, [STEP4, BEFORE]], id="back to the first release at once"),
        pytest.param([*TO_BEFORE, [STEP3, STEP4]], id="once more, without the removal"),
        pytest.param([*TO_THE_END, [STEP6, STEP3]], id="from the end to step 3 at once"),
        pytest.param([*FROM_THE_END, *TO_STEP_3], id="from the end to step 3, without the removal"),
    ],
)
def test_a_reader_gets_an_old_value_on_a_shorter_way(way: list[list[Release] | str], redis_server: RedisServer) -> None:
    assert Shop(redis_server).play(way) != []
