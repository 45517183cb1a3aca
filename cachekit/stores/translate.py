"""Foreign errors become ours, in this one place at the edge.

=====================================================  =======================  ==================
what redis-py, hiredis, asyncio or the system raises   becomes                  cause
=====================================================  =======================  ==================
refused, reset, closed, unresolved, socket errors      StoreUnavailableError    ``unavailable``
time limits of sockets                                 StoreTimeoutError        ``timeout``
AUTH refused: NOAUTH, WRONGPASS, …                     StoreRefusedError        ``AUTH``
error replies about one key: WRONGTYPE, NOPERM, …      KeyRefusedError          the reply's code
any other error reply: OOM, LOADING, READONLY, …       StoreRefusedError        the reply's code
a lone surrogate in a key                              KeyRefusedError          ``UNICODE``
replies that are no RESP, or of a type not asked for   StoreGarbageError        ``garbage``
whatever else                                          StoreUnavailableError    the type's name
=====================================================  =======================  ==================

The detail never quotes an error reply beyond its code: servers repeat the arguments of a command they
refuse, and those may be a value or the text of a snapshot.
"""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions as foreign

from cachekit.errors import (
    UNSENDABLE,
    KeyRefusedError,
    StoreError,
    StoreGarbageError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)

# redis-py strips the code from the message of errors that it has a class for.
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (foreign.BusyLoadingError, "LOADING"),
    (foreign.ReadOnlyError, "READONLY"),
    (foreign.OutOfMemoryError, "OOM"),
    (foreign.NoPermissionError, "NOPERM"),
    (foreign.NoScriptError, "NOSCRIPT"),
    (foreign.ExecAbortError, "EXECABORT"),
    (foreign.ClusterDownError, "CLUSTERDOWN"),
    (foreign.ClusterCrossSlotError, "CROSSSLOT"),
    (foreign.MasterDownError, "MASTERDOWN"),
    (foreign.MovedError, "MOVED"),
    (foreign.AskError, "ASK"),
    (foreign.TryAgainError, "TRYAGAIN"),
    (foreign.MaxConnectionsError, "MAXCLIENTS"),
    (foreign.AuthenticationError, "AUTH"),
    (foreign.AuthorizationError, "AUTH"),
)
_KEY_CODES: Final = frozenset({"WRONGTYPE", "NOPERM", "CROSSSLOT"})
_CODE: Final = re.compile(r"-?([A-Z][A-Z0-9]+)\b")


def translate(error: BaseException, address: str) -> StoreError:
    """Return what ``error``, met while talking to ``address``, is in our terms."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, foreign.InvalidResponse):
        return garbage(address)
    code = _code_of(error)
    if code in _KEY_CODES:
        return KeyRefusedError(code, f"{address} refused the key: {code}")
    if code:
        return StoreRefusedError(code, f"{address} answered with an error: {code}")
    if isinstance(error, UnicodeEncodeError):
        return KeyRefusedError(UNSENDABLE, "a key with a lone surrogate cannot be sent")
    if isinstance(error, (foreign.TimeoutError, TimeoutError)):
        return StoreTimeoutError("timeout", f"{address} did not answer in time")
    if isinstance(error, (foreign.ConnectionError, OSError)):
        return StoreUnavailableError("unavailable", f"{address} cannot be reached ({_reason(error)})")
    kind = type(error).__name__
    return StoreUnavailableError(kind, f"the connection to {address} failed ({kind})")


def garbage(address: str) -> StoreGarbageError:
    """Return the error for a reply that is no answer to what was asked."""
    return StoreGarbageError("garbage", f"what {address} sent is no answer to what was asked")


def _code_of(error: BaseException) -> str:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if not isinstance(error, foreign.ResponseError):
        return ""
    text = str(error)
    # Before Redis 7 an error inside a script is wrapped: "Error running script …: WRONGTYPE …".
    match = re.search(r"@user_script: ?\d+: -?([A-Z][A-Z0-9]+)\b", text) or _CODE.match(text)
    return match[1] if match else "ERR"


def _reason(error: BaseException) -> str:
    """Return the system's word for a socket error, or the type's name."""
    found = re.search(r"\b(?:Error|Errno) -?\d+\b", str(error))
    return f"{type(error).__name__}, {found[0]}" if found else type(error).__name__
