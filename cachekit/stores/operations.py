"""What travels on a lane: commands that are sent together, their deadline, and the future of their replies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any, Final, Protocol

from hiredis import pack_command
from msgspec import Struct

from cachekit.errors import StoreError
from cachekit.stores.deadlines import Deadline, Deadlines
from cachekit.stores.translate import garbage_error, timeout_error, translate


class Carrier(Protocol):
    """What an operation tells the lane that it is in."""

    def watch(self) -> None:
        """Watch the connection, since something on it is late."""
        ...

    def give_up(self, reason: StoreError) -> None:
        """Close the connection, since it is of no use."""
        ...


class Delivery(Struct, frozen=True):
    """How an operation may be sent, and what may come back.

    Args:
        repeatable: It may be sent once more on a new connection when the first broke: true for what has
            the same effect twice.
        detached: It is sent though its caller is gone: an invalidation is never taken back.
        of_bytes: Its reply is bytes or None, or an error. Any other gives the connection up at once, before what
            comes behind it is taken for somebody else's answer.
    """

    repeatable: bool = False
    detached: bool = False
    of_bytes: bool = False


ONCE: Final = Delivery()
REPEATABLE: Final = Delivery(repeatable=True)


class Script:
    """A script of the folder ``lua/``, called by its digest: the server has it after the first call."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def source(self) -> bytes:
        return files("cachekit.stores").joinpath(f"lua/{self._name}.lua").read_bytes()

    @cached_property
    def digest(self) -> str:
        # The name that Redis gives a script; nothing secret depends on it.
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


class Operation:
    """Commands that are sent together, and the future of their replies.

    Args:
        key: Decides where in a cluster it is sent.
        packed: The commands in RESP.
        replies: How many replies they bring.
        deadline: When it fails.
        delivery: How it may be sent.

    Its ``future`` gets the reply, or a list of them if there are several.
    """

    # Of most operations this is how it is; attributes that are not set cost nothing.
    lane: Carrier | None = None
    resent: bool = False
    """Whether a lane that broke handed it on; it is handed on no further."""
    redirections: int = 0
    asking_length: int = 0

    def __init__(self, key: str, packed: bytes, replies: int, deadline: Deadline, delivery: Delivery = ONCE) -> None:
        self.key: str = key
        self.packed: bytes = packed
        self.replies: int = replies
        self.deadline: float = deadline.at
        # Copied, since a lane looks at them for each operation.
        self.repeatable: bool = delivery.repeatable
        self.detached: bool = delivery.detached
        self.of_bytes: bool = delivery.of_bytes
        self.future: asyncio.Future[Any] = deadline.deadlines.loop.create_future()
        self._deadlines = deadline.deadlines
        self._deadlines.add(self)

    def succeed(self, reply: object) -> None:
        if self.of_bytes and not (reply is None or isinstance(reply, (bytes, Exception))):
            self.fail_as_garbage()
            return
        self._deadlines.pending.discard(self)
        if not self.future.done():
            self.future.set_result(reply)

    def fail_as_garbage(self) -> None:
        """Fail, since the reply is no answer, and have the connection given up."""
        error = garbage_error(self._deadlines.address)
        self.fail(error)
        if self.lane is not None:
            self.lane.give_up(error)

    def fail(self, error: StoreError) -> None:
        self._deadlines.pending.discard(self)
        if not self.future.done():
            self.future.set_exception(error)
            # A caller that is cancelled in this very turn never looks: that is no reason for a log line.
            self.future.exception()

    def add_asking(self, asking: bytes) -> None:
        """Let ``asking``, a command whose reply nobody waits for, go before the rest."""
        self.packed = asking + self.packed
        self.replies += 1
        self.asking_length = len(asking)

    def remove_asking(self) -> None:
        """Leave out again what `add_asking` put before the rest."""
        if self.asking_length:
            self.packed = self.packed[self.asking_length :]
            self.replies -= 1
            self.asking_length = 0

    def result_of(self, replies: list[object]) -> object:
        """Return what the future gets, out of several replies."""
        if self.asking_length:
            replies = replies[1:]
        return replies[0] if len(replies) == 1 else replies

    def expire(self) -> None:
        """Fail, since the deadline is over, and have the lane that it is in watch its connection."""
        if self.lane is not None:
            self.lane.watch()
        self.fail(timeout_error(self._deadlines.address))

    @property
    def wanted(self) -> bool:
        return self.detached or not self.future.done()


class Read(Operation):
    """A GET, whose future gets bytes or None. With others it travels as one MGET, unless it is ``alone``."""

    packed: bytes = b""
    replies: int = 1
    repeatable: bool = True
    detached: bool = False
    alone: bool = False

    # No `Deadline` and no `super()`: a hit makes no value and no call that it can do without.
    def __init__(self, key: str, deadline: float, deadlines: Deadlines) -> None:
        self.key: str = key
        self.deadline: float = deadline
        self.future: asyncio.Future[Any] = deadlines.loop.create_future()
        self._deadlines = deadlines
        deadlines.add(self)

    def succeed(self, reply: object) -> None:
        if reply is None or type(reply) is bytes:
            self._deadlines.pending.discard(self)
            if not self.future.done():
                self.future.set_result(reply)
        elif isinstance(reply, Exception):
            self.fail(translate(reply, self._deadlines.address))
        else:
            self.fail_as_garbage()

    def pack(self) -> None:
        """Write the command, which nobody needs of those that travel together."""
        if not self.packed:
            self.packed = pack("GET", self.key)


class Pipeline(Operation):
    """Commands that are no transaction: each has to be preceded by its own ASKING, which holds for one command."""

    def __init__(self, key: str, commands: Sequence[bytes], deadline: Deadline, delivery: Delivery = ONCE) -> None:
        super().__init__(key, b"".join(commands), len(commands), deadline, delivery)
        self._commands = commands

    def add_asking(self, asking: bytes) -> None:
        self.packed: bytes = b"".join([asking + command for command in self._commands])
        self.replies: int = 2 * len(self._commands)
        self.asking_length: int = len(asking)

    def remove_asking(self) -> None:
        if self.asking_length:
            self.packed = b"".join(self._commands)
            self.replies = len(self._commands)
            self.asking_length = 0

    def result_of(self, replies: list[object]) -> object:
        return replies[1::2] if self.asking_length else replies


class ScriptCall(Struct, frozen=True):
    """A script, its keys and its arguments."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[bytes | int, ...]

    def by_digest(self) -> bytes:
        """Return the call in RESP, for a server that has the script."""
        return pack("EVALSHA", self.script.digest, len(self.keys), *self.keys, *self.arguments)

    def by_source(self) -> bytes:
        """Return the call in RESP with the script itself: EVAL leaves it at the server."""
        return pack("EVAL", self.script.source, len(self.keys), *self.keys, *self.arguments)


class Scripted(Operation):
    """A call of a script by its digest. A server that has forgotten it gets it with the same call, once more."""

    source_sent: bool = False

    def __init__(self, key: str, call: ScriptCall, deadline: Deadline, delivery: Delivery = ONCE) -> None:
        super().__init__(key, call.by_digest(), 1, deadline, delivery)
        self._call = call

    def send_source(self) -> None:
        """Send the script itself from now on."""
        self.source_sent = True
        self.packed: bytes = self.packed[: self.asking_length] + self._call.by_source()


class MultiGet:
    """Reads that travel as one MGET; a key that is asked for twice travels once.

    A key that holds something of another kind is answered as if it held nothing.
    """

    __slots__ = ("packed", "reads", "replies")

    def __init__(self, reads: list[Read]) -> None:
        self.reads: list[Read] = reads
        self.replies: int = 1
        self.packed: bytes = pack("MGET", *dict.fromkeys([read.key for read in reads]))

    def result_of(self, replies: list[object]) -> object:
        """Return the one reply there is."""
        return replies[0]

    def succeed(self, reply: object) -> None:
        reads = self.reads
        if isinstance(reply, list) and len(reply) == len(reads):
            # As many values as callers, so no key was asked for twice.
            for read, value in zip(reads, reply, strict=True):
                read.succeed(value)
            return
        keys = dict.fromkeys([read.key for read in reads])
        if isinstance(reply, list) and len(reply) == len(keys):
            found = dict(zip(keys, reply, strict=True))
        else:
            # No answer to what was asked; each read is told so.
            found = dict.fromkeys(keys, reply)
        for read in reads:
            read.succeed(found[read.key])


def pack(*command: str | bytes | int) -> bytes:
    """Return ``command`` in RESP; hiredis writes it in a sixth of the time of redis-py's own packer.

    Raises:
        UnicodeEncodeError: A part is text with a lone surrogate.
    """
    written: bytes = _hiredis_pack(command)
    return written


# Its stub knows tuples of one item only.
_hiredis_pack: Final[Any] = pack_command
