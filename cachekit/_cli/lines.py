"""A line of the doctor: one check, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from cachekit.urls import StoreURL

PATIENCE: Final = 5.0
"""Seconds for an answer."""


class Status(Enum):
    """How a check ended; the value is its word in the report."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may surprise."""
    FAULT = "fault"
    """It does not work, or will stop to; the exit status is 1."""
    UNKNOWN = "unknown"
    """It is not to be seen: the user of the doctor lacks a right."""


class Line(Struct, frozen=True):
    """One line of the report."""

    check: str
    status: Status
    text: str
    advice: str = ""
    servers: tuple[str, ...] = ()
    """The servers that it is about; none if it is about all of them."""


class Patient(Struct, frozen=True, kw_only=True):
    """What is examined, and for which use."""

    url: StoreURL
    prefix: str
    timeout: float
    """Seconds that all cache work of a call may take: the ``timeout`` of the cache."""
    needs: frozenset[str]
    """The features that the application uses: what they lack is a fault, what others lack is a warning."""
    encrypted: bool = False
    """Whether snapshots and windows are sealed with keys."""

    @property
    def patience(self) -> float:
        """Seconds within which a server has to answer the doctor, who is in less of a hurry than a call."""
        return max(self.timeout, PATIENCE)

    def lack(self, feature: str) -> Status:
        """Return how bad it is that ``feature`` does not work."""
        return Status.FAULT if feature in self.needs else Status.WARNING


def ok(check: str, text: str) -> Line:
    """Return a line about something that is as it should be."""
    return Line(check, Status.OK, text)


def fault(check: str, text: str, advice: str) -> Line:
    """Return a line about something that does not work."""
    return Line(check, Status.FAULT, text, advice)


def unseen(check: str, what: str, right: str) -> Line:
    """Return a line about something that this user may not see."""
    advice = f"to see it, run the doctor as a user who has {right}; the application does not need that right"
    return Line(check, Status.UNKNOWN, f"{what} cannot be seen by this user", advice)


def merged(lines: Iterable[tuple[str, Line]], servers: int) -> list[Line]:
    """Return the lines of several servers, in order of their checks; equal lines become one."""
    alike: dict[Line, list[str]] = {}
    for server, line in lines:
        alike.setdefault(line, []).append(server)
    order = {line.check: place for place, line in reversed([*enumerate(alike)])}
    named = [replace(line, servers=tuple(names) if len(names) < servers else ()) for line, names in alike.items()]
    return sorted(named, key=lambda line: order[line.check])
