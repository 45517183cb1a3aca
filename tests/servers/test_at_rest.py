"""Private at rest: with keys, no byte of a text reaches the disk of Redis, its operators, its replicas, the network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from cachekit import Cache, SnapshotStore, new_key
from tests.kit.binaries import SERVERS, ServerBinary, label, server_or_failure
from tests.kit.proxy import FaultProxy
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

RUN: Final = 12
"""So many bytes of a text in a row are no chance."""

TEXTS: Final = [
    "I definately recieve seperate letters from the goverment every wensday.",
    "Señor Müller sagt: »Ich weiß nicht, was soll es bedeuten.« 🙂🙃 日本語の秘密の文章です。",
    'quoted "words", a \\ backslash\nand a line: {"text": "like JSON"}',
    *[f"number {number}: a text that only its writer may read, and nobody who runs the server" for number in range(5)],
]


def forms_of(text: str) -> list[bytes]:
    """Return ``text`` as UTF-8, as JSON with and without escapes, and each as MONITOR shows it."""
    escaped = json.dumps(text)[1:-1].encode()
    plain = [text.encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode(), escaped]
    shown = [repr(form)[2:-1].replace("\\'", "'").replace('"', '\\"').encode() for form in plain]
    return [*plain, *shown]


def found_in(haystack: bytes) -> list[str]:
    """Return the texts of which a run of `RUN` bytes stands in ``haystack``."""
    return [
        text
        for text in TEXTS
        if any(form[at : at + RUN] in haystack for form in forms_of(text) for at in range(len(form) - RUN + 1))
    ]


@asynccontextmanager
async def monitored(server: RedisServer) -> AsyncIterator[bytearray]:
    """Yield what MONITOR shows of the server, as it comes; all of it when the block has ended."""
    shown = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    async def listen() -> None:
        while data := await reader.read(65536):
            shown.extend(data)

    listening = asyncio.create_task(listen())
    writer.write(b"MONITOR\r\n")
    await until(lambda: b"+OK" in shown)
    try:
        yield shown
    finally:
        server.cli("ECHO", "that was the last command")
        await until(lambda: b"that was the last command" in shown)
        writer.close()
        await listening


async def live(url: str, *rotation: list[str] | None) -> None:
    """Save, read, forget and rotate, as users do, and cache a private value of each text."""
    for some in rotation:
        async with Cache(url, timeout=10, keys=some) as cache:
            snapshots = SnapshotStore(cache)

            @cache.cached(key="notes:<number>", ttl=600, private=some is not None)
            async def notes(number: int) -> dict[str, str]:
                return {"text": TEXTS[number]}

            for number, text in enumerate(TEXTS):
                for user_id in ("42", f"forgotten {number}"):
                    assert await snapshots.save_snapshot(user_id, text, len(text.split()))
                assert await snapshots.get_snapshot_pair("42") is not None or number == 0
                assert await notes(number) == await notes(number) == {"text": text}
                assert await snapshots.forget(f"forgotten {number}")
                if number % 2:
                    assert await notes.invalidate(number)
            assert {found.text for found in await snapshots.get_recent_snapshots("42", 50)} == {*TEXTS}


async def written_and_shown(server: RedisServer, *rotation: list[str] | None) -> dict[str, bytes]:
    """Return all that the server has on its disk, has shown, and has sent and got, after users have lived with it."""
    async with monitored(server) as shown, FaultProxy(server.port) as proxy:
        await live(proxy.url, *rotation)
        # `save 1 1` has written it within a second or two; the append-only file is written before each answer.
        appended = server.on_disk()
        await until(lambda: is_saved(server))
        seen = bytes(proxy.seen)
    return {"the disk": appended + server.on_disk(), "MONITOR": bytes(shown), "the network": seen}


def is_saved(server: RedisServer) -> bool:
    """Tell whether all changes are in the dump."""
    state = server.cli("INFO", "persistence")
    return not state["rdb_changes_since_last_save"] and not state["rdb_bgsave_in_progress"]


Started = Callable[..., RedisServer]
ON_DISK: Final = ("save 1 1", "appendonly yes", "rdbcompression no", "rdbchecksum no")


@pytest.mark.parametrize("binary", SERVERS, ids=label)
async def test_with_keys_no_run_of_twelve_bytes_of_a_text_is_found_anywhere(
    start_server: Started, binary: ServerBinary | None
) -> None:
    server = start_server(*ON_DISK, binary=server_or_failure(binary))
    key, other = new_key(), new_key()
    places = await written_and_shown(server, [other], [key, other])
    assert all(b"~sealed" in place for place in places.values()), "it was looked for where it would be"
    assert {name: found_in(place) for name, place in places.items()} == {name: [] for name in places}
    assert not any(secret.encode() in place for place in places.values() for secret in (key, other))


@pytest.mark.parametrize("binary", SERVERS, ids=label)
async def test_without_keys_the_same_test_finds_every_text_everywhere(
    start_server: Started, binary: ServerBinary | None
) -> None:
    server = start_server(*ON_DISK, binary=server_or_failure(binary))
    places = await written_and_shown(server, None, None)
    assert {name: found_in(place) for name, place in places.items()} == dict.fromkeys(places, TEXTS)


async def test_a_replica_and_its_disk_have_nothing_of_a_text_either(start_server: Started) -> None:
    master = start_server()
    replica = start_server(*ON_DISK, f"replicaof 127.0.0.1 {master.port}")
    await until(lambda: replica.cli("INFO", "replication").get("master_link_status") == "up")
    async with monitored(replica) as shown:
        await live(master.url, [new_key()])
        offset = master.cli("INFO", "replication")["master_repl_offset"]
        await until(lambda: replica.cli("INFO", "replication")["slave_repl_offset"] >= offset)
        await until(lambda: is_saved(replica))
    for place in (bytes(shown), replica.on_disk()):
        assert b"~sealed" in place
        assert found_in(place) == []
