"""The class of a writer: join one by the code that its teacher gave, read its task, leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, StringConstraints
from sqlalchemy import select

from cachekit import default_cache
from examples.writing_coach import classes
from examples.writing_coach.database import SchoolClass
from examples.writing_coach.web import Db, UserId, refusal

router = APIRouter(prefix="/api/membership")


class Code(BaseModel):
    """The code of a class, as people type it."""

    code: Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, max_length=16)]


@dataclass(frozen=True, slots=True)
class MyClass:
    """The class that a writer is in."""

    name: str
    teacher: str
    task: str


@router.get("")
async def mine(user_id: UserId, database: Db) -> MyClass | None:
    """Return the class of the user who is signed in, or null."""
    class_id = await classes.membership(user_id, database)
    if class_id is None:
        return None
    board = await classes.board(class_id, database)
    return MyClass(board.name, board.teacher, await classes.task(class_id, database))


@router.put("")
async def join(code: Code, user_id: UserId, database: Db) -> None:
    """Join the class of a code, and leave any other. The lists of the teachers show it from the commit on."""
    async with default_cache().after_commit(), database.sessions.begin() as session:
        class_id = await session.scalar(select(SchoolClass.id).where(SchoolClass.code == code.code))
        if class_id is None:
            raise refusal(404, "No class has this code. Please ask your teacher for it.")
        await classes.place(user_id, class_id, session)


@router.delete("")
async def leave(user_id: UserId, database: Db) -> None:
    """Leave the class."""
    async with default_cache().after_commit(), database.sessions.begin() as session:
        await classes.place(user_id, None, session)
