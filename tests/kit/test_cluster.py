"""The kit's cluster is whole, replaces a killed master, moves slots step by step, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import AskError, MovedError, TryAgainError

from tests.kit.binaries import ServerBinary, first_server, group_servers, label, server_or_failure
from tests.kit.cluster import RedisCluster, slot_of
from tests.kit.servers import ServerError, ServerGroup


def nothing_is_left_of(group: ServerGroup) -> bool:
    return not any(member.running or member.socket_path.parent.exists() for member in group.members)


@pytest.fixture(scope="module", params=group_servers(), ids=label)
def whole(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    binary: ServerBinary | None = request.param
    with RedisCluster(server_or_failure(binary)) as cluster:
        yield cluster
    assert nothing_is_left_of(cluster)


@pytest.fixture
def cluster(whole: RedisCluster) -> RedisCluster:
    """One cluster for all tests of a server; each test finds it whole and empty."""
    whole.wait_until_ok()
    whole.reset()
    return whole


def test_a_started_cluster_has_three_masters_with_a_replica_each_and_takes_all_keys(cluster: RedisCluster) -> None:
    assert len(cluster.nodes) == 6
    assert len({cluster.replica_of(master) for master in cluster.masters} - set(cluster.masters)) == 3
    assert cluster.url == "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes[:3])
    with redis.RedisCluster("127.0.0.1", cluster.nodes[0].port) as client:
        for number in range(30):
            client.set(f"k{number}", number)
            assert cluster.cli("GET", f"k{number}", key=f"k{number}") == b"%d" % number


def test_a_reset_cluster_is_empty_on_every_node(cluster: RedisCluster) -> None:
    for key in "abc":
        cluster.cli("SET", key, "v", key=key)
    cluster.reset()
    assert [cluster.cli("DBSIZE", node=node) for node in cluster.nodes] == [0] * 6


def test_a_moved_slot_is_answered_moved_at_its_old_node_and_took_its_keys_along(cluster: RedisCluster) -> None:
    cluster.cli("SET", "k", "v", key="k")
    move = cluster.move_slot("k")
    assert move.slot == slot_of("k")
    with pytest.raises(MovedError) as answer:
        move.source.cli("GET", "k")
    assert answer.value.port == move.target.port
    assert cluster.master_of("k") is move.target
    assert cluster.cli("GET", "k", key="k") == b"v"


def test_a_slot_on_its_way_answers_ask_and_try_again_for_keys_of_the_other_node(cluster: RedisCluster) -> None:
    here, there = "{tag}1", "{tag}2"
    for key in (here, there):
        cluster.cli("SET", key, "v", key=key)
    move = cluster.migrate("tag")
    move.move_keys(there)
    assert cluster.master_of("tag") is move.source
    assert move.source.cli("GET", here) == b"v"
    with pytest.raises(AskError) as answer:
        move.source.cli("GET", there)
    assert answer.value.port == move.target.port
    with pytest.raises(MovedError):
        move.target.cli("GET", there)
    with redis.Redis(port=move.target.port, single_connection_client=True) as client:
        client.execute_command("ASKING")
        assert client.get(there) == b"v"
        client.execute_command("ASKING")
        with pytest.raises(TryAgainError):
            client.mget(here, there)
    move.move_keys()
    move.finish()
    assert cluster.cli("MGET", here, there, key="tag") == [b"v", b"v"]


def test_a_killed_master_is_replaced_by_its_replica_and_comes_back_as_a_replica(cluster: RedisCluster) -> None:
    old = cluster.master_of("k")
    replica = cluster.replica_of(old)
    old.kill()
    assert cluster.wait_for_promotion(old) is replica
    assert cluster.cli("SET", "k", "v", key="k") is True
    old.restart()
    cluster.wait_until_ok()
    assert cluster.replica_of(replica) is old


@pytest.mark.server
def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing_behind() -> None:
    cluster = RedisCluster(first_server(), config=["maxmemory nonsense"])
    with pytest.raises(ServerError, match="maxmemory"):
        cluster.start()
    assert nothing_is_left_of(cluster)
