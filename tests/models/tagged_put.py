"""The protocol of values in hand with tags: the tag is opened with the lease, before the source is written.

It is that of `tests.models.put`, with a tag at another server. What goes in one round trip is carried out in any order.
A value records the generation that stood when its writer, or its load, asked; and is a hit as long as that one stands.
Others write to the source, and remove the tag.

What is promised of each reader: the version that it gets is no older than the newest write that had returned before it
began. A write returns when its value is stored, or the key or the tag is removed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from tests.models import put
from tests.models.frame import DOWN, Steps


class Value(NamedTuple):
    """The value at the key."""

    version: int
    generation: str


class Task(NamedTuple):
    """How far one task is, and what of a round trip it has heard."""

    kind: str
    at: str = "begin"
    answer: Any = None
    floor: int = 0
    version: int = 0
    tries: int = 0
    held: bool = False
    todo: tuple[str, ...] = ()
    """The commands of the round trip that are not carried out yet."""
    heard: tuple[tuple[str, Any], ...] = ()
    then: str = ""
    generation: str | None = None
    invalid: str = ""
    """The generation of the value that it has seen and could not use."""


@dataclass(kw_only=True)
class State(put.State):
    """One world."""

    tag: str | None = "g"


@dataclass(frozen=True)
class TaggedPuts(put.Puts):
    """A scene, as `tests.models.put.Puts`.

    Args:
        bumps: Writers that remove the tag.
        evicted: Whether the tag that stands at the beginning may be evicted.
        hands: Readers that name the key alone: they ask for the tags that the value records, and load nothing.
    """

    bumps: int = 0
    evicted: bool = False
    hands: int = 0

    def first(self) -> State:
        numbers = {
            "read": self.readers,
            "hand": self.hands,
            "put": self.puts,
            "invalidate": self.invalidations,
            "bump": self.bumps,
        }
        tasks = {f"{kind} {n}": Task(kind) for kind, number in numbers.items() for n in range(number)}
        value: Any = Value(0, "g") if self.warm else None
        return State(**{**vars(super().first()), "value": value, "tasks": tasks})

    def _chances(self, world: Any) -> Steps[Any]:
        yield from super()._chances(world)
        if self.evicted and world.tag == "g":
            after = world.copied()
            after.tag = None
            yield "the tag is evicted", after

    # --- the servers ------------------------------------------------------------------------------

    def _do_tag(self, world: State) -> str | None:
        return world.tag

    def _do_create(self, world: State, generation: str) -> str:
        world.tag = world.tag or generation
        return world.tag

    def _do_remove(self, world: State) -> bool:
        world.tag = None
        return True

    def _do_take(self, world: Any, token: str, invalid: str = "") -> Any:
        if world.value is not None and world.value.generation != invalid:
            return world.value
        if world.lease:
            return world.lease
        world.lease = token
        return "mine"

    def _do_fill(self, world: Any, token: str, version: int, generation: str = "") -> bool:
        if world.lease != token:
            return False
        world.value, world.lease = Value(version, generation), ""
        return True

    def _is_valid(self, value: Value, generation: str | None) -> bool:
        if generation is None:
            return "a missing tag validates" in self.broken
        return value.generation == generation

    def _trip(self, task: Task, then: str, *commands: str) -> Task:
        return task._replace(at="trip", todo=commands, heard=(), then=then, answer=None)

    def _at_trip(self, world: Any, name: str, task: Any) -> Steps[Any]:
        token, number = f"t:{name}.{task.tries}", f"g:{name}.{task.tries}"
        arguments = {"create": (number,), "take": (token, task.invalid), "seize": (token,)}
        for verb in task.todo:
            left = tuple(other for other in task.todo if other != verb)
            command = (verb, *arguments.get(verb, ()))
            for label, after in self._ask(world, name, command, "trip", safe=verb in {"get", "tag"}):
                heard = (*task.heard, (verb, after.tasks[name].answer))
                after.tasks[name] = task._replace(at="trip" if left else task.then, todo=left, heard=heard)
                yield label, after

    # --- readers ----------------------------------------------------------------------------------

    def _at_begin(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after = world.copied()
        if task.kind == "read":
            after.tasks[name] = self._trip(task._replace(floor=world.floor), "judge", "get", "tag")
            yield "begins", after
        elif task.kind == "hand":
            after.tasks[name] = self._trip(task._replace(floor=world.floor), "look", "get")
            yield "begins", after
        elif task.kind != "put" or "seizes after the write" in self.broken:
            yield from self._written(world, name, task)
        else:
            late = "generations behind the write" in self.broken
            after.tasks[name] = self._trip(task, "seized", "seize", *(() if late else ("create",)))
            yield "begins", after

    def _at_judge(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after, heard = world.copied(), dict(task.heard)
        value = heard["get"]
        if value is not None and self._is_valid(value, heard["tag"]):
            self._return(after, name, value.version)
        else:
            invalid = "" if value is None else value.generation
            after.tasks[name] = self._trip(task._replace(invalid=invalid), "taken", "create", "take")
        yield "judges", after

    def _at_look(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after, heard = world.copied(), dict(task.heard)
        value, generation = heard["get"], heard.get("tag")
        if value is None:
            after.tasks[name] = task._replace(at="done")
        elif not value.generation or ("tag" in heard and self._is_valid(value, generation)):
            self._return(after, name, value.version)
        elif "tag" in heard:
            after.tasks[name] = task._replace(at="done")
        else:
            # The value names its tags: it is read again, together with them.
            after.tasks[name] = self._trip(task, "look", "get", "tag")
        yield "looks", after

    def _at_taken(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after, heard, token = world.copied(), dict(task.heard), f"t:{name}.{task.tries}"
        taken, generation = heard["take"], None if heard["create"] == DOWN else heard["create"]
        again = task._replace(tries=task.tries + 1)
        if taken in {"mine", DOWN}:
            after.dead |= {token} if taken == DOWN else frozenset()
            after.tasks[name] = task._replace(at="load", held=taken == "mine", generation=generation)
        elif isinstance(taken, str):
            after.tasks[name] = again._replace(at="wait", answer=taken)
        elif self._is_valid(taken, generation):
            self._return(after, name, taken.version)
        else:
            after.tasks[name] = self._trip(again._replace(invalid=taken.generation), "taken", "create", "take")
        yield f"hears {taken}", after

    def _at_wait(self, world: Any, name: str, task: Any) -> Steps[Any]:
        if world.lease != task.answer:
            after = world.copied()
            after.tasks[name] = self._trip(task, "taken", "create", "take")
            yield "asks again", after

    def _at_load(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after = world.copied()
        stores = task.held and task.generation is not None
        after.tasks[name] = task._replace(at="fill" if stores else "leave", version=world.source)
        yield f"loads version {world.source}", after

    def _at_fill(self, world: Any, name: str, task: Any) -> Steps[Any]:
        command = ("fill", f"t:{name}.{task.tries}", task.version, task.generation)
        yield from self._ask(world, name, command, "leave")

    # --- writers ----------------------------------------------------------------------------------

    def _written(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after = world.copied()
        after.source += 1
        wrote = task._replace(version=after.source, answer=None)
        if task.kind != "put":
            after.tasks[name] = wrote._replace(at="unlink" if task.kind == "invalidate" else "remove")
        elif "seizes after the write" in self.broken:
            after.tasks[name] = self._trip(wrote, "hear", "seize", "create")
        elif "generations behind the write" in self.broken:
            after.tasks[name] = self._trip(wrote, "hear", "create")
        else:
            after.tasks[name] = wrote._replace(at="store")
        yield f"writes version {after.source}", after

    def _at_seized(self, world: Any, name: str, task: Any) -> Steps[Any]:
        heard = self._note(world, name, task)
        yield from self._written(heard, name, heard.tasks[name])

    def _at_hear(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after = self._note(world, name, task)
        after.tasks[name] = after.tasks[name]._replace(at="store")
        yield "hears", after

    def _note(self, world: Any, name: str, task: Any) -> Any:
        """Return the world in which a writer has heard what its round trip came to."""
        after, heard = world.copied(), dict(task.heard)
        held = heard.get("seize", task.held) is True
        generation = heard.get("create", task.generation)
        after.dead |= frozenset() if held else {f"t:{name}.{task.tries}"}
        known = None if generation == DOWN else generation
        after.tasks[name] = task._replace(held=held, generation=known, heard=())
        return after

    def _at_store(self, world: Any, name: str, task: Any) -> Steps[Any]:
        known = task.generation is not None or "a missing tag validates" in self.broken
        if task.held and known:
            generation = "" if "stored with its tags" in self.broken else task.generation or ""
            command = ("fill", f"t:{name}.{task.tries}", task.version, generation)
            yield from self._ask(world, name, command, "stored")
            return
        after = world.copied()
        after.tasks[name] = task._replace(at="unlink")
        yield "cannot store, and invalidates", after

    def _at_stored(self, world: Any, name: str, task: Any) -> Steps[Any]:
        after = world.copied()
        after.dead |= {f"t:{name}.{task.tries}"} if task.answer == DOWN else frozenset()
        if task.answer is True or "a refused put stays" in self.broken:
            self._end(after, name, task)
        else:
            after.tasks[name] = task._replace(at="unlink")
        yield f"hears {task.answer}", after

    def _at_remove(self, world: Any, name: str, task: Any) -> Steps[Any]:
        # As `unlink`: where it fails, the journal holds it in force.
        yield from self._ask(world, name, ("remove",), "unlinked", safe=True)


SCENES: Final[dict[str, TaggedPuts]] = {
    "a put, a removal of the tag and a reader": TaggedPuts(1, 1, bumps=1),
    "a put, a removal of the tag and two readers, cold": TaggedPuts(2, 1, bumps=1, warm=False),
    "two puts and a reader, with tags": TaggedPuts(1, 2),
    "a put, a removal of the tag and one of the key": TaggedPuts(1, 1, 1, bumps=1),
    "a put and a removal, a fault, a lapse and an eviction": TaggedPuts(
        1, 1, bumps=1, faults=1, lapses=1, evicted=True
    ),
    "two puts, a removal and a fault": TaggedPuts(1, 2, bumps=1, faults=1),
    "a put, a removal of the tag and readers, one of them by hand": TaggedPuts(1, 1, bumps=1, hands=1),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, TaggedPuts]] = {
    "generations behind the write": TaggedPuts(1, 1, bumps=1),
    "seizes after the write": TaggedPuts(1, 2),
    "a refused put stays": TaggedPuts(1, 2),
    "a missing tag validates": TaggedPuts(1, 1, bumps=1, faults=1),
    "stored with its tags": TaggedPuts(0, 1, bumps=1, hands=1),
}
"""The rules, by name, each with a scene in which its absence shows."""

LARGE: Final = TaggedPuts(3, 2, 1, bumps=2, faults=2, lapses=1, evicted=True)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> TaggedPuts:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
