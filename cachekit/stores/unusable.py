"""A store that never answers: it stands in for a store whose URL makes no sense, where an error must not be raised."""

from __future__ import annotations

from cachekit.errors import StoreUnavailableError
from cachekit.stores.memory import MemoryStore

CAUSE = "unconfigured"
"""The cause of its failures."""


class UnusableStore(MemoryStore):
    """Raises a `StoreUnavailableError` from every verb.

    Args:
        reason: The text of the error, which goes to the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(maxsize=1)
        self.reason: str = reason
        # Every verb takes the lock first, so the lock can make all of them fail.
        self._lock = _Shut(reason)

    def __repr__(self) -> str:
        return f"UnusableStore({self.reason!r})"


class _Shut:
    """A lock that never opens."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __enter__(self) -> None:
        raise StoreUnavailableError(CAUSE, self._reason)

    def __exit__(self, *raised: object) -> None: ...
