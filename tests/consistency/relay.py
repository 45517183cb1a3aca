"""Stands between some workers and the server, and can keep back reports to feeds, or replies on other connections.

With stale windows it also cuts what a worker writes at once, as a network may: other commands come in between. Which
of two commands of one write is the first is of no effect otherwise.

A connection that dies is noticed. The bound on near hits is for a connection on which nothing comes any more, while all
others go on. The marks of the near tier are for a reply that the report of its own change has overtaken. No command to
the server causes either of the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import Final

_MOST: Final = 65536

CUT: Final = 0.5
"""The part of the writes that are cut."""

APART: Final = 0.02
"""Seconds between the two parts, at most."""


class Relay:
    """Passes bytes on, in a thread of its own, until it is closed.

    Args:
        target: The port of the server, on this machine.
        seed: The seed of the places at which it cuts; None if it does not cut.
    """

    def __init__(self, target: int, seed: int | None = None) -> None:
        self._target = target
        self._chance = None if seed is None else random.Random(f"{seed}/relay")
        self._loop = asyncio.new_event_loop()
        self._feeds = asyncio.Event()
        self._feeds.set()
        self._others = asyncio.Event()
        self._others.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def hold(self, *, feeds: bool) -> None:
        """From now on keep back reports of the server to feeds, or its replies on other connections."""
        self._loop.call_soon_threadsafe((self._feeds if feeds else self._others).clear)

    def let_go(self, *, feeds: bool) -> None:
        """Pass on the bytes that were kept back, and all that follow."""
        self._loop.call_soon_threadsafe((self._feeds if feeds else self._others).set)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        # The transports need a turn to close their sockets.
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feed = asyncio.Event()
        try:
            # An error on one side ends both.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
                ways = [
                    asyncio.create_task(self._requests(reader, to_server, feed)),
                    asyncio.create_task(self._replies(from_server, writer, feed)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    to_server.transport.abort()
        finally:
            writer.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, feed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_MOST):
                if b"TRACKING" in data:
                    feed.set()
                if self._chance is not None and self._chance.random() < CUT:
                    at = self._chance.randrange(len(data))
                    writer.write(data[:at])
                    await asyncio.sleep(self._chance.uniform(0, APART))
                    data = data[at:]
                writer.write(data)

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, feed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_MOST):
                await (self._feeds if feed.is_set() else self._others).wait()
                writer.write(data)
