"""Whether two key templates can render one key. Pure."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from cachekit.keys import escape

VALUE: Final = ""
"""A placeholder among the letters of a template."""


def letters_of(template: str) -> tuple[str, ...]:
    """Return the letters of ``template``, with `VALUE` for each placeholder."""
    letters: list[str] = []
    for place, part in enumerate(re.split(r"<[^<>]*>", template)):
        letters += [VALUE, *part] if place else part
    return tuple(letters)


def common_key(one: str, other: str) -> str | None:
    """Return a key that both templates can render; None if there is none.

    A value in a key is escaped, so a placeholder stands for any text without a colon, a brace, a bracket or a blank.

    Example:
        >>> common_key("user:<id>", "user:me"), common_key("<user>:profile", "user:<id>")
        ('user:me', 'user:profile')
        >>> print(common_key("user:<id>", "user:<id>:mail"))
        None
    """
    heads = one.partition("<")[0], other.partition("<")[0]
    # Nearly all templates of an application differ before their first placeholder.
    if not heads[0].startswith(heads[1]) and not heads[1].startswith(heads[0]):
        return None
    left, right = letters_of(one), letters_of(other)
    # The shortest key first: a state is how far both templates are read, and what was written.
    ahead, seen = deque([(0, 0, "")]), {(0, 0)}
    while ahead:
        place, other_place, text = ahead.popleft()
        if place == len(left) and other_place == len(right):
            return text
        here = left[place] if place < len(left) else None
        there = right[other_place] if other_place < len(right) else None
        for steps, more in _steps(here, there):
            state = (place + steps[0], other_place + steps[1])
            if state not in seen:
                seen.add(state)
                ahead.append((*state, text + more))
    return None


def _steps(here: str | None, there: str | None) -> list[tuple[tuple[int, int], str]]:
    """Return how far both templates can be read next, and what that writes. None stands for the end of a template."""
    steps: list[tuple[tuple[int, int], str]] = []
    if here == VALUE and there == VALUE:
        steps.append(((1, 1), "1"))
    if here == VALUE:
        if there and escape(there) == there:
            steps.append(((0, 1), there))
        steps.append(((1, 0), ""))
    if there == VALUE:
        if here and escape(here) == here:
            steps.append(((1, 0), here))
        steps.append(((0, 1), ""))
    if here and here == there:
        steps.append(((1, 1), here))
    return steps
