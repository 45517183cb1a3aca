"""The way of a call through the rooms: docs/architecture.md describes it, and a traced call goes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType

import pytest

import cachekit
from cachekit import Cache
from tests import ROOT

PACKAGE = Path(cachekit.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


class Trace:
    """The rooms that the traced code enters, in order of the first time, and which room enters which."""

    def __init__(self) -> None:
        self.rooms: list[str] = []
        self.entered: dict[str, set[str]] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        room = room_of(frame)
        if event != "call" or room is None:
            return
        if room not in self.rooms:
            self.rooms.append(room)
        before = frame.f_back
        while before is not None and room_of(before) is None:
            before = before.f_back
        origin = None if before is None else room_of(before)
        if origin not in {None, room}:
            self.entered.setdefault(str(origin), set()).add(room)


def room_of(frame: FrameType) -> str | None:
    """Return the module of ``frame`` as the page names it; None outside the package."""
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).with_suffix("").as_posix() if path.is_relative_to(PACKAGE) else None


async def traced(call: Callable[[], Awaitable[object]]) -> Trace:
    """Trace one call."""
    trace = Trace()
    sys.setprofile(trace)
    try:
        await call()
    finally:
        sys.setprofile(None)
    return trace


async def ways() -> dict[str, Trace]:
    """Trace a hit, a miss, an invalidation and a refresh of one function."""
    cache = Cache("memory://")

    @cache.cached(key="square:<x>", ttl=60)
    async def square(x: int) -> int:
        return x * x

    @cache.invalidates("square:<x>")
    async def change(x: int) -> None: ...

    # A step that happens once, such as building the codec, belongs to no way.
    await square(1)
    await square.refresh(1)
    await change(2)
    try:
        return {
            "hit": await traced(lambda: square(1)),
            "miss": await traced(lambda: square(3)),
            "invalidation": await traced(lambda: change(1)),
            "refresh": await traced(lambda: square.refresh(3)),
        }
    finally:
        await cache.aclose()


@pytest.mark.parametrize("way", ["hit", "miss", "invalidation", "refresh"])
async def test_a_call_goes_the_way_that_the_page_describes(way: str) -> None:
    described = re.search(rf"^- \*\*{way}\*\*: (.+?)(?:\n(?=[-\n]))", PAGE, re.MULTILINE | re.DOTALL)
    assert described is not None, f"docs/architecture.md has no way of a {way}"
    rooms = re.findall(r"`([\w/]+)`", described[1])
    trace = (await ways())[way]
    assert trace.rooms == rooms, " → ".join(f"`{room}`" for room in trace.rooms)


@pytest.mark.parametrize("way", ["hit", "miss", "invalidation", "refresh"])
async def test_no_way_comes_back_into_a_room_that_it_has_left_for_another(way: str) -> None:
    trace = (await ways())[way]
    # `prepare` raises a CycleError that names the rooms.
    TopologicalSorter(trace.entered).prepare()


def test_every_room_is_on_the_page() -> None:
    named = {*re.findall(r"`([\w/]+(?:\.py)?)`", PAGE)}
    rooms = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")}
    lacking = {room for room in rooms if not {room, f"{room}.py", room.rpartition("/")[2]} & named}
    assert {room for room in lacking if not room.endswith("__init__")} == set()
