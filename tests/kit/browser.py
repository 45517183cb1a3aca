"""A real Chromium, with a virtual authenticator that answers for its user."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import pytest
from playwright.async_api import Browser, Page, Route, async_playwright

DEADLINE: Final = 15.0
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALLED: Final = ("chrome-linux*/chrome", "chrome-mac*/*.app/Contents/MacOS/*")
BRING_A_BROWSER: Final = (
    "apt-get install chromium, or python -m playwright install chromium, or set CACHEKIT_CHROMIUM to the path of one"
)

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


@functools.cache
def chromium() -> str | None:
    """Return the Chromium of this machine, or None.

    It looks at ``$CACHEKIT_CHROMIUM``, on PATH, and in the folder of Playwright.

    Raises:
        FileNotFoundError: ``$CACHEKIT_CHROMIUM`` names nothing that runs.
    """
    chosen = os.environ.get("CACHEKIT_CHROMIUM")
    for name in (chosen, *NAMES):
        if name and (path := shutil.which(name)):
            return path
        if name and name == chosen:
            message = f"CACHEKIT_CHROMIUM={chosen!r} is no program: name a Chromium, or unset it"
            raise FileNotFoundError(message)
    return next(_installed_by_playwright(), None)


def _installed_by_playwright() -> Iterator[str]:
    """Yield the browsers that ``playwright install chromium`` has installed, the newest first.

    Playwright itself knows the place, but starts Node.js to tell it, which a bare machine may not be able to run.
    https://playwright.dev/python/docs/browsers#managing-browser-binaries
    """
    cache = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ms-playwright"
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or cache)
    for revision in sorted(folder.glob("chromium-*"), key=lambda path: (len(path.name), path.name), reverse=True):
        for place in INSTALLED:
            yield from map(str, revision.glob(place))


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
