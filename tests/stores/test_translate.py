"""Foreign errors become ours at one edge: the rows of the table in `cachekit.stores.translate`."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from redis import exceptions as foreign

from cachekit._tiers.background import Background
from cachekit.errors import (
    CommandRefusedError,
    KeyRefusedError,
    StoreError,
    StoreGarbageError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from cachekit.stores import lane
from cachekit.stores.translate import FAULTS, Fate, ends_connection, translate

SECRET = "what the caller stored"


ROWS: list[tuple[Exception, type[StoreError], str]] = [
    (foreign.ConnectionError("Error 111 connecting"), StoreUnavailableError, "unavailable"),
    (ConnectionResetError(104, SECRET), StoreUnavailableError, "unavailable"),
    (OSError(24, SECRET), StoreUnavailableError, "unavailable"),
    (foreign.TimeoutError(SECRET), StoreTimeoutError, "timeout"),
    (TimeoutError(SECRET), StoreTimeoutError, "timeout"),
    (foreign.AuthenticationError(SECRET), StoreRefusedError, "AUTH"),
    (foreign.ResponseError(f"WRONGTYPE {SECRET}"), KeyRefusedError, "WRONGTYPE"),
    (foreign.ResponseError(f"Error: @user_script: 5: WRONGTYPE {SECRET}"), KeyRefusedError, "WRONGTYPE"),
    (foreign.NoPermissionError(SECRET), KeyRefusedError, "NOPERM"),
    (foreign.ResponseError(f"NOAUTH {SECRET}"), StoreRefusedError, "AUTH"),
    (foreign.ConnectionError("max number of clients reached"), StoreRefusedError, "MAXCLIENTS"),
    (foreign.OutOfMemoryError(SECRET), CommandRefusedError, "OOM"),
    (foreign.BusyLoadingError(SECRET), StoreRefusedError, "LOADING"),
    (foreign.ResponseError(f"BUSY {SECRET}"), StoreRefusedError, "BUSY"),
    (foreign.MasterDownError(SECRET), StoreRefusedError, "MASTERDOWN"),
    (foreign.ClusterDownError(SECRET), StoreRefusedError, "CLUSTERDOWN"),
    (foreign.MovedError("1234 127.0.0.1:7000"), StoreRefusedError, "MOVED"),
    (foreign.AskError("1234 127.0.0.1:7000"), StoreRefusedError, "ASK"),
    (foreign.ReadOnlyError(SECRET), CommandRefusedError, "READONLY"),
    (foreign.ResponseError(f"MISCONF {SECRET}"), CommandRefusedError, "MISCONF"),
    (foreign.ResponseError(f"NOREPLICAS {SECRET}"), CommandRefusedError, "NOREPLICAS"),
    (foreign.NoScriptError(SECRET), CommandRefusedError, "NOSCRIPT"),
    (foreign.ExecAbortError(SECRET), CommandRefusedError, "EXECABORT"),
    (foreign.ResponseError(f"unknown command, args beginning with: {SECRET}"), CommandRefusedError, "ERR"),
    (foreign.ResponseError(f"NEWCODE of a later server {SECRET}"), CommandRefusedError, "NEWCODE"),
    (foreign.ClusterCrossSlotError(SECRET), KeyRefusedError, "CROSSSLOT"),
    (foreign.TryAgainError(SECRET), KeyRefusedError, "TRYAGAIN"),
    (foreign.InvalidResponse(SECRET), StoreGarbageError, "garbage"),
    (UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET), KeyRefusedError, "UNICODE"),
    (RuntimeError(SECRET), StoreUnavailableError, "RuntimeError"),
    (AttributeError(SECRET), StoreUnavailableError, "unavailable"),
    (ValueError(SECRET), StoreUnavailableError, "ValueError"),
]


@pytest.mark.parametrize(("error", "kind", "cause"), ROWS, ids=repr)
def test_a_foreign_error_becomes_ours_and_shows_no_argument(
    error: Exception, kind: type[StoreError], cause: str
) -> None:
    ours = translate(error, "redis://localhost:6379/0")
    assert type(ours) is kind
    assert ours.cause == cause
    assert SECRET not in str(ours)


def test_every_row_of_the_table_is_tested_and_shown_in_the_docs() -> None:
    # These are no foreign errors: tests/stores/test_congestion.py and tests/servers/test_cluster.py have them.
    untranslated = {"congested", "queue full", "no cluster"}
    assert {fault.cause for fault in FAULTS} - {cause for _, _, cause in ROWS} == untranslated


def test_the_table_has_the_numbers_of_the_lane() -> None:
    assert f" {lane.PATIENCE:g} s" in Fate.WATCHED.value
    [full] = [fault.meaning for fault in FAULTS if fault.cause == "queue full"]
    assert full.startswith(f"{lane.QUEUE:,} operations, or {lane.QUEUE_BYTES // 2**20} MiB of them")


def test_a_connection_ends_or_lives_on_as_the_table_says() -> None:
    for fault in FAULTS:
        assert ends_connection(fault.error(fault.cause, "")) == (fault.connection is Fate.GIVEN_UP)
    assert not ends_connection(CommandRefusedError("NEWCODE", "an error reply that is not in the table"))


@pytest.mark.parametrize("error", [foreign.MovedError("1 127.0.0.1:7"), foreign.AskError("1 127.0.0.1:7")], ids=repr)
def test_the_url_to_write_is_named_only_where_a_cluster_was_taken_for_a_server(error: Exception) -> None:
    advice = "begins with redis+cluster://"
    assert advice in str(translate(error, "redis://localhost:6379/0"))
    assert advice not in str(translate(error, "redis+cluster://localhost:6379"))


def of_tls(kind: type[ssl.SSLError], **attributes: str) -> foreign.ConnectionError:
    """Return the error that redis-py raises in place of one of TLS."""
    error = kind(1, "[SSL] secret")
    for name, value in attributes.items():
        setattr(error, name, value)
    wrapped = foreign.ConnectionError("Error 1 connecting to h:1. secret")
    wrapped.__context__ = error
    return wrapped


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            of_tls(ssl.SSLCertVerificationError, verify_message="self-signed certificate"),
            "its certificate was refused: self-signed certificate)",
        ),
        (of_tls(ssl.SSLCertVerificationError), "its certificate was refused: no reason given)"),
        (
            of_tls(ssl.SSLError, reason="TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            "TLS failed: TLSV13_ALERT_CERTIFICATE_REQUIRED)",
        ),
        (of_tls(ssl.SSLError), "(ConnectionError, Error 1)"),
    ],
    ids=["verified", "no-message", "alert", "no-reason"],
)
def test_the_log_says_why_tls_failed(error: Exception, says: str) -> None:
    detail = str(translate(error, "h:1"))
    assert detail.endswith(says)
    assert "secret" not in detail


def test_an_error_of_ours_is_not_translated() -> None:
    ours = StoreTimeoutError("timeout", "late")
    assert translate(ours, "anywhere") is ours


def test_nothing_is_started_in_a_loop_that_is_closed() -> None:
    async def work() -> None: ...

    loop = asyncio.new_event_loop()
    loop.close()
    assert Background().start(loop, work) is None
