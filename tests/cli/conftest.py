"""An application in a file of its own, whose functions the commands explain."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cachekit import new_key

SOURCE = """
from dataclasses import dataclass
from cachekit import Cache, cached

cache = Cache({url!r}, prefix="shop:", timeout=30, keys=["{key}"])

@dataclass
class Profile:
    user_id: int
    secret: str

@cache.cached(key="profile:<user_id>", ttl=600, tags=["team:<team>"], stale_if_error="1h")
async def profile(user_id: int, team: str = "reds", session: object = None) -> Profile:
    return Profile(user_id, "do not show me")

@cache.cached(key="plain:<name>:<day>", ttl=60, when=bool)
async def plain(name: str, day: int, database) -> list[int]:
    return [day]

@plain.many(each="days", absent_ttl=60)
async def plains(name: str, days: list[int], database) -> dict[int, list[int]]:
    return {{day: [day] for day in days if day < 10}}

@cache.cached(key="stale:<x>", ttl=600, stale_while_revalidate=600)
async def stale(x: int) -> int:
    return x

@cache.cached(key="note:<x>", ttl=600, private=True)
async def note(x: int) -> str:
    return "do not show me"

@cache.cached(key="opened:<x>", ttl=600)
async def opened(x: int) -> str:
    return "plain"

@cache.cached(key="lost:<x>", ttl=600)
async def lost(x: object) -> object: ...

@cache.cached(key="part:<x.part>", ttl=600)
async def by_part(x: str) -> str: ...

@cached(key="default:<x>", ttl=600)
async def of_default(x: int) -> int:
    return x

@cache.invalidates("profile:<user_id>")
async def rename(user_id: int) -> None: ...
"""


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A function that writes the application, on the store of a URL, and imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    path = [*sys.path]

    def write(url: str) -> ModuleType:
        (tmp_path / "shop_of_a_test.py").write_text(SOURCE.format(url=url, key=new_key()))
        return importlib.import_module("shop_of_a_test")

    yield write
    sys.modules.pop("shop_of_a_test", None)
    sys.path[:] = path
