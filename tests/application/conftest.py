"""What the tests of the writing coach share: a browser, a visitor in it, and coaches that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.kit.browser import Visitor, open_browser
from tests.kit.coach import Start, WritingCoach


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened


@pytest_asyncio.fixture
async def ada(browser: Browser) -> Visitor:
    return await Visitor.arrive(browser)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a coach for one test. It ends with the test, and must have printed no error."""
    started: list[WritingCoach] = []

    def start(redis: str = "memory://", *options: str, port: int | None = None) -> WritingCoach:
        coach = WritingCoach(tmp_path, redis, *options, port=port)
        started.append(coach)
        return coach.__enter__()

    yield start
    for coach in started:
        coach.__exit__(None, None, None)
        for word in ("Traceback", "Warning:", "zebras", "recieved"):
            assert word not in coach.printed
