"""The kit's sentinels name the master, promote a replica when it dies or on command, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.binaries import ServerBinary, first_server, group_servers, label, server_or_failure
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer, ServerError


@pytest.fixture(params=group_servers(), ids=label)
def sentinel_setup(request: pytest.FixtureRequest) -> Iterator[SentinelSetup]:
    binary: ServerBinary | None = request.param
    with SentinelSetup(server_or_failure(binary), password="secret") as sentinel_setup:
        yield sentinel_setup
    assert nothing_is_left_of(sentinel_setup)


def nothing_is_left_of(sentinel_setup: SentinelSetup) -> bool:
    return not any(member.running or member.socket_path.parent.exists() for member in sentinel_setup.members)


def every_sentinel_names(sentinel_setup: SentinelSetup, master: RedisServer) -> bool:
    answers = [node.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster") for node in sentinel_setup.sentinels]
    return answers == [[b"127.0.0.1", b"%d" % master.port]] * 3


def test_the_sentinels_name_the_master_and_its_replica_once_the_master_is_killed(sentinel_setup: SentinelSetup) -> None:
    old, (replica,) = sentinel_setup.master, sentinel_setup.replicas
    assert every_sentinel_names(sentinel_setup, old)
    ports = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinel_setup.sentinels)
    assert sentinel_setup.url == f"redis+sentinel://{ports}/mymaster/0"
    old.cli("SET", "k", "v")
    old.kill()
    assert sentinel_setup.wait_for_promotion(old) is sentinel_setup.master is replica
    assert every_sentinel_names(sentinel_setup, replica)
    assert replica.cli("SET", "k", "w") is True


def test_a_failover_by_hand_promotes_the_replica_while_the_master_lives(sentinel_setup: SentinelSetup) -> None:
    old, (replica,) = sentinel_setup.master, sentinel_setup.replicas
    assert sentinel_setup.failover() is sentinel_setup.master is replica
    assert old.running
    assert every_sentinel_names(sentinel_setup, replica)


@pytest.mark.server
def test_sentinels_that_cannot_start_say_why_and_leave_nothing_behind() -> None:
    sentinel_setup = SentinelSetup(first_server(), config=["maxmemory nonsense"])
    with pytest.raises(ServerError, match="maxmemory"):
        sentinel_setup.start()
    assert nothing_is_left_of(sentinel_setup)
