"""Atomic steps at one key and its lease. A new step is one class: its script for Redis, and the same in memory.

A store runs them by `Store.run`. The scripts themselves are in the folder ``lua/``, each with a comment of its promise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from secrets import token_hex
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from msgspec import Struct

from cachekit.entry import EXPIRED, PAUSE, is_pause, set_back, stamped, timestamp, timestamp_of
from cachekit.errors import KeyRefusedError
from cachekit.stores.keyspace import Keyspace

T = TypeVar("T")

Arguments: TypeAlias = tuple[bytes | int, ...]


class Lease(Struct, frozen=True):
    """A lease on the load of one key: ``mine`` when it was taken just now, else held by another load.

    ``holder`` is the token that holds it.
    """

    holder: bytes
    mine: bool


class Unexpected(Struct, frozen=True):
    """The reply of the server is none that the script gives."""


UNEXPECTED: Final = Unexpected()


class Script(Struct, Generic[T], frozen=True):
    """A step with its arguments."""

    name: ClassVar[str]
    """Of its file in ``lua/``, and of the operation in events."""
    of_lease: ClassVar[bool] = True
    """Whether it needs the key of the lease alone; else it gets the key of the value before it."""
    detached: ClassVar[bool] = False
    """Whether it is sent though its caller is gone. Its token is the fence, so it does no harm though it is late."""
    left_to_expiry: ClassVar[bool] = False
    """Whether it is left out while the event loop is ending: the lease expires by itself."""

    @property
    def arguments(self) -> Arguments:
        """The arguments of the script."""
        raise NotImplementedError

    def parse(self, reply: object) -> T | Unexpected:
        """Return the result that ``reply`` stands for."""
        raise NotImplementedError

    def is_result(self, answer: object) -> bool:
        """Tell whether ``answer``, which a store by another author gave, is a result of this step."""
        raise NotImplementedError

    def in_memory(self, keys: Keyspace, key: str) -> T:
        """Do the same in memory."""
        raise NotImplementedError


class AcquireLease(Script[bytes | Lease], frozen=True):
    """Return the bytes at the key if there are any; else the lease, taken if no load holds it.

    Bytes equal to ``unreadable`` count as none: a caller that cannot read them is to replace them. A lease that is
    not renewed ends after ``lease_ms``.
    """

    token: bytes
    lease_ms: int
    unreadable: bytes | None = None

    name = "acquire_lease"
    of_lease = False

    @property
    def arguments(self) -> Arguments:
        known = () if self.unreadable is None else (self.unreadable,)
        return (self.token, self.lease_ms, *known)

    def parse(self, reply: object) -> bytes | Lease | Unexpected:
        match reply:
            case 1:
                return Lease(self.token, mine=True)
            case bytes():
                return reply
            case [bytes(holder)]:
                return Lease(holder, mine=False)
            case _:
                return UNEXPECTED

    def is_result(self, answer: object) -> bool:
        if isinstance(answer, Lease):
            # The fields are what somebody else put into them.
            return isinstance(answer.holder, bytes) and isinstance(answer.mine, bool)
        return isinstance(answer, bytes) and answer != self.unreadable

    def in_memory(self, keys: Keyspace, key: str) -> bytes | Lease:
        value, holder = keys.value(key), keys.holder(key)
        if value is not None and value != self.unreadable:
            return value
        if holder is not None:
            return Lease(holder, mine=False)
        keys.hold(key, self.token, self.lease_ms)
        return Lease(self.token, mine=True)


class Gone(Struct, frozen=True):
    """There is no value to load anew in the background: it was invalidated, or has ended."""


GONE: Final = Gone()

NO_VALUE: Final = -2
"""The PTTL of a key without value."""


class Copy(IntEnum):
    """What a caller that asks for a lease has in hand."""

    NONE = 0
    """No stale value."""
    HELD = 1
    """A stale value, which it may hand out if the load fails."""
    BACKGROUND = 2
    """A value that was handed out already: the load goes on in the background."""


class AcquireStaleLease(Script[bytes | Lease | Gone], frozen=True):
    """Return the bytes at the key if they are newer than what the caller saw; else the lease, as `AcquireLease`.

    Bytes that end in ``suffix`` count as the bytes that it saw, unless that is empty. So do empty bytes.
    """

    token: bytes
    lease_ms: int
    floor_ms: int
    """The PTTL of the value that the caller saw; `NO_VALUE` if it saw none."""
    suffix: bytes
    copy: Copy

    name = "acquire_stale_lease"
    of_lease = False

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.lease_ms, self.floor_ms, self.suffix, int(self.copy))

    def parse(self, reply: object) -> bytes | Lease | Gone | Unexpected:
        match reply:
            case 0:
                return GONE
            case 1:
                return Lease(self.token, mine=True)
            case bytes():
                return reply
            case [bytes(holder)]:
                return Lease(holder, mine=False)
            case _:
                return UNEXPECTED

    def is_result(self, answer: object) -> bool:
        if isinstance(answer, Lease):
            return isinstance(answer.holder, bytes) and isinstance(answer.mine, bool)
        return isinstance(answer, (bytes, Gone))

    def in_memory(self, keys: Keyspace, key: str) -> bytes | Lease | Gone:
        value, holder = keys.value(key) or None, keys.holder(key)
        seen = value is None or (self.suffix and value.endswith(self.suffix))
        if value is not None and not seen and keys.find_timed(key)[1] * 1000 > self.floor_ms:
            return value
        if value is None and self.copy is Copy.BACKGROUND:
            return GONE
        if holder is not None and (not is_pause(holder) or (value is not None and self.copy is not Copy.NONE)):
            return Lease(holder, mine=False)
        keys.hold(key, self.token, self.lease_ms)
        return Lease(self.token, mine=True)


class Expire(Script[bool], frozen=True):
    """Expire the value by hand, and void the lease. The result is whether there was a value."""

    name = "expire"
    of_lease = False
    detached = True

    @property
    def arguments(self) -> Arguments:
        return ()

    def parse(self, reply: object) -> bool | Unexpected:
        return reply == 1 if reply in (0, 1) else UNEXPECTED

    def is_result(self, answer: object) -> bool:
        return isinstance(answer, bool)

    def in_memory(self, keys: Keyspace, key: str) -> bool:
        keys.release(key)
        try:
            value = keys.value(key)
        # A window.
        except KeyRefusedError:
            value = b""
        if value is None:
            return False
        if b'"s":' not in value.partition(b"\n")[2]:
            keys.remove(key)
        elif not value.endswith(EXPIRED):
            keys.append(key, EXPIRED)
        return True


class Touch(Script[bool | bytes], frozen=True):
    """Let a value whose TTL is not over live for ``ttl_ms`` from now on, and then for its stale window.

    The result is whether there was one; of one that has tags its second line, since these have to outlive it. It is not
    changed.
    """

    ttl_ms: int

    name = "touch"
    of_lease = False

    @property
    def arguments(self) -> Arguments:
        return (self.ttl_ms,)

    def parse(self, reply: object) -> bool | bytes | Unexpected:
        if isinstance(reply, bytes):
            return reply
        return reply == 1 if reply in (0, 1) else UNEXPECTED

    def is_result(self, answer: object) -> bool:
        return isinstance(answer, (bool, bytes))

    def in_memory(self, keys: Keyspace, key: str) -> bool | bytes:
        value = keys.value(key)
        if value is None or value.endswith(EXPIRED):
            return False
        line = value.partition(b"\n")[2]
        found = _WINDOW.search(line)
        window_ms = int(found[1]) if found is not None else 0
        if keys.seconds_left(key) * 1000 <= window_ms:
            return False
        keys.put(key, value, self.ttl_ms + window_ms)
        return line if b'"T":' in line else True


_WINDOW: Final = re.compile(rb'"s":(\d+)')
"""The stale window in the second line of an entry."""


class _Fenced(Script[bool], frozen=True):
    """A step that is done only while ``token`` holds the lease; the result is whether it was done."""

    token: bytes

    def parse(self, reply: object) -> bool | Unexpected:
        return reply == 1 if reply in (0, 1) else UNEXPECTED

    def is_result(self, answer: object) -> bool:
        return isinstance(answer, bool)

    def in_memory(self, keys: Keyspace, key: str) -> bool:
        held = keys.holder(key) == self.token
        if held:
            self.do_in_memory(keys, key)
        return held

    def do_in_memory(self, keys: Keyspace, key: str) -> None:
        """Do the step in memory."""
        raise NotImplementedError


class SeizeLease(Script[bool], frozen=True):
    """Take the lease, from any load that holds it, for ``lease_ms``. It is `Store.seize_lease` beside other steps."""

    token: bytes
    lease_ms: int

    name = "seize_lease"

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.lease_ms)

    def parse(self, reply: object) -> bool | Unexpected:
        return True if reply == 1 else UNEXPECTED

    def is_result(self, answer: object) -> bool:
        return answer is True

    def in_memory(self, keys: Keyspace, key: str) -> bool:
        keys.hold(key, self.token, self.lease_ms)
        return True


class RenewLease(_Fenced, frozen=True):
    """Let the lease live for another ``lease_ms``."""

    lease_ms: int

    name = "renew_lease"

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.lease_ms)

    def do_in_memory(self, keys: Keyspace, key: str) -> None:
        keys.hold(key, self.token, self.lease_ms)


class ReleaseLease(_Fenced, frozen=True):
    """Give the lease back."""

    name = "release_lease"
    detached = True
    left_to_expiry = True

    @property
    def arguments(self) -> Arguments:
        return (self.token,)

    def do_in_memory(self, keys: Keyspace, key: str) -> None:
        keys.release(key)


class Paused(Enum):
    """What `PauseLease` has done."""

    SET = 2
    """Others pause."""
    NO_VALUE = 1
    """No caller has a stale value, so none pauses. The lease is given back."""
    LOST = 0
    """Nothing: the token does not hold the lease any more."""


class PauseLease(Script[Paused], frozen=True):
    """Put a pause of ``pause_ms`` in the place of the lease that ``token`` holds, if a value stands."""

    token: bytes
    pause_ms: int

    name = "pause_lease"
    of_lease = False
    detached = True
    left_to_expiry = True

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.pause_ms)

    def parse(self, reply: object) -> Paused | Unexpected:
        return Paused(reply) if reply in (0, 1, 2) else UNEXPECTED

    def is_result(self, answer: object) -> bool:
        return isinstance(answer, Paused)

    def in_memory(self, keys: Keyspace, key: str) -> Paused:
        if keys.holder(key) != self.token:
            return Paused.LOST
        if keys.value(key) is None:
            keys.release(key)
            return Paused.NO_VALUE
        keys.hold(key, PAUSE + self.token, self.pause_ms)
        return Paused.SET


class Fill(_Fenced, frozen=True):
    """Store ``value`` for ``ttl_ms`` and give the lease back.

    ``patience`` is the whole deadline of a call, in seconds. The rest that its caller waits is less.
    """

    value: bytes
    ttl_ms: int
    patience: float = 0.0

    name = "fill"
    of_lease = False
    detached = True

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.value, self.ttl_ms)

    def do_in_memory(self, keys: Keyspace, key: str) -> None:
        keys.release(key)
        keys.put(key, self.value, self.ttl_ms)


class Put(Fill, frozen=True):
    """Store a value that was set by hand. Its caller waits for it, and without a caller it is not sent."""

    detached = False


class OpenWindow(Script[bytes], frozen=True):
    """Return the generation of a window; if there is none, make one that lives for ``ttl_ms``.

    It stands in the place of the lease, so a removal of the window and its lease voids it. No generation comes
    twice: a push that was given up can never meet its own again.
    """

    token: bytes
    ttl_ms: int

    name = "open_window"
    of_lease = False

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.ttl_ms)

    def parse(self, reply: object) -> bytes | Unexpected:
        return reply if isinstance(reply, bytes) else UNEXPECTED

    def is_result(self, answer: object) -> bool:
        return isinstance(answer, bytes)

    def in_memory(self, keys: Keyspace, key: str) -> bytes:
        keys.find(key, list)
        generation = keys.holder(key)
        if generation is None:
            generation = token_hex(12).encode()
            keys.hold(key, generation, self.ttl_ms)
        return generation


class OpenTags(Struct, frozen=True):
    """Return the generations of tags. One that has none gets a new one, which lives for ``ttl_ms``.

    A tag that has less than half of ``ttl_ms`` left gets all of it again. It is a script of tags alone, of one slot in
    a cluster, and is never sent twice: a generation that was removed must not come back.
    """

    ttl_ms: int
    make: Callable[[], bytes]
    """Returns a generation that was never there."""

    name = "open_tags"

    def arguments(self, count: int) -> Arguments:
        """Return the arguments of the script for so many tags."""
        return (self.ttl_ms, *[self.make() for _ in range(count)])

    def in_memory(self, keys: Keyspace, tags: Sequence[str]) -> list[bytes | None]:
        """Do the same in memory."""
        return [self._open(keys, tag) for tag in tags]

    def _open(self, keys: Keyspace, tag: str) -> bytes | None:
        try:
            generation = keys.value(tag)
        # A window.
        except KeyRefusedError:
            return None
        if generation is None or keys.seconds_left(tag) * 2000 < self.ttl_ms:
            generation = self.make() if generation is None else generation
            keys.put(tag, generation, self.ttl_ms)
        return generation


class Push(_Fenced, frozen=True):
    """Put ``item`` at the head of a window while ``token`` is its generation, in one step.

    The item is a JSON object. It gets the time of the store's clock as its ``timestamp``. Afterwards the window has
    ``limit`` items at most, and no tail older than ``ttl_ms``; it expires after ``ttl_ms``.
    """

    item: bytes
    limit: int
    ttl_ms: int

    name = "push"
    of_lease = False

    @property
    def arguments(self) -> Arguments:
        return (self.token, self.item, self.limit, self.ttl_ms)

    def do_in_memory(self, keys: Keyspace, key: str) -> None:
        time = keys.time()
        now, oldest = timestamp(time), timestamp(time - self.ttl_ms / 1000)
        items = _judged(keys.find(key, list) or [], now, oldest)
        keys.hold(key, self.token, self.ttl_ms)
        keys.put(key, [stamped(self.item, now), *items][: self.limit], self.ttl_ms)


def _judged(items: list[bytes], now: str, oldest: str) -> list[bytes]:
    """Return ``items`` without a tail that is too old, and with no tail that is ahead of ``now``."""
    kept = [*items]
    while kept and set_back(kept[-1], now) is None and not oldest <= timestamp_of(kept[-1]) <= now:
        kept.pop()
    for index in reversed(range(len(kept))):
        # The clock was set back, or another host stamped it. From now on it has an age: none.
        judgeable = set_back(kept[index], now)
        if judgeable is None:
            break
        kept[index] = judgeable
    return kept


SCRIPTS: Final[tuple[type[Script[Any]], ...]] = (
    AcquireLease,
    AcquireStaleLease,
    SeizeLease,
    RenewLease,
    ReleaseLease,
    PauseLease,
    Fill,
    Expire,
    Touch,
    OpenWindow,
    Push,
)
"""Every script that a store runs."""
