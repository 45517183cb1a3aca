"""State that belongs to an event loop: connections, flights and entries of one loop are of no use to another."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One state for each event loop that has any. Loops may run in several threads.

    Args:
        make: Makes the state of the running event loop.
    """

    __slots__ = ("_make", "states")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.states: dict[AbstractEventLoop, T] = {}
        """By loop. A hot path reads it directly: `find` would cost one more call."""

    def find(self) -> T | None:
        """Return the state of the running event loop, or None when it has none."""
        return self.states.get(get_running_loop())

    def get(self) -> T:
        """Return the state of the running event loop, which is made if there is none."""
        loop = get_running_loop()
        state = self.states.get(loop)
        if state is None:
            if self.states:
                self.purge()
            state = self.states[loop] = self._make()
        return state

    def pop(self, loop: AbstractEventLoop | None = None) -> T | None:
        """Take out the state of ``loop``, or of the running event loop."""
        return self.states.pop(loop or get_running_loop(), None)

    def all(self) -> list[T]:
        """Return the states of all loops. A copy: other threads change theirs at any moment."""
        return list(self.states.values())

    def purge(self) -> None:
        """Take out the states of closed loops."""
        for loop in [loop for loop in list(self.states) if loop.is_closed()]:
            self.states.pop(loop, None)
