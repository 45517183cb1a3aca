"""The activity of one connection: for how long no byte has come, nor left, while something is under way.

That is the evidence against a server. A reply that is merely late may have waited in this process, or may still be
arriving.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from time import thread_time
from typing import Final

from cachekit.loops import detached

LARGE_WRITE: Final = 65_536
"""Bytes of a batch that may not leave at once. Whether they leave is looked at every `_SAMPLE` seconds."""

_SAMPLE: Final = 0.05


class Activity:
    """When bytes of one connection came and left. Time in which the event loop stood still does not count.

    Args:
        loop: The running event loop.
        time: Its clock, by which all moments are.
    """

    heard_at: float = 0.0
    """When the last bytes came."""
    asked_at: float = 0.0
    """When the last batch that was answered in full had been sent."""
    # When this process last had nothing to do but to wait for a batch, and for how long it has waited while others
    # were in the queue.
    _idle_at: float = 0.0
    _waited: float = 0.0
    # The seconds for which the thread had computed by then. Since then it may have computed for other connections.
    _idle_computed: float = 0.0
    # The bytes that have come of a batch without completing it, and the time at which that batch was sent.
    _arrived: int = 0
    _arrived_of: float = 0.0
    # When bytes of a large batch were last seen to leave, and how many were left then.
    _left_at: float = 0.0
    _unwritten: int = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, time: Callable[[], float]) -> None:
        self._loop = loop
        self._connecting = 0.0
        self._time = time
        self.opened: float = time()
        """When the connection was begun."""
        self.sent_at: float = self.opened
        """When that which is under way was sent, a batch or the first bytes of the connection; 0.0 when nothing is."""

    @property
    def servers_time(self) -> float:
        """The seconds for which this process waited for the last batch that was answered in full."""
        return max(0.0, self.heard_at - max(self.asked_at, self._idle_at))

    def silence(self, now: float) -> float:
        """Return for how many seconds nothing has moved; 0.0 when nothing is under way."""
        return now - max(self.sent_at, self.heard_at, self._left_at) if self.sent_at else 0.0

    def under_way(self, now: float) -> float:
        """Return for how many seconds the batch has been under way; 0.0 when nothing is."""
        return now - self.sent_at if self.sent_at else 0.0

    def connected(self, now: float) -> None:
        """Note that the connection is there. Nothing is under way on it yet."""
        self._connecting = self.under_way(now)
        self.sent_at = 0.0

    def servers_time_since(self, moment: float) -> float:
        """Return how many of the seconds since then, which an answer took, the server needed.

        It needed the last batch, and the one before: more of them are the haste of this process.
        """
        return 2 * self.servers_time + (self._connecting if self.opened > moment else 0.0)

    def note_part(self, size: int) -> None:
        """Note that ``size`` bytes have come, and that more are to follow."""
        self._arrived = self.arriving + size
        self._arrived_of = self.sent_at

    @property
    def arriving(self) -> int:
        """The bytes that have come of the batch that is under way."""
        return self._arrived if self._arrived_of == self.sent_at else 0

    def note_wait(self) -> None:
        """Note for how long the batch, which has just been answered, kept others waiting."""
        self._waited += max(0.0, self.servers_time - self._computed_since(self.asked_at))

    def note_idle(self) -> None:
        """Note that this process has computed, and waits for the server from now on."""
        self._idle_at = self._time()
        self._idle_computed = thread_time()

    def waited(self, now: float) -> float:
        """Return for how many seconds this process has waited for batches while others were in the queue."""
        if not self.sent_at:
            return self._waited
        waiting = now - max(self.sent_at, self._idle_at) - self._computed_since(self.sent_at)
        return self._waited + max(0.0, waiting)

    def _computed_since(self, sent_at: float) -> float:
        """Return for how long the thread has computed since it was idle, if that was after the batch had been sent.

        A cluster has a connection to each node: the answers of one are handed out while another is waited for.
        """
        return thread_time() - self._idle_computed if self._idle_at >= sent_at else 0.0

    def stand_still(self, began: float, ended: float) -> None:
        """Take the time between the two moments, in which the event loop stood still, out of every duration."""
        if self.sent_at:
            arriving = self.arriving
            self.sent_at += max(0.0, ended - max(began, self.sent_at))
            if arriving:
                # They are of the batch that is under way, which seems to be sent later now.
                self._arrived_of = self.sent_at
            self._idle_at += max(0.0, ended - max(began, self._idle_at))
            self.heard_at += max(0.0, ended - max(began, self.heard_at))
            self._left_at += max(0.0, ended - max(began, self._left_at))

    def watch_writing(self, transport: asyncio.WriteTransport) -> None:
        """Look at whether a large batch leaves, until it has left."""
        if not self._unwritten:
            self._unwritten = unwritten(transport)
            self._look_again(transport)

    def _look_again(self, transport: asyncio.WriteTransport) -> None:
        if self._unwritten and not transport.is_closing():
            detached(self._loop.call_later, _SAMPLE, self._look, transport)

    def _look(self, transport: asyncio.WriteTransport) -> None:
        left = unwritten(transport)
        if left < self._unwritten:
            self._left_at = self._time()
        self._unwritten = left
        self._look_again(transport)


def unwritten(transport: asyncio.WriteTransport) -> int:
    """Return how many bytes have not arrived at the server, as far as the system tells.

    A system takes more bytes only when a third of its buffer is free. That may be megabytes, so its own buffer counts.
    """
    # A closed one has no socket, or the number -1, as the event loop has it.
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return 0
    buffered = transport.get_write_buffer_size()
    try:
        import fcntl  # noqa: PLC0415 - not every system has it
        import termios  # noqa: PLC0415 - as above

        queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
    # OSError: the system does not tell it.
    except (ImportError, OSError):
        return buffered
    return buffered + int.from_bytes(queued, sys.byteorder)
