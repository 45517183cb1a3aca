"""Credentials that change: a callable of the user's that is asked for user and password at every connect.

Passwords of managed servers are tokens that last for minutes or hours. So nothing is kept: each connection asks, and
asks once more when the server refuses what it was told, since that may have changed between the two.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from cachekit.errors import ConfigurationError, StoreUnavailableError
from cachekit.loops import detached
from cachekit.urls import Login

Given: TypeAlias = str | tuple[str] | tuple[str, str]
"""A password, a tuple of a password, or one of a user and a password."""


@runtime_checkable
class HasCredentials(Protocol):
    """A ``CredentialProvider`` of redis-py, or its like. It is asked by ``get_credentials_async`` if it has that."""

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return a password, or a user and a password."""
        ...


Credentials: TypeAlias = Callable[[], Given | Awaitable[Given]] | HasCredentials
"""Is asked for user and password at every connect."""

_FORMS = "credentials=fetch_token, where fetch_token() returns a password or (user, password), or an `async def` of it"


def check_credentials(credentials: object) -> Credentials:
    """Return ``credentials`` if they can be asked.

    Raises:
        ConfigurationError: They cannot; the message does not show them.
    """
    if isinstance(credentials, type) or not (callable(credentials) or isinstance(credentials, HasCredentials)):
        kind = f"the class {credentials.__name__}" if isinstance(credentials, type) else f"a {_kind(credentials)}"
        message = f"credentials= is {kind}, which cannot be asked; write {_FORMS}"
        raise ConfigurationError(message)
    return cast("Credentials", credentials)


class Logins:
    """User and password for the connections of one event loop.

    Args:
        login: From the URL. Its user stands where the credentials name none.
        credentials: Are asked, if there are any. A plain function is asked on a thread of its own, since it may block.
    """

    def __init__(self, login: Login, credentials: Credentials | None = None) -> None:
        self._login = login
        self._ask = None if credentials is None else _question(credentials)
        self.change: bool = self._ask is not None
        """Whether another connection may have other ones."""
        self._asking: asyncio.Task[Login] | None = None

    async def now(self) -> Login:
        """Return user and password.

        A connect that is given up leaves its question, and the next one takes the answer: so it comes to a connection,
        however long a token takes to be fetched. Connects at the same time share a question.

        Raises:
            StoreUnavailableError: The credentials could not be had.
        """
        if self._ask is None:
            return self._login
        if self._asking is None:
            loop = asyncio.get_running_loop()
            self._asking = detached(loop.create_task, self._answer(self._ask), name="cachekit credentials")
            detached(self._asking.add_done_callback, self._ended)
        asking = self._asking
        login = await asyncio.shield(asking)
        if self._asking is asking:
            self._asking = None
        return login

    def _ended(self, asking: asyncio.Task[Login]) -> None:
        """Keep an answer for the next connect, and no failure."""
        if (asking.cancelled() or asking.exception() is not None) and self._asking is asking:
            self._asking = None

    async def _answer(self, ask: Callable[[], Awaitable[object]]) -> Login:
        try:
            given = await ask()
            return given if isinstance(given, Login) else _login_of(given, self._login)
        # Whatever the user's code raises. Its text may hold a secret.
        except Exception as error:
            kind = type(error).__name__
            why = str(error) if isinstance(error, _NoCredentialsError) else f"credentials= raised {kind}"
            message = f"there is no login: {why}"
        raise StoreUnavailableError(cause="unavailable", detail=message)

    def close(self) -> list[asyncio.Task[Any]]:
        """Ask no more. Return the tasks that end."""
        if self._asking is None:
            return []
        self._asking.cancel()
        return [self._asking]


class _NoCredentialsError(Exception):
    """The callable returned something else than credentials."""


def _kind(value: object) -> str:
    return type(value).__name__


def _question(credentials: Credentials) -> Callable[[], Awaitable[object]]:
    """Return the function that asks ``credentials``, in the event loop if they are asynchronous, else on a thread."""
    ask: Any = credentials
    if isinstance(credentials, HasCredentials):
        ask = _own(credentials, "get_credentials_async") or credentials.get_credentials
    return ask if inspect.iscoroutinefunction(ask) else functools.partial(_ask_on_thread, ask)


def _own(credentials: HasCredentials, name: str) -> object:
    """Return the method ``name``, unless it is the one of redis-py, which only calls ``get_credentials`` and warns."""
    method: Any = getattr(credentials, name, None)
    return None if getattr(method, "__module__", "").startswith("redis.credentials") else method


async def _ask_on_thread(ask: Callable[[], object]) -> object:
    """Call ``ask`` on a thread of our own, as `cachekit.stores.names` does; if it returns an awaitable, await that."""
    future: Future[Callable[[], object]] = Future()
    # A caller that is cancelled leaves it.
    future.set_running_or_notify_cancel()
    threading.Thread(target=_call, args=(ask, future), name="cachekit credentials", daemon=True).start()
    given = (await asyncio.wrap_future(future))()
    return await given if inspect.isawaitable(given) else given


def _call(ask: Callable[[], object], future: Future[Callable[[], object]]) -> None:
    try:
        given = ask()
    # As in `Logins`.
    except Exception as error:
        future.set_exception(error)
    else:
        # Inside a function: in debug mode asyncio logs the results of futures.
        future.set_result(lambda: given)


def _login_of(given: object, login: Login) -> Login:
    match given:
        case str(password) | (str(password),) if password:
            return Login(username=login.username, password=password)
        case (str(user), str(password)) if password:
            return Login(username=user or login.username, password=password)
        case _:
            message = f"credentials= returned a {_kind(given)} that is neither a password nor (user, password)"
            raise _NoCredentialsError(message)
