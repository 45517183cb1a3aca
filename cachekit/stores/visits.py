"""Visits: a tool asks one server at a time, on a connection of its own, and looks at each answer by itself.

An application asks through lanes, which know one store and hide its servers. A tool that examines a store wants each
server, each refusal and the certificate. It connects as the lanes do: the same logins, the same verification of TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from msgspec import Struct
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ExecAbortError, NoPermissionError, RedisError, ResponseError

from cachekit.errors import ConfigurationError, StoreError, StoreUnavailableError
from cachekit.stores.cluster import endpoint_of, slots_error
from cachekit.stores.connect import connector, member_connector, sentinels_of
from cachekit.stores.lane import Connect
from cachekit.stores.sentinel import Master
from cachekit.stores.sweeping import SCAN_COUNT
from cachekit.stores.translate import translate
from cachekit.urls import ClusterURL, Endpoint, MemoryURL, SentinelURL, ServerURL, StoreURL, UnixURL


class Door(Struct, frozen=True, eq=False):
    """The way to one server."""

    name: str
    """Host and port, or the path of a socket."""
    connect: Connect
    slots: tuple[tuple[int, int], ...] = ()
    """Of a master of a cluster: the first and the last slot of each range that it has."""


class Visit:
    """One connection to one server. Every answer comes within ``timeout`` seconds, or is a `StoreError`."""

    def __init__(self, connection: AbstractConnection, name: str, timeout: float) -> None:
        self._connection = connection
        self._name = name
        self._timeout = timeout

    async def ask(self, *command: str | bytes | int) -> Any:
        """Return the reply to ``command``.

        Raises:
            StoreError: The server refused it, or did not answer in time. The message has no argument of it.
        """
        try:
            return await self._reply_to(command)
        except (RedisError, OSError, TimeoutError) as error:
            raise translate(error, self._name) from None

    async def refusal(self, *command: str | bytes | int) -> str:
        """Return which rule of the ACL keeps this user from ``command``: "command", "key" or "channel"; "" if none.

        Any other answer, an error included, is one to a command that the ACL lets through.

        Raises:
            StoreError: The server did not answer.
        """
        try:
            await self._reply_to(command)
        except (NoPermissionError, ExecAbortError) as error:
            # An EXEC that is refused says so inside of another error.
            return refused_by(str(error))
        except (RedisError, OSError, TimeoutError) as error:
            known = translate(error, self._name)
            if not known.answered and known.cause not in _ANSWERS:
                raise known from None
        return ""

    async def dry_run(self, user: str | bytes, *command: str | bytes | int) -> str:
        """Return as `refusal` does, by ``ACL DRYRUN``, which carries nothing out.

        Raises:
            StoreError: The server does not answer this, or has no such command.
        """
        reply = await self.ask("ACL", "DRYRUN", user, *command)
        return "" if reply == b"OK" else refused_by(bytes(reply).decode(errors="replace"))

    async def slots(self, node: Endpoint) -> list[Any]:
        """Return the reply of ``node``, which is asked, to CLUSTER SLOTS.

        Raises:
            StoreError: It is in no cluster, refuses, or did not answer in time.
        """
        try:
            reply: list[Any] = await self._reply_to(("CLUSTER", "SLOTS"))
        except ResponseError as error:
            raise slots_error(error, node) from None
        except (RedisError, OSError, TimeoutError) as error:
            raise translate(error, self._name) from None
        return reply

    def certificate(self) -> Mapping[str, Any] | None:
        """Return what the server has shown of itself, as `ssl.SSLSocket.getpeercert` does; None without TLS."""
        writer = cast("Any", self._connection)._writer  # noqa: SLF001 - redis-py has no other way to it
        found: Mapping[str, Any] | None = writer.get_extra_info("peercert")
        return found or None

    async def _reply_to(self, command: Sequence[str | bytes | int]) -> Any:
        async with asyncio.timeout(self._timeout):
            await self._connection.send_command(*command, check_health=False)
            return await self._connection.read_response(disable_decoding=True)


_ANSWERS: Final = frozenset({"MOVED", "ASK", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY", "no cluster"})


def refused_by(text: str) -> str:
    """Return the kind of rule that refused, by what a server says: "command", "key" or "channel".

    Example:
        >>> refused_by("User app has no permissions to run the 'get' command")
        'command'
        >>> refused_by("this user has no permissions to access one of the keys used as arguments")
        'key'
    """
    if "run the " in text:
        return "command"
    return "channel" if "channel" in text else "key"


@asynccontextmanager
async def visit(door: Door, timeout: float) -> AsyncGenerator[Visit, None]:
    """Connect to the server behind ``door``, and close the connection at the end of the block.

    Raises:
        StoreError: It cannot be reached, or does not let this user in.
    """
    try:
        async with asyncio.timeout(timeout):
            connection = await door.connect()
    except (RedisError, OSError, TimeoutError) as error:
        raise translate(error, door.name) from None
    try:
        yield Visit(connection, door.name, timeout)
    finally:
        await connection.disconnect(nowait=True)


# --- which servers there are ------------------------------------------------------------------------------


def door_to(url: ClusterURL | SentinelURL, place: Endpoint) -> Door:
    """Return the way to a node of a cluster, or to a server behind sentinels."""
    return Door(str(place), member_connector(url, place))


def sentinel_doors(url: SentinelURL) -> list[Door]:
    """Return the way to each sentinel."""
    return [Door(str(place), member_connector(url, place, sentinel=True)) for place in url.sentinels]


async def masters_of(url: StoreURL, timeout: float) -> list[Door]:
    """Return the way to each server that keeps keys: one, the master that sentinels name, or the masters of a cluster.

    Raises:
        StoreError: No server says which they are.
        ConfigurationError: The store is in this process, and has no server.
    """
    if isinstance(url, MemoryURL):
        message = "memory:// is a store inside of one process, which no other process can look into; name a server"
        raise ConfigurationError(message)
    if isinstance(url, (ServerURL, UnixURL)):
        name = url.path if isinstance(url, UnixURL) else str(Endpoint(url.host, url.port))
        return [Door(name, connector(url))]
    if isinstance(url, SentinelURL):
        master = await master_of(url, timeout)
        return [door_to(url, Endpoint(master.host, master.port))]
    return [shard.master for shard in await shards_of(url, timeout)]


async def master_of(url: SentinelURL, timeout: float) -> Master:
    """Return the master that the sentinels name.

    Raises:
        StoreError: None of them names one.
    """
    try:
        async with asyncio.timeout(timeout):
            return await sentinels_of(url).master()
    except TimeoutError as error:
        raise translate(error, str(url)) from None


class Shard(Struct, frozen=True, eq=False):
    """A master of a cluster, and its replicas."""

    master: Door
    replicas: tuple[Door, ...]


async def shards_of(url: ClusterURL, timeout: float) -> list[Shard]:
    """Return the masters and replicas of a cluster, as the first of its nodes says that answers.

    Raises:
        StoreError: None answers.
    """
    reason: StoreError = StoreUnavailableError("unavailable", f"no node of {url} answers")
    for place in url.nodes:
        try:
            async with visit(door_to(url, place), timeout) as node:
                ranges = await node.slots(place)
        except StoreError as error:
            reason = error
            continue
        return _shards(url, place, ranges)
    raise reason


def _shards(url: ClusterURL, asked: Endpoint, ranges: Sequence[Any]) -> list[Shard]:
    slots: dict[Endpoint, list[tuple[int, int]]] = {}
    replicas: dict[Endpoint, dict[Endpoint, None]] = {}
    for first, last, *nodes in ranges:
        places = [place for place in (endpoint_of(node, asked) for node in nodes) if place is not None]
        slots.setdefault(places[0], []).append((first, last))
        replicas.setdefault(places[0], {}).update(dict.fromkeys(places[1:]))
    return [
        Shard(
            Door(str(place), door_to(url, place).connect, tuple(ranges)),
            tuple(door_to(url, replica) for replica in replicas[place]),
        )
        for place, ranges in slots.items()
    ]


def is_at(door: Door, key: str) -> bool:
    """Tell whether the server behind ``door`` has the slot of ``key``; a server of no cluster has every key."""
    slot = key_slot(key.encode())
    return not door.slots or any(first <= slot <= last for first, last in door.slots)


async def scan(door: Door, timeout: float, pattern: bytes, kind: str = "") -> AsyncGenerator[list[bytes], None]:
    """Yield the names at one server that match ``pattern``, step by step, also where a step has found none.

    ``kind``: of values of one type of Redis's alone, "string" or "list". A name may come twice.

    Raises:
        StoreError: The server refused, or did not answer in time.
    """
    of_kind = ("TYPE", kind) if kind else ()
    async with visit(door, timeout) as server:
        cursor: bytes | int = 0
        while True:
            cursor, names = await server.ask("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, *of_kind)
            yield names
            if int(cursor) == 0:
                return
