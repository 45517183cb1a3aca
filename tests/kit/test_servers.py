"""The kit starts, hurts and ends real servers, and says why when one does not start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer, ServerError, ServerPool

# redis-py tries ten times by default.
AT_ONCE = Retry(NoBackoff(), 0)


def test_each_server_answers_on_tcp_and_on_its_socket(redis_server: RedisServer) -> None:
    assert redis_server.cli("SET", "k", b"\xff") is True
    for url in (redis_server.url, redis_server.unix_url):
        with redis.Redis.from_url(url) as client:
            assert client.get("k") == b"\xff"
            info = client.info("server")
            # A fork reports the version of Redis from which it began, beside its own.
            assert info.get("valkey_version", info["redis_version"]) == redis_server.binary.version


def test_a_shared_server_is_empty_in_every_test(redis_server: RedisServer) -> None:
    assert redis_server.cli("DBSIZE") == 0


def test_a_killed_server_refuses_and_restarts_empty_on_the_same_port(
    own_server: RedisServer,
) -> None:
    own_server.cli("SET", "k", "v")
    port = own_server.port
    own_server.kill()
    assert not own_server.running
    with pytest.raises(redis.ConnectionError):
        own_server.cli("PING")
    own_server.restart()
    assert own_server.port == port
    assert own_server.cli("GET", "k") is None


def test_a_stopped_server_ends_in_order_and_may_have_been_paused(own_server: RedisServer) -> None:
    own_server.pause()
    own_server.stop()
    assert not own_server.running
    assert "bye bye" in own_server.log_tail()
    with pytest.raises(ServerError, match="is not running"):
        own_server.pause()


def test_a_paused_server_accepts_and_does_not_answer_until_it_is_resumed(
    own_server: RedisServer,
) -> None:
    own_server.pause()
    with (
        redis.Redis(port=own_server.port, socket_timeout=0.1, retry=AT_ONCE) as client,
        pytest.raises(redis.TimeoutError),
    ):
        client.ping()
    own_server.resume()
    assert own_server.cli("PING") is True


@pytest.mark.server
def test_a_paused_server_can_be_killed_and_closed_twice() -> None:
    server = RedisServer(first_server()).start()
    server.pause()
    server.close()
    server.close()
    assert not server.running
    assert not server.socket_path.parent.exists()


def test_a_server_takes_a_password_an_acl_and_a_limit(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server("maxmemory 2mb", "user bob on >builder ~* +@all -set", password="secret")
    assert server.cli("CONFIG", "GET", "maxmemory") == {b"maxmemory": b"2097152"}
    with (
        redis.Redis.from_url(server.url) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.get("k")
    with (
        redis.Redis(port=server.port, username="bob", password="builder") as bob,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        bob.set("k", "v")


@pytest.mark.server
def test_a_server_that_cannot_start_says_why_with_the_tail_of_its_log() -> None:
    server = RedisServer(first_server(), "maxmemory nonsense")
    with pytest.raises(ServerError, match="maxmemory"):
        server.start()
    server.close()


def test_starting_twice_is_an_error(own_server: RedisServer) -> None:
    with pytest.raises(ServerError, match="running already"):
        own_server.start()


@pytest.mark.server
def test_a_shared_server_that_a_test_has_ended_is_named_as_such() -> None:
    pool = ServerPool()
    server = pool.empty(first_server())
    assert pool.empty(first_server()) is server
    server.kill()
    with pytest.raises(ServerError, match="own_server"):
        pool.empty(first_server())
    pool.close()


def test_the_store_url_is_memory_a_server_or_a_cluster(store_url: str) -> None:
    assert store_url == "memory://" or store_url.startswith(("redis://127.0.0.1:", "redis+cluster://127.0.0.1:"))


async def test_asyncio_runs_in_debug_mode() -> None:
    assert asyncio.get_running_loop().get_debug()
