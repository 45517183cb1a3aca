"""All caches of this process: the switch that turns them off, and observers of all of them.

A cache looks up its `Runtime` at each call. While caches are off they find `off_runtime` instead, whose store is empty
and whose reporter has no observers. So a call that is cached pays nothing for the switch.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Protocol

from cachekit._flow.runtime import Runtime
from cachekit._tiers.background import Background
from cachekit._tiers.coherence import Coherence
from cachekit._tiers.guard import Guard, Settings
from cachekit._tiers.journal import Journal
from cachekit._tiers.reporter import SilentReporter
from cachekit.clock import SystemClock
from cachekit.config import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT
from cachekit.events import Observer
from cachekit.stores.empty import EmptyStore

VARIABLE: Final = "CACHEKIT_DISABLED"

_NO: Final = frozenset({"", "0", "false", "no", "off"})


class Switched(Protocol):
    """A cache, seen from here."""

    def switch(self, *, off: bool) -> None:
        """Be off from now on, or on."""
        ...

    def observe(self, observer: Observer, /) -> Callable[[], None]:
        """Pass every event to ``observer``. Returns a function that ends it."""
        ...


@functools.cache
def off_runtime() -> Runtime:
    """Return the runtime of all caches that are off."""
    reporter, background = SilentReporter(SystemClock()), Background()
    guard = Guard(EmptyStore(), Settings("", DEFAULT_TIMEOUT, DEFAULT_MAX_BYTES), background, reporter)
    return Runtime(guard, Coherence(guard, Journal(reporter), None, background), reporter, background)


def off_by_environment() -> bool:
    """Tell whether ``CACHEKIT_DISABLED`` turns caches off: any text does, but ``0``, ``false``, ``no`` and ``off``."""
    return os.environ.get(VARIABLE, "").strip().lower() not in _NO


class Caches:
    """The caches of this process. It keeps none of them alive. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._alive: weakref.WeakSet[Switched] = weakref.WeakSet()
        # Without scopes, whose events are those of their cache.
        self._reporting: weakref.WeakSet[Switched] = weakref.WeakSet()
        self._observers: list[_Everywhere] = []
        # How many blocks turn them off now.
        self._off = 0

    def add(self, cache: Switched, *, scope: bool = False) -> None:
        """Note a new cache, or a ``scope`` of one."""
        with self._lock:
            self._alive.add(cache)
            cache.switch(off=self._off > 0)
            if not scope:
                self._reporting.add(cache)
                for one in self._observers:
                    one.begin(cache)

    @property
    def are_off(self) -> bool:
        """Whether they are off, by a block or by the environment."""
        return self._off > 0 or off_by_environment()

    @contextmanager
    def off(self) -> Generator[None, None, None]:
        """Turn all caches off inside, those included that are made inside, in every thread."""
        self._turn(1)
        try:
            yield
        finally:
            self._turn(-1)

    def _turn(self, by: int) -> None:
        with self._lock:
            self._off += by
            for cache in self._alive:
                cache.switch(off=self._off > 0)

    @contextmanager
    def observed(self, observer: Observer) -> Generator[None, None, None]:
        """Pass the events of all caches to ``observer`` inside, those included that are made inside."""
        one = _Everywhere(observer)
        with self._lock:
            self._observers.append(one)
            for cache in self._reporting:
                one.begin(cache)
        try:
            yield
        finally:
            with self._lock:
                self._observers.remove(one)
                one.end()


class _Everywhere:
    """An observer of all caches."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._stops: list[Callable[[], None]] = []

    def begin(self, cache: Switched) -> None:
        self._stops.append(cache.observe(self._observer))

    def end(self) -> None:
        for stop in self._stops:
            stop()


CACHES: Final = Caches()
