"""The errors of a writer: expensive to assemble, cached for ten minutes, invalidated by each learnt error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from fastapi import APIRouter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from cachekit import cached, default_cache, invalidates
from examples.writing_coach.database import Database, LearntError
from examples.writing_coach.panel import Figures, Outcome, outcome
from examples.writing_coach.web import Db, ThePanel, UserId

router = APIRouter(prefix="/api")
DAYS: Final = 14
HABITS: Final = 8


@dataclass(frozen=True, slots=True)
class Correction:
    """The wrong word, and the word that replaced it."""

    wrong: str
    right: str
    category: str


@dataclass(frozen=True, slots=True)
class Habit:
    """A misspelling that a writer makes, and its frequency."""

    wrong: str
    right: str
    times: int


@dataclass(frozen=True, slots=True)
class ErrorProfile:
    """The errors of a writer. A hit brings back this type, with the dates, tuples and the datetime in it."""

    total: int
    categories: dict[str, int]
    habits: tuple[Habit, ...]
    days: dict[date, int]
    assembled_at: datetime


@cached(key="profile:<user_id>", ttl=600, stale_if_error="1h", retry_after=5)
async def error_profile(user_id: str, database: Database) -> ErrorProfile:
    """Assemble the profile of a user; an old one stands in while the database fails. One cache is for one database."""
    return (await _assemble([user_id], database))[user_id]


@error_profile.many()
async def error_profiles(user_ids: Sequence[str], database: Database) -> dict[str, ErrorProfile]:
    """Assemble the profiles of many users, with as many queries as for one. Both functions share their hits."""
    return await _assemble(user_ids, database)


async def _assemble(user_ids: Sequence[str], database: Database) -> dict[str, ErrorProfile]:
    user, times = LearntError.user_id, func.count()
    today = datetime.now(UTC).date()
    place = func.row_number().over(partition_by=user, order_by=(times.desc(), func.max(LearntError.id).desc()))
    by_word = (
        select(user, LearntError.wrong, LearntError.right, times.label("times"), place.label("place"))
        .where(user.in_(user_ids))
        .group_by(user, LearntError.wrong, LearntError.right)
        .subquery()
    )
    async with database.sessions() as session:
        categories = await session.execute(
            select(user, LearntError.category, times)
            .where(user.in_(user_ids))
            .group_by(user, LearntError.category)
            .order_by(times.desc())
        )
        habits = await session.execute(select(by_word).where(by_word.c.place <= HABITS).order_by(by_word.c.place))
        days = await session.execute(
            select(user, LearntError.learnt_on, times)
            .where(user.in_(user_ids), LearntError.learnt_on > today - timedelta(days=DAYS))
            .group_by(user, LearntError.learnt_on)
        )
    window = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    found = {user_id: _Rows({}, [], dict.fromkeys(window, 0)) for user_id in user_ids}
    for user_id, category, count in categories:
        found[user_id].categories[category] = count
    for user_id, wrong, right, count, _ in habits:
        found[user_id].habits.append(Habit(wrong, right, count))
    for user_id, day, count in days:
        found[user_id].days[day] = count
    return {user_id: rows.profile() for user_id, rows in found.items()}


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one user."""

    categories: dict[str, int]
    habits: list[Habit]
    days: dict[date, int]

    def profile(self) -> ErrorProfile:
        total = sum(self.categories.values())
        return ErrorProfile(total, self.categories, tuple(self.habits), self.days, datetime.now(UTC))


@invalidates("profile:<user_id>", soft=True)
async def record_errors(user_id: str, corrections: Sequence[Correction], session: AsyncSession) -> None:
    """Record the corrections of a user. The caller commits: see `learn`. The old profile stays for failures alone."""
    session.add_all(
        LearntError(user_id=user_id, wrong=each.wrong, right=each.right, category=each.category) for each in corrections
    )


async def learn(user_id: str, corrections: Sequence[Correction], database: Database) -> None:
    """Record errors in a transaction of their own.

    The profile is invalidated after the commit. Before the commit, another request would assemble and cache it
    without these errors.
    """
    async with default_cache().after_commit(), database.sessions.begin() as session:
        await record_errors(user_id, corrections, session)


@dataclass(frozen=True, slots=True)
class Shown:
    """A profile, its outcome in the cache, and the figures of this worker. ``seconds`` is the time of the call."""

    profile: ErrorProfile
    outcome: Outcome
    seconds: float
    age: float
    figures: Figures


@router.get("/profile")
async def show(user_id: UserId, database: Db, panel: ThePanel) -> Shown:
    """Return the profile of the user who is signed in, with its outcome in the cache."""
    with panel.watching() as watched:
        profile = await error_profile(user_id, database)
    age = (datetime.now(UTC) - profile.assembled_at).total_seconds()
    return Shown(profile, outcome(watched.events), watched.seconds, age, panel.figures())


@router.get("/panel")
async def figures(_: UserId, panel: ThePanel) -> Figures:
    """Return the figures of this worker. It reads a key first, so that ``healthy`` is up to date."""
    await default_cache().get("panel")
    return panel.figures()
