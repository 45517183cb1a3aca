"""Rolling windows of private text: bounded in number, bounded in age, gone on request.

The promise: an item older than the TTL is never returned, and is not kept while the writer keeps writing. The clock
of the server that holds it judges. A window never exceeds its limit. `SnapshotStore.forget` leaves nothing, and
nothing that was on its way comes back. No text reaches a log, an event or an exception message. After the last save the
list as a whole lives for one more TTL, no longer.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import index
from typing import Any, Final

from cachekit._flow.policy import Duration
from cachekit._flow.write import push
from cachekit._tiers.windows import WindowForm
from cachekit.cache import Cache, open_sealer
from cachekit.codecs import HandCodec
from cachekit.config import DAY, parse_count, parse_duration
from cachekit.errors import ConfigurationError, RenderError
from cachekit.keys import PATTERN, is_pattern, render, shorten
from cachekit.sealing import Keys, Sealer
from cachekit.tags import is_tag

_ITEM: Final = HandCodec(Any, "a rolling window")


class RollingWindow:
    """The newest items of one list: at most ``limit`` of them, none older than ``ttl``.

    Args:
        cache: The cache in whose store the list lives.
        key: Its key, without the cache's prefix.
        limit: The most items kept, at least 1.
        ttl: How old an item may grow: seconds, a timedelta or text such as ``"24h"``, from 1 ms to 100 years. Older
            items are never returned, and the next push removes them. After the last push the list lives for one more
            ttl.
        keys: Seal the items, so that nothing in Redis reads them: as for `Cache`, whose keys are used if there are none
            here. None leaves items plain in any case. Needs the extra ``encryption``; see docs/snapshots.md.

    Raises:
        ConfigurationError: A setting makes no sense, or a key is none.

    Items are dicts of plain JSON. Each gets a ``timestamp`` (UTC, ISO 8601) when it is pushed, by the clock of the
    server, in place of a timestamp of its own. No method raises for a failure of the store.

    Example:
        >>> import asyncio
        >>> async def main() -> None:
        ...     window = RollingWindow(Cache("memory://"), "clicks:42", limit=2, ttl="1h")
        ...     for page in ("home", "shop", "cart"):
        ...         await window.push({"page": page})
        ...     print([item["page"] for item in await window.recent(10)])
        >>> asyncio.run(main())
        ['cart', 'shop']
    """

    def __init__(self, cache: Cache, key: str, limit: int, ttl: Duration, *, keys: Keys | Sealer | None = ()) -> None:
        if not isinstance(cache, Cache):
            message = f'a window needs a Cache, not {type(cache).__name__}; write Cache("redis://localhost")'
            raise ConfigurationError(message)
        if not isinstance(key, str):
            message = f'key={key!r} is no key; write text such as "clicks:42"'
            raise ConfigurationError(message)
        if is_tag(key):
            message = f"key={key!r} is the key of a tag, as it begins with ~{{; write another first character"
            raise ConfigurationError(message)
        if is_pattern(key):
            message = f"key={key!r} is no key of a window: {PATTERN}"
            raise ConfigurationError(message)
        self._cache = cache
        self._key = key
        self._form = WindowForm(_ITEM, parse_count(limit, "limit"), parse_duration(ttl), _sealer(cache, keys))

    async def push(self, item: Mapping[str, Any]) -> bool:
        """Put ``item`` at the head, and drop items above the limit or too old, in one round trip; the first in two.

        Returns:
            Whether the store confirmed it. An item that is no dict of plain JSON gives False, too, and one warning. So
            does a push behind a `forget` inside an `after_commit` block: both wait for the end of the block.

        Example:
            >>> import asyncio
            >>> window = RollingWindow(Cache("memory://"), "clicks:42", limit=2, ttl="1h")
            >>> asyncio.run(window.push({"page": "home"}))
            True
        """
        if not isinstance(item, Mapping):
            self._cache.runtime.reporter.skipped(_ITEM.name, "value", f"an item is a dict, not a {type(item).__name__}")
            return False
        return await push(self._cache.runtime, self._key, dict(item), self._form)

    async def recent(self, count: int) -> list[dict[str, Any]]:
        """Return up to ``count`` items, newest first; [] when there are none or the store fails.

        It reads from the store only as many items as it returns. A ``count`` below 1 gives [], one above the limit as
        many as the limit.

        Raises:
            TypeError: ``count`` is no whole number. The store is not asked, so that it is not to blame.

        Example:
            >>> import asyncio
            >>> window = RollingWindow(Cache("memory://"), "clicks:42", limit=2, ttl="1h")
            >>> asyncio.run(window.recent(10))
            []
        """
        # No store counts further.
        count = min(index(count), self._form.limit, sys.maxsize)
        if count < 1:
            return []
        return await self._cache.runtime.windows.recent(self._key, count, self._form)

    async def forget(self) -> bool:
        """Delete the whole window (`Cache.erase`). Returns whether the store acknowledged it.

        The window is empty until the next push. That is one that begins afterwards, or one of another process that is
        under way and has not reached the store before: docs/snapshots.md has the table.

        Example:
            >>> import asyncio
            >>> window = RollingWindow(Cache("memory://"), "clicks:42", limit=2, ttl="1h")
            >>> asyncio.run(window.forget())
            True
        """
        return await self._cache.erase(self._key)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A text as it was at one moment (``timestamp``, UTC). Its repr leaves the text out.

    Example:
        >>> from datetime import UTC, datetime
        >>> Snapshot("I recieve it", 3, datetime(2026, 11, 22, tzinfo=UTC))
        Snapshot(text=<private>, word_count=3, timestamp=datetime.datetime(2026, 11, 22, ...))
    """

    text: str
    word_count: int
    timestamp: datetime

    def __repr__(self) -> str:
        return f"Snapshot(text=<private>, word_count={self.word_count}, timestamp={self.timestamp!r})"


class SnapshotStore:
    """The recent texts of each user: private, bounded in number and age.

    Args:
        cache: The cache in whose store the snapshots live.
        limit: The most snapshots kept for a user, at least 1.
        ttl: How old a snapshot may grow: seconds, a timedelta or text, from 1 ms to 100 years; default 24 hours. Older
            snapshots are never returned, and the next save removes them. After the last save the list lives for one
            more ttl.
        keys: Seal the snapshots: as for `Cache`, whose keys are used if there are none here. None leaves them plain in
            any case. Needs the extra ``encryption``; see docs/snapshots.md.

    Raises:
        ConfigurationError: A setting makes no sense, or a key is none.

    The snapshots of a user are the list at ``snapshots:<user_id>``. No method raises for a failure of the
    store, or for a ``user_id`` that has no text form.

    Example:
        >>> import asyncio
        >>> async def main() -> None:
        ...     store = SnapshotStore(Cache("memory://"))
        ...     await store.save_snapshot("42", "I recieve it", 3)
        ...     await store.save_snapshot("42", "I receive it", 3)
        ...     previous, latest = await store.get_snapshot_pair("42")
        ...     print(previous.text, "->", latest.text)
        >>> asyncio.run(main())
        I recieve it -> I receive it
    """

    def __init__(self, cache: Cache, limit: int = 50, ttl: Duration = DAY, *, keys: Keys | None = ()) -> None:
        # A window that nobody uses checks the settings at once.
        RollingWindow(cache, "snapshots:", limit, ttl)
        self._sealer = _sealer(cache, keys)
        self._cache = cache
        self._limit = limit
        self._ttl = parse_duration(ttl)

    async def save_snapshot(self, user_id: object, text: str, word_count: int) -> bool:
        """Keep ``text`` as the newest snapshot of ``user_id``. Returns whether the store confirmed it.

        False, and one warning, also for a text that is no str, a ``word_count`` that is no int, and a snapshot of more
        JSON than the ``max_bytes`` of the cache.

        Example:
            >>> import asyncio
            >>> asyncio.run(SnapshotStore(Cache("memory://")).save_snapshot("42", "I recieve it", word_count=3))
            True
        """
        window = self._window(user_id)
        if window is None:
            return False
        if not isinstance(text, str) or not isinstance(word_count, int) or isinstance(word_count, bool):
            reporter = self._cache.runtime.reporter
            reporter.skipped("a snapshot", "value", "its text has to be a str and its word_count an int")
            return False
        return await window.push({"text": text, "word_count": word_count})

    async def get_recent_snapshots(self, user_id: object, count: int = 10) -> list[Snapshot]:
        """Return up to ``count`` snapshots of ``user_id``, newest first; [] when there are none or the store fails.

        A ``count`` below 1 gives [].

        Raises:
            TypeError: ``count`` is no whole number.

        Example:
            >>> import asyncio
            >>> asyncio.run(SnapshotStore(Cache("memory://")).get_recent_snapshots("42", 3))
            []
        """
        window = self._window(user_id)
        items = [] if window is None else await window.recent(count)
        return [snapshot for item in items if (snapshot := _snapshot(item)) is not None]

    async def get_snapshot_pair(self, user_id: object) -> tuple[Snapshot, Snapshot] | None:
        """Return (previous, latest) of ``user_id``, or None while there are fewer than two, or when the store fails.

        Example:
            >>> import asyncio
            >>> print(asyncio.run(SnapshotStore(Cache("memory://")).get_snapshot_pair("42")))
            None
        """
        recent = await self.get_recent_snapshots(user_id, 2)
        return (recent[1], recent[0]) if len(recent) == 2 else None  # noqa: PLR2004 - a pair

    async def forget(self, user_id: object) -> bool:
        """Delete every snapshot of ``user_id``. Returns whether the store acknowledged it.

        If it did not, there is none for this process at once, and the journal sends the deletion again.

        Example:
            >>> import asyncio
            >>> asyncio.run(SnapshotStore(Cache("memory://")).forget("42"))
            True
        """
        window = self._window(user_id)
        return window is not None and await window.forget()

    def _window(self, user_id: object) -> RollingWindow | None:
        try:
            key = shorten(f"snapshots:{render(user_id)}")
        except RenderError as error:
            self._cache.runtime.reporter.skipped("a snapshot", "argument", str(error))
            return None
        return RollingWindow(self._cache, key, self._limit, self._ttl, keys=self._sealer)


def _sealer(cache: Cache, keys: Keys | Sealer | None) -> Sealer | None:
    if isinstance(keys, Sealer):
        return keys
    return cache.own.sealer if isinstance(keys, tuple) and not keys else open_sealer(keys)


def _snapshot(item: dict[str, Any]) -> Snapshot | None:
    """Return ``item`` as a snapshot, or None when another program wrote it."""
    text, words, stamp = item.get("text"), item.get("word_count"), item.get("timestamp")
    if not (isinstance(text, str) and isinstance(words, int) and isinstance(stamp, str)):
        return None
    try:
        return Snapshot(text, words, datetime.fromisoformat(stamp))
    except ValueError:
        return None
