"""The commands that look at keys and remove them act on what exists, ask before, and never beyond the prefix."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cachekit import Cache, RollingWindow
from cachekit._cli import MISSING, main
from cachekit._cli.existing import Wanted, existing
from cachekit._cli.output import Output
from cachekit.keys import render
from tests.kit.cluster import RedisCluster, slot_of
from tests.kit.ports import free_port
from tests.kit.scripted import ScriptedServer
from tests.kit.servers import RedisServer

Make = Callable[[str], ModuleType]

KEYS = ["greeting", "profile:1", "profile:2", "snapshots:42"]


class Terminal(io.StringIO):
    """A person at a terminal, who answers."""

    def isatty(self) -> bool:
        return True


class Shop:
    """A store with some keys, and the commands on it."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        async with Cache(self.url, prefix="shop:", timeout=30) as cache, Cache(self.url, prefix="other:") as other:

            @cache.cached(key="profile:<x>", ttl=600, tags=["team:reds"])
            async def profile(x: int) -> dict[str, str]:
                return {"text": "do not show me"}

            await profile(1)
            await profile(2)
            await cache.set("greeting", "hello", ttl=60)
            await other.set("greeting", "hello", ttl=60)
            window = RollingWindow(cache, "snapshots:42", 5, 60)
            await window.push({"text": "private"})
            await window.push({"text": "later"})

    def run(self, *argv: str, prefix: str = "shop:") -> tuple[int, Any]:
        """Run a command with ``--json``; return its exit status, and its document."""
        status = main([*argv, "--url", self.url, "--prefix", prefix, "--json"])
        return status, json.loads(self._capsys.readouterr().out or "null")

    def told(self, *argv: str, prefix: str = "shop:") -> tuple[int, str, str]:
        """Run a command for people; return its exit status, and what it printed."""
        status = main([*argv, "--url", self.url, "--prefix", prefix])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err

    def keys(self, *argv: str) -> list[str]:
        keys: list[str] = self.run("keys", *argv)[1]["keys"]
        return keys


@pytest.fixture(params=["server", "cluster"])
def shop(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Shop:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("shared_cluster")
        cluster.reset()
        return Shop(cluster.url, capsys)
    return Shop(request.getfixturevalue("own_server").url, capsys)


@pytest.fixture
def one_server(own_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(own_server.url, capsys)


# --- looking --------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_the_keys_of_the_prefix_are_listed_without_leases_and_tags(shop: Shop) -> None:
    assert shop.keys() == KEYS
    assert shop.keys("prof*") == ["profile:1", "profile:2"]
    assert shop.keys("*:[12]") == ["profile:1", "profile:2"]
    assert shop.keys("--windows") == ["snapshots:42"]
    assert "~{team:reds}" in shop.keys("--tags")
    assert shop.told("keys", "gr*") == (0, "greeting\n", "1 key\n")


@pytest.mark.server
def test_a_prefix_is_no_pattern(shop: Shop) -> None:
    assert shop.run("keys", prefix="s*:")[1]["keys"] == []


def test_a_list_that_reached_its_bound_says_so(one_server: Shop) -> None:
    status, told = one_server.run("keys", "--limit", "2")
    assert (status, len(told["keys"]), told["whole"]) == (1, 2, False)
    assert "there may be more: raise --limit" in one_server.told("keys", "--limit", "2")[2]
    assert one_server.run("keys", "--limit", "0")[0] == 2


async def test_a_scan_tells_how_far_it_is(redis_server: RedisServer) -> None:
    redis_server.cli("MSET", *[part for number in range(1500) for part in (f"a:{number}", 1)])
    steps: list[int] = []
    found = await existing(Wanted(url=redis_server.url, prefix="a:"), steps.append)
    assert (len(found.keys), found.whole) == (1500, True)
    assert len(steps) > 1
    assert steps == sorted(steps)


@pytest.mark.server
def test_get_prints_the_value_and_what_is_known_about_it(shop: Shop) -> None:
    status, told = shop.run("get", "profile:1")
    assert (status, told["value"], told["tags"], told["lease"]) == (
        *(0, {"text": "do not show me"}),
        *(["team:reds"], "free"),
    )
    status, told = shop.run("get", "snapshots:42")
    assert [item["text"] for item in told["value"]] == ["later", "private"]
    assert shop.run("get", "nothing") == (1, None)
    assert shop.told("get", "nothing")[::2] == (1, "nothing stands at 'nothing'\n")
    assert '"hello"' in shop.told("get", "greeting")[1]
    assert shop.run("get", "prof*")[0] == 2


@pytest.mark.parametrize("command", ["get", "ttl"])
def test_a_prefix_that_was_left_out_is_thought_of(one_server: Shop, command: str) -> None:
    status, _, told = one_server.told(command, "greeting", prefix="")
    assert (status, told) == (1, "nothing stands at 'greeting'; if the cache has a prefix, give it as --prefix\n")


def test_what_stands_at_a_lease_is_told(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = application(own_server.url)
    asyncio.run(shop.stale(1))
    asyncio.run(shop.stale.expire(1))
    for holder, text in (
        ("0123456789abcdef01234567", "held by a load, for 60.0 s more"),
        ("~0123456789abcdef01234567", "a pause after a failed load, for 60.0 s more"),
        ("nonsense", "held by something unknown"),
    ):
        own_server.cli("SET", b"{shop:opened:1}:lease\xff", holder, "PX", 60_040)
        own_server.cli("SET", "shop:opened:1", "1")
        main(["get", "opened:1", "--url", own_server.url, "--prefix", "shop:"])
        assert text[:20] in capsys.readouterr().err


def test_bytes_of_another_program_are_no_value(one_server: Shop, own_server: RedisServer) -> None:
    own_server.cli("SET", "shop:foreign", b"\xff\x00")
    assert one_server.run("get", "foreign")[1]["value"] == {"bytes": "/wA="}
    own_server.cli("SET", "shop:foreign", '1\n{"New":1}')
    assert one_server.told("get", "foreign")[0] == 2
    own_server.cli("SADD", "shop:a set", 1)
    assert one_server.told("get", "a set")[0] == 2


@pytest.mark.server
def test_get_tells_for_how_long_a_value_with_a_stale_window_is_fresh(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = application(own_server.url)
    asyncio.run(shop.stale(1))
    own_server.cli("PEXPIRE", "shop:stale:1", 700_000)
    assert main(["get", "stale:1", "--url", own_server.url, "--prefix", "shop:", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 650 < told["ttl"] <= 700
    assert 50 < told["fresh"] <= 100


def test_a_key_whose_slot_has_no_master_is_an_error(
    redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def look() -> tuple[int, str]:
        lost = slot_of("k")
        async with ScriptedServer(redis_server.port) as scripted:
            node = b"*2\r\n$0\r\n\r\n:%d\r\n" % scripted.port
            rows = [b"*3\r\n:%d\r\n:%d\r\n" % ends + node for ends in ((0, lost - 1), (lost + 1, 16383))]
            scripted.always[b"CLUSTER"] = b"*2\r\n" + b"".join(rows)
            url = scripted.url.replace("redis:", "redis+cluster:").removesuffix("/0")
            status = await asyncio.to_thread(main, ["get", "k", "--url", url, "--prefix", ""])
        return status, capsys.readouterr().err

    status, told = asyncio.run(look())
    assert (status, "has no master" in told) == (1, True)


def test_ttl_prints_for_how_long_a_key_lives(shop: Shop) -> None:
    status, told = shop.run("ttl", "profile:1")
    assert (status, 0 < told["ttl"] <= 600) == (0, True)
    assert shop.run("ttl", "nothing")[1]["there"] is False
    assert shop.told("ttl", "nothing")[0] == 1
    assert 0 < float(shop.told("ttl", "greeting")[1]) <= 60


def test_a_key_that_never_ends_is_told(one_server: Shop, own_server: RedisServer) -> None:
    own_server.cli("SET", "shop:for ever", 1)
    assert one_server.told("ttl", "for ever")[1] == "never ends\n"


# --- removing -------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_one_key_is_removed_without_a_question_and_its_lease_with_it(shop: Shop) -> None:
    assert shop.run("invalidate", "profile:1") == (0, {"invalidated": 1, "whole": True})
    assert shop.run("erase", "snapshots:42") == (0, {"erased": 1, "whole": True})
    assert shop.keys() == ["greeting", "profile:2"]


@pytest.mark.server
def test_the_variable_that_turns_caches_off_does_not_turn_the_command_off(
    one_server: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_DISABLED", "1")
    assert one_server.run("invalidate", "profile:1") == (0, {"invalidated": 1, "whole": True})
    assert one_server.keys() == ["greeting", "profile:2", "snapshots:42"]


@pytest.mark.server
def test_several_keys_are_not_removed_where_nobody_can_be_asked(shop: Shop) -> None:
    status, _, told = shop.told("invalidate", "*")
    assert (status, shop.keys()) == (1, KEYS)
    assert "invalidate 3 keys? Nobody can be asked here; write --yes" in told


@pytest.mark.server
def test_invalidate_of_a_pattern_leaves_windows_and_erase_does_not(shop: Shop) -> None:
    assert shop.run("invalidate", "*", "--yes") == (0, {"invalidated": 3, "whole": True})
    assert shop.keys() == ["snapshots:42"]
    assert shop.run("erase", "*", "--yes")[0] == 0
    assert shop.keys() == []
    assert shop.run("keys", prefix="other:")[1]["keys"] == ["greeting"]


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("[^g]*", ["profile:1", "profile:2", "snapshots:42"]),
        ("profile:[2-9]", ["profile:2"]),
        ("[g!]*", ["greeting"]),
        (r"\[!]", []),
    ],
)
def test_a_set_of_letters_is_read_as_redis_reads_it(one_server: Shop, pattern: str, keys: list[str]) -> None:
    assert one_server.run("keys", pattern)[1]["keys"] == keys


@pytest.mark.parametrize("command", [["keys"], ["invalidate", "--yes"], ["erase", "--yes"]])
def test_a_set_of_letters_that_a_shell_reads_otherwise_is_refused(one_server: Shop, command: list[str]) -> None:
    status, _, told = one_server.told(*command, "[!g]*")
    assert (status, one_server.keys()) == (2, KEYS)
    assert "write [^a] for every letter but a" in told


@pytest.mark.parametrize("key", ["shop:greeting", "shop:greet*"])
def test_a_key_that_is_written_with_its_prefix_is_mentioned(one_server: Shop, key: str) -> None:
    _, _, told = one_server.told("invalidate", key)
    assert f"{key} begins with the prefix, which stands before it once more; leave it out" in told
    assert one_server.keys() == KEYS


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("yes\n", 1), ("n\n", 4), ("\n", 4), ("", 4)])
def test_a_person_is_asked_before_several_keys_are_removed(
    one_server: Shop, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    status, out, asked = one_server.told("invalidate", "*")
    assert (status, len(one_server.keys())) == (0 if left == 1 else 1, left)
    assert "profile:1" in asked
    assert ("nothing was invalidated" in out) == (left > 1)


def test_keys_that_no_template_gives_are_left_alone(one_server: Shop, own_server: RedisServer) -> None:
    own_server.cli("SET", "shop:what?", 1)
    own_server.cli("SET", b"shop:\xff\xfe", 1)
    status, out, told = one_server.told("invalidate", "*", "--yes")
    assert (status, out) == (0, "3 keys invalidated\n")
    assert "1 key with a *, ? or [" in told
    assert own_server.cli("EXISTS", "shop:what?", b"shop:\xff\xfe") == 2


@pytest.mark.server
def test_a_tag_is_invalidated_by_its_name(shop: Shop) -> None:
    assert shop.run("invalidate", "--tag", "team:reds", "--yes")[0] == 0
    assert "~{team:reds}" not in shop.keys("--tags")
    assert shop.run("invalidate", "--tag", "team:reds")[0] == 1, "nobody was asked"


def test_a_person_is_shown_the_first_of_many_keys_and_how_many_more_there_are(
    one_server: Shop, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.cli("MSET", *[part for n in range(12) for part in (f"shop:more:{n}", "1")])
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    _, _, asked = one_server.told("invalidate", "more:*")
    assert asked.count("  more:") == 10
    assert "and 2 more" in asked
    assert "invalidate 12 keys?" in asked


def test_what_the_store_has_not_acknowledged_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    for argv in (["--tag", "team:reds"], ["profile:1", "profile:2"]):
        assert main(["invalidate", *argv, "--yes", "--url", url]) == 1
        assert "did not acknowledge it" in capsys.readouterr().err


@pytest.mark.server
def test_clear_removes_everything_of_the_prefix_and_nothing_else(shop: Shop) -> None:
    assert shop.run("clear")[0] == 1, "nobody was asked"
    status, told = shop.run("clear", "--yes")
    assert (status, told["whole"]) == (0, True)
    assert shop.keys("--tags") == []
    assert shop.run("keys", prefix="other:")[1]["keys"] == ["greeting"]


@pytest.mark.parametrize(
    "argv",
    [
        ["invalidate"],
        ["erase"],
        ["invalidate", "a", "--tag", "b"],
        ["invalidate", "--tag", "a b", "--yes"],
        ["clear", "--yes", "--prefix", ""],
        ["clear", "--yes", "--prefix", "a b"],
        ["clear", "--prefix", "a:", "--within", "soon"],
        ["erase", "~{team:7}", "--yes"],
        ["invalidate", "~{team:7}", "--yes"],
        ["keys", "--url", "memory://"],
    ],
)
def test_a_command_that_makes_no_sense_says_what_to_write(
    own_server: RedisServer, capsys: pytest.CaptureFixture[str], argv: Sequence[str]
) -> None:
    with contextlib.suppress(SystemExit):
        assert main([argv[0], "--url", own_server.url, *argv[1:]]) == 2
    assert f"cachekit {argv[0]}: " in capsys.readouterr().err


def test_a_store_that_is_away_is_an_error_without_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://app:hunter2@127.0.0.1:{free_port()}/0"
    for argv in (["keys"], ["get", "k"], ["invalidate", "k"], ["erase", "*"]):
        assert main([*argv, "--url", url, "--json"]) == 1
        told = capsys.readouterr()
        assert "hunter2" not in told.out + told.err
        assert "error" in json.loads(told.out)


# --- explain --------------------------------------------------------------------------------------------------


def explained(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any]:
    status = main(["explain", *argv, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_explain_says_what_stands_there_and_never_its_text(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = application(own_server.url)
    asyncio.run(shop.profile(7))
    status, told = explained(capsys, "shop_of_a_test:profile", "7")
    assert (status, told["served"], told["key"], told["type"]) == (0, True, "profile:7", "Profile")
    assert told["bytes"] > 20
    assert 0 <= told["age"] < 60
    assert told["kept"] == pytest.approx(told["ttl"] + 3600)
    assert (told["tags"], told["freshness"]) == ({"team:reds": "stands"}, "FRESH")
    assert main(["explain", "shop_of_a_test:profile", "user_id=7", "team=reds"]) == 0
    people = capsys.readouterr()
    assert "its TTL is not over" in people.out
    assert "do not show me" not in people.out + people.err + json.dumps(told)


def test_explain_says_why_a_call_loads(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = application(own_server.url)

    def why(*argv: str) -> str:
        status, told = explained(capsys, *argv)
        assert (status, told["served"]) == (1, False)
        return "; ".join(told["why"])

    assert "nothing stands at the key" in why("shop_of_a_test:profile", "7")
    assert "its when= decides" in why("shop_of_a_test:plain", "ann", "3")
    asyncio.run(shop.profile(7))
    assert "a tag does not stand: team:blues" in why("shop_of_a_test:profile", "7", "blues")
    asyncio.run(shop.cache.invalidate_tags("team:reds"))
    assert "a tag does not stand: team:reds" in why("shop_of_a_test:profile", "7")
    asyncio.run(shop.profile.refresh(7))
    asyncio.run(shop.profile.expire(7))
    assert "stands in only if the load fails" in why("shop_of_a_test:profile", "7")
    own_server.cli("SET", "shop:profile:7", "[1]")
    assert "a tag does not stand" in why("shop_of_a_test:profile", "7")
    own_server.cli("SET", "shop:plain:ann:3", '"text"')
    assert "do not decode" in why("shop_of_a_test:plain", "ann", "3")
    own_server.cli("SET", "shop:plain:ann:3", '1\n{"New":1}')
    assert "a later version" in why("shop_of_a_test:plain", "ann", "3")
    own_server.cli("DEL", "shop:plain:ann:3")
    own_server.cli("SET", b"{shop:plain:ann:3}:lease\xff", "0123456789abcdef01234567")
    assert "a load holds the lease" in why("shop_of_a_test:plain", "ann", "3")


def test_explain_says_why_what_stands_there_is_of_no_use(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = application(own_server.url)

    def why(*argv: str) -> str:
        return "; ".join(explained(capsys, *argv)[1]["why"])

    asyncio.run(shop.note(1))
    assert explained(capsys, "shop_of_a_test:note", "1")[1]["type"] == "str"
    own_server.cli("RENAME", "shop:note:1", "shop:note:2")
    assert "no key of this cache opens" in why("shop_of_a_test:note", "2")
    own_server.cli("RENAME", "shop:note:2", "shop:opened:1")
    assert "sealed, and the function is not private" in why("shop_of_a_test:opened", "1")
    asyncio.run(shop.plains("ann", [99], None))
    assert "a batch has remembered" in why("shop_of_a_test:plain", "ann", "99")
    assert explained(capsys, "shop_of_a_test:plains", "ann", "99")[0] == 0
    own_server.cli("SET", b"{shop:lost:1}:lease\xff", "~0123456789abcdef01234567")
    assert "there is a pause" in why("shop_of_a_test:lost", "1")
    assert "all of it: object does not come back" in why("shop_of_a_test:lost", "1")
    own_server.cli("SET", b"{shop:lost:1}:lease\xff", "nonsense")
    assert explained(capsys, "shop_of_a_test:lost", "1")[1]["lease"] == "held by something unknown"
    assert "it runs uncached: " in why("shop_of_a_test:by_part", "x")


def test_explain_takes_the_store_of_the_default_cache(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    application("memory://")
    own_server.cli("SET", "app:default:1", "1")
    status, told = explained(capsys, "shop_of_a_test:of_default", "1", "--url", own_server.url, "--prefix", "app:")
    assert (status, told["served"], told["kept"]) == (0, True, None)


def test_explain_takes_a_prefix_with_the_url_of_the_environment(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    application("memory://")
    own_server.cli("SET", "app:default:1", "1")
    monkeypatch.setenv("CACHEKIT_URL", own_server.url)
    status, told = explained(capsys, "shop_of_a_test:of_default", "1", "--prefix", "app:")
    assert (status, told["served"]) == (0, True)


def test_explain_says_that_a_stale_value_is_handed_out(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = application(own_server.url)
    asyncio.run(shop.stale(1))
    own_server.cli("PEXPIRE", "shop:stale:1", 500_000)
    status, told = explained(capsys, "shop_of_a_test:stale", "1")
    assert (status, told["freshness"], told["ttl"] < 0) == (0, "STALE", True)


def test_explain_reads_arguments_as_the_annotations_say(
    application: Make, own_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    application(own_server.url)
    assert explained(capsys, "shop_of_a_test:plain", "7", "day=8")[1]["key"] == "plain:7:8"
    assert explained(capsys, "shop_of_a_test:plains", "ann", "3")[1]["key"] == "plain:ann:3"
    for argv, text in (
        (["shop_of_a_test:plain", "ann", "tomorrow"], "day='tomorrow' is no int"),
        (["shop_of_a_test:plain", "ann"], "needs day, which its key names"),
        (["shop_of_a_test:plain", "a", "1", "2", "3"], "plain: too many positional arguments"),
        (["shop_of_a_test:rename", "1"], "is decorated with @invalidates"),
        (["shop_of_a_test:Profile"], "is not decorated"),
        (["shop_of_a_test:nothing"], "has no 'nothing'"),
        (["shop_of_a_test"], "names no function"),
    ):
        assert main(["explain", *argv]) == 2
        assert text in capsys.readouterr().err


def test_explain_says_that_a_store_in_memory_is_another_processes(
    application: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    application("memory://")
    assert "its store is in memory" in explained(capsys, "shop_of_a_test:profile", "7")[1]["why"][1]


def test_explain_reads_the_arguments_of_methods_and_those_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = """
from cachekit import Cache
cache = Cache("memory://")
class Calendar:
    @cache.cached(key="days:<name>:<days>", ttl=60)
    async def days(self, name: str, *days: int) -> list[int]: ...
"""
    (tmp_path / "calendar_of_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    told = explained(capsys, "calendar_of_a_test:Calendar.days", "ann", "1", "2")[1]
    assert told["key"] == f"days:ann:{render((1, 2))}"
    assert main(["explain", "calendar_of_a_test:Calendar.days", "ann", "1", "soon"]) == 2
    assert "days='soon' is no int" in capsys.readouterr().err


def test_explain_says_that_a_store_of_somebody_else_cannot_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = """
from cachekit import Cache
from tests.kit.bare import Bare
cache = Cache(Bare())
@cache.cached(key="k:<x>", ttl=60)
async def f(x: int) -> int: ...
"""
    (tmp_path / "foreign_of_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["explain", "foreign_of_a_test:f", "1"]) == 2
    assert "cannot be looked into" in capsys.readouterr().err


# --- the program ----------------------------------------------------------------------------------------------


def test_without_rich_the_command_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("rich", "cachekit._cli."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["keys"]) == 2
    assert capsys.readouterr().err == f"{MISSING}\n"


def test_an_installation_that_is_broken_is_not_blamed_on_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cachekit._cli.program", None)
    with pytest.raises(ModuleNotFoundError, match="program"):
        main(["keys"])


def test_advice_stands_below_the_text_of_its_line_however_often_it_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", Terminal())
    Output().advise("write the same word " * 5)
    lines = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    texts = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert len(texts) > 2
    assert all(text.startswith(" " * 29) and text[29] != " " for text in texts)


def test_the_module_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["cachekit", "--help"])
    # Another test may have imported it.
    monkeypatch.delitem(sys.modules, "cachekit.__main__", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("cachekit", run_name="__main__")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("doctor", "check", "explain", "clear"))
