"""A profile of a user's spelling errors: expensive to assemble, cached, invalidated by every new error.

Run it:

    python -m examples.error_profile [--redis redis://localhost:6379/0]

It needs no server: without --redis it is in memory.

It prints a table of five steps, each with its outcome and its time in milliseconds. The profile of user 42
is a miss (assembled from eight slow queries), a hit, an invalidation (two new errors are recorded), a miss
again, a hit again. Then it prints whether the hit equals the miss, and the profile as a bar chart: errors by
category, and the most frequent errors. On Redis it leaves `profile:42` there and says how to look at it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.bar import Bar
from rich.table import Column, Table

from cachekit import cached, invalidates
from examples._console import Scene
from examples._misspellings import MISSPELLINGS

QUERY_SECONDS: Final = 0.010

# In place of the table of errors in a database: the number of times that each user wrote each misspelling.
_errors: Final[dict[str, Counter[str]]] = {
    "42": Counter(
        {"recieve": 6, "wierd": 3, "accomodate": 5, "occured": 4, "untill": 2, "libary": 3, "definately": 7}
        | {"seperate": 4, "calender": 1, "should of": 3, "your welcome": 2, "alot": 5, "becuase": 2, "sence": 1}
    )
}


@dataclass(frozen=True, slots=True)
class Habit:
    """A misspelling that a user makes, and its frequency."""

    wrong: str
    right: str
    times: int


@dataclass(frozen=True, slots=True)
class ErrorProfile:
    """The spelling errors of a user. A hit brings back this type, with the tuple and the datetime in it."""

    user_id: str
    total: int
    by_category: dict[str, int]
    habits: tuple[Habit, ...]
    assembled_at: datetime


async def _query(user_id: str, category: str) -> list[Habit]:
    """Take the place of one query to a database. It is slow on purpose, so that a hit saves time."""
    await asyncio.sleep(QUERY_SECONDS)
    errors = _errors.get(user_id, Counter[str]())
    return [Habit(wrong, right, errors[wrong]) for wrong, right in MISSPELLINGS[category].items() if errors[wrong]]


@cached(key="profile:<user_id>", ttl=600)
async def error_profile(user_id: str) -> ErrorProfile:
    """Assemble the profile of a user from one query for each category."""
    found = {category: await _query(user_id, category) for category in MISSPELLINGS}
    by_category = {category: sum(habit.times for habit in habits) for category, habits in found.items()}
    habits = sorted((habit for habits in found.values() for habit in habits), key=lambda habit: -habit.times)
    return ErrorProfile(user_id, sum(by_category.values()), by_category, tuple(habits), datetime.now(UTC))


@invalidates("profile:<user_id>")
async def record_errors(user_id: str, wrong_words: Sequence[str]) -> None:
    """Record errors of a user. The next call of `error_profile` assembles the profile anew."""
    _errors.setdefault(user_id, Counter()).update(wrong_words)


async def show(scene: Scene) -> None:
    """Play the five steps, then draw the profile."""
    async with scene.cache:
        await error_profile.invalidate("42")  # so that every run begins with a miss
        miss = await scene.step('error_profile("42")', error_profile("42"))
        hit = await scene.step('error_profile("42")', error_profile("42"))
        await scene.step('record_errors("42", ["definately", "alot"])', record_errors("42", ["definately", "alot"]))
        await scene.step('error_profile("42")', error_profile("42"))
        profile = await scene.step('error_profile("42")', error_profile("42"))
    scene.steps()
    if scene.reachable:
        times = scene.seconds[0] / scene.seconds[1]
        scene.say(
            f"The hit equals the miss: {hit == miss}. It is an {type(hit).__name__}, {times:,.0f} times as fast.\n"
        )
    else:
        scene.say("Without a store the profile was assembled every time, and nothing broke.\n")
    draw(scene, profile)
    if scene.on_redis and scene.reachable:
        scene.say("\nThe profile stays in Redis, as plain JSON with at most 600 s to live. Have a look:")
        scene.say(f"  {scene.redis_cli('GET profile:42')}\n  {scene.redis_cli('TTL profile:42')}")


def draw(scene: Scene, profile: ErrorProfile) -> None:
    """Print the profile as a bar chart."""
    title = f"user {profile.user_id}: {profile.total} errors"
    chart = Table("category", Column("errors", justify="right"), "", "most often", title=title)
    most = max(profile.by_category.values(), default=0)
    for category, count in sorted(profile.by_category.items(), key=lambda item: -item[1]):
        habits = [habit for habit in profile.habits if habit.wrong in MISSPELLINGS[category]]
        often = f"{habits[0].wrong} → {habits[0].right}" if habits else ""
        chart.add_row(category, str(count), Bar(max(most, 1), 0, count, width=18, color="cyan"), often)
    scene.console.print(chart)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example with ``argv``, or with the arguments of the command line."""
    scene = Scene(__doc__, argv)
    scene.title("error profile")
    asyncio.run(show(scene))


if __name__ == "__main__":
    main()
