"""Foreign errors become ours, in this one place at the edge, by one table: `FAULTS`.

A row says what the error is called in logs and events, which of our errors it becomes, and what becomes of the
connection. The error's class says the rest: what it means for the breaker (`StoreError.opens_after`) and whether
it is about one key. Each begins a trouble of its own in the log, by its cause. `docs/faults.md` shows the table.

The detail never quotes an error reply beyond its code: servers repeat the arguments of a command they
refuse, and those may be a value or the text of a snapshot.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from msgspec import Struct
from redis import exceptions as foreign

from cachekit.errors import (
    UNSENDABLE,
    CommandRefusedError,
    KeyRefusedError,
    QueueFullError,
    StoreError,
    StoreGarbageError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)


class Fate(Enum):
    """What becomes of the connection on which a fault was met."""

    STAYS_OPEN = "kept"
    WATCHED = "kept for 0.5 s more"
    GIVEN_UP = "given up"


class Fault(Struct, frozen=True):
    """One row: what a fault is called, what it becomes, and what becomes of its connection."""

    cause: str
    error: type[StoreError]
    connection: Fate
    meaning: str


def _replies(error: type[StoreError], connection: Fate, **codes: str) -> tuple[Fault, ...]:
    return tuple(Fault(code, error, connection, meaning) for code, meaning in codes.items())


FAULTS: Final = (
    Fault(
        "unavailable",
        StoreUnavailableError,
        Fate.GIVEN_UP,
        "refused, reset, closed or half-open connections, no address, no file descriptor: any OSError",
    ),
    Fault("timeout", StoreTimeoutError, Fate.WATCHED, "no answer by the deadline: hung, black-holed, too slow"),
    Fault("garbage", StoreGarbageError, Fate.GIVEN_UP, "truncated, foreign and stray replies"),
    Fault("queue full", QueueFullError, Fate.STAYS_OPEN, "10,000 operations wait already"),
    Fault(UNSENDABLE, KeyRefusedError, Fate.STAYS_OPEN, "a lone surrogate in a key"),
    *_replies(
        StoreRefusedError,
        Fate.STAYS_OPEN,
        LOADING="it reads its data from disk",
        BUSY="a script has run for too long",
        MASTERDOWN="a replica without its master, told not to serve stale data",
        CLUSTERDOWN="a slot has no master",
        MOVED="the slot is elsewhere, and still is after several redirections; or the URL is not redis+cluster://",
        ASK="as MOVED",
    ),
    Fault(
        "no cluster",
        StoreRefusedError,
        Fate.STAYS_OPEN,
        "a redis+cluster:// URL leads to a server that is in no cluster",
    ),
    *_replies(
        StoreRefusedError,
        Fate.GIVEN_UP,
        AUTH="no password, a wrong one, or a user who is off: NOAUTH, WRONGPASS and their kin",
        MAXCLIENTS="it has as many clients as it takes",
    ),
    *_replies(
        CommandRefusedError,
        Fate.STAYS_OPEN,
        OOM="out of memory: no writes",
        MISCONF="it cannot save to disk: no writes",
        NOREPLICAS="too few replicas: no writes",
        NOSCRIPT="a script was forgotten while it was sent",
        EXECABORT="a transaction was refused, and nothing says why",
        ERR="an error reply without a code that is known here: an unknown command, for one",
    ),
    # The address may lead to the new master by now: a name, a virtual address, Sentinel.
    *_replies(CommandRefusedError, Fate.GIVEN_UP, READONLY="a master that has become a replica: no writes"),
    *_replies(
        KeyRefusedError,
        Fate.STAYS_OPEN,
        WRONGTYPE="the key holds something of another kind",
        NOPERM="the ACL keeps this user from the key or the command",
        CROSSSLOT="keys of several slots in one command",
        TRYAGAIN="the key's slot moves to another node just now",
    ),
)
"""Every fault that has a name here. An error reply with another code is treated as ``ERR`` is, under its own
code; any other exception as ``unavailable`` is, under the name of its type."""

_BY_CAUSE: Final = {fault.cause: fault for fault in FAULTS}

# redis-py strips the code from the message of errors that it has a class for.
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (foreign.BusyLoadingError, "LOADING"),
    (foreign.ReadOnlyError, "READONLY"),
    (foreign.OutOfMemoryError, "OOM"),
    (foreign.NoPermissionError, "NOPERM"),
    (foreign.NoScriptError, "NOSCRIPT"),
    (foreign.ExecAbortError, "EXECABORT"),
    # Before the class that it is derived from.
    (foreign.MasterDownError, "MASTERDOWN"),
    (foreign.ClusterDownError, "CLUSTERDOWN"),
    (foreign.ClusterCrossSlotError, "CROSSSLOT"),
    (foreign.MovedError, "MOVED"),
    (foreign.AskError, "ASK"),
    (foreign.TryAgainError, "TRYAGAIN"),
    (foreign.AuthenticationError, "AUTH"),
    (foreign.AuthorizationError, "AUTH"),
)
_LOGIN: Final = frozenset({"NOAUTH", "WRONGPASS", "DENIED"})
_CODE: Final = re.compile(r"-?([A-Z][A-Z0-9]+)\b")


def translate(error: BaseException, address: str) -> StoreError:
    """Return what ``error``, met while talking to ``address``, is in our terms."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, foreign.InvalidResponse):
        return garbage_error(address)
    code = _code_of(error)
    if code:
        kind = _BY_CAUSE.get(code, _BY_CAUSE["ERR"]).error
        refused = "refused a key" if kind is KeyRefusedError else "answered with an error"
        single = code in {"MOVED", "ASK"} and "+cluster:" not in address
        advice = "; the URL of a cluster begins with redis+cluster://" if single else ""
        return kind(code, f"{address} {refused}: {code}{advice}")
    if isinstance(error, UnicodeEncodeError):
        return KeyRefusedError(UNSENDABLE, "a key with a lone surrogate cannot be sent")
    if isinstance(error, (foreign.TimeoutError, TimeoutError)):
        return timeout_error(address)
    # An AttributeError is what asyncio raises on Python 3.12 for a transport whose socket is gone, and redis-py
    # for a client that was closed.
    if isinstance(error, (foreign.ConnectionError, OSError, AttributeError)):
        return StoreUnavailableError("unavailable", f"{address} cannot be reached ({_reason(error)})")
    kind_of_error = type(error).__name__
    return StoreUnavailableError(kind_of_error, f"the connection to {address} failed ({kind_of_error})")


def ends_connection(error: StoreError) -> bool:
    """Tell whether the connection on which ``error`` was met is to be given up at once."""
    fault = _BY_CAUSE.get(error.cause)
    return fault is not None and fault.connection is Fate.GIVEN_UP


def garbage_error(address: str) -> StoreGarbageError:
    """Return the error for a reply that is no answer to what was asked."""
    return StoreGarbageError("garbage", f"what {address} sent is no answer to what was asked")


def timeout_error(address: str) -> StoreTimeoutError:
    """Return the error for a reply that did not come in time."""
    return StoreTimeoutError("timeout", f"{address} did not answer in time")


def _code_of(error: BaseException) -> str:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    # redis-py has no class for it; its MaxConnectionsError is about a pool of its own.
    if str(error) == "max number of clients reached":
        return "MAXCLIENTS"
    if not isinstance(error, foreign.ResponseError):
        return ""
    text = str(error)
    # Before Redis 7 an error inside a script is wrapped: "Error running script …: WRONGTYPE …".
    match = re.search(r"@user_script: ?\d+: -?([A-Z][A-Z0-9]+)\b", text) or _CODE.match(text)
    code = match[1] if match else "ERR"
    # Who has not logged in may not send more than ten words at once, and is told so in a way of its own.
    return "AUTH" if code in _LOGIN or "unauthenticated" in text else code


def _reason(error: BaseException) -> str:
    """Return the system's word for a socket error, or the type's name."""
    found = re.search(r"\b(?:Error|Errno) -?\d+\b", str(error))
    return f"{type(error).__name__}, {found[0]}" if found else type(error).__name__
