"""The faults of the server, of connections and of workers: one at a time, and healed after each."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from redis.exceptions import RedisError

from tests.consistency.board import Board
from tests.consistency.relay import Relay
from tests.kit.servers import RedisServer, ServerError

WEIGHTS: Final = {
    "server paused": 16,
    "server killed, restarted empty": 10,
    "all connections killed": 10,
    "one connection killed": 10,
    "connections killed again and again": 10,
    "writes refused": 16,
    "writes held up": 6,
    "one worker cut off": 12,
    "scripts forgotten": 4,
    "worker killed in a load": 10,
    "worker paused": 8,
}

NEAR_WEIGHTS: Final = WEIGHTS | {
    "server paused for long": 6,
    "worker paused for long": 10,
    "all feeds killed": 10,
    "one feed killed": 8,
    "feeds silent": 24,
    "replies overtaken": 24,
    "everything flushed": 8,
}
"""The faults with a near cache. A long pause is longer than near entries may be served without a confirmation."""


_FEED: Final = re.compile(rb" flags=\w*B")
"""The flags in CLIENT LIST of a client that tracks in broadcast mode."""


def user_of(slot: int) -> str:
    """Return the name by which the server knows one worker."""
    return f"worker{slot}"


class Workers(Protocol):
    """The worker processes, which faults may kill and pause."""

    def kill(self, slot: int) -> None: ...
    def pause(self, slot: int) -> None: ...
    def resume(self, slot: int) -> None: ...


class Faults(threading.Thread):
    """Does faults until it is ended, and leaves the server healed.

    Args:
        server: The server, which is hurt.
        board: Tells which worker is loading.
        workers: The workers, which are hurt as well.
        seed: The seed of the choice of faults, their lengths, and the pauses between.
        note: Gets the name of each fault.
        relay: With near caches, the way of reports to the workers, which is hurt as well.
    """

    def __init__(
        self,
        server: RedisServer,
        board: Board,
        workers: Workers,
        seed: int,
        note: Callable[[str], None],
        *,
        relay: Relay | None = None,
    ) -> None:
        super().__init__(name="faults")
        self.done: Counter[str] = Counter()
        self.error: Exception | None = None
        self._server = server
        self._board = board
        self._workers = workers
        self._random = random.Random(f"{seed}/faults")
        self._note = note
        self._relay = relay
        # In RESP2 the connections of feeds have another type than all other connections of clients.
        self._types = ("normal", "pubsub") if relay else ("normal",)
        self._ended = threading.Event()

    def end(self) -> None:
        """End after the fault that is going on. Raise an error of the faults themselves."""
        self._ended.set()
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        chances = NEAR_WEIGHTS if self._relay else WEIGHTS
        names, weights = [*chances], [*chances.values()]
        try:
            while not self._ended.wait(self._random.uniform(0.05, 0.8)):
                # Each fault draws from its own source, so that the course of one does not change the next.
                chance = random.Random(self._random.getrandbits(64))
                name = self._random.choices(names, weights)[0]
                self._note(f"fault begins: {name}")
                self._do(name, chance)
                self._note(f"fault ended: {name}")
                self.done[name] += 1
        except (ServerError, RedisError, OSError) as error:
            self.error = error

    def _do(self, name: str, chance: random.Random) -> None:
        slot = chance.randrange(self._board.workers)
        if name == "worker killed in a load":
            # A worker that loads holds a lease, or the store is down.
            for _ in range(2000):
                if self._board.is_loading(slot) or self._ended.wait(0.0005):
                    break
            self._workers.kill(slot)
        elif name in {"worker paused", "worker paused for long"}:
            self._workers.pause(slot)
            self._wait(chance, *((0.05, 1.0) if name == "worker paused" else (1.05, 2.2)))
            self._workers.resume(slot)
        elif name in {"server paused", "server paused for long"}:
            self._server.pause()
            self._wait(chance, *((0.02, 1.6) if name == "server paused" else (1.05, 2.2)))
            self._server.resume()
        elif name == "server killed, restarted empty":
            since = time.monotonic_ns()
            self._server.kill()
            self._board.emptied(since)
            self._wait(chance, 0.0, 0.6)
            self._server.restart()
        elif self._relay is not None and name in {"feeds silent", "replies overtaken"}:
            self._hold(self._relay, name, chance)
        elif name == "one worker cut off":
            self._cut_off(user_of(slot), chance)
        else:
            self._command(name, chance)

    def _hold(self, relay: Relay, name: str, chance: random.Random) -> None:
        """Hold back bytes from the server, on some connections while others go on."""
        silent = name == "feeds silent"
        if silent:
            relay.hold(feeds=True)
        if silent and chance.random() < 0.5:
            self._wait(chance, 0.02, 2.2)
        else:
            # Replies are held back for less than the timeout of the caches.
            for _ in range(chance.randint(3, 15)):
                relay.hold(feeds=False)
                self._wait(chance, 0.03, 0.14)
                relay.let_go(feeds=False)
                self._wait(chance, 0.0, 0.05)
        relay.let_go(feeds=True)

    def _cut_off(self, user: str, chance: random.Random) -> None:
        """Fail one worker alone. The invalidations of the others are acknowledged meanwhile."""
        self._server.cli("ACL", "SETUSER", user, "off")
        self._server.cli("CLIENT", "KILL", "USER", user)
        self._wait(chance, 0.02, 1.2)
        self._server.cli("ACL", "SETUSER", user, "on")

    def _command(self, name: str, chance: random.Random) -> None:  # noqa: C901 - a list of what there is
        """Send the server a command that hurts its clients."""
        cli = self._server.cli
        if name == "all connections killed":
            self._kill_all()
        elif name == "one connection killed":
            # flags=U marks the connection of this thread, over the unix socket.
            lines = [line for line in cli("CLIENT", "LIST").splitlines() if b" flags=U" not in line]
            if lines:
                self._kill(chance.choice(lines))
        elif name == "connections killed again and again":
            for _ in range(chance.randint(5, 60)):
                self._kill_all()
                self._wait(chance, 0.0, 0.015)
        elif name == "writes refused":
            # Reads are answered, and no invalidation is accepted: the old values stay for as long as the fault lasts.
            cli("CONFIG", "SET", "min-replicas-to-write", 1)
            self._wait(chance, 0.05, 1.2)
            cli("CONFIG", "SET", "min-replicas-to-write", 0)
        elif name == "writes held up":
            cli("CLIENT", "PAUSE", chance.randint(50, 1200), "WRITE")
            self._wait(chance, 0.05, 1.2)
            cli("CLIENT", "UNPAUSE")
        elif name == "scripts forgotten":
            cli("SCRIPT", "FLUSH")
        elif name == "everything flushed":
            since = time.monotonic_ns()
            cli("FLUSHALL")
            self._board.emptied(since)
        elif name in {"all feeds killed", "one feed killed"}:
            lines = [line for line in cli("CLIENT", "LIST").splitlines() if _FEED.search(line)]
            for line in lines if name == "all feeds killed" else chance.choices(lines, k=1) if lines else ():
                self._kill(line)
        else:
            raise NotImplementedError(name)

    def _kill_all(self) -> None:
        for kind in self._types:
            self._server.cli("CLIENT", "KILL", "TYPE", kind)

    def _kill(self, line: bytes) -> None:
        """Kill the client that has this line in CLIENT LIST, if it still exists."""
        self._server.cli("CLIENT", "KILL", "ID", line.split()[0].removeprefix(b"id="))

    def _wait(self, chance: random.Random, shortest: float, longest: float) -> None:
        self._ended.wait(chance.uniform(shortest, longest))
