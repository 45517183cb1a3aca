"""Work that no caller waits for. Every task here has this owner, which ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """Tasks of one cache, in whichever event loops it is used."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Task[T] | None:
        """Run ``work`` in ``loop``, which is the running one. It has to contain its own failures.

        Returns None when the loop is closed: what is cleaned up then is past helping.
        """
        if loop.is_closed():
            return None
        task = loop.create_task(work(*args, **kwargs), name=f"cachekit {work.__name__}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self, patience: float) -> None:
        """Let the tasks of the running event loop come to their end, for ``patience`` seconds at most."""
        loop = asyncio.get_running_loop()
        # A copy: other threads have tasks of their own here.
        here = [task for task in list(self._tasks) if task.get_loop() is loop]
        if not here:
            return
        _, late = await asyncio.wait(here, timeout=patience)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
