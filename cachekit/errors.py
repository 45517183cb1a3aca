"""The errors of cachekit: one tree, drawn here.

::

    CachekitError
    ├── ConfigurationError      (also a ValueError)  a URL, option or ttl that makes no sense
    ├── DecorationError         (also a TypeError)   a function or template that cannot be decorated
    ├── RenderError             an argument has no stable text form for a key
    ├── RoundTripError          a value would not come back from JSON as it was
    ├── TooLargeError           a value has more JSON than may be stored
    ├── DecodeError             bytes in the store do not decode into the annotated type
    ├── SealError               no key opens bytes in the store, or there is no key to seal with
    └── StoreError              the store did not do as it was asked
        ├── StoreUnavailableError   nobody answered: refused, reset, unresolved, closed
        ├── StoreTimeoutError       no answer by the deadline
        ├── StoreGarbageError       the bytes that came back are no answer to the question
        ├── StoreRefusedError       the server refuses everything (LOADING, BUSY, NOAUTH, …)
        ├── CommandRefusedError     the server refuses one kind of command, such as writes (OOM, READONLY, …)
        ├── KeyRefusedError         the server refuses one key (WRONGTYPE, NOPERM, …)
        ├── QueueFullError          nothing was asked: too much waits in this process already
        ├── CongestedError          late because of this process, and not of the server
        └── UnconfirmedError        a fill is still under way, and its caller waits no longer

The first two are raised where you configure or decorate, and by methods whose argument makes no sense. `RenderError` is
raised by ``.key()`` and ``.keys()`` alone, and `RoundTripError` by the calls of a function that is cached with
``strict=True`` alone.
All others stay inside the toolkit: above the guard a failure is a value, not an exception.

No message of this tree ever holds a cached value, the text of a snapshot or a password.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

UNSENDABLE: Final = "UNICODE"
"""The cause of a key that no store can be asked for: text with a lone surrogate has no UTF-8."""

DENIED: Final = "NOPERM"
"""The cause of a key or command that an ACL keeps from this user: the same connection gets the same answer."""

FAILURES: Final = 3
"""So many failures in a row open the circuit breaker, when each was seen at once."""


class CachekitError(Exception):
    """The root of everything cachekit raises on its own account.

    Example:
        >>> try:
        ...     cached(ttl=600)(print)
        ... except CachekitError as error:
        ...     print(type(error).__name__)
        DecorationError
    """


class ConfigurationError(CachekitError, ValueError):
    """A setting makes no sense; the message names it, quotes it and lists the valid forms.

    Example:
        >>> Cache("memory://", timeout=0)
        Traceback (most recent call last):
        cachekit.errors.ConfigurationError: timeout=0 is out of range: it must be from 1 ms to 100 years; ...
    """


class DecorationError(CachekitError, TypeError):
    """A function or key template cannot be decorated; the message says what to write instead.

    Example:
        >>> @cached(key="profile:<user>", ttl=600)
        ... async def profile(user_id: str) -> int: ...
        Traceback (most recent call last):
        cachekit.errors.DecorationError: placeholder <user> in key template 'profile:<user>' names no parameter; ...
    """


class RenderError(CachekitError):
    """An argument has no stable text form, so the call has no key.

    Example:
        >>> @cached(key="f:<x>", ttl=600)
        ... async def f(x: object) -> int: ...
        >>> f.key(object())
        Traceback (most recent call last):
        cachekit.errors.RenderError: its key has x (builtins.object), which has no stable text form; ...
    """


class RoundTripError(CachekitError):
    """A value would not come back equal and of the same type, so it is not stored; an error with ``strict=True``."""


class TooLargeError(CachekitError):
    """A value has more bytes of JSON than ``max_bytes`` allows, so it is not stored."""

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(f"a value has {size:,} bytes of JSON, more than max_bytes={max_bytes:_}")


class DecodeError(CachekitError):
    """Bytes found in the store do not decode into the annotated type: a miss."""


class SealError(CachekitError):
    """No key opens bytes found in the store: a miss. Or there is no key to seal with: nothing is stored."""


class StoreError(CachekitError):
    """The store did not do as it was asked.

    ``cause`` is a short word that stays the same for failures of one kind (``"unavailable"``, ``"timeout"``,
    ``"OOM"``): logs and events group by it.
    """

    opens_after: ClassVar[int | None] = FAILURES
    """How many failures in a row open the circuit breaker when this is the last one. None: this one never opens it."""
    answered: ClassVar[bool] = False
    """Whether it is an answer, given at once, by a server that goes on serving other questions."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


class StoreUnavailableError(StoreError):
    """No server answered: refused, reset, half-open, unresolved, closed."""


class StoreTimeoutError(StoreError):
    """No answer by the deadline."""

    # Each timeout has cost a caller the whole deadline. No second caller is to pay it.
    opens_after: ClassVar[int | None] = 1


class StoreGarbageError(StoreError):
    """The bytes that came back are no answer to the question; the connection is not trusted any further."""


class StoreRefusedError(StoreError):
    """The server answered that it serves no client now, or does not serve this client, such as LOADING or NOAUTH."""


class CommandRefusedError(StoreError):
    """The server refuses one kind of command and serves others: with OOM or READONLY it refuses writes."""

    opens_after: ClassVar[int | None] = None
    answered: ClassVar[bool] = True


class KeyRefusedError(StoreError):
    """The server answered with an error about one key, such as WRONGTYPE."""

    opens_after: ClassVar[int | None] = None
    answered: ClassVar[bool] = True


class QueueFullError(StoreError):
    """So much waits in this process that its memory would not be bounded with one operation more; it was not sent."""

    opens_after: ClassVar[int | None] = None


class CongestedError(StoreError):
    """An operation is late, and the server is not to blame.

    It waited in this process, behind others or behind a large reply, or its own reply is still arriving.
    """

    opens_after: ClassVar[int | None] = None


class UnconfirmedError(StoreError):
    """A fill is still under way when its caller has no time left for it. It is no failure.

    Args:
        cause: A short word.
        detail: The message.
        result: Waits for the reply.
    """

    opens_after: ClassVar[int | None] = None

    def __init__(self, cause: str, detail: str, result: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(cause, detail)
        self.result = result
