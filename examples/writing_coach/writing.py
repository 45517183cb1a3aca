"""The text of a writer, kept as snapshots for a day at most. Corrections are learnt from the last two snapshots.

The text stands in the cache alone, encrypted, in a list that expires. Only the learnt corrections go into the database:
the word that was wrong, and the word that replaced it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cachekit import default_cache
from examples._corrections import corrections
from examples.writing_coach.profile import Correction, learn
from examples.writing_coach.web import Db, Snapshots, UserId

router = APIRouter(prefix="/api")
KEPT: Final = 50
LIFE: Final = timedelta(hours=24)
LONGEST_TEXT: Final = 20_000
VOWELS: Final = str.maketrans("eiou", "aaaa")  # all vowels as one: words that differ only by vowels become equal


class Draft(BaseModel):
    """A text as it is now."""

    text: str = Field(max_length=LONGEST_TEXT)


@dataclass(frozen=True, slots=True)
class Written:
    """Whether a snapshot was kept, and the corrections between it and the one before."""

    kept: bool
    learnt: list[Correction]


@dataclass(frozen=True, slots=True)
class Window:
    """The snapshots of a writer: their number, the oldest, the newest text. ``known`` is False if the cache is down."""

    known: bool
    count: int = 0
    oldest: datetime | None = None
    text: str = ""
    hours: float = LIFE / timedelta(hours=1)


@router.put("/text")
async def write(draft: Draft, user_id: UserId, database: Db, snapshots: Snapshots) -> Written:
    """Keep a snapshot of a text, and learn from it and the one before."""
    kept = await snapshots.save_snapshot(user_id, draft.text, len(draft.text.split()))
    pair = await snapshots.get_snapshot_pair(user_id) if kept else None
    if pair is None:
        return Written(kept, [])
    previous, latest = pair
    learnt = await asyncio.to_thread(learnt_from, previous.text, latest.text)
    if learnt:
        await learn(user_id, learnt, database)
    return Written(kept, learnt)


@router.get("/snapshots")
async def window(user_id: UserId, snapshots: Snapshots) -> Window:
    """Return the snapshots of the user who is signed in."""
    recent = await snapshots.get_recent_snapshots(user_id, KEPT)
    if recent:
        return Window(known=True, count=len(recent), oldest=recent[-1].timestamp, text=recent[0].text)
    return Window(known=default_cache().healthy)


@router.delete("/snapshots")
async def forget(user_id: UserId, snapshots: Snapshots) -> bool:
    """Delete all snapshots. Returns whether the cache acknowledged it; if not, they are deleted when it is back."""
    return await snapshots.forget(user_id)


def learnt_from(previous: str, latest: str) -> list[Correction]:
    """Return the corrections between two snapshots. A word that is still being typed is no error."""
    pairs = corrections(" ".join(finished(previous)), " ".join(finished(latest)))
    return [Correction(wrong, right, category(wrong, right)) for wrong, right in pairs]


def finished(text: str) -> list[str]:
    """Return the words of a text, without a last one that nothing follows yet."""
    words = text.split()
    return words[:-1] if text[-1:].isalnum() else words


def category(wrong: str, right: str) -> str:
    """Return the kind of an error, by the letters alone."""
    if " " in wrong + right:
        return "word boundary"
    if sorted(wrong) == sorted(right):
        return "letter order"
    if [letter for letter, _ in groupby(wrong)] == [letter for letter, _ in groupby(right)]:
        return "double letter"
    if len(wrong) != len(right):
        return "missing letter" if len(wrong) < len(right) else "extra letter"
    return "vowel" if wrong.translate(VOWELS) == right.translate(VOWELS) else "other letter"
