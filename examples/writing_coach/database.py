"""The tables, on SQLite or PostgreSQL. No table has a column for a text: texts stay in snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime

from sqlalchemy import ForeignKey, String, event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The base class of all tables."""


class User(Base):
    """A user who has signed up. Two users may have the same name: a passkey identifies a user."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))


class Passkey(Base):
    """The public half of a passkey. The private half never leaves its authenticator."""

    __tablename__ = "passkeys"

    id: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(User.id))
    user: Mapped[User] = relationship()
    public_key: Mapped[bytes]
    sign_count: Mapped[int]


class LearntError(Base):
    """One correction that a writer made: a row each time, so that a profile can count by any column."""

    __tablename__ = "learnt_errors"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(User.id), index=True)
    wrong: Mapped[str] = mapped_column(String(80))
    right: Mapped[str] = mapped_column(String(80))
    category: Mapped[str] = mapped_column(String(20))
    learnt_on: Mapped[date] = mapped_column(default=lambda: datetime.now(UTC).date())


class SchoolClass(Base):
    """A class of a teacher, who is a user as well. A user who knows its code can join it."""

    __tablename__ = "classes"

    id: Mapped[int] = mapped_column(primary_key=True)
    teacher_id: Mapped[str] = mapped_column(ForeignKey(User.id), index=True)
    name: Mapped[str] = mapped_column(String(64))
    code: Mapped[str] = mapped_column(String(16), unique=True)
    task: Mapped[str] = mapped_column(String(300), default="")


class Pupil(Base):
    """A user in a class, under the name that the teacher reads. A user is in one class at most."""

    __tablename__ = "pupils"

    user_id: Mapped[str] = mapped_column(ForeignKey(User.id), primary_key=True)
    class_id: Mapped[int] = mapped_column(ForeignKey(SchoolClass.id), index=True)
    name: Mapped[str] = mapped_column(String(64))


class Database:
    """An engine and its sessions. ``observe`` is called before each query. ``flaky``: down for half of each minute."""

    def __init__(self, url: str, *, flaky: bool = False, observe: Callable[[], None] | None = None) -> None:
        self.flaky = flaky
        self.engine = create_async_engine(url, hide_parameters=True)  # errors are logged
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.observe = observe
        event.listen(self.engine.sync_engine, "before_cursor_execute", self._before)

    async def create_tables(self) -> None:
        """Create the tables that are missing, and close the connection to the database."""
        async with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                # SQLite keeps this setting in the file: from now on no reader waits for a writer.
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            await connection.run_sync(Base.metadata.create_all)
        await self.engine.dispose()

    def _before(self, *_: object) -> None:
        if self.observe:
            self.observe()
        if self.flaky and time.time() % 60 >= 30:
            raise ConnectionError("the database is down, as --flaky-database says")  # noqa: EM101, TRY003 - for show
