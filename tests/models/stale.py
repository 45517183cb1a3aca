"""The protocol of stale values: what a call may hand out, whatever else goes on.

Two processes share one server. Calls read, load and fill; others invalidate and expire. A command to the server may be
lost, carried out without an answer, or carried out at any later time.

What is promised of each call, about the version that it returns:

- it is no older than the newest invalidation that was acknowledged before the call began, or made in its own process;
- it is no older than the newest expiry, unless a load failed and the value stands in for it;
- what was stale before the call began is not handed out as fresh;
- one load of a key goes on at a time, unless it was voided; and nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from tests.models.frame import DOWN, Frame, Steps, World


class Value(NamedTuple):
    """The value at the key."""

    version: int
    number: int
    """Of its fill: two fills may bring one version."""
    stale: bool
    expired: bool = False


class Lease(NamedTuple):
    """The lease of the key, or the pause in its place."""

    token: str
    pause: bool = False


class Flight(NamedTuple):
    """A load that the calls of one process share."""

    token: str = ""
    loading: bool = False
    over: bool = False
    void: bool = False
    version: int | None = None
    failed: bool = False
    copy: int | None = None
    """The stale version of its leader, which only a broken variant hands to others."""


class Process(NamedTuple):
    """What one process knows."""

    flight: str = ""
    pending: int = 0
    """How many of its invalidations the server has not acknowledged: the key is in its journal."""
    floor: int = 0
    soft_floor: int = 0
    known: int | None = None
    """The last version that it has handed out, which only a broken variant remembers."""
    unheard: tuple[str, ...] = ()
    """The tasks whose answers have come, in their order: one connection carries all of them."""


class Task(NamedTuple):
    """How far one task is, and what it has in hand."""

    process: str
    kind: str
    at: str = "begin"
    answer: Any = None
    floor: int = 0
    soft_floor: int = 0
    was_stale: int = -1
    """The number of the fill that was stale when the call began."""
    saw_stale: bool | None = None
    own: int | None = None
    earlier: str = ""
    flight: str = ""
    tries: int = 0
    version: int = 0


@dataclass(kw_only=True)
class State(World):
    """One world."""

    DICTS: ClassVar[tuple[str, ...]] = ("processes", "flights", "chances")

    value: Value | None
    lease: Lease | None
    source: int
    floor: int
    soft_floor: int
    fills: int
    processes: dict[str, Process]
    flights: dict[str, Flight]
    live: frozenset[str]
    """The tokens whose lease was taken, and that nothing has voided."""
    loading: tuple[str, ...]
    dead: frozenset[str]
    """Tokens of whose lease nobody has heard: it ends by itself."""
    chances: dict[str, int]


@dataclass(frozen=True)
class Stale(Frame[State]):
    """A scene: which calls are made, by which processes, and what else happens.

    Args:
        calls: Pairs of a process and the window that the value is in: ``"at hand"`` (it is handed out at once) or
            ``"spare"`` (it stands in for a load that fails).
        invalidations: The processes that write to the source and invalidate.
        expiries: The processes that write to the source and expire.
        faults: How many commands go wrong.
        chances: How often the value turns stale (``"age"``), ends (``"gone"``), or the lease ends (``"lapse"``).
        begins_stale: Whether the first value is stale from the beginning.
        fails: Whether loads may fail.
        broken: The rules that are left out.
    """

    calls: tuple[tuple[str, str], ...]
    invalidations: tuple[str, ...] = ()
    expiries: tuple[str, ...] = ()
    faults: int = 0
    chances: dict[str, int] = field(default_factory=dict)
    begins_stale: bool = True
    fails: bool = True
    broken: frozenset[str] = frozenset()

    def first(self) -> State:
        tasks = {f"call {n} of {who}": Task(who, kind) for n, (who, kind) in enumerate(self.calls)}
        # Loads that calls begin behind their backs.
        tasks |= {f"load behind {name}": Task(task.process, "behind", at="done") for name, task in tasks.items()}
        tasks |= {f"invalidation {n} of {who}": Task(who, "invalidate") for n, who in enumerate(self.invalidations)}
        tasks |= {f"expiry {n} of {who}": Task(who, "expire") for n, who in enumerate(self.expiries)}
        return State(
            value=Value(0, 0, self.begins_stale),
            lease=None,
            source=0,
            floor=0,
            soft_floor=0,
            fills=0,
            processes={task.process: Process() for task in tasks.values()},
            flights={},
            tasks=tasks,
            live=frozenset(),
            loading=(),
            dead=frozenset(),
            faults=self.faults,
            chances={"age": 0, "gone": 0, "lapse": 0, **self.chances},
        )

    # --- what may come next -----------------------------------------------------------------------

    def _answered(self, after: State, name: str, command: tuple[Any, ...]) -> None:
        who = after.tasks[name].process
        after.processes[who] = after.processes[who]._replace(unheard=(*after.processes[who].unheard, name))

    def _hears(self, world: State, name: str) -> bool:
        return name not in world.processes[world.tasks[name].process].unheard[1:]

    def _heard(self, world: State, after: State, name: str) -> None:
        who = world.tasks[name].process
        if world.processes[who].unheard[:1] == (name,):
            after.processes[who] = after.processes[who]._replace(unheard=after.processes[who].unheard[1:])

    def _chances(self, world: State) -> Steps[State]:
        value, lease = world.value, world.lease
        able = {
            "age": value is not None and not value.stale,
            "gone": value is not None,
            "lapse": lease is not None,
            # A lease of which nobody has heard, and a pause, end in any case.
            "end": lease is not None and (lease.token in world.dead or lease.pause),
        }
        for name, possible in able.items():
            if not possible or (name != "end" and not world.chances[name]):
                continue
            after = world.copied()
            if name != "end":
                after.chances[name] -= 1
            if name == "age":
                assert value is not None
                after.value = value._replace(stale=True)
            elif name == "gone":
                after.value = None
            else:
                after.lease, after.live = None, frozenset()
            yield f"chance: {name}", after

    # --- the server -------------------------------------------------------------------------------

    def _do_pttl(self, world: State) -> bool | None:
        return None if world.value is None else world.value.stale

    def _do_get(self, world: State) -> tuple[Value | None, str]:
        return world.value, "" if world.lease is None else world.lease.token

    def _do_take(self, world: State, token: str, saw_stale: bool | None, copy_: int) -> Any:
        value, lease = world.value, world.lease
        if value is None and copy_ == 2:
            return "nothing"
        newer = value is not None and not value.expired and (saw_stale is None or (saw_stale and not value.stale))
        if value is not None and newer:
            return value
        if lease is not None and (not lease.pause or (value is not None and copy_)):
            return lease
        world.lease = Lease(token)
        world.live |= {token}
        return "mine"

    def _do_fill(self, world: State, token: str, version: int) -> bool:
        held = world.lease is not None and world.lease == Lease(token)
        if not held and "fill without lease" not in self.broken:
            return False
        world.fills += 1
        world.value = Value(version, world.fills, stale=False)
        if held:
            world.lease = None
        world.live -= {token}
        return True

    def _do_pause(self, world: State, token: str) -> str:
        held = world.lease == Lease(token)
        if not held and "pause without token" not in self.broken:
            return "lost"
        if not held and world.lease is not None and not world.lease.pause:
            world.wrong = "a pause took away the lease of another load"
        world.live -= {token}
        if world.value is None:
            world.lease = None
            return "no value"
        world.lease = Lease(token, pause=True)
        return "set"

    def _do_release(self, world: State, token: str) -> None:
        if world.lease == Lease(token):
            world.lease = None
        world.live -= {token}

    def _do_unlink(self, world: State) -> None:
        world.value = world.lease = None
        world.live = frozenset()

    def _do_expire(self, world: State) -> None:
        world.lease, world.live = None, frozenset()
        if world.value is not None:
            world.value = world.value._replace(expired=True)

    # --- a call: reading --------------------------------------------------------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        if task.kind in {"invalidate", "expire"}:
            yield from self._write(world, name, task)
            return
        process, value = world.processes[task.process], world.value
        flight = world.flights.get(process.flight)
        begun = flight is not None and flight.loading and not flight.over
        after = world.copied()
        after.tasks[name] = task._replace(
            at="alone" if process.pending else "get first" if "GET before PTTL" in self.broken else "pttl",
            floor=max(world.floor, process.floor),
            soft_floor=max(world.soft_floor, process.soft_floor),
            was_stale=value.number if value is not None and value.stale else -1,
            earlier=process.flight if begun else "",
        )
        yield "begins", after

    def _at_alone(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._return(after, name, world.source, "loaded")
        yield "loads, and stores nothing", after

    def _at_pttl(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("pttl",), "get", safe=True)

    def _at_get(self, world: State, name: str, task: Task) -> Steps[State]:
        seen = task._replace(saw_stale=task.answer)
        after = world.copied()
        after.tasks[name] = seen
        yield from self._ask(after, name, ("get",), "decide", safe=True)

    def _at_get_first(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("get",), "pttl second", safe=True)

    def _at_pttl_second(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.tasks[name] = task._replace(at="decide", saw_stale=self._do_pttl(after))
        yield "PTTL, after the value", after

    def _at_decide(self, world: State, name: str, task: Task) -> Steps[State]:
        (value, holder), after = task.answer, world.copied()
        # The journal is asked again, behind the answer.
        if value is None or world.processes[task.process].pending:
            after.tasks[name] = task._replace(at="choose", answer=holder, saw_stale=None)
            yield "finds nothing", after
            return
        stale = task.saw_stale is not False
        if not stale and not value.expired:
            if value.number == task.was_stale:
                after.wrong = f"{name} hands out as fresh what was stale before it began"
            self._return(after, name, value.version, "fresh")
            yield "hit", after
        elif task.kind == "at hand" and (not value.expired or "at once after expiry" in self.broken):
            self._return(after, name, value.version, "at hand")
            self._load_behind(after, name, task)
            yield "hands its value out, and loads behind it", after
        else:
            # Expired: told by its end, whatever is left of it.
            saw = None if value.expired else True
            after.tasks[name] = task._replace(at="choose", answer=holder, saw_stale=saw, own=value.version)
            yield "has a spare value", after

    def _load_behind(self, world: State, name: str, task: Task) -> None:
        process = world.processes[task.process]
        if process.flight and not world.flights[process.flight].over:
            return
        flight = f"behind {name}"
        world.flights[flight] = Flight()
        world.processes[task.process] = process._replace(flight=flight)
        world.tasks[f"load {flight}"] = Task(task.process, "behind", at="ask", saw_stale=True, flight=flight)

    # --- a call: leading and joining --------------------------------------------------------------

    def _at_choose(self, world: State, name: str, task: Task) -> Steps[State]:
        process = world.processes[task.process]
        flight = world.flights.get(process.flight)
        after = world.copied()
        void = flight is not None and process.flight == task.earlier and self._is_void(flight, task.answer)
        if flight is None or flight.over or void:
            number = f"{name}.{task.tries}"
            after.flights[number] = Flight()
            after.processes[task.process] = process._replace(flight=number)
            after.tasks[name] = task._replace(at="ask", flight=number, tries=task.tries + 1)
            yield "opens a flight", after
        else:
            after.tasks[name] = task._replace(at="join", flight=process.flight)
            yield "joins", after

    def _is_void(self, flight: Flight, holder: str) -> bool:
        """Tell whether the load of ``flight`` may have been invalidated. Without a lease nobody knows."""
        unknown = not flight.token and "joins without token" not in self.broken
        return unknown or flight.token != holder

    def _at_join(self, world: State, name: str, task: Task) -> Steps[State]:
        flight = world.flights[task.flight]
        if not flight.over:
            return
        after = world.copied()
        if flight.version is not None:
            self._return(after, name, flight.version, "shared")
        elif not flight.failed:
            after.tasks[name] = task._replace(at="choose", earlier="", answer="")
        else:
            self._fail(after, name, flight)
        yield "hears of the flight's end", after

    def _at_ask(self, world: State, name: str, task: Task) -> Steps[State]:
        token = f"t:{task.flight}"
        copy_ = 2 if task.kind == "behind" else int(task.own is not None)
        yield from self._ask(world, name, ("take", token, task.saw_stale, copy_), "asked")

    def _at_asked(self, world: State, name: str, task: Task) -> Steps[State]:
        after, answer, flight = world.copied(), task.answer, world.flights[task.flight]
        token = f"t:{task.flight}"
        behind = task.kind == "behind"
        if answer == "mine":
            after.flights[task.flight] = flight._replace(token=token, loading=True, copy=task.own)
            after.tasks[name] = task._replace(at="load")
        elif answer == DOWN and not behind:
            after.dead |= {token}
            after.flights[task.flight] = flight._replace(loading=True, copy=task.own)
            after.tasks[name] = task._replace(at="load")
        elif isinstance(answer, Value):
            self._land(after, task, version=answer.version)
            if behind:
                after.tasks[name] = task._replace(at="done")
            else:
                self._return(after, name, answer.version, "stored meanwhile")
        elif isinstance(answer, Lease) and not answer.pause and not behind:
            after.tasks[name] = task._replace(at="wait")
        else:
            if answer == DOWN:
                after.dead |= {token}
            self._land(after, task)
            if behind:
                after.tasks[name] = task._replace(at="done")
            else:
                assert task.own is not None, "a pause is kept by those who have a stale value"
                self._return(after, name, task.own, "paused")
        yield f"hears {answer}", after

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        if world.lease != task.answer:
            after = world.copied()
            after.tasks[name] = task._replace(at="ask")
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
        kept = flight.token and not flight.void
        after.tasks[name] = task._replace(at="fill" if kept else "give back")
        yield "its load returns", after
        if self.fails:
            after = world.copied()
            after.loading = tuple(left)
            self._land(after, task, failed=True)
            after.tasks[name] = task._replace(at="pause" if flight.token else "read again")
            yield "its load fails", after

    def _land(self, world: State, task: Task, *, version: int | None = None, failed: bool = False) -> None:
        flight, process = world.flights[task.flight], world.processes[task.process]
        world.flights[task.flight] = flight._replace(over=True, version=version, failed=failed)
        if process.flight == task.flight:
            world.processes[task.process] = process._replace(flight="")

    def _at_fill(self, world: State, name: str, task: Task) -> Steps[State]:
        token = world.flights[task.flight].token
        yield from self._ask(world, name, ("fill", token, task.version), "give back")

    def _at_give_back(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._do_release(after, world.flights[task.flight].token)
        if task.kind == "behind":
            after.tasks[name] = task._replace(at="done")
        else:
            self._return(after, name, task.version, "loaded")
        yield "gives the lease back", after

    def _at_pause(self, world: State, name: str, task: Task) -> Steps[State]:
        token = world.flights[task.flight].token
        for label, after in self._ask(world, name, ("pause", token), "paused"):
            if after.tasks[name].answer == DOWN:
                after.dead |= {token}
            yield label, after

    def _at_paused(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        if task.kind == "behind":
            after.tasks[name] = task._replace(at="done")
        elif task.answer == "set":
            self._fail(after, name, world.flights[task.flight])
        else:
            after.tasks[name] = task._replace(at="read again")
        yield f"hears that the pause is {task.answer}", after

    def _at_read_again(self, world: State, name: str, task: Task) -> Steps[State]:
        after, value = world.copied(), world.value
        if task.kind == "behind":
            after.tasks[name] = task._replace(at="done")
        elif task.own is None:
            self._fail(after, name, world.flights[task.flight])
        elif value is None or world.processes[task.process].pending:
            after.tasks[name] = task._replace(at="done")
        else:
            self._return(after, name, value.version, "stands in")
        yield "reads again", after

    # --- ends -------------------------------------------------------------------------------------

    def _fail(self, world: State, name: str, flight: Flight) -> None:
        """End a call whose load has failed: with its own stale value if it has one, else with the exception."""
        task, known = world.tasks[name], world.processes[world.tasks[name].process].known
        standing = task.own
        if "copy of the flight" in self.broken and standing is None:
            standing = flight.copy
        if "last known here" in self.broken and standing is None:
            standing = known
        if standing is None:
            world.tasks[name] = task._replace(at="done")
        else:
            self._return(world, name, standing, "stands in")

    def _return(self, world: State, name: str, version: int, how: str) -> None:
        task = world.tasks[name]
        if version < task.floor:
            world.wrong = f"{name} got version {version} ({how}), and {task.floor} was invalidated before it began"
        elif version < task.soft_floor and how not in {"stands in", "paused"}:
            world.wrong = f"{name} got version {version} ({how}), and {task.soft_floor} was expired before it began"
        process = world.processes[task.process]
        if "last known here" in self.broken:
            world.processes[task.process] = process._replace(known=max(version, process.known or 0))
        world.tasks[name] = Task(task.process, task.kind, at="done")

    # --- writers ----------------------------------------------------------------------------------

    def _write(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        after.source += 1
        after.tasks[name] = task._replace(at="void", version=after.source)
        yield f"writes version {after.source}", after

    def _at_void(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._void(after, task.process)
        verb = "unlink" if task.kind == "invalidate" else "expire"
        yield from self._ask(after, name, (verb,), "voided")

    def _void(self, world: State, who: str) -> None:
        process = world.processes[who]
        if process.flight:
            world.flights[process.flight] = world.flights[process.flight]._replace(void=True)
            world.processes[who] = process._replace(flight="")

    def _at_voided(self, world: State, name: str, task: Task) -> Steps[State]:
        after, failed = world.copied(), task.answer == DOWN
        if failed:
            self._void(after, task.process)
        process = after.processes[task.process]
        soft = task.kind == "expire"
        after.processes[task.process] = process._replace(
            pending=process.pending + failed,
            floor=process.floor if soft else max(process.floor, task.version),
            soft_floor=max(process.soft_floor, task.version),
        )
        if not failed:
            self._acknowledge(after, task)
        after.tasks[name] = task._replace(at="replay" if failed else "done")
        yield f"hears {task.answer}", after

    def _acknowledge(self, world: State, task: Task) -> None:
        if task.kind == "invalidate":
            world.floor = max(world.floor, task.version)
        world.soft_floor = max(world.soft_floor, task.version)

    def _at_replay(self, world: State, name: str, task: Task) -> Steps[State]:
        # The journal removes the key, also where it was to be expired.
        yield from self._ask(world, name, ("unlink",), "replayed", safe=True)

    def _at_replayed(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        process = after.processes[task.process]
        after.processes[task.process] = process._replace(pending=process.pending - 1)
        self._acknowledge(after, task)
        after.tasks[name] = task._replace(at="done")
        yield "is acknowledged", after


_HAND: Final = "at hand"
_SPARE: Final = "spare"

SCENES: Final[dict[str, Stale]] = {
    "two processes hand out at once, and one invalidates": Stale((("A", _HAND), ("B", _HAND)), ("W",)),
    "the same with a fault": Stale((("A", _HAND), ("B", _HAND)), ("W",), faults=1, fails=False),
    "a lease lapses and the value ends": Stale(
        (("A", _HAND), ("B", _HAND)), ("W",), chances={"lapse": 1, "gone": 1}, fails=False
    ),
    "two callers of one process, whose loads fail": Stale((("A", _SPARE), ("A", _SPARE)), ("W",)),
    "the same with a fault and a lease that lapses": Stale(
        (("A", _SPARE), ("A", _SPARE)), ("W",), faults=1, chances={"lapse": 1}
    ),
    "two processes whose loads fail": Stale((("A", _SPARE), ("B", _SPARE)), ("W",)),
    "a process invalidates its own key, with a fault": Stale((("A", _HAND), ("A", _SPARE)), ("A",), faults=1),
    "a value turns stale meanwhile": Stale(
        (("A", _HAND), ("A", _HAND)), ("W",), chances={"age": 1}, begins_stale=False
    ),
    "an expiry, with a fault": Stale((("A", _HAND), ("B", _SPARE)), expiries=("W",), faults=1, chances={"age": 1}),
    "an expiry and an invalidation": Stale((("A", _SPARE), ("A", _SPARE)), ("V",), ("W",)),
    "a process expires its own key, with a fault": Stale((("A", _SPARE), ("B", _HAND)), expiries=("A",), faults=1),
}
"""What must hold, by name."""

# Each is as small as shows the violation: these searches are most of what a short run costs.
_TWO: Final = Stale((("A", _SPARE), ("A", _HAND)), ("W",))

BROKEN: Final[dict[str, Stale]] = {
    "copy of the flight": _TWO,
    "last known here": _TWO,
    "fill without lease": Stale((("A", _HAND), ("B", _HAND)), ("W",)),
    "GET before PTTL": Stale((("A", _HAND), ("B", _HAND))),
    "pause without token": Stale((("A", _SPARE), ("B", _SPARE)), ("W",)),
    "joins without token": replace(_TWO, faults=1, fails=False),
    "at once after expiry": Stale((("A", _HAND),), expiries=("W",)),
}
"""The rules, by name, each with a scene in which its absence shows."""

LARGE: Final = Stale(
    (("A", _HAND), ("A", _SPARE), ("B", _SPARE), ("B", _HAND)),
    ("W", "A"),
    ("V",),
    faults=2,
    chances={"age": 2, "gone": 1, "lapse": 1},
)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Stale:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
