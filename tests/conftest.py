"""The fixtures that all tests share: servers, stores, and the check that no task outlives its test.

A test that asks for `redis_server` runs once for each redis-server of the machine; one that asks
for `store_url` runs on ``memory://`` as well. No server at all is a failure with a sentence, never
a skip.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from cachekit import functions
from tests.kit.cluster import RedisCluster
from tests.kit.servers import (
    SERVERS,
    RedisServer,
    ServerBinary,
    ServerPool,
    first_server,
    server_or_failure,
)

# In debug mode asyncio reports what took over 0.1 s: a noisy machine, here, and no record that a test counts.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))


def _label(binary: ServerBinary | str | None) -> str:
    if isinstance(binary, str):
        return binary
    return binary.label if binary else "no-redis-server"


def pytest_report_header() -> str:
    """Say which servers the tests run on."""
    found = ", ".join(f"{_label(server)} ({server.path})" for server in SERVERS if server)
    return f"redis-servers: {found or 'none'}"


@pytest.fixture(scope="session")
def server_pool() -> Iterator[ServerPool]:
    """The shared servers, by binary."""
    pool = ServerPool()
    yield pool
    pool.close()


@pytest.fixture(params=SERVERS, ids=_label)
def redis_server(request: pytest.FixtureRequest, server_pool: ServerPool) -> RedisServer:
    """A shared, empty server, not to be hurt or configured: once for each redis-server there is."""
    return server_pool.empty(server_or_failure(request.param))


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[RedisCluster]:
    """Three masters that the tests of the contract share."""
    with RedisCluster(first_server(), replicas=0) as cluster:
        yield cluster


@pytest.fixture(params=["memory", *SERVERS, "resp3", "cluster"], ids=_label)
def store_url(request: pytest.FixtureRequest, server_pool: ServerPool) -> str:
    """The URL of an empty store: ``memory://``, each redis-server there is, one by RESP3, and a cluster."""
    if request.param == "memory":
        return "memory://"
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("shared_cluster")
        cluster.reset()
        return cluster.url
    if request.param == "resp3":
        return f"{server_pool.empty(first_server()).url}?protocol=3"
    return server_pool.empty(server_or_failure(request.param)).url


@pytest.fixture
def start_server() -> Iterator[Callable[..., RedisServer]]:
    """A function that starts a server of the test's own: ``start_server("maxmemory 2mb")``.

    It takes lines of redis.conf, and ``password`` and ``binary`` by name; without ``binary`` it is
    the preferred one.
    """
    started: list[RedisServer] = []

    def start(*config: str, password: str | None = None, binary: ServerBinary | None = None) -> RedisServer:
        server = RedisServer(binary or first_server(), *config, password=password)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.close()


@pytest.fixture
def own_server(start_server: Callable[..., RedisServer]) -> RedisServer:
    """A fresh server that the test may kill, pause, restart and configure."""
    return start_server()


@pytest_asyncio.fixture
async def _tasks_of_the_loop() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # A task that was cancelled or told to end gets the turns of the loop that it needs for that.
    for _ in range(10):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"the test ended, and these tasks did not: {left}"


@pytest.fixture(autouse=True)
def no_task_is_left_over(request: pytest.FixtureRequest) -> None:
    """After an async test no task of its loop may be alive: each has an owner that ends it."""
    function = getattr(request, "function", None)
    # Sync tests get no loop; they may want to run their own.
    if function is not None and inspect.iscoroutinefunction(inspect.unwrap(function)):
        request.getfixturevalue("_tasks_of_the_loop")


@pytest.fixture(autouse=True)
def the_default_cache_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test configures is no other test's default."""
    monkeypatch.setattr(functions, "_configured", None)
