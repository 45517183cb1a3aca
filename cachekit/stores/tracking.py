"""The feed: a server reports which keys changed, by client tracking in broadcast mode, on a connection of its own.

A feed outlives its connections. Its reports are of use only while no change can have gone unreported, so each
connection is confirmed by a PING and its PONG, again and again. Replies and pushes of one connection come in order, and
Redis writes its pushes before it reads the next command. So when the PONG is here, every change before the PING was
sent has been reported. Nothing must detect that a server hangs, that a peer has vanished or that this process was
stopped: each PONG is good for a limited time, which passes by itself.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection

from cachekit.backoff import Backoff
from cachekit.errors import StoreError
from cachekit.loops import detached
from cachekit.stores.base import LIMIT
from cachekit.stores.lane import CONNECT_PATIENCE, Connect
from cachekit.stores.translate import garbage_error, timeout_error, translate

_PERIOD: Final = 0.25
"""Seconds between two PINGs, and between two checks for the PONG."""

_PATIENCE: Final = round(LIMIT / _PERIOD)
"""The number of checks without a PONG after which the connection is given up. Checks are counted, not seconds: a
process that was stopped for a minute has not waited, and finds the PONG among the bytes that came meanwhile."""

_LOOKS: Final = 7
"""The number of looks within `CONNECT_PATIENCE` at whether a connection is made. They are counted as well."""

_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts to connect: the first pause, and the longest. Each is twice the one before."""

_PAUSE_WHEN_REFUSED: Final = 5.0
"""Seconds between two attempts when a server refuses tracking but serves other commands: an ACL, an old server."""

_CHANNEL: Final = b"__redis__:invalidate"
_SUBSCRIBED: Final = [b"subscribe", _CHANNEL, 1]
_RESP3: Final = 3

Changed: TypeAlias = Callable[[Sequence[str] | None], None]
State: TypeAlias = Callable[[StoreError | None], None]


class Feeds:
    """The feeds of all servers that have keys with one prefix; a `cachekit.stores.base.Tracking`.

    The caller of `track` owns it, and it ends when its owner drops it. Its functions may refer to the store itself,
    which connections do not keep alive.

    Args:
        prefix: Of the keys; empty for all.
        changed: Is called with the keys that changed; with None if any key may have.
        state: Is called with the error when tracking ended or could not begin; with None when it is confirmed again.
    """

    def __init__(self, prefix: bytes, changed: Changed, state: State) -> None:
        self.until: float = 0.0
        self.latest: float = 0.0
        self.closed: bool = False
        self.changed: Changed = changed
        self._state = state
        self._prefix = prefix
        self._feeds: dict[str, Feed] = {}
        # The tasks of closed feeds, until they end.
        self._closing: set[asyncio.Task[None]] = set()
        self._confirmed = False
        weakref.finalize(self, _close_all, self._feeds, asyncio.get_running_loop()).atexit = False

    def follow(self, servers: Mapping[str, Connect], *, moved: bool = False) -> None:
        """Have a feed from each of ``servers``, which are given by address, and from no other.

        ``moved``: some keys are on another server now. Earlier reports say nothing about them.
        """
        if self.closed or (servers.keys() == self._feeds.keys() and not moved):
            return
        self.until = 0.0
        if self._feeds:
            self.changed(None)
        if self.closed:
            # `changed` has closed it.
            return
        for address in [address for address in self._feeds if address not in servers]:
            self._close(self._feeds.pop(address))
        for address, connect in servers.items():
            if address not in self._feeds:
                self._feeds[address] = Feed(self._prefix, connect, address, weakref.ref(self))
        self.confirm()

    def give_up(self, reason: StoreError) -> None:
        """Give up the connections, because they may lead to the wrong server, and make others."""
        for feed in [*self._feeds.values()]:
            feed.give_up(reason)

    def close(self) -> list[asyncio.Task[None]]:
        """End the feeds; nothing more is reported. Return the tasks that end their connections."""
        self.closed = True
        self.until = 0.0
        while self._feeds:
            self._close(self._feeds.popitem()[1])
        return [*self._closing]

    def _close(self, feed: Feed) -> None:
        feed.close()
        self._closing.add(feed.task)
        detached(feed.task.add_done_callback, self._closing.discard)

    # --- called by the feeds ------------------------------------------------------------------------

    def confirm(self) -> None:
        """Compute `until` anew: the earliest of all feeds."""
        self.until = min((feed.until for feed in self._feeds.values()), default=0.0)
        self.latest = max(self.latest, self.until)
        if self.until and not self._confirmed:
            self._confirmed = True
            self._state(None)

    def lose(self, error: StoreError, *, confirmed: bool) -> None:
        """Note that a feed ended or could not begin, with ``error``; ``confirmed``: it was confirmed before."""
        self.until = 0.0
        self._confirmed = False
        if confirmed:
            self.changed(None)
        self.fail(error)

    def fail(self, error: StoreError) -> None:
        """Report that tracking is not confirmed, at least not of all servers, because of ``error``."""
        if not self.closed:
            self._state(error)


class Feed:
    """The feed of one server. Its connection is replaced when it ends. Belongs to the event loop it was made in.

    Args:
        prefix: Of the keys; empty for all.
        connect: Makes a connection. The feed closes it.
        address: For messages, the password masked.
        owner: Gets the reports. A weak reference: a feed does not keep its owner alive.
    """

    def __init__(self, prefix: bytes, connect: Connect, address: str, owner: weakref.ref[Feeds]) -> None:
        self._connect = connect
        self._address = address
        self._owner = owner
        self._prefix = ("PREFIX", prefix) if prefix else ()
        self._loop = asyncio.get_running_loop()
        self.until: float = 0.0
        # The time at which the unanswered PING was sent; 0.0 when there is none.
        self._ping_sent_at = 0.0
        self._pong: object = None
        self._reading: asyncio.Task[None] | None = None
        # The timer of the next look, while a connection is made.
        self._looking: asyncio.TimerHandle
        self._given_up: StoreError | None = None
        self._closed = False
        self.task: asyncio.Task[None] = detached(
            self._loop.create_task, self._run(), name=f"cachekit feed from {address}"
        )

    def close(self) -> None:
        """End the feed, without a report to its owner."""
        self._closed = True
        self.until = 0.0
        self.task.cancel()

    def give_up(self, reason: StoreError) -> None:
        """Give up the connection, if there is one, and make another."""
        if self._reading is not None and self._given_up is None:
            self._given_up = reason
            self._reading.cancel()
            self._lose(reason)

    # --- the task ------------------------------------------------------------------------------------

    @property
    def _cancelled(self) -> bool:
        # On Python 3.11 redis-py swallows a cancellation that lands while it connects.
        return self._closed or self.task.cancelling() > 0

    async def _run(self) -> None:
        pauses, pauses_when_refused = Backoff(_PAUSE, _LONGEST_PAUSE), Backoff(_PAUSE_WHEN_REFUSED)
        try:
            while True:
                error = await self._run_connection()
                if self._cancelled:
                    return
                if self.until or self._given_up is not None:
                    pauses.reset()
                if self._given_up is None:
                    self._lose(error)
                pause = pauses.next()
                await asyncio.sleep(pauses_when_refused.next() if error.answered else pause)
        finally:
            # The task was cancelled, by `close` or because the event loop ends.
            self._stop()

    async def _run_connection(self) -> StoreError:
        """Listen on one connection until it ends, and return the reason."""
        self._given_up = None
        connection: AbstractConnection | None = None
        try:
            async with asyncio.timeout(None) as limit:
                self._look(limit, _LOOKS)
                connection = await self._connect()
                if self._cancelled:
                    raise asyncio.CancelledError  # noqa: TRY301 - it is the one that was swallowed
                await self._start_tracking(connection)
                self._looking.cancel()
            self._reading = detached(
                self._loop.create_task, self._listen(connection), name=f"{self.task.get_name()}, listening"
            )
            await self._ping_until_done(connection, self._reading)
            error: BaseException | None = None
        # The feed is an edge, like a lane: an exception of redis-py, of the system or of a broken reply ends the
        # connection.
        except Exception as foreign:
            error = foreign
        finally:
            self._looking.cancel()
            reading, self._reading = self._reading, None
            broke = None if reading is None else await _end(reading)
            if connection is not None:
                await connection.disconnect(nowait=True)
        return translate(error or broke or ConnectionError(), self._address)

    def _look(self, limit: asyncio.Timeout, left: int) -> None:
        """End connecting after ``left`` more looks. A process that stands still does not look."""
        if left:
            self._looking = detached(self._loop.call_later, CONNECT_PATIENCE / _LOOKS, self._look, limit, left - 1)
        else:
            limit.reschedule(self._loop.time())

    async def _start_tracking(self, connection: AbstractConnection) -> None:
        """Ask the server to report changes, and send the first PING."""
        if connection.get_protocol() == _RESP3:  # type: ignore[no-untyped-call] # redis-py has not annotated it
            self._pong = b"PONG"
            # Without this handler redis-py drops the keys. redis-py's own caching client sets it in the same way.
            cast("Any", connection)._parser.set_invalidation_push_handler(_pass_through)  # noqa: SLF001
            tracking: tuple[tuple[Any, ...], ...] = (("CLIENT", "TRACKING", "ON", "BCAST", *self._prefix),)
            answers: list[object] = [b"OK"]
        else:
            self._pong = [b"pong", b""]
            await connection.send_packed_command(_packed(("CLIENT", "ID")), check_health=False)
            client_id = await _reply(connection)
            if type(client_id) is not int:
                raise garbage_error(self._address)
            redirect = ("CLIENT", "TRACKING", "ON", "REDIRECT", client_id, "BCAST", *self._prefix)
            tracking, answers = (redirect, ("SUBSCRIBE", _CHANNEL)), [b"OK", _SUBSCRIBED]
        self._ping_sent_at = time.monotonic()
        await connection.send_packed_command(_packed(*tracking, ("PING",)), check_health=False)
        for answer in answers:
            if await _reply(connection) != answer:
                raise garbage_error(self._address)

    async def _ping_until_done(self, connection: AbstractConnection, reading: asyncio.Task[None]) -> None:
        """Send PINGs, one after the other, until ``reading`` ends.

        One PING at a time: the server could read two that wait together in one turn, and a change of that turn is
        reported after both.
        """
        missed = 0
        while True:
            await asyncio.wait([reading], timeout=_PERIOD)
            # redis-py would open another connection for the command, and that one reports nothing.
            if reading.done() or not connection.is_connected:
                return
            if self._ping_sent_at:
                missed += 1
                if missed >= _PATIENCE:
                    raise timeout_error(self._address)
                continue
            missed = 0
            self._ping_sent_at = time.monotonic()
            await connection.send_packed_command(_PING, check_health=False)

    async def _listen(self, connection: AbstractConnection) -> None:
        answered = 0.0
        while True:
            reply = await _reply(connection)
            if reply == self._pong and self._ping_sent_at:
                answered, self._ping_sent_at = self._ping_sent_at, 0.0
            else:
                self._publish(reply)
            if answered and not await connection.can_read():
                self._confirm(answered)
                answered = 0.0

    # --- reports to the owner ----------------------------------------------------------------------

    def _publish(self, reply: object) -> None:
        owner = self._owner()
        if owner is None or owner.closed:
            return
        match reply:
            case [b"message", b"__redis__:invalidate", None] | [b"invalidate", None]:
                owner.changed(None)
            case [b"message", b"__redis__:invalidate", list(keys)] | [b"invalidate", list(keys)] if all(
                type(key) is bytes for key in keys
            ):
                # Bytes that are no UTF-8 are a key of somebody else. No key of this process equals them.
                owner.changed([key.decode(errors="surrogateescape") for key in keys])
            case _:
                raise garbage_error(self._address)

    def _confirm(self, asked: float) -> None:
        owner = self._owner()
        if owner is None or owner.closed:
            return
        if not self.until:
            # Nobody reports the changes before the server began to.
            owner.changed(None)
        self.until = asked + LIMIT
        owner.confirm()

    def _stop(self) -> None:
        # A method of its own: the error that ends the task keeps the local names of `_run` alive, and so the owner.
        self.until = 0.0
        owner = self._owner()
        if owner is not None and not self._closed:
            owner.confirm()

    def _lose(self, error: StoreError) -> None:
        confirmed, self.until = self.until > 0, 0.0
        owner = self._owner()
        if owner is not None and not self._closed:
            owner.lose(error, confirmed=confirmed)


def _packed(*commands: tuple[Any, ...]) -> bytes:
    # The stub of hiredis allows tuples of one item only.
    return b"".join([cast("Any", pack_command)(command) for command in commands])


_PING: Final = _packed(("PING",))


async def _reply(connection: AbstractConnection) -> object:
    # One push at a time: otherwise redis-py would call itself once more for each push that waits.
    return await connection.read_response(disable_decoding=True, push_request=True)


async def _pass_through(push: object) -> object:
    return push


async def _end(task: asyncio.Task[None]) -> BaseException | None:
    """End ``task`` if it has not ended, and return the exception that it failed with."""
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.exception()


def _close_all(feeds: dict[str, Feed], loop: asyncio.AbstractEventLoop) -> None:
    """Close the feeds of a `Feeds` that was dropped."""
    for feed in [*feeds.values()]:
        if not loop.is_closed():
            loop.call_soon_threadsafe(feed.close)
