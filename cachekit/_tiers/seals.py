"""Seals: what of an entry or an item stands in the store sealed, and for which place.

A sealed value is ``"<base64>"``, and its metadata has ``"E":1`` (`cachekit.entry`): readers without keys take it for a
miss. Its metadata is readable, and the value opens beside no other. A sealed item is ``{"~sealed":"<base64>"}``, and
the store puts its timestamp beside that. Bytes that no key opens are not there: one warning, and never the plain
text in their place.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import DecodeError, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from cachekit._tiers.reporter import Reporter
from cachekit.codecs import Codec
from cachekit.entry import Entry, metadata_of, parse, timestamp_of
from cachekit.errors import SealError
from cachekit.sealing import Sealer, place

MEMBER: Final = "~sealed"
"""Of an item: the only one beside the timestamp."""


class _Item(Struct, frozen=True, gc=False, rename={"sealed": MEMBER}):
    timestamp: str
    sealed: bytes


# base64 becomes bytes on the way. The module base64 takes five times as long.
_ITEM: Final = Decoder(_Item)
_TEXT: Final = Decoder(bytes)


class Seals:
    """The seals of one cache.

    Args:
        sealer: The keys of the cache; None when it has none.
        stored: Returns keys as they stand in the store.
        reporter: Where it is told that no key opens some bytes.
    """

    def __init__(self, sealer: Sealer | None, stored: Callable[[Sequence[str]], list[str]], reporter: Reporter) -> None:
        self.sealer: Sealer | None = sealer
        self._stored = stored
        self._reporter = reporter

    # --- values -----------------------------------------------------------------------------------

    def of_value(self, key: str, entry: Entry, codec: Codec) -> Entry | None:
        """Return ``entry`` with its value sealed for ``key`` and its metadata; None when there is no key for it."""
        form = replace(entry, sealed=True)
        sealed = self._seal(self.sealer, entry.data, self._place("value", key, form.metadata()), codec)
        if sealed is None:
            self._reporter.not_stored(codec.name, key, "seal")
            return None
        return replace(form, data=b'"%b"' % sealed)

    def value_in(
        self, key: str, raw: bytes, codec: Codec, *, tagged: bool = False, absent: bool = False
    ) -> Entry | None:
        """Return the entry that is sealed in ``raw`` at ``key``; None when no key opens it.

        ``tagged`` and ``absent``: as for `parse`.
        """
        entry = parse(raw, sealed=True, tagged=tagged, absent=absent)
        # A later version wrote it.
        if entry is None:
            return None
        try:
            sealed = _TEXT.decode(entry.data if entry.sealed else b"")
        except DecodeError:
            self._left_out(codec, "they are not sealed")
            return None
        data = self._opened(self.sealer, sealed, self._place("value", key, metadata_of(raw)), codec)
        return None if data is None else replace(entry, data=data, sealed=False)

    # --- items of windows ---------------------------------------------------------------------------

    def of_item(self, sealer: Sealer, key: str, data: bytes, codec: Codec) -> bytes | None:
        """Return the item of the window at ``key`` in which ``data`` is sealed; None when there is no key."""
        sealed = self._seal(sealer, data, self._place("window", key), codec)
        if sealed is None:
            self._reporter.not_stored(codec.name, key, "seal")
            return None
        return b'{"%b":"%b"}' % (MEMBER.encode(), sealed)

    def items_in(
        self, sealer: Sealer, key: str, items: Iterable[bytes], oldest: str, codec: Codec
    ) -> list[dict[str, object]]:
        """Return what is sealed in the ``items`` of the window at ``key`` that are no older than ``oldest``."""
        where, found = self._place("window", key), list[dict[str, object]]()
        for raw in items:
            try:
                item = _ITEM.decode(raw)
            # TypeError: a store by somebody else gave no bytes. Else it is of another program, or changed.
            except (DecodeError, TypeError):
                self._left_out(codec, "they are not sealed" if timestamp_of(raw) >= oldest else None)
                continue
            data = self._opened(sealer, item.sealed, where, codec) if item.timestamp >= oldest else None
            if data is not None:
                fields = codec.decode(data)
                fields["timestamp"] = item.timestamp
                found.append(fields)
        return found

    def no_keys(self, codec: Codec) -> None:
        """Tell that there are sealed items, and no keys to open them."""
        self._left_out(codec, "they are sealed, and there are no keys")

    # --- both -------------------------------------------------------------------------------------

    def _place(self, kind: str, key: str, metadata: bytes = b"") -> bytes:
        [stored] = self._stored([key])
        return place(kind, stored, key, metadata)

    def _seal(self, sealer: Sealer | None, data: bytes, where: bytes, codec: Codec) -> bytes | None:
        try:
            if sealer is None:
                message = "its cache has no keys"
                raise SealError(message)  # noqa: TRY301 - one more reason to store nothing
            return b2a_base64(sealer.seal(data, where), newline=False)
        except SealError as error:
            self._reporter.log(codec.name, "seal", f"{codec.name} stores nothing: {error}")
            return None

    def _opened(self, sealer: Sealer | None, sealed: bytes, where: bytes, codec: Codec) -> bytes | None:
        if sealer is None:
            self.no_keys(codec)
            return None
        try:
            data = sealer.open(sealed, where)
        except SealError as error:
            self._left_out(codec, str(error))
            return None
        if self._reporter.incidents:
            self._reporter.resolved(codec.name, "seal")
        return data

    def _left_out(self, codec: Codec, why: str | None) -> None:
        if why is not None:
            self._reporter.incident(codec.name, "seal", f"{codec.name} passes over bytes in the store: {why}")
