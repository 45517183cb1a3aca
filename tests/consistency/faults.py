"""What is done to the server, to connections and to workers: one fault at a time, and healed after each."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from redis.exceptions import RedisError

from tests.consistency.board import Board
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
_AT_ONCE: Final = {
    "all connections killed": ("CLIENT", "KILL", "TYPE", "normal"),
    "feeds killed": ("CLIENT", "KILL", "TYPE", "pubsub"),
    "scripts forgotten": ("SCRIPT", "FLUSH"),
    "everything removed": ("FLUSHALL",),
}
"""Faults that are one command."""

NEAR_WEIGHTS: Final = {
    **WEIGHTS,
    "feeds killed": 12,
    "everything removed": 6,
    "worker paused for long": 10,
}
"""When results are kept near as well: what they lean on is hurt, too."""


def user_of(slot: int) -> str:
    """Return the name by which the server knows one worker."""
    return f"worker{slot}"


class Workers(Protocol):
    """What can be done to workers."""

    def kill(self, slot: int) -> None: ...
    def pause(self, slot: int) -> None: ...
    def resume(self, slot: int) -> None: ...


class Faults(threading.Thread):
    """Does faults until it is ended, and leaves the server healed.

    Args:
        server: To be hurt.
        board: Tells who is loading.
        workers: To be hurt as well.
        seed: Of the choice of faults, their lengths, and the pauses between.
        note: Gets what is done.
        near: Whether results are kept near as well.
    """

    def __init__(
        self,
        server: RedisServer,
        board: Board,
        workers: Workers,
        seed: int,
        note: Callable[[str], None],
        *,
        near: bool = False,
    ) -> None:
        super().__init__(name="faults")
        self.done: Counter[str] = Counter()
        self.trouble: Exception | None = None
        self._server = server
        self._board = board
        self._workers = workers
        self._random = random.Random(f"{seed}/faults")
        self._note = note
        self._weights = NEAR_WEIGHTS if near else WEIGHTS
        self._ended = threading.Event()

    def end(self) -> None:
        """End, after the fault that is going on; raise what went wrong with the faults themselves."""
        self._ended.set()
        self.join()
        if self.trouble is not None:
            raise self.trouble

    def run(self) -> None:
        names, weights = [*self._weights], [*self._weights.values()]
        try:
            while not self._ended.wait(self._random.uniform(0.05, 0.8)):
                # Each fault draws from its own source, so that how one goes does not change which is next.
                chance = random.Random(self._random.getrandbits(64))
                name = self._random.choices(names, weights)[0]
                self._note(f"fault begins: {name}")
                self._do(name, chance)
                self._note(f"fault ended: {name}")
                self.done[name] += 1
        except (ServerError, RedisError, OSError) as error:
            self.trouble = error

    def _do(self, name: str, chance: random.Random) -> None:
        slot = chance.randrange(self._board.workers)
        if name == "worker killed in a load":
            # Whoever loads holds a lease, or the store is down.
            for _ in range(2000):
                if self._board.is_loading(slot) or self._ended.wait(0.0005):
                    break
            self._workers.kill(slot)
        elif name == "worker paused":
            self._workers.pause(slot)
            self._wait(chance, 0.05, 1.0)
            self._workers.resume(slot)
        elif name == "worker paused for long":
            # Longer than what is near may be served without a word from Redis.
            self._workers.pause(slot)
            self._wait(chance, 1.0, 2.5)
            self._workers.resume(slot)
        elif name == "server paused":
            self._server.pause()
            self._wait(chance, 0.02, 1.6)
            self._server.resume()
        elif name == "server killed, restarted empty":
            self._server.kill()
            self._wait(chance, 0.0, 0.6)
            self._server.restart()
        elif name == "one worker cut off":
            self._cut_off(user_of(slot), chance)
        else:
            self._command(name, chance)

    def _cut_off(self, user: str, chance: random.Random) -> None:
        """Fail one worker alone: what the others invalidate meanwhile is acknowledged."""
        self._server.cli("ACL", "SETUSER", user, "off")
        self._server.cli("CLIENT", "KILL", "USER", user)
        self._wait(chance, 0.02, 1.2)
        self._server.cli("ACL", "SETUSER", user, "on")

    def _command(self, name: str, chance: random.Random) -> None:
        """Do what the server does to its clients when it is told to."""
        cli = self._server.cli
        if name in _AT_ONCE:
            cli(*_AT_ONCE[name])
        elif name == "one connection killed":
            # flags=U: this thread's own, over the unix socket.
            lines = [line for line in cli("CLIENT", "LIST").splitlines() if b" flags=U" not in line]
            if lines:
                cli("CLIENT", "KILL", "ID", chance.choice(lines).split()[0].removeprefix(b"id="))
        elif name == "connections killed again and again":
            for _ in range(chance.randint(5, 60)):
                cli("CLIENT", "KILL", "TYPE", "normal")
                self._wait(chance, 0.0, 0.015)
        elif name == "writes refused":
            # Reads are answered, and no invalidation is taken: the old values stay for as long as this lasts.
            cli("CONFIG", "SET", "min-replicas-to-write", 1)
            self._wait(chance, 0.05, 1.2)
            cli("CONFIG", "SET", "min-replicas-to-write", 0)
        elif name == "writes held up":
            cli("CLIENT", "PAUSE", chance.randint(50, 1200), "WRITE")
            self._wait(chance, 0.05, 1.2)
            cli("CLIENT", "UNPAUSE")
        else:
            raise NotImplementedError(name)

    def _wait(self, chance: random.Random, shortest: float, longest: float) -> None:
        self._ended.wait(chance.uniform(shortest, longest))
