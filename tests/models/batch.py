"""The protocol of batches: calls for several keys and for one share loads, and nothing waits in a circle.

Two processes share one server. A call reads its keys, leads or joins a flight for each of those that miss, asks for the
leases one after the other, loads all that it got at once, fills, and then waits for the loads of others. Others
invalidate. A command may be lost, carried out without an answer, or carried out at any later time.

What is promised of each call, about each version that it returns: it is no older than the newest invalidation of its
key that was acknowledged before the call began, or made in its own process; one load of a key goes on at a time, unless
it was voided; and nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

from tests.models.frame import DOWN, Frame, Steps, World

Pairs: TypeAlias = tuple[tuple[str, Any], ...]
"""By key."""


class Flight(NamedTuple):
    """A load of one key that the calls of one process share."""

    token: str = ""
    loading: bool = False
    over: bool = False
    void: bool = False
    version: int | None = None


class Task(NamedTuple):
    """How far one task is, and what it has in hand."""

    process: str
    keys: str
    kind: str = "call"
    at: str = "begin"
    answer: Any = None
    floors: Pairs = ()
    earlier: Pairs = ()
    holders: Pairs = ()
    open: str = ""
    """The keys that are to be boarded."""
    ask: Pairs = ()
    """The flights whose leases are to be asked for."""
    load: Pairs = ()
    held: Pairs = ()
    """The flights whose leases others hold: their tokens."""
    led: Pairs = ()
    """The flights of those."""
    shared: Pairs = ()
    fill: Pairs = ()
    versions: Pairs = ()
    tries: int = 0
    version: int = 0


@dataclass(kw_only=True)
class State(World):
    """One world."""

    DICTS: ClassVar[tuple[str, ...]] = ("values", "leases", "source", "floors", "own_floors", "open", "flights")

    values: dict[str, int | None]
    leases: dict[str, str]
    source: dict[str, int]
    floors: dict[str, int]
    own_floors: dict[tuple[str, str], int]
    open: dict[tuple[str, str], str]
    """By process and key, the flight that later calls find."""
    pending: tuple[tuple[str, str], ...]
    """The keys that a process has invalidated, and the server has not acknowledged."""
    flights: dict[str, Flight]
    live: frozenset[tuple[str, str]]
    loading: tuple[tuple[str, str], ...]
    dead: frozenset[str]
    lapses: int


def _without(pairs: Pairs, key: str) -> Pairs:
    return tuple(pair for pair in pairs if pair[0] != key)


@dataclass(frozen=True)
class Batches(Frame[State]):
    """A scene: which calls are made by which processes, and what else happens.

    Args:
        calls: Pairs of a process and its keys, one letter each; a call for one key is a single call.
        invalidations: Pairs of a process and a key.
        faults: How many commands go wrong.
        lapses: How many leases end while they are held.
        leaves_out: Whether a load of several keys may leave the first of them out.
        broken: The rules that are left out.
    """

    calls: tuple[tuple[str, str], ...]
    invalidations: tuple[tuple[str, str], ...] = ()
    faults: int = 0
    lapses: int = 0
    leaves_out: bool = False
    broken: frozenset[str] = field(default_factory=frozenset)

    def first(self) -> State:
        tasks = {f"call {n} of {who} for {keys}": Task(who, keys) for n, (who, keys) in enumerate(self.calls)}
        for n, (who, key) in enumerate(self.invalidations):
            tasks[f"invalidation {n} of {key} by {who}"] = Task(who, key, "write")
        keys = sorted({key for task in tasks.values() for key in task.keys})
        return State(
            values=dict.fromkeys(keys),
            leases=dict.fromkeys(keys, ""),
            source=dict.fromkeys(keys, 0),
            floors=dict.fromkeys(keys, 0),
            own_floors={},
            open={},
            pending=(),
            flights={},
            tasks=tasks,
            live=frozenset(),
            loading=(),
            dead=frozenset(),
            faults=self.faults,
            lapses=self.lapses,
        )

    def _chances(self, world: State) -> Steps[State]:
        for key, token in world.leases.items():
            if token and (token in world.dead or world.lapses):
                after = world.copied()
                after.lapses -= token not in world.dead
                self._end_lease(after, key)
                yield f"the lease of {key} ends", after

    # --- the server -------------------------------------------------------------------------------

    def _do_read(self, world: State, keys: str) -> tuple[Pairs, Pairs]:
        return tuple((key, world.values[key]) for key in keys), tuple((key, world.leases[key]) for key in keys)

    def _do_take(self, world: State, key: str, token: str) -> Any:
        if world.values[key] is not None:
            return world.values[key]
        if world.leases[key]:
            return world.leases[key]
        world.leases[key] = token
        world.live |= {(key, token)}
        return "mine"

    def _do_fill(self, world: State, key: str, token: str, version: int) -> bool:
        held = world.leases[key] == token
        if not held and "fills without leases" not in self.broken:
            return False
        world.values[key] = version
        if held:
            world.leases[key] = ""
        world.live -= {(key, token)}
        return True

    def _do_release(self, world: State, key: str, token: str) -> None:
        if world.leases[key] == token:
            world.leases[key] = ""
        world.live -= {(key, token)}

    def _do_unlink(self, world: State, key: str) -> None:
        world.values[key] = None
        self._end_lease(world, key)

    def _end_lease(self, world: State, key: str) -> None:
        world.leases[key] = ""
        world.live = frozenset(pair for pair in world.live if pair[0] != key)

    # --- a call -----------------------------------------------------------------------------------

    def _at_begin(self, world: State, name: str, task: Task) -> Steps[State]:
        after, who = world.copied(), task.process
        if task.kind == "write":
            after.source[task.keys] += 1
            after.tasks[name] = task._replace(at="void", version=after.source[task.keys])
            yield f"writes version {after.source[task.keys]}", after
            return
        begun = []
        for key in task.keys:
            flight = world.flights.get(world.open.get((who, key), ""))
            if flight is not None and flight.loading and not flight.over:
                begun.append((key, world.open[who, key]))
        floors = tuple((key, max(world.floors[key], world.own_floors.get((who, key), 0))) for key in task.keys)
        known = "".join(key for key in task.keys if (who, key) in world.pending)
        if "asks the journal afterwards" in self.broken:
            known = ""
        after.tasks[name] = task._replace(at="read", floors=floors, earlier=tuple(begun), open=known)
        yield "begins", after

    def _at_read(self, world: State, name: str, task: Task) -> Steps[State]:
        yield from self._ask(world, name, ("read", task.keys), "decide", safe=True)

    def _at_decide(self, world: State, name: str, task: Task) -> Steps[State]:
        after, (values, holders) = world.copied(), task.answer
        left = ""
        for key, version in values:
            # The journal is asked before the question and behind the answer.
            if version is None or key in task.open or (task.process, key) in world.pending:
                left += key
            else:
                self._return(after, name, key, version)
        after.tasks[name] = task._replace(at="board" if left else "done", open=left, holders=holders, answer=None)
        yield "finds" + "".join(sorted({*task.keys} - {*left})), after

    def _at_board(self, world: State, name: str, task: Task) -> Steps[State]:
        after, ask, shared = world.copied(), list(task.ask), list(task.shared)
        for key in task.open:
            found = world.open.get((task.process, key), "")
            flight = world.flights.get(found)
            if (
                flight is None
                or flight.over
                or (found == dict(task.earlier).get(key) and self._is_void(task, key, flight))
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

    def _is_void(self, task: Task, key: str, flight: Flight) -> bool:
        """Tell whether the load of ``flight`` may have been invalidated. Without a lease nobody knows."""
        unknown = not flight.token and "joins without token" not in self.broken
        return unknown or flight.token != dict(task.holders)[key]

    def _at_ask(self, world: State, name: str, task: Task) -> Steps[State]:
        if task.ask:
            key, flight = task.ask[0]
            if (task.process, key) in world.pending:
                # The store cannot be asked: it is loaded, and not stored.
                after = world.copied()
                after.tasks[name] = task._replace(at="asked", answer=DOWN)
                yield f"does not ask for {key}", after
                return
            yield from self._ask(world, name, ("take", key, f"t:{flight}"), "asked")
            return
        after = world.copied()
        waits = task.load and "waits first" in self.broken and (task.held or task.shared)
        then = "load" if task.load and not waits else "wait"
        after.tasks[name] = task._replace(at=then)
        yield then, after

    def _at_asked(self, world: State, name: str, task: Task) -> Steps[State]:
        (key, number), rest = task.ask[0], task.ask[1:]
        after, answer, token = world.copied(), task.answer, f"t:{number}"
        task = task._replace(at="ask", ask=rest, answer=None)
        if answer in {"mine", DOWN}:
            got = answer == "mine"
            after.flights[number] = world.flights[number]._replace(token=token if got else "")
            after.dead |= set() if got else {token}
            after.tasks[name] = task._replace(load=(*task.load, (key, number)))
        elif isinstance(answer, str):
            after.tasks[name] = task._replace(held=(*task.held, (key, answer)), led=(*task.led, (key, number)))
        else:
            after.tasks[name] = task
            self._land(after, name, key, number, answer)
            self._return(after, name, key, answer)
        yield f"hears {answer} of {key}", after

    def _at_load(self, world: State, name: str, task: Task) -> Steps[State]:
        after, loading, versions = world.copied(), list(world.loading), []
        for key, number in task.load:
            flight = world.flights[number]
            twice = [token for other, token in loading if other == key and (key, token) in world.live]
            if (key, flight.token) in world.live and twice:
                after.wrong = f"two loads of {key} at a time"
            loading.append((key, flight.token))
            after.flights[number] = flight._replace(loading=True)
            versions.append((key, world.source[key]))
        after.loading = tuple(sorted(loading))
        after.tasks[name] = task._replace(at="loaded", versions=tuple(versions))
        yield f"loads {''.join(key for key, _ in task.load)}", after

    def _at_loaded(self, world: State, name: str, task: Task) -> Steps[State]:
        yield "its load returns", self._loaded(world, name, task, left_out="")
        if self.leaves_out and len(task.keys) > 1:
            left_out = task.load[0][0]
            yield f"its load leaves {left_out} out", self._loaded(world, name, task, left_out=left_out)

    def _loaded(self, world: State, name: str, task: Task, *, left_out: str) -> State:
        after, loading, fills = world.copied(), list(world.loading), []
        for key, number in task.load:
            flight = world.flights[number]
            loading.remove((key, flight.token))
            version = None if key == left_out else dict(task.versions)[key]
            self._land(after, name, key, number, version)
            if version is not None:
                self._return(after, name, key, version)
            if flight.token:
                fills.append((key, (flight.token, None if flight.void else version)))
        after.loading = tuple(loading)
        after.tasks[name] = task._replace(at="fill", load=(), versions=(), fill=tuple(fills))
        return after

    def _land(self, world: State, name: str, key: str, number: str, version: int | None) -> None:
        who = world.tasks[name].process
        world.flights[number] = world.flights[number]._replace(over=True, version=version)
        if world.open.get((who, key)) == number:
            del world.open[who, key]

    def _at_fill(self, world: State, name: str, task: Task) -> Steps[State]:
        if not task.fill:
            after = world.copied()
            after.tasks[name] = task._replace(at="wait", answer=None)
            yield "has filled", after
            return
        key, (token, version) = task.fill[0]
        if version is not None:
            yield from self._ask(world, name, ("fill", key, token, version), "filled")
        else:
            yield from self._ask(world, name, ("release", key, token), "filled", safe=True)

    def _at_filled(self, world: State, name: str, task: Task) -> Steps[State]:
        key, (token, _) = task.fill[0]
        after = world.copied()
        if task.answer is not True:
            # Given back, again and again.
            self._do_release(after, key, token)
        after.tasks[name] = task._replace(at="fill", fill=task.fill[1:], answer=None)
        yield f"hears {task.answer} of {key}", after

    def _at_wait(self, world: State, name: str, task: Task) -> Steps[State]:
        """Take part in the loads of others: whichever of them ends first."""
        if not (task.held or task.shared or task.load):
            after = world.copied()
            after.tasks[name] = task._replace(at="board" if task.open else "done")
            yield "has waited for all", after
            return
        if task.load and not (task.held or task.shared):
            # Only a broken variant waits before it loads.
            after = world.copied()
            after.tasks[name] = task._replace(at="load")
            yield "loads at last", after
            return
        for key, token in task.held:
            if world.leases[key] != token:
                after = world.copied()
                asked = (key, dict(task.led)[key])
                rest = task._replace(held=_without(task.held, key), led=_without(task.led, key))
                after.tasks[name] = rest._replace(at="ask", ask=(asked,))
                yield f"asks again for {key}", after
        for key, number in task.shared:
            flight = world.flights[number]
            if not flight.over:
                continue
            after = world.copied()
            rest = task._replace(shared=_without(task.shared, key))
            after.tasks[name] = rest
            if flight.version is not None:
                self._return(after, name, key, flight.version)
            elif len(task.keys) == 1:
                # For one key nobody else answers that it is absent.
                after.tasks[name] = rest._replace(at="board", open=key)
            yield f"hears of the end of {number}", after

    def _return(self, world: State, name: str, key: str, version: int) -> None:
        floor = dict(world.tasks[name].floors)[key]
        if version < floor:
            world.wrong = f"{name} got version {version} of {key}, and {floor} was invalidated before it began"

    # --- writers ----------------------------------------------------------------------------------

    def _at_void(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._void(after, task)
        yield from self._ask(after, name, ("unlink", task.keys), "voided")

    def _void(self, world: State, task: Task) -> None:
        number = world.open.pop((task.process, task.keys), "")
        if number:
            world.flights[number] = world.flights[number]._replace(void=True)

    def _at_voided(self, world: State, name: str, task: Task) -> Steps[State]:
        after, failed = world.copied(), task.answer == DOWN
        place = (task.process, task.keys)
        after.own_floors[place] = max(world.own_floors.get(place, 0), task.version)
        if failed:
            self._void(after, task)
            after.pending = (*world.pending, place)
            after.tasks[name] = task._replace(at="replay", answer=None)
        else:
            self._acknowledge(after, name, task)
        yield f"hears {task.answer}", after

    def _at_replay(self, world: State, name: str, task: Task) -> Steps[State]:
        after = world.copied()
        self._do_unlink(after, task.keys)
        left = list(world.pending)
        left.remove((task.process, task.keys))
        after.pending = tuple(left)
        self._acknowledge(after, name, task)
        yield "the journal removes it", after

    def _acknowledge(self, world: State, name: str, task: Task) -> None:
        world.floors[task.keys] = max(world.floors[task.keys], task.version)
        world.tasks[name] = Task(task.process, task.keys, task.kind, at="done")


SCENES: Final[dict[str, Batches]] = {
    "two processes, in another order": Batches((("A", "ab"), ("B", "ba"))),
    "the same with a fault": Batches((("A", "ab"), ("B", "ba")), faults=1),
    "one process, in another order, and one invalidates": Batches((("A", "ab"), ("A", "ba")), (("W", "a"),)),
    "two processes, in another order, and one invalidates": Batches((("A", "ab"), ("B", "ba")), (("W", "b"),)),
    "a batch and calls for one key": Batches((("A", "ab"), ("A", "b"), ("B", "a"))),
    "the same with an invalidation and a fault": Batches((("A", "ab"), ("A", "b")), (("W", "b"),), faults=1),
    "a process invalidates its own key, with a fault": Batches((("A", "ab"), ("A", "b")), (("A", "b"),), faults=1),
    "three processes, each with a key of the next one": Batches((("A", "ab"), ("B", "bc"), ("C", "ca"))),
    "ids that are left out": Batches((("A", "ab"), ("A", "ba"), ("A", "a")), leaves_out=True),
    "a lease lapses": Batches((("A", "ab"), ("B", "ba")), (("W", "a"),), lapses=1),
}
"""What must hold, by name."""

BROKEN: Final[dict[str, Batches]] = {
    "waits first": Batches((("A", "ab"), ("B", "ba"))),
    "joins without token": Batches((("A", "b"), ("A", "b")), (("W", "b"),), faults=1),
    "asks the journal afterwards": Batches((("A", "b"), ("A", "b")), (("A", "b"),), faults=1),
    "fills without leases": Batches((("A", "ab"), ("B", "b")), (("W", "b"),)),
}
"""The rules, by name, each with a scene in which its absence shows."""

LARGE: Final = Batches(
    (("A", "ab"), ("A", "bc"), ("B", "cba"), ("A", "a"), ("B", "b")),
    (("W", "a"), ("A", "b")),
    faults=2,
    lapses=1,
    leaves_out=True,
)
"""More than can be looked through: random ways through it are taken."""


def without(rule: str) -> Batches:
    """Return the scene of a broken rule, without that rule."""
    return replace(BROKEN[rule], broken=frozenset({rule}))
