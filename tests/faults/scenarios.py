"""The faults as data: how each is done to a real server or to the way to it, and which operations work meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shlex
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

import redis

from tests.faults.operations import (
    DEFAULT,
    EMPTY,
    FILLED,
    NAMES,
    NO_VALUE,
    OWN_RESULT,
    READS,
    Delete,
    Get,
    Hit,
    Invalidates,
    LoadUnderWay,
    MissAndFill,
    Read,
    Save,
    Set,
    Take,
)
from tests.kit.binaries import SERVERS
from tests.kit.ports import free_port
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.scripted import ScriptedServer
from tests.kit.servers import RedisServer

PATIENCE: Final = 30.0
"""Seconds within which a fault that is done to a server must show."""


class Warmth(Enum):
    """The state of a cache when the fault begins."""

    CONNECTED = "connected"
    NEVER = "before the first connection"
    ELSEWHERE = "connected in an event loop that is closed by now"


@dataclass(frozen=True, slots=True)
class Place:
    """The URL at which a cache finds its server, and the fault on the way to it."""

    url: str
    hurting: Callable[[Sequence[str]], AbstractAsyncContextManager[None]]
    """Gets the keys that are in use. The fault is in force inside, and healed at the end."""


Stage: TypeAlias = Callable[[RedisServer], AbstractAsyncContextManager[Place]]
"""Gets a healthy server of its own. The way to the server exists as long as this context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One fault.

    Attributes:
        name: A row of the table.
        what: The fault, in a sentence.
        stage: Does it.
        served: The operations that are served as if nothing were wrong.
        partly: Whether some of many callers at the same moment may be served, and others not.
        instead: The results of operations that are neither served as usual nor kept from being served.
        warm: The state of the caches before.
        config: Lines of the server's redis.conf.
        silent: Whether callers notice it by the deadline alone.
        causes: The causes that events may name for operations that are not served; empty if no event is expected.
    """

    name: str
    what: str
    stage: Stage
    served: frozenset[str] = frozenset()
    partly: bool = False
    instead: Mapping[str, frozenset[str]] = field(default_factory=dict)
    warm: Warmth = Warmth.CONNECTED
    config: tuple[str, ...] = ()
    silent: bool = False
    causes: frozenset[str] = frozenset()


# --- on the way to the server -----------------------------------------------------------------------------


def _through_proxy(fault: Fault, *, seconds: float = 0.05) -> Stage:
    @asynccontextmanager
    async def stage(server: RedisServer) -> AsyncGenerator[Place]:
        async with FaultProxy(server.port) as proxy:

            @asynccontextmanager
            async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
                await proxy.set(fault, seconds=seconds)
                try:
                    yield
                finally:
                    await proxy.heal()

            yield Place(proxy.url, hurting)

    return stage


def _answering(line: str, *, cluster: bool = False) -> Stage:
    """Have every command answered with ``line``, in which ``{port}`` is the port of the server that answers."""

    @asynccontextmanager
    async def stage(server: RedisServer) -> AsyncGenerator[Place]:
        async with ScriptedServer(server.port) as scripted:
            if cluster:
                slots = f"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{scripted.port}\r\n"
                scripted.always = {b"CLUSTER": slots.encode(), b"ASKING": b"+OK\r\n"}

            @asynccontextmanager
            async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
                scripted.answer = f"{line.format(port=scripted.port)}\r\n".encode()
                try:
                    yield
                finally:
                    scripted.answer = None

            url = f"redis+cluster://127.0.0.1:{scripted.port}" if cluster else scripted.url
            yield Place(url, hurting)

    return stage


# --- the server's process ---------------------------------------------------------------------------------


@asynccontextmanager
async def _hung(server: RedisServer) -> AsyncGenerator[Place]:
    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        server.pause()
        try:
            yield
        finally:
            await asyncio.to_thread(server.resume)

    yield Place(server.url, hurting)


@asynccontextmanager
async def _killed(server: RedisServer) -> AsyncGenerator[Place]:
    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        server.kill()
        try:
            yield
        finally:
            await asyncio.to_thread(server.restart)

    yield Place(server.url, hurting)


@asynccontextmanager
async def _killed_and_restarted(server: RedisServer) -> AsyncGenerator[Place]:
    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        await asyncio.to_thread(server.restart)
        yield

    yield Place(server.url, hurting)


@asynccontextmanager
async def _loading(server: RedisServer) -> AsyncGenerator[Place]:
    """Restart it with so many keys on disk, and so slow a load, that it loads until the fault is healed."""

    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        ballast = [part for number in range(30_000) for part in (f"ballast:{number}", "x")]
        await _tell(server, "MSET", *ballast)
        await _tell(server, "SAVE")
        server.kill()
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        try:
            await _until_refused(server, redis.BusyLoadingError)
            yield
        finally:
            await _tell(server, "CONFIG", "SET", "key-load-delay", "0")
            await starting

    yield Place(server.url, hurting)


@asynccontextmanager
async def _busy(server: RedisServer) -> AsyncGenerator[Place]:
    def run_for_ever() -> None:
        with contextlib.suppress(redis.ResponseError):
            server.cli("EVAL", "while true do end", 0)

    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        running = asyncio.create_task(asyncio.to_thread(run_for_ever))
        try:
            await _until_refused(server, redis.ResponseError)
            yield
        finally:
            await _tell(server, "SCRIPT", "KILL")
            await running

    yield Place(server.url, hurting)


# --- commands to the server -------------------------------------------------------------------------------


def _by_commands(hurt: Sequence[str], heal: Sequence[str], *, login: str = "") -> Stage:
    """Hurt and heal by commands."""

    @asynccontextmanager
    async def stage(server: RedisServer) -> AsyncGenerator[Place]:
        @asynccontextmanager
        async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
            for command in hurt:
                await _tell(server, *shlex.split(command))
            try:
                yield
            finally:
                for command in heal:
                    await _tell(server, *shlex.split(command))

        yield Place(server.url.replace("redis://", f"redis://{login}"), hurting)

    return stage


@asynccontextmanager
async def _password_wanted(server: RedisServer) -> AsyncGenerator[Place]:
    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        await _tell(server, "CONFIG", "SET", "requirepass", "secret")
        server.password = "secret"
        await _tell(server, "CLIENT", "KILL", "TYPE", "normal")
        try:
            yield
        finally:
            await _tell(server, "CONFIG", "SET", "requirepass", "")
            server.password = None

    yield Place(server.url, hurting)


@asynccontextmanager
async def _cannot_save(server: RedisServer) -> AsyncGenerator[Place]:
    """Put a folder at the path of its file."""
    folder = server.socket_path.parent / "dump.rdb"
    await _tell(server, "CONFIG", "SET", "save", "3600 1000000")
    write = ("SET", "a sign of", "life")

    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        folder.mkdir()
        await _tell(server, "BGSAVE")
        await _until_refused(server, redis.ResponseError, *write)
        try:
            yield
        finally:
            folder.rmdir()
            await _tell(server, "BGSAVE")
            await _until_answered(server, *write)

    yield Place(server.url, hurting)


@asynccontextmanager
async def _keys_of_another_kind(server: RedisServer) -> AsyncGenerator[Place]:
    """Have each key hold a value that none of its commands can use."""
    swap = """for _, key in ipairs(KEYS) do
        redis.call('DEL', key)
        if string.find(key, 'snapshots:', 1, true) then redis.call('SET', key, 'theirs')
        else redis.call('RPUSH', key, 'theirs') end
    end"""
    # Values that were set meanwhile stay.
    remove = """for _, key in ipairs(KEYS) do
        local text = string.find(key, 'snapshots:', 1, true) and 'string' or 'list'
        if redis.call('TYPE', key).ok == text then redis.call('DEL', key) end
    end"""

    @asynccontextmanager
    async def hurting(keys: Sequence[str]) -> AsyncGenerator[None]:
        await _tell(server, "EVAL", swap, len(keys), *keys)
        try:
            yield
        finally:
            await _tell(server, "EVAL", remove, len(keys), *keys)

    yield Place(server.url, hurting)


@asynccontextmanager
async def _scripts_forgotten(server: RedisServer) -> AsyncGenerator[Place]:
    """Let it forget its scripts again and again, so that each is missing just when it is called."""

    async def forget() -> None:
        while True:
            await _tell(server, "SCRIPT", "FLUSH")
            await asyncio.sleep(0.002)

    @asynccontextmanager
    async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
        await _tell(server, "SCRIPT", "FLUSH")
        forgetting = asyncio.create_task(forget())
        try:
            yield
        finally:
            forgetting.cancel()
            await asyncio.wait([forgetting])

    yield Place(server.url, hurting)


@asynccontextmanager
async def _too_many_clients(server: RedisServer) -> AsyncGenerator[Place]:
    with _operator(server) as tell:

        @asynccontextmanager
        async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
            tell("CONFIG", "SET", "maxclients", 1)
            tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            try:
                yield
            finally:
                tell("CONFIG", "SET", "maxclients", 1000)

        yield Place(server.url, hurting)


# --- this process -------------------------------------------------------------------------------------------


@asynccontextmanager
async def _no_files_left(server: RedisServer) -> AsyncGenerator[Place]:
    with _operator(server) as tell:

        @asynccontextmanager
        async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            # Open files stay open; no other can be opened.
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        yield Place(server.url, hurting)


def _without_names(*, hangs: bool) -> Stage:
    """Have a name server that knows the cache's host before the fault, and fails or hangs during it."""

    @asynccontextmanager
    async def stage(server: RedisServer) -> AsyncGenerator[Place]:
        real = socket.getaddrinfo
        healthy = threading.Event()
        healthy.set()

        def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if host != "cache.test":
                return real(host, port, *args, **options)
            if not hangs and not healthy.is_set():
                raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")
            healthy.wait(PATIENCE)
            return real("127.0.0.1", port, *args, **options)

        with _operator(server) as tell:

            @asynccontextmanager
            async def hurting(_: Sequence[str]) -> AsyncGenerator[None]:
                healthy.clear()
                tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                try:
                    yield
                finally:
                    healthy.set()

            socket.getaddrinfo = look_up
            try:
                yield Place(f"redis://cache.test:{server.port}/0", hurting)
            finally:
                socket.getaddrinfo = real

    return stage


@asynccontextmanager
async def _as_it_is(server: RedisServer) -> AsyncGenerator[Place]:
    yield Place(server.url, lambda _: contextlib.nullcontext())


# --- helpers --------------------------------------------------------------------------------------------------


async def _tell(server: RedisServer, *command: str | float) -> Any:
    return await asyncio.to_thread(server.cli, *command)


async def _until_refused(server: RedisServer, error: type[Exception], *command: str) -> None:
    """Wait until ``command`` is answered with ``error``."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await _tell(server, *(command or ("GET", "a sign of life")))
            except error:
                return
            except redis.ConnectionError:
                pass
            await asyncio.sleep(0.002)


async def _until_answered(server: RedisServer, *command: str) -> None:
    """Wait until ``command`` is answered without an error."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(redis.RedisError):
                await _tell(server, *command)
                return
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def _operator(server: RedisServer) -> Any:
    """Keep a connection to the server, so that it takes commands when nobody else can connect."""
    with redis.Redis(unix_socket_path=str(server.socket_path), single_connection_client=True) as client:
        client.execute_command("PING")
        yield client.execute_command


# --- the table ------------------------------------------------------------------------------------------------

APP: Final = "app:secret@"
APP_MAY: Final = "user app on >secret ~* &* +@all"

# Redis 7 needs these to load slowly, and to answer meanwhile; 6.2 answers only after every two megabytes.
SLOW_TO_LOAD: Final = ("key-load-delay 200", "loading-process-events-interval-bytes 1024")
LOADS_FOR_REAL: Final = SERVERS[0] is not None and int(SERVERS[0].version.split(".")[0]) >= 7


def _scenarios() -> Iterator[Scenario]:
    unavailable, timeout = frozenset({"unavailable"}), frozenset({"timeout"})
    either = frozenset({"unavailable", "timeout"})
    connected, never = Warmth.CONNECTED, Warmth.NEVER
    for warm in (connected, never):
        yield Scenario(
            name=f"refused, {warm.value}",
            what="Nothing listens at the address any more; connections that exist are reset.",
            stage=_through_proxy(Fault.REFUSE),
            warm=warm,
            causes=unavailable,
        )
    yield Scenario(
        name="reset",
        what="Connections that exist are reset, and new ones as soon as they are accepted.",
        stage=_through_proxy(Fault.RESET),
        causes=unavailable,
    )
    for warm in (connected, never):
        yield Scenario(
            name=f"half-open, {warm.value}",
            what="Bytes that are sent vanish and no reply comes; new connections are accepted and stay silent, too.",
            stage=_through_proxy(Fault.HALF_OPEN),
            warm=warm,
            silent=True,
            causes=timeout,
        )
    for warm in (connected, never):
        yield Scenario(
            name=f"black hole, {warm.value}",
            what="All packets vanish, also those of a connect.",
            stage=_through_proxy(Fault.BLACK_HOLE),
            warm=warm,
            silent=True,
            causes=either,
        )
    yield Scenario(
        name="slow",
        what="Each reply comes 20 ms late.",
        stage=_through_proxy(Fault.DELAY, seconds=0.02),
        served=NAMES,
        # A miss takes three round trips: the third may come too late with so many callers.
        partly=True,
        causes=timeout | {"congested"},
    )
    yield Scenario(
        name="too slow",
        what="Each reply comes 2 s late, which is after the deadline.",
        stage=_through_proxy(Fault.DELAY, seconds=2.0),
        silent=True,
        causes=either,
    )
    yield Scenario(
        name="dripping",
        what="Replies come one byte at a time, with a pause of 1 s after each.",
        stage=_through_proxy(Fault.DRIP, seconds=1.0),
        silent=True,
        causes=either,
    )
    yield Scenario(
        name="truncated",
        what="The first half of a reply comes, then the connection is closed in order.",
        stage=_through_proxy(Fault.TRUNCATE),
        partly=True,
        causes=unavailable,
    )
    yield Scenario(
        name="garbage",
        what="Replies are replaced by the answer of a web server.",
        stage=_through_proxy(Fault.GARBAGE),
        causes=frozenset({"garbage"}),
    )
    yield Scenario(
        name="foreign replies",
        what="Every command is answered with [[7]]: a reply, but to no question that was asked.",
        stage=_answering("*1\r\n*1\r\n:7"),
        causes=frozenset({"garbage"}),
    )
    for warm in (connected, never):
        yield Scenario(
            name=f"hung, {warm.value}",
            what="SIGSTOP: the system accepts connections and bytes, the server does nothing.",
            stage=_hung,
            warm=warm,
            silent=True,
            causes=timeout,
        )
    yield Scenario(
        name="killed",
        what="SIGKILL; healed by a restart, empty.",
        stage=_killed,
        causes=unavailable,
    )
    yield Scenario(
        name="killed and restarted",
        what="SIGKILL and a restart before the next call: the cached values are gone.",
        stage=_killed_and_restarted,
        served=NAMES - {Hit.name, LoadUnderWay.name, Get.name, Take.name, Read.name},
        instead={
            Hit.name: frozenset({FILLED}),
            LoadUnderWay.name: frozenset({OWN_RESULT}),
            Get.name: frozenset({DEFAULT}),
            Take.name: frozenset({NO_VALUE}),
            Read.name: frozenset({EMPTY}),
        },
    )
    yield Scenario(
        name="LOADING",
        what="Restarted with so much on disk that it loads for as long as the fault lasts.",
        stage=_loading if LOADS_FOR_REAL else _answering("-LOADING Redis is loading the dataset in memory"),
        config=SLOW_TO_LOAD if LOADS_FOR_REAL else (),
        causes=frozenset({"LOADING", "unavailable"}),
    )
    yield Scenario(
        name="BUSY",
        what="A script that never ends; healed by SCRIPT KILL.",
        stage=_busy,
        config=("lua-time-limit 10",),
        causes=frozenset({"BUSY"}),
    )
    yield Scenario(
        name="OOM",
        what="`maxmemory` is reached, and the policy is `noeviction`.",
        stage=_by_commands(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
        served=NAMES - {MissAndFill.name, LoadUnderWay.name, Set.name, Save.name},
        causes=frozenset({"OOM"}),
    )
    yield Scenario(
        name="MISCONF",
        what="It cannot save to disk, and refuses writes since (`stop-writes-on-bgsave-error`).",
        stage=_cannot_save,
        served=READS,
        causes=frozenset({"MISCONF"}),
    )
    yield Scenario(
        name="READONLY",
        what="It becomes the replica of a master that is not there.",
        stage=_by_commands([f"REPLICAOF 127.0.0.1 {free_port()}"], ["REPLICAOF NO ONE"]),
        served=READS,
        causes=frozenset({"READONLY"}),
    )
    yield Scenario(
        name="MASTERDOWN",
        what="As READONLY, and `replica-serve-stale-data` is off: it does not even read.",
        stage=_by_commands([f"REPLICAOF 127.0.0.1 {free_port()}"], ["REPLICAOF NO ONE"]),
        config=("replica-serve-stale-data no",),
        causes=frozenset({"MASTERDOWN", "READONLY"}),
    )
    yield Scenario(
        name="NOREPLICAS",
        what="It wants a replica for its writes (`min-replicas-to-write`), and has none.",
        stage=_by_commands(["CONFIG SET min-replicas-to-write 1"], ["CONFIG SET min-replicas-to-write 0"]),
        served=READS,
        causes=frozenset({"NOREPLICAS"}),
    )
    yield Scenario(
        name="NOAUTH",
        what="It demands a password that the URL lacks, and has closed its connections.",
        stage=_password_wanted,
        # Redis 7 closes the connection of a client without a login when its refusals exceed a kilobyte.
        causes=frozenset({"AUTH", "unavailable"}),
    )
    yield Scenario(
        name="WRONGPASS",
        what="The user's password was changed, and its connections were closed.",
        stage=_by_commands(
            ["ACL SETUSER app resetpass >changed", "CLIENT KILL USER app"],
            ["ACL SETUSER app resetpass >secret"],
            login=APP,
        ),
        config=(APP_MAY,),
        causes=frozenset({"AUTH"}),
    )
    yield Scenario(
        name="NOPERM",
        what="The user has lost all its keys.",
        # A refusal is final for its connection: new rights are noticed on a new one.
        stage=_by_commands(
            ["ACL SETUSER app resetkeys"], ["ACL SETUSER app allkeys", "CLIENT KILL USER app"], login=APP
        ),
        config=(APP_MAY,),
        causes=frozenset({"NOPERM"}),
    )
    yield Scenario(
        name="WRONGTYPE",
        what="Every key holds something of another kind.",
        stage=_keys_of_another_kind,
        served=frozenset({LoadUnderWay.name, Set.name, Delete.name, Invalidates.name}),
        causes=frozenset({"WRONGTYPE"}),
    )
    yield Scenario(
        name="NOSCRIPT",
        what="SCRIPT FLUSH, again and again.",
        stage=_scripts_forgotten,
        served=NAMES,
    )
    yield Scenario(
        name="CLUSTERDOWN",
        what="Every node of a cluster says that the cluster is down.",
        stage=_answering("-CLUSTERDOWN The cluster is down", cluster=True),
        causes=frozenset({"CLUSTERDOWN"}),
    )
    for code in ("MOVED", "ASK"):
        yield Scenario(
            name=f"{code} storm",
            what="The nodes of a cluster redirect every command, and the next nodes redirect it again.",
            stage=_answering(f"-{code} 1 127.0.0.1:{{port}}", cluster=True),
            # The deadline may come before the fifth redirection.
            causes=frozenset({code, "timeout", "congested"}),
        )
    yield Scenario(
        name="MOVED, not a cluster's URL",
        what="A redis:// URL leads to a node of a cluster that does not have the keys.",
        stage=_answering("-MOVED 1 127.0.0.1:{port}"),
        causes=frozenset({"MOVED"}),
    )
    yield Scenario(
        name="too many clients",
        what="`maxclients` is reached, and our connection was closed.",
        stage=_too_many_clients,
        causes=frozenset({"MAXCLIENTS"}),
    )
    yield Scenario(
        name="file table full",
        what="This process may open no further file (`RLIMIT_NOFILE`), and our connection was closed.",
        stage=_no_files_left,
        causes=unavailable,
    )
    yield Scenario(
        name="DNS fails",
        what="The host has no address any more, and our connection was closed.",
        stage=_without_names(hangs=False),
        causes=unavailable,
    )
    yield Scenario(
        name="DNS hangs",
        what="The name server does not answer, and our connection was closed.",
        stage=_without_names(hangs=True),
        silent=True,
        causes=timeout,
    )
    yield Scenario(
        name="event loop closed",
        what="The cache was used under `asyncio.run`, and is used under another one.",
        stage=_as_it_is,
        warm=Warmth.ELSEWHERE,
        served=NAMES,
    )


SCENARIOS: Final = tuple(_scenarios())
