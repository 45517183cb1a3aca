"""A store by somebody else that has no more than the protocol of a store asks for: no tags, no sweep."""

from __future__ import annotations

from typing import Final

from cachekit.testing import FailingStore

_MORE: Final = frozenset({"get_tagged", "open_tags", "run_tagged", "sweep", "servers_of"})


class Bare:
    """`FailingStore` without tags and without a sweep."""

    def __init__(self) -> None:
        inner = FailingStore()
        # As attributes: since Python 3.12 a protocol does not ask `__getattr__`.
        for name in dir(inner):
            if not name.startswith("_") and name not in _MORE:
                setattr(self, name, getattr(inner, name))
