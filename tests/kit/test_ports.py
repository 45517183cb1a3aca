"""The kit gives each port once, on any machine and to any number of processes."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
from multiprocessing.pool import Pool

import pytest

from tests.kit import ports
from tests.kit.ports import BLOCK, BUS, NoPortError, free_port


def some_ports(_: int) -> set[int]:
    return {free_port() for _ in range(20)}


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_no_two_processes_are_given_the_same_port(method: str) -> None:
    # A forked process inherits the block of its parent.
    here = {free_port()}
    context = multiprocessing.get_context(method)
    with Pool(3, context=context) as pool:
        given = [here, *pool.map(some_ports, range(3), chunksize=1)]
        # Processes that are terminated and not waited for leave pipes behind.
        pool.close()
        pool.join()
    assert len(set().union(*given)) == 1 + 3 * 20


def test_two_blocks_share_no_port_and_one_that_is_left_is_taken_again(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ports._starts()[0]
    monkeypatch.setattr(tempfile, "tempdir", str(request.getfixturevalue("tmp_path")))
    monkeypatch.setattr(ports, "_starts", lambda: [start, start + BLOCK])
    one, other = ports._Block(), ports._Block()
    request.addfinalizer(other.close)
    assert not {*one._ports} & {*other._ports}
    with pytest.raises(NoPortError, match="all 2 blocks of ports are in use"):
        ports._Block()
    one.close()
    again = ports._Block()
    request.addfinalizer(again.close)
    assert {*again._ports} == {*one._ports}


def test_a_port_that_is_bound_is_not_given(request: pytest.FixtureRequest) -> None:
    block = ports._Block()
    request.addfinalizer(block.close)
    for distance in (0, BUS):
        port = block.give()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port + distance))
            assert port not in {block.give() for _ in range(BLOCK)}


def test_ports_come_round_again_and_all_of_them_taken_is_an_error(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = ports._Block()
    request.addfinalizer(block.close)
    given = [block.give() for _ in range(2 * BLOCK)]
    assert len(set(given)) > BLOCK // 2
    monkeypatch.setattr(ports, "_is_free", lambda _port: False)
    with pytest.raises(NoPortError, match="none of the ports"):
        block.give()


@pytest.mark.parametrize("floor", [1024, 10_000, 32_768, 49_152])
def test_no_port_is_one_that_the_system_hands_out_by_itself_where_that_can_be(
    monkeypatch: pytest.MonkeyPatch, floor: int
) -> None:
    monkeypatch.setattr(ports, "_ephemeral_floor", lambda: floor)
    starts = ports._starts()
    highest = max(starts) + BLOCK + BUS
    assert highest < 65_536
    assert highest <= floor or floor < 30_000
    assert min(starts) + BUS >= max(starts) + BLOCK, "no bus is at a port of a block"
