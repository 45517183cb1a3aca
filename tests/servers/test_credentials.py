"""Passwords that change while the process runs: no call fails, no value is lost, and none of them is shown."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from cachekit import Cache, ConfigurationError, configure
from cachekit.events import Event, StoreFailed
from cachekit.stores import Credentials, MemoryStore, lane, open_store
from tests.kit.binaries import SERVERS, ServerBinary, label, server_or_failure
from tests.kit.cluster import RedisCluster
from tests.kit.scripted import ScriptedServer
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE, until

T = PATIENCE
RIGHTS = ("~*", "&*", "+@all")


class Tokens:
    """A user of a server, whose password changes, and those who ask for it."""

    def __init__(self, *servers: RedisServer, name: str = "app") -> None:
        self._servers = servers
        self.name = name
        self.number = 0
        self.asked = 0
        self.change()

    @property
    def now(self) -> tuple[str, str]:
        return self.name, f"zebra-{self.number}"

    def change(self, *, kill: bool = False) -> None:
        """Let the server know the next password, and those who ask; then let it forget the one before."""
        self._each("ACL", "SETUSER", self.name, "on", f">zebra-{self.number + 1}", *RIGHTS)
        self.number += 1
        if self.number > 1:
            self._each("ACL", "SETUSER", self.name, f"<zebra-{self.number - 1}")
        if kill:
            self._each("CLIENT", "KILL", "USER", self.name)

    def _each(self, *command: str) -> None:
        for server in self._servers:
            server.cli(*command)

    def rename(self, name: str) -> None:
        """Let the server forget the user, and know another one."""
        gone = self.name
        self._each("ACL", "SETUSER", name, "on", f">zebra-{self.number}", *RIGHTS)
        self.name = name
        self._each("ACL", "DELUSER", gone)

    def plain(self) -> tuple[str, str]:
        self.asked += 1
        return self.now

    def password(self) -> str:
        return self.plain()[1]

    async def slow(self) -> tuple[str, str]:
        await asyncio.sleep(0.001)
        return self.plain()

    def returning_an_awaitable(self) -> Awaitable[tuple[str, str]]:
        return self.slow()

    def provider(self) -> CredentialProvider:
        """Return one of redis-py that has no method of its own for asyncio."""
        return OfTokens(self)

    def provider_for_asyncio(self) -> CredentialProvider:
        return OfTokensForAsyncio(self)


class OfTokens(CredentialProvider):
    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def get_credentials(self) -> tuple[str, str]:
        return self.tokens.plain()


class OfTokensForAsyncio(OfTokens):
    async def get_credentials_async(self) -> tuple[str, str]:
        return await self.tokens.slow()

    def get_credentials(self) -> tuple[str, str]:
        raise NotImplementedError


FORMS: dict[str, Callable[[Tokens], Credentials]] = {
    "a function": lambda tokens: tokens.plain,
    "a function for asyncio": lambda tokens: tokens.slow,
    "a function that returns an awaitable": lambda tokens: tokens.returning_an_awaitable,
    "a provider of redis-py": Tokens.provider,
    "a provider of redis-py for asyncio": Tokens.provider_for_asyncio,
}


@pytest.fixture(autouse=True)
def nothing_is_shown(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No password is in any record, not even in those of asyncio's debug mode, and redis-py has nothing to say."""
    caplog.set_level(logging.DEBUG)
    yield
    # Those of the test: by now the text of `caplog` is that of what follows it.
    records = caplog.get_records("call")
    formatter = logging.Formatter()
    assert not [text for text in map(formatter.format, records) if "zebra" in text]
    assert not [record for record in records if record.name.startswith("redis")]


def causes(events: list[Event]) -> set[str]:
    return {event.cause for event in events if isinstance(event, StoreFailed)}


@pytest.fixture(params=SERVERS, ids=label)
def server(request: pytest.FixtureRequest, start_server: Callable[..., RedisServer]) -> RedisServer:
    binary: ServerBinary | None = request.param
    return start_server(binary=server_or_failure(binary))


async def call_while(cache: Cache, change: Callable[[], Awaitable[object]]) -> int:
    """Let ten callers call a function that is cached while ``change`` goes on. Return how often it ran."""
    runs, over, events = 0, asyncio.Event(), list[Event]()

    @cache.cached(key="value:<x>", ttl=600)
    async def value(x: int) -> list[int]:
        nonlocal runs
        runs += 1
        return [x, x * x]

    async def caller(x: int) -> None:
        while not over.is_set():
            assert await value(x) == [x, x * x]
            await asyncio.sleep(0)

    await asyncio.gather(*map(value, range(10)))
    runs = 0
    cache.observe(events.append)
    callers = [asyncio.create_task(caller(x)) for x in range(10)]
    await change()
    over.set()
    await asyncio.gather(*callers)
    assert causes(events) == set()
    assert cache.healthy
    return runs


@pytest.mark.parametrize("form", FORMS)
async def test_no_call_fails_and_no_value_is_lost_while_the_password_changes_under_load(
    server: RedisServer, form: str
) -> None:
    tokens = Tokens(server)

    async with Cache(server.url, timeout=T, credentials=FORMS[form](tokens)) as cache:

        async def change() -> None:
            for turn in range(6):
                await asyncio.to_thread(tokens.change, kill=turn % 3 > 0)
                # A read that is lost with two connections in a row would be a miss.
                await cache.get("key")

        assert await call_while(cache, change) == 0
    assert tokens.asked >= 4, "each connection asked"


async def test_the_user_of_the_url_stands_where_only_a_password_is_given(server: RedisServer) -> None:
    tokens = Tokens(server)
    url = server.url.replace("://", "://app@")
    for credentials in (tokens.password, UsernamePasswordCredentialProvider(password=tokens.now[1])):
        async with Cache(url, timeout=T, credentials=credentials) as cache:
            assert await cache.set("key", 1, ttl=60)
            assert b"user=app" in server.cli("CLIENT", "LIST")


async def test_a_user_that_is_gone_is_replaced_by_the_one_that_is_named_then(server: RedisServer) -> None:
    tokens = Tokens(server)
    async with Cache(server.url, timeout=T, credentials=tokens.slow, near=100) as cache:
        assert await call_while(cache, lambda: asyncio.to_thread(tokens.rename, "other")) == 0
        assert await cache.set("key", 1, ttl=60)


@pytest.mark.parametrize("reply", [b"-NOAUTH Authentication required.\r\n", b"-WRONGPASS invalid\r\n"])
async def test_what_a_connection_refuses_for_its_login_is_sent_on_another_one(
    redis_server: RedisServer, reply: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(redis_server.port) as scripted:

        def token() -> tuple[str, str]:
            # The server knows this user again.
            scripted.answer = None
            return "default", "zebra"

        async with Cache(scripted.url, timeout=T, credentials=token) as cache:
            events: list[Event] = []
            cache.observe(events.append)
            await cache.set("key", 1, ttl=60)
            for step in (
                lambda: cache.get("key"),
                lambda: asyncio.gather(*[cache.get("key") for _ in range(5)]),
                lambda: cache.get_many([f"key {n}" for n in range(9)]),
                lambda: cache.set("key", 1, ttl=60),
                lambda: cache.delete("key"),
                lambda: cache.take("key"),
            ):
                scripted.answer = reply
                await step()
                assert scripted.answer is None
            assert await cache.set("key", 2, ttl=60)
            assert causes(events) == set()
    assert "cachekit" not in {record.name for record in caplog.records}


async def test_what_every_connection_refuses_fails(redis_server: RedisServer) -> None:
    def ask() -> tuple[str, str]:
        return "default", "zebra"

    async with (
        ScriptedServer(redis_server.port, {b"AUTH": b"+OK\r\n"}) as scripted,
        Cache(scripted.url, timeout=T, credentials=ask) as cache,
    ):
        events: list[Event] = []
        cache.observe(events.append)
        scripted.answer = b"-NOAUTH Authentication required.\r\n"
        assert await cache.get("key") is None
        assert not await cache.set("key", 1, ttl=60)
        assert causes(events) == {"AUTH"}


async def test_without_credentials_a_refused_login_is_a_failure_as_before(redis_server: RedisServer) -> None:
    async with ScriptedServer(redis_server.port) as scripted, Cache(scripted.url, timeout=T) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        await cache.set("key", 1, ttl=60)
        scripted.answer = b"-NOAUTH Authentication required.\r\n"
        assert await cache.get("key") is None
        assert causes(events) == {"AUTH"}


async def test_credentials_that_stay_wrong_are_one_warning_and_are_used_when_they_are_right(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens(server)
    right = False

    async def either() -> tuple[str, str]:
        return tokens.now if right else ("app", "zebra of old")

    async with Cache(server.url, timeout=T, credentials=either) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        for _ in range(5):
            assert await cache.get("key") is None
        assert causes(events) == {"AUTH"}
        assert [record.levelname for record in caplog.records if record.name == "cachekit"] == ["WARNING"]
        right = True
        stored: list[bool] = []

        async def store() -> None:
            stored.append(await cache.set("key", 1, ttl=60))

        await until(lambda: stored[-1], store)


async def test_a_server_that_refuses_is_asked_with_fresh_credentials_once(server: RedisServer) -> None:
    tokens = Tokens(server)
    answers = iter([("app", "zebra of old"), tokens.now])
    async with Cache(server.url, timeout=T, credentials=lambda: next(answers)) as cache:
        assert await cache.set("key", 1, ttl=60)


async def test_a_token_that_takes_longer_than_a_connect_is_fetched_once_and_used(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CONNECT_PATIENCE", 0.02)
    tokens, there = Tokens(server), asyncio.Event()

    async def late() -> tuple[str, str]:
        given = tokens.plain()
        await there.wait()
        return given

    async with Cache(server.url, timeout=0.02, credentials=late) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        # Several connects are given up meanwhile: those of calls, and those of probes.
        await until(lambda: len(events) > 20, lambda: cache.get("key"))
        assert tokens.asked == 1
        there.set()
        stored: list[bool] = []

        async def store() -> None:
            stored.append(await cache.set("key", 1, ttl=60))

        await until(lambda: stored[-1], store)


async def test_a_function_that_blocks_holds_up_nothing_but_its_connect(server: RedisServer) -> None:
    tokens, there = Tokens(server), threading.Event()

    def blocking() -> tuple[str, str]:
        there.wait(PATIENCE)
        return tokens.now

    async with Cache(server.url, timeout=T, credentials=blocking) as cache:
        storing = asyncio.create_task(cache.set("key", 1, ttl=60))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not storing.done()
        there.set()
        assert await storing


async def test_a_question_that_is_under_way_ends_with_the_cache(server: RedisServer) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return "zebra"

    async with Cache(server.url, timeout=0.01, credentials=never) as cache:
        assert await cache.get("key") is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (LookupError("zebra"), "credentials= raised LookupError"),
        (None, "credentials= returned a NoneType that is neither"),
        ("", "credentials= returned a str that is neither"),
        (("app", "zebra", "zebra"), "credentials= returned a tuple that is neither"),
        (b"zebra", "credentials= returned a bytes that is neither"),
    ],
)
async def test_credentials_that_cannot_be_had_are_one_warning_without_their_text(
    server: RedisServer, answer: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with Cache(server.url, timeout=T, credentials=ask) as cache:
        for _ in range(3):
            assert await cache.get("key") is None
    [warning] = [record.getMessage() for record in caplog.records if record.name == "cachekit"]
    assert said in warning


async def test_every_node_of_a_cluster_is_asked_with_credentials(shared_cluster: RedisCluster) -> None:
    shared_cluster.reset()
    tokens = Tokens(*shared_cluster.masters, name="cluster-app")
    try:
        async with Cache(shared_cluster.url, timeout=T, credentials=tokens.slow) as cache:
            assert await call_while(cache, lambda: asyncio.to_thread(tokens.change, kill=True)) == 0
    finally:
        for node in shared_cluster.masters:
            node.cli("ACL", "DELUSER", "cluster-app")


@pytest.mark.parametrize(
    ("url", "credentials", "said"),
    [
        ("redis://localhost", "zebra", r"credentials= is a str, which cannot be asked; write credentials=fetch_token"),
        ("redis://localhost", OfTokens, r"credentials= is the class OfTokens"),
        ("redis://app:zebra@localhost", lambda: "zebra", r"a password in the URL, and credentials= give one"),
        ("memory://", lambda: "zebra", r"memory:// has no login"),
        (MemoryStore(), lambda: "zebra", r"give the credentials to cachekit.stores.open_store"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_with_the_text_to_write(
    url: Any, credentials: Any, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Cache(url, credentials=credentials)
    with pytest.raises(ConfigurationError, match=r"given a Cache and settings"):
        configure(Cache("memory://"), credentials=credentials)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://app@localhost/main/0", "redis+cluster://localhost", "unix:///run/r.sock"]
)
def test_each_kind_of_server_takes_credentials(url: str) -> None:
    assert "zebra" not in repr(Cache(open_store(url, credentials=lambda: "zebra")))
    assert configure(url, credentials=lambda: "zebra") is not None
