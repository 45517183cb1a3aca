"""What stands between the verbs of a store and its lanes: which connection an operation travels on."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from cachekit.stores.lane import Connect, Lane, Operation
from cachekit.stores.translate import garbage


class Network(Protocol):
    """The connections of one store in one event loop. Nothing is connected before the first operation."""

    def submit(self, operation: Operation) -> None:
        """Send ``operation`` on its way; its future gets the reply, or the error."""
        ...

    def grouped(self, keys: Sequence[str]) -> Iterable[Sequence[str]]:
        """Return ``keys`` in groups that may stand in one command."""
        ...

    def shard(self, key: str) -> str:
        """Return the name of the server that has ``key``, or ``""`` when there is but one, or it is not known."""
        ...

    def distrust(self, key: str) -> None:
        """Give up the connection that leads to ``key``: an answer made no sense."""
        ...

    @property
    def ending(self) -> bool:
        """Whether the event loop is ending, and cancelled the tasks here."""
        ...

    def close(self) -> list[asyncio.Task[None]]:
        """Give up every connection; what is under way fails. Returns the tasks that end it."""
        ...


class SingleServer:
    """One server, or a master that Sentinel names: one lane, replaced when its connection broke.

    Args:
        connect: Makes the connection.
        address: For messages, the password masked.
    """

    def __init__(self, connect: Connect, address: str) -> None:
        self._connect = connect
        self._address = address
        self._lane: Lane | None = None

    def submit(self, operation: Operation) -> None:
        lane = self._lane
        if lane is None or lane.closed:
            lane = self._lane = Lane(self._connect, self._address, weakref.ref(self))
        lane.put(operation)

    def grouped(self, keys: Sequence[str]) -> Iterable[Sequence[str]]:
        return (keys,)

    def shard(self, key: str) -> str:  # noqa: ARG002 - all keys are in one place
        return ""

    def distrust(self, key: str) -> None:  # noqa: ARG002 - as above
        if self._lane is not None:
            self._lane.give_up(garbage(self._address))

    @property
    def ending(self) -> bool:
        return self._lane is not None and self._lane.ended_from_outside

    def close(self) -> list[asyncio.Task[None]]:
        lane, self._lane = self._lane, None
        if lane is None:
            return []
        lane.close()
        return [lane.task]

    # --- what its lane tells ----------------------------------------------------------------------

    def resend(self, operations: list[Operation]) -> None:
        for operation in operations:
            self.submit(operation)

    def redirected(self, operation: Operation, refusals: list[Exception]) -> bool:  # noqa: ARG002 - nowhere to go
        return False

    def lost(self, lane: Lane) -> None:
        """Do nothing: the next operation opens another."""
