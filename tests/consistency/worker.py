"""One process of a run: tasks that do random operations on its cache, and check the results of reads.

Started by `tests.consistency.harness` as ``python -m tests.consistency.worker SETTINGS SLOT GENERATION``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from cachekit.events import (
    Event,
    Filled,
    Hit,
    Invalidated,
    InvalidationsLost,
    InvalidationsReplayed,
    LoadFailed,
    Missed,
    NearPaused,
    NearResumed,
    ServedStale,
    StoreFailed,
)
from cachekit.stores.tracking import LIMIT
from tests.consistency.board import Board, Trace
from tests.consistency.faults import user_of
from tests.consistency.subjects import SPARE, STALE, CachekitSubject, Item, NaiveSubject, Subject, has_tags

HUNG: Final = 20.0
"""Seconds after which a call counts as hung: all that it may wait for takes less than five."""

TRACED: Final = 5
"""So many violations of one worker carry the trace of all workers."""

KINDS: Final = {
    "read": 60,
    "burst": 3,
    "batch": 12,
    "put": 5,
    "peek": 8,
    "get": 3,
    "take": 1,
    "refresh": 4,
    "write": 6,
    "invalidate": 6,
    "after_commit": 3,
    "cancelled": 6,
}
"""The operations of a task, with their weights."""

_AGE: Final = struct.Struct("=d")
_LIMIT: Final = round(1e9 * LIMIT)

_ROUNDED: Final = 20_000_000
"""Nanoseconds: Redis counts times to live in milliseconds, from its last look at its clock."""

NEAR_KINDS: Final = KINDS | {"set": 4, "take": 4}
"""The operations with a near cache."""

STALE_KINDS: Final = {"expire": 6, "write": 2, "invalidate": 3, "after_commit": 1}
"""The operations with stale windows that have other weights: an invalidation leaves nothing that could be stale."""

TAG_KINDS: Final = {"everything": 1, "clear": 2, "by hand": 3}
"""The operations with tags: one removes the tag of all keys that have tags, one removes everything, and one puts a
value, invalidates it, and reads it by hand: such a read names no tags, and believes the value about them."""

BY_HAND: Final = ("put", "invalidate", "get")
"""The parts of the last of them. A call of the function would replace a value that lacks its tags."""

CHANGES: Final = frozenset({"put", "take", "refresh", "write", "invalidate", "after_commit", "expire", "clear"})
QUIET: Final = (0.4, 1.25)
"""Seconds for which a key is changed and is left alone, in turns, with near caches. An entry that an invalidation
leaves by mistake is known to be wrong only when it is older than the limit, and the next one would remove it."""

STANDS_IN: Final = frozenset({"error", "paused", "slow", "busy"})
"""Why a value is handed out that may be older than an expiry: its load failed, did not begin, or takes too long."""

OF_CACHEKIT: Final = frozenset({"batch", "put"})
"""The operations that the naive cache does not have."""

CANCELLED: Final = ("read", "batch", "put", "refresh", "write", "invalidate", "after_commit")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one run. Together with the system's scheduling they decide its course.

    Attributes:
        seed: The seed of all random choices.
        port: The port of the server.
        folder: The folder of the board, the traces and the reports.
        workers: The number of processes.
        keys: The number of hot keys; the first ones are the hottest.
        tasks: Tasks in the first worker. Each further one has half as many as the one before it, but at least
            two. A quiet worker shows faults that a busy one hides, since in that one an operation always goes on.
        naive: Test the naive cache-aside, in place of cachekit.
        near: Entries of each near cache; 0 for none.
        stale: Whether the functions have stale windows, and loads fail often, and hang.
        tags: Whether the functions have tags.
        relay: The port by which workers reach the server: all of them, but half of them with near caches; 0 for none.
        timeout: The option of the caches, in seconds.
        lease: The option of the functions, in seconds.
        parent: The process without which a worker ends itself.
    """

    seed: int
    port: int
    folder: str
    workers: int = 4
    keys: int = 8
    tasks: int = 12
    naive: bool = False
    near: int = 0
    relay: int = 0
    stale: bool = False
    tags: bool = False
    timeout: float = 0.15
    lease: float = 0.6
    parent: int = field(default_factory=os.getpid)

    @classmethod
    def parse(cls, text: str) -> Settings:
        return cls(**json.loads(text))

    def url(self, slot: int) -> str:
        """Return the URL at which one worker finds the server. With a near cache four ways are taken in turn."""
        resp3 = "?protocol=3" if self.near and slot % 2 else ""
        relayed = self.relay and (not self.near or slot % 4 in {1, 2})
        port = self.relay if relayed else self.port
        return f"redis://{user_of(slot)}:secret@127.0.0.1:{port}/0{resp3}"

    def __str__(self) -> str:
        return json.dumps(asdict(self))


class LoadError(Exception):
    """A load raises it now and then. It must come out of the cache unchanged."""


class RollbackError(Exception):
    """Ends an `after_commit` block without a commit."""


@dataclass(frozen=True)
class Floors:
    """The versions of a key that a read may not fall below: of all processes, and of its own."""

    acknowledged: int
    here: int
    expired: int
    expired_here: int

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged}, here {self.here}, "
            f"expired {self.expired}, expired here {self.expired_here}"
        )


@dataclass
class Op:
    """One operation of one task, and of all code that runs inside it."""

    label: str
    random: random.Random
    covers: dict[int, int] = field(default_factory=dict)
    acknowledged: bool = False
    loads: bool = True
    near: set[int] = field(default_factory=set)
    """The keys that were answered near."""
    hit: bool = False
    """Whether its value is fresh, as its event says."""
    why: str = ""
    """Why its value was stale."""
    soft: bool = False
    """Whether it is an expiry."""
    clears: bool = False
    """Whether it clears the cache: that holds nowhere before it is done to the end."""
    puts: bool = False
    """Whether it stores what it has written."""
    loaded: Item | None = None
    filled: Item | None = None


_OP: Final[ContextVar[Op]] = ContextVar("operation")


class Worker:
    """The operations of one process, and their checks."""

    def __init__(self, settings: Settings, slot: int, generation: int) -> None:
        self.settings = settings
        self.slot = slot
        self.generation = generation
        folder = Path(settings.folder)
        self.board = Board(folder, settings.workers, settings.keys)
        self.traces = [Trace(folder, worker) for worker in range(settings.workers + 1)]
        self.note = self.traces[slot].note
        self.violations = folder / f"violations-{slot}"
        self.traced = 0
        # The versions that this process invalidated, acknowledged or not.
        self.local = [0] * settings.keys
        # Those that it expired or invalidated.
        self.local_soft = [0] * settings.keys
        # The versions that refreshes of this process have stored, and the loads that its takes have returned.
        self.refreshed = [0] * settings.keys
        self.taken: set[int] = set()
        # What may come out of a read. A load that hangs ends by its timeout.
        self.expected = (LoadError, TimeoutError) if settings.stale else (LoadError,)
        # Each process has a range of its own, so that no two loads have one number.
        self.loads = itertools.count((generation << 40) + (slot << 32) + 1)
        # The key that only this process sets, and the number that was set at it and confirmed.
        self.own = itertools.count()
        self.name, self.number = self.named(), 0
        self.setting = asyncio.Lock()
        self.ages = folder / f"ages-{slot}"
        self.ongoing: dict[str, float] = {}
        self.numbers = itertools.count()
        make: Callable[..., Subject] = NaiveSubject if settings.naive else CachekitSubject
        self.subject = make(
            settings.url(slot),
            self.load,
            self.commit,
            ttl=self.ttl,
            observer=self.observe,
            change_source=self.change,
            load_many=self.load_many,
            timeout=settings.timeout,
            lease=settings.lease,
            near=settings.near,
            # The slot of a worker that was killed has the other options next.
            stale=(STALE, SPARE)[(slot + generation) % 2] if settings.stale else None,
            tags=settings.tags,
        )

    # --- what the cache calls -------------------------------------------------------------------

    async def load(self, key: int) -> Item:
        """Read the source at a random moment of a load that takes its random time."""
        op = _OP.get()
        self.count("loads")
        if op.loads and self.board.load_begins(self.slot, key):
            self.count("duplicate loads")
            self.note(key, f"{op.label} duplicate load")
        first = self.board.version(key)
        self.note(key, f"{op.label} load begins")
        try:
            await self.pause(op)
            version = self.board.version(key)
            self.note(key, f"{op.label} load reads version {version}")
            await self.pause(op)
            await self.fail(op)
        except (LoadError, asyncio.CancelledError):
            # Cancelled by its timeout, or with its caller.
            self.board.note_failed(key, first)
            raise
        finally:
            if op.loads:
                self.board.load_ends(self.slot, key)
            self.note(key, f"{op.label} load ends")
        op.loaded = Item(key, version, next(self.loads))
        return op.loaded

    async def load_many(self, keys: Sequence[int]) -> dict[int, Item]:
        """Load one key after the other. A batch that fails has failed for all of its keys, and pauses all of them."""
        first = {key: self.board.version(key) for key in keys}
        try:
            return {key: await self.load(key) for key in keys}
        except (LoadError, asyncio.CancelledError):
            for key, version in first.items():
                self.board.note_failed(key, version)
            raise

    async def fail(self, op: Op) -> None:
        """Raise an error now and then. With stale windows do so often, or hang for longer than any timeout."""
        stale = self.settings.stale
        if stale and op.random.random() < 0.01:
            self.count("hung loads")
            await asyncio.sleep(3.0)
        if op.random.random() < (0.25 if stale else 0.02):
            self.count("failed loads")
            raise LoadError

    async def commit(self, keys: Sequence[int]) -> None:
        """Write to the source, at a random moment."""
        op = _OP.get()
        await self.pause(op)
        for key in keys:
            self.note(key, f"{op.label} writes version {self.board.bump(key)}")
        await self.pause(op)
        # Nothing is awaited between this and the invalidation.
        self.cover(op, keys)

    async def change(self, key: int) -> Item:
        """Write to the source, at a random moment, and return what was written."""
        op = _OP.get()
        await self.pause(op)
        version = self.board.bump(key)
        # Its own: another writer may have written since, and what is stored is not newer. A put that is cancelled, or
        # raises, covers it as well.
        op.covers[key] = version
        self.board.new_epoch(key)
        self.note(key, f"{op.label} writes version {version}")
        await self.pause(op)
        if op.random.random() < 0.3:
            await self.look_inside(key, version, op)
        if op.random.random() < 0.2:
            raise LoadError
        return Item(key, version, next(self.loads))

    def ttl(self, item: Item) -> float:
        """Return seconds: nearly always longer than the run matters."""
        chance = _OP.get().random
        if self.settings.stale and chance.random() < 0.7:
            return chance.uniform(0.02, 0.4)
        return chance.uniform(0.01, 0.3) if chance.random() < 0.1 else 600.0

    def observe(self, event: Event) -> None:
        """Take note of an event of the cache. It is called in line, in the context of the operation if there is one."""
        op = _OP.get(None)
        label = op.label if op else "background"
        if isinstance(event, (Hit, Missed, Filled)):
            if event.key.startswith("own:"):
                return
            self.observe_key(event, op, label)
        elif isinstance(event, ServedStale) or (isinstance(event, LoadFailed) and not event.raised):
            self.observe_stale(event, op, label)
        elif isinstance(event, (NearPaused, NearResumed)):
            self.count("near paused" if isinstance(event, NearPaused) else "near resumed")
            self.note(-1, f"{event}")
        elif isinstance(event, Invalidated):
            if op is not None:
                op.acknowledged = event.acknowledged
        elif isinstance(event, StoreFailed):
            self.count("store failures")
            self.note(-1, f"{label} {event.operation} failed: {event.cause}")
        elif isinstance(event, InvalidationsReplayed):
            self.count("replayed", event.count)
            self.note(-1, f"{label} replayed {event.count}")
            self.delivered()
        elif isinstance(event, InvalidationsLost):
            self.violate("an invalidation was lost", -1, str(event.count))

    def observe_stale(self, event: ServedStale | LoadFailed, op: Op | None, label: str) -> None:
        """Take note of an event of a stale value."""
        key = int(event.key.partition(":")[2])
        if isinstance(event, LoadFailed):
            self.count("failed unseen")
            self.note(key, f"{label} a load failed unseen")
            return
        self.count(f"stale: {event.why}")
        if op is not None:
            op.why = event.why
        self.note(key, f"{label} gets a stale value: {event.why}")

    def observe_key(self, event: Hit | Missed | Filled, op: Op | None, label: str) -> None:
        """Take note of an event of one key."""
        key = int(event.key.partition(":")[2])
        what = type(event).__name__.lower()
        if isinstance(event, Hit):
            self.count("hits")
            if op is not None:
                op.hit = True
            if event.near:
                what = "near hit"
                self.count("near hits")
                if op is not None:
                    op.near.add(key)
        elif isinstance(event, Filled):
            self.count("fills")
            if op is not None and op.puts:
                self.count("put stored")
                op.acknowledged = True
            known = self.settings.near or self.settings.stale
            if known and op is not None and op.loaded is not None and op.loaded.key == key:
                op.filled = op.loaded
                what = f"filled version {op.filled.version} for {event.ttl:.3f} s"
                self.board.filled(key, op.filled.load, event.ttl)
        self.note(key, f"{label} {what}")

    # --- operations -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Do operations until the run is stopped; then close the cache and look at the rest of the journal."""
        busy = max(2, self.settings.tasks >> self.slot)
        tasks = [asyncio.create_task(self.actor(number)) for number in range(busy)]
        watch = asyncio.create_task(self.watch())
        await asyncio.wait(tasks)
        watch.cancel()
        await asyncio.wait([watch])
        undelivered = await self.subject.aclose()
        if undelivered:
            self.violate("undelivered", -1, f"the store is up and {undelivered} invalidations did not reach it")
        if self.subject.keeps:
            for key, version in enumerate(self.local):
                self.board.raise_floor(key, version)
        for task in tasks:
            task.result()

    @property
    def left_out(self) -> frozenset[str]:
        """The operations that the subject does not have."""
        return OF_CACHEKIT if self.settings.naive else frozenset()

    async def actor(self, number: int) -> None:
        chance = random.Random(f"{self.settings.seed}/{self.slot}/{self.generation}/{number}")
        kinds = (NEAR_KINDS if self.settings.near else KINDS) | (STALE_KINDS if self.settings.stale else {})
        kinds |= TAG_KINDS if self.settings.tags else {}
        kinds = {kind: weight for kind, weight in kinds.items() if kind not in self.left_out}
        while not self.board.stopped:
            kind = chance.choices([*kinds], [*kinds.values()])[0]
            own = random.Random(chance.getrandbits(64))
            await self.do(kind, own)
            await asyncio.sleep(chance.expovariate(1 / 0.015))

    async def do(self, kind: str, chance: random.Random) -> None:
        """Do one operation, on a key that is often a hot one."""
        key = self.pick(chance)
        if kind != "by hand":
            await self.do_at(key, kind, chance)
            return
        self.count(kind)
        for part in BY_HAND:
            await self.do_at(key, part, random.Random(chance.getrandbits(64)))

    async def do_at(self, key: int, kind: str, chance: random.Random) -> None:
        """Do one operation on ``key``."""
        if kind in CHANGES and self.is_quiet(key):
            kind = "read"
        op = Op(f"{kind} #{next(self.numbers)}", chance)
        token = _OP.set(op)
        self.ongoing[op.label] = time.monotonic()
        self.count(kind)
        try:
            if kind in {"read", "peek", "get", "take", "refresh"}:
                await self.look(kind, key, op)
            elif kind == "burst":
                seeds = [random.Random(chance.getrandbits(64)) for _ in range(chance.randint(2, 8))]
                await asyncio.gather(*[self.one_of_many(f"{op.label}.{n}", key, one) for n, one in enumerate(seeds)])
            elif kind == "batch":
                await self.look_at_many([key, *[self.pick(chance) for _ in range(chance.randrange(7))]], op)
            elif kind == "cancelled":
                await self.cancelled(chance)
            elif kind == "set":
                await self.put(op)
            else:
                await self.invalidate(kind, key, op)
        finally:
            del self.ongoing[op.label]
            _OP.reset(token)

    async def one_of_many(self, label: str, key: int, chance: random.Random) -> None:
        op = Op(label, chance)
        # A task of its own has a context of its own.
        _OP.set(op)
        await self.pause(op)
        await self.look("read", key, op)

    async def cancelled(self, chance: random.Random) -> None:
        """Do another operation, and cancel it."""
        kinds = [kind for kind in CANCELLED if kind not in self.left_out]
        victim = asyncio.create_task(self.do(chance.choice(kinds), random.Random(chance.getrandbits(64))))
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        if chance.random() < 0.7:
            await asyncio.sleep(chance.choice([0.0005, 0.003, 0.02, 0.2]) * chance.random())
        victim.cancel()
        await asyncio.wait([victim])
        if not victim.cancelled():
            victim.result()

    async def look(self, kind: str, key: int, op: Op) -> None:
        """Read, and compare the version with the versions that had been invalidated before."""
        op.loads = kind != "refresh"
        verb: Callable[[int], Awaitable[Item | None]] = getattr(self.subject, kind)
        floors = self.floors(key)
        began, wall = time.monotonic(), time.time_ns()
        began_ns = time.monotonic_ns()
        self.note(key, f"{op.label} begins; {floors}")
        try:
            item = await verb(key)
        except self.expected:
            return
        except Exception as error:  # noqa: BLE001 - nothing else may come out, and any other exception is a violation
            self.violate("raised", key, f"{op.label} raised {error!r}", began)
            return
        if item is None:
            self.count("misses of peek")
            return
        self.count("checked")
        self.note(key, f"{op.label} got version {item.version}")
        if kind == "take":
            self.taken.add(item.load)
            self.board.taken(key, item.load)
        elif kind == "refresh" and op.filled is not None:
            self.refreshed[key] = max(self.refreshed[key], op.filled.version)
        if kind == "read" and op.near:
            self.look_near(key, item, op, began_ns, wall)
        elif self.settings.stale:
            self.look_fresh(key, item, op, floors, (began_ns, wall))
        self.judge(key, item, op, floors, began)

    def floors(self, key: int) -> Floors:
        return Floors(self.board.floor(key), self.local[key], self.board.soft_floor(key), self.local_soft[key])

    async def look_at_many(self, keys: Sequence[int], op: Op) -> None:
        """Read several keys in one call, and judge each of them."""
        subject = self.subject
        if not isinstance(subject, CachekitSubject):
            raise NotImplementedError
        floors = {key: self.floors(key) for key in keys}
        began = time.monotonic()
        for key, floor in floors.items():
            self.note(key, f"{op.label} begins; {floor}")
        try:
            items = await subject.read_many(keys)
        except self.expected:
            return
        except ExceptionGroup as errors:
            # Several calls went on at the same time.
            if rest := errors.split(self.expected)[1]:
                self.violate("raised", keys[0], f"{op.label} raised {rest!r}", began)
            return
        except Exception as error:  # noqa: BLE001 - as in `look`
            self.violate("raised", keys[0], f"{op.label} raised {error!r}", began)
            return
        if [*items] != [*floors]:
            self.violate("foreign", keys[0], f"{op.label} asked for {keys} and got {[*items]}", began)
        for key, item in items.items():
            self.count("checked")
            self.note(key, f"{op.label} got version {item.version}")
            if key in op.near:
                self.look_late(key, item, op, round(1e9 * began))
            self.judge(key, item, op, floors[key], began)

    async def look_inside(self, key: int, version: int, op: Op) -> None:
        """Read a key inside the block that has changed it: the read finds what was written."""
        self.count("read inside")
        try:
            item = await self.subject.read(key)
        except self.expected:
            return
        if item.version < version:
            self.violate("stale", key, f"{op.label} got version {item.version} inside its block, which wrote {version}")

    def judge(self, key: int, item: Item, op: Op, floors: Floors, began: float) -> None:
        """Compare ``item`` with the versions that had been invalidated before its read began."""
        got = f"{op.label} got version {item.version}"
        if item.key != key or item.version > self.board.version(key):
            self.violate("foreign", key, f"{op.label} got {item}", began)
        # A near hit may be behind; `look_near` has judged that.
        acknowledged, expired = (0, 0) if key in op.near else (floors.acknowledged, floors.expired)
        if item.version < acknowledged or (self.subject.keeps and item.version < floors.here):
            self.violate("stale", key, f"{got}; invalidated before it began: {floors}", began)
        # Only where a load failed, or was not waited for, a value from before an expiry may stand in.
        elif op.why not in STANDS_IN and (item.version < expired or item.version < floors.expired_here):
            self.violate("expired", key, f"{got}; expired before it began: {floors}", began)

    def look_near(self, key: int, item: Item, op: Op, began: int, wall: int) -> None:
        """Judge a near hit, by the times at which its read began, in ns."""
        # Nothing was awaited since the read began, so this process has done nothing since then.
        refreshed, taken = self.refreshed[key], item.load in self.taken
        if item.version < refreshed or taken:
            text = f"{op.label} got {item} near; refreshed here: {refreshed}, taken here: {taken}"
            self.violate("stale", key, text, began / 1e9)
        self.look_late(key, item, op, began)
        self.look_old(key, item, op, began, wall)

    def look_late(self, key: int, item: Item, op: Op, began: int) -> None:
        """Judge a near hit by the time for which a newer version has been acknowledged."""
        # An event that is noted later than it happened makes this too small, never too large.
        late = began - self.board.raised_above(key, item.version)
        if late > 0:
            self.count("behind")
            with self.ages.open("ab") as file:
                file.write(_AGE.pack(late / 1e9))
            self.note(key, f"{op.label} was behind by {late / 1e6:.3f} ms")
            if late > _LIMIT:
                text = f"{op.label} got version {item.version} near, {late / 1e9:.6f} s after more was acknowledged"
                self.violate("stale", key, text, began / 1e9)

    def look_old(self, key: int, item: Item, op: Op, began: int, wall: int) -> None:
        """Judge a near hit by the events of its fill."""
        fill = self.board.fill(key, item.load)
        if fill is None:
            return
        self.count("near hits of a known fill")
        # Both clocks are asked: Redis uses the clock that somebody may set.
        over = min(began - fill.filled, wall - fill.filled_wall) - fill.ttl
        # Where reads are cut, the end may be that of the value before it, until the change is reported.
        if over > (_LIMIT if self.settings.stale else _ROUNDED):
            self.violate("expired", key, f"{op.label} got {item} near, {over / 1e9:.6f} s too late", began / 1e9)
        if fill.taken and began - fill.taken > _LIMIT:
            text = f"{op.label} got {item} near, {(began - fill.taken) / 1e9:.6f} s after it was taken"
            self.violate("stale", key, text, began / 1e9)
        emptied = self.board.emptied_after(fill.filled)
        if emptied is not None and began - emptied > _LIMIT:
            text = f"{op.label} got {item} near, {(began - emptied) / 1e9:.6f} s after the store had lost everything"
            self.violate("stale", key, text, began / 1e9)

    def look_fresh(self, key: int, item: Item, op: Op, floors: Floors, began: tuple[int, int]) -> None:
        """Judge a hit by the end of its TTL, and a value that was handed out in a pause by the load that failed."""
        fill = self.board.fill(key, item.load) if op.hit else None
        if fill is not None:
            self.count("hits of a known fill")
            # As with a near hit, by both clocks.
            over = min(began[0] - fill.filled, began[1] - fill.filled_wall) - fill.ttl
            if over > _ROUNDED:
                text = f"{op.label} got {item} as fresh, {over / 1e9:.6f} s after it was stale"
                self.violate("not fresh", key, text, began[0] / 1e9)
        # An invalidation, and an expiry, lift the pause. So the load that failed had begun after all of them.
        failed = self.board.failed(key)
        if op.why == "paused" and failed < max(floors.acknowledged, floors.expired):
            text = f"{op.label} was told of a pause; the newest load that failed began at version {failed}: {floors}"
            self.violate("paused", key, text, began[0] / 1e9)

    def named(self) -> str:
        return f"{self.slot}.{self.generation}.{next(self.own)}"

    async def put(self, op: Op) -> None:
        """Set the key that no other process sets, while others read it, and read it again."""
        subject = self.subject
        if not isinstance(subject, CachekitSubject):
            raise NotImplementedError
        async with self.setting:
            readers = [asyncio.create_task(self.look_own(subject, op)) for _ in range(op.random.randrange(3))]
            await self.pause(op)
            number = self.number + 1
            if await subject.put(self.name, number):
                self.number = number
                self.count("set confirmed")
            else:
                # This set may be carried out at any time, so a later one need not be the last one at the key.
                self.name, self.number = self.named(), 0
            for reader in readers:
                await reader
        for _ in range(3):
            await self.look_own(subject, op)
            await self.pause(op)

    async def look_own(self, subject: CachekitSubject, op: Op) -> None:
        name, number = self.name, self.number
        began = time.monotonic()
        try:
            found = await subject.own(name)
        except Exception as error:  # noqa: BLE001 - as above
            self.violate("raised", -1, f"{op.label} raised {error!r}", began)
            return
        # A load returns 0, which is not stored.
        if 0 < found < number:
            self.violate("stale", -1, f"{op.label} got {found}, and {number} had been set here", began)

    async def invalidate(self, kind: str, key: int, op: Op) -> None:
        """Write and invalidate, in one of several ways."""
        keys = [key]
        try:
            if kind == "put":
                await self.put_through(key, op)
            elif kind == "write":
                keys.append(self.another(key, op.random))
                await self.subject.write(*keys)
            elif kind in {"invalidate", "expire"} or not self.subject.keeps:
                self.note(key, f"{op.label} writes version {self.board.bump(key)}")
                await self.pause(op)
                self.cover(op, keys)
                op.soft = kind == "expire"
                acknowledged = await (self.subject.expire if op.soft else self.subject.invalidate)(key)
                if acknowledged != op.acknowledged:
                    self.violate("contradiction", key, f"{op.label} returned {acknowledged}, its event did not")
            elif kind in {"everything", "clear"}:
                await self.everything(op, clears=kind == "clear")
            else:
                keys.append(self.another(key, op.random))
                await self.transaction(keys, op)
        except RollbackError:
            self.count("rolled back")
        except Exception as error:  # noqa: BLE001 - as above
            self.violate("raised", key, f"{op.label} raised {error!r}")
        finally:
            self.settle(op)

    async def everything(self, op: Op, *, clears: bool) -> None:
        """Write all keys that have tags, and remove the tag of all of them; or write all keys, and clear the cache."""
        op.clears = clears
        keys = [key for key in range(self.settings.keys) if clears or (has_tags(key) and not self.is_quiet(key))]
        for key in keys:
            self.note(key, f"{op.label} writes version {self.board.bump(key)}")
        await self.pause(op)
        self.cover(op, keys)
        if clears:
            op.acknowledged = await self.subject.clear()
            self.count("cleared", op.acknowledged)
        elif await self.subject.everything() != op.acknowledged:
            self.violate("contradiction", -1, f"{op.label} did not return what its event said")

    async def put_through(self, key: int, op: Op) -> None:
        """Write, and have the value stored that was written."""
        subject = self.subject
        if not isinstance(subject, CachekitSubject):
            raise NotImplementedError
        op.puts = True
        try:
            await subject.change(key)
        except LoadError:
            self.count("failed loads")

    async def transaction(self, keys: Sequence[int], op: Op) -> None:
        async with self.subject.after_commit():
            for key in keys:
                version = self.board.bump(key)
                self.note(key, f"{op.label} writes version {version}")
                await self.pause(op)
                if await self.subject.invalidate(key):
                    self.violate("contradiction", key, f"{op.label} was acknowledged before the block ended")
                if op.random.random() < 0.3:
                    await self.look_inside(key, version, op)
            if op.random.random() < 0.2:
                raise RollbackError
            # Nothing is awaited between this and the invalidation.
            self.cover(op, keys)

    def cover(self, op: Op, keys: Sequence[int]) -> None:
        """Note the versions that the invalidation that begins now covers."""
        for key in keys:
            op.covers[key] = self.board.version(key)
            self.board.new_epoch(key)
            self.note(key, f"{op.label} invalidates, covers {op.covers[key]}")

    def settle(self, op: Op) -> None:
        """Note that an invalidation ended, if it had begun at all; its cancellation is an end."""
        if not op.covers or (op.clears and not op.acknowledged):
            return
        self.count("expired" if op.soft else "acknowledged" if op.acknowledged else "unacknowledged")
        for key, version in op.covers.items():
            self.board.new_epoch(key)
            self.note(key, f"{op.label} ended, acknowledged: {op.acknowledged}, covers {version}")
            self.local_soft[key] = max(self.local_soft[key], version)
            if op.soft:
                if op.acknowledged:
                    self.board.raise_soft_floor(key, version)
                continue
            self.local[key] = max(self.local[key], version)
            if op.acknowledged:
                self.board.raise_floor(key, version)

    def delivered(self) -> None:
        """Note the invalidations that the store has by now, since the journal was replayed."""
        for key, version in enumerate(self.local):
            if version > self.board.floor(key) and not self.subject.undelivered(key):
                self.board.raise_floor(key, version)
                self.note(key, f"delivered {version}")

    # --- chance ---------------------------------------------------------------------------------

    def pick(self, chance: random.Random) -> int:
        """Return a key: half of the time one of the first two."""
        return chance.randrange(min(2, self.settings.keys) if chance.random() < 0.5 else self.settings.keys)

    def another(self, key: int, chance: random.Random) -> int:
        """Return a key to change together with ``key``; the same key if the other is left alone now."""
        other = self.pick(chance)
        return key if self.is_quiet(other) else other

    def is_quiet(self, key: int) -> bool:
        """Tell whether all processes leave ``key`` alone now: they share the clock."""
        busy, quiet = QUIET
        return self.settings.near > 0 and (time.monotonic() + 0.2 * key) % (busy + quiet) > busy

    async def pause(self, op: Op) -> None:
        """Wait for no time, a turn of the loop, milliseconds, or now and then longer than a lease."""
        roll = op.random.random()
        if roll < 0.3:
            return
        if roll < 0.5:
            await asyncio.sleep(0)
        elif roll < 0.85:
            await asyncio.sleep(op.random.uniform(0, 0.005))
        elif roll < 0.99:
            await asyncio.sleep(op.random.uniform(0, 0.06))
        else:
            await asyncio.sleep(op.random.uniform(0, 2.5 * self.settings.lease))

    # --- telling --------------------------------------------------------------------------------

    def count(self, name: str, more: int = 1) -> None:
        self.board.count(self.slot, name, more)

    def violate(self, kind: str, key: int, text: str, began: float | None = None) -> None:
        """Write a violation down, with the last events of the key in all workers."""
        now = time.monotonic()
        began = now if began is None else began
        self.count("violations")
        self.note(key, f"VIOLATION {kind}: {text}")
        trace: list[tuple[float, str]] = []
        if self.traced < TRACED:
            self.traced += 1
            trace = sorted(line for one in self.traces for line in one.read(key, began - 3.0))
        found = {
            "kind": kind,
            "key": key,
            "text": text,
            "worker": self.slot,
            "generation": self.generation,
            "began": began,
            "ended": now,
            "trace": [f"{when - began:+.6f} {line}" for when, line in trace],
        }
        with self.violations.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")

    async def watch(self) -> None:
        """Find calls that do not end. End with the parent."""
        reported: set[str] = set()
        while True:
            await asyncio.sleep(0.25)
            if os.getppid() != self.settings.parent:
                os._exit(3)
            for label, began in [*self.ongoing.items()]:
                if time.monotonic() - began > HUNG and label not in reported:
                    reported.add(label)
                    self.violate("hung", -1, f"{label} has not ended for {HUNG:g} s", began)


def main(settings: Settings, slot: int, generation: int) -> None:
    """Run one worker to its end."""
    # Records of the library about incidents are expected. A record of asyncio is a violation, and goes to stderr.
    logger = logging.getLogger("cachekit")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    random.seed(f"{settings.seed}/{slot}/{generation}")
    asyncio.run(Worker(settings, slot, generation).run())


if __name__ == "__main__":
    main(Settings.parse(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
