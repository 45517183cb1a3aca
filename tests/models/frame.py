"""The parts that all models share: worlds that can be told apart, tasks, and commands that may go wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

DOWN: Final = "down"
"""The answer that does not come."""


@dataclass(kw_only=True)
class World:
    """All that can change, at one moment. A model adds its own parts.

    Attributes:
        tasks: How far each task is, and what it has in hand: named tuples with a field ``at``.
        late: The commands that were lost on their way, and may still be carried out.
        faults: How many more commands may go wrong.
        wrong: The promise that is broken, or empty text.
    """

    DICTS: ClassVar[tuple[str, ...]] = ()
    """The parts that are dicts, besides the tasks."""

    tasks: dict[str, Any]
    late: tuple[tuple[Any, ...], ...] = ()
    faults: int = 0
    wrong: str = ""

    def copied(self) -> Any:
        """Return a copy that may be changed."""
        # `copy.copy` takes four times as long.
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.tasks = {**self.tasks}
        for name in self.DICTS:
            twin.__dict__[name] = {**self.__dict__[name]}
        return twin

    def shared(self) -> Hashable:
        """Return a value that is equal for worlds that differ in their tasks alone."""
        parts = {**self.__dict__, "tasks": None, "late": tuple(sorted(self.late, key=repr))}
        for name in self.DICTS:
            parts[name] = tuple(sorted(parts[name].items()))
        return tuple(parts.values())

    def stuck(self) -> str:
        """Return what is wrong if no step follows: a task that waits for ever, or empty text."""
        waiting = [name for name, task in self.tasks.items() if task.at != "done"]
        return f"{', '.join(waiting)} wait for ever" if waiting else ""


W = TypeVar("W", bound=World)

Steps = Iterator[tuple[str, W]]
"""For each step that may come next its name, and the world behind it."""


class Frame(Generic[W]):
    """A protocol, with the steps of its tasks in methods: those at ``"read key"`` in ``_at_read_key``.

    A step of a task may ask for, and change, that task and whatever is no task. It may also begin a task that the
    first world has as done: once. So a search need look only once at the steps of a task in each state of the rest.
    """

    def first(self) -> W:
        """Return the world in which all begins."""
        raise NotImplementedError

    def of_task(self, world: W, name: str) -> Steps[W]:
        """Yield the steps of one task. ``world`` belongs to the caller no more."""
        task = world.tasks[name]
        if task.at == "done" or not self._hears(world, name):
            return
        for label, after in getattr(self, "_at_" + task.at.replace(" ", "_"))(world, name, task):
            self._heard(world, after, name)
            self._judge(after)
            yield f"{name}: {label}", after

    def of_others(self, world: W) -> Steps[W]:
        """Yield the steps that belong to no task: late commands, and chances."""
        for place, command in enumerate(world.late):
            after = world.copied()
            after.late = world.late[:place] + world.late[place + 1 :]
            self._carry_out(after, command)
            self._judge(after)
            yield f"late: {command}", after
        for label, after in self._chances(world):
            self._judge(after)
            yield label, after

    def _hears(self, world: W, name: str) -> bool:
        """Tell whether a task can go on now: not so while an earlier answer of its lane is unheard."""
        return True

    def _heard(self, world: W, after: W, name: str) -> None:
        """Note that a task has gone on, from ``world`` to ``after``."""

    def _judge(self, after: W) -> None:
        """Look at a world that a step has made."""

    def _chances(self, world: W) -> Steps[W]:
        """Yield what happens by itself."""
        return iter(())

    def _ask(self, world: W, name: str, command: tuple[Any, ...], then: str, *, safe: bool = False) -> Steps[W]:
        """Yield the ways in which a command may go. The answer is heard in the task's next step."""
        after = world.copied()
        answer = self._carry_out(after, command)
        after.tasks[name] = after.tasks[name]._replace(at=then, answer=answer)
        self._answered(after, name, command)
        yield f"{command} -> {answer}", after
        if safe or not world.faults:
            return
        for fault in ("lost", "unheard", "late"):
            after = world.copied()
            after.faults -= 1
            if fault == "unheard":
                self._carry_out(after, command)
            elif fault == "late":
                after.late = (*world.late, command)
            after.tasks[name] = after.tasks[name]._replace(at=then, answer=DOWN)
            yield f"{command} {fault}", after

    def _answered(self, after: W, name: str, command: tuple[Any, ...]) -> None:
        """Note that the answer to ``command`` has come."""

    def _carry_out(self, world: W, command: tuple[Any, ...]) -> Any:
        verb, *arguments = command
        return getattr(self, "_do_" + verb.replace(" ", "_"))(world, *arguments)
