"""Work that no caller waits for. Every task of a cache has this owner, which ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

from cachekit.loops import detached

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """Tasks of one cache, in every event loop that it is used in."""

    def __init__(self) -> None:
        # Tasks that end by themselves, and tasks that go on until they are cancelled.
        self._ending: set[asyncio.Task[Any]] = set()
        self._daemons: set[asyncio.Task[Any]] = set()
        self.draining: bool = False
        """Whether its owner is being closed: nothing else is to begin."""

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Task[T] | None:
        """Run ``work``, which ends by itself, in ``loop``, the running one. It has to contain its own failures.

        Returns None when the loop is closed: then nothing can be cleaned up any more.
        """
        return None if loop.is_closed() else self._owned(self._ending, loop, work(*args, **kwargs), work.__name__)

    def start_daemon(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Task[T]:
        """Run ``work``, which may go on for ever, in ``loop``, the running one, until `aclose` ends it."""
        return self._owned(self._daemons, loop, work(*args, **kwargs), work.__name__)

    def start_in(
        self,
        context: Context,
        loop: asyncio.AbstractEventLoop,
        work: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Task[T]:
        """Do as `start`, for code of the user that is to see the contextvars of ``context``."""
        task = context.run(loop.create_task, work(*args, **kwargs), name=f"cachekit {work.__name__}")
        return self._kept(self._ending, task)

    def __len__(self) -> int:
        """Return how many tasks go on that end by themselves, in all event loops."""
        return len(self._ending)

    @classmethod
    def _owned(
        cls, tasks: set[asyncio.Task[Any]], loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], name: str
    ) -> asyncio.Task[T]:
        return cls._kept(tasks, detached(loop.create_task, work, name=f"cachekit {name}"))

    @staticmethod
    def _kept(tasks: set[asyncio.Task[Any]], task: asyncio.Task[T]) -> asyncio.Task[T]:
        tasks.add(task)
        detached(task.add_done_callback, tasks.discard)
        return task

    async def drain(self, seconds: float) -> None:
        """Wait, for ``seconds`` at most, for the tasks of the running event loop that end by themselves."""
        self.draining = True
        try:
            if tasks := _here(self._ending):
                _, late = await asyncio.wait(tasks, timeout=seconds)
                for task in late:
                    task.cancel()
                if late:
                    # Code of the user may not end when it is cancelled.
                    await asyncio.wait(late, timeout=seconds)
        finally:
            self.draining = False

    async def aclose(self) -> None:
        """End the daemons of the running event loop."""
        await end(*_here(self._daemons))


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel ``tasks``, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _here(tasks: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    loop = asyncio.get_running_loop()
    # A copy: other threads have tasks of their own here.
    return [task for task in list(tasks) if task.get_loop() is loop]
