"""A TCP proxy for tests. It stands between a client and a real server, and causes the faults of networks.

It runs in the test's own event loop, on plain sockets: a reset is a reset, and not merely an end. All durations
are seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self, TypeAlias

from tests.kit.ports import free_port

CHUNK: Final = 65_536
BACKLOG: Final = 128
# The answer of a server of another kind; no reply of Redis begins with an H.
GARBAGE: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"

Rewrite: TypeAlias = Callable[[bytes], bytes]


class Fault(Enum):
    """The faults that the proxy causes, on connections and on attempts to connect."""

    NONE = auto()
    """Everything is passed on."""
    REFUSE = auto()
    """Nothing listens, so that a connect is refused; connections that exist are reset."""
    RESET = auto()
    """Connections that exist are reset (RST). New ones are accepted and reset at once."""
    HALF_OPEN = auto()
    """Bytes are swallowed, nothing ever comes back and nothing is closed: the peer has vanished."""
    BLACK_HOLE = auto()
    """A connect hangs, since its SYN is dropped; connections that exist are as with HALF_OPEN. Linux only."""
    HOLD = auto()
    """Requests are held back until another fault is set, and arrive then, also if their client has gone meanwhile."""
    DELAY = auto()
    """Each chunk of replies is held back for some seconds. Chunks that arrive meanwhile wait behind it."""
    DRIP = auto()
    """Replies arrive one byte at a time, with a pause of some seconds after each."""
    TRUNCATE = auto()
    """The first half of a chunk of replies arrives, then the connection is closed in order (FIN)."""
    GARBAGE = auto()
    """Each chunk of replies is replaced by bytes that are no RESP."""
    REWRITE = auto()
    """Each chunk of replies is passed through the proxy's ``rewrite``. A short reply is one chunk."""


# With these faults nobody can connect.
UNREACHABLE: Final = {Fault.REFUSE, Fault.BLACK_HOLE}


class FaultProxy:
    """A proxy on a free loopback port that passes everything on until a fault is set.

    When the server itself is down, a connection is accepted and reset.

    Args:
        target_port: The port of the server.
        target_host: Its address.
        rewrite: Gets a chunk of replies, and returns what the client gets, with REWRITE.

    Attributes:
        port: The port of the proxy.
        accepted: How many connections it has accepted so far, even if it reset them at once.
        seen: Everything that clients and server have sent, in the order in which it came.

    Example:
        >>> async with FaultProxy(server.port) as proxy:
        ...     await proxy.set(Fault.DELAY, seconds=0.1)
        ...     await use(proxy.url)
        ...     await proxy.heal()
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", *, rewrite: Rewrite = bytes) -> None:
        self.port = free_port()
        self.accepted = 0
        self.seen = bytearray()
        self._target = (target_host, target_port)
        self.rewrite = rewrite
        self._fault = Fault.NONE
        self._seconds = 0.0
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        # The sockets that listen, and the sockets that only fill the queue of a listening one.
        self._door: list[socket.socket] = []

    @property
    def url(self) -> str:
        """The URL of the proxy, in the form of the server's URL without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def open(self) -> int:
        """How many connections neither side has closed. A close by a client is seen in a later turn of the loop."""
        return len(self._connections)

    async def set(self, fault: Fault, *, seconds: float = 0.05, existing: bool = True, new: bool = True) -> None:
        """Put ``fault`` in force, and return then. It applies first to bytes that the last fault held back.

        A connection exists as soon as the client's connect has succeeded. A connection that has met HALF_OPEN,
        BLACK_HOLE or TRUNCATE stays dead under all later faults, until its client closes it or a fault resets it.

        Args:
            fault: The fault from now on.
            seconds: How long DELAY holds back, or DRIP pauses.
            existing: Whether it applies to connections that exist.
            new: Whether it applies to connections to come.
        """
        self._accept()
        if new:
            before, self._fault, self._seconds = self._fault, fault, seconds
            if before is not fault and {before, fault} & UNREACHABLE:
                await self._set_door()
        if not existing:
            return
        if fault in {Fault.REFUSE, Fault.RESET}:
            await self._end_connections(reset=True)
        for connection in self._connections.values():
            connection.switch(fault, seconds)

    async def heal(self) -> None:
        """Pass everything on again. Bytes that were held back arrive at once; swallowed bytes never do."""
        await self.set(Fault.NONE)

    async def close(self) -> None:
        """Stop listening, and end all connections. May be called twice."""
        self._close_door()
        await self._end_connections(reset=False)

    async def __aenter__(self) -> Self:
        await self._set_door()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy port={self.port} {self._fault.name} accepted={self.accepted} open={self.open}>"

    async def _set_door(self) -> None:
        """Listen, or not, or with a full queue, as the fault for new connections requires."""
        self._close_door()
        if self._fault is Fault.REFUSE:
            return
        listener = _tcp_socket()
        self._door.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        if self._fault is Fault.BLACK_HOLE:
            await self._fill(listener)
        else:
            listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(listener, self._accept)

    async def _fill(self, listener: socket.socket) -> None:
        """Listen, never accept, and take the only place in the queue.

        With a backlog of 0 Linux queues one connection. While that waits to be accepted, each further SYN is dropped;
        the clients' systems repeat theirs after 1 s, 3 s, 7 s and so on.
        """
        listener.listen(0)
        filler = _tcp_socket()
        self._door.append(filler)
        await asyncio.get_running_loop().sock_connect(filler, listener.getsockname())
        # For a listening socket, TCP_INFO has the length of the queue in the place of tcpi_unacked.
        while not struct.unpack_from("=I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 24)[0]:
            await asyncio.sleep(0)

    def _close_door(self) -> None:
        for part in self._door:
            asyncio.get_running_loop().remove_reader(part)
            part.close()
        self._door.clear()

    def _accept(self) -> None:
        """Accept all clients that have connected."""
        while self._fault not in UNREACHABLE:
            try:
                client, _ = self._door[0].accept()
            except BlockingIOError:
                return
            self.accepted += 1
            if self._fault is Fault.RESET:
                _reset_when_closed(client)
                client.close()
                continue
            connection = _Connection(client, self._target, self._fault, self._seconds, self)
            self._connections[connection.task] = connection
            connection.task.add_done_callback(self._connections.pop)

    async def _end_connections(self, *, reset: bool) -> None:
        ending = list(self._connections.values())
        for connection in ending:
            connection.end(reset=reset)
        if ending:
            await asyncio.wait([connection.task for connection in ending])


class _Connection:
    """One client's connection, and the one to the server behind it; `task` ends with them."""

    def __init__(
        self, client: socket.socket, target: tuple[str, int], fault: Fault, seconds: float, proxy: FaultProxy
    ) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each chunk, and each dripped byte, at once
        self._client = client
        self._fault = fault
        self._seconds = seconds
        self._seen = proxy.seen
        self._rewrite = proxy.rewrite
        self._dead = fault is Fault.HALF_OPEN
        self._switched = asyncio.Event()
        self.task = asyncio.create_task(self._run(target))
        # A task that is cancelled before its first step runs none of its own code, so this callback stands outside.
        self.task.add_done_callback(lambda _: client.close())

    def switch(self, fault: Fault, seconds: float) -> None:
        """Put ``fault`` in force, for bytes that are held back as well."""
        self._fault, self._seconds = fault, seconds
        self._dead |= fault in {Fault.HALF_OPEN, Fault.BLACK_HOLE}
        self._switched.set()
        self._switched = asyncio.Event()

    def end(self, *, reset: bool) -> None:
        """Close it soon, by a reset or in order."""
        if reset:
            _reset_when_closed(self._client)
        self.task.cancel()

    async def _run(self, target: tuple[str, int]) -> None:
        await self._pass_on(target)
        with contextlib.suppress(OSError):
            while self._dead and await asyncio.get_running_loop().sock_recv(self._client, CHUNK):
                pass  # swallowed, until the client gives up

    async def _pass_on(self, target: tuple[str, int]) -> None:
        try:
            with _tcp_socket() as server:
                await asyncio.get_running_loop().sock_connect(server, target)
                async with asyncio.TaskGroup() as group:
                    ways = [group.create_task(self._requests(server)), group.create_task(self._replies(server))]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in ways:
                        way.cancel()
        except* OSError:
            if not self._dead:
                _reset_when_closed(self._client)

    async def _requests(self, server: socket.socket) -> None:
        requests: asyncio.Queue[bytes] = asyncio.Queue()
        held = False
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_in(requests))
            while request := await requests.get():
                while self._fault is Fault.HOLD:
                    held = True
                    await self._switched.wait()
                if not self._dead:
                    await asyncio.get_running_loop().sock_sendall(server, request)
        if held:
            # The client has gone. The server carries out what it has got, and closes.
            server.shutdown(socket.SHUT_WR)
            await asyncio.Event().wait()

    async def _take_in(self, requests: asyncio.Queue[bytes]) -> None:
        try:
            while request := await asyncio.get_running_loop().sock_recv(self._client, CHUNK):
                self._seen += request
                requests.put_nowait(request)
        finally:
            requests.put_nowait(b"")

    async def _replies(self, server: socket.socket) -> None:
        while reply := await asyncio.get_running_loop().sock_recv(server, CHUNK):
            self._seen += reply
            while reply:
                reply = await self._deliver(reply)

    async def _deliver(self, reply: bytes) -> bytes:
        """Apply the fault to ``reply``, and return the rest of it, for the next fault or the same."""
        match self._fault:
            case _ if self._dead:
                pass
            case Fault.DELAY if await self._is_switched_within(self._seconds):
                return reply
            case Fault.DRIP:
                await self._send(reply[:1])
                if len(reply) > 1:
                    await self._is_switched_within(self._seconds)
                return reply[1:]
            case Fault.TRUNCATE:
                await self._send(reply[: (len(reply) + 1) // 2])
                # A close while requests are unread would be a reset: its own end is closed, theirs is read on.
                self._client.shutdown(socket.SHUT_WR)
                self._dead = True
            case Fault.REWRITE:
                await self._send(self._rewrite(reply))
            case Fault.GARBAGE:
                await self._send(GARBAGE)
            case _:
                await self._send(reply)
        return b""

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._client, data)

    async def _is_switched_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._switched.wait()
        except TimeoutError:
            return False


def _tcp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def _reset_when_closed(sock: socket.socket) -> None:
    """Let the close of ``sock`` send a RST instead of a FIN, even if bytes are still to be sent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
