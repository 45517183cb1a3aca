"""A page of ours beside those of the built site, in a real Chromium: it tells as JSON what it has found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

from tests.kit.chromium import BRING_A_BROWSER, chromium


def told(site: Path, page: str, script: str) -> Any:
    """Return the JSON that ``script`` writes into the element ``told`` at the end of ``page``, in the folder ``site``.

    Without a Chromium the program ends; that is an error only with ``CACHEKIT_REQUIRE=browser``.
    """
    browser = chromium()
    if browser is None:
        sys.stdout.write(f"no Chromium on this machine, so the site was not looked at: {BRING_A_BROWSER}\n")
        sys.exit(int("browser" in os.environ.get("CACHEKIT_REQUIRE", "")))
    end = f'<pre id="told"></pre><script>{script}</script></body>'
    with tempfile.TemporaryDirectory() as profile, tempfile.NamedTemporaryFile("w", suffix=".html", dir=site) as file:
        file.write(page.replace("</body>", end))
        file.flush()
        flags = ["--headless", "--no-sandbox", f"--user-data-dir={profile}", "--virtual-time-budget=60000"]
        # A page of a file may look into another one.
        command = [browser, *flags, "--allow-file-access-from-files", "--dump-dom", Path(file.name).as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r'<pre id="told">(.+?)</pre>', done.stdout, re.DOTALL)
    if not found:
        sys.exit(f"the site in {site} has told nothing: {done.stderr}")
    return json.loads(unescape(found[1]))
