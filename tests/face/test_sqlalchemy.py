"""SQLAlchemy: what docs/how-to/sqlalchemy.md says and does not show, with a database in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Row, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from cachekit import MISS, DecorationError, RenderError
from cachekit.events import Bypassed, Hit, NotStored
from cachekit.testing import FakeClock, capture_events, memory_cache
from tests.kit.waiting import until


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class OtherBase(MappedAsDataclass, DeclarativeBase): ...


class Dataclass(OtherBase):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass(frozen=True)
class Profile:
    id: int
    name: str


Sessions = async_sessionmaker[AsyncSession]


@pytest_asyncio.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[Sessions]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    async with engine.begin() as connection:
        await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        await connection.run_sync(Base.metadata.create_all)
    made = async_sessionmaker(engine, expire_on_commit=False)
    async with made.begin() as session:
        session.add(User(id=1, name="Ada"))
    yield made
    await engine.dispose()


class Shop:
    """A cached read with a session of its own, one with the session of its caller, and a writer of both."""

    def __init__(self, sessions: Sessions, **options: bool) -> None:
        self.cache = memory_cache()
        self.sessions = sessions

        @self.cache.cached(key="profile:<user_id>", ttl=60)
        async def profile(user_id: int) -> Profile:
            async with sessions() as session:
                user = await session.get_one(User, user_id)
                return Profile(user.id, user.name)

        @self.cache.cached(key="names", ttl=60)
        async def names(session: AsyncSession) -> list[str]:
            return [*await session.scalars(select(User.name))]

        @self.cache.invalidates("profile:<user_id>", "names", **options)
        async def rename(user_id: int, name: str, session: AsyncSession) -> None:
            await session.execute(update(User).where(User.id == user_id).values(name=name))

        self.profile, self.names, self.rename = profile, names, rename

    async def elsewhere(self) -> Profile:
        """Return the profile as another request sees it."""
        return await asyncio.create_task(self.profile(1), context=Context())


@pytest.mark.parametrize("kind", [User, Dataclass, Row], ids=lambda kind: kind.__name__)
async def test_a_mapped_object_and_a_row_are_returned_and_not_stored(sessions: Sessions, kind: Any) -> None:
    async def read() -> Any:
        async with sessions() as session:
            if kind is Row:
                return (await session.execute(select(User.id, User.name))).one()
            return await session.get_one(kind, 1)

    read.__annotations__["return"] = kind
    cached = memory_cache().cached(key="read", ttl=60)(read)
    with capture_events() as events:
        assert (await cached()).name == "Ada"
    assert [event.reason for event in events if isinstance(event, NotStored)] == ["round trip"]


async def test_a_mapped_class_as_the_annotation_of_a_strict_function_is_an_error_at_decoration() -> None:
    async def read() -> User: ...

    with pytest.raises(DecorationError, match="User"):
        memory_cache().cached(key="read", ttl=60, strict=True)(read)


async def test_neither_a_session_nor_a_mapped_object_has_a_text_form(sessions: Sessions) -> None:
    @memory_cache().cached(key="read:<part>", ttl=60)
    async def read(part: Any) -> str: ...

    @memory_cache().cached(key="read:<user.id>", ttl=60)
    async def by_id(user: User) -> str: ...

    async with sessions() as session:
        for part in (session, User(id=1)):
            with pytest.raises(RenderError):
                read.key(part)
    assert by_id.key(User(id=1)) == "read:1"


async def test_a_load_in_an_old_snapshot_stores_what_an_invalidation_has_ended(sessions: Sessions) -> None:
    shop = Shop(sessions)
    async with sessions() as old, sessions.begin() as session:
        await old.execute(text("BEGIN"))
        await shop.names(old)
        await shop.rename(1, "Countess", session)
        await session.commit()
        await shop.names.invalidate(old)
        assert await shop.names(old) == ["Ada"]
        # A load with a session of its own is not part of that.
        assert await shop.profile(1) == Profile(1, "Countess")
    async with sessions() as new:
        assert await shop.names(new) == ["Ada"]


async def test_inside_the_block_its_own_call_runs_uncached_and_others_are_hits_until_the_commit(
    sessions: Sessions,
) -> None:
    shop = Shop(sessions)
    await shop.profile(1)
    with capture_events() as events:
        async with shop.cache.after_commit(), sessions.begin() as session:
            await shop.rename(1, "Countess", session)
            assert await shop.names(session) == ["Countess"]
            assert await shop.elsewhere() == Profile(1, "Ada")
    assert [type(event) for event in events if isinstance(event, (Bypassed, Hit))] == [Bypassed, Hit]
    assert await shop.elsewhere() == Profile(1, "Countess")


async def test_a_transaction_that_is_rolled_back_by_hand_invalidates_all_the_same(sessions: Sessions) -> None:
    shop = Shop(sessions)
    await shop.profile(1)
    async with shop.cache.after_commit(), sessions() as session:
        await shop.rename(1, "Countess", session)
        await session.rollback()
    assert await shop.profile.peek(1) is MISS
    assert await shop.profile(1) == Profile(1, "Ada")


async def test_inside_a_block_that_raises_always_has_no_effect(sessions: Sessions) -> None:
    shop = Shop(sessions, always=True)
    await shop.profile(1)
    with suppress(ConnectionError):
        async with shop.cache.after_commit(), sessions.begin() as session:
            await shop.rename(1, "Countess", session)
            raise ConnectionError
    assert await shop.profile.peek(1) == Profile(1, "Ada")


async def test_around_does_not_help_where_the_commit_comes_after_the_writer(sessions: Sessions) -> None:
    shop = Shop(sessions, around=True)
    async with sessions.begin() as session:
        await shop.rename(1, "Countess", session)
        await shop.elsewhere()
    assert await shop.profile(1) == Profile(1, "Ada"), "it was loaded between the invalidation and the commit"


async def test_a_call_before_the_commit_brings_the_old_value_back_until_the_writer_returns(sessions: Sessions) -> None:
    shop = Shop(sessions)
    seen = []

    @shop.cache.invalidates("profile:<user_id>", around=True)
    async def rename(user_id: int, name: str) -> None:
        seen.append(await shop.profile.peek(user_id))
        await shop.elsewhere()
        async with sessions.begin() as session:
            await session.execute(update(User).where(User.id == user_id).values(name=name))
        seen.append(await shop.elsewhere())

    await shop.profile(1)
    await rename(1, "Countess")
    assert seen == [MISS, Profile(1, "Ada")]
    assert await shop.profile.peek(1) is MISS


async def test_a_sessionmaker_provides_the_session_of_a_load_in_the_background(sessions: Sessions) -> None:
    clock = FakeClock()
    async with memory_cache(clock=clock) as cache:

        @cache.cached(key="name", ttl=60, stale_while_revalidate=60, background={"session": sessions})
        async def name(session: AsyncSession) -> str:
            used.append(session)
            return (await session.scalars(select(User.name))).one()

        used: list[AsyncSession] = []
        async with sessions() as session:
            await name(session)
            clock.advance(61)
            assert await name(session) == "Ada"
            await until(lambda: len(used) == 2 and not cache.loading_in_background)
            assert used[0] is session is not used[1]
