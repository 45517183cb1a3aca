"""The protocol of values in hand: a writer takes the lease over, writes the source, and stores its value under it.

Readers load and fill. Writers put, or write and invalidate. A command may be lost, carried out without an answer, or
carried out at any later time.

What is promised of each reader: the version that it gets is no older than the newest write that had returned before it
began. A write returns when its value is stored, or the key is invalidated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tests.models.frame import DOWN, Frame, Steps, World


class Task(NamedTuple):
    """How far one task is."""

    kind: str
    at: str = "begin"
    answer: Any = None
    floor: int = 0
    version: int = 0
    tries: int = 0
    held: bool = False


@dataclass(kw_only=True)
class State(World):
    """One world."""

    value: int | None
    lease: str
    source: int
    floor: int
    dead: frozenset[str]
    """Tokens of whose lease nobody has heard: it ends by itself."""
    lapses: int


@dataclass(frozen=True)
class Puts(Frame[State]):
    """A scene: how many readers, writers that put, and writers that invalidate.

    Args:
        readers: Calls that read, and load what they do not find.
        puts: Writers that store what they have written.
        invalidations: Writers that invalidate.
        faults: How many commands go wrong.
        lapses: How many leases end while they are held.
        warm: Whether there is a value at the beginning.
        broken: The rules that are left out.
    """

    readers: int
    puts: int
    invalidations: int = 0
    faults: int = 0
    lapses: int = 0
    warm: bool = True
    broken: frozenset[str] = field(default_factory=frozenset)

    def first(self) -> State:
        numbers = {"read": self.readers, "put": self.puts, "invalidate": self.invalidations}
        tasks = {f"{kind} {n}": Task(kind) for kind, number in numbers.items() for n in range(number)}
        return State(
            value=0 if self.warm else None,
            lease="",
            source=0,
            floor=0,
            tasks=tasks,
            dead=frozenset(),
            faults=self.faults,
            lapses=self.lapses,
        )

    def _chances(self, world: State) -> Steps[State]:
        if world.lease and (world.lease in world.dead or world.lapses):
            after = world.copied()
            after.lapses -= world.lease not in world.dead
            after.lease = ""
            yield "the lease ends", after

    # --- the server -------------------------------------------------------------------------------

    def _do_get(self, world: State) -> int | None:
        return world.value

    def _do_take(self, world: State, token: str) -> Any:
        if world.value is not None:
            return world.value
        if world.lease:
            return world.lease
        world.lease = token
        return "mine"

    def _do_seize(self, world: State, token: str) -> bool:
        world.lease = token
        return True

    def _do_fill(self, world: State, token: str, version: int) -> bool:
        if world.lease != token:
            return False
        world.value, world.lease = version, ""
        return True

    def _do_set(self, world: State, version: int) -> bool:
        world.value, world.lease = version, ""
        return True

    def _do_unlink(self, world: State) -> bool:
        world.value, world.lease = None, ""
        return True

    # --- readers ----------------------------------------------------------------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        if task.kind == "read":
            after.tasks[name] = task._replace(at="get", floor=world.floor)
            yield "begins", after
        elif task.kind == "put" and not self.broken & {"sets after the write", "seizes after the write"}:
            yield from self._ask(world, name, ("seize", f"t:{name}"), "seized")
        else:
            yield from self._written(world, name, task)

    def _written(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.source += 1
        then = "store" if task.kind == "put" else "unlink"
        if task.kind == "put" and "seizes after the write" in self.broken:
            then = "late_seize"
        after.tasks[name] = task._replace(at=then, version=after.source, answer=None)
        yield f"writes version {after.source}", after

    def _at_get(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("get",), "got", safe=True)

    def _at_got(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        if task.answer is None:
            after.tasks[name] = task._replace(at="take")
        else:
            self._return(after, name, task.answer)
        yield f"finds {task.answer}", after

    def _at_take(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("take", f"t:{name}.{task.tries}"), "taken")

    def _at_taken(self, world: State, name: str, task: Task) -> Steps[State]:
        after, token = world.copied(), f"t:{name}.{task.tries}"
        if task.answer in {"mine", DOWN}:
            after.dead |= {token} if task.answer == DOWN else frozenset()
            after.tasks[name] = task._replace(at="load", held=task.answer == "mine")
        elif isinstance(task.answer, str):
            after.tasks[name] = task._replace(at="wait")
        else:
            self._return(after, name, task.answer)
        yield f"hears {task.answer}", after

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        if world.lease != task.answer:
            after = world.copied()
            after.tasks[name] = task._replace(at="take", answer=None, tries=task.tries + 1)
            yield "asks again", after

    def _at_load(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.tasks[name] = task._replace(at="fill" if task.held else "leave", version=world.source)
        yield f"loads version {world.source}", after

    def _at_fill(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("fill", f"t:{name}.{task.tries}", task.version), "leave")

    def _at_leave(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        if after.lease == f"t:{name}.{task.tries}":
            after.lease = ""
        self._return(after, name, task.version)
        yield "returns", after

    def _return(self, world: State, name: str, version: int) -> None:
        task = world.tasks[name]
        if version < task.floor:
            world.wrong = f"{name} got version {version}, and {task.floor} was written before it began"
        world.tasks[name] = Task("read", at="done")

    # --- writers ----------------------------------------------------------------------------------

    def _at_seized(self, world: State, name: str, task: Task) -> Steps[State]:
        heard = task.answer is True
        for label, after in self._written(world, name, task._replace(held=heard)):
            after.dead |= frozenset() if heard else {f"t:{name}"}
            yield label, after

    def _at_late_seize(self, world: State, name: str, task: Task) -> Steps[State]:
        for label, after in self._ask(world, name, ("seize", f"t:{name}"), "store", safe=True):
            after.tasks[name] = after.tasks[name]._replace(held=True)
            yield label, after

    def _at_store(self, world: State, name: str, task: Task) -> Steps[State]:
        if "sets after the write" in self.broken:
            yield from self._ask(world, name, ("set", task.version), "stored", safe=True)
        elif task.held:
            yield from self._ask(world, name, ("fill", f"t:{name}", task.version), "stored")
        else:
            after = world.copied()
            after.tasks[name] = task._replace(at="unlink")
            yield "was not heard, and invalidates", after

    def _at_stored(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.dead |= {f"t:{name}"} if task.answer == DOWN else frozenset()
        if task.answer is True or "a refused put stays" in self.broken:
            self._end(after, name, task)
        else:
            after.tasks[name] = task._replace(at="unlink")
        yield f"hears {task.answer}", after

    def _at_unlink(self, world: State, name: str, task: Task) -> Steps[State]:
        # Where it fails, the journal holds it in force in this process until it is acknowledged.
        yield from self._ask(world, name, ("unlink",), "unlinked", safe=True)

    def _at_unlinked(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._end(after, name, task)
        yield "has invalidated", after

    def _end(self, world: State, name: str, task: Task) -> None:
        world.floor = max(world.floor, task.version)
        world.tasks[name] = Task(task.kind, at="done")


SCENES: Final[dict[str, Puts]] = {
    "two puts and a reader": Puts(1, 2),
    "a put, an invalidation and a reader": Puts(1, 1, 1),
    "a put and two readers of a cold key, a fault and a lease that lapses": Puts(2, 1, faults=1, lapses=1, warm=False),
    "two puts and two readers, with a fault": Puts(2, 2, faults=1),
    "two puts, an invalidation and a reader, a fault and a lease that lapses": Puts(1, 2, 1, faults=1, lapses=1),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, Puts]] = {
    "sets after the write": Puts(1, 2),
    "seizes after the write": Puts(1, 2),
    "a refused put stays": Puts(1, 2),
}
"""The rules, by name, each with a scene in which its absence shows."""

LARGE: Final = Puts(3, 3, 1, faults=2, lapses=1)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Puts:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
