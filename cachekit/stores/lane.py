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
import select
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from hiredis import Reader
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import InvalidResponse, NoScriptError

from cachekit.errors import KeyRefusedError, StoreError, StoreUnavailableError
from cachekit.loops import detached
from cachekit.stores.activity import LARGE_WRITE, Activity
from cachekit.stores.deadlines import GRAIN, Deadlines
from cachekit.stores.operations import ManyGet, MultiGet, Operation, Read, Scripted, gathered
from cachekit.stores.translate import (
    LOGIN,
    congested_error,
    ends_connection,
    garbage_error,
    queue_full_error,
    timeout_error,
    translate,
)

QUEUE: Final = 131_072
"""The most operations that wait in a lane. One more operation fails at once."""

QUEUE_BYTES: Final = 64 * 2**20
"""The most bytes of commands that wait in a lane. A read has none while it waits."""

BATCH: Final = 256
"""The most operations in one write. A burst moves in steps, so that whether the server answers is seen at each."""

BATCH_BYTES: Final = 2**20
"""A batch ends behind the operation with which it has so many bytes."""

QUEUE_PATIENCE: Final = 1.0
"""The most seconds for which an operation, whose time is over, waits for the batches before it to be answered. Time
in which this process computes does not count: with 20,000 cold calls at once most of the wait is of that kind."""

PATIENCE: Final = 0.5
"""Seconds without a byte until a connection with an overdue operation is given up. With the default deadline the
callers have failed by then. The lane waits longer than they do, since reconnecting costs 4 to 8 times a GET. It does
not wait still longer, since a peer that vanished and came back must be used again within a second."""

SILENCE: Final = 0.75
"""The part of a deadline without a byte that makes the server the cause of a failure. The rest is for the way of an
operation to the socket, and for the event loop: a thousand callers take a while to begin."""

TRICKLE: Final = 10
"""Deadlines after which a connection is given up whose replies are not whole, though bytes are coming."""

LARGE_REPLY: Final = 256 * 1024
"""Bytes of a reply that has not arrived in full, behind which no other reply is to wait."""

SLOW_REPLY: Final = 0.02
"""Seconds after which such a reply is held to be slow. Another connection costs as much as 4 to 8 reads do."""

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

    renews: bool
    """Whether the next connection may have another login."""

    def resend(self, operations: list[Operation]) -> None:
        """Send ``operations`` on another connection: this one broke before they were sent or answered."""
        ...

    def redirect(self, operation: Operation, error_replies: list[Exception]) -> bool:
        """Send ``operation``, which was refused here, to another server; return whether that was done."""
        ...

    def make_way(self, lane: Lane, keys: list[str]) -> bool:
        """Open another lane in place of ``lane``, on which a large value at one of ``keys`` is arriving.

        Return whether that was possible. ``lane`` is used for large values from then on.
        """
        ...

    def lane_lost(self, lane: Lane) -> None:
        """Note that ``lane`` has ended though its owner did not close it."""
        ...


class Large(Protocol):
    """The keys whose values are large, seen from a lane that reads them."""

    def note_late(self, key: str) -> None:
        """Note that the value at ``key`` did not arrive in time."""
        ...

    def note_size(self, key: str, size: int, *, last: bool) -> None:
        """Note the size of the value at ``key``; ``last``: nothing else waits on this lane."""
        ...


class Lane(asyncio.Protocol):
    """Drives one connection. Belongs to the event loop it was made in.

    Args:
        connect: Makes the connection. The lane closes it.
        deadlines: The timer of the operations.
        owner: A weak reference: a lane does not keep its store alive.
        slot_of: Returns the slot of a key. Only reads of one slot may travel as one. None: any reads may.
    """

    # Whether a reply of the batch said that the connection is useless. It ends after the batch.
    _unusable: bool = False
    # Whether the last batch had several operations: then the first of the next waits for the others of its turn.
    _batching: bool = False
    # The operations in the queue that no later read may overtake. Known while the queue is as long as a batch.
    _barriers: int | None = None
    # The bytes of large operations in the queue, and of those behind the first batch.
    _queued_bytes: int = 0
    _poll: select.poll | None = None
    # Only of a lane that reads large values.
    _large: Large | None = None
    # The longest deadline of the operations that were late, in seconds.
    _longest: float = 0.0

    def __init__(
        self,
        connect: Connect,
        deadlines: Deadlines,
        owner: weakref.ref[Owner],
        slot_of: Callable[[str], object] | None = None,
    ) -> None:
        self._connect = connect
        self._slot_of = slot_of
        self._deadlines = deadlines
        self.address: str = deadlines.address
        self._owner = owner
        self._loop = deadlines.loop
        self._time = deadlines.time
        self.activity: Activity = Activity(self._loop, self._time)
        """What the bytes of the connection tell about its server."""
        self._queue: deque[Operation] = deque()
        # Reads that overtake a queue that is longer than a batch. The last one is sent first: most likely it is of a
        # caller that has nothing to do with those that made the queue long.
        self._reads: list[Read] = []
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
        self._watchdog: asyncio.TimerHandle | None = None
        self._reason: StoreError = StoreUnavailableError("unavailable", f"the connection to {self.address} was closed")
        self._disconnected: asyncio.Future[None] = self._loop.create_future()
        deadlines.lanes.add(self)
        self.closed: bool = False
        self._lost = False
        self.cancelled_by_loop: bool = False
        """Whether the task was cancelled by other code, as an event loop does when it ends."""
        self.task: asyncio.Task[None] = detached(
            self._loop.create_task, self._run(), name=f"cachekit lane to {self.address}"
        )
        detached(self.task.add_done_callback, self._on_task_done)

    def put(self, operation: Operation) -> None:
        """Send ``operation`` at once if the connection is idle, else queue it."""
        operation.lane = self
        if len(self._queue) < BATCH and len(operation.packed) < LARGE_WRITE:
            self._queue.append(operation)
        elif not self._queue_up(operation):
            return
        # If others wait already, sending is under way.
        if self._transport is not None and not self._unanswered and len(self._queue) == 1:
            # An operation that must not be sent twice is not sent if the server has closed the connection.
            if self._batching:
                self._loop.call_soon(self._send_if_idle)
            elif operation.repeatable or self._is_quiet():
                self._send()
            else:
                # asyncio looks at the socket behind the callbacks of the next turn.
                self._loop.call_soon(self._loop.call_soon, self._send_if_idle)

    def put_together(self, operations: Sequence[Operation]) -> None:
        """Send ``operations`` in one write in the next turn if the connection is idle, else queue them."""
        queue = self._queue
        waiting = bool(queue)
        for operation in operations:
            operation.lane = self
            if len(queue) < BATCH and len(operation.packed) < LARGE_WRITE:
                queue.append(operation)
            else:
                self._queue_up(operation)
        # If others wait already, sending is under way.
        if self._transport is None or self._unanswered or waiting or not queue:
            return
        # In the next turn, so that other operations of the same caller travel along.
        if self._batching or self._is_quiet() or all(operation.repeatable for operation in operations):
            self._loop.call_soon(self._send_together, operations)
        else:
            # As `put` does.
            self._loop.call_soon(self._loop.call_soon, self._send_together, operations)

    def _send_together(self, operations: Sequence[Operation]) -> None:
        """Send what waits, if the connection is idle; ``operations`` of one caller are among it."""
        if self._unanswered or not self._queue:
            return
        alone = len(self._queue) == len(operations) and self._queue[0] is operations[0]
        self._send()
        if alone:
            # They came together, and not from several callers, so the next operation need not wait for others.
            self._batching = False

    def _queue_up(self, operation: Operation) -> bool:
        """Queue ``operation`` where it belongs. Return whether there is room for it; it fails if there is not."""
        queue = self._queue
        size = self._queued_bytes + len(operation.packed)
        if size > QUEUE_BYTES or len(queue) + len(self._reads) >= QUEUE:
            operation.fail(queue_full_error(self.address))
            return False
        operation.queued = True
        self._queued_bytes, operation.queued_bytes = size, len(operation.packed)
        # Nothing overtakes a queue that is shorter than a batch: all of it travels together.
        overtakes = isinstance(operation, Read) and not operation.alone and len(queue) >= BATCH
        if len(queue) >= BATCH:
            if self._barriers is None:
                self._barriers = sum([queued.barrier for queued in queue])
            self._barriers += operation.barrier
        if operation.urgent:
            # A lease is held meanwhile, which may end.
            queue.appendleft(operation)
        elif overtakes and not self._barriers:
            self._reads.append(cast("Read", operation))
        else:
            queue.append(operation)
        return True

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

    def keep_to_large(self, large: Large) -> None:
        """Read large values only, each by itself: in an MGET none is known until all have arrived."""
        self._large = large
        self._slot_of = str

    @property
    def idle(self) -> bool:
        """Whether no operation is queued or unanswered."""
        return not self._queue and not self._reads and not self._unanswered

    # --- the task: it connects, waits for the end, and cleans up ---------------------------------------

    async def _run(self) -> None:
        broke = False
        connection: AbstractConnection | None = None
        try:
            connection = await self._connect_in_time()
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

    async def _connect_in_time(self) -> AbstractConnection:
        try:
            async with asyncio.timeout(None) as limit:
                self._end_connecting(limit, self._connect_timeout())
                return await self._connect()
        finally:
            if self._watchdog is not None:
                self._watchdog.cancel()
                self._watchdog = None

    def _end_connecting(self, limit: asyncio.Timeout, seconds: float) -> None:
        """End connecting after ``seconds``. Time in which the event loop stood still does not count."""
        now = self._time()
        if now > self._deadlines.stalls_at:
            self._deadlines.note_stall(now)
        left = seconds - self.activity.under_way(now)
        if left > GRAIN:
            self._watchdog = detached(self._loop.call_later, left, self._end_connecting, limit, seconds)
        else:
            limit.reschedule(now)

    def _connect_timeout(self) -> float:
        """Return the seconds for connecting, from the operations that wait as the task begins.

        Operations that come later do not count: as long as they came, a peer that is gone would not be given up.
        """
        now = self._time()
        return max([CONNECT_PATIENCE, *[operation.deadline - now for operation in self._queue]])

    def _on_task_done(self, task: asyncio.Task[None]) -> None:  # noqa: ARG002 - a callback of the task
        # A task that is cancelled before its first step runs none of its own code.
        if not self.closed:
            self.closed = self.cancelled_by_loop = True
        self._deadlines.lanes.discard(self)
        if not self.idle:
            self._finish(broke=False)

    def _attach(self, connection: AbstractConnection) -> None:
        # redis-py has no public name for the transport; tests/stores/test_lane.py fails when it is renamed.
        transport: asyncio.Transport = cast("Any", connection)._writer.transport  # noqa: SLF001
        transport.set_protocol(self)
        self._transport = transport
        self.activity.connected(self._time())
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket"), select.POLLIN)
        if not self.idle:
            self._send()

    def _is_quiet(self) -> bool:
        """Tell whether there is nothing to read, not even the end of the connection. Not every system can tell."""
        return self._poll is not None and not self._poll.poll(0)

    def _disconnect(self, reason: StoreError) -> None:
        """Let the task close the connection. Nothing is sent on it any more."""
        self._transport = None
        if not self._disconnected.done():
            self._reason = reason
            self._disconnected.set_result(None)

    # --- sending -------------------------------------------------------------------------------------

    def _send_if_idle(self) -> None:
        if (self._queue or self._reads) and not self._unanswered:
            self._send()

    def _send(self) -> None:
        """Send the operations that wait, as one batch."""
        queue, transport = self._queue, self._transport
        if transport is None:
            return
        self._batching = len(queue) > 1
        if not self._batching and not self._reads:
            operation = queue.popleft()
            self._queued_bytes = 0
            if not operation.wanted:
                return
            if isinstance(operation, Read):
                operation.pack()
            self._unanswered.append(operation)
            packed = operation.packed
        else:
            while (queue or self._reads) and not self._unanswered:
                self._unanswered.extend(self._next_batch())
            if not self._unanswered:
                return
            packed = b"".join([operation.packed for operation in self._unanswered])
            self.activity.note_wait()
            # The callers of the last batch compute first.
            self._loop.call_soon(self.activity.note_idle)
        self.activity.sent_at = self._time()
        transport.write(packed)
        if len(packed) > LARGE_WRITE:
            self.activity.watch_writing(transport)

    def _next_batch(self) -> list[Operation | MultiGet]:
        """Take a batch out of the queue, and return it: reads of one slot as one MGET, behind all other operations.

        A read may be answered later than it was asked, but never before an operation that was asked first.
        """
        reads: list[Read] = []
        others: list[Operation | MultiGet] = []
        for operation in self._take():
            if operation.wanted:
                if isinstance(operation, Read) and not operation.alone:
                    reads.append(operation)
                else:
                    others.append(operation)
        for of_one_slot in [reads] if self._slot_of is None else _by_slot(self._slot_of, reads):
            others.extend(gathered(of_one_slot))
        for one in others:
            if isinstance(one, Read):
                one.pack()
        return others

    def _take(self) -> list[Operation]:
        """Take the operations of the next batch out of the queue."""
        queue, reads = self._queue, self._reads
        if len(queue) <= BATCH and not reads and not self._queued_bytes:
            whole = [*queue]
            queue.clear()
            self._barriers = None
            return whole
        size, most, barriers = 0, BATCH // 2 if queue else BATCH, self._barriers or 0
        taken: list[Operation] = [reads.pop() for _ in range(min(len(reads), most))]
        while queue and len(taken) < BATCH and size < BATCH_BYTES:
            operation = queue.popleft()
            taken.append(operation)
            size += len(operation.packed)
            barriers -= operation.barrier
            self._queued_bytes -= operation.queued_bytes
            operation.queued_bytes = 0
        self._barriers = barriers if len(queue) >= BATCH else None
        return taken

    # --- receiving: called by the transport ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand out the replies in ``data``."""
        reader, activity, now = self._reader, self.activity, self._time()
        if now > self._deadlines.stalls_at:
            self._deadlines.note_stall(now)
        activity.heard_at = now
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
            activity.asked_at, activity.sent_at = activity.sent_at, 0.0
            if self._unusable:
                self._disconnect(self._reason)
            elif self._queue or self._reads:
                self._send()
        else:
            activity.note_part(len(data))
            if activity.arriving > LARGE_REPLY and activity.under_way(now) > SLOW_REPLY:
                self._make_way()

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
            if not self._complete(operation.replies):
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
        if self._large is not None and isinstance(operation, Read):
            self._large.note_size(operation.key, _size_of(reply), last=self.idle)
        operation.succeed(reply)

    def _complete(self, count: int) -> bool:
        """Add the replies that have arrived to those of one operation, and return whether it has ``count`` of them.

        Reads that travel together have one for each PTTL: it is quicker to take them at once.
        """
        replies, gets = self._replies, self._reader.gets
        while len(replies) < count:
            if (reply := gets(False)) is _NOTHING:  # noqa: FBT003 - that is, not decoded
                return False
            replies.append(reply)
            # Nearly all of them are numbers.
            if type(reply) is not int and isinstance(reply, Exception):
                self._error_replies.append(reply)
        return True

    def _make_way(self) -> None:
        """Let what waits here travel on another lane, since a large reply is arriving."""
        first, owner, waiting = self._unanswered[0], self._owner(), [*self._queue, *self._reads]
        # Operations of one key keep their order.
        bound = any(one.barrier for one in self._sent()) or any(one.of_many for one in waiting)
        if self._large is not None or owner is None or bound:
            return
        if isinstance(first, MultiGet):
            keys = [read.key for read in first.reads]
        else:
            keys = [*first.keys] if isinstance(first, ManyGet) else [first.key]
        if owner.make_way(self, keys):
            self._queue.clear()
            self._reads.clear()
            self._queued_bytes, self._barriers = 0, None
            owner.resend(waiting)
            self._note_late()

    def _note_late(self) -> None:
        """Note the key of a large value that is late."""
        first = self._unanswered[0] if self._unanswered else None
        if self._large is not None and isinstance(first, Operation) and first.future.done() and self.activity.arriving:
            self._large.note_late(first.key)

    def _sent_again(
        self, operation: Operation | MultiGet, error_replies: list[Exception], errors: list[StoreError]
    ) -> bool:
        """Send ``operation``, which was refused, in another way if there is one; return whether that was done."""
        owner = self._owner()
        if owner is not None and owner.renews and all(error.cause == LOGIN for error in errors):
            return self._sent_by_another_login(operation, len(errors))
        if isinstance(operation, MultiGet):
            if not isinstance(errors[0], KeyRefusedError) and errors[0].cause not in {"MOVED", "ASK"}:
                return False
            # The error is about one key, and does not say which: each key is asked for alone, so that a refused
            # key fails only its own caller.
            for read in operation.reads:
                read.alone = True
                self._queue_up(read)
            return True
        forgotten = isinstance(error_replies[-1], NoScriptError)
        if forgotten and isinstance(operation, Scripted) and not operation.source_sent:
            operation.send_source()
            self._queue_up(operation)
            return True
        return owner is not None and owner.redirect(operation, error_replies)

    def _sent_by_another_login(self, operation: Operation | MultiGet, refusals: int) -> bool:
        """Leave ``operation``, of which so many replies refused the login, to the next connection; once.

        Nothing of it was done. This connection ends when its batch is answered.
        """
        if operation.replies > refusals and not (isinstance(operation, MultiGet) or operation.repeatable):
            return False
        for one in operation.reads if isinstance(operation, MultiGet) else [operation]:
            self._queue_up(one)
        return True

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

    def stand_still(self, began: float, ended: float) -> None:
        """Take a time in which the event loop stood still out of every duration."""
        self.activity.stand_still(began, ended)

    def judge(self, overdue: list[Operation], now: float) -> None:
        """Fail the operations whose time is over, and give the others a later deadline.

        A deadline protects a caller, and is no evidence against the server. Evidence is silence: something is under
        way, and for a deadline no byte has come, nor left. Then everything in the lane fails at once. Any other
        operation that is late is congested.
        """
        activity, unsent = self.activity, {*self._queue, *self._reads}
        silence = (activity.silence(now) + GRAIN) / SILENCE
        if self._transport is not None and any(silence >= operation.patience for operation in overdue):
            # No second caller pays for it.
            overdue = [*self._sent(), *unsent]
        for operation in overdue:
            if silence >= operation.patience:
                operation.expire()
            elif (due := self._due(operation, now, unsent=operation in unsent)) > now + GRAIN:
                operation.deadline = due
            else:
                operation.expire_congested()
        self._note_late()
        self._longest = max(self._longest, *[operation.patience for operation in overdue])
        self._watch()

    def _due(self, operation: Operation, now: float, *, unsent: bool) -> float:
        """Return when ``operation`` has had its time, or is looked at again."""
        due, activity = operation.due, self.activity
        if operation.redirections:
            # A storm of redirections costs a caller its deadline, and no more.
            return min(due, operation.began + operation.patience)
        if unsent and not operation.urgent and self._transport is not None and due <= now + GRAIN:
            waited, respite = activity.waited(now), operation.patience / 4
            if operation.queued_since is None:
                operation.queued_since = waited
            if waited - operation.queued_since < QUEUE_PATIENCE and activity.under_way(now) < respite:
                # The lane moves: its turn comes.
                return now + respite
        elif operation.queued and not unsent:
            # It has waited for others. What follows is the server's time.
            return max(due, activity.sent_at + operation.patience)
        return due

    def _sent(self) -> list[Operation]:
        """Return the operations that were sent and have no reply."""
        return [one for part in self._unanswered for one in (part.reads if isinstance(part, MultiGet) else [part])]

    def _watch(self) -> None:
        """Give the connection up when it is silent, or trickles.

        A late operation asks for it, so a healthy connection needs no timer.
        """
        activity = self.activity
        if activity.sent_at and self._transport is not None and self._watchdog is None:
            now = self._time()
            left = min(PATIENCE - activity.silence(now), TRICKLE * self._longest - activity.under_way(now))
            self._watchdog = detached(self._loop.call_later, max(0.0, left), self._look)

    def _look(self) -> None:
        self._watchdog = None
        if not self.activity.sent_at:
            self._longest = 0.0
            return
        now = self._time()
        if self.activity.silence(now) >= PATIENCE - GRAIN:
            self.give_up(timeout_error(self.address))
        elif self.activity.under_way(now) >= TRICKLE * self._longest - GRAIN:
            self.give_up(congested_error(self.address))
        else:
            self._watch()

    def _finish(self, *, broke: bool) -> None:
        """Fail every operation that is left, or hand it on to the next lane.

        When an established connection broke, an operation may be sent once more if it was never sent, or if it has
        the same effect twice. When connecting itself failed, trying again at once would be useless.
        """
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._queue.extend(self._reads)
        self._reads.clear()
        unsent = {*self._queue}
        to_resend: list[Operation] = []
        owner = self._owner()
        for operation in [*self._sent(), *self._queue]:
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


def _size_of(reply: object) -> int:
    """Return the bytes of the largest value in ``reply``."""
    if isinstance(reply, list):
        return max(map(_size_of, reply), default=0)
    return len(reply) if isinstance(reply, bytes) else 0


def _by_slot(slot_of: Callable[[str], object], reads: Sequence[Read]) -> Iterable[list[Read]]:
    slots: dict[object, list[Read]] = {}
    for read in reads:
        slots.setdefault(slot_of(read.key), []).append(read)
    return slots.values()
