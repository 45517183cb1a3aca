"""The protocol of tags: what a call may return, whatever else goes on.

A value and its lease are at one server, its tag is at another. A tag is a key with a random generation. A value records
the generation that stood before its load, and is a hit as long as that one stands. Calls read, load and fill; others
remove the tag, or the key. A command may be lost, carried out without an answer, or carried out at any later time.

What is promised of each call:

- the version that it returns is no older than the newest invalidation, of the key or of the tag, that was acknowledged
  before the call began, or made in its own process;
- one load of a key goes on at a time, unless it was voided; and nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from tests.models.frame import DOWN, Frame, Steps, World


class Value(NamedTuple):
    """The value at the key."""

    version: int
    generation: str


class Read(NamedTuple):
    """The answer to a read of the key."""

    value: Value | None
    holder: str


class Flight(NamedTuple):
    """A load that the calls of one process share."""

    token: str = ""
    generation: str | None = None
    """The one that its load records; None if nobody knows it."""
    loading: bool = False
    over: bool = False
    void: bool = False
    version: int | None = None
    failed: bool = False
    asked: int = 0
    """When its leader asked for the value that it has found, and not loaded; 0 if it has loaded."""


class Process(NamedTuple):
    """What one process knows."""

    flight: str = ""
    pending: tuple[str, ...] = ()
    """What it has removed, ``"key"`` or ``"tag"``, without an acknowledgement: its journal."""
    floor: int = 0
    taught: bool = False
    """Whether it knows the name of a tag that comes from the result."""
    clock: int = 0
    """The number of the last call, or question."""
    unheard: tuple[tuple[str, str], ...] = ()
    """The lanes and tasks whose answers have come, in their order: one lane hands them out in this order."""


class Task(NamedTuple):
    """How far one task is, and what it has in hand."""

    process: str
    kind: str
    at: str = "begin"
    answer: Any = None
    lane: str = ""
    """Of the answer that it has not heard."""
    floor: int = 0
    began: int = 0
    asked: int = 0
    doubts: bool = False
    """Whether its process had removed the key or the tag when it asked, and the store may not have known."""
    down: bool = False
    """Whether its read told nothing, since its process had removed the key or the tag."""
    tag_first: bool = False
    value: Value | None = None
    holder: str = ""
    generation: str | None = None
    invalid: str = ""
    """The generation of the value that it has seen and could not use."""
    named: bool = True
    earlier: str = ""
    flight: str = ""
    tries: int = 0
    version: int = 0


@dataclass(kw_only=True)
class State(World):
    """One world."""

    DICTS: ClassVar[tuple[str, ...]] = ("processes", "flights", "chances")

    value: Value | None
    lease: str
    tag: str | None
    member: bool
    """Whether the key is in the set of the tag, which only a broken variant has."""
    source: int
    floor: int
    processes: dict[str, Process]
    flights: dict[str, Flight]
    live: frozenset[str]
    """The tokens whose lease was taken, and that nothing has voided."""
    loading: tuple[str, ...]
    dead: frozenset[str]
    """Tokens of whose lease nobody has heard: it ends by itself."""
    chances: dict[str, int]


@dataclass(frozen=True)
class Tags(Frame[State]):
    """A scene: which calls are made, by which processes, and what else happens.

    Args:
        calls: The processes that call the function.
        bumps: The processes that write to the source and remove the tag.
        unlinks: The processes that write to the source and remove the key.
        faults: How many commands go wrong.
        chances: How often the tag is evicted (``"evict"``), the value ends (``"gone"``), the lease ends (``"lapse"``).
        warm: Whether there is a value at the beginning.
        under_way: Whether the first call is about to load at the beginning, with the lease.
        waiting: Whether the second call waits for that load, and leads a flight of its own.
        from_result: Whether the name of the tag is known from the value alone.
        ordered: Whether the answers of one server are heard in their order: not so where a process has two lanes to it.
        fails: Whether loads may fail.
        broken: The rules that are left out.
    """

    calls: tuple[str, ...]
    bumps: tuple[str, ...] = ()
    unlinks: tuple[str, ...] = ()
    faults: int = 0
    chances: dict[str, int] = field(default_factory=dict)
    warm: bool = True
    under_way: bool = False
    waiting: bool = False
    from_result: bool = False
    ordered: bool = True
    fails: bool = False
    broken: frozenset[str] = frozenset()

    def first(self) -> State:
        tasks = {f"call {n} of {who}": Task(who, "call") for n, who in enumerate(self.calls)}
        tasks |= {f"bump {n} of {who}": Task(who, "tag") for n, who in enumerate(self.bumps)}
        tasks |= {f"unlink {n} of {who}": Task(who, "key") for n, who in enumerate(self.unlinks)}
        generation = "1" if "counts" in self.broken else "g"
        processes = {task.process: Process() for task in tasks.values()}
        flights = {}
        if self.under_way:
            (name, task), (other, waits), *_ = tasks.items()
            tasks[name] = task._replace(at="load", flight="first", generation=generation)
            processes[task.process] = Process(flight="first")
            flights["first"] = Flight("t:first", generation, loading=True)
            if self.waiting:
                tasks[other] = waits._replace(at="wait", answer="t:first", flight="second", generation=generation)
                processes[waits.process] = Process(flight="second")
                flights["second"] = Flight()
        return State(
            value=Value(0, generation) if self.warm else None,
            lease="t:first" if self.under_way else "",
            tag=generation if self.warm or self.under_way else None,
            member=self.warm and "set of members" in self.broken,
            source=0,
            floor=0,
            processes=processes,
            flights=flights,
            tasks=tasks,
            live=frozenset({"t:first"} if self.under_way else ()),
            loading=(),
            dead=frozenset(),
            faults=self.faults,
            chances={"evict": 0, "gone": 0, "lapse": 0, **self.chances},
        )

    # --- what may come next -----------------------------------------------------------------------

    def _judge(self, after: State) -> None:
        value = after.value
        # A call might begin now, in a process that knows of nothing.
        if not after.wrong and value is not None and value.version < after.floor and self._is_valid(value, after.tag):
            after.wrong = f"version {value.version} would be a hit, and {after.floor} was invalidated"

    def _answered(self, after: State, name: str, command: tuple[Any, ...]) -> None:
        task = after.tasks[name]
        lane = "" if not self.ordered else "T" if command[0] in {"tag", "create", "remove tag"} else "K"
        after.tasks[name] = task._replace(lane=lane)
        if lane:
            process = after.processes[task.process]
            after.processes[task.process] = process._replace(unheard=(*process.unheard, (lane, name)))

    def _hears(self, world: State, name: str) -> bool:
        task = world.tasks[name]
        before = [one for lane, one in world.processes[task.process].unheard if lane == task.lane]
        return not task.lane or before[:1] == [name]

    def _heard(self, world: State, after: State, name: str) -> None:
        task = world.tasks[name]
        if task.lane:
            process = after.processes[task.process]
            unheard = list(process.unheard)
            unheard.remove((task.lane, name))
            after.processes[task.process] = process._replace(unheard=tuple(unheard))

    def _chances(self, world: State) -> Steps[State]:
        able = {
            "evict": world.tag is not None or world.member,
            "gone": world.value is not None,
            "lapse": bool(world.lease),
            # A lease of which nobody has heard ends in any case.
            "end": world.lease in world.dead,
        }
        for name, possible in able.items():
            if not possible or (name != "end" and not world.chances[name]):
                continue
            after = world.copied()
            if name != "end":
                after.chances[name] -= 1
            if name == "evict":
                after.tag, after.member = None, False
            elif name == "gone":
                after.value = None
            else:
                after.lease, after.live = "", frozenset()
            yield f"chance: {name}", after

    # --- the servers ------------------------------------------------------------------------------

    def _do_read(self, world: State) -> Read:
        return Read(world.value, world.lease)

    def _do_tag(self, world: State) -> str | None:
        return world.tag

    def _do_create(self, world: State, generation: str) -> str:
        if world.tag is None:
            world.tag = "1" if "counts" in self.broken else generation
        if "set of members" in self.broken:
            world.member = True
        return world.tag

    def _do_take(self, world: State, token: str, invalid: str) -> Value | tuple[str, str]:
        if world.value is not None and world.value.generation != invalid:
            return world.value
        if world.lease:
            return ("held", world.lease)
        world.lease = token
        world.live |= {token}
        return ("mine", token)

    def _do_fill(self, world: State, token: str, version: int, generation: str) -> bool:
        if world.lease != token:
            return False
        world.value, world.lease = Value(version, generation), ""
        world.live -= {token}
        return True

    def _do_release(self, world: State, token: str) -> None:
        if world.lease == token:
            world.lease = ""
        world.live -= {token}

    def _do_remove_key(self, world: State, _: str) -> None:
        world.value, world.lease, world.live = None, "", frozenset()

    def _do_remove_tag(self, world: State, generation: str) -> None:
        if "set of members" in self.broken:
            if world.member:
                self._do_remove_key(world, "")
            world.member = False
        elif "counts" in self.broken:
            world.tag = str(int(world.tag or 0) + 1)
        elif "SET in place of UNLINK" in self.broken:
            world.tag = generation
        else:
            world.tag = None

    # --- a call: reading --------------------------------------------------------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        if task.kind != "call":
            yield from self._write(world, name, task)
            return
        process = world.processes[task.process]
        flight = world.flights.get(process.flight)
        begun = flight is not None and flight.loading and not flight.over
        if self._pends(process):
            waits = flight is not None and not flight.loading and not flight.over
            after = world.copied()
            after.tasks[name] = task._replace(
                at="join" if waits else "alone",
                floor=max(world.floor, process.floor),
                began=self._next(after, task.process),
                down=True,
                flight=process.flight if waits else "",
            )
            yield "begins, and reads nothing", after
            return
        for tag_first in (False,) if self.from_result else (False, True):
            after = world.copied()
            began = self._next(after, task.process)
            after.tasks[name] = task._replace(
                at="read tag" if tag_first else "read key",
                floor=max(world.floor, process.floor),
                began=began,
                tag_first=tag_first,
                earlier=process.flight if begun else "",
            )
            yield "begins", after

    @staticmethod
    def _next(world: State, who: str) -> int:
        """Return the next number of a process."""
        process = world.processes[who]
        world.processes[who] = process._replace(clock=process.clock + 1)
        return process.clock + 1

    def _pends(self, process: Process) -> bool:
        known = {"key"} if "journal without tags" in self.broken else {"key", "tag"}
        return not known.isdisjoint(process.pending)

    def _at_alone(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._return(after, name, world.source, "loaded")
        yield "loads, and stores nothing", after

    def _at_read_key(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("read",), "has key", safe=True)

    def _at_has_key(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        value, holder = task.answer
        taught = not self.from_result or value is not None or world.processes[task.process].taught
        then = "judge" if task.tag_first or not taught else "read tag"
        after.tasks[name] = task._replace(
            at=then, answer=None, lane="", value=value, holder=holder, named=taught, earlier=task.earlier
        )
        yield f"hears {task.answer}", after

    def _at_read_tag(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("tag",), "has tag", safe=True)

    def _at_has_tag(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        then = "read key" if task.tag_first else "judge"
        after.tasks[name] = task._replace(at=then, answer=None, lane="", generation=task.answer)
        yield f"hears {task.answer}", after

    def _is_valid(self, value: Value, generation: str | None) -> bool:
        if "set of members" in self.broken:
            return True
        if "missing tag validates" in self.broken and generation is None:
            return True
        return value.generation == generation

    def _at_judge(self, world: State, name: str, task: Task) -> Steps[State]:
        after, value = world.copied(), task.value
        if self._pends(world.processes[task.process]):
            value = None
        if value is not None and self._is_valid(value, task.generation):
            self._return(after, name, value.version, "hit")
        else:
            invalid = "" if value is None else value.generation
            after.tasks[name] = task._replace(at="choose", value=None, invalid=invalid)
        yield "judges", after

    # --- a call: leading and joining --------------------------------------------------------------

    def _at_choose(self, world: State, name: str, task: Task) -> Steps[State]:
        process = world.processes[task.process]
        flight = world.flights.get(process.flight)
        after = world.copied()
        if flight is None or flight.over or (process.flight == task.earlier and not self._may_join(flight, task)):
            number = f"{name}.{task.tries}"
            after.flights[number] = Flight()
            after.processes[task.process] = process._replace(flight=number)
            after.tasks[name] = task._replace(at="create", flight=number, tries=task.tries + 1, earlier="", holder="")
            yield "opens a flight", after
        else:
            after.tasks[name] = task._replace(at="join", flight=process.flight)
            yield "joins", after

    def _may_join(self, flight: Flight, task: Task) -> bool:
        """Tell whether a load that had begun before the call may be joined."""
        if not flight.token or flight.token != task.holder:
            return False
        if "joins with any generations" in self.broken:
            return True
        return task.generation is not None and flight.generation == task.generation

    def _at_join(self, world: State, name: str, task: Task) -> Steps[State]:
        flight = world.flights[task.flight]
        if not flight.over:
            return
        after = world.copied()
        early = flight.asked and flight.asked < task.began and "found is for all" not in self.broken
        if early:
            after.tasks[name] = task._replace(at="alone" if task.down else "choose", earlier="")
        elif flight.failed or flight.version is None:
            after.tasks[name] = Task(task.process, task.kind, at="done")
        else:
            self._return(after, name, flight.version, "shared")
        yield "hears of the flight's end", after

    # In one round trip: the generation that stands is read, and made if there is none; and the lease is taken.
    def _at_create(self, world: State, name: str, task: Task) -> Steps[State]:
        again = bool(task.invalid) and task.holder == "waited"
        if not task.named or (again and "compares with old generations" in self.broken):
            after = world.copied()
            after.tasks[name] = self._asking(after, task)._replace(at="take")
            yield "asks for the lease alone", after
            return
        after = world.copied()
        after.tasks[name] = self._asking(after, task)
        number = f"g:{task.flight}:{task.version}"
        yield from self._ask(after, name, ("create", number), "created")

    def _asking(self, world: State, task: Task) -> Task:
        doubts = self._pends(world.processes[task.process]) and "doubts what it asked for" not in self.broken
        return task._replace(asked=self._next(world, task.process), doubts=doubts)

    def _at_created(self, world: State, name: str, task: Task) -> Steps[State]:
        if task.answer == DOWN and "creates twice" in self.broken and task.holder != "twice":
            after = world.copied()
            after.tasks[name] = task._replace(holder="twice")
            number = f"g:{task.flight}:{task.version}"
            yield from self._ask(after, name, ("create", number), "created", safe=True)
            return
        after = world.copied()
        generation = None if task.answer == DOWN else task.answer
        # The next attempt has another number: none is used twice.
        after.tasks[name] = task._replace(at="take", generation=generation, lane="", version=task.version + 1)
        yield f"hears {task.answer}", after

    def _at_take(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("take", f"t:{task.flight}", task.invalid), "asked")

    def _at_asked(self, world: State, name: str, task: Task) -> Steps[State]:
        after, answer, flight = world.copied(), task.answer, world.flights[task.flight]
        token = f"t:{task.flight}"
        task = task._replace(lane="", answer=None)
        if answer == DOWN:
            after.dead |= {token}
            after.flights[task.flight] = flight._replace(loading=True)
            after.tasks[name] = task._replace(at="load")
        elif isinstance(answer, Value) and (task.doubts or self._pends(world.processes[task.process])):
            after.flights[task.flight] = flight._replace(loading=True)
            after.tasks[name] = task._replace(at="load")
        elif answer[0] == "mine":
            after.flights[task.flight] = flight._replace(token=token, loading=True, generation=task.generation)
            after.tasks[name] = task._replace(at="load")
        elif answer[0] == "held":
            after.tasks[name] = task._replace(at="wait", answer=answer[1])
        elif self._is_valid(answer, task.generation):
            self._land(after, task, version=answer.version, asked=task.asked)
            self._return(after, name, answer.version, "stored meanwhile")
        else:
            after.tasks[name] = task._replace(at="create", invalid=answer.generation, holder="waited")
        yield f"hears {answer}", after

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        if world.lease != task.answer:
            after = world.copied()
            after.tasks[name] = task._replace(at="create", answer=None, holder="waited", invalid=task.invalid or "-")
            yield "looks again", after

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
        left = [*world.loading]
        left.remove(flight.token)
        after = world.copied()
        after.loading = tuple(left)
        self._land(after, task, version=task.version)
        if not task.named:
            process = after.processes[task.process]
            after.processes[task.process] = process._replace(taught=True)
        late = "generations after the load" in self.broken or (
            not task.named and "names first, then generations" in self.broken
        )
        kept = flight.token and not flight.void
        known = flight.generation is not None or "missing tag validates" in self.broken
        then = "create late" if kept and late else "fill" if kept and known else "give back"
        after.tasks[name] = task._replace(at=then, generation=flight.generation)
        yield "its load returns", after
        if self.fails:
            after = world.copied()
            after.loading = tuple(left)
            self._land(after, task, failed=True)
            after.tasks[name] = task._replace(at="give back", version=-1)
            yield "its load fails", after

    def _land(
        self, world: State, task: Task, *, version: int | None = None, failed: bool = False, asked: int = 0
    ) -> None:
        flight, process = world.flights[task.flight], world.processes[task.process]
        world.flights[task.flight] = flight._replace(over=True, version=version, failed=failed, asked=asked)
        if process.flight == task.flight:
            world.processes[task.process] = process._replace(flight="")

    def _at_create_late(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("create", f"l:{task.flight}"), "created late", safe=True)

    def _at_created_late(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.tasks[name] = task._replace(at="fill", generation=task.answer, lane="")
        yield f"hears {task.answer}", after

    def _at_fill(self, world: State, name: str, task: Task) -> Steps[State]:
        token = world.flights[task.flight].token
        yield from self._ask(world, name, ("fill", token, task.version, task.generation or ""), "give back")

    def _at_give_back(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._do_release(after, world.flights[task.flight].token)
        if task.version < 0:
            after.tasks[name] = Task(task.process, task.kind, at="done")
        else:
            self._return(after, name, task.version, "loaded")
        yield "gives the lease back", after

    def _return(self, world: State, name: str, version: int, how: str) -> None:
        task = world.tasks[name]
        if version < task.floor:
            world.wrong = f"{name} got version {version} ({how}), and {task.floor} was invalidated before it began"
        world.tasks[name] = Task(task.process, task.kind, at="done")

    # --- writers ----------------------------------------------------------------------------------

    def _write(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.source += 1
        after.tasks[name] = task._replace(at="remove", version=after.source)
        yield f"writes version {after.source}", after

    def _at_remove(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._void(after, task.process)
        yield from self._ask(after, name, (f"remove {task.kind}", f"new:{name}"), "removed")

    def _void(self, world: State, who: str) -> None:
        process = world.processes[who]
        if process.flight and _VOIDS not in self.broken:
            world.flights[process.flight] = world.flights[process.flight]._replace(void=True)
            world.processes[who] = process._replace(flight="")

    def _at_removed(self, world: State, name: str, task: Task) -> Steps[State]:
        after, failed = world.copied(), task.answer == DOWN
        process = after.processes[task.process]
        pending = (*process.pending, task.kind) if failed else process.pending
        after.processes[task.process] = process._replace(floor=max(process.floor, task.version), pending=pending)
        if failed:
            after.tasks[name] = task._replace(at="replay", lane="", answer=None)
        else:
            after.floor = max(after.floor, task.version)
            after.tasks[name] = Task(task.process, task.kind, at="done")
        yield f"hears {task.answer}", after

    def _at_replay(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, (f"remove {task.kind}", f"new:{name}"), "replayed", safe=True)

    def _at_replayed(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        process = after.processes[task.process]
        pending = list(process.pending)
        pending.remove(task.kind)
        after.processes[task.process] = process._replace(pending=tuple(pending))
        after.floor = max(after.floor, task.version)
        after.tasks[name] = Task(task.process, task.kind, at="done")
        yield "is acknowledged", after


_VOIDS: Final = "voids the loads of its process"
_COLD: Final = Tags(("A", "B"), ("W",), warm=False)

_WAITING: Final = Tags(
    ("B", "A", "A"),
    ("A",),
    faults=1,
    warm=False,
    under_way=True,
    waiting=True,
    ordered=False,
    broken=frozenset({_VOIDS}),
)

SCENES: Final[dict[str, Tags]] = {
    "two processes, and the tag is evicted": Tags(("A", "B"), ("W",), chances={"evict": 1}),
    "two processes, cold": _COLD,
    "two callers of one process, cold": Tags(("A", "A"), ("W",), warm=False),
    "the value ends and a lease lapses": Tags(("A", "A"), ("W",), chances={"gone": 1, "lapse": 1}),
    "two callers of one process, with a fault": Tags(("A", "A"), ("W",), faults=1),
    "two processes, with a fault": Tags(("A", "B"), ("W",), faults=1),
    "a process removes its own tag, with a fault": Tags(("A", "A"), ("A",), faults=1),
    "the tag and the key": Tags(("A", "A"), ("W",), ("V",)),
    "two removals, with a fault": Tags(("A",), ("W", "V"), faults=1, fails=True),
    "a tag of the result, evicted": Tags(("A", "A"), ("W",), chances={"evict": 1}, from_result=True),
    "a tag of the result, cold": Tags(("A", "B"), ("W",), warm=False, from_result=True),
    "callers wait for the load of another process": Tags(("B", "A", "A"), ("W",), warm=False, under_way=True),
    "two lanes to one server": Tags(("B", "A", "A"), ("W",), warm=False, under_way=True, waiting=True, ordered=False),
    "a process removes its own tag, and the answers are heard in any order": Tags(
        ("B", "A", "A"), ("A",), faults=1, warm=False, under_way=True, ordered=False
    ),
    "a process removes its own key, and the answers are heard in any order": Tags(
        ("B", "A", "A"), (), ("A",), faults=1, warm=False, under_way=True, ordered=False
    ),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, Tags]] = {
    "generations after the load": Tags(("A",), ("W",), warm=False),
    "missing tag validates": Tags(("A",), ("W",), warm=False, faults=1),
    "joins with any generations": Tags(("A", "A"), ("W",), warm=False, under_way=True),
    "compares with old generations": Tags(("B", "A", "A"), ("W",), warm=False, under_way=True, waiting=True),
    "creates twice": Tags(("A", "B"), ("W",), warm=False, faults=1),
    "SET in place of UNLINK": Tags(("A",), ("W", "V"), faults=1),
    "counts": Tags(("A",), ("W",), chances={"evict": 1}),
    "set of members": Tags(("A",), ("W",), chances={"evict": 1}),
    "journal without tags": Tags(("A",), ("A",), faults=1),
    "names first, then generations": Tags(("A",), ("W",), warm=False, from_result=True),
    "found is for all": Tags(("B", "A", "A"), ("W",), warm=False, under_way=True, waiting=True, ordered=False),
    # Loads that go on are not voided there: so there is one that had asked before, and the way is short.
    "doubts what it asked for": _WAITING,
}
"""The rules, by name, each with a scene in which its absence shows."""

EXTRAS: Final[dict[str, Tags]] = {
    f"{_VOIDS}: one goes on": Tags(
        ("A", "A"), ("A",), faults=1, warm=False, under_way=True, ordered=False, broken=frozenset({_VOIDS})
    ),
    f"{_VOIDS}: one waits for another process": _WAITING,
    f"{_VOIDS}, of the key: one waits for another process": replace(_WAITING, bumps=(), unlinks=("A",)),
}
"""What is not needed for what is promised, by name, each with a scene that lacks it, and holds."""

LARGE: Final = Tags(
    ("A", "A", "A", "B", "B"),
    ("W", "B"),
    ("V",),
    faults=2,
    chances={"evict": 1, "gone": 1, "lapse": 1},
    fails=True,
)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Tags:
    """Return the scene of a broken rule, without that rule."""
    scene = BROKEN[rule]
    return replace(scene, broken=scene.broken | {rule})
