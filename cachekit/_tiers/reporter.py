"""The reporter: events go to observers, and incidents of calls to the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from cachekit._tiers.incidents import Incidents
from cachekit.clock import Clock
from cachekit.events import Event, NotStored, Observer, Uncached


class Reporter:
    """Passes events on. No observer can break, slow by waiting, or change a call.

    ``observers`` is a tuple that is replaced, never changed: the hot path asks only whether it is empty.
    """

    __slots__ = ("_calls", "clock", "incidents", "observers")

    off: ClassVar[bool] = False
    """Whether the cache is off: calls run undecorated. Looked at where `incidents` are, which a hit looks at anyway."""

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock
        self.observers: tuple[Observer, ...] = ()
        self._calls = Incidents[tuple[str, str | int]](clock)
        self.incidents: Mapping[tuple[str, str | int], object] = self._calls.current
        """By name and reason. Empty while no incident is going on: then `resolved` need not be called."""

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Pass every event to ``observer`` from now on. Returns a function that ends it."""
        self.observers = (*self.observers, observer)

        def stop() -> None:
            left = list(self.observers)
            # By identity, and once: it may observe twice, and it may claim to equal another.
            for position, other in enumerate(left):
                if other is observer:
                    del left[position]
                    break
            self.observers = tuple(left)

        return stop

    def emit(self, event: Event) -> None:
        """Pass ``event`` to every observer."""
        for observer in self.observers:
            try:
                observer(event)
            # An observer is the user's code and may raise anything; a metric must not break a request.
            except Exception as error:
                self._calls.begin(
                    ("observer", id(observer)),
                    f"an observer of cache events raises {type(error).__name__}; calls go on without it noticing",
                )
            else:
                if self._calls.current:
                    self._calls.end(("observer", id(observer)))

    def skipped(self, name: str, reason: str, why: str, key: str = "") -> None:
        """Note that a call of ``name`` went uncached, for ``reason``; ``why`` explains it to people."""
        self.incident(name, reason, f"{name} is not cached: {why}", key)

    def incident(self, name: str, reason: str, text: str, key: str = "") -> None:
        """Note that a step was left out for a call of ``name``, for ``reason``; ``text`` explains it to people."""
        self._calls.begin((name, reason), text)
        if self.observers:
            self.emit(Uncached(name, reason, key))

    def log(self, name: str, reason: str, text: str) -> None:
        """Note an incident of calls of ``name`` in the log alone: its caller tells observers what happened."""
        self._calls.begin((name, reason), text)

    def not_stored(self, name: str, key: str, reason: str) -> None:
        """Tell observers that a value of ``name`` was not stored at ``key``, for ``reason``."""
        if self.observers:
            self.emit(NotStored(key, name, reason))

    def resolved(self, name: str, reason: str) -> None:
        """Note that ``name`` got past the step in which ``reason`` is found."""
        if self._calls.current:
            self._calls.end((name, reason))


class SilentReporter(Reporter):
    """The reporter of caches that are off: it tells nothing."""

    __slots__ = ()

    off = True

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._calls = _NoIncidents(clock)
        # Never empty, so that calls look whether the cache is off.
        self.incidents = {("off", ""): None}

    def observe(self, observer: Observer) -> Callable[[], None]:  # noqa: ARG002 - nothing happens
        return _nothing


class _NoIncidents(Incidents[tuple[str, str | int]]):
    """Notes nothing."""

    def begin(self, key: tuple[str, str | int], text: str) -> None: ...

    def end(self, key: tuple[str, str | int]) -> None: ...


def _nothing() -> None: ...
