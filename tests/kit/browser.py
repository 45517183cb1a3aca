"""A real Chromium, with a virtual authenticator that answers for its user."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import pytest
from playwright.async_api import Browser, Page, Route, async_playwright

from tests.kit.chromium import BRING_A_BROWSER, chromium

DEADLINE: Final = 15.0

# Options of the DevTools protocol: a platform authenticator that keeps passkeys and agrees at once.
# https://chromedevtools.github.io/devtools-protocol/tot/WebAuthn/
AUTHENTICATOR: Final = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@asynccontextmanager
async def open_browser() -> AsyncGenerator[Browser, None]:
    """Start a Chromium without a window, for one test."""
    path = chromium()
    if path is None:
        pytest.fail(f"This test needs a real Chromium: {BRING_A_BROWSER}.", pytrace=False)
    async with async_playwright() as playwright:
        # Its sandbox refuses to run as root, and CI runs as root. The browser visits this machine alone.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """Somebody with a browser of their own, and an authenticator in it.

    Attributes:
        page: The page that is open.
        complaints: The errors that the page has logged or raised.
    """

    def __init__(self, page: Page, devtools: Any, authenticator: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._devtools = devtools
        self._authenticator = authenticator
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @classmethod
    async def arrive(cls, browser: Browser, **context: Any) -> Visitor:
        """Open a window for one visitor: it has no cookie and no passkey of another."""
        page = await (await browser.new_context(**context)).new_page()
        page.set_default_timeout(1000 * DEADLINE)
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("WebAuthn.enable")
        added = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        return cls(page, devtools, added["authenticatorId"])

    async def passkeys(self) -> list[dict[str, Any]]:
        """Return the passkeys in the authenticator."""
        found = await self._devtools.send("WebAuthn.getCredentials", {"authenticatorId": self._authenticator})
        credentials: list[dict[str, Any]] = found["credentials"]
        return credentials


class Held:
    """Requests of a page that wait on their way until they are let go.

    Args:
        page: The page that sends the requests.
        pattern: Selects requests, as ``page.route`` does.
    """

    def __init__(self, page: Page, pattern: str) -> None:
        self._page = page
        self._pattern = pattern
        self._arrived = asyncio.Event()
        self._free = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._page.route(self._pattern, self._hold)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._free.set()
        await self._page.unroute_all(behavior="wait")

    async def arrived(self) -> None:
        """Wait until a request has come."""
        async with asyncio.timeout(DEADLINE):
            await self._arrived.wait()

    async def _hold(self, route: Route) -> None:
        self._arrived.set()
        await self._free.wait()
        await route.continue_()


def artefact(name: str) -> Path:
    """Return the path of a screenshot: in ``$CACHEKIT_ARTEFACTS``, else in ``.artefacts`` of the current folder."""
    folder = Path(os.environ.get("CACHEKIT_ARTEFACTS", ".artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
