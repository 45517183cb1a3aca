"""Foreign errors become ours, in this one module at the edge, by one table: `FAULTS`.

A row says how the error is called in logs and events, which of our errors it becomes, and what happens to the
connection. The class of the error says the rest: its meaning for the breaker (`StoreError.opens_after`), and whether
it is about one key. Each cause begins an incident of its own in the log. `docs/faults.md` shows the table.

The detail of an error quotes no more of an error reply than its code. Servers repeat the arguments of a command that
they refuse, and an argument may be a value or the text of a snapshot.
"""

from __future__ import annotations

import re
import ssl
from enum import Enum
from typing import Final

from msgspec import Struct
from redis import exceptions as foreign

from cachekit.errors import (
    UNSENDABLE,
    CommandRefusedError,
    CongestedError,
    KeyRefusedError,
    QueueFullError,
    StoreError,
    StoreGarbageError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)


class Fate(Enum):
    """What happens to the connection on which a fault occurred."""

    STAYS_OPEN = "kept"
    WATCHED = "kept for 0.5 s more"
    GIVEN_UP = "given up"


class Fault(Struct, frozen=True):
    """One row: the name of a fault, the error it becomes, the fate of its connection, and its meaning."""

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
    Fault(
        "congested",
        CongestedError,
        Fate.STAYS_OPEN,
        "late because of this process: it waited behind others, bytes of a large reply are still coming, or no time "
        "was left to ask",
    ),
    Fault("queue full", QueueFullError, Fate.STAYS_OPEN, "131,072 operations, or 64 MiB of them, wait already"),
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
    # Given up, since the address (a name, a virtual address, Sentinel) may lead to the new master by now.
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
"""Every fault that has a name. An error reply with another code is treated like ``ERR``, under its own code. Any
other exception is treated like ``unavailable``, under the name of its type."""

_BY_CAUSE: Final = {fault.cause: fault for fault in FAULTS}

# If redis-py has a class for an error, it strips the code from the message.
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
LOGIN: Final = "AUTH"
"""The cause of a refused login."""

_LOGIN: Final = frozenset({"NOAUTH", "WRONGPASS", "DENIED"})
_CODE: Final = re.compile(r"-?([A-Z][A-Z0-9]+)\b")


def translate(error: BaseException, address: str) -> StoreError:
    """Return our error for ``error``, which occurred in a conversation with ``address``."""
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
    # asyncio raises AttributeError on Python 3.12 for a transport whose socket is gone, and redis-py raises it for
    # a client that was closed.
    if isinstance(error, (foreign.ConnectionError, OSError, AttributeError)):
        return StoreUnavailableError("unavailable", f"{address} cannot be reached ({_reason(error)})")
    kind_of_error = type(error).__name__
    return StoreUnavailableError(kind_of_error, f"the connection to {address} failed ({kind_of_error})")


def refuses_login(error: BaseException) -> bool:
    """Return whether a server says by ``error`` that it does not know this user, or not with this password."""
    return translate(error, "").cause == LOGIN


def ends_connection(error: StoreError) -> bool:
    """Return whether the connection on which ``error`` occurred must be given up at once."""
    fault = _BY_CAUSE.get(error.cause)
    return fault is not None and fault.connection is Fate.GIVEN_UP


def garbage_error(address: str) -> StoreGarbageError:
    """Return the error for a reply that is no answer to the command."""
    return StoreGarbageError("garbage", f"what {address} sent is no answer to what was asked")


def timeout_error(address: str) -> StoreTimeoutError:
    """Return the error for a reply that did not come in time."""
    return StoreTimeoutError("timeout", f"{address} did not answer in time")


def congested_error(address: str) -> CongestedError:
    """Return the error for an operation that is late though the server is not silent."""
    return CongestedError("congested", f"this process asks for more than it gets through in time; {address} answers")


def queue_full_error(address: str) -> QueueFullError:
    """Return the error for an operation that finds no room in the queue."""
    return QueueFullError("queue full", f"131,072 operations, or 64 MiB of them, wait for {address}")


def _code_of(error: BaseException) -> str:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    # redis-py has no class for this error; its MaxConnectionsError is about its own pool.
    if str(error) == "max number of clients reached":
        return "MAXCLIENTS"
    if not isinstance(error, foreign.ResponseError):
        return ""
    text = str(error)
    # Before Redis 7 an error inside a script is wrapped: "Error running script …: WRONGTYPE …".
    match = re.search(r"@user_script: ?\d+: -?([A-Z][A-Z0-9]+)\b", text) or _CODE.match(text)
    code = match[1] if match else "ERR"
    # A client that has not logged in may not send more than ten words at once. That error has no code of its own.
    return "AUTH" if code in _LOGIN or "unauthenticated" in text else code


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error of TLS that ``error`` comes from: redis-py raises an error of its own in its place."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: BaseException) -> str:
    """Return the type of ``error``, with the number that the system gives it, if there is one; or the reason of TLS."""
    tls = _tls_error(error)
    if isinstance(tls, ssl.SSLCertVerificationError):
        # It quotes the host name that was asked for, and nothing else. One that OpenSSL has not raised has no message.
        return f"its certificate was refused: {getattr(tls, 'verify_message', 'no reason given').rstrip('.')}"
    # A name of OpenSSL's, such as TLSV13_ALERT_CERTIFICATE_REQUIRED: the server wants a certificate of this client.
    if alert := getattr(tls, "reason", None):
        return f"TLS failed: {alert}"
    number = re.search(r"\b(?:Error|Errno) -?\d+\b", str(error))
    return f"{type(error).__name__}, {number[0]}" if number else type(error).__name__
