"""The reporter: events go to observers, and incidents of calls to the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cachekit._tiers.incidents import Incidents
from cachekit.clock import Clock
from cachekit.events import Event, LoadFailed, Observer, Uncached


class Reporter:
    """Passes events on. No observer can break, slow by waiting, or change a call.

    ``observers`` is a tuple that is replaced, never changed: the hot path asks only whether it is empty.
    """

    __slots__ = ("_calls", "clock", "incidents", "observers")

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

    def skipped(self, name: str, reason: str, why: str) -> None:
        """Note that a call of ``name`` went uncached, for ``reason``; ``why`` explains it to people."""
        self.incident(name, reason, f"{name} is not cached: {why}")

    def incident(self, name: str, reason: str, text: str) -> None:
        """Note that a step was left out for a call of ``name``, for ``reason``; ``text`` explains it to people."""
        self._calls.begin((name, reason), text)
        if self.observers:
            self.emit(Uncached(name, reason))

    def load_failed(self, name: str, key: str, error: Exception) -> None:
        """Note that a load of ``name`` failed and no caller sees it."""
        kind = type(error).__name__
        self._calls.begin(
            (name, "load"), f"loads of {name} raise {kind}; its callers get stale values, or do not see it otherwise"
        )
        if self.observers:
            self.emit(LoadFailed(key, name, kind))

    def resolved(self, name: str, reason: str) -> None:
        """Note that ``name`` got past the step in which ``reason`` is found."""
        if self._calls.current:
            self._calls.end((name, reason))
