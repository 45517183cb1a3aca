"""A master, its replicas and real sentinels for tests: they are whole within a second, and really fail over.

As in `tests.kit.servers`, everything is synchronous and bounded by deadlines.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.kit.binaries import ServerBinary
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer, ServerGroup


class SentinelSetup(ServerGroup):
    """A replicated server with no data on disk, and sentinels that watch it. All of them belong to the test.

    A master that is killed and restarted at once comes back empty, and as the master; later the
    sentinels make it a replica. `wait_until_ok` waits until every sentinel that is awake names the
    same master, sees exactly the servers that are awake, and could promote any of their replicas. This takes 20 s
    when the old master lives or is back: for so long the sentinels leave it a master.
    A sentinel that was paused for over 2 s starts no failover for 30 s (TILT).

    Args:
        binary: The server to run.
        service: The name by which the sentinels know the master.
        sentinels: The number of sentinels; the majority of them can promote a replica.
        replicas: How many replicas the master has.
        down_after_ms: After so long a silent server counts as down; promotion takes 1 to 3 s more.
        password: The master and its replicas demand it; the sentinels demand none.
        config: Further lines of the redis.conf of the master and its replicas.

    Example:
        >>> with SentinelSetup(first_server()) as sentinel_setup:
        ...     old = sentinel_setup.master
        ...     old.kill()
        ...     new = sentinel_setup.wait_for_promotion(old)
        ...     new.cli("SET", "k", "v")
        True
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        service: str = "mymaster",
        sentinels: int = 3,
        replicas: int = 1,
        down_after_ms: int = 500,
        password: str | None = None,
        config: Sequence[str] = (),
    ) -> None:
        self.service = service
        settings = (
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            *([f"masterauth {password}"] if password is not None else []),
            *config,
        )
        first = RedisServer(binary, *settings, password=password)
        others = [
            RedisServer(binary, f"replicaof 127.0.0.1 {first.port}", *settings, password=password)
            for _ in range(replicas)
        ]
        # The first server is the master. The others are its replicas.
        self.nodes = [first, *others]
        watch = (
            # The majority decides, and a lost election is soon repeated.
            f"sentinel monitor {service} 127.0.0.1 {first.port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {service} {down_after_ms}",
            f"sentinel failover-timeout {service} 3000",
            f"sentinel parallel-syncs {service} 1",
            *([f"sentinel auth-pass {service} {password}"] if password is not None else []),
            *(f"sentinel known-replica {service} 127.0.0.1 {node.port}" for node in others),
        )
        # The sentinels get each other's addresses, since finding out takes them seconds: port to id.
        ids = {free_port(): secrets.token_hex(20) for _ in range(sentinels)}
        self.sentinels = [
            RedisServer(
                binary,
                f"sentinel myid {id_}",
                *watch,
                *(f"sentinel known-sentinel {service} 127.0.0.1 {peer} {ids[peer]}" for peer in ids if peer != port),
                port=port,
                sentinel=True,
            )
            for port, id_ in ids.items()
        ]
        super().__init__([*self.nodes, *self.sentinels])

    @property
    def url(self) -> str:
        """The URL of the sentinels and of the service that they know, without a password."""
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/{self.service}/0"

    @property
    def master(self) -> RedisServer:
        """The master that most sentinels name now, dead or alive."""
        return Counter(map(self._named_by, self._watching())).most_common(1)[0][0]

    @property
    def replicas(self) -> list[RedisServer]:
        """All servers but `master`."""
        master = self.master
        return [node for node in self.nodes if node is not master]

    def failover(self) -> RedisServer:
        """Have the sentinels promote a replica while the master lives, wait for it and return it.

        They demote the old master 10 s later or more. Writes to it meanwhile are lost.

        Raises:
            redis.RedisError: There is no replica to promote, or a failover is under way.
            ServerError: None was promoted within 30 s.
        """
        old_master = self.master
        self._watching()[0].cli("SENTINEL", "FAILOVER", self.service)
        return self.wait_for_promotion(old_master)

    def wait_for_promotion(self, old_master: RedisServer) -> RedisServer:
        """Wait until all sentinels that are awake name the same other master, and it is one; return it.

        Raises:
            ServerError: None was promoted within 30 s.
        """

        def heir() -> RedisServer | None:
            named = {self._named_by(sentinel) for sentinel in self._watching()}
            new = named.pop()
            return None if named or new is old_master or _replication(new)["role"] != "master" else new

        return self._wait_for(heir, f"a replica of {old_master!r} was promoted")

    def _start(self) -> None:
        for node in self.nodes:
            node.start()
        # A sentinel looks when it starts, and again 10 s later.
        self._wait_for(lambda: self._follow(self.nodes[0]), "the replicas were in sync")
        for sentinel in self.sentinels:
            sentinel.start()
        self.wait_until_ok()

    def _is_ok(self) -> bool:
        awake = {member.port for member in self.members if member.awake}
        return all(
            self._seen_by(sentinel) | {sentinel.port} == awake and self._follow(self._named_by(sentinel))
            for sentinel in self._watching()
        )

    def _follow(self, master: RedisServer) -> bool:
        """Tell whether ``master`` is a master, and all others that are awake are in sync with it."""
        others = [_replication(node) for node in self.nodes if node.awake and node is not master]
        return _replication(master)["role"] == "master" and all(
            (info.get("master_port"), info.get("master_link_status")) == (master.port, "up") for info in others
        )

    def _watching(self) -> list[RedisServer]:
        return [sentinel for sentinel in self.sentinels if sentinel.awake]

    def _named_by(self, sentinel: RedisServer) -> RedisServer:
        """Return the master that ``sentinel`` names."""
        _, port = sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return next(node for node in self.nodes if node.port == int(port))

    def _seen_by(self, sentinel: RedisServer) -> set[int]:
        """Return the ports of the servers that ``sentinel`` finds well, and of the replicas that it could promote."""
        master = sentinel.cli("SENTINEL MASTER", self.service)
        replicas = sentinel.cli("SENTINEL SLAVES", self.service)
        peers = sentinel.cli("SENTINEL SENTINELS", self.service)
        # A server that is not well has a further flag, such as s_down or disconnected.
        return {
            seen["port"]
            for seen in (master, *replicas, *peers)
            if seen["flags"] in {"master", "slave", "sentinel"} and seen.get("master-link-status", "ok") == "ok"
        }


def _replication(node: RedisServer) -> dict[str, Any]:
    found: dict[str, Any] = node.cli("INFO", "replication")
    return found
