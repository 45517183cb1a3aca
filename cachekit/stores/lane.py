"""A lane: one connection, and the one task that drives it.

Callers hold futures that fail at their deadline; the lane alone touches the socket. So a caller that is
cancelled or runs out of time can neither poison a connection nor drain a pool. Whatever gathers while a
batch is under way travels together in the next.

A lane lives as long as its connection. At the first trouble it fails its operations, closes and is
replaced; it never reconnects.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from cachekit.errors import StoreError, StoreTimeoutError, StoreUnavailableError
from cachekit.stores.translate import translate

QUEUE: Final = 10_000
"""The most operations that wait in a lane; one more fails at once, rather than late."""

PATIENCE: Final = 1.0
"""Seconds after which a connection on which something is overdue is given up. With the default deadline
callers are gone by then: they fail while the lane still waits, since reconnecting costs 4 to 8 times a GET."""

CONNECT_PATIENCE: Final = 1.0
"""Seconds for connecting, TLS and the handshake together."""


Bequeath: TypeAlias = Callable[[list["Operation"]], None]


class Operation:
    """Commands that are sent together, and the future of their replies.

    Args:
        packed: The commands in RESP.
        replies: How many replies they bring.
        repeatable: It may be sent once more on a new connection when the first broke: true for what has
            the same effect twice.
        lasting: It is sent though its caller is gone: an invalidation is never taken back.
    """

    __slots__ = ("future", "inherited", "lasting", "packed", "repeatable", "replies", "timer")

    def __init__(
        self, packed: bytes, replies: int, future: asyncio.Future[Any], *, repeatable: bool, lasting: bool
    ) -> None:
        self.packed = packed
        self.replies = replies
        self.repeatable = repeatable
        self.lasting = lasting
        self.future = future
        # Handed on by a lane that broke; it is handed on no further.
        self.inherited = False
        self.timer: asyncio.TimerHandle | None = None

    def succeed(self, reply: object) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: StoreError) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)
            # A caller that is cancelled in this very turn never looks: that is no reason for a log line.
            self.future.exception()

    @property
    def wanted(self) -> bool:
        return self.lasting or not self.future.done()


class Lane:
    """Drives one connection. Belongs to the event loop it was made in.

    Args:
        connection: Not connected yet; the lane connects it, and closes it in the end.
        address: For messages, the password masked.
        bequeath: Gets the operations that may be sent once more, when the connection broke under them.
            A weak reference: a lane does not keep its store alive.
    """

    def __init__(self, connection: AbstractConnection, address: str, bequeath: weakref.WeakMethod[Bequeath]) -> None:
        self._connection = connection
        self._address = address
        self._bequeath = bequeath
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        self._under_way: list[Operation] = []
        self._began = 0.0
        self._wakeup: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._reason: StoreError = StoreUnavailableError("unavailable", f"the connection to {address} was closed")
        self.closed = False
        self.ended_from_outside = False
        """Whether somebody else cancelled the task, as an event loop does when it ends."""
        self.task = self._loop.create_task(self._drive(), name=f"cachekit lane to {address}")

    def put(self, operation: Operation, timeout: float | None) -> None:
        """Queue ``operation``; its future fails ``timeout`` seconds from now, if it is not done by then."""
        if len(self._queue) >= QUEUE:
            operation.fail(StoreUnavailableError("queue full", f"{QUEUE} operations wait for {self._address}"))
            return
        if timeout is not None:
            operation.timer = self._loop.call_later(timeout, self._overdue, operation)
        self._queue.append(operation)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def close(self) -> None:
        """Give the connection up; whatever is queued or under way fails."""
        if not self.closed:
            self.closed = True
            self.task.cancel()

    # --- the task ------------------------------------------------------------------------------

    async def _drive(self) -> None:
        broke = False
        try:
            await self._connect()
            while True:
                if not self._queue:
                    self._wakeup = self._loop.create_future()
                    await self._wakeup
                # Something to read before anything was asked is the end of the stream, or a stray reply
                # that would be taken for the answer to the next question.
                broke = await self._connection.can_read()
                if broke:
                    break
                # From here on an exception means that the connection broke under the batch.
                broke = True
                await self._exchange()
                broke = False
        # The lane is the edge: what redis-py, the system or a broken reply raise here ends the connection
        # and becomes one of our errors, for whoever waits.
        except Exception as foreign:
            self._reason = translate(foreign, self._address)
        except asyncio.CancelledError:
            self.ended_from_outside = not self.closed
            broke = False
            raise
        finally:
            self.closed = True
            self._end(broke=broke)
            await self._connection.disconnect(nowait=True)

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_PATIENCE):
            await self._connection.connect()  # type: ignore[no-untyped-call]
        # On Python 3.11 redis-py swallows a cancellation that lands while it connects.
        if self.closed or self.task.cancelling():
            raise asyncio.CancelledError

    async def _exchange(self) -> None:
        batch = [operation for operation in self._queue if operation.wanted]
        self._queue.clear()
        if not batch:
            return
        self._under_way = batch
        self._began = self._loop.time()
        await self._connection.send_packed_command(
            batch[0].packed if len(batch) == 1 else b"".join([operation.packed for operation in batch]),
            check_health=False,
        )
        for done, operation in enumerate(batch):
            reply = await self._reply()
            if operation.replies > 1:
                reply = [reply, *[await self._reply() for _ in range(operation.replies - 1)]]
            self._under_way = batch[done + 1 :] if len(batch) > 1 else []
            operation.succeed(reply)
        self._began = 0.0

    async def _reply(self) -> object:
        try:
            return await self._connection.read_response(disable_decoding=True)
        except ResponseError as refusal:
            return refusal

    # --- deadlines -----------------------------------------------------------------------------

    def _overdue(self, operation: Operation) -> None:
        operation.fail(StoreTimeoutError("timeout", f"{self._address} did not answer in time"))
        # The connection is watched only when something on it is late, so that a healthy one pays nothing.
        if self._began and self._watch is None and not self.closed:
            left = self._began + PATIENCE - self._loop.time()
            self._watch = self._loop.call_later(max(0.0, left), self._give_up, self._began)

    def _give_up(self, began: float) -> None:
        self._watch = None
        if self._began == began:
            self._reason = StoreTimeoutError("timeout", f"{self._address} did not answer in time")
            self.close()

    def _end(self, *, broke: bool) -> None:
        """Give every operation that is left an end, or to the next lane.

        When an established connection broke, what was never sent may be sent anew, and so may what has the
        same effect twice. When connecting itself failed, trying again at once would be no use.
        """
        if self._watch is not None:
            self._watch.cancel()
        unsent = {*self._queue}
        heirs: list[Operation] = []
        bequeath = self._bequeath()
        for operation in [*self._under_way, *self._queue]:
            again = operation in unsent or operation.repeatable
            if broke and again and bequeath is not None and not operation.inherited and operation.wanted:
                heirs.append(operation)
            else:
                operation.fail(self._reason)
        self._under_way = []
        self._queue.clear()
        if heirs and bequeath is not None:
            bequeath(heirs)
