"""RedisStore: the verbs of a store as commands of Redis 6.2 and later."""

from __future__ import annotations

import asyncio
import math
import os
import time
import weakref
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import NoneType
from typing import Any, Final, TypeAlias, TypeGuard, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from cachekit.entry import lease_key
from cachekit.errors import KeyRefusedError, StoreError, UnconfirmedError
from cachekit.loops import PerLoop
from cachekit.stores.base import Sweep, TaggedValue, Tracking, Want, Window, time_left
from cachekit.stores.credentials import Logins
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.network import Network
from cachekit.stores.operations import (
    FENCED,
    ONCE,
    REPEATABLE,
    Delivery,
    Filling,
    ManyGet,
    ManyRead,
    ManyTimedRead,
    Operation,
    Pipeline,
    Read,
    ScriptCall,
    Scripted,
    Source,
    TaggedRead,
    TimedRead,
    Together,
    pack,
    seconds_left,
)
from cachekit.stores.scripts import SCRIPTS, UNEXPECTED, Fill, OpenTags, Put, ReleaseLease, Script, Unexpected
from cachekit.stores.sweeping import SCAN_COUNT, as_bytes, of_prefix, scan_pattern, scanned
from cachekit.stores.translate import garbage_error, timeout_error, translate

T = TypeVar("T")

Command: TypeAlias = tuple[str | bytes | int, ...]

_SOURCES: Final = {name: Source(name) for name in (*[script.name for script in SCRIPTS], OpenTags.name)}

# An invalidation is never taken back, and has the same effect twice.
_INVALIDATION: Final = Delivery(repeatable=True, detached=True)
_ONE_VALUE: Final = Delivery(of_bytes=True)

_ENOUGH: Final = 4
"""With fewer keys one MGET is no gain."""

_MOST: Final = 256
"""The most keys of one MGET, for which a server does nothing else."""

_SPARE: Final = 5.0
"""Seconds for which a set has the lease beyond its timeout, at most: it gives the lease back when it stores, and when
it is given up. In a burst of sets on a busy machine seconds pass between its two steps."""


class LoopState(Struct, frozen=True):
    """The state of a store in one event loop."""

    loop: asyncio.AbstractEventLoop
    network: Network
    deadlines: Deadlines
    logins: Logins

    def close(self) -> list[asyncio.Task[Any]]:
        self.deadlines.close()
        return [*self.network.close(), *self.logins.close()]


class RedisStore:
    """Stores bytes in Redis. Each event loop has one connection to each server.

    Args:
        open_network: Makes the connections of one event loop.
        address: Of the server or servers, for messages, the password masked.
        apart: Whether keys are at several servers.
        logins: Returns user and password for the connections of one event loop.

    A verb costs one round trip, and a second one when the server has forgotten a script. Nothing is connected before
    the first verb.
    """

    def __init__(
        self,
        open_network: Callable[[Deadlines, Logins], Network],
        address: str,
        *,
        apart: bool = False,
        logins: Callable[[], Logins],
    ) -> None:
        self._address = address
        self.apart: bool = apart
        # The scripts are read now, since reading would block the event loop. They are not read at import, which
        # applications without Redis pay for as well.
        _read_scripts()
        # A partial, not a method: a method refers to the store, so a dropped store would live until a garbage
        # collection, and so would its connections.
        self._loops: PerLoop[LoopState] = PerLoop(partial(_open_state, open_network, address, logins))
        # The two verbs of a hit look into it directly, which saves a call.
        self._states = self._loops.states
        weakref.finalize(self, _close_all, self._states).atexit = False

    def __repr__(self) -> str:
        return f"RedisStore({self._address})"

    def shard(self, key: str) -> str:
        state = self._states.get(get_running_loop()) or self._loops.get()
        return state.network.shard(key)

    def connection(self, key: str) -> object:
        return self._loops.get().network.connection(key)

    def time_lost(self, key: str, seconds: float) -> float:
        state = self._loops.get()
        lane = state.network.connection(key)
        if lane is None:
            return 0.0
        began = state.deadlines.time() - seconds
        # The clock of an operation stands still in a stall.
        return max(seconds - lane.activity.servers_time_since(began), state.deadlines.stalled(began))

    # Of any kind, and refused as it may be: `translate` tells an answer from a failure.
    async def probe(self, key: str, timeout: float) -> None:
        self._expect_bytes(await self._send(key, ("GET", self._lease(key)), timeout, REPEATABLE), key)

    # Not `async`, since every hit would pay for the coroutine.
    def get(self, key: str, timeout: float) -> asyncio.Future[bytes | None]:
        if not key.isascii():
            # Reads that travel together are written together, so a key that cannot be sent must be refused before.
            self._pack(("GET", key))
        state = self._states.get(get_running_loop()) or self._loops.get()
        read = Read(key, timeout, state.deadlines)
        state.network.submit(read)
        return read.future

    # Not `async`, as `get`.
    def get_with_ttl(self, key: str, timeout: float) -> asyncio.Future[tuple[bytes | None, float]]:
        if not key.isascii():
            self._pack(("GET", key))
        state = self._states.get(get_running_loop()) or self._loops.get()
        read = TimedRead(key, timeout, state.deadlines)
        state.network.submit(read)
        return read.future

    async def get_with_lease_and_ttl(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None, float]:
        commands = (("PTTL", key), ("MGET", key, self._lease(key)))
        replies = await self._pipeline(key, commands, timeout).future
        left, both = replies if isinstance(replies, list) and len(replies) == len(commands) else (None, None)
        self._check(both)
        if not isinstance(left, (int, Exception)) or not isinstance(both, list) or len(both) != 2:  # noqa: PLR2004
            raise self._reject(key)
        value, holder = both
        return self._expect_bytes(value, key), self._expect_bytes(holder, key), seconds_left(left)

    # Two steps, and the second one is sent when the first is acknowledged. So a set that was given up on its way
    # carries a token that the next invalidation voids. In one step it would land behind that.
    async def set(self, key: str, timeout: float, value: bytes, *, ttl_ms: int) -> bool:
        began, token = time.monotonic(), os.urandom(12).hex().encode()
        # The lease outlives the time that this process loses, which the timeout leaves out.
        await self.seize_lease(key, timeout, token, lease_ms=math.ceil((timeout + _SPARE) * 1000))
        answered = False
        try:
            took = time.monotonic() - began
            left = time_left(timeout, timeout, took, self.time_lost(key, took))
            # The fill is sent within the timeout, or not at all.
            if left <= 0:
                raise timeout_error(self._address)
            stored = await self.run(key, left, Put(token, value, ttl_ms))
            answered = True
            return stored
        finally:
            if not answered:
                self._give_back([(key, token)], timeout)

    def _give_back(self, leases: Iterable[tuple[str, bytes]], timeout: float) -> None:
        """Give back the leases of sets that were given up: else loads would wait for these. No caller waits for it."""
        state = self._states.get(get_running_loop())
        # A store that was closed meanwhile opens no connection for it.
        if state is None or state.network.loop_ending:
            return
        operations = [self._scripted(state.deadlines, key, timeout, ReleaseLease(token)) for key, token in leases]
        state.network.submit_together(operations)

    async def get_with_lease(self, key: str, timeout: float) -> tuple[bytes | None, bytes | None]:
        reply = self._check(await self._send(key, ("MGET", key, self._lease(key)), timeout, REPEATABLE))
        if not isinstance(reply, list) or len(reply) != 2:  # noqa: PLR2004 - a value and a holder
            raise self._reject(key)
        value, holder = reply
        return self._expect_bytes(value, key), self._expect_bytes(holder, key)

    # A script is never sent twice. A server that wakes up executes the commands that it finds on connections given up
    # long ago. So it would bring back the token of a lease that an invalidation has voided since.
    async def run(self, key: str, timeout: float, script: Script[T]) -> T:
        state = self._states.get(get_running_loop()) or self._loops.get()
        if script.left_to_expiry and state.network.loop_ending:
            return cast("T", script.parse(0))
        operation = self._scripted(state.deadlines, key, timeout, script)
        state.network.submit(operation)
        try:
            reply = await operation.future
        except UnconfirmedError as error:
            raise self._unconfirmed(key, script, error) from None
        # As `_result_of`, which a miss would call twice.
        result = script.parse(reply)
        if isinstance(result, Unexpected):
            raise self._refusal(reply, key)
        return result

    def _unconfirmed(self, key: str, script: Script[Any], error: UnconfirmedError) -> UnconfirmedError:
        return UnconfirmedError(error.cause, str(error), partial(self._late, key, script, error.result))

    async def _late(self, key: str, script: Script[T], result: Callable[[], Awaitable[object]]) -> T:
        return self._result_of(script, await result(), key)

    def _result_of(self, script: Script[T], reply: object, key: str) -> T:
        result = script.parse(reply)
        if isinstance(result, Unexpected):
            raise self._refusal(reply, key)
        return result

    def _refusal(self, reply: object, key: str) -> StoreError:
        """Return the error for a ``reply`` that is none of a script."""
        self._check(reply)
        return self._reject(key)

    # --- many keys --------------------------------------------------------------------------------

    async def get_many(self, keys: Sequence[str], timeout: float) -> list[bytes | StoreError | None]:
        state = self._states.get(get_running_loop()) or self._loops.get()
        groups = [*state.network.group(keys)] if len(keys) >= _ENOUGH else []
        # In a cluster nearly every key has a slot of its own.
        if len(groups) != 1 or not all(map(str.isascii, keys)):
            return await self._read_many(ManyRead, keys, timeout)
        began = time.monotonic()
        parts = [keys[start : start + _MOST] for start in range(0, len(keys), _MOST)]
        operations = [ManyGet(part, state.deadlines.after(timeout)) for part in parts]
        if len(operations) == 1:
            state.network.submit(operations[0])
        else:
            state.network.submit_together(operations)
        found: list[bytes | StoreError | None] = []
        for part, reply in zip(parts, await _all([operation.future for operation in operations]), strict=True):
            if _is_values(reply, len(part)):
                found.extend(reply)
            else:
                # The error is about one key, and does not say which; or the slot is moving. Each is asked for alone.
                left = timeout - (time.monotonic() - began)
                found.extend(await self._read_alone(part, reply, left))
        return found

    async def _read_alone(
        self, keys: Sequence[str], reply: object, timeout: float
    ) -> Sequence[bytes | StoreError | None]:
        error = reply if isinstance(reply, StoreError) else None
        if isinstance(reply, Exception) and error is None:
            error = translate(reply, self._address)
        if error is None:
            error = self._reject(keys[0])
        if isinstance(error, KeyRefusedError) or error.cause in {"MOVED", "ASK"}:
            return await self._read_many(ManyRead, keys, timeout)
        return [error] * len(keys)

    # Not `async`, as `get`. Reads that are put together travel together: in one MGET for each slot, to all servers.
    def get_many_with_ttl(
        self, keys: Sequence[str], timeout: float
    ) -> asyncio.Future[list[tuple[bytes | None, float] | StoreError]]:
        return self._read_many(ManyTimedRead, keys, timeout)

    def _read_many(self, kind: type[ManyRead], keys: Sequence[str], timeout: float) -> asyncio.Future[list[Any]]:
        state = self._states.get(get_running_loop()) or self._loops.get()
        deadlines = state.deadlines
        together = Together(len(keys), deadlines)
        reads: list[ManyRead] = []
        for place, key in enumerate(keys):
            if not key.isascii() and (refusal := self._unsendable(key)) is not None:
                together.note(place, refusal)
            else:
                reads.append(kind(key, timeout, deadlines, place, together))
        state.network.submit_together(reads)
        return together.future

    def _unsendable(self, key: str) -> StoreError | None:
        try:
            self._pack(("GET", key))
        except StoreError as error:
            return error
        return None

    async def run_many(self, steps: Sequence[tuple[str, Script[T]]], timeout: float) -> list[T | StoreError]:
        state = self._states.get(get_running_loop()) or self._loops.get()
        sent: list[object] = []
        operations: list[Scripted] = []
        for key, script in steps:
            if script.left_to_expiry and state.network.loop_ending:
                sent.append(0)
                continue
            try:
                operation = self._scripted(state.deadlines, key, timeout, script)
            except StoreError as error:
                sent.append(error)
                continue
            operations.append(operation)
            sent.append(operation.future)
        state.network.submit_together(operations)
        answers: list[T | StoreError] = []
        for (key, script), reply in zip(steps, await _all(sent), strict=True):
            # As `_result_of`, in place.
            result = UNEXPECTED if isinstance(reply, StoreError) else script.parse(reply)
            answers.append(self._answer_to(key, script, reply) if isinstance(result, Unexpected) else result)
        return answers

    def _answer_to(self, key: str, script: Script[Any], reply: object) -> StoreError:
        """Return the error for a ``reply`` that is none of a script."""
        if isinstance(reply, UnconfirmedError):
            return self._unconfirmed(key, script, reply)
        if isinstance(reply, StoreError):
            return reply
        try:
            return self._refusal(reply, key)
        except StoreError as error:
            return error

    # As `set`, and in each of its two steps one write for all.
    async def set_many(
        self, values: Sequence[tuple[str, bytes]], timeout: float, *, ttl_ms: int
    ) -> list[bool | StoreError]:
        began = time.monotonic()
        tokens = [os.urandom(12).hex().encode() for _ in values]
        lease_ms = math.ceil((timeout + _SPARE) * 1000)
        steps = [self._seizing(key, token, timeout, lease_ms) for (key, _), token in zip(values, tokens, strict=True)]
        self._loops.get().network.submit_together([step for step in steps if isinstance(step, Operation)])
        replies = await _all([step.future if isinstance(step, Operation) else step for step in steps])
        answers = [self._held(key, reply) for (key, _), reply in zip(values, replies, strict=True)]
        took = time.monotonic() - began
        left = time_left(timeout, timeout, took, self.time_lost(values[0][0], took)) if values else timeout
        held = [place for place, answer in enumerate(answers) if answer is True]
        open_leases = {place: (values[place][0], tokens[place]) for place in held}
        try:
            # As in `set`: the fills are sent within the timeout, or not at all.
            if left <= 0:
                return [timeout_error(self._address) if answer is True else answer for answer in answers]
            puts: list[tuple[str, Script[bool]]] = []
            for place in held:
                key, value = values[place]
                puts.append((key, Put(tokens[place], value, ttl_ms)))
            stored = await self.run_many(puts, left)
            for place, answer in zip(held, stored, strict=True):
                answers[place] = answer
                if isinstance(answer, bool):
                    del open_leases[place]
        finally:
            if open_leases:
                self._give_back(open_leases.values(), timeout)
        return answers

    def _seizing(self, key: str, token: bytes, timeout: float, lease_ms: int) -> Operation | StoreError:
        """Return the operation that takes the lease over, or the error."""
        try:
            written, state = self._pack(("SET", self._lease(key), token, "PX", lease_ms)), self._loops.get()
        except StoreError as error:
            return error
        return Operation(key, written, 1, state.deadlines.after(timeout), ONCE)

    def _held(self, key: str, reply: object) -> bool | StoreError:
        if isinstance(reply, StoreError):
            return reply
        try:
            self._expect_ok(reply, key)
        except StoreError as error:
            return error
        return True

    # One function, since each miss makes two.
    def _scripted(self, deadlines: Deadlines, key: str, timeout: float, script: Script[Any]) -> Scripted:
        """Return the operation that does ``script``."""
        try:
            lease = lease_key(key)
            keys = (lease,) if script.of_lease else (key, lease)
            call = ScriptCall(_SOURCES[script.name], keys, script.arguments)
            packed = call.by_digest()
        except UnicodeEncodeError as error:
            raise translate(error, self._address) from None
        operation: Scripted
        if not isinstance(script, Fill):
            operation = Scripted(key, packed, 1, deadlines.after(timeout), FENCED if script.detached else ONCE)
        elif script.detached:
            operation = Filling(key, packed, 1, deadlines.after(timeout, script.patience), FENCED)
        else:
            # Set by hand: its caller waits for it, and a lease is held meanwhile.
            operation = Scripted(key, packed, 1, deadlines.after(timeout), ONCE)
            operation.urgent = True
        operation.call = call
        return operation

    # Not `async`, as `get`.
    def get_tagged(self, key: str, timeout: float, tags: Sequence[str], want: int) -> Awaitable[TaggedValue]:
        state = self._states.get(get_running_loop()) or self._loops.get()
        names: list[str | bytes] = [key, *tags]
        # One server has no groups, unless it has large values.
        if state.network.parts and len(state.network.group([key, *tags])) > 1:
            return self._get_tagged_apart(key, timeout, tags, want)
        if want and want & Want.HOLDER:
            names.insert(1, self._lease(key))
        if not key.isascii() or not "".join(tags).isascii():
            # Reads that travel together are written together, so a key that cannot be sent must be refused before.
            self._pack(("MGET", *names))
        read = TaggedRead(names, timeout, state.deadlines, want)
        state.network.submit(read)
        return read.future

    async def _get_tagged_apart(self, key: str, timeout: float, tags: Sequence[str], want: int) -> TaggedValue:
        """Read keys that may not stand in one command: in a cluster, those of several slots."""
        for name in (key, *tags):
            self._pack(("GET", name))
        state = self._loops.get()
        leased: list[str | bytes] = [key, self._lease(key)] if want & Want.HOLDER else [key]
        value = TaggedRead(leased, timeout, state.deadlines, want)
        reads = [TaggedRead([tag], timeout, state.deadlines, Want.NOTHING) for tag in tags]
        state.network.submit_together([value, *reads])
        found: TaggedValue = await value.future
        return replace(found, tags=[(await read.future).value for read in reads])

    async def open_tags(self, tag: str, timeout: float, more: Sequence[str], opening: OpenTags) -> list[bytes | None]:
        opened = self._opening([tag, *more], timeout, opening)
        self._loops.get().network.submit_together([operation for _, operation in opened])
        answers: dict[str, bytes | None] = {}
        for group, operation in opened:
            answers |= self._opened(group, await operation.future)
        return [answers[name] for name in (tag, *more)]

    async def run_tagged(
        self, key: str, timeout: float, script: Script[T], tags: Sequence[str], opening: OpenTags
    ) -> tuple[T, list[bytes | None]]:
        state, opened = self._loops.get(), self._opening(tags, timeout, opening)
        operation = self._scripted(state.deadlines, key, timeout, script)
        state.network.submit_together([*[one for _, one in opened], operation])
        result = self._result_of(script, await operation.future, key)
        answers: dict[str, bytes | None] = dict.fromkeys(tags)
        for group, one in opened:
            try:
                answers |= self._opened(group, await one.future)
            # The lease may be held by now. Without its tags the value is not stored.
            except StoreError:
                continue
        return result, [answers[tag] for tag in tags]

    def _opening(self, tags: Sequence[str], timeout: float, opening: OpenTags) -> list[tuple[Sequence[str], Scripted]]:
        state, opened = self._loops.get(), list[tuple[Sequence[str], Scripted]]()
        for group in state.network.group(tags):
            call = ScriptCall(_SOURCES[opening.name], tuple(group), opening.arguments(len(group)))
            try:
                operation = Scripted(group[0], call.by_digest(), 1, state.deadlines.after(timeout), ONCE)
            except UnicodeEncodeError as error:
                raise translate(error, self._address) from None
            operation.call = call
            opened.append((group, operation))
        return opened

    def _opened(self, group: Sequence[str], reply: object) -> dict[str, bytes | None]:
        self._check(reply)
        if not isinstance(reply, list) or len(reply) != len(group) or not all(type(one) is bytes for one in reply):
            raise self._reject(group[0])
        return dict(zip(group, reply, strict=True))

    async def servers_of(self, prefix: str, timeout: float) -> list[str]:
        # A cluster is asked for its masters when the first operation comes.
        await self.probe(prefix, timeout)
        return [*self._loops.get().network.servers()]

    async def sweep(self, prefix: str, timeout: float, sweep: Sweep) -> Sweep:
        state, began = self._loops.get(), time.monotonic()
        written = self._pack(("SCAN", sweep.cursor, "MATCH", scan_pattern(prefix), "COUNT", SCAN_COUNT))
        scan = Operation("", written, 1, state.deadlines.after(timeout), REPEATABLE)
        state.network.submit_to(sweep.server, scan)
        found = scanned(self._check(await scan.future))
        if found is None:
            raise self._reject(prefix)
        cursor, names = found
        mine = of_prefix(names, prefix)
        left = timeout - (time.monotonic() - began)
        groups = state.network.group([name.decode(errors="surrogateescape") for name in mine]) if mine else ()
        unlinks = [
            Operation(group[0], pack("UNLINK", *map(as_bytes, group)), 1, state.deadlines.after(left), _INVALIDATION)
            for group in groups
        ]
        if unlinks:
            state.network.submit_together(unlinks)
        for unlink in unlinks:
            self._check(await unlink.future)
        return Sweep(sweep.server, cursor, len(mine))

    async def seize_lease(self, key: str, timeout: float, token: bytes, *, lease_ms: int) -> None:
        self._expect_ok(await self._send(key, ("SET", self._lease(key), token, "PX", lease_ms), timeout), key)

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        began = time.monotonic()
        groups = self._loops.get().network.group(keys)
        sent = [(group, self._unlink(group, timeout)) for group in groups]
        for group, future in sent:
            try:
                reply = self._check(await future)
            except KeyRefusedError as refusal:
                if refusal.cause != "TRYAGAIN":
                    raise
                left = timeout - (time.monotonic() - began)
                await self._delete_one_by_one(group, left)
                continue
            if type(reply) is not int:
                raise self._reject(group[0])

    def _unlink(self, keys: Sequence[str], timeout: float) -> asyncio.Future[object]:
        names = [name for key in keys for name in (key, self._lease(key))]
        written, state = self._pack(("UNLINK", *names)), self._loops.get()
        operation = Operation(keys[0], written, 1, state.deadlines.after(timeout), _INVALIDATION)
        operation.of_many = len(keys) > 1
        return _submit(state, operation)

    async def _delete_one_by_one(self, keys: Sequence[str], timeout: float) -> None:
        """Delete keys whose slot is moving to another node: a key may be on the old node and its lease on the new one.

        The leases go first: a load that begins between the two commands has begun after the invalidation.
        """
        began = time.monotonic()
        for name_of in (self._lease, str):
            left = timeout - (time.monotonic() - began)
            # All at once: one after the other, the last would find no time left.
            sent = [self._send(key, ("UNLINK", name_of(key)), left, _INVALIDATION) for key in keys]
            for future in sent:
                self._check(await future)

    async def get_and_delete(self, key: str, timeout: float) -> bytes | None:
        return self._expect_bytes(await self._send(key, ("GETDEL", key), timeout, _ONE_VALUE), key)

    async def get_and_delete_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        commands: tuple[Command, ...] = (("PTTL", key), ("GETDEL", key))
        left, value = self._check_transaction(await self._send_transaction(key, commands, timeout), len(commands), key)
        if type(left) is not int:
            raise self._reject(key)
        return self._expect_bytes(value, key), seconds_left(left)

    async def window(self, key: str, timeout: float, count: int) -> Window:
        began = time.monotonic()
        # TIME last: no item is older than its age says.
        commands = (("GET", self._lease(key)), ("LRANGE", key, 0, count - 1), ("TIME",))
        operation = self._pipeline(key, commands, timeout)
        window = self._window_of(await operation.future, key)
        if window.items or not operation.redirections:
            return window
        # The slot is moving. The lease may have moved before the window, and have drawn its read along.
        left = timeout - (time.monotonic() - began)
        alone = self._pipeline(key, commands[1:], left)
        return self._window_of([None, *await alone.future], key)

    def _pipeline(self, key: str, commands: Sequence[Command], timeout: float) -> Pipeline:
        state = self._loops.get()
        operation = Pipeline(key, [*map(self._pack, commands)], state.deadlines.after(timeout), REPEATABLE)
        state.network.submit(operation)
        return operation

    def _window_of(self, replies: list[object], key: str) -> Window:
        match replies:
            case [bytes() | None as generation, list(items), [bytes(seconds), bytes(micros)]] if (
                seconds.isdigit() and micros.isdigit() and all(type(item) is bytes for item in items)
            ):
                return Window(items, generation, int(seconds) + int(micros) / 1_000_000)
            case _:
                for reply in replies:
                    self._check(reply)
                raise self._reject(key)

    def track(
        self,
        prefix: str,
        changed: Callable[[Sequence[str] | None], None],
        state: Callable[[StoreError | None], None],
    ) -> Tracking:
        try:
            encoded = prefix.encode()
        except UnicodeEncodeError as error:
            raise translate(error, self._address) from None
        return self._loops.get().network.track(encoded, changed, state)

    async def aclose(self) -> None:
        """Close the connections of the running event loop. Pending operations fail."""
        state = self._loops.pop()
        closing = state.close() if state is not None else []
        if closing:
            await asyncio.wait(closing)

    # --- sending ---------------------------------------------------------------------------------

    def _send(self, key: str, command: Command, timeout: float, delivery: Delivery = ONCE) -> asyncio.Future[object]:
        written, state = self._pack(command), self._loops.get()
        return _submit(state, Operation(key, written, 1, state.deadlines.after(timeout), delivery))

    def _send_transaction(
        self, key: str, commands: tuple[Command, ...], timeout: float
    ) -> asyncio.Future[list[object]]:
        written = b"".join(map(self._pack, (("MULTI",), *commands, ("EXEC",))))
        state = self._loops.get()
        operation = Operation(key, written, len(commands) + 2, state.deadlines.after(timeout))
        state.network.submit(operation)
        return operation.future

    def _lease(self, key: str) -> bytes:
        try:
            return lease_key(key)
        except UnicodeEncodeError as error:
            raise translate(error, self._address) from None

    def _pack(self, command: Command) -> bytes:
        try:
            return pack(*command)
        except UnicodeEncodeError as error:
            raise translate(error, self._address) from None

    # --- checking replies --------------------------------------------------------------------------

    def _check(self, reply: object) -> object:
        if isinstance(reply, Exception):
            raise translate(reply, self._address)
        return reply

    def _expect_bytes(self, reply: object, key: str) -> bytes | None:
        if reply is None or type(reply) is bytes:
            return reply
        self._check(reply)
        raise self._reject(key)

    def _expect_ok(self, reply: object, key: str) -> None:
        if reply != b"OK":
            self._check(reply)
            raise self._reject(key)

    def _check_transaction(self, replies: list[object], commands: int, key: str) -> list[object]:
        results = replies[-1]
        # The error of a command that was refused in the queue says more than the EXECABORT that follows from it.
        for reply in [*replies[:-1], *(results if isinstance(results, list) else [results])]:
            self._check(reply)
        queued = [b"OK", *[b"QUEUED"] * commands]
        if replies[:-1] != queued or not isinstance(results, list) or len(results) != commands:
            raise self._reject(key)
        return results

    def _reject(self, key: str) -> StoreError:
        """Give up the connection for ``key``, which sent a reply of the wrong type, and return the error."""
        self._loops.get().network.give_up(key)
        return garbage_error(self._address)


def _submit(state: LoopState, operation: Operation) -> asyncio.Future[object]:
    state.network.submit(operation)
    return operation.future


def _open_state(
    open_network: Callable[[Deadlines, Logins], Network], address: str, make_logins: Callable[[], Logins]
) -> LoopState:
    deadlines, logins = Deadlines(address), make_logins()
    return LoopState(deadlines.loop, open_network(deadlines, logins), deadlines, logins)


def _is_values(reply: object, many: int) -> TypeGuard[list[bytes | None]]:
    """Tell whether ``reply`` is one to an MGET of so many keys."""
    return isinstance(reply, list) and len(reply) == many and {*map(type, reply)} <= {bytes, NoneType}


async def _all(sent: Sequence[object]) -> list[object]:
    """Return ``sent`` with the reply or the error in the place of each future.

    When the caller is cancelled, all of them lose their caller.
    """
    replies: list[object] = []
    try:
        for one in sent:
            # In place: most are done when the first one is.
            try:
                replies.append(await one if isinstance(one, asyncio.Future) else one)
            except StoreError as error:
                replies.append(error)
    finally:
        for one in sent[len(replies) :]:
            if isinstance(one, asyncio.Future):
                one.cancel()
    return replies


def _read_scripts() -> list[str]:
    return [source.digest for source in _SOURCES.values()]


def _close_all(states: dict[asyncio.AbstractEventLoop, LoopState]) -> None:
    """Close the connections of a store that was dropped without `RedisStore.aclose`."""
    for loop, state in list(states.items()):
        if not loop.is_closed():
            loop.call_soon_threadsafe(state.close)
