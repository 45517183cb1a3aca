"""A network: the connections of a store, and the choice of the lane on which an operation travels."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from redis.exceptions import ReadOnlyError

from cachekit.errors import StoreError
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import Connect, Lane
from cachekit.stores.operations import Operation
from cachekit.stores.tracking import Changed, Feeds, State
from cachekit.stores.translate import garbage_error, translate


class Network(Protocol):
    """The connections of one store in one event loop. Nothing is connected before the first operation."""

    def submit(self, operation: Operation) -> None:
        """Send ``operation``. Its future gets the reply or the error."""
        ...

    def group(self, keys: Sequence[str]) -> Iterable[Sequence[str]]:
        """Return ``keys`` in groups. The keys of one group may stand in one command."""
        ...

    def shard(self, key: str) -> str:
        """Return the name of the server that has ``key``; ``""`` when there is one server only, or it is not known."""
        ...

    def connection(self, key: str) -> Lane | None:
        """Return the lane to the server that has ``key``, if it is open."""
        ...

    def give_up(self, key: str) -> None:
        """Give up the connection for ``key``, because a reply on it was no answer."""
        ...

    def track(self, prefix: bytes, changed: Changed, state: State) -> Feeds:
        """Begin to report changes of keys that begin with ``prefix``, of every server that has keys."""
        ...

    @property
    def loop_ending(self) -> bool:
        """Whether the event loop is ending, and has cancelled the tasks of this network."""
        ...

    def close(self) -> list[asyncio.Task[None]]:
        """Close every connection; pending operations fail. Return the tasks that do it."""
        ...


class SingleServer:
    """One server, or the master that Sentinel names: one lane, which is replaced when its connection broke.

    Args:
        connect: Makes the connection.
        deadlines: The timer of the operations.
    """

    def __init__(self, connect: Connect, deadlines: Deadlines) -> None:
        self._connect = connect
        self._deadlines = deadlines
        self._address = deadlines.address
        self._lane: Lane | None = None
        # Weak: the caller of `track` keeps its feeds alive.
        self._tracked: weakref.WeakSet[Feeds] = weakref.WeakSet()

    def submit(self, operation: Operation) -> None:
        lane = self._lane
        if lane is None or lane.closed:
            lane = self._lane = Lane(self._connect, self._deadlines, weakref.ref(self))
        lane.put(operation)

    def group(self, keys: Sequence[str]) -> Iterable[Sequence[str]]:
        return (keys,)

    def shard(self, key: str) -> str:  # noqa: ARG002 - all keys are on one server
        return ""

    def connection(self, key: str) -> Lane | None:  # noqa: ARG002 - as above
        return self._lane if self._lane is not None and not self._lane.closed else None

    def give_up(self, key: str) -> None:  # noqa: ARG002 - as above
        if self._lane is not None:
            self._lane.give_up(garbage_error(self._address))

    def track(self, prefix: bytes, changed: Changed, state: State) -> Feeds:
        feeds = Feeds(prefix, changed, state)
        self._tracked.add(feeds)
        feeds.follow({self._address: self._connect_feed(feeds)})
        return feeds

    def _connect_feed(self, feeds: Feeds) -> Connect:  # noqa: ARG002 - all lead to the same server
        return self._connect

    @property
    def loop_ending(self) -> bool:
        return self._lane is not None and self._lane.cancelled_by_loop

    def close(self) -> list[asyncio.Task[None]]:
        tasks = [task for feeds in self._tracked for task in feeds.close()]
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.close()
            tasks.append(lane.task)
        return tasks

    # --- called by the lane ----------------------------------------------------------------------

    def resend(self, operations: list[Operation]) -> None:
        for operation in operations:
            self.submit(operation)

    def redirect(self, operation: Operation, error_replies: list[Exception]) -> bool:  # noqa: ARG002 - nowhere to go
        for error_reply in error_replies:
            if isinstance(error_reply, ReadOnlyError):
                # The server is no master any more. The address may lead to another server by now.
                self._give_up_feeds(translate(error_reply, self._address))
        return False

    def _give_up_feeds(self, reason: StoreError) -> None:
        for feeds in [*self._tracked]:
            feeds.give_up(reason)

    def lane_lost(self, lane: Lane) -> None:
        """Do nothing: the next operation opens another lane."""
