"""The scopes of one cache: one object for one prefix, as long as it is needed.

A scope may be asked for anew in each request. Invalidations that the store has not acknowledged hold for the next
request as well, and so do loads.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from cachekit._flow.runtime import Runtime

MOST: Final = 1000
"""The most scopes that are kept though no code holds them. One whose journal is not empty is kept beyond that."""


class Scoped(Protocol):
    """A scope, seen from here."""

    own: Runtime


S = TypeVar("S", bound=Scoped)


class Scopes(Generic[S]):
    """The scopes of one cache. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: weakref.WeakValueDictionary[str, S] = weakref.WeakValueDictionary()
        # The one that was asked for last stands at the end.
        self._kept: OrderedDict[str, S] = OrderedDict()

    def get(self, prefix: str, make: Callable[[str], S]) -> S:
        """Return the scope for ``prefix``; ``make`` makes it if there is none."""
        with self._lock:
            scope = self._alive.get(prefix)
            if scope is None:
                scope = self._alive[prefix] = make(prefix)
            self._kept[prefix] = scope
            self._kept.move_to_end(prefix)
            if len(self._kept) > MOST:
                self._let_go()
            return scope

    def runtimes(self) -> list[Runtime]:
        """Return the runtimes of all scopes that are there."""
        with self._lock:
            return [scope.own for scope in self._alive.values()]

    def _let_go(self) -> None:
        # Without the last one: it is about to be used, and an invalidation may have to wait in it then.
        others = islice(self._kept.items(), len(self._kept) - 1)
        idle = next((prefix for prefix, scope in others if not scope.own.coherence.journal), None)
        if idle is not None:
            del self._kept[idle]
