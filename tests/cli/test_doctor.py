"""Each line of the doctor turns red by a real server that has that fault, and is green by one that has not."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from cachekit._cli import lines as lines_module
from cachekit._cli import main
from cachekit._cli import server as server_module
from cachekit._cli.certificates import check_certificate, check_files
from cachekit._cli.doctor import examine, needs_of
from cachekit._cli.lines import Line, Patient, Status
from cachekit._cli.rights import FEATURES, check_rights
from cachekit._cli.topology import check_cluster
from cachekit.errors import ConfigurationError, StoreTimeoutError
from cachekit.stores.visits import masters_of, refused_by, visit
from cachekit.urls import TLS, ClusterURL, parse
from tests import ROOT
from tests.kit.binaries import SERVERS, ServerBinary, first_server, label, server_or_failure
from tests.kit.cluster import RedisCluster
from tests.kit.ports import free_port
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.scripted import ScriptedServer
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized
from tests.kit.tls import Certificates, TlsTerminator
from tests.kit.waiting import until

PAGE = (ROOT / "docs" / "operations.md").read_text()
START = Callable[..., RedisServer]


async def examined(
    url: str, needs: str = "all", *, timeout: float = 30.0, encrypted: bool = False
) -> dict[str, list[Line]]:
    """Return the lines about the store at ``url``, by check. A busy machine is slow: it has 30 s for an answer."""
    patient = Patient(url=parse(url), prefix="myapp:", timeout=timeout, needs=needs_of(needs), encrypted=encrypted)
    return by_check(await examine(patient, url))


def by_check(lines: list[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.check, []).append(line)
    return found


async def rights_of(url: str, prefix: str = "myapp:") -> dict[str, list[Line]]:
    """Return the lines about rights alone, as `examined` does."""
    patient = Patient(url=parse(url), prefix=prefix, timeout=30.0, needs=needs_of("all"))
    (door,) = await masters_of(patient.url, patient.patience)
    return by_check(await check_rights(door, patient))


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is measured by a few round trips."""
    monkeypatch.setattr(server_module, "_ROUNDS", 20)


def only(lines: dict[str, list[Line]], check: str) -> Line:
    (line,) = lines[check]
    return line


def faults(lines: dict[str, list[Line]]) -> set[str]:
    return {line.check for some in lines.values() for line in some if line.status is Status.FAULT}


def as_app(url: str) -> str:
    return url.replace("://", "://app:hunter2@")


def user(*rules: str) -> str:
    return f"user app on >hunter2 resetchannels -@all {' '.join(rules)}"


KEYS = ("~myapp:*", "~{myapp:*")
NEAR = ("+client|id", "+subscribe", "&__redis__:invalidate")
ALL = tuple(dict.fromkeys(right for rights in FEATURES.values() for right in rights))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor waits for an answer that does not come for a moment only."""
    monkeypatch.setattr(lines_module, "PATIENCE", 0.3)


# --- all is well --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
async def test_nothing_is_at_fault_at_a_server_as_it_should_be(redis_server: RedisServer, protocol: int) -> None:
    lines = await examined(f"{redis_server.url}?protocol={protocol}")
    assert faults(lines) == set()
    assert {check for check, some in lines.items() if some[0].status is not Status.OK} == {"eviction"}
    assert {check for check in lines if check.startswith("right")} == {f"right: {name}" for name in FEATURES}
    assert redis_server.cli("DBSIZE") <= 1, "its own key, which ends by itself"


async def test_a_limited_memory_with_eviction_is_well(start_server: START) -> None:
    server = start_server("maxmemory 100mb", "maxmemory-policy allkeys-lru")
    assert only(await examined(server.url), "eviction").status is Status.OK


async def test_a_socket_of_this_machine_is_examined(redis_server: RedisServer) -> None:
    lines = await examined(redis_server.unix_url)
    assert faults(lines) == set()


async def test_a_store_in_memory_has_no_server_to_examine() -> None:
    with pytest.raises(ConfigurationError, match="inside of one process"):
        await examined("memory://")


# --- the way there ------------------------------------------------------------------------------------------


async def test_connection_nobody_listens() -> None:
    line = only(await examined(f"redis://127.0.0.1:{free_port()}"), "connection")
    assert line.status is Status.FAULT


@pytest.mark.usefixtures("hasty")
async def test_connection_a_server_that_hangs(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        await proxy.set(Fault.HALF_OPEN)
        lines = await examined(proxy.url, timeout=0.1)
    assert "does not answer in time" in only(lines, "connection").text


async def test_login_a_wrong_password(start_server: START) -> None:
    server = start_server(password="right")
    lines = await examined(server.url.replace("://", "://:wrong@"))
    assert faults(lines) == {"login"}
    assert "wrong" not in repr(lines)


def issued(folder: Path, days: float) -> Certificates:
    """Return certificates of which that of the server ends in ``days``."""
    authority, now = trustme.CA(), dt.datetime.now(dt.UTC)
    places = Certificates(*(folder / f"{name}.pem" for name in ("ca", "server", "server", "server")))
    authority.cert_pem.write_to_path(str(places.ca))
    ends = now + dt.timedelta(days=days)
    one = authority.issue_cert("localhost", not_before=now - dt.timedelta(days=90), not_after=ends)
    one.private_key_and_cert_chain_pem.write_to_path(str(places.server))
    return places


async def test_tls_a_file_whose_certificate_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = issued(tmp_path, -1)
    files = TLS(ssl_certfile=str(certificates.client))
    assert "has ended" in check_files(files)[0].text
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert check_files(files)[0].status is Status.UNKNOWN


async def test_tls_none_beyond_this_machine_is_a_warning(redis_server: RedisServer) -> None:
    (door,) = await masters_of(parse(redis_server.url), 30)
    async with visit(door, 30) as server:
        assert check_certificate(server, local=False).status is Status.WARNING


async def test_tls_files_whose_certificates_end_soon(own_server: RedisServer, tmp_path: Path) -> None:
    certificates = issued(tmp_path, 3)
    with TlsTerminator(certificates, certificates.server, clients=True, behind=own_server.port) as front:
        shown = f"ssl_certfile={certificates.client}&ssl_keyfile={certificates.client}"
        url = f"rediss://localhost:{front.port}?ssl_ca_certs={certificates.ca}&{shown}"
        lines = (await examined(url))["tls"]
    assert [line.status.value for line in lines] == ["ok", "fault", "fault"]
    assert ["authority" in lines[0].text, "this client" in lines[1].text, "server's" in lines[2].text] == [True] * 3


@pytest.mark.parametrize(("days", "status"), [(-1, "fault"), (3, "fault"), (20, "warning"), (60, "ok")])
async def test_tls_a_certificate_that_has_ended_or_ends_soon(
    own_server: RedisServer, tmp_path: Path, days: int, status: str
) -> None:
    certificates = issued(tmp_path, days)
    with TlsTerminator(certificates, certificates.server, clients=False, behind=own_server.port) as front:
        lines = await examined(f"rediss://localhost:{front.port}?ssl_ca_certs={certificates.ca}")
    assert [line.status.value for line in lines["tls"]] == ["ok", status]
    assert (days > 0) == ("version" in lines)
    if days < 0:
        assert "expired" in lines["tls"][1].text


async def test_tls_a_certificate_of_an_authority_that_nobody_named(
    own_server: RedisServer, certificates: Certificates
) -> None:
    with TlsTerminator(certificates, certificates.server, clients=False, behind=own_server.port) as front:
        line = only(await examined(f"rediss://localhost:{front.port}"), "tls")
    assert line.status is Status.FAULT
    assert "certificate was refused" in line.text


# --- one server ---------------------------------------------------------------------------------------------


async def test_version_a_server_that_is_too_old(redis_server: RedisServer) -> None:
    def older(reply: bytes) -> bytes:
        return re.sub(rb"(\$7\r\nversion\r\n\$\d+\r\n)\d", rb"\g<1>5", reply)

    async with FaultProxy(redis_server.port, rewrite=older) as proxy:
        await proxy.set(Fault.REWRITE)
        assert faults(await examined(proxy.url)) == {"version"}


async def test_role_a_replica(own_server: RedisServer, start_server: START) -> None:
    replica = start_server(f"replicaof 127.0.0.1 {own_server.port}")
    line = only(await examined(replica.url), "role")
    assert (line.status, "READONLY" in line.text) == (Status.FAULT, True)


async def test_role_a_node_of_a_cluster_that_is_named_as_one_server(shared_cluster: RedisCluster) -> None:
    line = only(await examined(shared_cluster.nodes[0].url), "role")
    assert (line.status, "redis+cluster://" in line.advice) == (Status.FAULT, True)


async def test_latency_a_server_that_is_far_away(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        await proxy.set(Fault.DELAY, seconds=0.02)
        line = only(await examined(proxy.url, timeout=0.01), "latency")
    assert line.status is Status.FAULT


async def test_latency_that_leaves_little_time_for_a_miss_is_a_warning(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Patient(url=parse(redis_server.url), prefix="myapp:", timeout=0.3, needs=needs_of(""))
    (door,) = await masters_of(patient.url, patient.patience)
    # Each round trip takes a tenth of a second, by this clock.
    looks = (n / 10 for n in range(1000))
    clock = SimpleNamespace(monotonic=time.monotonic, perf_counter=lambda: next(looks))
    monkeypatch.setattr(server_module, "time", clock)
    async with visit(door, 30.0) as server:
        line = await server_module.check_latency(server, door, patient)
    assert (line.status, "three round trips" in line.advice) == (Status.WARNING, True)


async def test_version_a_proxy_that_does_not_know_hello(redis_server: RedisServer) -> None:
    replies = {b"HELLO": b"-ERR unknown command 'HELLO'\r\n", b"INFO": b"-NOPERM no INFO for this user\r\n"}
    async with ScriptedServer(redis_server.port, replies) as scripted:
        line = only(await examined(scripted.url), "version")
    assert (line.status, "+hello" in line.advice) == (Status.UNKNOWN, True)


async def test_version_a_server_so_old_that_it_does_not_know_hello(redis_server: RedisServer) -> None:
    told = b"# Server\r\nredis_version:5.0.6\r\n"
    replies = {
        b"HELLO": b"-ERR unknown command `HELLO`, with args beginning with: \r\n",
        b"INFO": b"$%d\r\n%b\r\n" % (len(told), told),
    }
    async with ScriptedServer(redis_server.port, replies) as scripted:
        line = only(await examined(scripted.url), "version")
    assert (line.status, line.text) == (Status.FAULT, "Redis 5.0.6 is too old")


@pytest.mark.usefixtures("hasty")
async def test_connection_a_server_that_falls_silent_when_its_rights_are_asked_for(redis_server: RedisServer) -> None:
    """Nothing is known about its rights then: none of them is missing."""
    async with ScriptedServer(redis_server.port, {b"ACL": b""}) as scripted:
        patient = Patient(url=parse(scripted.url), prefix="myapp:", timeout=0.1, needs=needs_of("all"))
        (door,) = await masters_of(patient.url, patient.patience)
        with pytest.raises(StoreTimeoutError):
            await check_rights(door, patient)


@pytest.mark.parametrize(("hours", "word"), [(1, "ahead"), (-1, "behind")])
async def test_clock_a_server_that_lives_in_another_time(redis_server: RedisServer, hours: int, word: str) -> None:
    def shifted(reply: bytes) -> bytes:
        found = re.fullmatch(rb"\*2\r\n\$10\r\n(\d{10})\r\n(.*)", reply, re.DOTALL)
        return reply if found is None else b"*2\r\n$10\r\n%d\r\n%b" % (int(found[1]) + hours * 3600, found[2])

    async with FaultProxy(redis_server.port, rewrite=shifted) as proxy:
        await proxy.set(Fault.REWRITE)
        lines = await examined(proxy.url)
    assert (faults(lines), word in only(lines, "clock").text) == ({"clock"}, True)


async def test_eviction_a_full_memory_that_refuses_writes(start_server: START) -> None:
    server = start_server("maxmemory 100mb", "maxmemory-policy noeviction")
    assert faults(await examined(server.url)) == {"eviction"}


async def test_eviction_at_random_is_a_warning(start_server: START) -> None:
    server = start_server("maxmemory 100mb", "maxmemory-policy allkeys-random")
    assert only(await examined(server.url), "eviction").status is Status.WARNING


@pytest.mark.parametrize("config", ["appendonly yes", "save 3600 1"])
async def test_persistence_snapshots_on_disk(start_server: START, config: str) -> None:
    server = start_server(config)
    assert faults(await examined(server.url)) == {"persistence"}
    assert faults(await examined(server.url, encrypted=True)) == set()
    assert only(await examined(server.url, needs=""), "persistence").status is Status.WARNING


async def test_persistence_a_disk_that_takes_no_more(start_server: START, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    server = start_server(f"dir {folder}")
    folder.rmdir()
    server.cli("BGSAVE")
    await until(lambda: server.cli("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
    lines = await examined(server.url)
    assert [line.status for line in lines["persistence"]] == [Status.FAULT, Status.OK]


# --- rights -------------------------------------------------------------------------------------------------


def of_user(lines: dict[str, list[Line]], feature: str) -> Line:
    return only(lines, f"right: {feature}")


@pytest.mark.parametrize(
    ("binary", "admin"),
    [(SERVERS[0], ()), *((binary, ("+acl",)) for binary in SERVERS)],
    ids=lambda value: label(value) if not isinstance(value, tuple) else "dry" if value else "tried",
)
async def test_rights_each_one_that_is_missing_is_named_by_its_features(
    start_server: START, binary: ServerBinary | None, admin: tuple[str, ...]
) -> None:
    everything = (*KEYS, *ALL, *NEAR, *admin)
    server = start_server(user(*everything), binary=server_or_failure(binary))
    assert faults(await rights_of(as_app(server.url))) == set()
    for right in [*ALL[:: sized(5, 1)], "+exec", *NEAR]:
        rules = [rule for rule in everything if rule != right]
        await asyncio.to_thread(server.cli, "ACL", "SETUSER", "app", "reset", *user(*rules).split()[2:])
        lines = await rights_of(as_app(server.url))
        expected = {f"right: {name}" for name, rights in FEATURES.items() if right in rights}
        assert faults(lines) == (expected or {"right: near"}), right
        for check in faults(lines):
            assert right in only(lines, check).text


@pytest.mark.parametrize("keys", [("~myapp:*",), ("~{myapp:*",), ("~other:*",)])
async def test_rights_a_pattern_of_keys_that_is_missing_is_named(start_server: START, keys: tuple[str, ...]) -> None:
    server = start_server(user(*keys, *ALL, *NEAR))
    line = of_user(await rights_of(as_app(server.url)), "calls")
    named = {key for key in KEYS if key in line.text.split()}
    assert (line.status, named) == (Status.FAULT, {*KEYS} - {*keys})


@pytest.mark.parametrize("without", [{"+get"}, {"+get", "+set"}], ids=["get", "get and set"])
async def test_rights_a_pattern_of_keys_is_tried_by_the_commands_that_are_allowed(
    start_server: START, without: set[str]
) -> None:
    server = start_server(user("~myapp:*", *[right for right in ALL if right not in without], *NEAR))
    text = of_user(await rights_of(as_app(server.url)), "calls").text.split()
    assert {*without, "~{myapp:*"} <= {*text}
    assert "~myapp:*" not in text


async def test_rights_a_pattern_of_keys_that_no_command_can_try_is_not_said_to_be_missing(start_server: START) -> None:
    without = {"+get", "+set", "+unlink"}
    server = start_server(user("~myapp:*", *[right for right in ALL if right not in without], *NEAR))
    text = of_user(await rights_of(as_app(server.url)), "calls").text.split()
    assert {"+get", "+set"} <= {*text}
    assert not {*KEYS} & {*text}


async def test_rights_that_cannot_be_tried_are_unknown(start_server: START) -> None:
    server = start_server(user(*KEYS, *[right for right in ALL if right != "+set"], *NEAR))
    lines = await rights_of(as_app(server.url))
    assert of_user(lines, "stale").status is Status.UNKNOWN
    assert "+set" in of_user(lines, "calls").text


async def test_rights_without_a_prefix_are_for_all_keys(start_server: START) -> None:
    server = start_server(user(*ALL, *NEAR))
    line = of_user(await rights_of(as_app(server.url), prefix=""), "calls")
    assert "~*" in line.text.split()


async def test_rights_another_database_needs_one_more(start_server: START) -> None:
    server = start_server(user(*KEYS, *ALL, *NEAR, "+select"), user(*KEYS, *ALL, *NEAR).replace(" app ", " other "))
    url = server.url.removesuffix("0") + "3"
    assert faults(await examined(as_app(url))) == set()
    assert faults(await examined(url.replace("://", "://other:hunter2@"))) == {"right: calls"}


async def test_rights_that_the_application_does_not_need_are_a_warning(start_server: START) -> None:
    server = start_server(user(*KEYS, *[right for right in ALL if right != "+scan"], *NEAR))
    assert of_user(await examined(as_app(server.url), needs=""), "clear").status is Status.WARNING


async def test_a_user_with_the_documented_rights_alone_is_well_and_may_not_see_the_rest(start_server: START) -> None:
    server = start_server(user(*documented("server")))
    lines = await examined(as_app(server.url), needs="take,windows")
    assert faults(lines) == set()
    unseen = {check for check, some in lines.items() if some[0].status is Status.UNKNOWN}
    assert unseen == {"eviction", "persistence", "replicas"}


def documented(what: str) -> list[str]:
    block = re.search(rf"<!-- acl {what} -->\s*```text\n(.*?)```", PAGE, re.DOTALL)
    assert block
    return block[1].split()


def test_the_rights_of_the_features_are_those_of_the_page() -> None:
    server = {right for name in ("calls", "invalidation", "take", "windows") for right in FEATURES[name]}
    assert {*KEYS, *server} == {*documented("server")}
    assert {*FEATURES["tags"]} - server == {*documented("tags")}
    assert {*FEATURES["stale"]} == {*documented("stale values")}
    assert {*FEATURES["near"], *NEAR} == {*documented("near cache")}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("this user has no permissions to run the 'get' command or its subcommand", "command"),
        ("User app has no permissions to run the 'client|tracking' command", "command"),
        ("this user has no permissions to access one of the keys used as arguments", "key"),
        ("No permissions to access a key", "key"),
        ("this user has no permissions to access one of the channels used as arguments", "channel"),
        ("No permissions to access a channel", "channel"),
    ],
)
def test_what_a_server_refuses_is_read_from_its_message(text: str, kind: str) -> None:
    assert refused_by(text) == kind


# --- tracking -----------------------------------------------------------------------------------------------


async def test_tracking_refused_by_an_acl(start_server: START) -> None:
    server = start_server(user(*KEYS, *[right for right in ALL if right != "+client|tracking"], *NEAR))
    assert only(await examined(as_app(server.url)), "tracking").status is Status.FAULT
    assert only(await examined(as_app(server.url), needs=""), "tracking").status is Status.WARNING


@pytest.mark.usefixtures("hasty")
async def test_tracking_a_way_on_which_reports_are_lost(redis_server: RedisServer) -> None:
    lost: list[bytes] = []

    def without_reports(reply: bytes) -> bytes:
        if reply.startswith(b"*3\r\n$7\r\nmessage\r\n"):
            lost.append(reply)
            return b""
        return reply

    async with FaultProxy(redis_server.port, rewrite=without_reports) as proxy:
        await proxy.set(Fault.REWRITE)
        # The question for the rights takes a while, and is not what is awaited here.
        line = only(await examined(proxy.url, timeout=3.0), "tracking")
    assert (line.status, bool(lost)) == (Status.FAULT, True)


# --- several servers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelSetup]:
    with SentinelSetup(first_server()) as setup:
        yield setup


@pytest.mark.server
async def test_sentinels_that_agree_are_well(sentinels: SentinelSetup) -> None:
    lines = await examined(sentinels.url)
    assert faults(lines) == set()
    assert only(lines, "replicas").text == "1 replica"


@pytest.mark.server
async def test_sentinel_a_service_that_no_sentinel_knows(sentinels: SentinelSetup) -> None:
    lines = await examined(sentinels.url.replace("mymaster", "yours"))
    assert "no sentinel knows a master called 'yours'" in only(lines, "sentinel").text
    assert "sentinel" in faults(lines)


@pytest.mark.server
async def test_sentinel_without_a_majority(sentinels: SentinelSetup) -> None:
    away = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    url = f"redis+sentinel://127.0.0.1:{sentinels.sentinels[0].port},{away}/{sentinels.service}/0"
    lines = await examined(url)
    assert [line.status for line in lines["sentinel"]] == [Status.WARNING, Status.WARNING, Status.FAULT]
    assert "1 of 3 sentinels answer" in lines["sentinel"][-1].text


@pytest.mark.server
async def test_login_the_one_of_the_url_is_for_the_master_behind_sentinels(sentinels: SentinelSetup) -> None:
    rules = ["reset", "on", ">hunter2", "allkeys", "allchannels", "+@all"]
    await asyncio.to_thread(sentinels.master.cli, "ACL", "SETUSER", "app", *rules)
    assert faults(await examined(as_app(sentinels.url))) == set()
    lines = await examined(as_app(sentinels.url).replace("hunter2", "hunter3"))
    assert faults(lines) == {"login"}
    assert "hunter" not in repr(lines)


@pytest.mark.server
async def test_sentinel_a_login_that_may_not_ask(sentinels: SentinelSetup) -> None:
    for sentinel in sentinels.sentinels:
        rules = ["reset", "on", ">hunter2", "-@all", "+sentinel|get-master-addr-by-name"]
        await asyncio.to_thread(sentinel.cli, "ACL", "SETUSER", "watcher", *rules)
    lines = await examined(f"{sentinels.url}?sentinel_username=watcher&sentinel_password=hunter2")
    assert "+sentinel|master" in lines["sentinel"][0].advice
    assert lines["sentinel"][-1].status is Status.FAULT
    assert "hunter2" not in repr(lines)


@pytest.mark.server
async def test_rights_a_cluster_that_may_not_be_asked_for_its_slots() -> None:
    rules = user(*KEYS, *ALL, *NEAR)
    with RedisCluster(first_server(), replicas=0, config=(rules,)) as cluster:
        line = only(await examined(as_app(cluster.url)), "right: calls")
        assert (line.status, "+cluster|slots" in line.advice) == (Status.FAULT, True)
        for node in cluster.nodes:
            await asyncio.to_thread(node.cli, "ACL", "SETUSER", "app", "+cluster|slots")
        assert "+asking" in only(await examined(as_app(cluster.url)), "right: calls").text


@pytest.mark.server
async def test_sentinel_a_sentinel_that_is_named_as_a_server(sentinels: SentinelSetup) -> None:
    assert "sentinel" in only(await examined(sentinels.sentinels[0].url), "role").text


@pytest.mark.server
async def test_sentinel_a_master_that_is_gone_and_has_no_replica(sentinels: SentinelSetup) -> None:
    with SentinelSetup(first_server(), replicas=0) as setup:
        assert faults(await examined(setup.url)) == {"replicas"}
        both = f"127.0.0.1:{setup.sentinels[0].port},127.0.0.1:{sentinels.sentinels[0].port}"
        lines = await examined(f"redis+sentinel://{both}/{setup.service}/0")
        assert "different masters" in lines["sentinel"][-1].text
        setup.master.kill()
        lines = await examined(setup.url)
    assert "connection" in faults(lines)


@pytest.mark.server
async def test_a_cluster_that_is_whole_is_well(shared_cluster: RedisCluster) -> None:
    lines = await examined(shared_cluster.url)
    assert faults(lines) == set()
    assert only(lines, "cluster").text == "all 3 nodes answer"
    assert only(lines, "slots").text == "all 16,384 slots, on 3 masters"
    assert only(lines, "replicas").status is Status.WARNING


def _knows(node: RedisServer, port: int) -> bool:
    told = node.cli("CLUSTER NODES")
    return len(told) == 4 and all(
        "handshake" not in one["flags"] for place, one in told.items() if place.endswith(f":{port}")
    )


@pytest.mark.server
async def test_cluster_a_node_that_is_down_and_slots_that_nobody_has(start_server: START) -> None:
    with RedisCluster(first_server(), replicas=0, full_coverage=False) as cluster:
        first, second, third = cluster.nodes
        # A node without slots is named by the cluster alone.
        idle = start_server("cluster-enabled yes", "cluster-node-timeout 1000", "cluster-announce-ip 127.0.0.1")
        for node in cluster.nodes:
            node.cli("CLUSTER", "MEET", "127.0.0.1", idle.port)
        await until(lambda: all(_knows(node, idle.port) for node in cluster.nodes))
        idle.kill()
        failed: list[Line] = []

        async def look() -> None:
            failed[:] = [line for line in (await examined(cluster.url))["cluster"] if str(idle.port) in line.text]

        await until(lambda: failed, look)
        assert "has failed" in failed[0].text
        third.kill()
        lines = await examined(cluster.url)
        assert any(f"127.0.0.1:{third.port}, is away" in line.text for line in lines["cluster"])
        first.cli("CLUSTER", "DELSLOTS", 0, 1)
        lines = await examined(f"redis+cluster://127.0.0.1:{first.port}")
        assert {"cluster", "slots"} <= faults(lines)
        assert second.running


@pytest.mark.server
async def test_cluster_a_server_that_is_in_none(redis_server: RedisServer) -> None:
    lines = await examined(redis_server.url.replace("redis://", "redis+cluster://").removesuffix("/0"))
    assert "it is in no cluster" in only(lines, "connection").text


class Node(ScriptedServer):
    """A node of a cluster that says what the test wants about its slots and its role."""

    slots = b""

    def _answer(self, command: list[bytes]) -> bytes | None:
        if command[0].upper() == b"CLUSTER" and command[1].upper() == b"SLOTS":
            return self.slots
        return super()._answer(command)


@pytest.mark.parametrize(("role", "fault"), [(b"master", False), (b"slave", True)])
async def test_cluster_a_master_that_says_that_it_is_a_replica(
    redis_server: RedisServer, role: bytes, fault: bool
) -> None:
    hello = b"*2\r\n$4\r\nrole\r\n$%d\r\n%b\r\n" % (len(role), role)
    async with Node(redis_server.port, {b"HELLO": hello}) as master, Node(redis_server.port) as replica:
        nodes = b"".join(b"*2\r\n$0\r\n\r\n:%d\r\n" % node.port for node in (master, replica))
        master.slots = b"*1\r\n*4\r\n:0\r\n:16383\r\n" + nodes
        url = parse(master.url.replace("redis:", "redis+cluster:").removesuffix("/0"))
        assert isinstance(url, ClusterURL)
        lines = by_check(await check_cluster(url, 30.0))
    assert ("cluster" in faults(lines)) is fault
    assert any("says that it is a replica" in line.text for line in lines["cluster"]) is fault
    assert (only(lines, "replicas").status, only(lines, "replicas").text) == (Status.OK, "1 of 1 masters")


# --- the command --------------------------------------------------------------------------------------------


def test_the_exit_status_and_the_document_say_whether_something_is_at_fault(
    redis_server: RedisServer, start_server: START, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", redis_server.url, "--json", "--timeout", "30"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    full = start_server("maxmemory 100mb", password="hunter2")
    url = full.url.replace("://", "://:hunter2@")
    assert main(["doctor", url, "--json", "--timeout", "30"]) == 1
    told = capsys.readouterr()
    assert {check["status"] for check in json.loads(told.out)["checks"] if check["check"] == "eviction"} == {"fault"}
    assert main(["doctor", url, "--timeout", "30"]) == 1
    told_to_people = capsys.readouterr()
    assert "fault   eviction" in told_to_people.out
    assert "\x1b[" not in told_to_people.out, "no colours, since it is no terminal"
    assert "hunter2" not in told.out + told.err + told_to_people.out + told_to_people.err


def test_a_feature_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "redis://localhost", "--need", "tgas"]) == 2
    assert "it takes all, or of calls" in capsys.readouterr().err
