"""The generations of windows that this process knows: the fence of a push.

The lease of a window holds a random generation as long as the window lives. A push is carried out only while its
generation stands, and a removal of window and lease voids it. So a push that was given up on its way does not land
behind a removal that was acknowledged later.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

_MOST: Final = 10_000
"""Windows whose generation is known. One that is not known costs a push one more round trip."""


class Pushing:
    """A push that is under way."""

    __slots__ = ("generation", "outrun")

    def __init__(self, generation: bytes | None) -> None:
        self.generation: bytes | None = generation
        """The one that the store named last, if that is known."""
        self.outrun: bool = False
        """Whether this process has begun to remove the window since the push began. Then the removal is the newer."""


class Generations:
    """By key, the generation that the store named last. Event loops and threads share it."""

    def __init__(self) -> None:
        self.used: bool = False
        """Whether this process has used a window: only then is a removal to be noted."""
        self.removals: int = 0
        """How many removals were noted: what the store named before the last of them is not noted any more."""
        self._known: dict[str, bytes] = {}
        self._pushing: dict[str, list[Pushing]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def pushing(self, key: str) -> Generator[Pushing, None, None]:
        """Let a removal of ``key`` by this process be noted while a push is under way."""
        self.used = True
        push = Pushing(self._known.get(key))
        with self._lock:
            self._pushing.setdefault(key, []).append(push)
        try:
            yield push
        finally:
            with self._lock:
                others = self._pushing[key]
                others.remove(push)
                if not others:
                    del self._pushing[key]

    def note(self, key: str, generation: bytes | None) -> None:
        """Note what the store has named; None: it has to be asked."""
        if self._known.get(key) == generation:
            return
        self.used = True
        with self._lock:
            self._known.pop(key, None)
            # A store by somebody else may name anything.
            if isinstance(generation, bytes):
                self._known[key] = generation
                if len(self._known) > _MOST:
                    del self._known[next(iter(self._known))]

    def forget(self, keys: Sequence[str]) -> None:
        """Note that this process is about to remove ``keys``."""
        with self._lock:
            self.removals += 1
            for key in keys:
                self._known.pop(key, None)
                for push in self._pushing.get(key, ()):
                    push.outrun = True
