"""Large replies: they are read on a connection of their own, so that no other reply waits behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import LARGE_REPLY, Lane
from cachekit.stores.operations import Operation, Pipeline, Read
from cachekit.stores.translate import congested_error
from cachekit.urls import Endpoint

MOST_KEYS: Final = 1024
"""Keys that are remembered. Beyond them the one that was found first is forgotten."""

UNASKED: Final = 60.0
"""Seconds for which no value is asked for that was too large to arrive in time."""


class LargeReplies:
    """The keys of one network whose values are large, and the second lane to each server.

    All operations of such a key travel on the second lane, so that they keep their order.

    Args:
        deadlines: The timer of the operations.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._lanes: dict[Endpoint | None, Lane] = {}
        self.keys: dict[str, float] = {}
        """With each key the time until which its value is not asked for. Empty, most often."""

    def take(self, operation: Operation, server: Endpoint | None, open_lane: Callable[[], Lane]) -> bool:
        """Send ``operation`` on the second lane to ``server`` if its key is one of them. Return whether it is."""
        until = self.keys.get(operation.key)
        if until is None:
            return False
        if isinstance(operation, (Read, Pipeline)):
            if self._deadlines.time() < until:
                operation.fail(congested_error(self._deadlines.address))
                return True
        elif operation.barrier:
            # It replaces the value.
            self.keys[operation.key] = 0.0
        lane = self._lanes.get(server)
        if lane is None or lane.closed:
            lane = self._lanes[server] = open_lane()
            lane.keep_to_large(self)
        lane.put(operation)
        return True

    def make_way(self, lane: Lane, server: Endpoint | None, keys: Iterable[str]) -> bool:
        """Let ``lane``, on which the value of one of ``keys`` is arriving, be the second one from now on.

        Return whether that was possible.
        """
        second = self._lanes.get(server)
        if second is not None and not second.closed:
            if not second.idle:
                return False
            second.close()
        self._lanes[server] = lane
        lane.keep_to_large(self)
        for key in keys:
            self._remember(key, 0.0)
        return True

    def note_late(self, key: str) -> None:
        """Note that the value at ``key`` did not arrive in time."""
        self._remember(key, self._deadlines.time() + UNASKED)

    def note_size(self, key: str, size: int, *, last: bool) -> None:
        """Note the size of the value at ``key``; ``last``: nothing else waits on the second lane."""
        if size <= LARGE_REPLY and last:
            self.keys.pop(key, None)

    def server_of(self, lane: object) -> Endpoint | None:
        """Return the server to which ``lane`` leads, if it is a second lane."""
        return next((server for server, second in self._lanes.items() if second is lane), None)

    @property
    def lanes(self) -> list[Lane]:
        """The second lanes that are open."""
        return [lane for lane in self._lanes.values() if not lane.closed]

    def _remember(self, key: str, until: float) -> None:
        self.keys[key] = until
        if len(self.keys) > MOST_KEYS:
            del self.keys[next(iter(self.keys))]
