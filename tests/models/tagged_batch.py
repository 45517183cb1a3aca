"""The protocol of batches with tags: values and tag are read at once, and the tag is opened with all leases.

Two processes share two servers: one has the keys and their leases, the other a tag that all values depend on. What goes
in one round trip is carried out in any order, and heard at any later time. Calls for several keys and for one share
loads; others write to the source, and remove the tag. A command may be lost, carried out without an answer, or carried
out at any later time. That nobody waits first, so that nobody waits in a circle, is a rule of `tests.models.batch`.

What is promised of each call, about each version that it returns, and each absence: it is no older than the newest
removal of the tag that was acknowledged before the call began, or made in its own process; one load of a key goes on at
a time, unless it was voided; and nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

from tests.models.frame import DOWN, Frame, Steps, World

Pairs: TypeAlias = tuple[tuple[str, Any], ...]
"""By key."""


class Value(NamedTuple):
    """The value at a key, or a remembered absence."""

    version: int
    generation: str
    absent: bool = False


class Flight(NamedTuple):
    """A load of one key that the calls of one process share."""

    token: str = ""
    generation: str | None = None
    loading: bool = False
    over: bool = False
    void: bool = False
    version: int | None = None
    absent: bool = False
    """Whether its load has left the key out."""
    asked: int = 0
    """When its leader asked for the value that it has found, and not loaded; 0 if it has loaded."""
    again: bool = False
    """Whether those who share it start over."""


class Process(NamedTuple):
    """What one process knows."""

    floor: int = 0
    pending: bool = False
    """Whether it has removed the tag without an acknowledgement."""
    clock: int = 0


class Task(NamedTuple):
    """How far one task is, and what it has in hand."""

    process: str
    keys: str
    kind: str = "call"
    at: str = "begin"
    todo: tuple[str, ...] = ()
    """The commands of the round trip that are not carried out yet."""
    heard: Pairs = ()
    then: str = ""
    floor: int = 0
    began: int = 0
    asked: int = 0
    generation: str | None = None
    earlier: Pairs = ()
    holders: Pairs = ()
    invalid: Pairs = ()
    """The generations of the values that it has seen and could not use."""
    open: str = ""
    """The keys that are to be boarded."""
    ask: Pairs = ()
    """The flights whose leases are to be asked for."""
    load: Pairs = ()
    held: Pairs = ()
    """The flights whose leases others hold: their tokens."""
    led: Pairs = ()
    shared: Pairs = ()
    versions: tuple[tuple[str, int, bool], ...] = ()
    """What it has loaded."""
    tries: int = 0
    version: int = 0


@dataclass(kw_only=True)
class State(World):
    """One world."""

    DICTS: ClassVar[tuple[str, ...]] = ("values", "leases", "processes", "open", "flights")

    values: dict[str, Value | None]
    leases: dict[str, str]
    tag: str | None
    source: int
    floor: int
    processes: dict[str, Process]
    open: dict[tuple[str, str], str]
    """By process and key, the flight that later calls find."""
    flights: dict[str, Flight]
    live: frozenset[str]
    """The tokens whose lease was taken, and that nothing has voided."""
    loading: tuple[tuple[str, str], ...] = ()
    dead: frozenset[str] = frozenset()
    lapses: int = 0


def _without(pairs: Pairs, key: str) -> Pairs:
    return tuple(pair for pair in pairs if pair[0] != key)


@dataclass(frozen=True)
class TaggedBatches(Frame[State]):
    """A scene: which calls are made by which processes, and what else happens.

    Args:
        calls: Pairs of a process and its keys, one letter each; a call for one key is a single call.
        bumps: The processes that write to the source and remove the tag.
        faults: How many commands go wrong.
        lapses: How many leases end while they are held.
        warm: Whether there are values at the beginning.
        absent: Whether those are remembered absences.
        under_way: Whether the first call is about to load at the beginning, with the leases.
        asking: Whether it has missed at the beginning, and is about to ask for the leases again.
        leaves_out: Whether a load of several keys may leave the first of them out.
        broken: The rules that are left out.
    """

    calls: tuple[tuple[str, str], ...]
    bumps: tuple[str, ...] = ()
    faults: int = 0
    lapses: int = 0
    warm: bool = False
    absent: bool = False
    under_way: bool = False
    asking: bool = False
    leaves_out: bool = False
    broken: frozenset[str] = field(default_factory=frozenset)

    def first(self) -> State:
        tasks = {f"call {n} of {who} for {keys}": Task(who, keys) for n, (who, keys) in enumerate(self.calls)}
        tasks |= {f"removal {n} by {who}": Task(who, "", "write") for n, who in enumerate(self.bumps)}
        keys = sorted({key for task in tasks.values() for key in task.keys})
        world = State(
            values=dict.fromkeys(keys, Value(0, "g", self.absent) if self.warm else None),
            leases=dict.fromkeys(keys, ""),
            tag="g" if self.warm or self.under_way else None,
            source=0,
            floor=0,
            processes={task.process: Process() for task in tasks.values()},
            open={},
            flights={},
            tasks=tasks,
            live=frozenset(),
            faults=self.faults,
            lapses=self.lapses,
        )
        name, task = next(iter(tasks.items()))
        load = tuple((key, f"first {key}") for key in task.keys) if self.under_way or self.asking else ()
        for key, number in load:
            world.open[task.process, key], world.flights[number] = number, Flight()
            if self.under_way:
                token = f"t:{number}"
                world.leases[key], world.flights[number] = token, Flight(token, "g", loading=True)
                world.live |= {token}
        if self.under_way:
            world.tasks[name] = task._replace(at="load", load=load, generation="g", tries=1)
        elif self.asking:
            world.processes[task.process] = Process(clock=1)
            world.tasks[name] = task._replace(at="ask", ask=load, generation="g", asked=1, tries=1)
        return world

    # --- what may come next -----------------------------------------------------------------------

    def _chances(self, world: State) -> Steps[State]:
        for key, token in world.leases.items():
            if token and (token in world.dead or world.lapses):
                after = world.copied()
                after.lapses -= token not in world.dead
                after.leases[key] = ""
                after.live -= {token}
                yield f"the lease of {key} ends", after

    # --- the servers ------------------------------------------------------------------------------

    def _do_read(self, world: State, keys: str) -> Any:
        return tuple((key, world.values[key], world.leases[key]) for key in keys)

    def _do_tag(self, world: State) -> str | None:
        return world.tag

    def _do_create(self, world: State, generation: str) -> str:
        world.tag = world.tag or generation
        return world.tag

    def _do_remove(self, world: State) -> None:
        world.tag = None

    def _do_take(self, world: State, questions: tuple[tuple[str, str, str], ...]) -> Any:
        answers = []
        for key, token, invalid in questions:
            value, holder = world.values[key], world.leases[key]
            if value is not None and value.generation != invalid:
                answers.append((key, value))
            elif holder:
                answers.append((key, holder))
            else:
                world.leases[key] = token
                world.live |= {token}
                answers.append((key, "mine"))
        return tuple(answers)

    def _do_fill(self, world: State, fills: tuple[tuple[str, str, Value], ...]) -> None:
        for key, token, value in fills:
            if world.leases[key] == token:
                world.values[key], world.leases[key] = value, ""
                world.live -= {token}

    def _trip(self, task: Task, then: str, *commands: str) -> Task:
        return task._replace(at="trip", todo=commands, heard=(), then=then)

    # All commands of a round trip are sent at once. The task goes on when each has its answer, or its time is over.
    def _at_trip(self, world: State, name: str, task: Task) -> Steps[State]:
        for verb in task.todo:
            command = (verb, *self._arguments(name, task, verb))
            then = task._replace(todo=tuple(other for other in task.todo if other != verb))
            then = then if then.todo else then._replace(at=task.then)
            after = world.copied()
            answer = self._carry_out(after, command)
            after.tasks[name] = then._replace(heard=(*task.heard, (verb, answer)))
            yield f"{command} -> {answer}", after
            if not world.faults or verb in {"read", "tag"}:
                continue
            for fault in ("lost", "unheard", "late"):
                after = world.copied()
                after.faults -= 1
                if fault == "unheard":
                    self._carry_out(after, command)
                elif fault == "late":
                    after.late = (*world.late, command)
                after.tasks[name] = then._replace(heard=(*task.heard, (verb, DOWN)))
                yield f"{command} {fault}", after

    def _arguments(self, name: str, task: Task, verb: str) -> tuple[Any, ...]:
        if verb == "read":
            return (task.keys,)
        if verb == "create":
            return (f"g:{name}.{task.tries}",)
        if verb == "take":
            invalid = dict(task.invalid)
            return (tuple((key, f"t:{number}", invalid.get(key, "")) for key, number in task.ask),)
        return (task.versions,) if verb == "fill" else ()

    # --- a call: reading --------------------------------------------------------------------------

    @staticmethod
    def _next(world: State, who: str) -> int:
        """Return the next number of a process."""
        process = world.processes[who]
        world.processes[who] = process._replace(clock=process.clock + 1)
        return process.clock + 1

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        after, who = world.copied(), task.process
        if task.kind == "write":
            after.source += 1
            self._void(after, who)
            after.tasks[name] = self._trip(task._replace(version=after.source), "removed", "remove")
            yield f"writes version {after.source}", after
            return
        earlier = []
        for key in task.keys:
            flight = world.flights.get(world.open.get((who, key), ""))
            if flight is not None and flight.loading and not flight.over:
                earlier.append((key, world.open[who, key]))
        if self._pends(world, task) and "asks the journal afterwards" not in self.broken:
            # What it read might be heard when the journal has replayed, and be from before that.
            after.tasks[name] = Task(who, task.keys, at="done")
            yield "begins, loads, and stores nothing", after
            return
        floor, began = max(world.floor, world.processes[who].floor), self._next(after, who)
        task = task._replace(floor=floor, began=began, earlier=tuple(earlier))
        after.tasks[name] = self._trip(task, "judge", "read", "tag")
        yield "begins", after

    def _is_valid(self, value: Value | None, generation: str | None, task: Task) -> bool:
        if value is None or (value.absent and len(task.keys) == 1):
            return False
        if value.absent and "absences have no tags" in self.broken:
            return True
        return value.generation == generation

    def _pends(self, world: State, task: Task) -> bool:
        return world.processes[task.process].pending and "journal without tags" not in self.broken

    def _at_judge(self, world: State, name: str, task: Task) -> Steps[State]:
        after, heard, left = world.copied(), dict(task.heard), ""
        holders, invalid = [], []
        for key, value, holder in heard["read"]:
            if self._is_valid(value, heard["tag"], task) and not self._pends(world, task):
                self._return(after, name, key, value.version)
                continue
            left += key
            holders.append((key, holder))
            if value is not None:
                invalid.append((key, value.generation))
        task = task._replace(
            open=left, holders=tuple(holders), invalid=tuple(invalid), generation=heard["tag"], heard=()
        )
        after.tasks[name] = task._replace(at="board" if left else "done")
        yield "judges", after

    # --- leading and joining ----------------------------------------------------------------------

    def _at_board(self, world: State, name: str, task: Task) -> Steps[State]:
        after, ask, shared = world.copied(), list(task.ask), list(task.shared)
        for key in task.open:
            found = world.open.get((task.process, key), "")
            flight = world.flights.get(found)
            if (
                flight is None
                or flight.over
                or (found == dict(task.earlier).get(key) and not self._may_join(task, key, flight))
            ):
                number = f"{name}.{key}{task.tries}"
                after.flights[number] = Flight()
                after.open[task.process, key] = number
                ask.append((key, number))
            else:
                shared.append((key, found))
        after.tasks[name] = task._replace(
            at="ask", open="", ask=tuple(ask), shared=tuple(shared), earlier=(), tries=task.tries + 1
        )
        yield "boards", after

    def _may_join(self, task: Task, key: str, flight: Flight) -> bool:
        """Tell whether a load that had begun before the call may be joined."""
        if not flight.token or flight.token != dict(task.holders).get(key):
            return False
        known = task.generation is not None and flight.generation == task.generation
        return known or "joins with any generations" in self.broken

    def _at_ask(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        if not task.ask:
            after.tasks[name] = task._replace(at="load" if task.load else "wait")
            yield "goes on", after
            return
        if self._pends(world, task):
            # The store cannot be asked: they are loaded, and not stored.
            after.tasks[name] = task._replace(at="taken", heard=(("create", DOWN), ("take", DOWN)))
            yield "does not ask", after
            return
        old = task.asked and "compares with old generations" in self.broken
        late = "generations after the load" in self.broken
        task = task._replace(asked=self._next(after, task.process), tries=task.tries + 1)
        after.tasks[name] = self._trip(task, "taken", *(() if old or late else ("create",)), "take")
        yield "asks", after

    def _at_taken(self, world: State, name: str, task: Task) -> Steps[State]:
        after, heard = world.copied(), dict(task.heard)
        created, taken = heard.get("create", task.generation), heard["take"]
        generation = None if created == DOWN else created
        answers = {key: DOWN for key, _ in task.ask} if taken == DOWN else dict(taken)
        ask, load, held, led, invalid = [], [*task.load], [*task.held], [*task.led], dict(task.invalid)
        for key, number in task.ask:
            answer = answers[key]
            if answer in {"mine", DOWN}:
                self._hold(after, number, generation, mine=answer == "mine")
                load.append((key, number))
            elif isinstance(answer, str):
                held.append((key, answer))
                led.append((key, number))
            elif self._pends(world, task):
                load.append((key, number))
            elif self._is_valid(answer, generation, task):
                self._land_found(after, task, (key, number), answer)
                self._return(after, name, key, answer.version)
            else:
                invalid[key] = answer.generation
                ask.append((key, number))
        after.tasks[name] = task._replace(
            at="ask",
            heard=(),
            ask=tuple(ask),
            load=tuple(load),
            held=tuple(held),
            led=tuple(led),
            invalid=tuple(invalid.items()),
            generation=generation,
        )
        yield "hears", after

    def _hold(self, world: State, number: str, generation: str | None, *, mine: bool) -> None:
        if mine:
            world.flights[number] = world.flights[number]._replace(token=f"t:{number}", generation=generation)
        else:
            world.dead |= {f"t:{number}"}

    def _land_found(self, world: State, task: Task, led: tuple[str, str], value: Value) -> None:
        key, number = led
        asked = 0 if "found is for all" in self.broken else task.asked
        again = value.absent and "a found absence is for all" not in self.broken
        self._land(
            world,
            task.process,
            key,
            number,
            {
                "version": value.version,
                "absent": value.absent,
                "asked": asked if not value.absent else 0,
                "again": again,
            },
        )

    def _land(self, world: State, who: str, key: str, number: str, end: dict[str, Any]) -> None:
        world.flights[number] = world.flights[number]._replace(over=True, **end)
        if world.open.get((who, key)) == number:
            del world.open[who, key]

    # --- a load -----------------------------------------------------------------------------------

    def _at_load(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        for key, number in task.load:
            token = world.flights[number].token
            after.flights[number] = world.flights[number]._replace(loading=True)
            if token in world.live and any(other in world.live for place, other in world.loading if place == key):
                after.wrong = f"two loads of {key} at a time"
            after.loading = tuple(sorted((*after.loading, (key, token))))
        after.tasks[name] = task._replace(at="loaded", version=world.source)
        yield f"loads version {world.source}", after

    def _at_loaded(self, world: State, name: str, task: Task) -> Steps[State]:
        for absent in (False, True) if self.leaves_out and len(task.keys) > 1 else (False,):
            after, left = world.copied(), [*world.loading]
            fills = []
            for place, (key, number) in enumerate(task.load):
                flight, gone = world.flights[number], absent and not place
                left.remove((key, flight.token))
                self._land(after, task.process, key, number, {"version": task.version, "absent": gone})
                late = "generations after the load" in self.broken
                if flight.token and not flight.void and (late or flight.generation is not None):
                    fills.append((key, flight.token, Value(task.version, flight.generation or "", gone)))
                self._return(after, name, key, task.version)
            after.loading = tuple(left)
            task_ = task._replace(versions=tuple(fills))
            late = bool(fills) and "generations after the load" in self.broken
            after.tasks[name] = self._trip(task_, "filled" if not late else "opened", "create" if late else "fill")
            if not fills:
                after.tasks[name] = task_._replace(at="filled")
            yield "its load returns", after

    def _at_opened(self, world: State, name: str, task: Task) -> Steps[State]:
        after, generation = world.copied(), dict(task.heard)["create"]
        fills = tuple((key, token, value._replace(generation=generation)) for key, token, value in task.versions)
        after.tasks[name] = self._trip(task._replace(versions=fills), "filled", "fill")
        yield "hears the generation", after

    def _at_filled(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        for key, number in task.load:
            token = world.flights[number].token
            if token and world.leases[key] == token:
                after.leases[key] = ""
            after.live -= {token}
        after.tasks[name] = task._replace(at="wait", load=(), versions=(), heard=())
        yield "gives the leases back", after

    # --- the loads of others ----------------------------------------------------------------------

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        if not task.held and not task.shared:
            after = world.copied()
            after.tasks[name] = Task(task.process, task.keys, at="done")
            yield "goes on", after
            return
        for key, holder in task.held:
            if world.leases[key] != holder:
                after, number = world.copied(), dict(task.led)[key]
                after.tasks[name] = task._replace(
                    at="ask", ask=((key, number),), held=_without(task.held, key), led=_without(task.led, key)
                )
                yield f"asks again for {key}", after
        for key, number in task.shared:
            flight = world.flights[number]
            if not flight.over:
                continue
            after = world.copied()
            rest = task._replace(shared=_without(task.shared, key))
            early = 0 < flight.asked < task.began or flight.again
            if early or flight.version is None or (flight.absent and len(task.keys) == 1):
                after.tasks[name] = rest._replace(at="board", open=key)
            else:
                after.tasks[name] = rest
                self._return(after, name, key, flight.version)
            yield f"hears of the end of {number}", after

    def _return(self, world: State, name: str, key: str, version: int) -> None:
        floor = world.tasks[name].floor
        if version < floor:
            world.wrong = f"{name} got version {version} of {key}, and {floor} was invalidated before it began"

    # --- writers ----------------------------------------------------------------------------------

    def _void(self, world: State, who: str) -> None:
        for (process, key), number in [*world.open.items()]:
            if process == who:
                del world.open[process, key]
                world.flights[number] = world.flights[number]._replace(void=True)

    def _at_removed(self, world: State, name: str, task: Task) -> Steps[State]:
        after, failed = world.copied(), dict(task.heard)["remove"] == DOWN
        process = world.processes[task.process]
        after.processes[task.process] = process._replace(floor=max(process.floor, task.version), pending=failed)
        if failed:
            self._void(after, task.process)
            after.tasks[name] = task._replace(at="replay")
        else:
            self._acknowledge(after, name, task)
        yield "hears", after

    def _at_replay(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._do_remove(after)
        after.processes[task.process] = after.processes[task.process]._replace(pending=False)
        self._acknowledge(after, name, task)
        yield "the journal removes it", after

    def _acknowledge(self, world: State, name: str, task: Task) -> None:
        world.floor = max(world.floor, task.version)
        world.tasks[name] = Task(task.process, "", task.kind, at="done")


SCENES: Final[dict[str, TaggedBatches]] = {
    "two processes, in another order, and a removal": TaggedBatches((("A", "ab"), ("B", "ba")), ("W",)),
    "warm, and a removal": TaggedBatches((("A", "ab"), ("A", "b")), ("W",), warm=True),
    "one process, in another order, and a removal": TaggedBatches((("A", "ab"), ("A", "ba")), ("W",)),
    "a removal during a load": TaggedBatches((("A", "ab"), ("A", "ba"), ("A", "a")), ("W",), under_way=True),
    "a removal while another process waits": TaggedBatches(
        (("B", "ab"), ("A", "ba"), ("A", "b")), ("W",), under_way=True
    ),
    "a removal and a fault": TaggedBatches((("A", "ab"), ("A", "b")), ("W",), faults=1),
    "a process removes its own tag, with a fault": TaggedBatches((("A", "ab"), ("A", "b")), ("A",), faults=1),
    "ids that are left out, and a removal": TaggedBatches(
        (("A", "ab"), ("B", "ab"), ("B", "a")), ("W",), leaves_out=True
    ),
    "values were stored since a call missed": TaggedBatches(
        (("A", "ab"), ("A", "ba"), ("A", "b")), ("W",), warm=True, asking=True
    ),
    "absences were stored since a call missed": TaggedBatches(
        (("A", "ab"), ("A", "ba"), ("A", "b")), ("W",), warm=True, absent=True, asking=True
    ),
    "a lease lapses": TaggedBatches((("A", "ab"), ("B", "ba")), ("W",), lapses=1),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, TaggedBatches]] = {
    "generations after the load": TaggedBatches((("A", "ab"), ("B", "a")), ("W",)),
    "joins with any generations": TaggedBatches((("A", "ab"), ("A", "a")), ("W",), under_way=True),
    "compares with old generations": TaggedBatches((("A", "ab"), ("A", "b")), ("W",), warm=True, asking=True),
    "found is for all": TaggedBatches((("A", "ab"), ("A", "b")), ("W",), warm=True, asking=True),
    "a found absence is for all": TaggedBatches(
        (("A", "ab"), ("A", "ab")), ("W",), warm=True, absent=True, asking=True
    ),
    "absences have no tags": TaggedBatches((("B", "ab"), ("A", "ab")), ("W",), under_way=True, leaves_out=True),
    "asks the journal afterwards": TaggedBatches((("A", "ab"),), ("A",), faults=1, warm=True),
    "journal without tags": TaggedBatches((("A", "ab"),), ("A",), faults=1, warm=True),
}
"""The rules, by name, each with a scene in which its absence shows."""

LARGE: Final = TaggedBatches(
    (("A", "ab"), ("A", "bc"), ("B", "cba"), ("A", "a"), ("B", "b")), ("W", "A"), faults=2, lapses=1, leaves_out=True
)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> TaggedBatches:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
