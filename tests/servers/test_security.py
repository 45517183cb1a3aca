"""TLS is verified, logins are used and never shown, and a user needs exactly the documented permissions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from cachekit import Cache, SnapshotStore
from cachekit.clock import SystemClock
from cachekit.events import Event, Hit, StoreFailed
from cachekit.stores import TrackingStore
from cachekit.stores.connect import open_store
from tests import ROOT
from tests.kit.binaries import SERVERS, ServerBinary, first_server, label, server_or_failure
from tests.kit.cluster import SLOTS, RedisCluster
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.tls import Certificates, tls_server, tls_variants
from tests.kit.waiting import PATIENCE, until

# All that is refused here is refused at once, so no test waits for it.
T = PATIENCE
PAGE = ROOT / "docs" / "operations.md"


async def is_used(cache: Cache) -> bool:
    """Tell whether ``cache`` stores and finds."""
    return await cache.set("k", 1, ttl=60) and await cache.get("k") == 1


async def everything(cache: Cache) -> None:
    """Do every operation of the toolkit on one server."""

    @cache.cached(key="value:<x>", ttl=60, lease=0.05)
    async def value(x: int) -> list[int]:
        await asyncio.sleep(0.06 if x == 3 else 0)
        return [x]

    @cache.invalidates("value:<x>", "value:<y>")
    async def write(x: int, y: int) -> None: ...

    # A load of more than a third of its lease renews it. A caller that starts meanwhile looks at the lease.
    first = asyncio.create_task(value(3))
    await asyncio.sleep(0.01)
    await asyncio.gather(first, value(3))
    await value(4)
    await value(3)
    await value.refresh(3)
    await write(3, 4)

    @cache.cached(key="none:<x>", ttl=60, when=lambda result: False)
    async def kept_by_nobody(x: int) -> int:
        return x

    await kept_by_nobody(1)
    await cache.set("k", 1, ttl=60)
    await cache.get("k")
    await cache.take("k")
    await cache.delete("k")
    snapshots = SnapshotStore(cache)
    await snapshots.save_snapshot("42", "text", 1)
    await snapshots.get_snapshot_pair("42")
    # The first snapshot is too old when the third is saved, and the list has lived on.
    aging = SnapshotStore(cache, ttl=0.2)
    for _ in range(3):
        await aging.save_snapshot("43", "text", 1)
        await asyncio.sleep(0.12)
    await snapshots.forget("42")


# --- TLS ------------------------------------------------------------------------------------------------


Start = Callable[..., str]


@pytest.fixture(params=tls_variants(), ids=lambda variant: variant.label)
def start_tls(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Start]:
    """A function that starts a server with TLS and returns its ``rediss://`` URL."""
    with ExitStack() as stack:

        def start(*config: str, shown: Path = certificates.server, clients: bool = False) -> str:
            port = stack.enter_context(tls_server(request.param, certificates, shown, *config, clients=clients))
            return f"rediss://localhost:{port}/0"

        yield start


async def test_a_private_authority_is_trusted_when_it_is_named(
    start_tls: Start, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    url = start_tls()
    async with Cache(f"{url}?ssl_ca_certs={certificates.ca}", timeout=T) as cache:
        assert await is_used(cache)
    assert not caplog.records


async def test_an_authority_that_nobody_named_is_not_trusted(
    start_tls: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cache(start_tls(), timeout=T) as cache:
        assert not await is_used(cache)
    (text,) = [record.getMessage() for record in caplog.records if record.name == "cachekit"]
    assert "its certificate was refused: " in text
    assert "self-signed certificate" in text or "unable to get local issuer certificate" in text


async def test_a_certificate_of_another_host_is_not_trusted(
    start_tls: Start, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    url = start_tls(shown=certificates.elsewhere)
    async with Cache(f"{url}?ssl_ca_certs={certificates.ca}", timeout=T) as cache:
        assert not await is_used(cache)
    assert "its certificate was refused: Hostname mismatch, certificate is not valid for 'localhost'" in caplog.text


async def test_a_client_shows_its_certificate_where_one_is_asked_for(
    start_tls: Start, certificates: Certificates
) -> None:
    url = f"{start_tls(clients=True)}?ssl_ca_certs={certificates.ca}"
    async with Cache(url, timeout=T) as cache:
        assert not await is_used(cache)
    shown = f"{url}&ssl_certfile={certificates.client}&ssl_keyfile={certificates.client}"
    async with Cache(shown, timeout=T) as cache:
        assert await is_used(cache)


async def test_a_login_goes_through_tls_and_is_shown_nowhere(
    start_tls: Start, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = start_tls("user app on >hunter2 ~* +@all", "user default off")
    reports: list[Event] = []
    for password in ("hunter2", "hunter3"):
        login = url.replace("://", f"://app:{password}@")
        async with Cache(f"{login}?ssl_ca_certs={certificates.ca}", timeout=T) as cache:
            cache.observe(reports.append)
            assert await is_used(cache) == (password == "hunter2")
            assert "hunter" not in repr(cache)
    assert {event.cause for event in reports if isinstance(event, StoreFailed)} == {"AUTH"}
    assert "hunter" not in caplog.text + repr(reports)


async def test_a_cluster_is_reached_through_tls(start_tls: Start, certificates: Certificates) -> None:
    # The cluster is one node that has all slots, and does not know its own name.
    url = start_tls("cluster-enabled yes")
    port = int(url.rpartition(":")[2].partition("/")[0])

    def prepare() -> None:
        with redis.Redis("localhost", port, ssl=True, ssl_ca_certs=str(certificates.ca)) as node:
            node.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))

    await asyncio.to_thread(prepare)
    async with Cache(f"rediss+cluster://localhost:{port}?ssl_ca_certs={certificates.ca}", timeout=T) as cache:
        # The node takes a moment to find that every slot has a master.
        used: list[bool] = []

        async def use() -> None:
            used.append(await is_used(cache))

        await until(lambda: used[-1], use)


# --- ACL ------------------------------------------------------------------------------------------------


def documented(what: str) -> list[str]:
    """Return the rules that docs/operations.md gives ``what``: the block behind its marker."""
    block = re.search(rf"<!-- acl {what} -->\s*```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, f"docs/operations.md has no block for {what}"
    return block[1].split()


def user(rules: list[str]) -> str:
    return f"user app on >hunter2 resetchannels -@all {' '.join(rules)}"


async def denials(url: str) -> set[str]:
    """Return the commands that a user is refused when the toolkit does every operation."""
    reports: list[Event] = []
    async with Cache(url.replace("://", "://app:hunter2@"), prefix="myapp:", timeout=T) as cache:
        cache.observe(reports.append)
        await everything(cache)
        # Reads that come while the first is under way travel as one command.
        await asyncio.gather(*[cache.get(f"value:{n}") for n in range(3)])
    return {f"{event.operation} {event.cause}" for event in reports if isinstance(event, StoreFailed)}


@pytest.mark.parametrize("binary", SERVERS, ids=label)
async def test_the_documented_permissions_are_enough(
    start_server: Callable[..., RedisServer], binary: ServerBinary | None
) -> None:
    server = start_server(user(documented("server")), binary=server_or_failure(binary))
    assert await denials(server.url) == set()
    log = server.cli("ACL", "LOG")
    assert log == []


async def stale_denials(url: str) -> set[str]:
    """Return the commands that a user is refused when a function with stale windows does all that it does."""
    reports: list[Event] = []
    async with Cache(url.replace("://", "://app:hunter2@"), prefix="myapp:", timeout=T) as cache:
        cache.observe(reports.append)

        @cache.cached(key="stale", ttl=60, stale_while_revalidate=60, stale_if_error=60, refresh_ahead=0.99)
        async def stale() -> int:
            if fails:
                raise LookupError
            return 1

        fails = False
        for _ in range(2):
            await asyncio.gather(*[stale() for _ in range(3)])
            await until(lambda: not cache.loading_in_background)
        await stale.expire()
        fails = True
        await stale()
        await until(lambda: not cache.runtime.background)
        await stale.take()
    return {f"{event.operation} {event.cause}" for event in reports if isinstance(event, StoreFailed)}


async def test_the_documented_permissions_are_enough_for_stale_values(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server(user([*documented("server"), *documented("stale values")]))
    assert await stale_denials(server.url) == set()
    assert server.cli("ACL", "LOG") == []


@pytest.mark.parametrize("rule", documented("stale values") if PAGE.exists() else [])
async def test_each_documented_permission_for_stale_values_is_needed(
    start_server: Callable[..., RedisServer], rule: str
) -> None:
    rules = [*documented("server"), *documented("stale values")]
    server = start_server(user([one for one in rules if one != rule]))
    with contextlib.suppress(LookupError):
        await stale_denials(server.url)
    assert server.cli("ACL", "LOG") != []


async def tagged_denials(url: str) -> set[str]:
    """Return the commands that a user is refused when functions with tags do all that they do."""
    reports: list[Event] = []
    async with Cache(url.replace("://", "://app:hunter2@"), prefix="myapp:", timeout=T) as cache:
        cache.observe(reports.append)

        @cache.cached(key="tagged:<x>", ttl=60, tags=["row:<x>", True])
        async def tagged(x: int) -> int:
            return x

        @tagged.many(absent_ttl=60)
        async def many(xs: list[int]) -> dict[int, int]:
            return {x: x for x in xs if x}

        for _ in range(2):
            await asyncio.gather(*map(tagged, range(3)))
            await many([*range(6)])
            await tagged.refresh(1)
            await tagged.set(1, 1)
            async with tagged.writing(2) as put:
                put(2)
            await tagged.ttl(2)
            await tagged.touch(2, 600)
            await cache.get_many(["tagged:1", "tagged:2"])
            await tagged.take(1)
            await cache.invalidate_tags("row:1")
            await tagged.invalidate_all()
    return {f"{event.operation} {event.cause}" for event in reports if isinstance(event, StoreFailed)}


@pytest.mark.parametrize("lacking", [None, *documented("tags")] if PAGE.exists() else [])
async def test_the_documented_permissions_are_enough_for_tags_and_needed(
    start_server: Callable[..., RedisServer], lacking: str | None
) -> None:
    rules = [one for one in [*documented("server"), *documented("tags")] if one != lacking]
    server = start_server(user(rules))
    assert bool(await tagged_denials(server.url)) == bool(lacking)
    assert bool(server.cli("ACL", "LOG")) == bool(lacking)


@pytest.mark.parametrize("rule", documented("server") if PAGE.exists() else [])
async def test_no_documented_permission_is_superfluous(start_server: Callable[..., RedisServer], rule: str) -> None:
    server = start_server(user([other for other in documented("server") if other != rule]))
    await denials(server.url)
    assert server.cli("ACL", "LOG"), f"nothing was refused without {rule}"


# --- ACL of the near cache --------------------------------------------------------------------------------


async def tracked(server: RedisServer, protocol: int, done: Callable[[list[str], float], bool]) -> list[str]:
    """Track as ``app`` until ``done`` holds for the reports and for `Tracking.until`; return the reports."""
    reports: list[str] = []
    store = open_store(f"{server.url}?protocol={protocol}".replace("://", "://app:hunter2@"), clock=SystemClock())
    assert isinstance(store, TrackingStore)
    tracking = store.track("myapp:", lambda keys: reports.extend(keys or ()), lambda error: reports.append(str(error)))
    try:
        async with asyncio.timeout(PATIENCE):
            while not done(reports, tracking.until):
                await asyncio.sleep(0.01)
                if tracking.until:
                    server.cli("SET", "myapp:k", 1)
    finally:
        await store.aclose()
    return reports


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("binary", SERVERS, ids=label)
async def test_the_documented_permissions_are_enough_for_a_near_cache(
    start_server: Callable[..., RedisServer], binary: ServerBinary | None, protocol: int
) -> None:
    rules = documented("near cache") if protocol == 2 else ["+client|tracking", "+ping"]
    server = start_server(user(rules), binary=server_or_failure(binary))
    await tracked(server, protocol, lambda reports, until: "myapp:k" in reports)
    assert server.cli("ACL", "LOG") == []


@pytest.mark.parametrize(
    "rule", [rule for rule in documented("near cache") if rule != "+pttl"] if PAGE.exists() else []
)
async def test_no_documented_permission_of_a_near_cache_is_superfluous(
    start_server: Callable[..., RedisServer], rule: str
) -> None:
    server = start_server(user([other for other in documented("near cache") if other != rule]))
    # On a busy machine the first attempt may report that it took too long.
    await tracked(server, 2, lambda reports, until: any("NOPERM" in report for report in reports))
    assert server.cli("ACL", "LOG"), f"nothing was refused without {rule}"


@pytest.mark.parametrize("lacking", [None, "+pttl"])
async def test_hits_are_near_with_the_documented_permissions_and_plain_hits_without_pttl(
    start_server: Callable[..., RedisServer], lacking: str | None
) -> None:
    rules = [rule for rule in [*documented("server"), *documented("near cache")] if rule != lacking]
    server = start_server(user(rules))
    loads = 0
    hits: list[Event] = []
    async with Cache(server.url.replace("://", "://app:hunter2@"), prefix="myapp:", timeout=T, near=10) as cache:

        @cache.cached(key="value:<n>", ttl=60)
        async def value(n: int) -> int:
            nonlocal loads
            loads += 1
            return n

        await value(1)
        cache.observe(hits.append)
        async with asyncio.timeout(PATIENCE):
            # Wait for near hits. Without that rule, count the hits that come while tracking is confirmed for a while.
            while not any(getattr(event, "near", False) for event in hits) and (lacking is None or len(hits) < 100):
                await value(1)
                await asyncio.sleep(0.01)
    assert loads == 1
    assert all(isinstance(event, Hit) for event in hits), hits
    assert bool(server.cli("ACL", "LOG")) == (lacking is not None)


async def test_another_prefix_is_out_of_reach(start_server: Callable[..., RedisServer]) -> None:
    server = start_server(user(documented("server")))
    async with Cache(server.url.replace("://", "://app:hunter2@"), prefix="other:", timeout=T) as cache:
        assert not await is_used(cache)


@pytest.mark.server
async def test_the_documented_permissions_are_enough_for_a_cluster() -> None:
    rules = user([*documented("server"), *documented("cluster")])
    with RedisCluster(first_server(), replicas=0, config=(rules,)) as cluster:
        migration = cluster.migrate("myapp:value:4")
        assert await denials(cluster.url) <= {"acquire_lease TRYAGAIN"}
        for node in cluster.nodes:
            assert node.cli("ACL", "LOG") == []
        migration.move_keys()
        migration.finish()


@pytest.mark.server
async def test_the_documented_permissions_are_enough_with_sentinels() -> None:
    rules = user([*documented("server"), *documented("master behind sentinels")])
    with SentinelSetup(first_server(), replicas=0, config=(rules,)) as sentinel_setup:
        for sentinel in sentinel_setup.sentinels:
            sentinel.cli("ACL", "SETUSER", "watcher", "on", ">hunter3", "-@all", *documented("sentinel"))
        login = f"{sentinel_setup.url}?sentinel_username=watcher&sentinel_password=hunter3"
        assert await denials(login) == set()
        for server in (sentinel_setup.master, *sentinel_setup.sentinels):
            assert server.cli("ACL", "LOG") == []
