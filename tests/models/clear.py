"""The protocol of `clear`: a server is looked through, key by key, and each key is removed.

It finds what is there from its beginning to its end; whatever comes or goes meanwhile it may miss. Calls load and fill,
and others invalidate. A fill may be lost, carried out without an answer, or carried out at any later time; a value and
a lease may end.

What is promised: nothing that was loaded before it began is a hit after it has ended; one load of a key goes on at a
time, unless it was voided; and nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from tests.models.frame import DOWN, Frame, Steps, World


class Task(NamedTuple):
    """How far one task is."""

    kind: str
    at: str = "begin"
    answer: Any = None
    version: int = 0
    ahead: tuple[str, ...] = ()
    """The keys that `clear` has still to look at in its pass."""
    passes: int = 0
    held: bool = False


@dataclass(kw_only=True)
class State(World):
    """One world."""

    value: int | None
    lease: str = ""
    source: int = 0
    floor: int = 0
    live: frozenset[str] = frozenset()
    """The tokens whose lease was taken, and that nothing has voided."""
    loading: tuple[str, ...] = ()
    dead: frozenset[str] = frozenset()
    """Tokens of whose lease nobody has heard: it ends by itself."""
    lapses: int
    gone: int


@dataclass(frozen=True)
class Clear(Frame[State]):
    """A scene.

    Args:
        loads: How many calls read, and load what they do not find.
        unlinks: How many times others write to the source, and remove the value and the lease.
        passes: How often all keys are looked through.
        faults: How many commands go wrong.
        lapses: How many leases end while they are held.
        gone: How often the value ends.
        warm: Whether there is a value at the beginning.
    """

    loads: int
    unlinks: int = 0
    passes: int = 2
    faults: int = 0
    lapses: int = 0
    gone: int = 0
    warm: bool = False

    def first(self) -> State:
        made = {"clear": 1, "call": self.loads, "unlink": self.unlinks}
        tasks = {f"{kind} {n}": Task(kind) for kind, number in made.items() for n in range(number)}
        value = 0 if self.warm else None
        return State(value=value, tasks=tasks, faults=self.faults, lapses=self.lapses, gone=self.gone)

    def _judge(self, after: State) -> None:
        # A call might begin now.
        if after.value is not None and after.value < after.floor:
            after.wrong = f"version {after.value} would be a hit, and {after.floor} was written before the end"

    def _chances(self, world: State) -> Steps[State]:
        if world.lease and (world.lease in world.dead or world.lapses):
            after = world.copied()
            after.lapses -= world.lease not in world.dead
            after.lease, after.live = "", frozenset()
            yield "the lease ends", after
        if world.gone and world.value is not None:
            after = world.copied()
            after.gone, after.value = world.gone - 1, None
            yield "the value ends", after

    # --- the server -------------------------------------------------------------------------------

    def _do_take(self, world: State, token: str) -> int | str:
        if world.value is not None:
            return world.value
        if world.lease:
            return world.lease
        world.lease = token
        world.live |= {token}
        return "mine"

    def _do_fill(self, world: State, token: str, version: int) -> bool:
        if world.lease != token:
            return False
        world.value, world.lease = version, ""
        world.live -= {token}
        return True

    def _do_unlink(self, world: State) -> None:
        world.value, world.lease, world.live = None, "", frozenset()

    # --- a call -----------------------------------------------------------------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        if task.kind == "call":
            yield from self._ask(world, name, ("take", f"t:{name}"), "taken")
            return
        after = world.copied()
        after.source += 1
        if task.kind == "unlink":
            after.tasks[name] = task._replace(at="unlink", version=after.source)
            yield f"writes version {after.source}", after
            return
        yield from self._begin_pass(after, name, task._replace(version=after.source))

    def _at_taken(self, world: State, name: str, task: Task) -> Steps[State]:
        after, answer, token = world.copied(), task.answer, f"t:{name}"
        if answer in {"mine", DOWN}:
            after.dead |= {token} if answer == DOWN else frozenset()
            after.tasks[name] = Task("call", "load", held=answer == "mine")
        elif isinstance(answer, str):
            after.tasks[name] = Task("call", "wait", answer=answer)
        else:
            after.tasks[name] = Task("call", "done")
        yield f"hears {answer}", after

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        if world.lease != task.answer:
            after = world.copied()
            after.tasks[name] = Task("call")
            yield "asks again", after

    def _at_load(self, world: State, name: str, task: Task) -> Steps[State]:
        after, token = world.copied(), f"t:{name}" if task.held else ""
        if token in world.live and any(other in world.live for other in world.loading):
            after.wrong = "two loads of one key at a time"
        after.loading = tuple(sorted((*world.loading, token)))
        after.tasks[name] = task._replace(at="loaded", version=world.source)
        yield f"loads version {world.source}", after

    def _at_loaded(self, world: State, name: str, task: Task) -> Steps[State]:
        after, left = world.copied(), [*world.loading]
        left.remove(f"t:{name}" if task.held else "")
        after.loading = tuple(left)
        if task.held:
            yield from self._ask(after, name, ("fill", f"t:{name}", task.version), "filled")
        else:
            after.tasks[name] = Task("call", "done")
            yield "its load returns, and is not stored", after

    def _at_filled(self, world: State, name: str, task: Task) -> Steps[State]:
        after, token = world.copied(), f"t:{name}"
        if world.lease == token:
            after.lease = ""
        after.live -= {token}
        after.tasks[name] = Task("call", "done")
        yield "gives the lease back", after

    # --- writers ----------------------------------------------------------------------------------

    def _at_unlink(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("unlink",), "unlinked", safe=True)

    def _at_unlinked(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.floor = max(after.floor, task.version)
        after.tasks[name] = Task("unlink", "done")
        yield "is acknowledged", after

    def _begin_pass(self, world: State, name: str, task: Task) -> Steps[State]:
        for order in (("lease", "value"), ("value", "lease")):
            after = world.copied()
            after.tasks[name] = task._replace(at="look", ahead=order, passes=task.passes + 1)
            yield f"begins pass {task.passes + 1}", after

    def _at_look(self, world: State, name: str, task: Task) -> Steps[State]:
        after, (what, *rest) = world.copied(), task.ahead
        if what == "lease":
            after.lease, after.live = "", frozenset()
        else:
            after.value = None
        if rest:
            after.tasks[name] = task._replace(ahead=tuple(rest))
            yield f"removes the {what}", after
        elif task.passes < self.passes:
            yield from self._begin_pass(after, name, task)
        else:
            after.tasks[name] = task._replace(at="ended", ahead=())
            yield f"removes the {what}", after

    def _at_ended(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.floor = max(after.floor, task.version)
        after.tasks[name] = Task("clear", "done")
        yield "has ended", after


SCENES: Final[dict[str, Clear]] = {
    "calls of a warm key": Clear(3, warm=True, gone=1),
    "calls of a cold key, with a fault": Clear(3, faults=1),
    "a lease lapses and the value ends": Clear(3, lapses=1, gone=1),
    "an invalidation, with a fault": Clear(3, 1, faults=1),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, Clear]] = {"two passes": Clear(2)}
"""The rules, by name, each with a scene in which its absence shows."""

LARGE: Final = Clear(5, 2, faults=2, lapses=1, gone=1, warm=True)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Clear:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], passes=1)
