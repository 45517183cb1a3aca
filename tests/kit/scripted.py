"""A server that answers every command with the same line, in the place of a real one, until the line is removed.

It is for lines that a real server sends only in rare states: LOADING, CLUSTERDOWN, MOVED.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import hiredis

CHUNK: Final = 65_536


class ScriptedServer:
    r"""Speaks RESP on a free loopback port; passes commands on to a real server until it gets a line of its own.

    It runs in the test's own event loop. On each connection a command that is passed on is answered before the next
    one is looked at, so that replies keep their order.

    Args:
        target_port: The port of the real server, on loopback.
        always: Commands, in upper case, that are never passed on, and the replies that they always get, in RESP.

    Attributes:
        port: The port of this server.
        answer: Its answer to every other command, in RESP. With None the real server answers.

    Example:
        >>> async with ScriptedServer(server.port) as scripted:
        ...     scripted.answer = b"-LOADING Redis is loading the dataset in memory\r\n"
        ...     await use(f"redis://127.0.0.1:{scripted.port}")
        ...     scripted.answer = None
    """

    def __init__(self, target_port: int, always: Mapping[bytes, bytes] | None = None) -> None:
        self.port = 0
        self.answer: bytes | None = None
        self.always = dict(always or {})
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of this server."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        # It comes last: from Python 3.12 on it waits for every connection.
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # A task that is cancelled before its first step runs none of its own code, so this callback stands outside.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        real_reader, real_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        commands = hiredis.Reader()
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(CHUNK):
                    commands.feed(data)
                    for here, group in itertools.groupby(iter(commands.gets, False), self._answer):
                        several = [*group]
                        if here is None:
                            real_writer.writelines([hiredis.pack_command(tuple(command)) for command in several])
                            writer.write(await _replies(real_reader, len(several)))
                        else:
                            writer.write(here * len(several))
                    await writer.drain()
        finally:
            real_writer.close()

    def _answer(self, command: list[bytes]) -> bytes | None:
        """Return the answer of this server. With None the command is passed on."""
        return self.always.get(command[0].upper(), self.answer)


async def _replies(reader: asyncio.StreamReader, number: int) -> bytes:
    """Return the bytes of so many replies. No other command is under way, so all bytes until they are whole."""
    parser = hiredis.Reader()
    raw = b""
    while number:
        data = await reader.read(CHUNK)
        if not data:
            raise ConnectionResetError
        raw += data
        parser.feed(data)
        while number and parser.gets() is not False:
            number -= 1
    return raw
