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
from cachekit.stores.operations import Gathered, Operation, Read, Scripted
from cachekit.stores.translate import ends_connection, garbage, overdue, translate

QUEUE: Final = 10_000
"""The most operations that wait in a lane; one more fails at once, rather than late."""

PATIENCE: Final = 0.5
"""Seconds after which a connection on which something is overdue is given up. With the default deadline
callers are gone by then: they fail while the lane still waits, since reconnecting costs 4 to 8 times a GET.
No longer, since a peer that vanished and came back is to be used again within a second."""

CONNECT_PATIENCE: Final = 0.7
"""Seconds for connecting, TLS and the handshake together; longer if the operation that opens a lane has longer. A
store that is far away, or on a busy machine, is given its time by `timeout`, and by nothing else."""

_LAST_WORD: Final = 0.05
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

    def redirected(self, operation: Operation, refusals: list[Exception]) -> bool:
        """Tell whether ``operation``, which was refused here, is sent elsewhere instead."""
        ...

    def lost(self, lane: Lane) -> None:
        """Note that ``lane`` came to its end though its owner did not close it."""
        ...


class Lane(asyncio.Protocol):
    """Drives one connection. Belongs to the event loop it was made in.

    Args:
        connect: Makes the connection, which the lane closes in the end.
        address: For messages, the password masked.
        owner: A weak reference: a lane does not keep its store alive.
        place_of: Only reads of the same place may travel as one.
    """

    def __init__(
        self,
        connect: Connect,
        address: str,
        owner: weakref.ref[Owner],
        place_of: Callable[[str], object] | None = None,
    ) -> None:
        self._connect = connect
        self._place_of = place_of
        self.address = address
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        # The operations that were sent, of which some may be gathered.
        self._under_way: deque[Operation | Gathered] = deque()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_NOTHING,
        )
        # Of the operation that is first under way.
        self._replies: list[object] = []
        self._refusals: list[Exception] = []
        # Whether a reply of the batch said that the connection is of no use.
        self._ends = False
        # Whether the last batch was of several operations: then the first of the next waits for the others of its turn.
        self._gathering = False
        self._began = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._reason: StoreError = StoreUnavailableError("unavailable", f"the connection to {address} was closed")
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.closed: bool = False
        self._lost = False
        self.ended_from_outside: bool = False
        """Whether somebody else cancelled the task, as an event loop does when it ends."""
        self.task: asyncio.Task[None] = self._loop.create_task(self._live(), name=f"cachekit lane to {address}")
        self.task.add_done_callback(self._ended)

    def put(self, operation: Operation) -> None:
        """Send ``operation`` at once if the connection is idle, else queue it."""
        if len(self._queue) >= QUEUE:
            operation.fail(QueueFullError("queue full", f"{QUEUE} operations wait for {self.address}"))
            return
        operation.lane = self
        self._queue.append(operation)
        if self._transport is not None and not self._under_way:
            # What is not to be sent twice waits for a turn as well: by then the end of a closed connection is seen.
            if operation.repeatable and not self._gathering:
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
        return not self._queue and not self._under_way

    # --- the task: it connects, waits for the end, and cleans up ---------------------------------------

    async def _live(self) -> None:
        broke = False
        connection: AbstractConnection | None = None
        try:
            async with asyncio.timeout(self._connect_patience()):
                connection = await self._connect()
            # On Python 3.11 redis-py swallows a cancellation that lands while it connects.
            if self.closed or self.task.cancelling():
                raise asyncio.CancelledError  # noqa: TRY301 - it is the one that was swallowed
            # From here on an exception means that the connection broke, before or under an operation.
            broke = True
            if await connection.can_read():
                # The end of the stream, or the server's reason for it.
                async with asyncio.timeout(_LAST_WORD):
                    await connection.read_response(disable_decoding=True)
                self._reason = garbage(self.address)
            else:
                self._take_over(connection)
                await self._over
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
            self._transport = None
            self._end(broke=broke)
            if connection is not None:
                await connection.disconnect(nowait=True)

    def _connect_patience(self) -> float:
        """Return the seconds for connecting, by what waits as the task begins.

        What comes later counts for nothing: as long as something came, a peer that is gone would not be given up.
        """
        now = self._loop.time()
        return max([CONNECT_PATIENCE, *[operation.deadline - now for operation in self._queue]])

    def _ended(self, task: asyncio.Task[None]) -> None:  # noqa: ARG002 - a callback of the task
        # A task that is cancelled before its first step runs none of its own code.
        if not self.closed:
            self.closed = self.ended_from_outside = True
        if not self.idle:
            self._end(broke=False)

    def _take_over(self, connection: AbstractConnection) -> None:
        # redis-py has no public name for it; tests/stores/test_lane.py holds that it is there.
        transport: asyncio.Transport = cast("Any", connection)._writer.transport  # noqa: SLF001
        transport.set_protocol(self)
        self._transport = transport
        if self._queue:
            self._send()

    def _break(self, reason: StoreError) -> None:
        """Let the task end the connection; nothing is sent on it any more."""
        self._transport = None
        if not self._over.done():
            self._reason = reason
            self._over.set_result(None)

    # --- sending -------------------------------------------------------------------------------------

    def _send_if_idle(self) -> None:
        if self._queue and not self._under_way:
            self._send()

    def _send(self) -> None:
        """Send what waits."""
        queue, transport = self._queue, self._transport
        if transport is None:
            return
        self._gathering = len(queue) > 1
        if not self._gathering:
            operation = queue.popleft()
            if not operation.wanted:
                return
            if isinstance(operation, Read):
                operation.pack()
            self._under_way.append(operation)
            self._began = self._loop.time()
            transport.write(operation.packed)
            return
        self._under_way.extend(self._gathered())
        if self._under_way:
            self._began = self._loop.time()
            transport.write(b"".join([operation.packed for operation in self._under_way]))

    def _gathered(self) -> list[Operation | Gathered]:
        """Empty the queue: its reads gathered, behind all that writes. A read may be later, but never earlier."""
        reads: list[Read] = []
        others: list[Operation | Gathered] = []
        for operation in self._queue:
            if operation.wanted:
                if isinstance(operation, Read) and not operation.alone:
                    reads.append(operation)
                else:
                    others.append(operation)
        self._queue.clear()
        places: dict[object, list[Read]] = {None: reads}
        if self._place_of is not None:
            places = {}
            for read in reads:
                places.setdefault(self._place_of(read.key), []).append(read)
        for parts in places.values():
            if len(parts) > 1:
                others.append(Gathered(parts))
            else:
                others.extend(parts)
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
            self._break(translate(broken, self.address))
        if not self._under_way:
            self._began = 0.0
            if self._ends:
                self._break(self._reason)
            elif self._queue:
                self._send()

    def _receive(self, reply: object) -> None:
        under_way = self._under_way
        if not under_way:
            # The server's reason for closing the connection, or a stray reply that would be taken for the answer
            # to the next question.
            self._break(translate(reply, self.address) if isinstance(reply, Exception) else garbage(self.address))
            return
        operation = under_way[0]
        if isinstance(reply, Exception):
            self._refusals.append(reply)
        if operation.replies > 1:
            self._replies.append(reply)
            if len(self._replies) < operation.replies:
                return
            reply = operation.answer(self._replies)
            self._replies = []
        under_way.popleft()
        if self._refusals:
            refusals, self._refusals = self._refusals, []
            errors = [translate(refusal, self.address) for refusal in refusals]
            for error in errors:
                if ends_connection(error):
                    self._ends, self._reason = True, error
            if self._redirected(operation, refusals, errors):
                return
        operation.succeed(reply)

    def _redirected(self, operation: Operation | Gathered, refusals: list[Exception], errors: list[StoreError]) -> bool:
        """Tell whether ``operation``, which was refused, is asked again in another way."""
        owner = self._owner()
        if isinstance(operation, Gathered):
            if not isinstance(errors[0], KeyRefusedError) and errors[0].cause not in {"MOVED", "ASK"}:
                return False
            # It is about one key, and nobody knows which: each is asked for alone, and fails only its caller.
            for part in operation.parts:
                part.alone = True
                self._queue.append(part)
            return True
        if isinstance(operation, Scripted) and not operation.brought and isinstance(refusals[-1], NoScriptError):
            operation.bring()
            self._queue.append(operation)
            return True
        return owner is not None and owner.redirected(operation, refusals)

    def eof_received(self) -> None:
        """End, and let the transport close itself: what is put from now on would never be sent."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, since the connection has."""
        if self._ends:
            # It has said why; so it may have in answer to the first of several commands.
            self._break(self._reason)
        elif self._refusals:
            self._break(translate(self._refusals[0], self.address))
        elif exc is not None:
            self._break(translate(exc, self.address))
        else:
            self._break(StoreUnavailableError("unavailable", f"{self.address} closed the connection"))

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
        sent = [part for one in self._under_way for part in (one.parts if isinstance(one, Gathered) else [one])]
        heirs: list[Operation] = []
        owner = self._owner()
        for operation in [*sent, *self._queue]:
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
