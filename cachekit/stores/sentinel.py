"""Sentinel: which server is the master, and since when.

Redis's guidelines for clients of Sentinel say: ask for the address, connect, and ask the server itself whether it is a
master (https://redis.io/docs/latest/develop/reference/sentinel-clients/). This alone leaves a gap. After an orderly
failover the old master goes on as a master for about 8 seconds: half of the processes would read and invalidate at the
old one, the others at the new one. So the sentinels are asked again every second, and of two answers the one with the
higher configuration epoch holds.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from redis.asyncio.connection import AbstractConnection

from cachekit.backoff import Backoff
from cachekit.errors import StoreUnavailableError
from cachekit.loops import detached
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import Connect, ConnectTo
from cachekit.stores.network import SingleServer
from cachekit.stores.operations import Operation
from cachekit.stores.tracking import Changed, Feeds, State

PERIOD: Final = 1.0
"""Seconds between two questions for the master, while a connection to one is open."""

_PATIENCE: Final = 0.3
"""Seconds for which further sentinels are waited for, connecting included, when one has answered."""


class Master(NamedTuple):
    """The answer of a sentinel. A later configuration has a higher epoch."""

    epoch: int
    host: str
    port: int


class Sentinels:
    """The sentinels of one service.

    Args:
        service: The name by which the sentinels know the master.
        sentinels: For each sentinel, a function that connects to it.
        address: For messages, the passwords masked.
    """

    def __init__(self, service: str, sentinels: Sequence[Connect], address: str) -> None:
        self._service = service
        self._sentinels = sentinels
        self._address = address

    async def master(self) -> Master:
        """Return the newest answer of a majority. It does not wait for sentinels that hang."""
        answers = await self._first_answers(self._sentinels, enough=len(self._sentinels) // 2 + 1)
        if not answers:
            detail = f"no sentinel of {self._address} names a master called {self._service!r}"
            raise StoreUnavailableError(_UNAVAILABLE, detail)
        return max(answers)

    async def ask_any(self) -> Master | None:
        """Return the answer of one sentinel, chosen at random; None when it does not answer soon."""
        try:
            async with asyncio.timeout(PERIOD):
                answers = await self._first_answers([random.choice(self._sentinels)], enough=1)  # noqa: S311 - no secret
        except TimeoutError:
            return None
        return answers[0] if answers else None

    async def _first_answers(self, sentinels: Sequence[Connect], *, enough: int) -> list[Master]:
        """Return the first ``enough`` answers, or fewer if sentinels fail, or are late when another has answered."""
        start = asyncio.get_running_loop().create_task
        asking = {detached(start, self._ask_one(sentinel), name="cachekit sentinel") for sentinel in sentinels}
        pending, answers = asking, list[Master]()
        try:
            while pending and len(answers) < enough:
                done, pending = await asyncio.wait(pending, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                if answers and not done:
                    break
                # Until one has answered, only the time for connecting limits the wait: all may be far away.
                answers += [task.result() for task in done if task.exception() is None]
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return answers

    async def _ask_one(self, sentinel: Connect) -> Master:
        connection = await sentinel()
        try:
            # Two commands, since in the middle of a failover MASTER answers the new epoch and the old address.
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            address = await connection.read_response(disable_decoding=True)
            await connection.send_command("SENTINEL", "MASTER", self._service)
            fields = await connection.read_response(disable_decoding=True)
        finally:
            await connection.disconnect(nowait=True)
        match address, fields:
            case [bytes(host), bytes(port)], list() | dict():
                # A map in RESP3, a list of names and values in RESP2.
                by_name = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
                epoch = by_name[b"config-epoch"]
                return Master(int(epoch), host.decode(), int(port))
            case _:
                # The address is None when the sentinel does not know the service.
                raise StoreUnavailableError(_UNAVAILABLE, f"a sentinel knows no master called {self._service!r}")


class SentinelMaster(SingleServer):
    """The master that the sentinels name. Its lane and its feeds are given up when they name another.

    Args:
        sentinels: The sentinels that are asked.
        connect_to: Makes connections to a server.
        deadlines: The timer of the operations.
        renews: As for `SingleServer`.
    """

    def __init__(
        self, sentinels: Sentinels, connect_to: ConnectTo, deadlines: Deadlines, *, renews: bool = False
    ) -> None:
        # The lane and each feed connect at times of their own, so they may be connected to different masters.
        self._lane_route = Route(self._connect_to_master)
        super().__init__(self._lane_route, deadlines, renews=renews)
        self._sentinels = sentinels
        self._connect_to = connect_to
        self._master: Master | None = None
        self._feed_routes: weakref.WeakKeyDictionary[Feeds, Route] = weakref.WeakKeyDictionary()
        self._watching: asyncio.Task[None] | None = None

    def submit(self, operation: Operation) -> None:
        super().submit(operation)
        self._watch_masters()

    def track(self, prefix: bytes, changed: Changed, state: State) -> Feeds:
        feeds = super().track(prefix, changed, state)
        self._watch_masters()
        return feeds

    def _connect_feed(self, feeds: Feeds) -> Connect:
        route = self._feed_routes[feeds] = Route(self._connect_to_master)
        return route

    def _watch_masters(self) -> None:
        if self._watching is None or self._watching.done():
            loop = asyncio.get_running_loop()
            self._watching = detached(loop.create_task, self._watch(), name=f"cachekit watch {self._address}")

    def close(self) -> list[asyncio.Task[None]]:
        tasks = super().close()
        if self._watching is not None:
            self._watching.cancel()
            tasks.append(self._watching)
        return tasks

    async def _connect_to_master(self) -> tuple[AbstractConnection, Master]:
        named = await self._sentinels.master()
        if self._master is not None and named.epoch < self._master.epoch:
            # These sentinels have not heard of the failover yet, which another sentinel has reported before.
            named = self._master
        connection = await _verified_master(await self._connect_to(named.host, named.port)())
        if self._master is None or named.epoch >= self._master.epoch:
            self._master = named
        return connection, named

    async def _watch(self) -> None:
        pauses = Backoff(PERIOD, least=0.8)
        while True:
            await asyncio.sleep(pauses.next())
            if self._master is None or not self._is_in_use():
                continue
            named = await self._sentinels.ask_any()
            if named is not None and named.epoch >= self._master.epoch:
                self._master = named
            other = StoreUnavailableError(_UNAVAILABLE, f"the sentinels of {self._address} name another master")
            for lane in self._open_lanes() if self._lane_route.leads_elsewhere(self._master) else []:
                lane.give_up(other)
            for feeds, route in [*self._feed_routes.items()]:
                if route.leads_elsewhere(self._master):
                    feeds.give_up(other)

    def _is_in_use(self) -> bool:
        return bool(self._open_lanes()) or not all(feeds.closed for feeds in self._tracked)


class Route:
    """Connects to the current master, and remembers to which server the last connection leads."""

    def __init__(self, connect: Callable[[], Awaitable[tuple[AbstractConnection, Master]]]) -> None:
        self._connect = connect
        self._leads_to: Master | None = None

    async def __call__(self) -> AbstractConnection:
        self._leads_to = None
        connection, self._leads_to = await self._connect()
        return connection

    def leads_elsewhere(self, master: Master) -> bool:
        """Return whether it leads to another server than ``master``. While it connects, it leads to none."""
        return self._leads_to is not None and self._leads_to[1:] != master[1:]


_UNAVAILABLE: Final = "unavailable"


async def _verified_master(connection: AbstractConnection) -> AbstractConnection:
    accepted = False
    try:
        await connection.send_command("ROLE")
        role = await connection.read_response(disable_decoding=True)
        accepted = isinstance(role, list) and role[0] == b"master"
    finally:
        if not accepted:
            await connection.disconnect(nowait=True)
    if not accepted:
        raise StoreUnavailableError(_UNAVAILABLE, "what the sentinels name is no master, or none yet")
    return connection
