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
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from redis.asyncio.connection import AbstractConnection

from cachekit.errors import StoreUnavailableError
from cachekit.stores.lane import Connect, Operation
from cachekit.stores.network import SingleServer

PERIOD: Final = 1.0
"""Seconds between two questions about who is the master, while a connection to one is open."""

_PATIENCE: Final = 0.3
"""Seconds that a sentinel has to answer, connecting included."""

ConnectTo: TypeAlias = Callable[[str, int], Connect]


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
        said = await self._ask(self._sentinels, enough=len(self._sentinels) // 2 + 1)
        if not said:
            detail = f"no sentinel of {self._address} names a master called {self._service!r}"
            raise StoreUnavailableError(_UNAVAILABLE, detail)
        return max(said)

    async def hint(self) -> Master | None:
        """Return what one sentinel says, whichever; None when it does not answer."""
        said = await self._ask([random.choice(self._sentinels)], enough=1)  # noqa: S311 - no secret
        return said[0] if said else None

    async def _ask(self, sentinels: Sequence[Connect], *, enough: int) -> list[Master]:
        """Return the first ``enough`` answers, or fewer; what a sentinel fails with is no answer."""
        asking = {asyncio.create_task(self._ask_one(sentinel), name="cachekit sentinel") for sentinel in sentinels}
        pending, said = asking, list[Master]()
        try:
            while pending and len(said) < enough:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                said += [task.result() for task in done if task.exception() is None]
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return said

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
            case [bytes(host), bytes(port)], list():
                epoch = dict(zip(fields[::2], fields[1::2], strict=True))[b"config-epoch"]
                return Master(int(epoch), host.decode(), int(port))
            case _:
                # None stands for a service that it does not know.
                raise StoreUnavailableError(_UNAVAILABLE, f"a sentinel knows no master called {self._service!r}")


class SentinelMaster(SingleServer):
    """The master that the sentinels name: one lane, given up when they name another.

    Args:
        sentinels: Who is asked.
        connect_to: Returns what connects to a host and port.
        address: For messages, the passwords masked.
    """

    def __init__(self, sentinels: Sentinels, connect_to: ConnectTo, address: str) -> None:
        super().__init__(self._connect_to_master, address)
        self._sentinels = sentinels
        self._connect_to = connect_to
        self._master: Master | None = None
        self._watching: asyncio.Task[None] | None = None

    def submit(self, operation: Operation) -> None:
        super().submit(operation)
        if self._watching is None or self._watching.done():
            loop = asyncio.get_running_loop()
            self._watching = loop.create_task(self._watch(), name=f"cachekit watch {self._address}")

    def close(self) -> list[asyncio.Task[None]]:
        ending = super().close()
        if self._watching is not None:
            self._watching.cancel()
            ending.append(self._watching)
        return ending

    async def _connect_to_master(self) -> AbstractConnection:
        named = await self._sentinels.master()
        if self._master is not None and named.epoch < self._master.epoch:
            # Those that answered have not heard yet of what another said before.
            named = self._master
        connection = await _if_master(await self._connect_to(named.host, named.port)())
        self._master = named
        return connection

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PERIOD * random.uniform(0.8, 1.0))  # noqa: S311 - no secret
            lane, master = self._lane, self._master
            if lane is None or lane.closed or master is None:
                continue
            named = await self._sentinels.hint()
            if named is not None and named.epoch >= master.epoch and named[1:] != master[1:]:
                self._master = named
                lane.give_up(
                    StoreUnavailableError(_UNAVAILABLE, f"the sentinels of {self._address} name another master")
                )


_UNAVAILABLE: Final = "unavailable"


async def _if_master(connection: AbstractConnection) -> AbstractConnection:
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
