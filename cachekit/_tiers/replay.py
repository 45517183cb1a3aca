"""Sends what the journal holds as soon as the store answers again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cachekit._tiers.background import Background
from cachekit._tiers.journal import Journal
from cachekit.backoff import Backoff
from cachekit.loops import PerLoop

# Seconds between attempts.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.2


class Replay:
    """The replay of one journal. Any event loop may use it: one may stand still, or end, and another goes on.

    Args:
        journal: Its keys are replayed.
        send: Sends one batch of it. Returns False when the store did not acknowledge all of it.
        background: Owns the tasks.
        retry: Lets keys that the store has denied be sent again, if the answer may be another by now.
    """

    def __init__(
        self,
        journal: Journal,
        send: Callable[[], Awaitable[bool]],
        background: Background,
        retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._send = send
        self._retry = retry
        self._background = background
        self._tasks: PerLoop[asyncio.Task[None]] = PerLoop(self._start)

    def soon(self) -> None:
        """See to it that the journal is replayed when the store answers again."""
        self._retry()
        if self._journal.waiting and self._tasks.get().done():
            self._tasks.pop()
            self._tasks.get()

    async def aclose(self, seconds: float) -> None:
        """Send the rest, for at most ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until_empty()

    def cancel(self) -> None:
        """Cancel the task of the running event loop. Its owner waits for it: it may be slow to end."""
        task = self._tasks.pop()
        if task is not None:
            task.cancel()

    def _start(self) -> asyncio.Task[None]:
        return self._background.start_daemon(asyncio.get_running_loop(), self._until_empty)

    async def _until_empty(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while self._journal.waiting:
            if await self._send():
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())
