"""``python -m tests.docs.looks SITE``: looks at each page of the built site in a real Chromium.

Each page is opened narrow and wide, and judged in light and dark: looks.js has the rules. Without a Chromium no page is
looked at; with ``CACHEKIT_REQUIRE=browser`` that is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from tests.docs.asking import told

RULES: Final = Path(__file__).with_name("looks.js")
EMPTY: Final = "<!doctype html><title>looks</title><body></body>"


def complaints(site: Path) -> list[str]:
    """Return what is wrong with the look of the pages of ``site``."""
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    script = f"const PAGES = {json.dumps(pages)};\n{RULES.read_text(encoding='utf-8')}"
    found: list[str] = told(site, EMPTY, script)
    return found


def main(site: Path) -> int:
    """Print the complaints. Returns 1 if there are any."""
    found = complaints(site)
    sys.stdout.writelines(f"{complaint}\n" for complaint in found)
    sys.stdout.write(f"{len(found)} complaints about the look of the pages\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
