"""A lane: one connection, and the operations that travel on it.

A caller holds a future that fails at its deadline, and the lane alone touches the socket. So a caller that is
cancelled or runs out of time can neither poison a connection nor drain a pool. An operation that finds the
connection idle is sent in its caller's own turn of the event loop. Operations that come while a batch is unanswered
wait, and travel together as the next batch, their reads as one MGET. After a batch of several, the first operation
that finds the connection idle waits for the others of its turn.

redis-py connects, verifies TLS and logs in. From then on the lane is the protocol of the connection's transport:
it parses replies and hands them out as they come. No task and no stream reader stands between socket and caller,
which would cost a lone GET a turn of the event loop and a third of its time.

A lane lives as long as its connection. At the first failure it fails its operations, closes and is replaced; it
never reconnects.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from hiredis import Reader
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import InvalidResponse, NoScriptError

from cachekit.errors import KeyRefusedError, QueueFullError, StoreError, StoreUnavailableError
from cachekit.loops import detached
from cachekit.stores.operations import MultiGet, Operation, Read, Scripted, gathered
from cachekit.stores.translate import ends_connection, garbage_error, timeout_error, translate

QUEUE: Final = 10_000
"""The most operations that wait in a lane. One more fails at once, rather than late."""

PATIENCE: Final = 0.5
"""Seconds from sending until a connection with an overdue operation is given up. With the default deadline the
callers have failed by then. The lane waits longer than they do, since reconnecting costs 4 to 8 times a GET. It does
not wait still longer, since a peer that vanished and came back must be used again within a second."""

CONNECT_PATIENCE: Final = 0.7
"""Seconds for connecting, TLS and the handshake together. The lane takes longer if the operation that opens it has
longer: a store that is far away, or on a busy machine, is given its time by `timeout`, and by nothing else."""

_FINAL_REPLY_TIMEOUT: Final = 0.05
"""Seconds for the last reply of a server that closes the connection: it has arrived already, or is incomplete."""

Connect: TypeAlias = Callable[[], Awaitable[AbstractConnection]]
"""Makes a connection and connects it. When it is cancelled or fails, it leaves nothing behind."""

ConnectTo: TypeAlias = Callable[[str, int], Connect]
"""Takes a host and a port, and returns the `Connect` for them."""

_NOTHING: Final = object()
"""The parser returns it when no reply is complete."""


class Owner(Protocol):
    """The network that opened a lane, seen from the lane."""

    def resend(self, operations: list[Operation]) -> None:
        """Send ``operations`` on another connection: this one broke before they were sent or answered."""
        ...

    def redirect(self, operation: Operation, error_replies: list[Exception]) -> bool:
        """Send ``operation``, which was refused here, to another server; return whether that was done."""
        ...

    def lane_lost(self, lane: Lane) -> None:
        """Note that ``lane`` has ended though its owner did not close it."""
        ...


class Lane(asyncio.Protocol):
    """Drives one connection. Belongs to the event loop it was made in.

    Args:
        connect: Makes the connection. The lane closes it.
        address: For messages, the password masked.
        owner: A weak reference: a lane does not keep its store alive.
        slot_of: Returns the slot of a key. Only reads of one slot may travel as one. None: any reads may.
    """

    def __init__(
        self,
        connect: Connect,
        address: str,
        owner: weakref.ref[Owner],
        slot_of: Callable[[str], object] | None = None,
    ) -> None:
        self._connect = connect
        self._slot_of = slot_of
        self.address: str = address
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        # The batch that was sent, without the operations that have their replies.
        self._unanswered: deque[Operation | MultiGet] = deque()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_NOTHING,
        )
        # Both belong to the first unanswered operation, whose replies are not complete.
        self._replies: list[object] = []
        self._error_replies: list[Exception] = []
        # Whether a reply of the batch said that the connection is useless. It ends after the batch.
        self._unusable = False
        # Whether the last batch had several operations: then the first of the next waits for the others of its turn.
        self._batching = False
        # The time at which the batch was sent; 0.0 when nothing is unanswered.
        self._sent_at = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._reason: StoreError = StoreUnavailableError("unavailable", f"the connection to {address} was closed")
        self._disconnected: asyncio.Future[None] = self._loop.create_future()
        self.closed: bool = False
        self._lost = False
        self.cancelled_by_loop: bool = False
        """Whether the task was cancelled by somebody else, as an event loop does when it ends."""
        self.task: asyncio.Task[None] = detached(
            self._loop.create_task, self._run(), name=f"cachekit lane to {address}"
        )
        detached(self.task.add_done_callback, self._on_task_done)

    def put(self, operation: Operation) -> None:
        """Send ``operation`` at once if the connection is idle, else queue it."""
        if len(self._queue) >= QUEUE:
            operation.fail(QueueFullError("queue full", f"{QUEUE} operations wait for {self.address}"))
            return
        operation.lane = self
        self._queue.append(operation)
        if self._transport is not None and not self._unanswered:
            # An operation that must not be sent twice waits for a turn, too: by then the lane has seen whether the
            # server has closed the connection.
            if operation.repeatable and not self._batching:
                self._send()
            elif len(self._queue) == 1:
                self._loop.call_soon(self._send_if_idle)

    def close(self) -> None:
        """Close the connection. Operations that are queued or unanswered fail."""
        if not self.closed:
            self.closed = True
            self._transport = None
            self.task.cancel()

    def give_up(self, reason: StoreError) -> None:
        """Close the connection because it is useless, and tell the owner."""
        if not self.closed:
            self._reason = reason
            self._lost = True
            self.close()

    @property
    def idle(self) -> bool:
        """Whether no operation is queued or unanswered."""
        return not self._queue and not self._unanswered

    # --- the task: it connects, waits for the end, and cleans up ---------------------------------------

    async def _run(self) -> None:
        broke = False
        connection: AbstractConnection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout()):
                connection = await self._connect()
            # On Python 3.11 redis-py swallows a cancellation that lands while it connects.
            if self.closed or self.task.cancelling():
                raise asyncio.CancelledError  # noqa: TRY301 - it is the one that was swallowed
            # From here on an exception means that a connection broke that had been established.
            broke = True
            if await connection.can_read():
                # The stream has ended, or the server says why it will end it.
                async with asyncio.timeout(_FINAL_REPLY_TIMEOUT):
                    await connection.read_response(disable_decoding=True)
                self._reason = garbage_error(self.address)
            else:
                self._attach(connection)
                await self._disconnected
        # The lane is the edge: an exception of redis-py, of the system or of a broken reply ends the connection
        # here, and becomes one of our errors for the callers that wait.
        except Exception as foreign:
            self._reason = translate(foreign, self.address)
        except asyncio.CancelledError:
            self.cancelled_by_loop = not self.closed
            broke = False
            raise
        finally:
            self._lost = self._lost or not self.closed
            self.closed = True
            self._transport = None
            self._finish(broke=broke)
            if connection is not None:
                await connection.disconnect(nowait=True)

    def _connect_timeout(self) -> float:
        """Return the seconds for connecting, from the operations that wait as the task begins.

        Operations that come later do not count: as long as they came, a peer that is gone would not be given up.
        """
        now = self._loop.time()
        return max([CONNECT_PATIENCE, *[operation.deadline - now for operation in self._queue]])

    def _on_task_done(self, task: asyncio.Task[None]) -> None:  # noqa: ARG002 - a callback of the task
        # A task that is cancelled before its first step runs none of its own code.
        if not self.closed:
            self.closed = self.cancelled_by_loop = True
        if not self.idle:
            self._finish(broke=False)

    def _attach(self, connection: AbstractConnection) -> None:
        # redis-py has no public name for the transport; tests/stores/test_lane.py fails when it is renamed.
        transport: asyncio.Transport = cast("Any", connection)._writer.transport  # noqa: SLF001
        transport.set_protocol(self)
        self._transport = transport
        if self._queue:
            self._send()

    def _disconnect(self, reason: StoreError) -> None:
        """Let the task close the connection. Nothing is sent on it any more."""
        self._transport = None
        if not self._disconnected.done():
            self._reason = reason
            self._disconnected.set_result(None)

    # --- sending -------------------------------------------------------------------------------------

    def _send_if_idle(self) -> None:
        if self._queue and not self._unanswered:
            self._send()

    def _send(self) -> None:
        """Send the operations that wait, as one batch."""
        queue, transport = self._queue, self._transport
        if transport is None:
            return
        self._batching = len(queue) > 1
        if not self._batching:
            operation = queue.popleft()
            if not operation.wanted:
                return
            if isinstance(operation, Read):
                operation.pack()
            self._unanswered.append(operation)
            self._sent_at = self._loop.time()
            transport.write(operation.packed)
            return
        self._unanswered.extend(self._drain_queue())
        if self._unanswered:
            self._sent_at = self._loop.time()
            transport.write(b"".join([operation.packed for operation in self._unanswered]))

    def _drain_queue(self) -> list[Operation | MultiGet]:
        """Empty the queue, and return the batch: reads of one slot as one MGET, behind all other operations.

        A read may be answered later than it was asked, but never from before an operation that was asked first.
        """
        reads: list[Read] = []
        others: list[Operation | MultiGet] = []
        for operation in self._queue:
            if operation.wanted:
                if isinstance(operation, Read) and not operation.alone:
                    reads.append(operation)
                else:
                    others.append(operation)
        self._queue.clear()
        for of_one_slot in [reads] if self._slot_of is None else _by_slot(self._slot_of, reads):
            others.extend(gathered(of_one_slot))
        for one in others:
            if isinstance(one, Read):
                one.pack()
        return others

    # --- receiving: called by the transport ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand out the replies in ``data``."""
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets(False)) is not _NOTHING:  # noqa: FBT003 - that is, not decoded
                self._receive(reply)
                if self._transport is None:
                    # The connection was given up: the replies after one that is no answer are no answers either.
                    return
        # If the parser raises any exception, the bytes are no reply.
        except Exception as broken:
            self._disconnect(translate(broken, self.address))
        if not self._unanswered:
            self._sent_at = 0.0
            if self._unusable:
                self._disconnect(self._reason)
            elif self._queue:
                self._send()

    def _receive(self, reply: object) -> None:
        unanswered = self._unanswered
        if not unanswered:
            # The server says why it closes the connection, or a stray reply came, which would be taken for the
            # answer to the next command.
            reason = translate(reply, self.address) if isinstance(reply, Exception) else garbage_error(self.address)
            self._disconnect(reason)
            return
        operation = unanswered[0]
        if isinstance(reply, Exception):
            self._error_replies.append(reply)
        if operation.replies > 1:
            self._replies.append(reply)
            if len(self._replies) < operation.replies:
                return
            reply = operation.result_of(self._replies)
            self._replies = []
        unanswered.popleft()
        if self._error_replies:
            error_replies, self._error_replies = self._error_replies, []
            errors = [translate(error_reply, self.address) for error_reply in error_replies]
            for error in errors:
                if ends_connection(error):
                    self._unusable, self._reason = True, error
            if self._sent_again(operation, error_replies, errors):
                return
        operation.succeed(reply)

    def _sent_again(
        self, operation: Operation | MultiGet, error_replies: list[Exception], errors: list[StoreError]
    ) -> bool:
        """Send ``operation``, which was refused, in another way if there is one; return whether that was done."""
        owner = self._owner()
        if isinstance(operation, MultiGet):
            if not isinstance(errors[0], KeyRefusedError) and errors[0].cause not in {"MOVED", "ASK"}:
                return False
            # The error is about one key, and does not say which: each key is asked for alone, so that a refused
            # key fails only its own caller.
            for read in operation.reads:
                read.alone = True
                self._queue.append(read)
            return True
        forgotten = isinstance(error_replies[-1], NoScriptError)
        if forgotten and isinstance(operation, Scripted) and not operation.source_sent:
            operation.send_source()
            self._queue.append(operation)
            return True
        return owner is not None and owner.redirect(operation, error_replies)

    def eof_received(self) -> None:
        """End, and let the transport close itself: an operation that is put from now on would never be sent."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, because the connection has ended."""
        if self._unusable:
            # The server has said why.
            self._disconnect(self._reason)
        elif self._error_replies:
            # The server has said why in its reply to the first of several commands.
            self._disconnect(translate(self._error_replies[0], self.address))
        elif exc is not None:
            self._disconnect(translate(exc, self.address))
        else:
            self._disconnect(StoreUnavailableError("unavailable", f"{self.address} closed the connection"))

    # --- deadlines -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Give the connection up unless the batch is answered in time.

        An operation asks for it when it is late, so a healthy connection needs no timer.
        """
        if self._sent_at and self._watchdog is None and not self.closed:
            left = self._sent_at + PATIENCE - self._loop.time()
            self._watchdog = detached(self._loop.call_later, max(0.0, left), self._give_up_if_silent, self._sent_at)

    def _give_up_if_silent(self, sent_at: float) -> None:
        self._watchdog = None
        if self._sent_at == sent_at:
            self.give_up(timeout_error(self.address))

    def _finish(self, *, broke: bool) -> None:
        """Fail every operation that is left, or hand it on to the next lane.

        When an established connection broke, an operation may be sent once more if it was never sent, or if it has
        the same effect twice. When connecting itself failed, trying again at once would be useless.
        """
        if self._watchdog is not None:
            self._watchdog.cancel()
        unsent = {*self._queue}
        sent = [read for one in self._unanswered for read in (one.reads if isinstance(one, MultiGet) else [one])]
        to_resend: list[Operation] = []
        owner = self._owner()
        for operation in [*sent, *self._queue]:
            again = operation in unsent or operation.repeatable
            if broke and again and owner is not None and not operation.resent and operation.wanted:
                operation.resent = True
                to_resend.append(operation)
            else:
                operation.fail(self._reason)
        self._unanswered.clear()
        self._queue.clear()
        if owner is not None and self._lost:
            owner.lane_lost(self)
        if owner is not None and to_resend:
            owner.resend(to_resend)


def _by_slot(slot_of: Callable[[str], object], reads: Sequence[Read]) -> Iterable[list[Read]]:
    slots: dict[object, list[Read]] = {}
    for read in reads:
        slots.setdefault(slot_of(read.key), []).append(read)
    return slots.values()
