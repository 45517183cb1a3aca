"""The teacher's page: the classes of a teacher, and the error profiles of all pupils of one of them.

Each answer tells its steps: what was asked for, and what the cache did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, StringConstraints

from cachekit import default_cache
from examples.writing_coach import classes
from examples.writing_coach.classes import Listed, Order, Roster
from examples.writing_coach.database import Database
from examples.writing_coach.panel import Panel, Step, step
from examples.writing_coach.passkeys import Name
from examples.writing_coach.profile import ErrorProfile, error_profiles
from examples.writing_coach.sample import add_sample
from examples.writing_coach.web import Db, ThePanel, UserId, refusal

router = APIRouter(prefix="/api/classes")


@dataclass(frozen=True, slots=True)
class Here:
    """The class of the path, which is the user's own."""

    class_id: int
    roster: Roster
    database: Database
    panel: Panel


async def _here(class_id: int, user_id: UserId, database: Db, panel: ThePanel) -> Here:
    # The teacher of a class never changes, so the cache can say who may see it. A class of another teacher is answered
    # as one that is not there.
    found = await classes.roster(class_id, database)
    if found is None or found.teacher_id != user_id:
        raise refusal(404, "This class is not among yours.")
    return Here(class_id, found, database, panel)


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a teacher."""

    classes: list[Listed]
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class PupilShown:
    """A pupil of a class."""

    id: str
    name: str
    profile: ErrorProfile


@dataclass(frozen=True, slots=True)
class ClassShown:
    """A class with the profiles of its pupils."""

    id: int
    name: str
    code: str
    task: str
    pupils: list[PupilShown]
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Done:
    """A change that was made. ``class_id`` is the class that the page shows next."""

    class_id: int
    steps: list[Step]


class Task(BaseModel):
    """The task of a class: one line of text, or none."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, max_length=300, pattern=r"^\P{C}*$")]


class Change(Name):
    """The name and the class that a pupil is to have."""

    class_id: int


@router.get("")
async def list_classes(user_id: UserId, database: Db, panel: ThePanel, order: Order = "name") -> Classes:
    """Return the classes of the user who is signed in."""
    with panel.watching() as watched:
        found = await classes.classes_of(user_id, order, database)
    return Classes(found, [step(f"your classes by {order}", watched)])


@router.get("/{class_id}")
async def show_class(class_id: int, user_id: UserId, database: Db, panel: ThePanel) -> ClassShown:
    """Return a class and the profiles of all its pupils: one read, and one load of the profiles that miss."""
    with panel.watching() as of_class:
        roster = (await _here(class_id, user_id, database, panel)).roster
    with panel.watching() as of_task:
        task = await classes.task(class_id, database)
    with panel.watching(of_batch=True) as of_profiles:
        profiles = await error_profiles([*roster.pupils], database)
    steps = [step(f"pupils of {roster.name}", of_class), step(f"task of {roster.name}", of_task)]
    if profiles:
        steps.append(step(_number(len(profiles), "profile"), of_profiles))
    pupils = [PupilShown(pupil, name, profiles[pupil]) for pupil, name in roster.pupils.items()]
    return ClassShown(class_id, roster.name, roster.code, task, pupils, steps)


@router.post("")
async def add_class(name: Name, user_id: UserId, database: Db, panel: ThePanel) -> Done:
    """Add a class without pupils."""
    with panel.watching() as watched:
        async with default_cache().after_commit(), database.sessions.begin() as session:
            class_id = await classes.add_class(user_id, name.name, session)
    return Done(class_id, [step(f"added {name.name}", watched)])


@router.post("/sample")
async def add_sample_class(user_id: UserId, database: Db, panel: ThePanel) -> Done:
    """Add a class of invented pupils, so that there is something to see."""
    with panel.watching() as watched:
        async with default_cache().after_commit(), database.sessions.begin() as session:
            class_id = await add_sample(user_id, session)
    return Done(class_id, [step("added an example class", watched)])


@router.put("/{class_id}")
async def rename_class(name: Name, here: Annotated[Here, Depends(_here)]) -> Done:
    """Rename a class."""
    with here.panel.watching() as watched:
        async with default_cache().after_commit(), here.database.sessions.begin() as session:
            await classes.rename_class(here.class_id, here.roster.teacher_id, name.name, session)
    return Done(here.class_id, [step(f"renamed {here.roster.name}", watched)])


@router.put("/{class_id}/task")
async def set_task(task: Task, here: Annotated[Here, Depends(_here)]) -> Done:
    """Set the task of a class."""
    with here.panel.watching() as watched:
        await classes.set_task(here.class_id, task.text, here.database)
    return Done(here.class_id, [step(f"set the task of {here.roster.name}", watched)])


@router.delete("/{class_id}/errors")
async def begin_term(here: Annotated[Here, Depends(_here)]) -> Done:
    """Delete the errors of all pupils of a class."""
    with here.panel.watching() as watched:
        number = await classes.begin_term(here.class_id, here.database)
    return Done(here.class_id, [step(f"deleted the errors of {_number(number, 'pupil')}", watched)])


@router.put("/{class_id}/pupils/{pupil_id}")
async def change_pupil(pupil_id: str, change: Change, here: Annotated[Here, Depends(_here)], user_id: UserId) -> Done:
    """Rename a pupil, move the pupil to another class of the teacher, or both, in one transaction."""
    name = _pupil(here, pupil_id)
    # The invalidations of the block travel together, in one round trip behind its commit.
    with here.panel.watching() as watched:
        async with default_cache().after_commit(), here.database.sessions.begin() as session:
            if change.name != name:
                await classes.rename_pupil(here.class_id, pupil_id, change.name, session)
            if change.class_id != here.class_id:
                there = await _here(change.class_id, user_id, here.database, here.panel)
                await classes.place(pupil_id, there.class_id, session)
    return Done(here.class_id, [step(f"changed {name}", watched)])


@router.delete("/{class_id}/pupils/{pupil_id}")
async def remove_pupil(pupil_id: str, here: Annotated[Here, Depends(_here)]) -> Done:
    """Take a pupil out of the class. The pupil's errors stay, and are the pupil's own again."""
    name = _pupil(here, pupil_id)
    with here.panel.watching() as watched:
        async with default_cache().after_commit(), here.database.sessions.begin() as session:
            await classes.place(pupil_id, None, session)
    return Done(here.class_id, [step(f"took {name} out of {here.roster.name}", watched)])


def _pupil(here: Here, pupil_id: str) -> str:
    name = here.roster.pupils.get(pupil_id)
    if name is None:
        raise refusal(404, "This pupil is not in the class any more.")
    return name


def _number(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
