"""Which keys are distrusted: those whose invalidation was lost, as far as this process can remember them.

==========  ==================================  ================================  ======================================
remembered  it holds                            distrusted                        it changes
==========  ==================================  ================================  ======================================
lost keys   hashes of the lost invalidations    the keys among them               to the other when it is full
trust       hashes of the keys stored since     every key that is not among them  back when every lost value has expired
==========  ==================================  ================================  ======================================

Either way it is bounded, and a key that is forgotten is distrusted: its value is replaced once more than needed, and
never served in spite of a lost invalidation. A hash has 128 bits and a secret key, so no two keys share one, by chance
or by intent.
"""

from __future__ import annotations

import os
import random
from hashlib import blake2b
from typing import Final

LIMIT: Final = 200_000
"""The most hashes that are held: about 20 MB, and nothing before the first loss."""

ADMITTED: Final = 0.1
"""The share of further keys that take the place of another when so many are trusted. If each did, keys that are asked
for in turn would each be forgotten just before their next turn, and no call would be a hit."""

_SECRET: Final = os.urandom(16)


class Distrust:
    """The keys that are distrusted. Changes need a lock of the caller's; `covers` needs none.

    Args:
        limit: The most hashes that are held.
    """

    __slots__ = ("_limit", "_lost", "_trusted")

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        # None: too many were lost.
        self._lost: set[int] | None = set()
        self._trusted: set[int] = set()

    def covers(self, key: str) -> bool:
        """Return whether ``key`` is distrusted."""
        # Read once: another thread may replace it meanwhile.
        lost = self._lost
        return _hash(key) not in self._trusted if lost is None else _hash(key) in lost

    def lose(self, key: str) -> None:
        """Distrust ``key``, whose invalidation was lost."""
        hashed = _hash(key)
        if self._lost is None:
            self._trusted.discard(hashed)
            return
        self._lost.add(hashed)
        if len(self._lost) > self._limit:
            self._lost = None

    def lose_all(self, tag: str) -> None:  # noqa: ARG002 - which one it is makes no difference
        """Distrust every key: ``tag`` is lost, and any key may depend on it."""
        self._lost = None
        self._trusted = set()

    def stored(self, key: str) -> None:
        """Trust ``key``, at which this process has stored a value since the loss."""
        if self._lost is not None:
            self._lost.discard(_hash(key))
            return
        hashed = _hash(key)
        if len(self._trusted) >= self._limit and hashed not in self._trusted:
            if random.random() >= ADMITTED:  # noqa: S311 - no secret
                return
            self._trusted.pop()
        self._trusted.add(hashed)

    def removed(self, key: str) -> None:
        """Note that ``key`` was removed from the store since the loss: any value that it has now is a later one."""
        # Among the trusted it would take the room of a key that has a value.
        if self._lost is not None:
            self._lost.discard(_hash(key))

    def clear(self) -> None:
        """Distrust no key any more."""
        # In this order: until the second step a reader in another thread distrusts more than needed.
        self._trusted = set()
        self._lost = set()


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=16, key=_SECRET).digest())
