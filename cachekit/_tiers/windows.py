"""Rolling windows: lists of items with a timestamp, bounded in number and age.

The store judges ages by its own clock, and a push is fenced by the generation of its window (`generations`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Final

from msgspec import Struct

from cachekit._tiers.coherence import Coherence, milliseconds
from cachekit._tiers.guard import Budget
from cachekit._tiers.outcome import Found
from cachekit._tiers.seals import MEMBER, Seals
from cachekit._tiers.values import Values
from cachekit.codecs import Codec
from cachekit.entry import timestamp
from cachekit.sealing import Sealer
from cachekit.stores.base import Window
from cachekit.stores.scripts import Push

_SOON: Final = 0.1
"""Seconds. A push that is refused sooner is tried again: its window was forgotten elsewhere, most likely before it
began. One that was on its way for longer may have begun before: then it is rather lost than back."""


class WindowForm(Struct, frozen=True):
    """How the items of a window are written, and for how long they are kept."""

    codec: Codec
    limit: int
    """The most items."""
    ttl: float
    """Seconds."""
    sealer: Sealer | None
    """Its keys; None when its items are plain text."""


class Windows:
    """The windows of one cache.

    Args:
        coherence: Where items come from, and go to.
        values: Encodes and decodes them.
        budget: Returns the deadline of one call.
        seals: Seals items, and opens them.
    """

    def __init__(self, coherence: Coherence, values: Values, budget: Callable[[], Budget], seals: Seals) -> None:
        self._coherence = coherence
        self._generations = coherence.generations
        self._budget = budget
        self._values = values
        self._seals = seals

    async def push(self, key: str, item: dict[str, object], form: WindowForm) -> bool:
        """Put ``item``, with the present time, at the head of a window. Returns whether it is confirmed."""
        budget = self._budget()
        if not await self._coherence.may_grow(key, budget):
            return False
        data = self._written(key, {name: item[name] for name in item if name != "timestamp"}, form)
        if data is None:
            return False
        return await self._push(key, partial(Push, item=data, limit=form.limit, ttl_ms=milliseconds(form.ttl)), budget)

    def _written(self, key: str, item: dict[str, object], form: WindowForm) -> bytes | None:
        entry = self._values.encoded(item, form.codec, key)
        if entry is None or form.sealer is None:
            return None if entry is None else entry.data
        return self._seals.of_item(form.sealer, key, entry.data, form.codec)

    async def _push(self, key: str, push: Callable[[bytes], Push], budget: Budget) -> bool:
        # Not by the budget, which leaves out the time that this process lost.
        began = monotonic()
        with self._generations.pushing(key) as pushing:
            if pushing.generation is not None:
                pushed = await self._coherence.push(key, push(pushing.generation), budget)
                if pushed is not False:
                    return pushed is True
                if pushing.outrun or monotonic() - began > _SOON:
                    self._generations.note(key, None)
                    return False
            opened = await self._coherence.open_window(key, budget)
            if opened is None or pushing.outrun:
                return False
            # When this one is refused, the window was forgotten since this push began.
            return await self._coherence.push(key, push(opened), budget) is True

    async def recent(self, key: str, count: int, form: WindowForm) -> list[dict[str, object]]:
        """Return up to ``count`` items, newest first, none older than the ttl."""
        window = await self._coherence.window(key, count, self._budget())
        # A store by somebody else may put anything into it.
        if not (isinstance(window, Window) and isinstance(window.items, Iterable) and isinstance(window.now, float)):
            return []
        oldest = timestamp(window.now - form.ttl)
        if form.sealer is not None:
            return self._seals.items_in(form.sealer, key, window.items, oldest, form.codec)
        decoded = [self._values.decoded(key, item, form.codec) for item in window.items]
        found = [outcome.value for outcome in decoded if isinstance(outcome, Found) and _stamp(outcome.value) >= oldest]
        plain = [item for item in found if MEMBER not in item]
        if len(plain) < len(found):
            self._seals.no_keys(form.codec)
        return plain


def _stamp(item: object) -> str:
    """Return the timestamp of ``item``; ``""``, which is older than all, when it has none."""
    found = item.get("timestamp") if isinstance(item, dict) else None
    return found if isinstance(found, str) else ""
