"""Host names are looked up on a thread of our own, one at a time for each name.

The event loop looks names up on its default executor, which has few threads and also belongs to the application. A
name server that hangs holds each of these threads for many seconds, and a store that is down is connected to again and
again: soon the application's own `asyncio.to_thread` would wait for a cache. So before a connection is made, its name
must have been resolved here. The look-up of the event loop is then sure to end soon.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future
from typing import Final

_running: Final[dict[str, Future[None]]] = {}
_lock: Final = threading.Lock()


async def resolve(host: str) -> None:
    """Wait until an address of ``host`` is known.

    Raises:
        OSError: It has none.
    """
    if _is_address(host):
        return
    with _lock:
        future = _running.get(host)
        if future is None:
            future = _running[host] = Future()
            # A running future cannot be cancelled: a caller that is cancelled must not cancel it for the others.
            future.set_running_or_notify_cancel()
            # A daemon thread, so that a name server that hangs does not keep the interpreter from ending.
            threading.Thread(target=_look_up, args=(host, future), name=f"cachekit {host}", daemon=True).start()
    await asyncio.wrap_future(future)


def _look_up(host: str, future: Future[None]) -> None:
    error: OSError | UnicodeError | None = None
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # For a label that is empty or too long, Python raises UnicodeError before it asks the system.
    except (OSError, UnicodeError) as raised:
        error = raised
    with _lock:
        del _running[host]
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
