"""S3-FIFO: a bounded map that keeps keys that are asked for again and lets a scan pass through.

From Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023. Three queues, first
in, first out. A new key waits in the small one, which holds a tenth. A key that is asked for twice there moves to the
main one. Any other key leaves, and only its hash is remembered, in the ghost queue. A key that comes back while it is
remembered goes to the main queue at once. At the head of the main queue, a key that was asked for goes round again.

A hit changes one small number, so it is cheap in Python, where a list to reorder at each hit is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SMALL: Final = 0.1
"""The share of the bounds from which on the small queue gives way before the main one does."""

ROUNDS: Final = 3
"""How many times at most an entry that is not asked for any more goes round in the main queue."""

MISSING: Final = object()


class _Entry(Generic[V]):
    """A value, what it weighs, and how often it was asked for since it last moved."""

    __slots__ = ("uses", "value", "weight")

    def __init__(self, value: V, weight: int) -> None:
        self.value = value
        self.weight = weight
        self.uses = 0


class S3Fifo(Generic[K, V]):
    """A map bounded by its number of entries and by their weight. Not thread-safe, except for `get`.

    Args:
        entries: The most entries, from 1 up.
        weight: The most that all of them may weigh together, in the unit of `put`: bytes, say. Unbounded by default.

    Raises:
        ValueError: A bound that leaves no room for anything.

    Example:
        >>> held = S3Fifo[str, bytes](entries=1000, weight=1_000_000)
        >>> held.put("profile:42", b"{}", weight=2)
        True
        >>> held.get("profile:42"), held.get("profile:43")
        (b'{}', None)
    """

    __slots__ = ("_ghost", "_main", "_main_weight", "_small", "_small_weight", "entries", "weight")

    def __init__(self, *, entries: int, weight: float = inf) -> None:
        if entries < 1 or not weight > 0:
            message = f"there is no room for anything in {entries} entries of {weight} in all"
            raise ValueError(message)
        self.entries: Final = entries
        self.weight: Final = weight
        # The first in each is the next to leave. A plain dict would walk over all that has left before it.
        self._small: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._main: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._small_weight = 0
        self._main_weight = 0

    def __len__(self) -> int:
        return len(self._main) + len(self._small)

    def __contains__(self, key: object) -> bool:
        return key in self._main or key in self._small

    def __repr__(self) -> str:
        return f"<S3Fifo {len(self)} of {self.entries} entries, {self.held} of {self.weight} in weight>"

    @property
    def held(self) -> int:
        """The weight of all entries together."""
        return self._main_weight + self._small_weight

    def get(self, key: K) -> V | None:
        """Return the value of ``key``; None without one."""
        entry = self._main.get(key) or self._small.get(key)
        if entry is None:
            return None
        if entry.uses < ROUNDS:
            entry.uses += 1
        return entry.value

    def put(self, key: K, value: V, *, weight: int = 1) -> bool:
        """Hold ``value`` in place of the one before. Returns False for one that weighs more than the whole bound."""
        small, main = self._small, self._main
        proven = key in main
        if proven or key in small:
            self.remove(key)
        if weight > self.weight:
            return False
        room = self.weight - weight
        while len(small) + len(main) >= self.entries or self._small_weight + self._main_weight > room:
            if small and (self._is_crowded() or not main):
                self._leave_small()
            else:
                self._leave_main()
        if proven or self._ghost.pop(hash(key), MISSING) is None:
            main[key] = _Entry(value, weight)
            self._main_weight += weight
        else:
            small[key] = _Entry(value, weight)
            self._small_weight += weight
        return True

    def remove(self, key: K) -> bool:
        """Let go of ``key``; tell whether it was there."""
        if entry := self._main.pop(key, None):
            self._main_weight -= entry.weight
        elif entry := self._small.pop(key, None):
            self._small_weight -= entry.weight
        return entry is not None

    def clear(self) -> None:
        """Remove every key, and forget the ghost queue."""
        self._small.clear()
        self._main.clear()
        self._ghost.clear()
        self._small_weight = self._main_weight = 0

    def _is_crowded(self) -> bool:
        return len(self._small) >= SMALL * self.entries or self._small_weight >= SMALL * self.weight

    def _leave_small(self) -> None:
        key, entry = self._small.popitem(last=False)
        self._small_weight -= entry.weight
        if entry.uses > 1:
            entry.uses = 0
            self._main[key] = entry
            self._main_weight += entry.weight
            return
        ghost = self._ghost
        ghost[hash(key)] = None
        # As many as there are entries: when few heavy ones fill the map, the past is not to outgrow them.
        while len(ghost) > len(self._small) + len(self._main) + 1:
            ghost.popitem(last=False)

    def _leave_main(self) -> None:
        main = self._main
        key, entry = main.popitem(last=False)
        if entry.uses:
            entry.uses -= 1
            main[key] = entry
        else:
            self._main_weight -= entry.weight
