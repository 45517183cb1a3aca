"""The fixtures that all tests share: servers, stores, and the check that no task outlives its test.

A test that asks for `redis_server` runs once for each server of this run. A test that asks for
`store_url` runs on ``memory://`` as well. Without any server a test fails with a sentence; it is
never skipped.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import inspect
import itertools
import logging
import os
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from cachekit import Cache, configure, functions
from cachekit._tiers import incidents
from cachekit.config import DEFAULT_TIMEOUT
from cachekit.stores.lane import Lane
from tests.kit.absences import RequirementError, check_requirements
from tests.kit.binaries import SERVERS, BinaryError, ServerBinary, first_server, label, server_or_failure
from tests.kit.chromium import BRING_A_BROWSER, chromium
from tests.kit.cluster import RedisCluster
from tests.kit.pauses import Pauses
from tests.kit.servers import RedisServer, ServerPool
from tests.kit.sizes import is_long
from tests.kit.tls import Certificates, has_tls
from tests.kit.waiting import PATIENCE

# In debug mode asyncio reports each callback that took over 0.1 s. In these tests that means a noisy machine, and such
# a record must not count in a test.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))


# Debug mode records the stack of every callback, coroutine and future, which took more than half of the time of all
# tests. The innermost frame says where an object was made. The checks of debug mode are the same without the rest.
asyncio.constants.DEBUG_STACK_DEPTH = 1
_walk_stack = traceback.walk_stack
# Futures in C ask for the whole stack in spite of that constant.
traceback.walk_stack = lambda frame: itertools.islice(_walk_stack(frame), 1)

# A pause of the machine must cost no call its deadline. A test about deadlines names its own, or has `usual_timeout`.
_OPENERS = (Cache.__init__.__kwdefaults__, configure.__kwdefaults__)
for _defaults in _OPENERS:
    _defaults["timeout"] = PATIENCE
functions.DEFAULT_TIMEOUT = PATIENCE
# Nor must it end an incident, which would then be two records of the log. Tests about its end have `usual_quiet`.
_QUIET = incidents.QUIET, incidents.LONGEST_QUIET
incidents.QUIET, incidents.LONGEST_QUIET = PATIENCE, PATIENCE * incidents.LONGEST_QUIET / incidents.QUIET

# Nor is a slow example a failure.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

OF_A_SERVER = {
    "binary",
    "own_server",
    "redis_server",
    "sentinel_setup",
    "shared_cluster",
    "start_server",
    "start_tls",
    "whole",
    "whole_cluster",
}
"""Fixtures that are, or start, a real server. A test with such a fixture is marked `server`."""

COSTLY = {"outage", "whole", "whole_cluster"}
"""Fixtures of a module that start a cluster or an outage. The tests that share one run in one worker."""

MOST_WORKERS = 16

LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""How many tests were left out for want of a browser, and how many because they take long."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--long`` and ``--pauses``."""
    parser.addoption(
        "--long",
        action="store_true",
        help="run also what takes long: tests marked `long`, and all others in their full size, as CI does",
    )
    parser.addoption(
        "--pauses",
        metavar="SECONDS",
        type=float,
        help="let the process stand still at random moments of every test, as on a busy machine: --pauses 0.5",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Fail at once when a requirement of this run is missing."""
    if config.getoption("--long"):
        # `tests.kit.sizes` reads it, in this process and in the workers.
        os.environ["CACHEKIT_LONG"] = "1"
    if seconds := config.getoption("--pauses"):
        config.pluginmanager.register(Pauses(seconds))
    config.stash[LEFT_OUT] = {}
    try:
        check_requirements()
    except (BinaryError, RequirementError, FileNotFoundError) as missing:
        raise pytest.UsageError(str(missing)) from None


def pytest_report_header() -> str:
    """Say which servers the tests run on."""
    found = ", ".join(
        f"{label(server)} ({server.path}{', built with TLS' if has_tls(server) else ''})"
        for server in SERVERS
        if server
    )
    return f"redis-servers: {found or 'none'}"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run few tests in this process: starting workers takes longer than the tests do.

    Tests wait for servers and deadlines more than half of their time. So the number of workers is twice the number
    of cores, and one more. Beyond `MOST_WORKERS` each worker costs more to start than it saves.
    """
    named = [argument for argument in config.args if "::" in argument or argument.endswith(".py")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if named and named == config.args else min(2 * cores + 1, MOST_WORKERS)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of a server or a browser, and keep the tests that share a costly fixture in one worker."""
    fixtures = {*getattr(item, "fixturenames", ())}
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if fixtures & OF_A_SERVER or parameters.get("store_url", "memory") != "memory":
        item.add_marker("server")
    if "browser" in fixtures:
        item.add_marker("browser")
    for fixture in fixtures & COSTLY:
        place = "-".join(item.path.relative_to(item.config.rootpath).with_suffix("").parts)
        item.add_marker(pytest.mark.xdist_group(f"{place}-{fixture}-{label(parameters.get(fixture))}"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that this run is not for. The options -k and -m have had their turn before."""
    browser = [item for item in items if item.get_closest_marker("browser") and chromium() is None]
    long = [item for item in items if item.get_closest_marker("long") and not is_long()]
    counts = config.stash[LEFT_OUT] = {"browser": len(browser), "long": len(long)}
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = counts
    if left_out := {*browser, *long}:
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]
    # The tests that wait, and those that compute for long, come first, so that no worker is alone at the end.
    items.sort(key=lambda item: item.get_closest_marker("server") is None and "models" not in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a worker how many tests it left out. All workers leave out the same, unless one crashed."""
    node.config.stash[LEFT_OUT].update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which tests were left out, why, and how to run them."""
    counts = config.stash[LEFT_OUT]
    if not any(counts.values()):
        return
    terminalreporter.section("left out", yellow=True)
    if long := counts["long"]:
        terminalreporter.line(f"{long} tests take long: --long runs them, and all others in their full size.")
    if browser := counts["browser"]:
        terminalreporter.line(
            f"{browser} tests of the writing coach, since there is no Chromium on this machine. To run them: "
            f"{BRING_A_BROWSER}. CACHEKIT_REQUIRE=browser makes its absence a failure."
        )


@pytest.fixture(scope="session")
def server_pool() -> Iterator[ServerPool]:
    """The shared servers, one for each binary."""
    pool = ServerPool()
    yield pool
    pool.close()


@pytest.fixture(params=SERVERS, ids=label)
def redis_server(request: pytest.FixtureRequest, server_pool: ServerPool) -> RedisServer:
    """A shared, empty server, not to be hurt or configured: once for each server of this run."""
    return server_pool.empty(server_or_failure(request.param))


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[RedisCluster]:
    """Three masters that the tests of the contract share."""
    with RedisCluster(first_server(), replicas=0) as cluster:
        yield cluster


@pytest.fixture(params=["memory", *SERVERS, "resp3", "cluster"], ids=label)
def store_url(request: pytest.FixtureRequest, server_pool: ServerPool) -> str:
    """The URL of an empty store: ``memory://``, each server of this run, one by RESP3, and a cluster."""
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
    """A function that starts a server for one test: ``start_server("maxmemory 2mb")``.

    It takes lines of redis.conf, and ``password`` and ``binary`` by name. Without ``binary`` it starts
    the preferred server.
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


@pytest.fixture
def usual_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let caches have the deadline that they have for users."""
    for defaults in _OPENERS:
        monkeypatch.setitem(defaults, "timeout", DEFAULT_TIMEOUT)
    monkeypatch.setattr(functions, "DEFAULT_TIMEOUT", DEFAULT_TIMEOUT)


@pytest.fixture
def usual_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let incidents end as soon as they do for users."""
    for name, seconds in zip(("QUIET", "LONGEST_QUIET"), _QUIET, strict=True):
        monkeypatch.setattr(incidents, name, seconds)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the writes to servers: the address of each, in order. A write is a round trip."""
    sent: list[str] = []
    send = Lane._send

    def counted(lane: Lane) -> None:
        before = len(lane._unanswered)
        send(lane)
        if len(lane._unanswered) > before:
            sent.append(str(id(lane)))

    monkeypatch.setattr(Lane, "_send", counted)
    return sent


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of one throwaway authority, for all tests of this process."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture
async def _tasks_of_the_loop() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # A task that was cancelled or asked to end gets the turns of the loop that it needs to end.
    for _ in range(10):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"the test ended, and these tasks did not: {left}"


@pytest.fixture(autouse=True)
def no_task_is_left_over(request: pytest.FixtureRequest) -> None:
    """No task of the loop may be alive after an async test: each task has an owner that ends it."""
    function = getattr(request, "function", None)
    # Sync tests get no loop; they may want to run their own.
    if function is not None and inspect.iscoroutinefunction(inspect.unwrap(function)):
        request.getfixturevalue("_tasks_of_the_loop")


@pytest.fixture(autouse=True)
def the_default_cache_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default cache of one test is not the default of another, and no developer's Redis on the usual port."""
    monkeypatch.setattr(functions, "_configured", None)
    monkeypatch.setenv("CACHEKIT_URL", "redis://localhost:1/0")


@pytest.fixture(autouse=True)
def the_level_of_the_log_is_restored() -> Iterator[None]:
    """A page or an example that sets it takes no records from a later test of its process."""
    logger = logging.getLogger("cachekit")
    level = logger.level
    yield
    logger.setLevel(level)
