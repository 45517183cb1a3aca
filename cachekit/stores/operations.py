"""Operations: commands that travel on a lane together, their deadline, and the future of their replies."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.resources import files
from itertools import chain
from typing import Any, Final, Protocol, cast

from hiredis import pack_command
from msgspec import Struct

from cachekit.errors import StoreError, UnconfirmedError
from cachekit.stores.base import TaggedValue, Want
from cachekit.stores.deadlines import Deadline, Deadlines, Judge
from cachekit.stores.translate import congested_error, garbage_error, timeout_error, translate


class Carrier(Judge, Protocol):
    """The lane that an operation is in, seen from the operation."""

    def give_up(self, reason: StoreError) -> None:
        """Close the connection, because it is useless."""
        ...


class Delivery(Struct, frozen=True):
    """How an operation may be sent, and which replies are possible.

    Args:
        repeatable: The operation may be sent once more on a new connection when the first broke. True if it has
            the same effect twice.
        detached: The operation is sent though its caller is gone. An invalidation is never taken back.
        of_bytes: The reply is bytes, None or an error. Any other reply gives the connection up at once, before the
            reply behind it is taken for the answer to another caller.
    """

    repeatable: bool = False
    detached: bool = False
    of_bytes: bool = False


FILL: Final = 5.0
"""Seconds after which a fill is not waited for: the default lease, without which it means nothing."""

ONCE: Final = Delivery()
"""Sent at most once, and only for a caller that waits."""

REPEATABLE: Final = Delivery(repeatable=True)

FENCED: Final = Delivery(detached=True)
"""Of an operation that checks the token of a lease, which is the fence: it does no harm though it is late."""


class Source:
    """A script of the folder ``lua/``, called by its digest: the server has it after the first call."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def text(self) -> bytes:
        return files("cachekit.stores").joinpath(f"lua/{self._name}.lua").read_bytes()

    @cached_property
    def digest(self) -> str:
        # Redis names a script by this digest; nothing secret depends on it.
        return hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class Operation:
    """Commands that are sent together, and the future of their replies.

    Args:
        key: Decides where in a cluster it is sent.
        packed: The commands in RESP.
        replies: How many replies the server sends to them.
        deadline: When it fails.
        delivery: How it may be sent.

    Its ``future`` gets the reply, or a list of them if there are several.
    """

    # Most operations keep these defaults: a class attribute costs nothing when an operation is made.
    lane: Carrier | None = None
    resent: bool = False
    """Whether a lane that broke has handed it on. It is handed on once."""
    redirections: int = 0
    """How often a node of a cluster has sent it on."""
    of_many: bool = False
    """Whether it is of other keys as well."""
    queued: bool = False
    """Whether it had to queue behind a whole batch or more."""
    queued_bytes: int = 0
    """How many bytes the queue of its lane counts for it."""
    queued_since: float | None = None
    """How long its lane had waited for its server when its time was over and it was still in the queue."""
    urgent: bool = False
    """Whether it is sent before what is queued already."""
    asking_length: int = 0
    """The length of the ASKING before its commands; 0 when there is none."""

    def __init__(self, key: str, packed: bytes, replies: int, deadline: Deadline, delivery: Delivery = ONCE) -> None:
        self.key: str = key
        self.packed: bytes = packed
        self.replies: int = replies
        self.deadline: float = deadline.at
        self._limit = deadline
        # Copied, since a lane reads them for each operation.
        self.repeatable: bool = delivery.repeatable
        self.detached: bool = delivery.detached
        self.of_bytes: bool = delivery.of_bytes
        self.future: asyncio.Future[Any] = deadline.deadlines.create_future()
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
        """Fail, because the reply is no answer to the commands, and give the connection up."""
        error = garbage_error(self._deadlines.address)
        self.fail(error)
        if self.lane is not None:
            self.lane.give_up(error)

    def fail(self, error: StoreError) -> None:
        self._deadlines.pending.discard(self)
        if not self.future.done():
            self.future.set_exception(error)
            # A caller that is cancelled in this turn never reads the exception. asyncio would log that.
            self.future.exception()

    def add_asking(self, asking: bytes) -> None:
        """Send ``asking`` before the commands. Its reply is dropped."""
        self.packed = asking + self.packed
        self.replies += 1
        self.asking_length = len(asking)

    def remove_asking(self) -> None:
        """Undo `add_asking`."""
        if self.asking_length:
            self.packed = self.packed[self.asking_length :]
            self.replies -= 1
            self.asking_length = 0

    def result_of(self, replies: list[object]) -> object:
        """Return the result for the future, from several replies."""
        if self.asking_length:
            replies = replies[1:]
        return replies[0] if len(replies) == 1 else replies

    @property
    def began(self) -> float:
        """When its caller asked, by the clock of the event loop."""
        return self._limit.began

    @property
    def patience(self) -> float:
        """Seconds of silence that are held against the server."""
        return self._limit.patience

    @property
    def due(self) -> float:
        """When it has had its time, without that in which the event loop stood still."""
        return self._limit.at + self._deadlines.stalled(self.began)

    def expire(self) -> None:
        """Fail, because the server has not answered by the deadline."""
        self.fail(timeout_error(self._deadlines.address))

    def expire_congested(self) -> None:
        """Fail, because the deadline has passed and the server is not to blame."""
        self.fail(congested_error(self._deadlines.address))

    @property
    def barrier(self) -> bool:
        """Whether no read that is asked later may be sent before it."""
        return self.detached or not self.repeatable

    @property
    def wanted(self) -> bool:
        """Whether it is still to be sent: its caller waits, or it is detached."""
        return self.detached or not self.future.done()


class Read(Operation):
    """A GET, whose future gets bytes or None. Reads that travel together become one MGET, unless they are ``alone``."""

    packed: bytes = b""
    replies: int = 1
    repeatable: bool = True
    detached: bool = False
    alone: bool = False

    # Without a `Deadline` and without `super()`, since every hit would pay for the value and the call.
    def __init__(self, key: str, timeout: float, deadlines: Deadlines) -> None:
        self.key: str = key
        self._timeout = timeout
        self.deadline: float = deadlines.time() + timeout
        self._due = self.deadline
        self.future: asyncio.Future[Any] = deadlines.loop.create_future()
        self._deadlines = deadlines
        deadlines.add(self)

    @property
    def began(self) -> float:
        return self._due - self._timeout

    @property
    def patience(self) -> float:
        return self._timeout

    @property
    def due(self) -> float:
        return self._due + self._deadlines.stalled(self.began)

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
        """Write the command. A read that becomes part of an MGET does without it."""
        if not self.packed:
            self.packed = pack("GET", self.key)


class Pipeline(Operation):
    """Several commands that are no transaction. Each needs its own ASKING, which holds for one command."""

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


_PTTL: Final = "*2\r\n$4\r\nPTTL\r\n"
"""What stands before the key in a PTTL."""


class TimedRead(Read):
    """A PTTL and a GET, in this order. Its future gets the bytes or None, and the seconds of `TimedStore`.

    Reads that travel together become one `TimedMultiGet`, unless they are ``alone``.
    """

    replies: int = 2

    def pack(self) -> None:
        if not self.packed:
            # As `pack` writes them, in a third of the time: every hit of a function with windows pays for it.
            name = f"${len(self.key.encode())}\r\n{self.key}\r\n"
            self.packed = f"{_PTTL}{name}*2\r\n$3\r\nGET\r\n{name}".encode()

    def succeed(self, reply: object) -> None:
        if isinstance(reply, list) and len(reply) == 2:  # noqa: PLR2004 - one for each command
            self.settle(reply[0], reply[1])
        else:
            self.fail_as_garbage()

    def settle(self, pttl: object, value: object) -> None:
        """Take the replies to both commands."""
        if (type(value) is bytes or value is None) and (type(pttl) is int or isinstance(pttl, Exception)):
            self._deadlines.pending.discard(self)
            if not self.future.done():
                # As `seconds_left`, in line: every hit would pay for the call.
                left = (pttl - 1) / 1000 if type(pttl) is int and pttl >= 0 else seconds_left(pttl)
                self.future.set_result((value, left))
        elif isinstance(value, Exception):
            self.fail(translate(value, self._deadlines.address))
        else:
            self.fail_as_garbage()

    def add_asking(self, asking: bytes) -> None:
        self.packed: bytes = asking + pack("PTTL", self.key) + asking + pack("GET", self.key)
        self.replies = 4
        self.asking_length: int = len(asking)

    def remove_asking(self) -> None:
        self.packed = b""
        self.replies = 2
        self.asking_length = 0
        self.pack()

    def result_of(self, replies: list[object]) -> object:
        return replies[1::2] if self.asking_length else replies


class TaggedRead(Read):
    """A value and its tags, in one MGET. Its future gets a `TaggedValue`; ``want`` says what else is read.

    Reads that travel together become one `TaggedMultiGet`, unless they are ``alone``.
    """

    replies: int = 1
    timed: int = 0
    """Whether its PTTL is read."""
    held: int = 0
    """Whether its lease is read."""

    # As `Read`, without `super()`.
    def __init__(self, names: list[Any], timeout: float, deadlines: Deadlines, want: int) -> None:
        self.key: str = names[0]
        self.names: list[str | bytes] = names
        """The key, its lease if that is wanted, and the tags."""
        self._timeout = timeout
        self.deadline: float = deadlines.time() + timeout
        self._due = self.deadline
        self.future: asyncio.Future[Any] = deadlines.loop.create_future()
        self._deadlines = deadlines
        if want:
            self.timed, self.held = want & Want.TTL, want & Want.HOLDER
            self.replies = 2 if self.timed else 1
        deadlines.add(self)

    def pack(self) -> None:
        if not self.packed:
            self.packed: bytes = b"".join(self._commands())

    def _commands(self) -> list[bytes]:
        pttl = [pack("PTTL", self.key)] if self.timed else []
        return [*pttl, pack("MGET", *self.names)]

    def succeed(self, reply: object) -> None:
        # Timed, it has one reply for each of its two commands: `result_of` returns both.
        pttl, values = cast("list[object]", reply) if self.timed else (None, reply)
        self.settle(pttl, values)

    def settle(self, pttl: object, values: object) -> None:
        """Take the replies to PTTL, if it was asked for, and to MGET."""
        if isinstance(values, Exception):
            self.fail(translate(values, self._deadlines.address))
            return
        fits = isinstance(values, list) and len(values) == len(self.names)
        told = not self.timed or isinstance(pttl, (int, Exception))
        if not fits or not told or not all(one is None or type(one) is bytes for one in cast("list[object]", values)):
            self.fail_as_garbage()
            return
        self.give(pttl, cast("list[bytes | None]", values))

    def give(self, pttl: object, values: list[bytes | None]) -> None:
        """Take replies that are what they should be."""
        value = values.pop(0)
        holder = values.pop(0) if self.held else None
        self.answer(TaggedValue(value, values, seconds_left(pttl) if self.timed else math.inf, holder))

    def answer(self, answer: TaggedValue) -> None:
        self._deadlines.pending.discard(self)
        if not self.future.done():
            self.future.set_result(answer)

    def add_asking(self, asking: bytes) -> None:
        commands = self._commands()
        self.packed = b"".join([asking + command for command in commands])
        self.replies = 2 * len(commands)
        self.asking_length: int = len(asking)

    def remove_asking(self) -> None:
        self.packed = b""
        self.replies = 2 if self.timed else 1
        self.asking_length = 0
        self.pack()

    def result_of(self, replies: list[object]) -> object:
        own = replies[1::2] if self.asking_length else replies
        return own if self.timed else own[0]


class Together:
    """One future for the answers to many reads. It is done when all of them are.

    A read that fails has its error in the place of its answer.
    """

    __slots__ = ("_answers", "_left", "future")

    def __init__(self, many: int, deadlines: Deadlines) -> None:
        self.future: asyncio.Future[list[Any]] = deadlines.create_future()
        self._answers: list[Any] = [None] * many
        self._left = many
        if not many:
            self.future.set_result(self._answers)

    def note(self, place: int, answer: object) -> None:
        self._answers[place] = answer
        self._left -= 1
        if not self._left and not self.future.done():
            self.future.set_result(self._answers)


class ManyGet(Operation):
    """An MGET of ``keys``, which may stand in one command, for one caller."""

    def __init__(self, keys: Sequence[str], deadline: Deadline) -> None:
        super().__init__(keys[0], pack("MGET", *keys), 1, deadline, REPEATABLE)
        self.keys: Sequence[str] = keys


class ManyRead(Read):
    """A GET whose answer goes to a `Together`."""

    _noted: bool = False

    # As in `Read`: no `super()`.
    def __init__(self, key: str, timeout: float, deadlines: Deadlines, place: int, together: Together) -> None:
        self.key: str = key
        self._timeout = timeout
        self.deadline: float = deadlines.time() + timeout
        self._due = self.deadline
        self.future: asyncio.Future[Any] = together.future
        self._deadlines = deadlines
        self._together = together
        self._place = place
        deadlines.add(self)

    def succeed(self, reply: object) -> None:
        if reply is None or type(reply) is bytes:
            self._note(reply)
        else:
            # An error, or no answer.
            super().succeed(reply)

    def _note(self, answer: object) -> None:
        self._deadlines.pending.discard(self)
        # What has an answer gets no second one: a lane that is given up fails all of its operations.
        if not self._noted:
            self._noted = True
            self._together.note(self._place, answer)

    def fail(self, error: StoreError) -> None:
        self._note(error)


class ManyTimedRead(ManyRead, TimedRead):
    """A PTTL and a GET whose answer goes to a `Together`."""

    def succeed(self, reply: object) -> None:
        TimedRead.succeed(self, reply)

    def settle(self, pttl: object, value: object) -> None:
        if (value is None or type(value) is bytes) and isinstance(pttl, (int, Exception)):
            self._note((value, seconds_left(pttl)))
        else:
            TimedRead.settle(self, pttl, value)


def seconds_left(pttl: object) -> float:
    """Return the seconds of `TimedStore` for the reply to a PTTL."""
    if type(pttl) is int:
        # A part of the last millisecond has passed. -1: it never ends. -2: there was no value.
        return (pttl - 1) / 1000 if pttl >= 0 else math.inf if pttl == -1 else -math.inf
    # Refused, by an ACL that allows GET, for one.
    return 0.0


class ScriptCall(Struct, frozen=True):
    """A script, its keys and its arguments."""

    source: Source
    keys: tuple[str | bytes, ...]
    arguments: tuple[bytes | int, ...]

    def by_digest(self) -> bytes:
        """Return the call in RESP, for a server that has the script."""
        return pack("EVALSHA", self.source.digest, len(self.keys), *self.keys, *self.arguments)

    def by_source(self) -> bytes:
        """Return the call in RESP with the script itself: EVAL leaves it at the server."""
        return pack("EVAL", self.source.text, len(self.keys), *self.keys, *self.arguments)


class Scripted(Operation):
    """A ``call`` of a script by its digest. A server that has forgotten the script gets its source, once."""

    call: ScriptCall
    source_sent: bool = False

    @property
    def barrier(self) -> bool:
        # A read that overtakes a question for a lease, or a fill, finds what it would have found without them.
        return False

    def send_source(self) -> None:
        """Send the source of the script from now on."""
        self.source_sent = True
        self.packed: bytes = self.packed[: self.asking_length] + self.call.by_source()


class Filling(Scripted):
    """A fill. Its caller waits for the rest of its own time; the fill goes on without it, for `FILL` in all."""

    urgent: bool = True
    _attended: bool = True

    @property
    def due(self) -> float:
        return super().due if self._attended else self.began + FILL + self._deadlines.stalled(self.began)

    def expire_congested(self) -> None:
        """Let the caller go; after `FILL` fail."""
        if not self._attended:
            super().expire_congested()
            return
        self._attended = False
        self.deadline: float = self.due
        if not self.future.done():
            caller = self.future
            self.future: asyncio.Future[Any] = self._deadlines.create_future()
            caller.set_exception(UnconfirmedError("unconfirmed", "a fill is under way", self._result))
            caller.exception()

    async def _result(self) -> object:
        return await self.future


class MultiGet:
    """Reads that travel as one MGET. A key that is asked for twice is in it once.

    MGET answers None for a key of another type, as if the key did not exist.
    """

    __slots__ = ("packed", "reads", "replies")

    def __init__(self, reads: list[Read]) -> None:
        self.reads: Sequence[Read] = reads
        self.replies: int = 1
        self.packed: bytes = pack("MGET", *dict.fromkeys([read.key for read in reads]))

    def result_of(self, replies: list[object]) -> object:
        """Return the only reply."""
        return replies[0]

    def succeed(self, reply: object) -> None:
        reads = self.reads
        if isinstance(reply, list) and len(reply) == len(reads):
            # There are as many values as callers, so no key was asked for twice.
            for read, value in zip(reads, reply, strict=True):
                read.succeed(value)
            return
        keys = dict.fromkeys([read.key for read in reads])
        if isinstance(reply, list) and len(reply) == len(keys):
            values = dict(zip(keys, reply, strict=True))
        else:
            # The reply is no answer to an MGET. Each read gets it, and fails.
            values = dict.fromkeys(keys, reply)
        for read in reads:
            read.succeed(values[read.key])


class TimedMultiGet(MultiGet):
    """Timed reads that travel as one: all PTTLs, then one MGET."""

    __slots__ = ("_keys", "_timed")

    def __init__(self, reads: list[TimedRead]) -> None:
        self.reads: Sequence[Read] = reads
        self._timed = reads
        self._keys = [*dict.fromkeys([read.key for read in reads])]
        self.replies: int = len(self._keys) + 1
        # As `pack` writes them, but each key once for both commands, in less than half of the time.
        names = [f"${len(key.encode())}\r\n{key}\r\n" for key in self._keys]
        pttls = "".join([_PTTL + name for name in names])
        self.packed: bytes = f"{pttls}*{len(names) + 1}\r\n$4\r\nMGET\r\n{''.join(names)}".encode()

    def result_of(self, replies: list[object]) -> object:
        return replies

    def succeed(self, reply: object) -> None:
        pttls, values = self._split(reply)
        if len(self._timed) == len(self._keys):
            for read, pttl, value in zip(self._timed, pttls, values, strict=True):
                read.settle(pttl, value)
            return
        found = dict(zip(self._keys, zip(pttls, values, strict=True), strict=True))
        for read in self._timed:
            read.settle(*found[read.key])

    def _split(self, reply: object) -> tuple[list[Any], list[Any]]:
        """Return the PTTLs and the values; for a reply that is no answer, what makes each read fail."""
        last = reply[-1] if isinstance(reply, list) and len(reply) == self.replies else None
        if isinstance(reply, list) and isinstance(last, list) and len(last) == len(self._keys):
            return reply[:-1], last
        # The error of the MGET is that of each read; a number is no value.
        value = last if isinstance(last, Exception) else 0
        return [0] * len(self._keys), [value] * len(self._keys)


class TaggedMultiGet(MultiGet):
    """Reads with tags that travel as one: the PTTLs that are wanted, then one MGET. A tag of several is in it once."""

    __slots__ = ("_count", "_names", "_plain", "_tagged", "_timed")

    def __init__(self, reads: list[TaggedRead]) -> None:
        self.reads: Sequence[Read] = reads
        self._tagged = reads
        names = [*chain.from_iterable([read.names for read in reads])]
        self._count = len(names)
        self._names = [*dict.fromkeys(names)]
        # Nearly all ask for nothing but the value and its tags.
        more = [read for read in reads if read.timed or read.held]
        self._plain = not more
        self._timed = [*dict.fromkeys([read.key for read in more if read.timed])]
        self.replies: int = len(self._timed) + 1
        self.packed: bytes = pack("MGET", *self._names)
        if self._timed:
            self.packed = b"".join([*[pack("PTTL", key) for key in self._timed], self.packed])

    def result_of(self, replies: list[object]) -> object:
        return replies

    def succeed(self, reply: object) -> None:
        pttls: list[object]
        values: Any
        *pttls, values = reply if isinstance(reply, list) and self._timed else [reply]
        if not self._fits(pttls, values):
            # The error of the MGET is that of each read; a number is no value.
            for read in self._tagged:
                read.settle(0, values if isinstance(values, Exception) else 0)
            return
        if self._plain and len(values) == self._count:
            self._hand_out(values)
            return
        left = dict(zip(self._timed, pttls, strict=True))
        value_of = dict(zip(self._names, values, strict=True)).__getitem__
        for read in self._tagged:
            read.give(left.get(read.key), [*map(value_of, read.names)])

    def _hand_out(self, values: list[bytes | None]) -> None:
        """Give each read its part of ``values``: no two have a name in common."""
        end = 0
        for read in self._tagged:
            begin, end = end, end + len(read.names)
            read.answer(TaggedValue(values[begin], values[begin + 1 : end]))

    def _fits(self, pttls: list[object], values: Any) -> bool:
        """Tell whether the replies are what they should be: all at once, since each value is in several reads."""
        if not isinstance(values, list) or len(values) != len(self._names) or len(pttls) != len(self._timed):
            return False
        told = all(isinstance(pttl, (int, Exception)) for pttl in pttls)
        return told and {*map(type, values)} <= _BYTES_OR_NONE


_BYTES_OR_NONE: Final = {bytes, type(None)}


_TOGETHER: Final[dict[type[Read], Callable[[Any], MultiGet]]] = {
    Read: MultiGet,
    ManyRead: MultiGet,
    TimedRead: TimedMultiGet,
    ManyTimedRead: TimedMultiGet,
    TaggedRead: TaggedMultiGet,
}
"""The operations that reads of one type become."""


def gathered(reads: list[Read]) -> list[Read | MultiGet]:
    """Return ``reads``, which travel together and are of one slot, as few operations."""
    kinds = {*map(type, reads)}
    if len(reads) > 1 and len(kinds) == 1 and (together := _TOGETHER.get(type(reads[0]))) is not None:
        # Nearly always, and the steps below would be many.
        return [together(reads)]
    others = [read for read in reads if type(read) is not Read and type(read) is not ManyRead]
    if not others:
        return [MultiGet(reads)] if len(reads) > 1 else [*reads]
    plain = [read for read in reads if type(read) is Read or type(read) is ManyRead] if len(others) < len(reads) else []
    timed = [read for read in others if isinstance(read, TimedRead)]
    tagged = [read for read in others if isinstance(read, TaggedRead)] if len(timed) < len(others) else []
    return [
        *gathered(plain),
        *([TimedMultiGet(timed)] if len(timed) > 1 else timed),
        *([TaggedMultiGet(tagged)] if len(tagged) > 1 else tagged),
    ]


def pack(*command: str | bytes | int) -> bytes:
    """Return ``command`` in RESP. hiredis needs a sixth of the time of redis-py's own packer.

    Raises:
        UnicodeEncodeError: A part is text with a lone surrogate.
    """
    written: bytes = _hiredis_pack(command)
    return written


# The stub of hiredis allows tuples of one item only.
_hiredis_pack: Final[Any] = pack_command
