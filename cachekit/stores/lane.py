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
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from cachekit.errors import QueueFullError, StoreError, StoreUnavailableError
from cachekit.stores.translate import ends_connection, garbage, overdue, translate

QUEUE: Final = 10_000
"""The most operations that wait in a lane; one more fails at once, rather than late."""

PATIENCE: Final = 0.5
"""Seconds after which a connection on which something is overdue is given up. With the default deadline
callers are gone by then: they fail while the lane still waits, since reconnecting costs 4 to 8 times a GET.
No longer, since a peer that vanished and came back is to be used again within a second."""

CONNECT_PATIENCE: Final = 0.7
"""Seconds for connecting, TLS and the handshake together."""

_LAST_WORD: Final = 0.05
"""Seconds for what a server says before it closes a connection: it is there already, or is cut short."""

Connect: TypeAlias = Callable[[], Awaitable[AbstractConnection]]
"""Makes a connection and connects it; cancelled or failing, it leaves nothing behind."""


class Operation:
    """Commands that are sent together, and the future of their replies.

    Args:
        key: Decides where in a cluster it is sent.
        packed: The commands in RESP.
        replies: How many replies they bring.
        future: Gets the reply, or a list of them if there are several.
        repeatable: It may be sent once more on a new connection when the first broke: true for what has
            the same effect twice.
        lasting: It is sent though its caller is gone: an invalidation is never taken back.
    """

    __slots__ = (
        "asking",
        "future",
        "inherited",
        "key",
        "lane",
        "lasting",
        "packed",
        "redirections",
        "repeatable",
        "replies",
        "timer",
    )

    def __init__(
        self, key: str, packed: bytes, replies: int, future: asyncio.Future[Any], *, repeatable: bool, lasting: bool
    ) -> None:
        self.key = key
        self.packed = packed
        self.replies = replies
        self.repeatable = repeatable
        self.lasting = lasting
        self.future = future
        self.lane: Lane | None = None
        # Handed on by a lane that broke; it is handed on no further.
        self.inherited = False
        self.redirections = 0
        self.asking = 0
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

    def ask(self, asking: bytes) -> None:
        """Let ``asking``, a command whose reply nobody waits for, go before the rest."""
        self.packed = asking + self.packed
        self.replies += 1
        self.asking = len(asking)

    def unask(self) -> None:
        """Leave out again what `ask` put before the rest."""
        if self.asking:
            self.packed = self.packed[self.asking :]
            self.replies -= 1
            self.asking = 0

    def answer(self, replies: list[object]) -> object:
        """Return what the future gets, out of several replies."""
        if self.asking:
            replies = replies[1:]
        return replies[0] if len(replies) == 1 else replies

    def overdue(self, address: str) -> None:
        """Fail, since the deadline is over, and have the lane that it is in watch its connection."""
        if self.lane is not None:
            address = self.lane.address
            self.lane.watch()
        self.fail(overdue(address))

    @property
    def wanted(self) -> bool:
        return self.lasting or not self.future.done()


class Owner(Protocol):
    """What a lane tells whoever opened it."""

    def resend(self, operations: list[Operation]) -> None:
        """Send ``operations`` on another connection: this one broke before, or under, them."""
        ...

    def redirected(self, operation: Operation, refusals: list[ResponseError]) -> bool:
        """Tell whether ``operation``, which was refused here, is sent elsewhere instead."""
        ...

    def lost(self, lane: Lane) -> None:
        """Note that ``lane`` came to its end though its owner did not close it."""
        ...


class Lane:
    """Drives one connection. Belongs to the event loop it was made in.

    Args:
        connect: Makes the connection, which the lane closes in the end.
        address: For messages, the password masked.
        owner: A weak reference: a lane does not keep its store alive.
    """

    def __init__(self, connect: Connect, address: str, owner: weakref.ref[Owner]) -> None:
        self._connect = connect
        self.address = address
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        self._under_way: deque[Operation] = deque()
        self._began = 0.0
        self._wakeup: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._reason: StoreError = StoreUnavailableError("unavailable", f"the connection to {address} was closed")
        self.closed = False
        self._lost = False
        self.ended_from_outside = False
        """Whether somebody else cancelled the task, as an event loop does when it ends."""
        self.task = self._loop.create_task(self._drive(), name=f"cachekit lane to {address}")

    def put(self, operation: Operation) -> None:
        """Queue ``operation``."""
        if len(self._queue) >= QUEUE:
            operation.fail(QueueFullError("queue full", f"{QUEUE} operations wait for {self.address}"))
            return
        operation.lane = self
        self._queue.append(operation)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def close(self) -> None:
        """Close the connection; whatever is queued or under way fails."""
        if not self.closed:
            self.closed = True
            self.task.cancel()

    def give_up(self, reason: StoreError) -> None:
        """Close the connection since it is of no use, which the owner is told."""
        self._reason = reason
        self._lost = True
        self.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or under way."""
        return not self._queue and not self._under_way

    # --- the task ------------------------------------------------------------------------------

    async def _drive(self) -> None:
        broke = False
        connection: AbstractConnection | None = None
        try:
            async with asyncio.timeout(CONNECT_PATIENCE):
                connection = await self._connect()
            # On Python 3.11 redis-py swallows a cancellation that lands while it connects.
            if self.closed or self.task.cancelling():
                raise asyncio.CancelledError  # noqa: TRY301 - it is the one that was swallowed
            while not broke:
                if not self._queue:
                    self._wakeup = self._loop.create_future()
                    await self._wakeup
                # From here on an exception means that the connection broke, before or under the batch.
                broke = True
                # Something to read before anything was asked is the end of the stream, the server's reason
                # for it, or a stray reply that would be taken for the answer to the next question.
                if await connection.can_read():
                    async with asyncio.timeout(_LAST_WORD):
                        await connection.read_response(disable_decoding=True)
                    self._reason = garbage(self.address)
                    break
                broke = await self._exchange(connection)
        # The lane is the edge: what redis-py, the system or a broken reply raise here ends the connection
        # and becomes one of our errors, for whoever waits.
        except Exception as foreign:
            self._reason = translate(foreign, self.address)
        except asyncio.CancelledError:
            self.ended_from_outside = not self.closed
            broke = False
            raise
        finally:
            self._lost = self._lost or not self.closed
            self.closed = True
            self._end(broke=broke)
            if connection is not None:
                await connection.disconnect(nowait=True)

    async def _exchange(self, connection: AbstractConnection) -> bool:
        """Send what waits, and hand out the replies. Returns whether one of them ends the connection."""
        batch = [operation for operation in self._queue if operation.wanted]
        self._queue.clear()
        if not batch:
            return False
        self._under_way.extend(batch)
        self._began = self._loop.time()
        await connection.send_packed_command(
            batch[0].packed if len(batch) == 1 else b"".join([operation.packed for operation in batch]),
            check_health=False,
        )
        ends = False
        refusals: list[ResponseError] = []
        for operation in batch:
            reply = await _reply(connection, refusals)
            if operation.replies > 1:
                others = [await _reply(connection, refusals) for _ in range(operation.replies - 1)]
                reply = operation.answer([reply, *others])
            self._under_way.popleft()
            if refusals:
                ends = ends or any(ends_connection(translate(refusal, self.address)) for refusal in refusals)
                owner = self._owner()
                redirected = owner is not None and owner.redirected(operation, refusals)
                refusals.clear()
                if redirected:
                    continue
            operation.succeed(reply)
        self._began = 0.0
        return ends

    # --- deadlines -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Watch the connection, since something on it is late: a healthy one pays nothing for being watched."""
        if self._began and self._watch is None and not self.closed:
            left = self._began + PATIENCE - self._loop.time()
            self._watch = self._loop.call_later(max(0.0, left), self._out_of_patience, self._began)

    def _out_of_patience(self, began: float) -> None:
        self._watch = None
        if self._began == began:
            self.give_up(overdue(self.address))

    def _end(self, *, broke: bool) -> None:
        """Give every operation that is left an end, or to the next lane.

        When an established connection broke, what was never sent may be sent anew, and so may what has the
        same effect twice. When connecting itself failed, trying again at once would be no use.
        """
        if self._watch is not None:
            self._watch.cancel()
        unsent = {*self._queue}
        heirs: list[Operation] = []
        owner = self._owner()
        for operation in [*self._under_way, *self._queue]:
            again = operation in unsent or operation.repeatable
            if broke and again and owner is not None and not operation.inherited and operation.wanted:
                operation.inherited = True
                heirs.append(operation)
            else:
                operation.fail(self._reason)
        self._under_way.clear()
        self._queue.clear()
        if owner is not None and self._lost:
            owner.lost(self)
        if owner is not None and heirs:
            owner.resend(heirs)


async def _reply(connection: AbstractConnection, refusals: list[ResponseError]) -> object:
    """Return the next reply; an error reply is one, and is added to ``refusals``."""
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as refusal:
        refusals.append(refusal)
        return refusal
