"""Sealing: bytes that only the holders of a key can read or change. Pure: no I/O, no clock.

::

    0x01 | 4 bytes that name the key | nonce, 12 bytes | AES-256-GCM of the padded bytes | tag, 16 bytes

The nonce is random and new each time. The place that the bytes are for is associated data, and so is the metadata that
stands beside them: at another place, or beside other metadata, they do not open. Before they are sealed, the bytes grow
to a multiple of 256, so that their length tells little.

The package ``cryptography`` does the work; it is imported when the first key is used (extra ``encryption``).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cachekit.config import refuse_async
from cachekit.errors import ConfigurationError, SealError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Key: TypeAlias = str | bytes
"""32 bytes, or their text as `new_key` returns it."""

Keys: TypeAlias = Sequence[Key] | Callable[[], Sequence[Key] | str]
"""The keys, the current one first; text is read as keys with commas between them; or a callable that returns either."""

PADDED: Final = 256
"""Lengths are hidden up to the next multiple of it."""

VARIABLE: Final = "CACHEKIT_KEYS"

_VERSION: Final = b"\x01"
_NAME: Final = 4
_NONCE: Final = 12
_NONCE_AT: Final = len(_VERSION) + _NAME
_TEXT_AT: Final = _NONCE_AT + _NONCE
_BYTES: Final = 32
_END: Final = b"\x80"
_ADVICE: Final = "make one with cachekit.new_key()"


def new_key() -> str:
    """Return a new key: 32 random bytes, as text for ``keys=`` and for ``CACHEKIT_KEYS``. Its holders can read.

    Example:
        >>> len(new_key()), new_key() != new_key()
        (44, True)
    """
    return base64.urlsafe_b64encode(os.urandom(_BYTES)).decode()


class _Ring(NamedTuple):
    """The keys as they were given, their ciphers by the bytes that begin what they seal, and the current one's."""

    given: str | tuple[object, ...]
    ciphers: dict[bytes, AESGCM]
    current: bytes

    # Reports of errors show the local variables of each frame.
    def __repr__(self) -> str:
        count = len(self.ciphers)
        return f"{count} key{'s' if count > 1 else ''}"


class Sealer:
    """The keys of a cache or a window: seals with the first one, opens with any.

    Args:
        keys: See `Keys`. A callable is asked now, and again at each use, in the event loop: it has to answer at once,
            so one that asks a key service keeps the answer.
        setting: The name of the setting, for messages.

    Raises:
        ConfigurationError: There is no key, or one is none; or the package ``cryptography`` is missing.
        Exception: Any that the callable raises now. Later it does not reach a caller.

    Example:
        >>> sealer = Sealer([new_key()])
        >>> sealer.open(sealer.seal(b"private", b"here"), b"here")
        b'private'
        >>> sealer
        Sealer(1 key)
    """

    def __init__(self, keys: Keys, setting: str = "keys=") -> None:
        refuse_async(keys, setting, "keys=lambda: [key]")
        self._setting = setting
        self._ask: Callable[[], object] | None = keys if callable(keys) else None
        self._cipher, self._invalid = _cipher(setting)
        # Replaced as a whole: other threads may read it.
        self._ring = self._ring_of(keys() if callable(keys) else keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._ring})"

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Return ``data``, sealed with the first key for ``place``.

        Raises:
            SealError: The callable has no keys now.
        """
        ring = self._now()
        nonce = os.urandom(_NONCE)
        padded = data + _END + bytes(-(len(data) + 1) % PADDED)
        return b"".join((ring.current, nonce, ring.ciphers[ring.current].encrypt(nonce, padded, place)))

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Return the bytes that were sealed for ``place``.

        Raises:
            SealError: No key opens them: they were sealed with another one or for another place, cut or changed. Or the
                callable has no keys now.
        """
        ring = self._now()
        cipher = ring.ciphers.get(sealed[:_NONCE_AT])
        if cipher is None:
            message = "they were written with another key"
            raise SealError(message)
        try:
            padded = cipher.decrypt(sealed[_NONCE_AT:_TEXT_AT], sealed[_TEXT_AT:], place)
        # ValueError: the nonce was cut.
        except (self._invalid, ValueError):
            message = "they were cut, changed, or moved from another place"
            raise SealError(message) from None
        return padded[: padded.rindex(_END)]

    def _now(self) -> _Ring:
        if self._ask is None:
            return self._ring
        try:
            given = self._ask()
            if _kept(given) != self._ring.given:
                self._ring = self._ring_of(given)
        # The user's callable may raise anything; a key service that is down must not break a call.
        except Exception as error:
            message = f"the keys cannot be had: {type(error).__name__}"
            raise SealError(message) from None
        return self._ring

    def _ring_of(self, keys: object) -> _Ring:
        if isinstance(keys, (bytes, bytearray)) or not isinstance(keys, Sequence):
            message = f"{self._setting} is a {type(keys).__name__} and no list of keys; write keys=[key]: {_ADVICE}"
            raise ConfigurationError(message)
        parts = [part.strip() for part in keys.split(",")] if isinstance(keys, str) else [*keys]
        if not parts:
            message = f"{self._setting} has no key; write keys=[key]: {_ADVICE}"
            raise ConfigurationError(message)
        secrets = [_secret(key, f"key {number} of {self._setting}") for number, key in enumerate(parts, 1)]
        ciphers = {_name(secret): self._cipher(secret) for secret in reversed(secrets)}
        return _Ring(_kept(keys), ciphers, _name(secrets[0]))


def _kept(keys: Any) -> str | tuple[object, ...]:
    """Return ``keys`` as they are now: a list may be changed later."""
    return keys if isinstance(keys, str) else tuple(keys)


def _name(secret: bytes) -> bytes:
    """Return how sealed bytes begin that are written with a key."""
    return _VERSION + sha256(b"cachekit " + secret).digest()[:_NAME]


def _secret(key: object, which: str) -> bytes:
    """Return the 32 bytes of a key. No message shows a key."""
    if isinstance(key, str):
        try:
            secret = base64.b64decode(key.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            message = f"{which} is no base64: {_ADVICE}"
            raise ConfigurationError(message) from None
    elif isinstance(key, bytes):
        secret = key
    else:
        message = f"{which} is a {type(key).__name__}, and has to be text or bytes: {_ADVICE}"
        raise ConfigurationError(message)
    if len(secret) != _BYTES:
        message = f"{which} has {len(secret)} bytes, and has to have {_BYTES}: {_ADVICE}"
        raise ConfigurationError(message)
    return secret


def _cipher(setting: str) -> tuple[type[AESGCM], type[Exception]]:
    """Return the cipher, and what it raises for bytes that it does not open."""
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as below
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        message = f'{setting} needs the package cryptography; write pip install "cachekit-redis[encryption]"'
        raise ConfigurationError(message) from None
    return AESGCM, InvalidTag


def place(kind: str, stored: str, name: str, metadata: bytes = b"") -> bytes:
    """Return the associated data of bytes of a ``kind`` that stand at the key ``stored`` in the store, under ``name``.

    ``metadata`` is readable and stands beside them.

    Example:
        >>> place("window", "app:snapshots:42", "snapshots:42")
        b'6:window16:app:snapshots:4212:snapshots:420:'
    """
    parts = [*[part.encode(errors="surrogatepass") for part in (kind, stored, name)], metadata]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)
