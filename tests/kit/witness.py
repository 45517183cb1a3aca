"""A witness of how servers answer: a process of its own asks them all the time, and tells their longest silence.

A test of haste in one process may blame no server. On a busy machine a server may be silent all the same, since it does
not get the processor. The witness has seen that, and failures that follow from it are right.
"""

from __future__ import annotations

import re
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

_PROGRAM: Final = """
import select, socket, sys, time

servers = [socket.create_connection(("127.0.0.1", int(port))) for port in sys.argv[1:]]
longest, last = 0.0, time.monotonic()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    for server in servers:
        server.sendall(b"PING\\r\\n")
        server.recv(100)
    now = time.monotonic()
    longest, last = max(longest, now - last), now
print(longest)
"""


class Witness:
    """Asks the servers of a store while the block lasts.

    Attributes:
        silence: The most seconds between two rounds of answers; 0.0 for a store without servers. Known after the block.
    """

    def __init__(self, store_url: str) -> None:
        self._ports = re.findall(r"127\.0\.0\.1:(\d+)", store_url)
        self._process: subprocess.Popen[str] | None = None
        self.silence = 0.0

    def __enter__(self) -> Self:
        if self._ports:
            command = [sys.executable, "-S", "-c", _PROGRAM, *self._ports]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            said, _ = self._process.communicate("end\n")
            self.silence = float(said)
