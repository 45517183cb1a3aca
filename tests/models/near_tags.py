"""The protocol of near values with tags.

A near hit asks for no tag. So whatever removes a tag, or reports its removal, has to take all near values
with it that depend on the tag. What is promised: a near hit is no older than the newest invalidation that its own
process has made, or that was reported to it, before the call began; and when all is reported, nothing invalid is left
near.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from tests.models.frame import Frame, Steps, World


class Task(NamedTuple):
    """How far one task is."""

    kind: str
    at: str = "begin"
    answer: Any = None
    floor: int = 0
    tag_first: bool = False
    generation: str | None = None
    value: tuple[int, str] | None = None
    fence: int = 0
    version: int = 0
    passes: int = 0


@dataclass(kw_only=True)
class State(World):
    """One world: a server, and the process that keeps values near."""

    value: tuple[int, str] | None
    tag: str | None
    evictions: int
    fence: int = 0
    """It moves whenever the lease is taken from a load."""
    source: int = 0
    floor: int = 0
    near: int | None = None
    indexed: bool = False
    marks: frozenset[tuple[str, str]] = frozenset()
    reported: int = 0
    own: int = 0
    inbox: tuple[tuple[str, int], ...] = ()
    """The reports that have not come yet, in their order."""

    def stuck(self) -> str:
        if self.near is not None and self.near < self.floor:
            return f"version {self.near} is left near for ever"
        return super().stuck()


@dataclass(frozen=True)
class Near(Frame[State]):
    """A scene.

    Args:
        calls: How many calls the process makes.
        bumps: How many times others remove the tag.
        own: How many times the process itself removes the tag, in another event loop.
        unlinks: How many times others remove the key.
        clears: How many times the process itself removes everything.
        evictions: How often the tag is evicted.
        from_result: Whether the name of the tag is known from the value alone.
        broken: The rules that are left out.
    """

    calls: int = 2
    bumps: int = 0
    own: int = 0
    unlinks: int = 0
    clears: int = 0
    evictions: int = 0
    from_result: bool = False
    broken: frozenset[str] = frozenset()

    def first(self) -> State:
        made = {
            "call": self.calls,
            "bump": self.bumps,
            "own bump": self.own,
            "unlink": self.unlinks,
            "clear": self.clears,
        }
        tasks = {f"{kind} {n}": Task(kind) for kind, count in made.items() for n in range(count)}
        return State(value=(0, "g"), tag="g", tasks=tasks, evictions=self.evictions)

    def of_task(self, world: State, name: str) -> Steps[State]:
        task = world.tasks[name]
        for after in getattr(self, "_at_" + task.at.replace(" ", "_"))(world, name, task):
            yield f"{name}: {task.at}", after

    def _chances(self, world: State) -> Steps[State]:
        if world.inbox:
            after = world.copied()
            (what, version), *rest = world.inbox
            after.inbox, after.reported = tuple(rest), max(world.reported, version)
            self._forget(after, what)
            yield f"a report about the {what}", after
        if world.evictions and world.tag:
            after = world.copied()
            after.evictions, after.tag = world.evictions - 1, None
            self._changed(after, "tag", 0)
            yield "the tag is evicted", after

    def _changed(self, world: State, what: str, version: int) -> None:
        world.inbox = (*world.inbox, (what, version))

    def _forget(self, world: State, what: str) -> None:
        if what == "key" or (world.indexed and "index" not in self.broken):
            world.near, world.indexed = None, False
        world.marks = frozenset(mark for mark in world.marks if mark[0] != what)

    # --- a call: each question is carried out in one step, and heard in the next ------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Iterator[State]:
        if task.kind != "call":
            world.source += 1
            world.tasks[name] = task._replace(at="remove", version=world.source)
            yield world
            return
        if world.near is not None:
            needed = max(world.reported, world.own)
            world.wrong = f"near version {world.near}, and {needed} was invalidated" if world.near < needed else ""
            world.tasks[name] = Task("call", "done")
            yield world
            return
        world.marks |= {("key", name)}
        if not self.from_result and "marks for tags" not in self.broken:
            world.marks |= {("tag", name)}
        task = task._replace(floor=max(world.floor, world.own))
        for tag_first in (False,) if self.from_result else (False, True):
            after = world.copied()
            after.tasks[name] = task._replace(at="read tag" if tag_first else "read key", tag_first=tag_first)
            yield after

    def _at_read_key(self, world: State, name: str, task: Task) -> Iterator[State]:
        world.tasks[name] = task._replace(at="has key", value=world.value)
        yield world

    def _at_has_key(self, world: State, name: str, task: Task) -> Iterator[State]:
        if self.from_result and "marks in time" not in self.broken:
            world.marks |= {("tag", name)}
        world.tasks[name] = task._replace(at="judge" if task.tag_first else "read tag")
        yield world

    def _at_read_tag(self, world: State, name: str, task: Task) -> Iterator[State]:
        world.tasks[name] = task._replace(at="has tag", generation=world.tag)
        yield world

    def _at_has_tag(self, world: State, name: str, task: Task) -> Iterator[State]:
        if self.from_result and "marks in time" in self.broken:
            world.marks |= {("tag", name)}
        world.tasks[name] = task._replace(at="read key" if task.tag_first else "judge")
        yield world

    def _at_judge(self, world: State, name: str, task: Task) -> Iterator[State]:
        value = task.value
        if value is None or task.generation is None or value[1] != task.generation:
            world.tasks[name] = Task("call", "create", floor=task.floor)
        else:
            marked = {what for what, reader in world.marks if reader == name}
            if marked == {"key", "tag"} or (marked and "marks for tags" in self.broken):
                world.near, world.indexed = value[0], True
            world.wrong = f"version {value[0]}, and {task.floor} was invalidated" if value[0] < task.floor else ""
            world.tasks[name] = Task("call", "done")
        world.marks = frozenset(mark for mark in world.marks if mark[1] != name)
        yield world

    def _at_create(self, world: State, name: str, task: Task) -> Iterator[State]:
        if world.tag is None:
            world.tag = f"g:{name}"
            self._changed(world, "tag", 0)
        world.tasks[name] = task._replace(at="load", generation=world.tag, fence=world.fence)
        yield world

    def _at_load(self, world: State, name: str, task: Task) -> Iterator[State]:
        world.tasks[name] = task._replace(at="fill", version=world.source)
        yield world

    def _at_fill(self, world: State, name: str, task: Task) -> Iterator[State]:
        if world.fence == task.fence and task.generation is not None:
            world.value = (task.version, task.generation)
            world.fence += 1
            self._changed(world, "key", 0)
        world.tasks[name] = task._replace(at="filled")
        yield world

    def _at_filled(self, world: State, name: str, _: Task) -> Iterator[State]:
        self._forget(world, "key")
        world.tasks[name] = Task("call", "done")
        yield world

    # --- writers ----------------------------------------------------------------------------------

    def _at_remove(self, world: State, name: str, task: Task) -> Iterator[State]:
        if task.kind == "own bump" and "forgets before" not in self.broken:
            self._forget(world, "tag")
        for place in ("key", "tag") if task.kind == "clear" else ("",):
            after = world.copied()
            after.tasks[name] = task._replace(at=f"sweep {place}" if place else "unlink")
            yield after

    # It looks through all keys, in any order. That it has to do so twice is in `tests.models.clear`.
    def _at_sweep_key(self, world: State, name: str, task: Task) -> Iterator[State]:
        world.value, world.fence = None, world.fence + 1
        yield self._swept(world, name, task, "key")

    def _at_sweep_tag(self, world: State, name: str, task: Task) -> Iterator[State]:
        world.tag = None
        yield self._swept(world, name, task, "tag")

    def _swept(self, world: State, name: str, task: Task, what: str) -> State:
        self._changed(world, what, task.version)
        other = "tag" if what == "key" else "key"
        world.tasks[name] = task._replace(at="acknowledged" if task.passes else f"sweep {other}", passes=1)
        return world

    def _at_unlink(self, world: State, name: str, task: Task) -> Iterator[State]:
        if task.kind == "unlink":
            world.value, world.fence = None, world.fence + 1
        else:
            world.tag = None
        self._changed(world, "key" if task.kind == "unlink" else "tag", task.version)
        world.tasks[name] = task._replace(at="acknowledged")
        yield world

    def _at_acknowledged(self, world: State, name: str, task: Task) -> Iterator[State]:
        if task.kind == "own bump":
            if "forgets twice" not in self.broken:
                self._forget(world, "tag")
            world.own = max(world.own, task.version)
        if task.kind == "clear":
            if "clear forgets" not in self.broken:
                world.near, world.indexed, world.marks = None, False, frozenset()
            world.own = max(world.own, task.version)
        world.floor = max(world.floor, task.version)
        world.tasks[name] = Task(task.kind, "done")
        yield world

    def _at_done(self, world: State, name: str, task: Task) -> Iterator[State]:
        return
        yield world


SCENES: Final[dict[str, Near]] = {
    "others remove the tag": Near(bumps=1),
    "the process removes the tag in another loop": Near(own=1),
    "the tag, the key and an eviction": Near(bumps=1, unlinks=1, evictions=1),
    "the process and others": Near(calls=3, bumps=1, own=1),
    "the process clears": Near(clears=1),
    "the process clears, and others remove the tag": Near(calls=3, bumps=1, clears=1),
    "a tag of the result": Near(bumps=1, from_result=True),
    "a tag of the result, from both sides": Near(own=1, unlinks=1, from_result=True),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, Near]] = {
    "index": Near(bumps=1),
    "marks for tags": Near(bumps=1),
    "forgets twice": Near(own=1),
    "marks in time": Near(bumps=1, from_result=True),
    "clear forgets": Near(clears=1),
}
"""The rules, by name, each with a scene in which its absence shows."""

EXTRAS: Final[dict[str, Near]] = {
    "forgets before": Near(calls=3, own=1, broken=frozenset({"forgets before"})),
}
"""What is not needed for what is promised, by name, each with a scene that lacks it, and holds."""

LARGE: Final = Near(calls=4, bumps=2, own=1, unlinks=1, evictions=1)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Near:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
