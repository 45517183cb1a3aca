"""What stands at one key, as the server that has it says: value, window, lease, time that is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from cachekit._cli.existing import ANSWER
from cachekit.entry import Entry, is_pause, is_token, lease_key, parse
from cachekit.errors import StoreRefusedError
from cachekit.stores.visits import Door, is_at, masters_of, visit
from cachekit.urls import parse as parse_url


class Standing(Struct, frozen=True):
    """What stands at a key. Seconds."""

    kind: str
    """The type of Redis's: "string", "list", "none", or another one."""
    left: float | None
    """Until the server forgets it; None if it never does."""
    size: int
    """Bytes of a value, items of a window."""
    entry: Entry | None = None
    """None also for bytes that are no entry."""
    items: Sequence[bytes] = ()
    """Of a window."""
    holder: bytes | None = None
    """What stands at the lease."""
    lease_left: float = 0.0

    @property
    def lease(self) -> str:
        """What the lease says about loads."""
        if self.kind == "list":
            return "the window's generation" if self.holder else "no generation"
        if self.holder is None:
            return "free"
        if is_pause(self.holder):
            return f"a pause after a failed load, for {self.lease_left:.1f} s more"
        known = is_token(self.holder)
        return f"held by a load, for {self.lease_left:.1f} s more" if known else "held by something unknown"

    @property
    def fresh(self) -> float | None:
        """Seconds until the TTL of the value is over; None if it never is."""
        return None if self.left is None or self.entry is None else self.left - self.entry.stale

    def described(self) -> dict[str, Any]:
        """Return what is known about it, and no part of its value."""
        told: dict[str, Any] = {"type": "window" if self.kind == "list" else self.kind}
        told["items" if self.kind == "list" else "bytes"] = self.size
        told["ttl"] = None if self.left is None else round(self.left, 3)
        entry = self.entry
        if entry is not None and entry.stale:
            told["fresh"] = round(self.fresh or 0.0, 3)
        if entry is not None:
            marks = {"sealed": entry.sealed, "absent": entry.absent, "expired": entry.expired}
            told |= {name: True for name, is_so in marks.items() if is_so}
            told |= {"tags": [*entry.tags]} if entry.tags else {}
        return {**told, "lease": self.lease}


async def door_of(url: str, key: str) -> Door:
    """Return the way to the server that has ``key``, which is named with its prefix.

    Raises:
        StoreError: No node says which one it is, or a cluster has none for it.
        ConfigurationError: The store is in this process.
    """
    for door in await masters_of(parse_url(url), ANSWER):
        if is_at(door, key):
            return door
    cause = "CLUSTERDOWN"
    raise StoreRefusedError(cause, "the slot of this key has no master")


async def standing_at(url: str, prefix: str, key: str) -> Standing:
    """Return what stands at ``key``, which is named without its prefix.

    Raises:
        StoreError: Its server did not answer.
        ConfigurationError: The store is in this process.
    """
    stored = prefix + key
    lease = lease_key(stored)
    async with visit(await door_of(url, stored), ANSWER) as server:
        kind = (await server.ask("TYPE", stored)).decode()
        # As calls do: what is left is asked for before the value.
        left = _seconds(await server.ask("PTTL", stored))
        holder = await server.ask("GET", lease)
        lease_left = _seconds(await server.ask("PTTL", lease)) or 0.0
        if kind == "list":
            items = await server.ask("LRANGE", stored, 0, -1)
            return Standing(kind, left, len(items), None, items, holder, lease_left)
        raw = await server.ask("GET", stored) if kind == "string" else None
    if raw is None:
        return Standing("none" if kind == "string" else kind, left, 0, None, (), holder, lease_left)
    entry = parse(raw, sealed=True, tagged=True, absent=True)
    return Standing(kind, left, len(raw), entry, (), holder, lease_left)


def _seconds(left: int) -> float | None:
    """Return seconds, of an answer to PTTL: -1 for a key that never ends."""
    return None if left == -1 else max(left, 0) / 1000
