"""Real redis-servers for tests: a class that starts, hurts and ends one, and a class for several.

This module is synchronous and bounded by deadlines. All durations are seconds. A test that must
not hold up its event loop calls it as ``await asyncio.to_thread(server.restart)``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.kit.binaries import ServerBinary
from tests.kit.ports import free_port

# Starting takes about 10 ms; a loaded machine may take a hundred times that, never a thousand.
DEADLINE = 10.0
# An agreement of several servers takes a few seconds, and on a loaded machine a second attempt.
PATIENCE = 30.0

_LOG_TAIL = 2000

_Answer = TypeVar("_Answer")


class ServerError(Exception):
    """A server did not do as a test asked. The tail of its log is quoted, if it has one."""


class RedisServer:
    """One redis-server of our own, on a free loopback port and a unix socket, with no data on disk.

    Args:
        binary: The server to run.
        config: Further lines of redis.conf, such as ``"maxmemory 2mb"`` or
            ``"user bob on >secret ~* +@all"``; they come last, so they win.
        password: The default user must give it; `cli` gives it, `url` and `unix_url` lack it.
        port: The port to listen on; a free port unless given.
        sentinel: Whether it is a sentinel, which keeps no data and watches other servers.

    Example:
        >>> with RedisServer(first_server()) as server:
        ...     server.cli("SET", "k", "v")
        ...     server.kill()
        ...     server.restart()
        True
    """

    def __init__(
        self,
        binary: ServerBinary,
        *config: str,
        password: str | None = None,
        port: int | None = None,
        sentinel: bool = False,
    ) -> None:
        self.binary = binary
        self.password = password
        self.port = free_port() if port is None else port
        # Short, since a socket's path has room for about 100 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="cachekit-"))
        self.socket_path = self._folder / "redis.sock"
        self._log = self._folder / "log"
        self._config = config
        self._options = ["--sentinel"] if sentinel else []
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def url(self) -> str:
        """Its URL on TCP, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Its URL on the unix socket, without a password."""
        return f"unix://{self.socket_path}"

    @property
    def running(self) -> bool:
        """Whether its process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def awake(self) -> bool:
        """Whether it is running and not paused."""
        return self.running and not self._paused

    def start(self) -> Self:
        """Start it and wait until it answers PING.

        Raises:
            ServerError: It is running already, ended at once, or did not answer within 10 s.
        """
        if self.running:
            raise self._error("is running already")
        # A file, not arguments: the two major versions quote arguments differently, and ACL lines need a file.
        settings = self._folder / "redis.conf"
        settings.write_text("\n".join([*self._base_config(), *self._config, ""]), encoding="utf-8")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary.path, settings, *self._options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach the tests alone, which then end their servers.
                start_new_session=True,
            )
        self._paused = False
        self._wait_until(self._answers, "did not answer PING")
        return self

    def kill(self) -> None:
        """End it with SIGKILL, paused or not, without a word to clients; a dead one stays dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)

    def stop(self) -> None:
        """End it with SIGTERM, as an operator does: connections are closed in order.

        Raises:
            ServerError: It is not running, or did not end within 10 s.
        """
        process = self._alive()
        process.send_signal(signal.SIGCONT)  # a stopped process does not receive SIGTERM
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise self._error(f"did not end within {DEADLINE:g} s of SIGTERM") from None

    def pause(self) -> None:
        """Hang it with SIGSTOP, and return when it hangs: its sockets accept and nothing answers.

        Raises:
            ServerError: It is not running.
        """
        process = self._alive()
        self._paused = True
        process.send_signal(signal.SIGSTOP)

        def stopped() -> bool:
            pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)
            return pid != 0 and os.WIFSTOPPED(status)

        self._wait_until(stopped, "did not stop at SIGSTOP")

    def resume(self) -> None:
        """Let a paused one go on with SIGCONT, and wait until it answers.

        Raises:
            ServerError: It is not running, or does not answer.
        """
        self._alive().send_signal(signal.SIGCONT)
        self._wait_until(self._answers, "did not answer PING after SIGCONT")
        self._paused = False

    def restart(self) -> None:
        """Start it anew on the same port and socket, empty; a running one is killed first."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it in any state, and remove its folder. May be called twice."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def on_disk(self) -> bytes:
        """Return all that it has written to its folder: its dumps, its append-only file and its log."""
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in sorted(files))

    def cli(self, *args: bytes | str | float) -> Any:
        """Send one command, such as ``cli("SET", "k", "v")``, and return redis-py's reply.

        Strings come back as bytes, and some replies as redis-py's own forms: True for OK.

        Raises:
            redis.RedisError: The server refused the command, or did not answer within 10 s.
        """
        with self._client() as client:
            return client.execute_command(*args)

    def reset(self) -> None:
        """Remove all keys and scripts, so that the next test finds the server empty."""
        with self._client() as client, client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("FLUSHALL")
            pipeline.execute_command("SCRIPT", "FLUSH")
            pipeline.execute()

    def _client(self) -> redis.Redis:
        """Return a client that connects anew, so that the faults of a test hit no connection of the kit."""
        return redis.Redis(
            unix_socket_path=str(self.socket_path),
            password=self.password,
            socket_timeout=DEADLINE,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # else redis-py reads its own version from disk, each time
        )

    def log_tail(self) -> str:
        """Return the last 2000 characters of its log."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
        except FileNotFoundError:
            return "(no log)"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RedisServer {self.binary.label} port={self.port} running={self.running}>"

    def _base_config(self) -> list[str]:
        return [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"unixsocket {self.socket_path}",
            "daemonize no",
            'save ""',
            "appendonly no",
            *([f"requirepass {self.password}"] if self.password is not None else []),
        ]

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise self._error("is not running")
        return self._process

    def _answers(self) -> bool:
        """Tell whether it answers PING. A demand for a password is an answer; LOADING is not."""
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", self.port)),
            (socket.AF_UNIX, str(self.socket_path)),
        ):
            try:
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.settimeout(1.0)
                    probe.connect(address)
                    probe.sendall(b"PING\r\n")
                    if not probe.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM")):
                        return False
            except OSError:
                return False
        return True

    def _wait_until(self, done: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not done():
            if not self.running:
                raise self._error("ended by itself")
            if time.monotonic() > deadline:
                raise self._error(f"{complaint} within {DEADLINE:g} s")
            time.sleep(0.005)

    def _error(self, what: str) -> ServerError:
        return ServerError(f"{self!r} {what}; the end of its log:\n{self.log_tail()}")


class ServerGroup:
    """Several servers that form one system: they are started, asked and ended together.

    Args:
        members: All of them. Paused or dead servers are not asked.
    """

    def __init__(self, members: Sequence[RedisServer]) -> None:
        self.members = members

    def start(self) -> Self:
        """Start them, and wait until they form one system. A failure leaves none of them behind.

        Raises:
            ServerError: One of them did not start, or they did not form one system within 30 s.
        """
        with ExitStack() as undoing:
            undoing.callback(self.close)
            self._start()
            undoing.pop_all()
        return self

    def wait_until_ok(self) -> None:
        """Wait until the servers that are awake agree about their roles, and lack nothing.

        Raises:
            ServerError: They did not agree within 30 s.
        """
        self._wait_for(self._is_ok, "all was well")

    def close(self) -> None:
        """End all of them in any state, and remove their folders. May be called twice."""
        for member in self.members:
            member.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        raise NotImplementedError

    def _is_ok(self) -> bool:
        raise NotImplementedError

    def _wait_for(self, answer: Callable[[], _Answer | None], what: str) -> _Answer:
        """Ask until an answer is true. A server that refuses is asked again."""
        deadline = time.monotonic() + PATIENCE
        refusal: redis.RedisError | None = None
        while time.monotonic() < deadline:
            try:
                if found := answer():
                    return found
                refusal = None
            except redis.RedisError as error:
                refusal = error
            time.sleep(0.01)
        logs = "\n".join(f"{member!r}, the end of its log:\n{member.log_tail()}" for member in self.members)
        raise ServerError(f"waited {PATIENCE:g} s until {what}, in vain:\n{logs}") from refusal


class ServerPool:
    """The servers that tests share: one per binary, started when first asked for."""

    def __init__(self) -> None:
        self._servers: dict[ServerBinary, RedisServer] = {}

    def empty(self, binary: ServerBinary) -> RedisServer:
        """Return the shared server of ``binary``, emptied.

        Raises:
            ServerError: An earlier test has ended it. A test that hurts a server takes one of its own.
        """
        server = self._servers.get(binary)
        if server is None:
            server = self._servers[binary] = RedisServer(binary)
            server.start()
        elif not server.running:
            message = f"{server!r} is shared, and a test ended it; take `own_server` for that"
            raise ServerError(message)
        server.reset()
        return server

    def close(self) -> None:
        """End all of them."""
        for server in self._servers.values():
            server.close()
