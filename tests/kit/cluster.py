"""A real Redis Cluster for tests: it is whole within seconds, and can be hurt and resharded step by step.

As in `tests.kit.servers`, everything is synchronous and bounded by deadlines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, cycle
from typing import Any, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from tests.kit.binaries import ServerBinary
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer, ServerError, ServerGroup


def slot_of(key: bytes | str) -> int:
    """Return the slot of ``key``."""
    return key_slot(key.encode() if isinstance(key, str) else key)


class _Range(NamedTuple):
    """A range of slots and the nodes that have it, named by their ports."""

    first: int
    last: int
    master: int
    replicas: frozenset[int]


class RedisCluster(ServerGroup):
    """Masters that share the slots evenly, and their replicas, all of our own and with no data on disk.

    A node that is killed and restarted knows its cluster and comes back empty. Replicas stay with
    their shard. `wait_until_ok` waits until every slot has a master and every node that is awake
    lists exactly the nodes that are awake, so a dead node must have been given up.

    Args:
        binary: The server to run.
        masters: The number of masters; at least 3, or none can be replaced.
        replicas: The number of replicas of each master.
        node_timeout_ms: After so long a silent node counts as failed; promotion takes 1 to 2 s more.
        full_coverage: Whether all nodes refuse all keys while any slot has no master.
        config: Further lines of every node's redis.conf.

    Example:
        >>> with RedisCluster(first_server()) as cluster:
        ...     old = cluster.master_of("k")
        ...     old.kill()
        ...     new = cluster.wait_for_promotion(old)
        ...     cluster.cli("SET", "k", "v", key="k")
        True
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        masters: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = 1000,
        full_coverage: bool = True,
        config: Sequence[str] = (),
    ) -> None:
        settings = (
            "cluster-enabled yes",
            "cluster-announce-ip 127.0.0.1",
            f"cluster-node-timeout {node_timeout_ms}",
            f"cluster-require-full-coverage {'yes' if full_coverage else 'no'}",
            "cluster-replica-validity-factor 0",
            "cluster-allow-replica-migration no",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            # CLUSTER SLOTS does not list a replica before it was sent its first byte, be it a ping.
            "repl-ping-replica-period 1",
            *config,
        )
        # The first nodes are masters. Their replicas follow in the same order, round by round.
        self.nodes = [RedisServer(binary, *settings, port=free_port()) for _ in range(masters * (1 + replicas))]
        self._shards = masters
        super().__init__(self.nodes)

    @property
    def url(self) -> str:
        """The URL of the first masters."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[: self._shards])

    @property
    def masters(self) -> list[RedisServer]:
        """The nodes that have slots now."""
        ports = {range_.master for range_ in self._ranges()}
        return [node for node in self.nodes if node.port in ports]

    def master_of(self, key: bytes | str | int) -> RedisServer:
        """Return the node that has the slot of ``key`` now, as most nodes see it; an int is a slot.

        Raises:
            ServerError: No node has it.
        """
        slot = key if isinstance(key, int) else slot_of(key)
        owner = self._owner(slot, self._ranges())
        if owner is None:
            raise ServerError(f"slot {slot} has no master")
        return owner

    def replica_of(self, master: RedisServer) -> RedisServer:
        """Return a replica of ``master`` that is awake.

        Raises:
            ServerError: It has none.
        """
        ports = {port for range_ in self._ranges() if range_.master == master.port for port in range_.replicas}
        for node in self._awake():
            if node.port in ports:
                return node
        raise ServerError(f"{master!r} has no replica that is awake")

    def cli(self, *args: bytes | str | float, key: bytes | str | None = None, node: RedisServer | None = None) -> Any:
        """Send one command to the master of ``key``, or to ``node``, or to any, and return redis-py's reply.

        Raises:
            redis.RedisError: As `RedisServer.cli`; MOVED and ASK are not followed.
        """
        if key is not None:
            node = self.master_of(key)
        return (node or self._awake()[0]).cli(*args)

    def reset(self) -> None:
        """Remove all keys and scripts from all nodes that are awake, replicas included."""
        masters = self.masters
        for node in self._awake():
            if node in masters:
                node.reset()
            else:
                node.cli("SCRIPT", "FLUSH")
        self._wait_for(lambda: not any(node.cli("DBSIZE") for node in self._awake()), "the replicas were empty")

    def wait_for_promotion(self, old_master: RedisServer) -> RedisServer:
        """Wait until a replica has the place of ``old_master`` and all nodes that are awake say so; return it.

        Raises:
            ServerError: None was promoted within 30 s.
        """
        place = self.nodes.index(old_master) % self._shards
        shard = [node for node in self.nodes[place :: self._shards] if node is not old_master]

        def heir() -> RedisServer | None:
            awake = self._awake()
            seen = {frozenset(range_.master for range_ in _ranges_of(node)) for node in awake}
            masters = seen.pop()
            if seen or old_master.port in masters or not all(map(_says_ok, awake)):
                return None
            return next((node for node in shard if node.port in masters), None)

        return self._wait_for(heir, f"a replica of {old_master!r} was promoted")

    def wait_until_owned(self, slot: int, owner: RedisServer) -> None:
        """Wait until all nodes that are awake say that ``owner`` has ``slot``.

        Raises:
            ServerError: They did not within 30 s.
        """
        self._wait_for(
            lambda: all(self._owner(slot, _ranges_of(node)) is owner for node in self._awake()),
            f"slot {slot} was of {owner!r}",
        )

    def migrate(self, key: bytes | str | int, target: RedisServer | None = None) -> Migration:
        """Begin to move the slot of ``key`` to ``target``, or to any other master; an int is a slot.

        No key is moved by this.
        """
        slot = key if isinstance(key, int) else slot_of(key)
        source = self.master_of(slot)
        target = target or next(node for node in self.masters if node is not source)
        # The order matters: the target must accept a client that the source sends on.
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", _id_of(source))
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", _id_of(target))
        return Migration(self, slot, source, target)

    def move_slot(self, key: bytes | str | int, target: RedisServer | None = None) -> Migration:
        """Move the slot of ``key`` and all its keys, as `migrate` and all the steps that it returns."""
        migration = self.migrate(key, target)
        migration.move_keys()
        migration.finish()
        return migration

    def _start(self) -> None:
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[: self._shards], self.nodes[self._shards :]
        bounds = [SLOTS * place // self._shards for place in range(self._shards + 1)]
        for place, master in enumerate(masters):
            # Otherwise all nodes have the same epoch, and must resolve that conflict first.
            master.cli("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
            master.cli("CLUSTER", "ADDSLOTS", *range(bounds[place], bounds[place + 1]))
        # Each node meets each other: to learn of one another by gossip takes longer.
        for one, other in combinations(self.nodes, 2):
            one.cli("CLUSTER", "MEET", "127.0.0.1", other.port)
        for master, replica in zip(cycle(masters), replicas, strict=False):
            follow = partial(replica.cli, "CLUSTER", "REPLICATE", _id_of(master))
            self._wait_for(follow, f"{replica!r} had met its master")
        self.wait_until_ok()

    def _is_ok(self) -> bool:
        awake = self._awake()
        seen = {_ranges_of(node) for node in awake}
        if len(seen) != 1 or not all(map(_says_ok, awake)):
            return False
        ranges = seen.pop()
        listed = {port for range_ in ranges for port in (range_.master, *range_.replicas)}
        return (
            listed == {node.port for node in awake}
            and sum(range_.last - range_.first + 1 for range_ in ranges) == SLOTS
            and all(node.cli("INFO", "replication").get("master_link_status", "up") == "up" for node in awake)
        )

    def _awake(self) -> list[RedisServer]:
        return [node for node in self.nodes if node.awake]

    def _ranges(self) -> frozenset[_Range]:
        """Return the owners of all slots, as most nodes see it."""
        return Counter(map(_ranges_of, self._awake())).most_common(1)[0][0]

    def _owner(self, slot: int, ranges: frozenset[_Range]) -> RedisServer | None:
        ports = {range_.master for range_ in ranges if range_.first <= slot <= range_.last}
        return next((node for node in self.nodes if node.port in ports), None)


@dataclass(frozen=True, slots=True)
class Migration:
    """A slot that moves: the source answers ASK for keys that it does not have (any more).

    The target serves the slot only after ASKING. Without ASKING it answers MOVED to the source. A
    command on several keys gets TRYAGAIN if the node has only some of them. 6.2 does so at the
    target alone, and answers ASK at the source.

    Attributes:
        cluster: The cluster of the slot.
        slot: Its number.
        source: The master that had it.
        target: The master that gets it.
    """

    cluster: RedisCluster
    slot: int
    source: RedisServer
    target: RedisServer

    def move_keys(self, *keys: bytes | str) -> None:
        """Move ``keys``, or all keys of the slot if none are named."""
        moved = keys or self.source.cli("CLUSTER", "GETKEYSINSLOT", self.slot, 1_000_000)
        if moved:
            self.source.cli("MIGRATE", "127.0.0.1", self.target.port, "", 0, 10_000, "KEYS", *moved)

    def finish(self) -> None:
        """Give the slot to the target, and wait until all nodes that are awake say so.

        Raises:
            ServerError: They did not within 30 s.
            redis.RedisError: The source still has keys of the slot.
        """
        owner = _id_of(self.target)
        # The target comes first, since the source forgets the slot at once.
        others = [node for node in self.cluster.masters if node.awake and node not in {self.source, self.target}]
        for node in (self.target, self.source, *others):
            node.cli("CLUSTER", "SETSLOT", self.slot, "NODE", owner)
        self.cluster.wait_until_owned(self.slot, self.target)


def _ranges_of(node: RedisServer) -> frozenset[_Range]:
    """Return the owners of all slots, as ``node`` sees it."""
    return frozenset(
        _Range(first, last, master[1], frozenset(replica[1] for replica in replicas))
        for first, last, master, *replicas in node.cli("CLUSTER", "SLOTS")
    )


def _says_ok(node: RedisServer) -> bool:
    return bool(node.cli("CLUSTER INFO")["cluster_state"] == "ok")


def _id_of(node: RedisServer) -> bytes:
    name: bytes = node.cli("CLUSTER", "MYID")
    return name
