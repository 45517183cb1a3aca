"""The verbs of a store as commands of Redis 6.2 and later."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias, cast

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection

from cachekit.errors import StoreError
from cachekit.stores.lane import Lane, Operation
from cachekit.stores.translate import garbage, translate

Command: TypeAlias = tuple[str | bytes | int, ...]

_TRIM: Final = files("cachekit.stores").joinpath("lua/trim_window.lua").read_bytes()


class RedisStore:
    """Keeps bytes in Redis, over one connection for each event loop that uses it.

    Args:
        connect: Makes an unconnected connection.
        address: Of the server, for messages, the password masked.

    Round trips: every verb one. Nothing is connected before the first verb.
    """

    def __init__(self, connect: Callable[[], AbstractConnection], address: str) -> None:
        self._connect = connect
        self._address = address
        # One loop's connection is of no use to another.
        self._lanes: dict[asyncio.AbstractEventLoop, Lane] = {}
        weakref.finalize(self, _close_all, self._lanes).atexit = False

    def __repr__(self) -> str:
        return f"RedisStore({self._address})"

    async def get(self, key: str, *, timeout: float) -> bytes | None:
        return self._bytes(await self._ask(("GET", key), timeout, repeatable=True))

    async def set(self, key: str, value: bytes, *, ttl_ms: int, timeout: float) -> None:
        self._ok(await self._ask(("SET", key, value, "PX", ttl_ms), timeout))

    async def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        reply = await self._ask(("UNLINK", *keys), timeout, repeatable=True, lasting=True)
        if type(self._checked(reply)) is not int:
            raise self._garbage()

    async def take(self, key: str, *, timeout: float) -> bytes | None:
        return self._bytes(await self._ask(("GETDEL", key), timeout))

    async def push(self, key: str, item: bytes, *, limit: int, ttl_ms: int, oldest: str, timeout: float) -> None:
        # EVAL, not EVALSHA: inside MULTI a script that the server forgot would fail alone.
        commands: tuple[Command, ...] = (
            ("MULTI",),
            ("LPUSH", key, item),
            ("LTRIM", key, 0, limit - 1),
            ("PEXPIRE", key, ttl_ms),
            ("EVAL", _TRIM, 1, key, oldest),
            ("EXEC",),
        )
        packed = b"".join(map(_packed, commands))
        replies = await self._submit(packed, len(commands), timeout)
        if not isinstance(replies, list):
            raise self._garbage()
        results = replies[-1]
        # What was refused while queueing says more than the EXECABORT that follows from it.
        for reply in [*replies[:-1], *(results if isinstance(results, list) else [results])]:
            self._checked(reply)

    async def window(self, key: str, count: int, *, timeout: float) -> list[bytes]:
        reply = self._checked(await self._ask(("LRANGE", key, 0, count - 1), timeout, repeatable=True))
        if not isinstance(reply, list) or not all(type(item) is bytes for item in reply):
            raise self._garbage()
        return reply

    async def aclose(self) -> None:
        """Close this event loop's connection; what is under way fails."""
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane is not None:
            lane.close()
            await asyncio.wait([lane.task])

    # --- asking ---------------------------------------------------------------------------------

    def _ask(
        self,
        command: Command,
        timeout: float,
        *,
        repeatable: bool = False,
        lasting: bool = False,
    ) -> asyncio.Future[object]:
        try:
            packed = _packed(command)
        except UnicodeEncodeError as error:
            raise translate(error, self._address) from None
        return self._submit(packed, 1, timeout, repeatable=repeatable, lasting=lasting)

    def _submit(
        self, packed: bytes, replies: int, timeout: float, *, repeatable: bool = False, lasting: bool = False
    ) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        operation = Operation(packed, replies, future, repeatable=repeatable, lasting=lasting)
        self._lane(loop).put(operation, timeout)
        return future

    def _lane(self, loop: asyncio.AbstractEventLoop) -> Lane:
        lane = self._lanes.get(loop)
        if lane is None or lane.closed:
            for other in [other for other in self._lanes if other.is_closed()]:
                del self._lanes[other]
            # Weakly, so that a store that was dropped is noticed, and its connection closed.
            lane = self._lanes[loop] = Lane(self._connect(), self._address, weakref.WeakMethod(self._resend))
        return lane

    def _resend(self, operations: list[Operation]) -> None:
        lane = self._lane(asyncio.get_running_loop())
        for operation in operations:
            operation.inherited = True
            lane.put(operation, None)

    # --- understanding --------------------------------------------------------------------------

    def _checked(self, reply: object) -> object:
        if isinstance(reply, Exception):
            raise translate(reply, self._address)
        return reply

    def _bytes(self, reply: object) -> bytes | None:
        if reply is None or type(reply) is bytes:
            return reply
        self._checked(reply)
        raise self._garbage()

    def _ok(self, reply: object) -> None:
        if reply != b"OK":
            self._checked(reply)
            raise self._garbage()

    def _garbage(self) -> StoreError:
        """Return the error for a reply of the wrong type, and give up the connection it came from."""
        lane = self._lanes.get(asyncio.get_running_loop())
        if lane is not None:
            lane.close()
        return garbage(self._address)


def _packed(command: Command) -> bytes:
    """Return ``command`` in RESP; hiredis writes it in a third of the time of redis-py's own packer."""
    # Its stub knows tuples of one item only.
    packed: bytes = cast("Any", pack_command)(command)
    return packed


def _close_all(lanes: dict[asyncio.AbstractEventLoop, Lane]) -> None:
    """Close the connections of a store that was dropped without `RedisStore.aclose`."""
    for loop, lane in list(lanes.items()):
        if not loop.is_closed():
            loop.call_soon_threadsafe(lane.close)
