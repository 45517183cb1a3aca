"""The kit finds, starts, hurts and ends real servers, and says so when there is none."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.kit import servers
from tests.kit.servers import (
    NO_SERVER,
    RedisServer,
    ServerBinary,
    ServerError,
    ServerPool,
    available_servers,
    first_server,
    free_port,
    server_or_failure,
)

# redis-py tries ten times unless it is told not to.
AT_ONCE = Retry(NoBackoff(), 0)


@pytest.fixture
def fresh_search(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let a test search for servers anew, with no choice made in the environment."""
    monkeypatch.setattr(servers, "available_servers", available_servers.__wrapped__)
    monkeypatch.delenv("CACHEKIT_REDIS_SERVER", raising=False)
    return monkeypatch


def test_without_any_server_a_test_fails_with_the_sentence_that_says_what_to_install(
    fresh_search: pytest.MonkeyPatch,
) -> None:
    fresh_search.setenv("PATH", "")
    fresh_search.setattr(importlib.util, "find_spec", lambda _name: None)
    assert servers.available_servers() == []
    with pytest.raises(pytest.fail.Exception) as failure:
        first_server()
    assert str(failure.value) == NO_SERVER
    with pytest.raises(pytest.fail.Exception, match="CACHEKIT_REDIS_SERVER"):
        server_or_failure(None)


def test_a_chosen_server_comes_first_and_a_wrong_choice_is_an_error(
    fresh_search: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = first_server()
    link = tmp_path / "my-server"
    link.symlink_to(known.path)
    fresh_search.setenv("CACHEKIT_REDIS_SERVER", str(link))
    found = servers.available_servers()
    assert found[0].path == link
    assert found[0].version == known.version
    assert len({server.version for server in found}) == len(found)
    fresh_search.setenv("CACHEKIT_REDIS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(ServerError, match="is no redis-server"):
        servers.available_servers()


def test_an_executable_that_is_no_server_is_passed_over(fresh_search: pytest.MonkeyPatch, tmp_path: Path) -> None:
    impostor = tmp_path / "redis-server"
    impostor.write_text("#!/bin/sh\necho no server here\n", encoding="ascii")
    impostor.chmod(0o755)
    fresh_search.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert impostor not in {server.path for server in servers.available_servers()}


def test_labels_name_product_and_series() -> None:
    assert ServerBinary(Path("/x"), "6.2.14").label == "redis-6.2"
    assert ServerBinary(Path("/x"), "8.0.1", "valkey").label == "valkey-8.0"


def test_each_server_answers_on_tcp_and_on_its_socket(redis_server: RedisServer) -> None:
    assert redis_server.cli("SET", "k", b"\xff") is True
    for url in (redis_server.url, redis_server.unix_url):
        with redis.Redis.from_url(url) as client:
            assert client.get("k") == b"\xff"
            assert client.info("server")["redis_version"] == redis_server.binary.version


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


def test_a_server_that_cannot_start_says_why_with_the_tail_of_its_log() -> None:
    server = RedisServer(first_server(), "maxmemory nonsense")
    began = time.monotonic()
    with pytest.raises(ServerError, match="maxmemory"):
        server.start()
    assert time.monotonic() - began < 5
    server.close()


def test_starting_twice_is_an_error(own_server: RedisServer) -> None:
    with pytest.raises(ServerError, match="running already"):
        own_server.start()


def test_a_shared_server_that_a_test_has_ended_is_named_as_such() -> None:
    pool = ServerPool()
    server = pool.empty(first_server())
    assert pool.empty(first_server()) is server
    server.kill()
    with pytest.raises(ServerError, match="own_server"):
        pool.empty(first_server())
    pool.close()


def test_ports_are_free_and_differ() -> None:
    assert len({free_port() for _ in range(5)}) > 1


def test_the_store_url_is_memory_a_server_or_a_cluster(store_url: str) -> None:
    assert store_url == "memory://" or store_url.startswith(("redis://127.0.0.1:", "redis+cluster://127.0.0.1:"))


async def test_asyncio_runs_in_debug_mode() -> None:
    assert asyncio.get_running_loop().get_debug()


def test_a_server_that_goes_by_the_name_it_is_called_by_is_called_by_that_name(
    fresh_search: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As Debian installs it: the file has another tool's name, and is that tool when called by it.
    both = tmp_path / "redis-check-rdb"
    both.write_text(
        '#!/bin/sh\n[ "${0##*/}" = redis-server ] && echo "Redis server v=99.0.1 sha=0"\n',
        encoding="ascii",
    )
    both.chmod(0o755)
    (tmp_path / "redis-server").symlink_to(both)
    fresh_search.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert servers.available_servers()[0].version == "99.0.1"
