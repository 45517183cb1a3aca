"""Where the Chromium of this machine is. It needs no package: the site's search is asked without those of the tests."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALLED: Final = ("chrome-linux*/chrome", "chrome-mac*/*.app/Contents/MacOS/*")
BRING_A_BROWSER: Final = (
    "apt-get install chromium, or python -m playwright install chromium, or set CACHEKIT_CHROMIUM to the path of one"
)


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
