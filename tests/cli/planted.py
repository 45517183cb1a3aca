"""A small application with ten planted mistakes. Nothing calls it: `cachekit check` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cachekit import Cache

cache = Cache("memory://")


class Request:
    """As a web framework has it: it has no stable text form."""


class Session:
    """As a database has it."""


@dataclass
class Basket:
    owner: str
    session: Session


# 1: the same template, and another type.
@cache.cached(key="user:<user_id>", ttl=600)
async def name_of(user_id: int) -> str: ...


@cache.cached(key="user:<user>", ttl=600)
async def ages_of(user: int) -> list[int]: ...


# 2: with the id "newest" both are one key.
@cache.cached(key="post:<post_id>", ttl=600)
async def post(post_id: str) -> str: ...


@cache.cached(key="post:newest", ttl=600)
async def newest_post() -> str: ...


# 3: the request enters the default key.
@cache.cached(ttl=60)
async def front_page(request: Request) -> str: ...


# 4: the session enters a template.
@cache.cached(key="rows:<session>:<table>", ttl=60)
async def rows(session: Session, table: str) -> list[int]: ...


# 5: the second one takes the name, and so the key, of the first.
@cache.cached(ttl=60)
async def report(day: int) -> dict[str, int]: ...


daily_report = report


@cache.cached(ttl=60)
async def report(day: int) -> dict[str, int]:  # type: ignore[no-redef]
    ...


# 6: a misspelt template.
@cache.invalidates("users:<user_id>")
async def rename(user_id: int, name: str) -> None: ...


# 7: nothing invalidates the tag.
@cache.cached(key="member:<member_id>", ttl=600, tags=["team:<team_id>"])
async def member(member_id: int, team_id: int) -> str: ...


# 8: a tag that no function has.
@cache.invalidates(tags=["teams:<team_id>"])
async def rename_team(team_id: int, name: str) -> None: ...


# 9: a session does not come back from JSON.
@cache.cached(key="basket:<owner>", ttl=600)
async def basket(owner: str) -> Basket: ...


# 10: the language is not in the key.
@cache.cached(key="greeting:<name>", ttl=600)
async def greeting(name: str, language: str) -> Sequence[str]: ...
