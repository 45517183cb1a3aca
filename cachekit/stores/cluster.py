"""A Redis Cluster: which master has a slot, and how an operation follows when the slot has moved.

Each master has a lane of its own, so operations that wait for one master travel together. The first node that
answers says which master has which slot. It is asked again whenever a node redirects or a connection is lost, and
always in the background: an operation that comes before the first answer waits for it until its own deadline.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from cachekit.backoff import Backoff
from cachekit.errors import (
    CongestedError,
    StoreError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from cachekit.loops import detached
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import QUEUE, QUEUE_BYTES, ConnectTo, Lane
from cachekit.stores.large import LargeReplies
from cachekit.stores.operations import Operation
from cachekit.stores.tracking import Changed, Feeds, State
from cachekit.stores.translate import garbage_error, queue_full_error, translate
from cachekit.urls import Endpoint

_ALL_SLOTS: Final = range(REDIS_CLUSTER_HASH_SLOTS)
_ALL_PORTS: Final = range(1, 65_536)

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"
_SLOTS: Final = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"

_PATIENCE: Final = 0.25
"""Seconds in which a node must answer CLUSTER SLOTS. Then the next node is asked as well."""

_PAUSE: Final = 0.1
"""The least seconds between two rounds of asking: a failover redirects every operation until it is known."""

_PERIOD: Final = 1.0
"""Seconds between two rounds of asking while keys are tracked. A near hit sends no operation that a node could
redirect, and a master that was demoted goes on to report changes."""

_REDIRECTIONS: Final = 5
"""The most redirections of one operation. A slot that moves costs one or two. Nodes that disagree would never stop."""


class Cluster:
    """The connections to a cluster in one event loop.

    Args:
        seeds: The nodes by which the others are found.
        connect_to: Makes connections to a node.
        deadlines: The timer of the operations, and of its own, which ask the nodes for the slots.
        renews: Whether the next connection may have another login.
    """

    def __init__(
        self, seeds: Sequence[Endpoint], connect_to: ConnectTo, deadlines: Deadlines, *, renews: bool = False
    ) -> None:
        self._seeds = seeds
        self._deadlines = deadlines
        self._connect_to = connect_to
        self.renews: bool = renews
        self._address = deadlines.address
        # The master of each slot, or None; and every node of the last answer, its replicas included.
        self._masters: list[Endpoint | None] = _no_masters()
        self._nodes: set[Endpoint] = set()
        self._lanes: dict[Endpoint, Lane] = {}
        self._large = LargeReplies(deadlines)
        # Operations that wait until the slots are known.
        self._waiting: list[Operation] = []
        self._waiting_bytes = 0
        self._learning: asyncio.Task[None] | None = None
        self._slots_outdated = False
        self._closed = False
        self._loop_ending = False
        # Weak: the caller of `track` keeps its feeds alive.
        self._tracked: weakref.WeakSet[Feeds] = weakref.WeakSet()
        # The nodes that have feeds: all masters, and each node that an operation was sent on to since the last answer.
        self._feed_nodes: set[Endpoint] = set()
        self._next_poll: asyncio.TimerHandle | None = None
        self._pauses = Backoff(_PERIOD, least=0.8)

    # --- sending ----------------------------------------------------------------------------------

    def submit(self, operation: Operation) -> None:
        if not self._nodes:
            self._wait_for_slots(operation)
            return
        node = self._masters[_slot(operation.key)]
        if node is None:
            operation.fail(StoreRefusedError("CLUSTERDOWN", f"a slot of {self._address} has no master"))
            self._learn_slots_soon()
            return
        if not self._large.keys or not self._large.take(operation, node, partial(self._open, node)):
            self._lane(node).put(operation)

    def submit_together(self, operations: Sequence[Operation]) -> None:
        lanes: dict[Lane, list[Operation]] = {}
        for operation in operations:
            node = self._masters[_slot(operation.key)] if self._nodes else None
            if node is None or operation.key in self._large.keys:
                self.submit(operation)
            else:
                lanes.setdefault(self._lane(node), []).append(operation)
        for lane, of_lane in lanes.items():
            lane.put_together(of_lane)

    @property
    def parts(self) -> bool:
        return True

    def servers(self) -> Sequence[str]:
        if None in self._masters:
            cause = "CLUSTERDOWN"
            raise StoreRefusedError(cause, f"a slot of {self._address} has no master")
        return [str(node) for node in dict.fromkeys(self._masters)]

    def submit_to(self, server: str, operation: Operation) -> None:
        node = next((node for node in dict.fromkeys(self._masters) if str(node) == server), None)
        if node is None:
            operation.fail(StoreUnavailableError("unavailable", f"{server} is no master of {self._address} any more"))
        else:
            self._lane(node).put(operation)

    def group(self, keys: Sequence[str]) -> Collection[Sequence[str]]:
        slots: dict[object, list[str]] = {}
        for key in keys:
            slots.setdefault(key if key in self._large.keys else _slot(key), []).append(key)
        return slots.values()

    def shard(self, key: str) -> str:
        node = self._masters[_slot(key)]
        return str(node) if node else ""

    def connection(self, key: str) -> Lane | None:
        node = self._masters[_slot(key)]
        lane = None if node is None else self._lanes.get(node)
        return lane if lane is not None and not lane.closed else None

    def give_up(self, key: str) -> None:
        node = self._masters[_slot(key)]
        if node is not None and node in self._lanes:
            self._lanes[node].give_up(garbage_error(self._address))

    @property
    def loop_ending(self) -> bool:
        return self._loop_ending

    def close(self) -> list[asyncio.Task[None]]:
        self._closed = True
        tasks = [task for feeds in self._tracked for task in feeds.close()]
        if self._next_poll is not None:
            self._next_poll.cancel()
        for lane in [*self._lanes.values(), *self._large.lanes]:
            tasks.append(lane.task)
            lane.close()
        self._lanes.clear()
        if self._learning is not None:
            self._learning.cancel()
            tasks.append(self._learning)
        self._fail_waiting(StoreUnavailableError("unavailable", f"the connections to {self._address} were closed"))
        return tasks

    def _lane(self, node: Endpoint) -> Lane:
        lane = self._lanes.get(node)
        if lane is None or lane.closed:
            lane = self._lanes[node] = self._open(node)
        return lane

    def _open(self, node: Endpoint) -> Lane:
        return Lane(self._connect_to(*node), self._deadlines, weakref.ref(self), _slot)

    # --- called by the lanes ------------------------------------------------------------------------

    def resend(self, operations: list[Operation]) -> None:
        for operation in operations:
            self.submit(operation)

    def redirect(self, operation: Operation, error_replies: list[Exception]) -> bool:
        """Send ``operation`` to the node that a MOVED or ASK names; return whether there is one."""
        if any(isinstance(reply, ClusterDownError) for reply in error_replies):
            self._learn_slots_soon()
        # MovedError is derived from AskError.
        redirection = next((reply for reply in error_replies if isinstance(reply, AskError)), None)
        if redirection is None or operation.redirections >= _REDIRECTIONS or not operation.wanted or self._closed:
            return False
        if isinstance(redirection, MovedError) and redirection.slot_id not in _ALL_SLOTS:
            operation.fail_as_garbage()
            return True
        operation.redirections += 1
        lanes = [*self._lanes.items(), (self._large.server_of(operation.lane), operation.lane)]
        asked = next((node for node, lane in lanes if lane is operation.lane), None)
        # A node that does not know its own name leaves it out. Then the host is that of the node that was asked.
        node = Endpoint(redirection.host or (asked.host if asked else ""), redirection.port)
        operation.remove_asking()
        if isinstance(redirection, MovedError):
            moved = self._masters[redirection.slot_id] != node
            self._masters[redirection.slot_id] = node
            self._follow_nodes({*self._feed_nodes, node}, moved=moved)
            self._learn_slots_soon()
        else:
            # A value that is read at that node may be changed there before the slot has moved.
            self._follow_nodes({*self._feed_nodes, node})
            # ASKING is for this operation only, and the slots are not asked for: the slot is still moving. Before
            # MULTI, ASKING holds for the whole transaction.
            operation.add_asking(_ASKING)
        self._lane(node).put(operation)
        return True

    def make_way(self, lane: Lane, keys: list[str]) -> bool:
        node = next((node for node, other in self._lanes.items() if other is lane), None)
        made = node is not None and self._large.make_way(lane, node, keys)
        if made and node is not None:
            del self._lanes[node]
        return made

    def lane_lost(self, lane: Lane) -> None:
        self._loop_ending = self._loop_ending or lane.cancelled_by_loop
        for node in [node for node, other in self._lanes.items() if other is lane]:
            del self._lanes[node]
        # The node may be dead, and another may be promoted in its place.
        self._learn_slots_soon()

    # --- tracking -----------------------------------------------------------------------------------

    def track(self, prefix: bytes, changed: Changed, state: State) -> Feeds:
        feeds = Feeds(prefix, changed, state)
        self._tracked.add(feeds)
        self._follow_nodes(self._feed_nodes)
        self._poll()
        return feeds

    def _follow_nodes(self, nodes: set[Endpoint], *, moved: bool = False) -> None:
        """Have feeds from ``nodes``, and from no other node; ``moved``: a slot has another master than before."""
        self._feed_nodes = nodes
        if self._tracked:
            servers = {str(node): self._connect_to(*node) for node in nodes}
            for feeds in [*self._tracked]:
                feeds.follow(servers, moved=moved)

    def _poll(self) -> None:
        """Ask for the slots now, and again after each pause as long as keys are tracked."""
        if self._next_poll is not None:
            self._next_poll.cancel()
        if self._closed or self._loop_ending or all(feeds.closed for feeds in self._tracked):
            return
        self._learn_slots_soon()
        self._next_poll = detached(asyncio.get_running_loop().call_later, self._pauses.next(), self._poll)

    # --- learning which master has which slot ---------------------------------------------------------

    def _wait_for_slots(self, operation: Operation) -> None:
        if not self._has_room(operation):
            # Make room: an operation whose caller is gone need not wait.
            self._waiting = [waiting for waiting in self._waiting if waiting.wanted]
            self._waiting_bytes = sum([len(waiting.packed) for waiting in self._waiting])
        if not self._has_room(operation):
            operation.fail(queue_full_error(self._address))
            return
        self._waiting.append(operation)
        self._waiting_bytes += len(operation.packed)
        self._learn_slots_soon()

    def _has_room(self, operation: Operation) -> bool:
        return len(self._waiting) < QUEUE and self._waiting_bytes + len(operation.packed) <= QUEUE_BYTES

    def _learn_slots_soon(self) -> None:
        if self._closed or self._loop_ending:
            return
        if self._learning is None or self._learning.done():
            self._learning = detached(
                asyncio.get_running_loop().create_task, self._learn_slots(), name=f"cachekit {self._address}"
            )
        else:
            self._slots_outdated = True

    async def _learn_slots(self) -> None:
        self._slots_outdated = True
        while self._slots_outdated:
            self._slots_outdated = False
            await self._ask_nodes()
            # During the pause, operations use this answer. A redirection that they meet begins another round.
            await asyncio.sleep(_PAUSE)

    async def _ask_nodes(self) -> None:
        """Ask one node after the other for the slots, until one answers.

        A node that is silent for `_PATIENCE` keeps no other from being asked, and may answer all the same.
        """
        reason: StoreError = StoreUnavailableError("unavailable", f"no node of {self._address} answers")
        candidates = self._candidates()
        asked: dict[asyncio.Future[object], Endpoint] = {}
        while self._ask_next(candidates, asked) or asked:
            done, _ = await asyncio.wait(asked, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                refusal = self._learn_from(future, asked.pop(future))
                if refusal is None:
                    _cancel(asked)
                    return
                reason = refusal
        late = isinstance(reason, (StoreTimeoutError, CongestedError))
        if late and any(not operation.future.done() for operation in self._waiting):
            # The nodes may be slow rather than gone. Waiting operations have their own deadlines; until then the nodes
            # are asked again.
            self._slots_outdated = True
        else:
            self._fail_waiting(reason)
        # A node that has a feed reports its errors itself.
        for feeds in [] if self._feed_nodes else [*self._tracked]:
            feeds.fail(reason)

    def _ask_next(self, candidates: Iterator[Endpoint], asked: dict[asyncio.Future[object], Endpoint]) -> bool:
        """Ask the next of the ``candidates`` for the slots, and note it in ``asked``; return whether there was one."""
        node = next(candidates, None)
        if node is None:
            return False
        # A question has as long as the operations that wait for its answer: only `timeout` limits how far away a
        # cluster may be.
        now = self._deadlines.loop.time()
        left = [operation.deadline - now for operation in self._waiting if operation.wanted]
        question = Operation("", _SLOTS, 1, self._deadlines.after(max([_PATIENCE, *left])))
        self._lane(node).put(question)
        asked[question.future] = node
        return True

    def _learn_from(self, future: asyncio.Future[object], node: Endpoint) -> StoreError | None:
        """Learn the slots from the answer of ``node``; return an error if it is no such answer."""
        try:
            reply = future.result()
        except StoreError as error:
            return error
        masters, nodes = _parse_slots(reply, node)
        if not nodes:
            return slots_error(reply, node)
        moved = bool(self._tracked) and masters != self._masters
        self._masters, self._nodes = masters, nodes
        self._follow_nodes({node for node in masters if node is not None}, moved=moved)
        self._close_idle()
        self._send_waiting()
        return None

    def _close_idle(self) -> None:
        """Close the idle connections to nodes that are no masters: replicas are asked for the slots only."""
        masters = {*self._masters}
        for node, lane in [*self._lanes.items()]:
            if node not in masters and lane.idle:
                lane.close()
                del self._lanes[node]

    def _candidates(self) -> Iterator[Endpoint]:
        """Yield the nodes: first the connected ones, then the others, and last the nodes of the URL."""
        connected = [node for node, lane in self._lanes.items() if not lane.closed]
        others = [node for node in self._nodes if node not in connected]
        random.shuffle(connected)
        random.shuffle(others)
        yield from dict.fromkeys([*connected, *others, *self._seeds])

    def _send_waiting(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for operation in waiting:
            if operation.wanted:
                self.submit(operation)

    def _fail_waiting(self, error: StoreError) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for operation in waiting:
            operation.fail(error)


def _cancel(futures: Iterable[asyncio.Future[object]]) -> None:
    for future in futures:
        future.cancel()


def _slot(key: str) -> int:
    # A key that cannot be sent has a slot, too. It is refused when it is packed.
    return key_slot(key.encode(errors="surrogatepass"))


def _no_masters() -> list[Endpoint | None]:
    return [None] * REDIS_CLUSTER_HASH_SLOTS


def _parse_slots(reply: object, asked: Endpoint) -> tuple[list[Endpoint | None], set[Endpoint]]:
    """Return the master of each slot, and all nodes, from a reply to CLUSTER SLOTS; no nodes if it is no such reply."""
    masters, nodes = _no_masters(), set[Endpoint]()
    if not isinstance(reply, list):
        return masters, nodes
    for row in reply:
        match row:
            case [int(first), int(last), *members] if members and first in _ALL_SLOTS and last in _ALL_SLOTS[first:]:
                # The master stands first, its replicas behind it.
                master, *replicas = [endpoint_of(member, asked) for member in members]
                if master is None:
                    return masters, set()
                masters[first : last + 1] = [master] * (last + 1 - first)
                nodes.update([master, *[replica for replica in replicas if replica is not None]])
            case _:
                return masters, set()
    return masters, nodes


def slots_error(reply: object, node: Endpoint) -> StoreError:
    """Return the error for a ``reply`` to CLUSTER SLOTS that names no servers."""
    if isinstance(reply, ResponseError) and "cluster support disabled" in str(reply):
        return StoreRefusedError("no cluster", f"{node} is in no cluster; write redis://{node} to use it alone")
    return translate(reply, str(node)) if isinstance(reply, ResponseError) else garbage_error(str(node))


def endpoint_of(member: object, asked: Endpoint) -> Endpoint | None:
    """Return the endpoint of a node; None if ``member`` describes no node.

    A node that does not know its own name is on the host that was asked.
    """
    match member:
        case [bytes(host), int(port), *_] if host not in {b"", b"?"} and port in _ALL_PORTS and host.isascii():
            return Endpoint(host.decode(), port)
        case [None | b"" | b"?", int(port), *_] if port in _ALL_PORTS:
            return Endpoint(asked.host, port)
        case _:
            return None
