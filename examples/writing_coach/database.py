"""The tables, on SQLite or PostgreSQL. No table has a column for a text: texts stay in snapshots."""

from __future__ import annotations

import time
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


class Database:
    """An engine, its sessions, and the number of its queries. ``flaky``: it is down for half of each minute."""

    def __init__(self, url: str, *, flaky: bool = False) -> None:
        self.flaky = flaky
        self.engine = create_async_engine(url, hide_parameters=True)  # errors are logged
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.queries = 0
        event.listen(self.engine.sync_engine, "before_cursor_execute", self._count)

    async def create_tables(self) -> None:
        """Create the tables that are missing, and close the connection to the database."""
        async with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                # SQLite keeps this setting in the file: from now on no reader waits for a writer.
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            await connection.run_sync(Base.metadata.create_all)
        await self.engine.dispose()

    def _count(self, *_: object) -> None:
        self.queries += 1
        if self.flaky and time.time() % 60 >= 30:
            raise ConnectionError("the database is down, as --flaky-database says")  # noqa: EM101, TRY003 - for show
