"""Foreign errors become ours at one edge: the rows of the table in `cachekit.stores.translate`."""

from __future__ import annotations

import asyncio

import pytest
from redis import exceptions as foreign

from cachekit._flow.background import Background
from cachekit.errors import (
    KeyRefusedError,
    StoreError,
    StoreGarbageError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from cachekit.stores.translate import translate

SECRET = "what the caller stored"


@pytest.mark.parametrize(
    ("error", "kind", "cause"),
    [
        (foreign.ConnectionError("Error 111 connecting"), StoreUnavailableError, "unavailable"),
        (ConnectionResetError(104, SECRET), StoreUnavailableError, "unavailable"),
        (OSError(24, SECRET), StoreUnavailableError, "unavailable"),
        (foreign.TimeoutError(SECRET), StoreTimeoutError, "timeout"),
        (TimeoutError(SECRET), StoreTimeoutError, "timeout"),
        (foreign.AuthenticationError(SECRET), StoreRefusedError, "AUTH"),
        (foreign.ResponseError(f"WRONGTYPE {SECRET}"), KeyRefusedError, "WRONGTYPE"),
        (foreign.ResponseError(f"Error: @user_script: 5: WRONGTYPE {SECRET}"), KeyRefusedError, "WRONGTYPE"),
        (foreign.NoPermissionError(SECRET), KeyRefusedError, "NOPERM"),
        (foreign.OutOfMemoryError(SECRET), StoreRefusedError, "OOM"),
        (foreign.BusyLoadingError(SECRET), StoreRefusedError, "LOADING"),
        (foreign.ReadOnlyError(SECRET), StoreRefusedError, "READONLY"),
        (foreign.ResponseError(f"MISCONF {SECRET}"), StoreRefusedError, "MISCONF"),
        (foreign.ResponseError(f"unknown command, args beginning with: {SECRET}"), StoreRefusedError, "ERR"),
        (foreign.InvalidResponse(SECRET), StoreGarbageError, "garbage"),
        (UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET), KeyRefusedError, "UNICODE"),
        (RuntimeError(SECRET), StoreUnavailableError, "RuntimeError"),
        (AttributeError(SECRET), StoreUnavailableError, "AttributeError"),
        (ValueError(SECRET), StoreUnavailableError, "ValueError"),
    ],
    ids=repr,
)
def test_a_foreign_error_becomes_ours_and_tells_nothing_of_the_arguments(
    error: Exception, kind: type[StoreError], cause: str
) -> None:
    ours = translate(error, "redis://localhost:6379/0")
    assert type(ours) is kind
    assert ours.cause == cause
    assert SECRET not in str(ours)


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours = StoreTimeoutError("timeout", "late")
    assert translate(ours, "anywhere") is ours


def test_nothing_is_started_in_a_loop_that_is_closed() -> None:
    async def work() -> None: ...

    loop = asyncio.new_event_loop()
    loop.close()
    assert Background().start(loop, work) is None
