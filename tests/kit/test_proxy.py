"""The kit's proxy causes the faults of networks: a plain socket and redis-py see each of them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import pytest_asyncio
import redis
from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.kit.proxy import GARBAGE, Fault, FaultProxy
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE, until

# In this time nothing may happen, so each test of silence takes exactly so long.
SILENCE = 0.1
# A test that waits for so long has failed.
AGES = 3600.0

PING, PONG = b"PING\r\n", b"+PONG\r\n"

_Result = TypeVar("_Result")


async def soon(result: Awaitable[_Result]) -> _Result:
    async with asyncio.timeout(PATIENCE):
        return await result


async def hangs(result: Awaitable[object]) -> bool:
    """Tell whether ``result`` does not come. Then it is cancelled."""
    try:
        async with asyncio.timeout(SILENCE):
            await result
    except TimeoutError:
        return True
    return False


class Client:
    """A plain socket that speaks to the proxy."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        await soon(asyncio.get_running_loop().sock_sendall(self._sock, data))

    async def receive(self, size: int = 65_536) -> bytes:
        """Return the next bytes, and b"" when the other end has closed in order."""
        return await soon(asyncio.get_running_loop().sock_recv(self._sock, size))

    async def receive_all(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := await self.receive(size - len(data))):
            data += more
        return data

    async def ping(self) -> bytes:
        await self.send(PING)
        return await self.receive_all(len(PONG))

    async def is_ignored(self) -> bool:
        """Tell whether a request gets no answer, and no end either."""
        await self.send(PING)
        return await hangs(asyncio.get_running_loop().sock_recv(self._sock, 1))

    async def is_reset(self) -> bool:
        try:
            await self.receive()
        except ConnectionResetError:
            return True
        return False


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Client]:
    with socket.socket() as sock:
        sock.setblocking(False)
        await soon(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", proxy.port)))
        yield Client(sock)


async def works(proxy: FaultProxy) -> bool:
    """Tell whether a new connection is served."""
    async with connected(proxy) as client:
        return await client.ping() == PONG


@pytest_asyncio.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    """A connection that exists and has been served before any fault."""
    async with connected(proxy) as client:
        assert await client.ping() == PONG
        yield client


async def test_everything_is_passed_on_both_ways_without_a_fault(proxy: FaultProxy, client: Client) -> None:
    value = b"$%d\r\n%b\r\n" % (2**21, bytes(range(256)) * 2**13)
    await client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n" + value + b"GET k\r\n")
    expected = b"+OK\r\n" + value
    assert await client.receive_all(len(expected)) == expected


async def test_connections_are_counted_when_accepted_and_as_long_as_they_are_open(proxy: FaultProxy) -> None:
    assert (proxy.accepted, proxy.open) == (0, 0)
    async with connected(proxy) as one, connected(proxy) as other:
        assert [await one.ping(), await other.ping()] == [PONG, PONG]
        assert (proxy.accepted, proxy.open) == (2, 2)
    await until(lambda: proxy.open == 0)
    assert proxy.accepted == 2


async def test_refuse_resets_connections_and_lets_nobody_connect(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.REFUSE)
    assert proxy.open == 0
    assert await client.is_reset()
    with pytest.raises(ConnectionRefusedError):
        await works(proxy)
    await proxy.heal()
    assert await works(proxy)
    assert proxy.accepted == 2


async def test_reset_resets_existing_and_new_connections(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.RESET)
    assert await client.is_reset()
    # The reset may be faster than the end of the connect.
    with pytest.raises(ConnectionResetError):
        await works(proxy)
    assert (proxy.accepted, proxy.open) == (2, 0)
    await proxy.heal()
    assert await works(proxy)


async def test_half_open_swallows_bytes_and_its_connections_stay_dead(
    proxy: FaultProxy, client: Client, redis_server: RedisServer
) -> None:
    await proxy.set(Fault.HALF_OPEN)
    await client.send(b"SET k v\r\n")
    async with connected(proxy) as newcomer:
        assert await newcomer.is_ignored()
        assert await client.is_ignored()
        assert proxy.open == 2
        await proxy.heal()
        assert await works(proxy)
        assert await client.is_ignored()
        assert await newcomer.is_ignored()
    assert redis_server.cli("GET", "k") is None


async def test_a_half_open_connection_can_still_be_reset(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.HALF_OPEN)
    await proxy.set(Fault.RESET, new=False)
    assert await client.is_reset()


async def test_a_black_hole_lets_a_connect_hang_until_the_network_is_healed(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.BLACK_HOLE)
    patient = asyncio.create_task(works(proxy))
    assert await hangs(works(proxy))
    assert await client.is_ignored()
    assert not patient.done()
    assert proxy.accepted == 1
    await proxy.heal()
    assert await works(proxy)
    assert await soon(patient)  # the system of the client has repeated the SYN
    assert await client.is_ignored()


async def test_a_delay_holds_replies_back_in_their_order(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.DELAY, seconds=0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.send(b"ECHO 1\r\nECHO 2\r\n")
    assert await client.receive_all(14) == b"$1\r\n1\r\n$1\r\n2\r\n"
    assert loop.time() - began >= 0.05


async def test_replies_that_a_delay_held_back_arrive_with_the_healing(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.DELAY, seconds=AGES)
    assert await client.is_ignored()
    await proxy.heal()
    assert await client.receive() == PONG
    assert await client.ping() == PONG


async def test_replies_that_a_delay_held_back_meet_the_next_fault(proxy: FaultProxy) -> None:
    async with connected(proxy) as one, connected(proxy) as other:
        await proxy.set(Fault.DELAY, seconds=AGES)
        assert await one.is_ignored()
        await proxy.set(Fault.HALF_OPEN)
        assert await hangs(one.receive())
        assert await other.is_ignored()
    await proxy.set(Fault.DELAY, seconds=AGES)
    async with connected(proxy) as client:
        assert await client.is_ignored()
        await proxy.set(Fault.TRUNCATE)
        assert await client.receive_all(len(PONG)) == PONG[:4]


async def test_a_drip_gives_one_byte_at_a_time(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.DRIP, seconds=AGES)
    await client.send(PING)
    assert await client.receive() == PONG[:1]
    assert await hangs(client.receive())
    await proxy.set(Fault.DRIP, seconds=0.001)
    assert await client.receive_all(6) == PONG[1:]
    await proxy.set(Fault.DRIP, seconds=AGES)
    await client.send(PING)
    assert await client.receive() == PONG[:1]
    await proxy.heal()
    assert await client.receive_all(6) == PONG[1:]


async def test_a_truncated_reply_begins_and_is_followed_by_an_end_in_order(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.TRUNCATE)
    # Further requests under way do not turn the end into a reset.
    many = 200_000
    await client.send(PING * many)
    data = await client.receive_all(len(PONG) * many)
    assert 0 < len(data) < len(PONG) * many
    assert (PONG * many).startswith(data)
    assert await client.receive() == b""
    await proxy.heal()
    assert await works(proxy)


async def test_garbage_arrives_instead_of_replies(proxy: FaultProxy, client: Client) -> None:
    await proxy.set(Fault.GARBAGE)
    await client.send(PING)
    assert await client.receive() == GARBAGE
    await proxy.heal()
    assert await client.ping() == PONG


async def test_replies_are_rewritten_and_requests_are_not(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port, rewrite=lambda reply: reply.replace(b"one", b"two")) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
            sock.setblocking(False)
            client = Client(sock)
            await proxy.set(Fault.REWRITE)
            await client.send(b"SET k one\r\n")
            assert await client.receive() == b"+OK\r\n"
            await client.send(b"GET k\r\n")
            assert await client.receive() == b"$3\r\ntwo\r\n"
    assert redis_server.cli("GET", "k") == b"one"


async def test_a_fault_may_apply_to_existing_connections_alone(proxy: FaultProxy) -> None:
    for fault in (Fault.HALF_OPEN, Fault.RESET):
        # The loop gets no turn between the connect and the fault: the connection exists all the same.
        with socket.create_connection(("127.0.0.1", proxy.port)) as early:
            early.setblocking(False)
            await proxy.set(fault, new=False)
            assert await (Client(early).is_ignored() if fault is Fault.HALF_OPEN else Client(early).is_reset())
            assert await works(proxy)


async def test_a_fault_may_apply_to_new_connections_alone(proxy: FaultProxy, client: Client) -> None:
    for fault in (Fault.REFUSE, Fault.BLACK_HOLE, Fault.RESET, Fault.HALF_OPEN):
        await proxy.set(fault, existing=False)
        assert await client.ping() == PONG
    async with connected(proxy) as newcomer:
        assert await newcomer.is_ignored()
    await proxy.set(Fault.GARBAGE, existing=False)
    assert not await works(proxy)
    assert await client.ping() == PONG


async def test_any_fault_may_follow_any_other_while_replies_are_under_way(proxy: FaultProxy) -> None:
    for first, second in itertools.product(Fault, repeat=2):
        async with connected(proxy) as client:
            await client.send(PING)
            await proxy.set(first, seconds=AGES)
            await proxy.set(second, seconds=AGES)
            await proxy.heal()
            assert await works(proxy), (first, second)
    await until(lambda: proxy.open == 0)


async def test_a_server_that_is_down_or_ends_takes_the_connection_with_it(own_server: RedisServer) -> None:
    async with FaultProxy(own_server.port) as proxy, connected(proxy) as client:
        assert await client.ping() == PONG
        own_server.kill()
        assert await client.receive() == b""
        async with connected(proxy) as newcomer:
            assert await newcomer.is_reset()
        assert proxy.open == 0


async def test_a_dead_connection_does_not_tell_that_its_server_has_ended(own_server: RedisServer) -> None:
    async with FaultProxy(own_server.port) as proxy, connected(proxy) as client:
        assert await client.ping() == PONG
        await proxy.set(Fault.HALF_OPEN)
        own_server.kill()
        assert await client.is_ignored()


@pytest.mark.parametrize("fault", Fault)
async def test_the_end_of_the_proxy_is_the_end_of_its_connections_and_its_port(
    redis_server: RedisServer, fault: Fault
) -> None:
    async with FaultProxy(redis_server.port) as proxy, connected(proxy) as client:
        assert await client.ping() == PONG
        await client.send(PING)
        await proxy.set(fault, seconds=AGES)
        await proxy.close()
        assert proxy.open == 0
        with pytest.raises(ConnectionRefusedError):
            await works(proxy)
        assert proxy.accepted == 1
        await proxy.close()


# --- redis-py -------------------------------------------------------------------------------------------


@asynccontextmanager
async def redis_py(proxy: FaultProxy) -> AsyncIterator[Connection]:
    connection = Connection(
        port=proxy.port, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )
    yield connection
    await connection.disconnect(nowait=True)


async def answer(connection: Connection) -> object:
    """Return the reply to PING, and connect first without a connection."""
    await connection.send_command("PING")
    return await connection.read_response()


SEEN: dict[Fault, type[redis.RedisError]] = {
    Fault.REFUSE: redis.ConnectionError,
    Fault.RESET: redis.ConnectionError,
    Fault.HALF_OPEN: redis.TimeoutError,
    Fault.BLACK_HOLE: redis.TimeoutError,
    Fault.DELAY: redis.TimeoutError,
    Fault.DRIP: redis.TimeoutError,
    Fault.TRUNCATE: redis.ConnectionError,
    Fault.GARBAGE: redis.InvalidResponse,
}


async def sees(connection: Connection, fault: Fault) -> None:
    """Hold that ``connection`` meets ``fault``: silence shows in a short time, and any other error is waited for."""
    limit = SILENCE if SEEN[fault] is redis.TimeoutError else PATIENCE
    connection.socket_timeout = connection.socket_connect_timeout = limit
    with pytest.raises(SEEN[fault]):
        await answer(connection)
    connection.socket_timeout = connection.socket_connect_timeout = PATIENCE


@pytest.mark.parametrize("fault", SEEN)
async def test_redis_py_sees_the_fault_on_a_connection_that_it_has(proxy: FaultProxy, fault: Fault) -> None:
    async with redis_py(proxy) as connection:
        assert await answer(connection) == b"PONG"
        await proxy.set(fault, seconds=AGES)
        await sees(connection, fault)


@pytest.mark.parametrize("fault", SEEN)
async def test_redis_py_sees_the_fault_when_it_connects(proxy: FaultProxy, fault: Fault) -> None:
    await proxy.set(fault, seconds=AGES)
    async with redis_py(proxy) as connection:
        await sees(connection, fault)
        await proxy.heal()
        assert await answer(connection) == b"PONG"


async def test_requests_that_are_held_arrive_later_also_if_their_client_has_gone(own_server: RedisServer) -> None:
    async with FaultProxy(own_server.port) as proxy:
        await proxy.set(Fault.HOLD)
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"SET k v\r\n")
        await writer.drain()
        writer.transport.abort()
        assert own_server.cli("EXISTS", "k") == 0
        await proxy.heal()
        await until(lambda: own_server.cli("EXISTS", "k") == 1)
