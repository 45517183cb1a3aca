"""A network: the connections of a store, and the choice of the lane on which an operation travels."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Collection, Sequence
from typing import Protocol

from redis.exceptions import ReadOnlyError

from cachekit.errors import StoreError
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import Connect, Lane
from cachekit.stores.large import LargeReplies
from cachekit.stores.operations import Operation
from cachekit.stores.tracking import Changed, Feeds, State
from cachekit.stores.translate import garbage_error, translate


class Network(Protocol):
    """The connections of one store in one event loop. Nothing is connected before the first operation."""

    def submit(self, operation: Operation) -> None:
        """Send ``operation``. Its future gets the reply or the error."""
        ...

    def submit_together(self, operations: Sequence[Operation]) -> None:
        """Send ``operations``: those for one server in one write."""
        ...

    @property
    def parts(self) -> bool:
        """Whether keys may have to be in several groups."""
        ...

    def servers(self) -> Sequence[str]:
        """Return the servers that have keys."""
        ...

    def submit_to(self, server: str, operation: Operation) -> None:
        """Send ``operation`` to one of `servers`, with any key."""
        ...

    def group(self, keys: Sequence[str]) -> Collection[Sequence[str]]:
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
        renews: Whether the next connection may have another login.
    """

    def __init__(self, connect: Connect, deadlines: Deadlines, *, renews: bool = False) -> None:
        self._connect = connect
        self._deadlines = deadlines
        self.renews: bool = renews
        self._address = deadlines.address
        self._lane: Lane | None = None
        self._large = LargeReplies(deadlines)
        # Weak: the caller of `track` keeps its feeds alive.
        self._tracked: weakref.WeakSet[Feeds] = weakref.WeakSet()

    def submit(self, operation: Operation) -> None:
        if self._large.keys and self._large.take(operation, None, self._open):
            return
        lane = self._lane
        if lane is None or lane.closed:
            lane = self._lane = self._open()
        lane.put(operation)

    def submit_together(self, operations: Sequence[Operation]) -> None:
        if self._large.keys:
            large = [operation for operation in operations if operation.key in self._large.keys]
            for operation in large:
                self.submit(operation)
            operations = [operation for operation in operations if operation not in large]
        if not operations:
            return
        lane = self._lane
        if lane is None or lane.closed:
            lane = self._lane = self._open()
        lane.put_together(operations)

    def _open(self) -> Lane:
        return Lane(self._connect, self._deadlines, weakref.ref(self))

    @property
    def parts(self) -> bool:
        return bool(self._large.keys)

    def servers(self) -> Sequence[str]:
        return [""]

    def submit_to(self, server: str, operation: Operation) -> None:  # noqa: ARG002 - there is one
        self.submit(operation)

    def group(self, keys: Sequence[str]) -> Collection[Sequence[str]]:
        if not self._large.keys:
            return (keys,)
        large = [key for key in keys if key in self._large.keys]
        if not large:
            return (keys,)
        others = [key for key in keys if key not in self._large.keys]
        return [others, *[[key] for key in large]] if others else [[key] for key in large]

    def shard(self, key: str) -> str:  # noqa: ARG002 - all keys are on one server
        return ""

    def connection(self, key: str) -> Lane | None:  # noqa: ARG002 - as above
        return self._lane if self._lane is not None and not self._lane.closed else None

    def give_up(self, key: str) -> None:  # noqa: ARG002 - as above
        for lane in self._open_lanes():
            lane.give_up(garbage_error(self._address))

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
        for lane in self._open_lanes():
            lane.close()
            tasks.append(lane.task)
        self._lane = None
        return tasks

    def _open_lanes(self) -> list[Lane]:
        lane = self._lane
        return self._large.lanes if lane is None or lane.closed else [lane, *self._large.lanes]

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

    def make_way(self, lane: Lane, keys: list[str]) -> bool:
        made = lane is self._lane and self._large.make_way(lane, None, keys)
        if made:
            self._lane = None
        return made

    def lane_lost(self, lane: Lane) -> None:
        """Do nothing: the next operation opens another lane."""
