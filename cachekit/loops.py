"""State that belongs to an event loop: connections, flights and entries of one loop are of no use to another."""

from __future__ import annotations

from asyncio import AbstractEventLoop, BaseEventLoop, Future, get_running_loop
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import monotonic
from types import BuiltinFunctionType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def detached(start: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``start`` in an empty context: the task, timer or callback that it makes keeps none of its caller's alive.

    A task or a timer copies the context that it is made in, and so the request of the caller that came first.

    Example:
        >>> from contextvars import ContextVar
        >>> request = ContextVar("request", default="none")
        >>> _ = request.set("the first")
        >>> request.get(), detached(request.get)
        ('the first', 'none')
    """
    # Not by `create_task(context=…)`: a task factory of the application need not take that.
    return Context().run(start, *args, **kwargs)


class PrivateFuture(Future[T]):
    """A future whose result no record shows. In debug mode asyncio logs futures with the beginning of their results."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'done' if self.done() else 'pending'}>"


def future_factory(loop: AbstractEventLoop) -> Callable[[], Future[Any]]:
    """Return the function that makes the futures of values; private ones in debug mode, since they are slower."""
    return partial(PrivateFuture, loop=loop) if loop.get_debug() else loop.create_future


def clock_of(loop: AbstractEventLoop) -> Callable[[], float]:
    """Return the clock of ``loop``. That of asyncio is `time.monotonic` behind a method, which a hit need not pay."""
    # A tool that freezes time puts a function of Python here, and may leave the loop its own time.
    usual = type(loop).time is BaseEventLoop.time and isinstance(monotonic, BuiltinFunctionType)
    return monotonic if usual else loop.time


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
