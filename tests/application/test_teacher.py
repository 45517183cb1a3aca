"""The teacher's page: each change shows at once wherever it has to, and the page says what the cache did."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx import AsyncClient
from playwright.async_api import Browser, Page, expect

from cachekit import configure
from examples.writing_coach.app import STATIC
from examples.writing_coach.profile import Correction, error_profile, error_profiles, learn
from tests.kit.browser import Held, Visitor
from tests.kit.coach import Start, as_user, coach_inside, sign_up, write
from tests.kit.colours import READABLE, contrast
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

ADA, BOB, EVE = "ada", "bob", "eve"
A_WORD = Correction("alot", "a lot", "word boundary")


class School:
    """An application in this process: Ada teaches, Bob and Eve write."""

    def __init__(self, app: FastAPI, clients: Mapping[str, AsyncClient]) -> None:
        self.database = app.state.database
        self._clients = clients

    async def ask(self, who: str, method: str, path: str, **body: Any) -> Any:
        """Return the answer to a user, or its status if it is a refusal."""
        response = await self._clients[who].request(method, path, json=body or None)
        return response.json() if response.is_success else response.status_code

    async def add(self, name: str) -> int:
        """Add a class of Ada, and return its id."""
        added = await self.ask(ADA, "POST", "classes", name=name)
        return int(added["class_id"])

    async def join(self, who: str, class_id: int) -> None:
        """Put a user into a class of Ada."""
        shown = await self.ask(ADA, "GET", f"classes/{class_id}")
        assert await self.ask(who, "PUT", "membership", code=shown["code"].lower()) is None

    async def pupils(self, class_id: int) -> set[str]:
        """Return the names in a class, as Ada sees it."""
        return {pupil["name"] for pupil in (await self.ask(ADA, "GET", f"classes/{class_id}"))["pupils"]}

    async def steps(self, who: str, method: str, path: str, **body: Any) -> list[dict[str, Any]]:
        """Return the steps of an answer."""
        steps: list[dict[str, Any]] = (await self.ask(who, method, path, **body))["steps"]
        return steps


async def opened(stack: AsyncExitStack, folder: Path, environment: pytest.MonkeyPatch, redis: str) -> School:
    app = await stack.enter_async_context(coach_inside(folder, environment, redis))
    users = {ADA: "Ada", BOB: "Bob", EVE: "Eve"}
    return School(app, {who: await stack.enter_async_context(as_user(app, who, name)) for who, name in users.items()})


@pytest_asyncio.fixture
async def school(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[School]:
    async with AsyncExitStack() as stack:
        yield await opened(stack, tmp_path, monkeypatch, "memory://")


# --- lists hang on tags ---------------------------------------------------------------------------


async def test_a_new_name_of_a_class_shows_at_once_in_every_list_that_has_it(school: School) -> None:
    class_id = await school.add("7b")
    await school.join(BOB, class_id)

    async def names() -> set[str]:
        lists = [await school.ask(ADA, "GET", f"classes?order={order}") for order in ("name", "pupils", "newest")]
        shown = await school.ask(ADA, "GET", f"classes/{class_id}")
        mine = await school.ask(BOB, "GET", "membership")
        return {*[each["classes"][0]["name"] for each in lists], shown["name"], mine["name"]}

    assert await names() == {"7b"}
    (renamed,) = await school.steps(ADA, "PUT", f"classes/{class_id}", name="8b")
    assert await names() == {"8b"}
    assert renamed["invalidated"] == [f"class:{class_id}", "teacher:ada"]
    assert renamed["round_trips"] == 1


async def test_a_pupil_is_in_one_class_and_both_teachers_see_the_move(school: School) -> None:
    old, new = await school.add("7b"), await school.add("8b")
    await school.join(BOB, old)
    assert (await school.pupils(old), await school.pupils(new)) == ({"Bob"}, set())
    await school.ask(BOB, "GET", "membership")
    (moved,) = await school.steps(ADA, "PUT", f"classes/{old}/pupils/{BOB}", name="Bobby", class_id=new)
    assert (await school.pupils(old), await school.pupils(new)) == (set(), {"Bobby"})
    assert (await school.ask(BOB, "GET", "membership"))["name"] == "8b"
    assert {*moved["invalidated"]} == {"membership:bob", f"class:{old}", f"class:{new}", "teacher:ada"}
    counts = {each["name"]: each["pupils"] for each in (await school.ask(ADA, "GET", "classes"))["classes"]}
    assert counts == {"7b": 0, "8b": 1}

    assert await school.ask(BOB, "DELETE", "membership") is None
    assert await school.pupils(new) == set()
    assert await school.ask(BOB, "GET", "membership") is None


async def test_a_new_name_of_a_pupil_leaves_the_lists_of_classes_cached(school: School) -> None:
    class_id = await school.add("7b")
    await school.join(BOB, class_id)
    await school.ask(ADA, "GET", "classes")
    (renamed,) = await school.steps(ADA, "PUT", f"classes/{class_id}/pupils/{BOB}", name="Bobby", class_id=class_id)
    assert renamed["invalidated"] == [f"class:{class_id}"]
    assert await school.pupils(class_id) == {"Bobby"}
    (listed,) = await school.steps(ADA, "GET", "classes")
    assert (listed["hits"], listed["queries"]) == (1, 0)


async def test_a_pupil_who_is_taken_out_of_a_class_is_in_none(school: School) -> None:
    class_id = await school.add("7b")
    await school.join(BOB, class_id)
    await school.ask(ADA, "DELETE", f"classes/{class_id}/pupils/{BOB}")
    assert await school.pupils(class_id) == set()
    assert await school.ask(BOB, "GET", "membership") is None
    assert await school.ask(ADA, "DELETE", f"classes/{class_id}/pupils/{BOB}") == 404


# --- profiles are a batch -------------------------------------------------------------------------


async def test_the_profiles_of_a_class_are_one_read_and_one_load_of_those_that_miss(school: School) -> None:
    class_id = (await school.ask(ADA, "POST", "classes/sample"))["class_id"]
    shown = await school.ask(ADA, "GET", f"classes/{class_id}")
    first = shown["steps"][-1]
    assert first["what"] == "24 profiles"
    assert (first["hits"], first["misses"], first["queries"], first["round_trips"]) == (0, 24, 3, 3)
    one = shown["pupils"][7]
    assert one["profile"]["total"] == sum(one["profile"]["days"].values()) > 0

    await learn(one["id"], [A_WORD], school.database)
    again = await school.ask(ADA, "GET", f"classes/{class_id}")
    step = again["steps"][-1]
    assert (step["hits"], step["misses"], step["queries"], step["round_trips"]) == (23, 1, 3, 3)
    assert again["pupils"][7]["profile"]["total"] == one["profile"]["total"] + 1
    step = (await school.steps(ADA, "GET", f"classes/{class_id}"))[-1]
    assert (step["hits"], step["misses"], step["queries"], step["round_trips"]) == (24, 0, 0, 1)


async def test_a_profile_is_the_same_from_a_batch_and_alone(school: School) -> None:
    class_id = (await school.ask(ADA, "POST", "classes/sample"))["class_id"]
    ids = [pupil["id"] for pupil in (await school.ask(ADA, "GET", f"classes/{class_id}"))["pupils"]]
    async with configure("memory://"):
        together = await error_profiles([*ids, BOB], school.database)
        for user_id, profile in together.items():
            alone = await error_profile.refresh(user_id, school.database)
            assert (alone.total, alone.habits, alone.days) == (profile.total, profile.habits, profile.days)
            assert alone.categories == profile.categories
    assert together[BOB].total == 0


async def test_the_round_trips_on_the_page_are_those_to_the_server(
    own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: list[str]
) -> None:
    async def told_and_sent(method: str, path: str, **body: Any) -> tuple[int, int]:
        del writes[:]
        return sum(step["round_trips"] for step in await school.steps(ADA, method, path, **body)), len(writes)

    async with AsyncExitStack() as stack:
        school = await opened(stack, tmp_path, monkeypatch, own_server.url)
        # The server learns the scripts before anything is counted.
        await school.ask(ADA, "GET", f"classes/{await school.add('7b')}")
        class_id = (await school.ask(ADA, "POST", "classes/sample"))["class_id"]
        path = f"classes/{class_id}"
        assert await told_and_sent("GET", path) == (9, 9), "pupils, task and profiles: read, leases, fills"
        assert await told_and_sent("GET", path) == (3, 3), "three reads"
        # Before the step that is told, a change reads the class to see whose it is.
        assert await told_and_sent("PUT", path, name="8b") == (1, 2)
        await school.ask(ADA, "GET", path)
        assert await told_and_sent("PUT", f"{path}/task", text="A letter") == (2, 3)
        assert await told_and_sent("DELETE", f"{path}/errors") == (1, 2)


# --- writers --------------------------------------------------------------------------------------


async def test_a_task_is_cached_as_it_is_written(school: School) -> None:
    class_id = await school.add("7b")
    await school.join(BOB, class_id)
    await school.ask(ADA, "PUT", f"classes/{class_id}/task", text="A letter to the libary")
    _, task, _ = await school.steps(ADA, "GET", f"classes/{class_id}")
    assert (task["hits"], task["misses"]) == (1, 0)
    assert (await school.ask(BOB, "GET", "membership"))["task"] == "A letter to the libary"


async def test_a_new_term_empties_the_profiles_of_the_class_alone(school: School) -> None:
    class_id = await school.add("7b")
    await school.join(BOB, class_id)
    for who in (BOB, EVE):
        await learn(who, [A_WORD], school.database)
        assert (await school.ask(who, "GET", "profile"))["profile"]["total"] == 1
    (begun,) = await school.steps(ADA, "DELETE", f"classes/{class_id}/errors")
    assert begun["invalidated"] == ["profile:bob"]
    assert (await school.ask(BOB, "GET", "profile"))["profile"]["total"] == 0
    assert (await school.ask(EVE, "GET", "profile"))["profile"]["total"] == 1


async def test_a_teacher_reaches_no_class_of_another(school: School) -> None:
    mine = await school.add("7b")
    theirs = (await school.ask(EVE, "POST", "classes", name="Chess"))["class_id"]
    await school.join(BOB, mine)
    refused = [
        await school.ask(EVE, "GET", f"classes/{mine}"),
        await school.ask(EVE, "PUT", f"classes/{mine}", name="x"),
        await school.ask(EVE, "PUT", f"classes/{mine}/task", text="x"),
        await school.ask(EVE, "DELETE", f"classes/{mine}/errors"),
        await school.ask(EVE, "DELETE", f"classes/{mine}/pupils/{BOB}"),
        await school.ask(EVE, "PUT", f"classes/{theirs}/pupils/{BOB}", name="x", class_id=theirs),
        await school.ask(ADA, "PUT", f"classes/{mine}/pupils/{BOB}", name="x", class_id=theirs),
        await school.ask(ADA, "GET", "classes/99"),
        await school.ask(BOB, "PUT", "membership", code="NONE"),
    ]
    assert refused == [404] * len(refused)
    assert await school.pupils(mine) == {"Bob"}, "a change that is refused in its middle is undone"
    assert [each["name"] for each in (await school.ask(EVE, "GET", "classes"))["classes"]] == ["Chess"]
    assert await school.ask(ADA, "POST", "classes", name=" ") == 422


async def test_a_class_that_is_not_there_yet_is_not_remembered_as_missing(school: School) -> None:
    assert await school.ask(ADA, "GET", "classes/1") == 404
    assert await school.add("7b") == 1
    assert await school.pupils(1) == set()


# --- Redis stops in the middle --------------------------------------------------------------------


async def test_a_change_shows_at_once_while_redis_is_dead(
    own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        school = await opened(stack, tmp_path, monkeypatch, own_server.url)
        class_id = await school.add("7b")
        await school.join(BOB, class_id)
        own_server.kill()
        steps = await school.steps(ADA, "PUT", f"classes/{class_id}", name="8b")
        steps += await school.steps(ADA, "PUT", f"classes/{class_id}/task", text="A letter")
        shown = await school.ask(ADA, "GET", f"classes/{class_id}")
        assert not any(step["answered"] for step in steps + shown["steps"])
        assert (shown["name"], shown["task"], len(shown["pupils"])) == ("8b", "A letter", 1)
        await asyncio.to_thread(own_server.start)

        async def again() -> None:
            shown.update(await school.ask(ADA, "GET", f"classes/{class_id}"))

        await until(lambda: all(step["answered"] and step["hits"] for step in shown["steps"]), again)
        assert (shown["name"], shown["task"], len(shown["pupils"])) == ("8b", "A letter", 1)


# --- the page in a browser --------------------------------------------------------------------------


async def open_classes(page: Page) -> None:
    await page.get_by_role("link", name="Teach").click()
    await expect(page.get_by_role("heading", name="Your classes")).to_be_visible()


async def outcomes(page: Page) -> list[str]:
    return await page.locator("#steps strong").all_inner_texts()


async def test_a_teacher_adds_a_class_reads_its_pupils_and_moves_one(
    start: Start, own_server: RedisServer, browser: Browser, ada: Visitor
) -> None:
    coach = start(own_server.url, "--workers", "2")
    hers = await sign_up(ada, coach)
    await open_classes(hers)
    for name in ("7b", "8b"):
        await hers.get_by_label("New class").fill(name)
        await hers.get_by_role("button", name="Add", exact=True).click()
        await expect(hers.get_by_role("heading", name=name)).to_be_visible()
    # An answer that comes after a later one is not shown.
    async with Held(hers, "**/api/classes/1") as answer:
        await hers.get_by_role("link", name="7b").click()
        await answer.arrived()
        await hers.get_by_role("link", name="8b").click()
        await expect(hers.locator("#list [aria-current]")).to_contain_text("8b")
    await expect(hers.get_by_role("heading", name="8b")).to_be_visible()
    code = await hers.locator("#code").inner_text()
    await hers.get_by_label("Task of the class").fill("A letter to the library")
    await hers.get_by_role("button", name="Set").click()
    await expect(hers.get_by_role("alert")).to_contain_text("Your pupils see the task from now on")

    bob = await Visitor.arrive(browser)
    his = await sign_up(bob, coach, "Bob")
    await his.get_by_label("The code of your class").fill(code.lower())
    await his.get_by_role("button", name="Join").click()
    await expect(his.locator("#joined")).to_contain_text("A letter to the library")
    await write(his, "It was definately here. ")
    await write(his, "It was definitely here. ")
    await expect(his.locator("#total")).to_have_text("1")

    await hers.get_by_role("button", name="Show everything again").click()
    row = hers.get_by_role("row", name="Bob")
    await expect(row).to_contain_text("definately → definitely")
    await hers.get_by_role("button", name="Change Bob").click()
    await hers.get_by_role("textbox", name="Name").fill("<b>Bobby</b>")
    await hers.get_by_role("combobox", name="Class").select_option("7b")
    await hers.get_by_role("button", name="Save").click()
    await expect(hers.locator("#no-pupil")).to_be_visible()
    assert (await outcomes(hers))[0] == "invalidated"
    await hers.get_by_role("link", name="7b").click()
    await expect(hers.get_by_role("row", name="<b>Bobby</b>")).to_be_visible()
    await his.reload()
    await expect(his.locator("#joined")).to_contain_text("7b, taught by Ada")

    own_server.kill()
    await hers.get_by_role("button", name="Show everything again").click()
    await expect(hers.locator("#health")).to_contain_text("The cache does not answer")
    await expect(hers.get_by_role("row", name="<b>Bobby</b>")).to_contain_text("definately")
    assert {*await outcomes(hers)} == {"no answer"}
    await asyncio.to_thread(own_server.start)

    async def press() -> None:
        await hers.get_by_role("button", name="Show everything again").click()
        told.append(await hers.locator("#health").inner_text())

    told: list[str] = []
    await until(lambda: told[-1] == "The cache answers.", press)
    assert ada.complaints == bob.complaints == []


async def test_the_teachers_page_is_used_by_keyboard_alone(start: Start, ada: Visitor) -> None:
    page = await sign_up(ada, start())
    await open_classes(page)
    await page.get_by_role("button", name="Add an example class").press("Enter")
    await expect(page.locator("#pupils tr")).to_have_count(24)
    change = page.get_by_role("button", name="Change Bao")
    await change.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(change).to_be_focused()
    await change.press("Enter")
    await page.keyboard.type("Beatriz")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Change Beatriz")).to_be_focused()
    await expect(page.get_by_role("alert")).to_contain_text("Beatriz")
    rename = page.get_by_role("button", name="Rename")
    await rename.press("Enter")
    await page.keyboard.press("Escape")
    await expect(rename).to_be_focused()
    await page.locator("#sort").select_option("total")
    totals = [int(text) for text in await page.locator("#pupils .bar").all_inner_texts()]
    assert totals == sorted(totals, reverse=True)
    await page.locator("#list a").focus()
    await page.keyboard.press("Enter")
    assert ada.complaints == []


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_can_be_read_on_every_ground(scheme: int) -> None:
    style = (STATIC / "coach.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: both[scheme] for name, *both in pairs}
    on = {"on-accent": ["accent"]}
    for text in ("ink", "soft", "accent", "good", "bad", "warn", "on-accent"):
        for ground in on.get(text, ["paper", "card"]):
            assert contrast(colours[text], colours[ground]) >= READABLE, (text, ground)
