"""An example class: invented pupils who misspell as people do, so that a teacher without pupils sees a full page."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from examples._misspellings import MISSPELLINGS
from examples.writing_coach.classes import add_class
from examples.writing_coach.database import LearntError, Pupil, User
from examples.writing_coach.profile import DAYS
from examples.writing_coach.writing import category

NAMES: Final = (
    *("Alba", "Bao", "Chiara", "Dario", "Elif", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Lena"),
    *("Mateo", "Nils", "Olga", "Pedro", "Quinn", "Rosa", "Samir", "Tove", "Umar", "Vera", "Wanda", "Yusuf"),
)
PAIRS: Final = [pair for kind in MISSPELLINGS.values() for pair in kind.items()]
MOST: Final = 40
"""Errors of a pupil."""


async def add_sample(teacher_id: str, session: AsyncSession) -> int:
    """Add an example class, and return its id."""
    class_id = await add_class(teacher_id, "Example class", session)
    pupils = {uuid.uuid4().hex: name for name in NAMES}
    await session.execute(insert(User), [{"id": user_id, "name": name} for user_id, name in pupils.items()])
    rows = [{"user_id": user_id, "class_id": class_id, "name": name} for user_id, name in pupils.items()]
    await session.execute(insert(Pupil), rows)
    await session.execute(insert(LearntError), [row for user_id in pupils for row in _errors(user_id)])
    return class_id


def _errors(user_id: str) -> Iterator[dict[str, Any]]:
    """Yield the errors of a pupil, who makes a few of them again and again."""
    own = random.sample(PAIRS, 9)
    today = datetime.now(UTC).date()
    for _ in range(random.randrange(3, MOST)):
        wrong, right = own[min(int(random.expovariate(0.4)), len(own) - 1)]
        day = today - timedelta(days=random.randrange(DAYS))
        yield {"user_id": user_id, "wrong": wrong, "right": right, "category": category(wrong, right), "learnt_on": day}
