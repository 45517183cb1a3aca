"""The protocol of `clear`: a server is looked through, key by key, and each key is removed.

It finds what is there from its beginning to its end; whatever comes or goes meanwhile it may miss. Calls read, load and
fill; those of one process share loads. Others invalidate. A fill may be lost, carried out without an answer, or carried
out at any later time; a value and a lease may end.

What is promised: no call that begins after it has ended gets what was loaded before it began; one load of a key goes on
at a time, unless it was voided; and nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple

from tests.models.frame import DOWN, Frame, Steps, World


class Flight(NamedTuple):
    """A load that the calls of one process share."""

    token: str = ""
    """Of its lease; empty if it has none."""
    loading: bool = False
    over: bool = False
    void: bool = False
    version: int = 0
    asked: int = 0
    """When its leader asked for the value that it has found, and not loaded; 0 if it has loaded."""


class Process(NamedTuple):
    """What one process knows."""

    flight: str = ""
    clock: int = 0
    """The number of the last call that has joined a load, or of the last question."""


class Task(NamedTuple):
    """How far one task is."""

    process: str
    kind: str
    at: str = "begin"
    answer: Any = None
    floor: int = 0
    earlier: str = ""
    """The flight whose load had begun before the call read."""
    flight: str = ""
    number: int = 0
    """When it has joined a load, or asked."""
    tries: int = 0
    version: int = 0
    ahead: tuple[str, ...] = ()
    """The keys that `clear` has still to look at in its pass."""
    passes: int = 0


@dataclass(kw_only=True)
class State(World):
    """One world."""

    DICTS: ClassVar[tuple[str, ...]] = ("processes", "flights")

    value: int | None
    processes: dict[str, Process]
    flights: dict[str, Flight]
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
        calls: The processes of calls that read, and load what they do not find, or share a load. ``"A"`` clears.
        unlinks: How many times others write to the source, and remove the value and the lease.
        faults: How many commands go wrong.
        lapses: How many leases end while they are held.
        gone: How often the value ends.
        warm: Whether there is a value at the beginning.
        under_way: Whether the first call is about to load at the beginning, with the lease.
        broken: The rules that are left out.
    """

    calls: tuple[str, ...]
    unlinks: int = 0
    faults: int = 0
    lapses: int = 0
    gone: int = 0
    warm: bool = False
    under_way: bool = False
    broken: frozenset[str] = frozenset()

    def first(self) -> State:
        tasks = {"clear": Task("A", "clear")}
        tasks |= {f"call {n} of {who}": Task(who, "call") for n, who in enumerate(self.calls)}
        tasks |= {f"unlink {n}": Task("U", "unlink") for n in range(self.unlinks)}
        world = State(
            value=0 if self.warm else None,
            processes={task.process: Process() for task in tasks.values()},
            flights={},
            tasks=tasks,
            faults=self.faults,
            lapses=self.lapses,
            gone=self.gone,
        )
        if self.under_way:
            name = f"call 0 of {self.calls[0]}"
            tasks[name] = tasks[name]._replace(at="load", flight="first")
            world.processes[self.calls[0]] = Process(flight="first")
            world.flights["first"] = Flight("t:first", loading=True)
            world.lease, world.live = "t:first", frozenset({"t:first"})
        return world

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

    def _do_read(self, world: State) -> tuple[int | None, str]:
        return world.value, world.lease

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

    # --- a call: reading, leading and joining -----------------------------------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        if task.kind == "call":
            process = world.processes[task.process]
            flight = world.flights.get(process.flight, Flight())
            earlier = process.flight if flight.loading else ""
            after.tasks[name] = task._replace(at="read", floor=world.floor, earlier=earlier)
            yield "begins", after
            return
        after.source += 1
        if task.kind == "unlink":
            after.tasks[name] = task._replace(at="unlink", version=after.source)
            yield f"writes version {after.source}", after
            return
        if "voids the loads of its process" not in self.broken:
            self._void(after, task.process)
        yield from self._begin_pass(after, name, task._replace(version=after.source))

    def _at_read(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("read",), "has read", safe=True)

    def _at_has_read(self, world: State, name: str, task: Task) -> Steps[State]:
        after, (value, holder) = world.copied(), task.answer
        if value is not None:
            self._return(after, name, value)
        else:
            self._board(after, name, task, holder)
        yield f"hears {task.answer}", after

    def _board(self, world: State, name: str, task: Task, holder: str = "") -> None:
        """Let a call join the load that its process has open, or lead one."""
        process = world.processes[task.process]
        flight = world.flights.get(process.flight)
        began_before = process.flight == task.earlier and "joins without token" not in self.broken
        if flight is None or (began_before and (not flight.token or flight.token != holder)):
            number = f"{name}.{task.tries}"
            world.flights[number] = Flight()
            world.processes[task.process] = process._replace(flight=number)
            world.tasks[name] = task._replace(at="ask", flight=number, tries=task.tries + 1, answer=None, earlier="")
        else:
            joined = self._next(world, task.process)
            world.tasks[name] = task._replace(at="join", flight=process.flight, number=joined, answer=None, earlier="")

    @staticmethod
    def _next(world: State, who: str) -> int:
        """Return the next number of a process."""
        process = world.processes[who]
        world.processes[who] = process._replace(clock=process.clock + 1)
        return process.clock + 1

    def _at_join(self, world: State, name: str, task: Task) -> Steps[State]:
        flight = world.flights[task.flight]
        if not flight.over:
            return
        after = world.copied()
        if flight.asked and flight.asked < task.number and "found is for all" not in self.broken:
            self._board(after, name, task)
        else:
            self._return(after, name, flight.version)
        yield "hears of the flight's end", after

    def _return(self, world: State, name: str, version: int) -> None:
        task = world.tasks[name]
        if version < task.floor:
            world.wrong = f"{name} got version {version}, and {task.floor} was written before it began"
        world.tasks[name] = Task(task.process, task.kind, "done")

    def _at_ask(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.tasks[name] = task._replace(at="take", number=self._next(after, task.process), answer=None)
        yield "asks for the lease", after

    def _at_take(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("take", f"t:{task.flight}"), "taken")

    def _at_taken(self, world: State, name: str, task: Task) -> Steps[State]:
        after, answer, token = world.copied(), task.answer, f"t:{task.flight}"
        if answer in {"mine", DOWN}:
            after.dead |= {token} if answer == DOWN else frozenset()
            held = token if answer == "mine" else ""
            after.flights[task.flight] = world.flights[task.flight]._replace(token=held, loading=True)
            after.tasks[name] = task._replace(at="load", answer=None)
        elif isinstance(answer, str):
            after.tasks[name] = task._replace(at="wait")
        else:
            flight = world.flights[task.flight]
            after.flights[task.flight] = flight._replace(over=True, version=answer, asked=task.number)
            self._close(after, task)
            self._return(after, name, answer)
        yield f"hears {answer}", after

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        if world.lease != task.answer:
            yield from self._at_ask(world, name, task)

    # --- a load -----------------------------------------------------------------------------------

    def _at_load(self, world: State, name: str, task: Task) -> Steps[State]:
        after, token = world.copied(), world.flights[task.flight].token
        if token in world.live and any(other in world.live for other in world.loading):
            after.wrong = "two loads of one key at a time"
        after.loading = tuple(sorted((*world.loading, token)))
        after.tasks[name] = task._replace(at="loaded", version=world.source)
        yield f"loads version {world.source}", after

    def _at_loaded(self, world: State, name: str, task: Task) -> Steps[State]:
        flight = world.flights[task.flight]
        after, left = world.copied(), [*world.loading]
        left.remove(flight.token)
        after.loading = tuple(left)
        after.flights[task.flight] = flight._replace(over=True, version=task.version)
        kept = flight.token and not flight.void
        after.tasks[name] = task._replace(at="fill" if kept else "filled")
        yield "its load returns", after

    def _at_fill(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("fill", f"t:{task.flight}", task.version), "filled")

    def _at_filled(self, world: State, name: str, task: Task) -> Steps[State]:
        after, token = world.copied(), f"t:{task.flight}"
        if world.lease == token:
            after.lease = ""
        after.live -= {token}
        self._close(after, task)
        self._return(after, name, task.version)
        yield "gives the lease back", after

    @staticmethod
    def _close(world: State, task: Task) -> None:
        """Let later calls find the flight no more."""
        process = world.processes[task.process]
        if process.flight == task.flight:
            world.processes[task.process] = process._replace(flight="")

    # --- writers ----------------------------------------------------------------------------------

    def _void(self, world: State, who: str) -> None:
        process = world.processes[who]
        if process.flight:
            world.flights[process.flight] = world.flights[process.flight]._replace(void=True)
            world.processes[who] = process._replace(flight="")

    def _at_unlink(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("unlink",), "unlinked", safe=True)

    def _at_unlinked(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.floor = max(after.floor, task.version)
        after.tasks[name] = Task(task.process, task.kind, "done")
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
        elif task.passes < (1 if "two passes" in self.broken else 2):
            yield from self._begin_pass(after, name, task)
        else:
            after.tasks[name] = task._replace(at="ended", ahead=())
            yield f"removes the {what}", after

    def _at_ended(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.floor = max(after.floor, task.version)
        after.tasks[name] = Task(task.process, task.kind, "done")
        yield "has ended", after


SCENES: Final[dict[str, Clear]] = {
    "calls of a warm key": Clear(("A", "B"), warm=True, gone=1),
    "calls of a cold key, with a fault": Clear(("A", "B"), faults=1),
    "calls of a cold key, some of one process": Clear(("A", "A", "B")),
    "a lease lapses and the value ends": Clear(("A", "B"), lapses=1, gone=1),
    "an invalidation, with a fault": Clear(("A", "B"), 1, faults=1),
    "calls share a load of the process that clears": Clear(("A", "A", "A"), under_way=True),
    "calls share a load of another process": Clear(("B", "B", "B"), under_way=True),
    "calls wait for the load of another process": Clear(("B", "A", "A"), under_way=True),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, Clear]] = {
    "two passes": Clear(("A", "B")),
    # By others than the process that clears: that voids its loads.
    "joins without token": Clear(("B", "B"), under_way=True),
    "found is for all": Clear(("C", "B", "B"), under_way=True),
}
"""The rules, by name, each with a scene in which its absence shows."""

_VOIDS: Final = "voids the loads of its process"

EXTRAS: Final[dict[str, Clear]] = {
    f"{_VOIDS}: one goes on": Clear(("A", "A", "A"), under_way=True, broken=frozenset({_VOIDS})),
    f"{_VOIDS}: one waits for another process": Clear(("B", "A", "A"), under_way=True, broken=frozenset({_VOIDS})),
}
"""What is not needed for what is promised, by name, each with a scene that lacks it, and holds."""

LARGE: Final = Clear(("A", "A", "A", "B", "B"), 2, faults=2, lapses=1, gone=1, warm=True)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Clear:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
