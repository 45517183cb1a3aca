"""Free loopback ports, each given once: no two processes of a user, with one TMPDIR, are given the same."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Since 7.0 the bus of a cluster's node may have any port; in 6.2 it is this far above the node's own.
BUS = 10_000
# Ports that a process takes for itself at a time.
BLOCK = 100


class NoPortError(Exception):
    """No port was found free."""


def _ephemeral_floor() -> int:
    """Return the lowest port that the system hands out by itself."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return 49152  # IANA recommends this, and macOS does it


def _starts() -> list[int]:
    """Return the first ports of the blocks. The ports `BUS` above a block are for buses, and never a block."""
    floor = _ephemeral_floor()
    first = 10_000 if floor >= 10_000 + 2 * BUS else 45_000
    return list(range(first, first + BUS, BLOCK))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class _Block:
    """A block of ports that only this process gives out.

    A port is bound some time after it was found free. Two test processes that look at the same moment would find
    the same port free, so each locks a file that stands for its ports. The lock ends with the process.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        folder = Path(tempfile.gettempdir()) / f"cachekit-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        starts = _starts()
        for start in random.sample(starts, len(starts)):
            lock = os.open(folder / str(start), os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            self._lock = lock
            self._ports = list(range(start, start + BLOCK))
            random.shuffle(self._ports)
            return
        message = f"all {len(starts)} blocks of ports are in use; the files in {folder} are their locks"
        raise NoPortError(message)

    def close(self) -> None:
        """Leave the ports to others."""
        os.close(self._lock)

    def give(self) -> int:
        """Return a port that is free now."""
        # A port that was given long ago is tried again; it is free if its server has ended.
        for _ in range(BLOCK):
            port = self._ports.pop(0)
            self._ports.append(port)
            if _is_free(port) and _is_free(port + BUS):
                return port
        message = f"none of the ports {min(self._ports)} to {max(self._ports)} is free"
        raise NoPortError(message)


_block: _Block | None = None


def free_port() -> int:
    """Return a free loopback port outside the range that the system hands out by itself.

    A port of that range can be taken by any outgoing connection while its server is down, and a
    client that keeps connecting to a dead server in that range can end up connected to itself.
    The port `BUS` above it is free, too: the nodes of a cluster talk to each other on it.

    Raises:
        NoPortError: None is free.
    """
    global _block  # noqa: PLW0603 - one block for each process
    # A process that was forked has its parent's block, and must not use it.
    if _block is not None and _block.process != os.getpid():
        # The lock stays with the parent, which still has it open.
        _block.close()
        _block = None
    if _block is None:
        _block = _Block()
    return _block.give()
