"""The writing coach: as a process of its own, on a free port, with a database of its own; or inside the test."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from itsdangerous import TimestampSigner
from playwright.async_api import Page, expect

from cachekit import new_key
from examples.writing_coach.app import ENVIRONMENT, Settings, create_app
from examples.writing_coach.database import User
from tests import ROOT
from tests.kit.browser import Visitor
from tests.kit.ports import free_port

DEADLINE = 30.0
SECRET = "signs the sessions"


class WritingCoach:
    """``python -m examples.writing_coach``, started when it is entered and interrupted when it is left.

    Attributes:
        url: The address of its page.
        log: The file that takes all it prints.
        database: The file of its database.

    Args:
        folder: An empty one for both files.
        redis: The URL of its cache.
        options: Further words of its command line.
        port: The port of the coach; by default a free one.
    """

    def __init__(self, folder: Path, redis: str = "memory://", *options: str, port: int | None = None) -> None:
        self._port = port or free_port()
        self.url = f"http://localhost:{self._port}"
        self.log = folder / "coach.log"
        self.database = folder / "coach.db"
        self._command = [
            # With several workers, uvicorn's parent process leaves the closing of its socket to the system.
            *(sys.executable, "-X", "dev", "-W", "ignore:unclosed <socket.socket:ResourceWarning"),
            *("-m", "examples.writing_coach", "--port", str(self._port)),
            *("--redis", redis, "--database", f"sqlite+aiosqlite:///{self.database}", *options),
            # On a busy machine a healthy server may take longer than the default.
            *("--timeout", "2"),
        ]
        # One for all starts: a restart finds the snapshots again.
        self._key = new_key()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            environment = {**os.environ, "CACHEKIT_KEYS": self._key}
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                message = f"the writing coach does not answer; it printed:\n{self.printed}"
                raise RuntimeError(message)
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def forget_everything(self) -> None:
        """Delete its database while it does not run."""
        for path in self.database.parent.glob("coach.db*"):
            path.unlink()

    @property
    def printed(self) -> str:
        """Its output so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def stored(self) -> bytes:
        """The bytes of its database, of all of its files."""
        return b"".join(path.read_bytes() for path in sorted(self.database.parent.glob("coach.db*")))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/", timeout=DEADLINE) as page:
                return bool(page.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


Start: TypeAlias = Callable[..., WritingCoach]
"""Starts a coach for one test."""


async def sign_up(visitor: Visitor, coach: WritingCoach, name: str = "Ada") -> Page:
    """Sign up, and return the page of the writer."""
    page = visitor.page
    await page.goto(coach.url)
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Sign up with a passkey").click()
    await expect(page.get_by_role("textbox", name="Write")).to_be_visible()
    return page


async def write(page: Page, text: str) -> None:
    """Replace the text on the page by ``text``, and wait until the server has said whether it kept it."""
    async with page.expect_response("**/api/text") as answer:
        await page.get_by_role("textbox", name="Write").fill(text)
    await (await answer.value).finished()


@asynccontextmanager
async def coach_inside(
    folder: Path, environment: pytest.MonkeyPatch, redis: str = "memory://"
) -> AsyncGenerator[FastAPI, None]:
    """Run the application in this process, with a database in ``folder``. Ask it as one of its users: `as_user`."""
    settings = Settings(
        secret=SECRET,
        keys=new_key(),
        origin="http://localhost",
        redis=redis,
        database=f"sqlite+aiosqlite:///{folder / 'coach.db'}",
        timeout=5,
    )
    environment.setenv(ENVIRONMENT, json.dumps(asdict(settings)))
    app = create_app()
    async with app.router.lifespan_context(app):
        await app.state.database.create_tables()
        yield app


@asynccontextmanager
async def as_user(app: FastAPI, user_id: str, name: str) -> AsyncGenerator[AsyncClient, None]:
    """Add a user, and sign in without a passkey. The paths of requests begin behind ``/api/``."""
    async with app.state.database.sessions.begin() as session:
        session.add(User(id=user_id, name=name))
    signed = TimestampSigner(SECRET).sign(base64.b64encode(json.dumps({"user_id": user_id}).encode())).decode()
    url = "http://localhost/api/"
    async with AsyncClient(transport=ASGITransport(app), base_url=url, cookies={"session": signed}) as client:
        yield client
