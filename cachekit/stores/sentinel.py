"""Sentinel: who is the master, and since when.

As Redis's guidelines for clients of Sentinel have it: ask for the address, connect, and believe nobody but the
server itself that it is a master (https://redis.io/docs/latest/develop/reference/sentinel-clients/). That alone
leaves a gap, since after an orderly failover the old master goes on as one for about 8 seconds: half of the
processes would read and invalidate there, the others at the new one. So sentinels are asked again every second,
and whichever of two answers has the higher configuration epoch holds.
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
from cachekit.stores.lane import Connect, ConnectTo
from cachekit.stores.network import SingleServer
from cachekit.stores.operations import Operation
from cachekit.stores.tracking import Changed, Feeds, State

PERIOD: Final = 1.0
"""Seconds between two questions about who is the master, while a connection to one is open."""

_PATIENCE: Final = 0.3
"""Seconds that a sentinel has to answer, connecting included."""


class Master(NamedTuple):
    """What a sentinel says; a later configuration has the higher epoch."""

    epoch: int
    host: str
    port: int


class Sentinels:
    """The sentinels of one service.

    Args:
        service: What the sentinels call the master.
        sentinels: What connects to each of them.
        address: For messages, the passwords masked.
    """

    def __init__(self, service: str, sentinels: Sequence[Connect], address: str) -> None:
        self._service = service
        self._sentinels = sentinels
        self._address = address

    async def master(self) -> Master:
        """Return the newest of what most sentinels say, without waiting for those that hang."""
        answers = await self._first_answers(self._sentinels, enough=len(self._sentinels) // 2 + 1)
        if not answers:
            detail = f"no sentinel of {self._address} names a master called {self._service!r}"
            raise StoreUnavailableError(_UNAVAILABLE, detail)
        return max(answers)

    async def ask_any(self) -> Master | None:
        """Return what one sentinel says, whichever; None when it does not answer."""
        answers = await self._first_answers([random.choice(self._sentinels)], enough=1)  # noqa: S311 - no secret
        return answers[0] if answers else None

    async def _first_answers(self, sentinels: Sequence[Connect], *, enough: int) -> list[Master]:
        """Return the first ``enough`` answers, or fewer; what a sentinel fails with is no answer."""
        asking = {asyncio.create_task(self._ask_one(sentinel), name="cachekit sentinel") for sentinel in sentinels}
        pending, answers = asking, list[Master]()
        try:
            while pending and len(answers) < enough:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                answers += [task.result() for task in done if task.exception() is None]
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return answers

    async def _ask_one(self, sentinel: Connect) -> Master:
        async with asyncio.timeout(_PATIENCE):
            connection = await sentinel()
            try:
                # Two questions, since in the middle of a failover MASTER gives the new epoch and the old address.
                await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                place = await connection.read_response(disable_decoding=True)
                await connection.send_command("SENTINEL", "MASTER", self._service)
                fields = await connection.read_response(disable_decoding=True)
            finally:
                await connection.disconnect(nowait=True)
        match place, fields:
            case [bytes(host), bytes(port)], list() | dict():
                # RESP3 has maps.
                by_name = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
                epoch = by_name[b"config-epoch"]
                return Master(int(epoch), host.decode(), int(port))
            case _:
                # None stands for a service that it does not know.
                raise StoreUnavailableError(_UNAVAILABLE, f"a sentinel knows no master called {self._service!r}")


class SentinelMaster(SingleServer):
    """The master that the sentinels name: one lane, and what is tracked, given up when they name another.

    Args:
        sentinels: Who is asked.
        connect_to: Returns what connects to a host and port.
        address: For messages, the passwords masked.
    """

    def __init__(self, sentinels: Sentinels, connect_to: ConnectTo, address: str) -> None:
        # Lane and feeds connect each at its own time, so each may be at another master.
        self._lane_route = Route(self._connect_to_master)
        super().__init__(self._lane_route, address)
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
            self._watching = loop.create_task(self._watch(), name=f"cachekit watch {self._address}")

    def close(self) -> list[asyncio.Task[None]]:
        tasks = super().close()
        if self._watching is not None:
            self._watching.cancel()
            tasks.append(self._watching)
        return tasks

    async def _connect_to_master(self) -> tuple[AbstractConnection, Master]:
        named = await self._sentinels.master()
        if self._master is not None and named.epoch < self._master.epoch:
            # Those that answered have not heard yet of what another said before.
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
            if self._lane is not None and not self._lane.closed and self._lane_route.leads_elsewhere(self._master):
                self._lane.give_up(other)
            for feeds, route in [*self._feed_routes.items()]:
                if route.leads_elsewhere(self._master):
                    feeds.give_up(other)

    def _is_in_use(self) -> bool:
        return (self._lane is not None and not self._lane.closed) or not all(feeds.closed for feeds in self._tracked)


class Route:
    """Connects to the master of the moment, and knows where the last connection leads."""

    def __init__(self, connect: Callable[[], Awaitable[tuple[AbstractConnection, Master]]]) -> None:
        self._connect = connect
        self._leads_to: Master | None = None

    async def __call__(self) -> AbstractConnection:
        self._leads_to = None
        connection, self._leads_to = await self._connect()
        return connection

    def leads_elsewhere(self, master: Master) -> bool:
        """Tell whether it leads to another server than ``master``; while it connects, it leads nowhere."""
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
