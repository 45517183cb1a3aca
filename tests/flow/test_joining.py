"""The table of calls that may join a flight: the same rows as in the code and in the docs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cachekit import MISS, Cache
from cachekit._flow.flight import Flight, Landed, State
from cachekit._flow.joining import Joining, ReadResult, Relation
from cachekit._flow.nesting import enter, leave
from cachekit._tiers.outcome import Distrusted, Down, Outcome
from cachekit.events import StoreFailed
from cachekit.testing import FailingStore
from tests import ROOT

PATIENCE = 30.0
PLAN, OTHER_PLAN = object(), object()

ROWS: dict[Relation, Joining] = {
    Relation.FOREIGN: Joining.OPEN,
    Relation.LATER: Joining.JOIN,
    Relation.FENCED: Joining.JOIN,
    Relation.VOIDED: Joining.OPEN,
    Relation.UNKNOWN: Joining.FOLLOW,
    Relation.CIRCLE: Joining.ALONE,
}


def flight(*, token: bytes | None = None) -> Flight:
    opened = Flight("k", PLAN, asyncio.get_running_loop())
    opened.become(State.LOADING)
    if token is not None:
        opened.lease = Cache("memory://").runtime.renewals.get().hold("k", token, 5.0, 60.0)
    return opened


def test_every_relation_has_its_row_in_this_test_and_in_the_docs() -> None:
    assert {relation: relation.joining for relation in Relation} == ROWS
    page = (ROOT / "docs" / "architecture.md").read_text()
    for relation, joining in ROWS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{relation.name}` |"))
        assert f"| `{joining.name}` |" in row


async def test_the_flight_of_another_function_is_foreign() -> None:
    assert ReadResult(MISS).relation(flight(), OTHER_PLAN) is Relation.FOREIGN


async def test_a_load_that_had_not_begun_when_the_call_read_is_later() -> None:
    assert ReadResult(MISS).relation(flight(), PLAN) is Relation.LATER
    assert ReadResult(Down("timeout"), earlier=flight()).relation(flight(), PLAN) is Relation.LATER


@pytest.mark.parametrize(
    ("outcome", "token", "holder", "relation"),
    [
        (MISS, b"a", b"a", Relation.FENCED),
        (Distrusted(), b"a", b"a", Relation.FENCED),
        (MISS, b"a", b"b", Relation.VOIDED),
        (MISS, b"a", None, Relation.VOIDED),
        (MISS, None, None, Relation.VOIDED),
        (Down("timeout"), b"a", b"a", Relation.UNKNOWN),
    ],
    ids=str,
)
async def test_a_load_that_had_begun_is_judged_by_its_lease(
    outcome: Outcome, token: bytes | None, holder: bytes | None, relation: Relation
) -> None:
    earlier = flight(token=token)
    assert ReadResult(outcome, earlier, holder).relation(earlier, PLAN) is relation


async def test_a_load_inside_itself_is_a_circle() -> None:
    around = flight()
    before = enter(around)
    try:
        assert ReadResult(MISS).relation(around, PLAN) is Relation.CIRCLE
    finally:
        leave(around, before)


async def test_a_flight_that_has_ended_changes_its_state_no_more() -> None:
    landed = flight()
    landed.land(Landed(1))
    for state in State:
        landed.become(state)
        assert landed.state is State.LANDED


async def test_a_call_inside_a_load_does_not_wait_for_the_flight_that_follows_that_load() -> None:
    """With the store down a second caller follows the load that goes on, and the load calls its own function."""
    async with Cache(FailingStore()) as cache:
        store = cache._store
        assert isinstance(store, FailingStore)
        store.fail()
        follows, depth = asyncio.Event(), 0

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            nonlocal depth
            depth += 1
            if depth > 1:
                return 1
            await follows.wait()
            return 1 + await f()

        first = asyncio.ensure_future(f())
        while not depth:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(f())
        while (opened := cache.runtime.flights.find("k")) is None or opened.after is None:
            await asyncio.sleep(0)
        follows.set()
        async with asyncio.timeout(PATIENCE):
            assert await first == 2
            assert await second == 1


@pytest.mark.parametrize("early_is_batch", [False, True], ids=["one before", "batch before"])
@pytest.mark.parametrize("late_is_batch", [False, True], ids=["one", "batch"])
async def test_a_value_that_a_flight_has_found_is_not_for_a_call_that_joined_after_it_had_asked(
    monkeypatch: pytest.MonkeyPatch, *, late_is_batch: bool, early_is_batch: bool
) -> None:
    store, source = FailingStore(), [1]
    one, other = Cache(store, timeout=PATIENCE), Cache(store, timeout=PATIENCE)
    failed = asyncio.Event()
    one.observe(lambda event: failed.set() if isinstance(event, StoreFailed) else None)

    async def value(key: int) -> int:
        return source[-1]

    async def values(keys: list[int]) -> dict[int, int]:
        return dict.fromkeys(keys, source[-1])

    ours = one.cached(key="value:<key>", ttl=60)(value)
    theirs = other.cached(key="value:<key>", ttl=60)(value)
    batch = ours.many(each="keys")(values)
    verb = "run_many" if early_is_batch else "run"
    run, asked, answered, go_on = getattr(store, verb), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        if asked.is_set():
            return await run(*args)
        asked.set()
        # The other process has filled since this one has missed.
        assert await theirs(7) == 1
        answer = await run(*args)
        answered.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(store, verb, slow)
    early: asyncio.Task[Any] = asyncio.create_task(batch([7]) if early_is_batch else ours(7))
    await answered.wait()
    source.append(2)
    assert await theirs.invalidate(7)
    # Its own read tells nothing: it shares what the flight brings, whose answer is still on its way.
    store.fail()
    late: asyncio.Task[Any] = asyncio.create_task(batch([7]) if late_is_batch else ours(7))
    await failed.wait()
    await asyncio.sleep(0.01)
    store.recover()
    go_on.set()
    assert await late == ({7: 2} if late_is_batch else 2)
    assert await early == ({7: 1} if early_is_batch else 1)
