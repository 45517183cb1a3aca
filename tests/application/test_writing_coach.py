"""The writing coach as its writers see it: in a real Chromium, with passkeys, on a real Redis, which may stop."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from playwright.async_api import Browser, Page, Request, expect

from cachekit import configure
from examples.writing_coach import __main__ as command
from examples.writing_coach.database import Database
from examples.writing_coach.profile import Correction, error_profile, learn
from examples.writing_coach.writing import category, learnt_from
from tests.kit.browser import Held, Visitor, artefact
from tests.kit.coach import Start, sign_up, write
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

WRONG = "Yesterday I recieved a letter from the libary about zebras. "
RIGHT = "Yesterday I received a letter from the library about zebras. "
LEARNT = {("recieved", "received"), ("libary", "library")}


async def sign_out(page: Page) -> None:
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_visible()


async def press_sign_in(page: Page) -> None:
    await page.get_by_role("button", name="Sign in with a passkey").click()


async def learnt(page: Page) -> set[tuple[str, str]]:
    """Return the corrections in the profile, as pairs of wrong and right."""
    rows = await page.locator("#habits tr").all()
    cells = [await row.locator("td").all_inner_texts() for row in rows]
    return {(wrong, right) for wrong, right, _ in cells}


async def refused_with(page: Page, sentence: str) -> None:
    await expect(page.get_by_role("alert")).to_contain_text(sentence)


# --- the whole story ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2], ids=["memory", "redis", "two workers"])
async def test_a_writer_signs_up_and_in_writes_corrects_learns_and_is_forgotten(
    start: Start, own_server: RedisServer, ada: Visitor, workers: int
) -> None:
    coach = start(own_server.url, "--workers", str(workers)) if workers else start()
    page = await sign_up(ada, coach)
    assert len(await ada.passkeys()) == 1
    await sign_out(page)
    await press_sign_in(page)
    await expect(page.locator("#name")).to_have_text("Ada")

    await expect(page.locator("#profile")).to_contain_text("No errors yet")
    await write(page, WRONG)
    await expect(page.locator("#text-state")).to_contain_text("Snapshot taken")
    await expect(page.locator("#kept")).to_contain_text("1 snapshot is kept now")
    await write(page, RIGHT)
    await expect(page.locator("#learnt li")).to_have_count(2)
    await expect(page.locator("#total")).to_have_text("2")
    assert await learnt(page) == LEARNT
    await expect(page.locator("#kept")).to_contain_text("2 snapshots are kept now")

    # The learnt correction shows at once, from each worker, and is a hit from then on.
    for _ in range(6):
        async with page.expect_response("**/api/profile") as answer:
            await page.get_by_role("button", name="Show the profile again").click()
        shown = await (await answer.value).json()
        assert shown["profile"]["total"] == 2
        assert shown["outcome"] == "hit"
    await expect(page.locator("#outcome")).to_have_text("hit")
    await expect(page.locator("#age")).not_to_be_empty()
    await expect(page.locator("#saved")).to_contain_text("≈")

    # After a reload the text comes back from the newest snapshot.
    await page.reload()
    await expect(page.get_by_role("textbox", name="Write")).to_have_value(RIGHT)
    assert b"zebras" not in coach.stored
    assert b"recieved" in coach.stored
    await page.get_by_role("button", name="Forget my snapshots now").click()
    await expect(page.get_by_role("alert")).to_contain_text("Your snapshots are gone")
    await expect(page.locator("#kept")).to_have_text("No snapshot is kept now.")
    await page.reload()
    await expect(page.get_by_role("textbox", name="Write")).to_have_value("")
    await expect(page.locator("#total")).to_have_text("2")
    assert ada.complaints == []
    if workers:
        assert {key.partition(b":")[0] for key in own_server.cli("KEYS", "*")} == {b"profile", b"membership"}


async def test_redis_keeps_the_data_that_the_page_names_for_as_long_as_it_says(
    start: Start, own_server: RedisServer, ada: Visitor
) -> None:
    page = await sign_up(ada, start(own_server.url))
    await write(page, WRONG)
    keys = {key.partition(b":")[0]: key for key in own_server.cli("KEYS", "*") if not key.startswith(b"{")}
    assert b"zebras" not in b"".join(own_server.cli("LRANGE", keys[b"snapshots"], 0, -1))
    # The challenge is spent. She is in no class, and that is remembered.
    assert keys.keys() == {b"profile", b"snapshots", b"membership"}
    assert own_server.cli("GET", keys[b"membership"]) == b"null"
    assert 1 <= own_server.cli("TTL", keys[b"profile"]) <= 600 + 3600
    assert 86_000 <= own_server.cli("TTL", keys[b"snapshots"]) <= 86_400
    assert "24 hours at most" in await page.locator("#privacy").inner_text()
    await sign_out(page)
    async with Held(page, "**/api/sign-in") as answer:
        await press_sign_in(page)
        await answer.arrived()
        (challenge,) = own_server.cli("KEYS", "challenge:*")
        assert 200 <= own_server.cli("TTL", challenge) <= 300


async def test_the_page_is_used_by_keyboard_alone(start: Start, ada: Visitor) -> None:
    page = ada.page
    await page.goto(start().url)
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Ada")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("textbox", name="Write")).to_be_focused()
    await page.keyboard.type("This is wierd. ")
    await expect(page.locator("#kept")).to_contain_text("1 snapshot is kept now")
    for _ in range(len("ierd. ")):
        await page.keyboard.press("Backspace")
    await page.keyboard.type("eird. ")
    await expect(page.locator("#learnt li")).to_have_text("wierd → weird · letter order")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Forget my snapshots now")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#kept")).to_have_text("No snapshot is kept now.")


async def test_two_writers_see_nothing_of_each_other(start: Start, browser: Browser, ada: Visitor) -> None:
    coach = start()
    hers = await sign_up(ada, coach)
    await write(hers, WRONG)
    await write(hers, RIGHT)
    await expect(hers.locator("#total")).to_have_text("2")
    bob = await Visitor.arrive(browser)
    his = await sign_up(bob, coach, "Bob")
    await expect(his.get_by_role("textbox", name="Write")).to_have_value("")
    await expect(his.locator("#profile")).to_contain_text("No errors yet")
    await write(his, "A word. ")
    await expect(his.locator("#kept")).to_contain_text("1 snapshot is kept now")


async def test_a_text_on_its_way_when_a_writer_forgets_is_forgotten_too(start: Start, ada: Visitor) -> None:
    page = await sign_up(ada, start())
    async with Held(page, "**/api/text") as text:
        await page.get_by_role("textbox", name="Write").fill(WRONG)
        await text.arrived()
        await page.get_by_role("button", name="Forget my snapshots now").click()
    await expect(page.get_by_role("alert")).to_contain_text("Your snapshots are gone")
    await expect(page.locator("#kept")).to_have_text("No snapshot is kept now.")
    await page.get_by_role("textbox", name="Write").fill("Something else. ")
    await page.get_by_role("button", name="Forget my snapshots now").click()
    await expect(page.locator("#kept")).to_have_text("No snapshot is kept now.")
    await page.reload()
    await expect(page.get_by_role("textbox", name="Write")).to_have_value("")


async def test_a_challenge_is_no_hit_of_the_profile(start: Start, ada: Visitor) -> None:
    page = await sign_up(ada, start())
    await expect(page.locator("#misses")).to_have_text("1")
    await expect(page.locator("#hits")).to_have_text("0")


@pytest.mark.parametrize("typed", ["a suprise ", "a suprise there, "])
async def test_a_pause_inside_a_word_teaches_nothing(start: Start, ada: Visitor, typed: str) -> None:
    page = await sign_up(ada, start())
    await write(page, f"It was {typed}")
    field = page.get_by_role("textbox", name="Write")
    await field.press("End")
    for _ in range(len(typed) - len("a su")):
        await field.press("Backspace")
    await expect(page.locator("#kept")).to_contain_text("2 snapshots are kept now")
    async with page.expect_response("**/api/text") as answer:
        await field.press_sequentially("rprise there. ", delay=20)
    assert await (await answer.value).json() == {"kept": True, "learnt": []}


# --- passkeys -------------------------------------------------------------------------------------


@pytest.fixture
def answers() -> Callable[[Page], list[dict[str, Any]]]:
    """A function that notes the answers of the authenticator that a page sends, and their cookies."""

    def note(page: Page) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def keep(request: Request) -> None:
            if re.search(r"/api/sign-(in|up)$", request.url):
                headers = await request.all_headers()
                kept = {name: headers[name] for name in ("content-type", "cookie")}
                sent.append({"url": request.url, "data": request.post_data or "", "headers": kept})

        page.on("request", keep)
        return sent

    return note


async def the_only(sent: list[dict[str, Any]]) -> dict[str, Any]:
    # The page may show what came of an answer before the answer is noted here.
    await until(lambda: sent)
    (answer,) = sent
    return answer


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_answer_is_accepted_once(
    start: Start, own_server: RedisServer, browser: Browser, ada: Visitor, answers: Any, workers: int
) -> None:
    coach = start(own_server.url, "--workers", str(workers))
    page = await sign_up(ada, coach)
    await sign_out(page)
    sent = answers(page)
    await press_sign_in(page)
    await expect(page.get_by_role("textbox", name="Write")).to_be_visible()
    answer = await the_only(sent)
    # Somebody else has recorded all traffic, and sends the answer again.
    thief = (await browser.new_context()).request
    replayed = await thief.post(answer["url"], data=answer["data"], headers=answer["headers"])
    assert replayed.status == 410
    assert (await replayed.json())["detail"].startswith("This attempt has expired, or its answer was used before.")


async def test_one_answer_that_is_sent_many_times_at_once_signs_in_once(
    start: Start, own_server: RedisServer, browser: Browser, ada: Visitor, answers: Any
) -> None:
    coach = start(own_server.url, "--workers", "2")
    page = await sign_up(ada, coach)
    await sign_out(page)
    sent = answers(page)
    await page.route("**/api/sign-in", lambda route: route.abort())
    await press_sign_in(page)
    await refused_with(page, "The server does not answer")
    answer = await the_only(sent)
    contexts = [await browser.new_context() for _ in range(8)]
    replies = await asyncio.gather(
        *[
            context.request.post(answer["url"], data=answer["data"], headers=answer["headers"], timeout=20_000)
            for context in contexts
        ]
    )
    assert sorted(reply.status for reply in replies) == [200] + 7 * [410]


async def test_an_answer_that_comes_too_late_is_refused(start: Start, own_server: RedisServer, ada: Visitor) -> None:
    page = await sign_up(ada, start(own_server.url))
    await sign_out(page)
    async with Held(page, "**/api/sign-in") as answer:
        await press_sign_in(page)
        await answer.arrived()
        (challenge,) = own_server.cli("KEYS", "challenge:*")
        own_server.cli("PEXPIRE", challenge, "1")
        while own_server.cli("EXISTS", challenge):
            await asyncio.sleep(0.01)
    await refused_with(page, "This attempt has expired")
    await press_sign_in(page)
    await expect(page.get_by_role("textbox", name="Write")).to_be_visible()


async def test_an_answer_to_another_site_is_refused(start: Start, ada: Visitor) -> None:
    other = f"http://localhost:{free_port()}"
    coach = start("memory://", "--origin", other)
    page = ada.page
    await page.goto(coach.url)
    await page.get_by_label("Your name").fill("Ada")
    await page.keyboard.press("Enter")
    await refused_with(page, f"This answer was given to {coach.url}. Only answers to {other} are accepted.")


async def test_an_answer_to_one_ceremony_is_refused_by_the_other(start: Start, ada: Visitor, answers: Any) -> None:
    page = ada.page
    sent = answers(page)
    await page.route("**/api/sign-up", lambda route: route.abort())
    await page.goto(start().url)
    await page.get_by_label("Your name").fill("Ada")
    await page.keyboard.press("Enter")
    await refused_with(page, "The server does not answer")
    answer = await the_only(sent)
    reply = await page.request.post(answer["url"].replace("up", "in"), data=answer["data"], headers=answer["headers"])
    assert reply.status == 410


async def test_a_passkey_that_nobody_signed_up_with_is_refused(start: Start, ada: Visitor) -> None:
    coach = start()
    page = await sign_up(ada, coach)
    coach.__exit__(None, None, None)
    coach.forget_everything()
    with coach:
        await page.goto(coach.url)
        await press_sign_in(page)
        await refused_with(page, "This passkey is not known here. Please sign up first.")


async def test_a_forged_answer_is_refused(start: Start, ada: Visitor, answers: Any) -> None:
    page = await sign_up(ada, start())
    await sign_out(page)
    sent = answers(page)
    await page.route("**/api/sign-in", lambda route: route.abort())
    await press_sign_in(page)
    await refused_with(page, "The server does not answer")
    answer = await the_only(sent)
    body = json.loads(answer["data"])
    signature = body["credential"]["response"]["signature"]
    body["credential"]["response"]["signature"] = (
        signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    )
    reply = await page.request.post(answer["url"], data=json.dumps(body), headers=answer["headers"])
    assert reply.status == 403
    assert "The passkey was refused" in (await reply.json())["detail"]


def encoded(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


MALFORMED: list[dict[str, Any]] = [
    {},
    {"id": 1},
    {"id": "eHg", "rawId": "eHg", "type": "public-key", "response": 5},
    *(
        {"id": "eHg", "rawId": "eHg", "type": "public-key", "response": response}
        for client in ("!", "a", encoded([]), encoded({"type": "webauthn.get", "challenge": 5, "origin": 7}))
        for response in [
            dict.fromkeys(("attestationObject", "authenticatorData", "signature", "userHandle"), "a")
            | {"clientDataJSON": client}
        ]
    ),
]


@pytest.mark.parametrize("ceremony", ["sign-up", "sign-in"])
async def test_a_malformed_answer_is_refused_in_a_sentence(start: Start, ada: Visitor, ceremony: str) -> None:
    coach = start()
    for malformed in MALFORMED:
        await ada.page.request.post(f"{coach.url}/api/{ceremony}/options", data={"name": "Ada"})
        reply = await ada.page.request.post(f"{coach.url}/api/{ceremony}", data={"credential": malformed})
        assert reply.status == 403
        assert (await reply.json())["detail"].startswith("The passkey was refused: ")


# --- the server stops in the middle ---------------------------------------------------------------


async def test_a_text_that_could_not_be_sent_is_sent_later(start: Start, ada: Visitor) -> None:
    page = await sign_up(ada, start())
    await page.route("**/api/text", lambda route: route.abort())
    await page.get_by_role("textbox", name="Write").fill(WRONG)
    await refused_with(page, "The server does not answer. What you write stays on this page")
    await page.unroute_all()
    await expect(page.locator("#text-state")).to_contain_text("Snapshot taken", timeout=15_000)
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_text_outlives_a_restart_of_the_server(start: Start, ada: Visitor) -> None:
    coach = start()
    page = await sign_up(ada, coach)
    coach.__exit__(None, None, None)
    with coach:
        await page.get_by_role("textbox", name="Write").fill(WRONG)
        await refused_with(page, "You are signed out. Your text is still here")
        await expect(page.get_by_role("textbox", name="Write")).to_have_value(WRONG)
        await page.reload()
        await press_sign_in(page)
        await expect(page.get_by_role("textbox", name="Write")).to_be_visible()


# --- the database stops in the middle -------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2], ids=["one worker", "two workers"])
async def test_a_profile_survives_its_database(
    start: Start, own_server: RedisServer, ada: Visitor, workers: int
) -> None:
    coach = start(own_server.url, "--workers", str(workers))
    page = await sign_up(ada, coach)
    await write(page, WRONG)
    await write(page, RIGHT)
    await expect(page.locator("#total")).to_have_text("2")

    def rename(table: str, name: str) -> None:
        with contextlib.closing(sqlite3.connect(coach.database, timeout=30)) as database:
            database.execute(f"ALTER TABLE {table} RENAME TO {name}")

    async def shown() -> str:
        outcome = page.locator("#outcome")
        # The page shows the answer some time after it has come, and until then the one before.
        await outcome.evaluate("shown => { shown.textContent = '' }")
        await page.get_by_role("button", name="Show the profile again").click()
        await expect(outcome).not_to_be_empty()
        return await outcome.inner_text()

    rename("learnt_errors", "gone")
    # Its TTL ends, and the hour behind it begins.
    for key in own_server.cli("KEYS", "profile:*"):
        own_server.cli("PEXPIRE", key, 3_500_000)
    assert {await shown() for _ in range(4)} == {"stale"}
    await expect(page.locator("#outcome-more")).to_contain_text("the database does not answer")
    assert await learnt(page) == LEARNT
    rename("gone", "learnt_errors")
    async with asyncio.timeout(60):
        while await shown() != "hit":
            pass
    assert await learnt(page) == LEARNT


def test_a_flaky_database_is_down_for_half_of_each_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    moments = iter([10.0, 40.0, 70.0])
    monkeypatch.setattr("examples.writing_coach.database.time.time", lambda: moment)
    moment = 0.0

    async def ask() -> list[bool]:
        nonlocal moment
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'coach.db'}", flaky=True)
        answers = []
        while moment := next(moments, 0.0):
            try:
                await database.create_tables()
            except ConnectionError:
                answers.append(False)
            else:
                answers.append(True)
        return answers

    assert asyncio.run(ask()) == [True, False, True]


# --- Redis stops in the middle --------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fault", ["dead", "hung"])
async def test_a_writer_goes_on_when_redis_stops_and_nobody_gets_in_unchecked(
    start: Start, own_server: RedisServer, browser: Browser, ada: Visitor, fault: str, workers: int
) -> None:
    coach = start(own_server.url, "--workers", str(workers))
    page = await sign_up(ada, coach)
    await write(page, WRONG)
    await write(page, RIGHT)
    await expect(page.locator("#total")).to_have_text("2")
    bob = await Visitor.arrive(browser)
    await bob.page.goto(coach.url)

    own_server.kill() if fault == "dead" else own_server.pause()
    await write(page, RIGHT + "And more. ")
    await expect(page.locator("#text-state")).to_contain_text("No snapshot: the cache does not answer")
    await page.get_by_role("button", name="Show the profile again").click()
    await expect(page.locator("#outcome")).to_have_text("no answer")
    assert await learnt(page) == LEARNT
    await expect(page.locator("#health")).to_contain_text("The cache does not answer")
    await bob.page.get_by_label("Your name").fill("Bob")
    await bob.page.get_by_role("button", name="Sign up with a passkey").click()
    await refused_with(bob.page, "Please try again shortly")
    assert await bob.passkeys() == []

    assert (
        "2 snapshots" in await page.locator("#kept").inner_text() or await page.get_by_text("cannot be shown").count()
    )
    await asyncio.to_thread(own_server.start if fault == "dead" else own_server.resume)
    # Nobody touches the page: the text that was not kept is kept now, and the page is up to date again.
    await expect(page.locator("#text-state")).to_contain_text("Snapshot taken", timeout=20_000)
    await expect(page.locator("#health")).to_have_text("The cache answers.", timeout=20_000)
    await expect(page.locator("#outcome")).not_to_have_text("no answer")
    await expect(page.locator("#kept")).to_contain_text("kept now")
    await until_in(bob.page)


async def until_in(page: Page) -> None:
    """Press the button until it works, as a person does after the advice to try again."""
    for _ in range(100):
        async with page.expect_response(re.compile(r"/api/sign-up")) as answer:
            await page.get_by_role("button", name="Sign up with a passkey").click()
        if (await answer.value).ok:
            break
        await expect(page.get_by_role("button", name="Sign up with a passkey")).to_be_enabled()
        await asyncio.sleep(0.1)
    await expect(page.get_by_role("textbox", name="Write")).to_be_visible()


async def test_an_answer_that_cannot_be_checked_is_not_accepted(
    start: Start, own_server: RedisServer, ada: Visitor
) -> None:
    page = await sign_up(ada, start(own_server.url))
    await sign_out(page)
    async with Held(page, "**/api/sign-in") as answer:
        await press_sign_in(page)
        await answer.arrived()
        own_server.pause()
    await refused_with(page, "Please try again shortly")
    await expect(page.get_by_role("textbox", name="Write")).to_be_hidden()


async def test_snapshots_forgotten_while_redis_hung_are_gone_when_it_is_back(
    start: Start, own_server: RedisServer, ada: Visitor
) -> None:
    page = await sign_up(ada, start(own_server.url))
    await write(page, WRONG)
    own_server.pause()
    await page.get_by_role("button", name="Forget my snapshots now").click()
    await refused_with(page, "Your snapshots are deleted as soon as it does")
    await asyncio.to_thread(own_server.resume)
    while own_server.cli("KEYS", "snapshots:*"):
        await asyncio.sleep(0.05)


# --- what it looks like ---------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("shape", "width"), [("wide", 1200), ("narrow", 390)])
async def test_the_page_fits_its_window(start: Start, browser: Browser, scheme: Any, shape: str, width: int) -> None:
    visitor = await Visitor.arrive(browser, viewport={"width": width, "height": 860}, color_scheme=scheme)
    page = visitor.page

    async def fits(name: str) -> None:
        await page.screenshot(path=artefact(f"writing-coach-{name}-{shape}-{scheme}.png"), full_page=True)
        body = page.locator("body")
        wide = await body.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
        paper = await body.evaluate("body => getComputedStyle(body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 384) == (scheme == "light")

    coach = start()
    await page.goto(coach.url)
    await expect(page.get_by_label("Your name")).to_be_visible()
    await fits("door")
    await sign_up(visitor, coach, "Ada")
    for wrong, right in STORY:
        await write(page, wrong)
        await write(page, right)
    await expect(page.locator("#total")).to_have_text("8")
    await page.get_by_role("button", name="Show the profile again").click()
    await expect(page.locator("#outcome")).to_have_text("hit")
    await page.get_by_role("heading", name="Writing coach").click()
    await fits("desk")
    await page.get_by_role("link", name="Teach").click()
    await page.get_by_role("button", name="Add an example class").click()
    await expect(page.locator("#pupils tr")).to_have_count(24)
    await page.get_by_role("button", name="Show everything again").click()
    await expect(page.locator("#steps strong").last).to_have_text("24 hits")
    await fits("teacher")
    await page.get_by_role("button", name="Change Alba").click()
    await expect(page.get_by_role("dialog")).to_be_in_viewport(ratio=1)


STORY = [
    (
        "Yesterday I recieved a long letter from the libary. It was definately overdue, it said. I had untill May. ",
        "Yesterday I received a long letter from the library. It was definitely overdue, it said. I had until May. ",
    ),
    (
        "I beleive I returned it; their records are seperate from mine. I like it there alot, and I recieved tea. ",
        "I believe I returned it; their records are separate from mine. I like it there a lot, and I received tea. ",
    ),
]


# --- what the server says -------------------------------------------------------------------------


async def test_a_visitor_without_a_session_learns_nothing(start: Start, ada: Visitor) -> None:
    coach = start()
    ask = ada.page.request
    replies = [
        await ask.get(f"{coach.url}/api/profile"),
        await ask.get(f"{coach.url}/api/panel"),
        await ask.get(f"{coach.url}/api/snapshots"),
        await ask.delete(f"{coach.url}/api/snapshots"),
        await ask.put(f"{coach.url}/api/text", data={"text": "x"}),
        await ask.get(f"{coach.url}/api/membership"),
        await ask.get(f"{coach.url}/api/classes"),
        await ask.get(f"{coach.url}/api/classes/1"),
        await ask.post(f"{coach.url}/api/classes/sample"),
    ]
    assert {reply.status for reply in replies} == {401}
    assert (await replies[0].json())["detail"] == "Please sign in."
    assert await (await ask.get(f"{coach.url}/api/me")).json() is None


async def test_a_text_that_is_refused_is_not_repeated(start: Start, ada: Visitor) -> None:
    coach = start()
    page = await sign_up(ada, coach)
    reply = await page.request.put(f"{coach.url}/api/text", data={"text": "zebras " * 3000})
    assert reply.status == 422
    assert await reply.json() == {"detail": "text: String should have at most 20000 characters."}


async def test_the_page_runs_no_code_but_its_own(start: Start, ada: Visitor) -> None:
    coach = start()
    reply = await ada.page.request.get(coach.url)
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    page = await sign_up(ada, coach, "<img src=x onerror=alert(1)>")
    await expect(page.locator("#name")).to_have_text("<img src=x onerror=alert(1)>")
    assert ada.complaints == []


async def test_a_visitor_who_comes_by_the_ip_address_is_redirected_to_the_host_name(start: Start, ada: Visitor) -> None:
    coach = start()
    for path in ("/", "/teacher"):
        reply = await ada.page.request.get(coach.url.replace("localhost", "127.0.0.1") + path)
        assert reply.url == f"{coach.url}{path}"


# --- what is learnt -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("previous", "latest", "pairs"),
    [
        (WRONG, RIGHT, LEARNT),
        ("I recieve", "I receive", set()),  # nothing follows yet, so each of the two words may be unfinished
        ("I recieve it", "I receive it", {("recieve", "receive")}),
        ("I reciev", "I received it ", set()),
        ("alot of it. ", "a lot of it. ", {("alot", "a lot")}),
        ("one text. ", "quite another one. ", set()),
        ("word " * 400, "wrod " * 400, set()),
        ("wierd " + "word " * 3000, "weird " + "word " * 3000, {("wierd", "weird")}),
        ("x" * 19_000 + " ", "x" * 18_000 + "y ", set()),
        ("a wier\0d b. ", "a wei\0rd b. ", set()),
        ("a suprise ", "a surprise there. ", {("suprise", "surprise")}),
        ("the libary alot. ", "the library today a lot. ", {("libary", "library"), ("alot", "a lot")}),
        ("noone in fact came. ", "no one infact came. ", {("noone", "no one"), ("in fact", "infact")}),
        (
            "\u201cdefinately\u201d (wierd) ",
            "\u201cdefinitely\u201d (weird) ",
            {("definately", "definitely"), ("wierd", "weird")},
        ),
        ("dont, teh end ", "don\u2019t, the end ", {("dont", "don't"), ("teh", "the")}),
        ("it was defini good ", "it was definitely good ", set()),
        ("it was beleive good ", "it was belve good ", set()),
        ("he had 2019 letter can ", "she had 2018 letters can't ", set()),
        ("", "", set()),
    ],
)
def test_a_correction_is_a_change_of_a_finished_word(previous: str, latest: str, pairs: set[tuple[str, str]]) -> None:
    assert {(each.wrong, each.right) for each in learnt_from(previous, latest)} == pairs


@pytest.mark.parametrize(
    ("wrong", "right", "kind"),
    [
        ("alot", "a lot", "word boundary"),
        ("recieve", "receive", "letter order"),
        ("untill", "until", "double letter"),
        ("libary", "library", "missing letter"),
        ("truely", "truly", "extra letter"),
        ("definately", "definitely", "vowel"),
        ("absense", "absence", "other letter"),
    ],
)
def test_each_correction_is_of_a_kind(wrong: str, right: str, kind: str) -> None:
    assert category(wrong, right) == kind


async def test_a_profile_is_invalidated_once_the_database_has_committed(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'coach.db'}")
    await database.create_tables()
    happened: list[str] = []
    sqlalchemy.event.listen(database.engine.sync_engine, "commit", lambda _: happened.append("Committed"))
    async with configure("memory://") as cache:
        assert (await error_profile("42", database)).total == 0
        cache.observe(lambda told: happened.append(type(told).__name__))
        await learn("42", [Correction("alot", "a lot", "word boundary")], database)
        assert happened == ["Committed", "Invalidated"]
        assert (await error_profile("42", database)).total == 1
        hit = await error_profile("42", database)
    assert happened[2:] == ["Missed", "LoadBegan", "Loaded", "Filled", "Hit"]
    assert [*hit.days.values()][-1] == 1
    await database.engine.dispose()


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--workers", "0"], "at least 1"),
        (["--port", "70000"], "passkeys need a name and a port"),
        (["--origin", "192.168.0.5:8018"], "passkeys need a name and a port"),
        (["--origin", "http://192.168.0.5:8018"], "passkeys need a name and a port"),
        (["--workers", "2"], "name a server, as in --redis redis://localhost:6379/0"),
        (["--redis", "redis://localhost"], "CACHEKIT_KEYS: snapshots are encrypted"),
        (["--redis", "memory:/localhost"], "--redis, --timeout or CACHEKIT_KEYS: "),
        (["--timeout", "0"], "--redis, --timeout or CACHEKIT_KEYS: timeout=0.0 is out of range"),
        (["--database", "nonsense"], "--database: "),
        (["--database", f"postgresql+asyncpg://localhost:{free_port()}/coach"], "--database: "),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error_of_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], advice: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert advice in capsys.readouterr().err


def test_the_docstring_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    assert (command.__doc__ or "").strip() in capsys.readouterr().out


def test_a_key_that_is_none_is_an_error_of_usage_that_does_not_show_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_KEYS", "too-short")
    with pytest.raises(SystemExit, match="2"):
        command.main(["--redis", "redis://localhost"])
    said = capsys.readouterr().err
    assert "key 1 of keys= " in said
    assert "too-short" not in said


async def test_the_command_says_where_it_is_and_keeps_secrets(start: Start, own_server: RedisServer) -> None:
    own_server.cli("ACL", "SETUSER", "app", "on", ">hunter2", "~*", "&*", "+@all")
    coach = start(own_server.url.replace("://", "://app:hunter2@"))
    assert coach.url in coach.printed
    assert "hunter2" not in coach.printed


def test_the_application_is_an_example_not_a_framework() -> None:
    folder = Path(command.__file__).parent
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.py")) < 1450
