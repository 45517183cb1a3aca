"""Classes and their pupils: what depends on a class hangs on a tag, and one invalidation of it forgets all of that.

Each way to invalidate is here once, where it is right:

- **A tag** for values that depend on the same thing: the list of a teacher's classes in each order, and a class as its
  teacher and as its pupils see it. Which of them are cached, and how many, no writer has to know.
- **A key** for one value: the class that a user is in.
- **Many keys** at once for the profiles of a class (`begin_term`).
- **A value in hand** for the task of a class: the write has it already, so no pupil has to load it (`set_task`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from cachekit import cached, default_cache, invalidates
from examples.writing_coach.database import Database, LearntError, Pupil, SchoolClass, User
from examples.writing_coach.profile import error_profiles

Order: TypeAlias = Literal["name", "pupils", "newest"]

NEWEST: Final = SchoolClass.id.desc()


# --- values -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """A class in the list of its teacher."""

    id: int
    name: str
    pupils: int


@dataclass(frozen=True, slots=True)
class Roster:
    """A class as its teacher sees it. ``pupils`` has the name of each by the user's id."""

    teacher_id: str
    name: str
    code: str
    pupils: dict[str, str]


@dataclass(frozen=True, slots=True)
class Board:
    """A class as its pupils see it: no pupil learns who else is in it."""

    name: str
    teacher: str


@cached(key="classes:<teacher_id>:<order>", ttl="1h", tags=["teacher:<teacher_id>"])
async def classes_of(teacher_id: str, order: Order, database: Database) -> list[Listed]:
    """List the classes of a teacher. The list in each order is a value of its own; one tag invalidates all of them."""
    pupils = func.count(Pupil.user_id)
    orders = {"name": SchoolClass.name, "pupils": pupils.desc(), "newest": NEWEST}
    async with database.sessions() as session:
        rows = await session.execute(
            select(SchoolClass.id, SchoolClass.name, pupils)
            .outerjoin(Pupil)
            .where(SchoolClass.teacher_id == teacher_id)
            .group_by(SchoolClass.id, SchoolClass.name)
            .order_by(orders[order], NEWEST)
        )
    return [Listed(*row) for row in rows]


# Without `when`, a class that is not there would be remembered as None.
@cached(key="roster:<class_id>", ttl="1h", tags=["class:<class_id>"], when=lambda roster: roster is not None)
async def roster(class_id: int, database: Database) -> Roster | None:
    """Return a class with its pupils; None if there is none of this id."""
    async with database.sessions() as session:
        found = await session.get(SchoolClass, class_id)
        pupils = await session.execute(
            select(Pupil.user_id, Pupil.name).where(Pupil.class_id == class_id).order_by(Pupil.name, Pupil.user_id)
        )
    return Roster(found.teacher_id, found.name, found.code, dict(pupils.all())) if found else None


@cached(key="board:<class_id>", ttl="1h", tags=["class:<class_id>"])
async def board(class_id: int, database: Database) -> Board:
    """Return a class as its pupils see it: one value for all of them."""
    async with database.sessions() as session:
        rows = await session.execute(select(SchoolClass.name, User.name).join(User).where(SchoolClass.id == class_id))
    return Board(*rows.one())


@cached(key="membership:<user_id>", ttl="1h")
async def membership(user_id: str, database: Database) -> int | None:
    """Return the id of the class that a user is in; None, which is cached as well, for a user who is in none."""
    async with database.sessions() as session:
        pupil = await session.get(Pupil, user_id)
    return pupil.class_id if pupil else None


@cached(key="task:<class_id>", ttl="1h")
async def task(class_id: int, database: Database) -> str:
    """Return the task of a class: each of its pupils reads it, and its teacher alone writes it."""
    async with database.sessions() as session:
        return (await session.get_one(SchoolClass, class_id)).task


# --- writers: each invalidates when the caller has committed, inside `after_commit` -----------------


@invalidates(tags=["teacher:<teacher_id>"])
async def add_class(teacher_id: str, name: str, session: AsyncSession) -> int:
    """Add a class without pupils, and return its id."""
    code = secrets.token_hex(4).upper()
    added = SchoolClass(teacher_id=teacher_id, name=name, code=code, task="")
    session.add(added)
    await session.flush()
    return added.id


@invalidates(tags=["class:<class_id>", "teacher:<teacher_id>"])
async def rename_class(class_id: int, teacher_id: str, name: str, session: AsyncSession) -> None:
    """Rename a class: its teacher's lists and all that its pupils see show the new name, in one round trip."""
    mine = SchoolClass.id == class_id, SchoolClass.teacher_id == teacher_id
    await session.execute(update(SchoolClass).where(*mine).values(name=name))


@invalidates(tags=["class:<class_id>"])
async def rename_pupil(class_id: int, user_id: str, name: str, session: AsyncSession) -> None:
    """Rename a pupil. The lists of classes show no pupil, so they stay."""
    here = Pupil.user_id == user_id, Pupil.class_id == class_id
    await session.execute(update(Pupil).where(*here).values(name=name))


@dataclass(frozen=True, slots=True)
class Placed:
    """The classes that a pupil left and came to, and their teachers."""

    class_ids: list[int]
    teacher_ids: list[str]


@invalidates("membership:<user_id>", tags=["class:<*return.class_ids>", "teacher:<*return.teacher_ids>"])
async def place(user_id: str, class_id: int | None, session: AsyncSession) -> Placed:
    """Put a user into a class, from any other one; with None into no class. Its result tells what it invalidates."""
    pupil = await session.get(Pupil, user_id)
    ids = {pupil.class_id if pupil else None, class_id} - {None}
    if pupil is None and class_id is not None:
        user = await session.get_one(User, user_id)
        session.add(Pupil(user_id=user_id, class_id=class_id, name=user.name))
    elif pupil is not None and class_id is not None:
        pupil.class_id = class_id
    elif pupil is not None:
        await session.delete(pupil)
    found = await session.execute(select(SchoolClass.id, SchoolClass.teacher_id).where(SchoolClass.id.in_(ids)))
    teachers = dict(found.all())
    return Placed([*teachers], [*{*teachers.values()}])


@task.puts
async def set_task(class_id: int, text: str, database: Database) -> str:
    """Set the task of a class. It is stored as it is written: thirty pupils who ask for it then are all hits."""
    async with database.sessions.begin() as session:
        await session.execute(update(SchoolClass).where(SchoolClass.id == class_id).values(task=text))
    return text


async def begin_term(class_id: int, database: Database) -> int:
    """Delete the errors of all pupils of a class, and return the number of pupils.

    Their profiles are invalidated in one round trip, after the commit.
    """
    async with default_cache().after_commit(), database.sessions.begin() as session:
        pupils = await session.scalars(select(Pupil.user_id).where(Pupil.class_id == class_id))
        user_ids = [*pupils]
        await session.execute(delete(LearntError).where(LearntError.user_id.in_(user_ids)))
        await error_profiles.invalidate(user_ids, database)
    return len(user_ids)
