"""A lane: one connection, and what travels on it.

Callers hold futures that fail at their deadline; the lane alone touches the socket. So a caller that is
cancelled or runs out of time can neither poison a connection nor drain a pool. What finds the connection idle is
sent in its caller's own turn of the event loop; whatever gathers while a batch is under way travels together in the
next, its reads as one MGET. After such a batch the first to find the connection idle waits for the others of its turn.

redis-py connects, verifies TLS and logs in. From then on the lane is the protocol of the connection's transport:
replies are parsed and handed out as they come, without a task and a stream reader between socket and caller, which
cost a lone GET a turn of the event loop and a third of its time.

A lane lives as long as its connection. At the first trouble it fails its operations, closes and is
replaced; it never reconnects.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias, cast

from hiredis import Reader
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import InvalidResponse, NoScriptError

from cachekit.errors import KeyRefusedError, QueueFullError, StoreError, StoreUnavailableError
from cachekit.stores.operations import MultiGet, Operation, Read, Scripted
from cachekit.stores.translate import ends_connection, garbage_error, timeout_error, translate

QUEUE: Final = 10_000
"""The most operations that wait in a lane; one more fails at once, rather than late."""

PATIENCE: Final = 0.5
"""Seconds after which a connection on which something is overdue is given up. With the default deadline
callers are gone by then: they fail while the lane still waits, since reconnecting costs 4 to 8 times a GET.
No longer, since a peer that vanished and came back is to be used again within a second."""

CONNECT_PATIENCE: Final = 0.7
"""Seconds for connecting, TLS and the handshake together; longer if the operation that opens a lane has longer. A
store that is far away, or on a busy machine, is given its time by `timeout`, and by nothing else."""

_FINAL_REPLY_TIMEOUT: Final = 0.05
"""Seconds for what a server says before it closes a connection: it is there already, or is cut short."""

Connect: TypeAlias = Callable[[], Awaitable[AbstractConnection]]
"""Makes a connection and connects it; cancelled or failing, it leaves nothing behind."""

ConnectTo: TypeAlias = Callable[[str, int], Connect]
"""Returns what connects to a host and port."""


_NOTHING: Final = object()
"""What the parser gives when no reply is complete."""


class Owner(Protocol):
    """What a lane tells whoever opened it."""

    def resend(self, operations: list[Operation]) -> None:
        """Send ``operations`` on another connection: this one broke before, or under, them."""
        ...

    def redirect(self, operation: Operation, error_replies: list[Exception]) -> bool:
        """Tell whether ``operation``, which was refused here, is sent elsewhere instead."""
        ...

    def lane_lost(self, lane: Lane) -> None:
        """Note that ``lane`` came to its end though its owner did not close it."""
        ...


class Lane(asyncio.Protocol):
    """Drives one connection. Belongs to the event loop it was made in.

    Args:
        connect: Makes the connection, which the lane closes in the end.
        address: For messages, the password masked.
        owner: A weak reference: a lane does not keep its store alive.
        slot_of: Only reads of the same place may travel as one.
    """

    def __init__(
        self,
        connect: Connect,
        address: str,
        owner: weakref.ref[Owner],
        slot_of: Callable[[str], object] | None = None,
    ) -> None:
        self._connect = connect
        self._place_of = slot_of
        self.address = address
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        # The operations that were sent, of which some may be gathered.
        self._unanswered: deque[Operation | MultiGet] = deque()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_NOTHING,
        )
        # Of the operation that is first under way.
        self._replies: list[object] = []
        self._error_replies: list[Exception] = []
        # Whether a reply of the batch said that the connection is of no use.
        self._unusable = False
        # Whether the last batch was of several operations: then the first of the next waits for the others of its turn.
        self._batching = False
        self._sent_at = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._reason: StoreError = StoreUnavailableError("unavailable", f"the connection to {address} was closed")
        self._disconnected: asyncio.Future[None] = self._loop.create_future()
        self.closed: bool = False
        self._lost = False
        self.cancelled_by_loop: bool = False
        """Whether somebody else cancelled the task, as an event loop does when it ends."""
        self.task: asyncio.Task[None] = self._loop.create_task(self._run(), name=f"cachekit lane to {address}")
        self.task.add_done_callback(self._on_task_done)

    def put(self, operation: Operation) -> None:
        """Send ``operation`` at once if the connection is idle, else queue it."""
        if len(self._queue) >= QUEUE:
            operation.fail(QueueFullError("queue full", f"{QUEUE} operations wait for {self.address}"))
            return
        operation.lane = self
        self._queue.append(operation)
        if self._transport is not None and not self._unanswered:
            # What is not to be sent twice waits for a turn as well: by then the end of a closed connection is seen.
            if operation.repeatable and not self._batching:
                self._send()
            elif len(self._queue) == 1:
                self._loop.call_soon(self._send_if_idle)

    def close(self) -> None:
        """Close the connection; whatever is queued or under way fails."""
        if not self.closed:
            self.closed = True
            self._transport = None
            self.task.cancel()

    def give_up(self, reason: StoreError) -> None:
        """Close the connection since it is of no use, which the owner is told."""
        if not self.closed:
            self._reason = reason
            self._lost = True
            self.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or under way."""
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
            # From here on an exception means that the connection broke, before or under an operation.
            broke = True
            if await connection.can_read():
                # The end of the stream, or the server's reason for it.
                async with asyncio.timeout(_FINAL_REPLY_TIMEOUT):
                    await connection.read_response(disable_decoding=True)
                self._reason = garbage_error(self.address)
            else:
                self._attach(connection)
                await self._disconnected
        # The lane is the edge: what redis-py, the system or a broken reply raise here ends the connection
        # and becomes one of our errors, for whoever waits.
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
        """Return the seconds for connecting, by what waits as the task begins.

        What comes later counts for nothing: as long as something came, a peer that is gone would not be given up.
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
        # redis-py has no public name for it; tests/stores/test_lane.py holds that it is there.
        transport: asyncio.Transport = cast("Any", connection)._writer.transport  # noqa: SLF001
        transport.set_protocol(self)
        self._transport = transport
        if self._queue:
            self._send()

    def _disconnect(self, reason: StoreError) -> None:
        """Let the task end the connection; nothing is sent on it any more."""
        self._transport = None
        if not self._disconnected.done():
            self._reason = reason
            self._disconnected.set_result(None)

    # --- sending -------------------------------------------------------------------------------------

    def _send_if_idle(self) -> None:
        if self._queue and not self._unanswered:
            self._send()

    def _send(self) -> None:
        """Send what waits."""
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
        """Empty the queue: its reads gathered, behind all that writes. A read may be later, but never earlier."""
        reads: list[Read] = []
        others: list[Operation | MultiGet] = []
        for operation in self._queue:
            if operation.wanted:
                if isinstance(operation, Read) and not operation.alone:
                    reads.append(operation)
                else:
                    others.append(operation)
        self._queue.clear()
        slots: dict[object, list[Read]] = {None: reads}
        if self._place_of is not None:
            slots = {}
            for read in reads:
                slots.setdefault(self._place_of(read.key), []).append(read)
        for reads in slots.values():
            if len(reads) > 1:
                others.append(MultiGet(reads))
            else:
                others.extend(reads)
        for one in others:
            if isinstance(one, Read):
                one.pack()
        return others

    # --- receiving: what the transport calls ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand out the replies in ``data``."""
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets(False)) is not _NOTHING:  # noqa: FBT003 - that is, not decoded
                self._receive(reply)
                if self._transport is None:
                    # Given up: what comes after a reply that is no answer is no answer either.
                    return
        # Whatever the parser raises is no reply.
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
            # The server's reason for closing the connection, or a stray reply that would be taken for the answer
            # to the next question.
            self._disconnect(
                translate(reply, self.address) if isinstance(reply, Exception) else garbage_error(self.address)
            )
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
        """Tell whether ``operation``, which was refused, is asked again in another way."""
        owner = self._owner()
        if isinstance(operation, MultiGet):
            if not isinstance(errors[0], KeyRefusedError) and errors[0].cause not in {"MOVED", "ASK"}:
                return False
            # It is about one key, and nobody knows which: each is asked for alone, and fails only its caller.
            for read in operation.reads:
                read.alone = True
                self._queue.append(read)
            return True
        if (
            isinstance(operation, Scripted)
            and not operation.source_sent
            and isinstance(error_replies[-1], NoScriptError)
        ):
            operation.send_source()
            self._queue.append(operation)
            return True
        return owner is not None and owner.redirect(operation, error_replies)

    def eof_received(self) -> None:
        """End, and let the transport close itself: what is put from now on would never be sent."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, since the connection has."""
        if self._unusable:
            # It has said why; so it may have in answer to the first of several commands.
            self._disconnect(self._reason)
        elif self._error_replies:
            self._disconnect(translate(self._error_replies[0], self.address))
        elif exc is not None:
            self._disconnect(translate(exc, self.address))
        else:
            self._disconnect(StoreUnavailableError("unavailable", f"{self.address} closed the connection"))

    # --- deadlines -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Watch the connection, since something on it is late: a healthy one pays nothing for being watched."""
        if self._sent_at and self._watchdog is None and not self.closed:
            left = self._sent_at + PATIENCE - self._loop.time()
            self._watchdog = self._loop.call_later(max(0.0, left), self._give_up_if_silent, self._sent_at)

    def _give_up_if_silent(self, began: float) -> None:
        self._watchdog = None
        if self._sent_at == began:
            self.give_up(timeout_error(self.address))

    def _finish(self, *, broke: bool) -> None:
        """Give every operation that is left an end, or to the next lane.

        When an established connection broke, what was never sent may be sent anew, and so may what has the
        same effect twice. When connecting itself failed, trying again at once would be no use.
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
