"""Programs that a machine may lack, and the variable that makes their absence an error.

Tests fail where a server is missing. A browser alone may be missing: its tests are left out, and the last lines of
the run say so. ``CACHEKIT_REQUIRE=browser,tls,redis-7.0`` requires a browser, a server that was built with TLS,
and servers by their labels.
"""

from __future__ import annotations

import os

from tests.kit.binaries import MATRIX, SERVERS, WRONG_CHOICE, available_servers
from tests.kit.chromium import BRING_A_BROWSER, chromium
from tests.kit.tls import has_tls


class RequirementError(Exception):
    """Something that ``$CACHEKIT_REQUIRE`` names is missing, or is no requirement."""


def check_requirements() -> None:
    """Check that this machine has all that ``$CACHEKIT_REQUIRE`` and the other variables name.

    Raises:
        BinaryError: A chosen server is missing, or is no server.
        FileNotFoundError: ``$CACHEKIT_CHROMIUM`` names nothing that runs.
        RequirementError: This machine lacks something; the message says how to bring it.
    """
    if WRONG_CHOICE is not None:
        raise WRONG_CHOICE
    chromium()
    for word in filter(None, os.environ.get("CACHEKIT_REQUIRE", "").replace(" ", "").split(",")):
        if word == "browser":
            missing = None if chromium() else f"there is no Chromium on this machine: {BRING_A_BROWSER}"
        elif word == "tls":
            built_in = any(has_tls(binary) for binary in SERVERS if binary is not None)
            missing = None if built_in else f"no server of this run was built with TLS: {MATRIX['redis-7.0']}"
        elif word in MATRIX:
            is_here = word in {binary.label for binary in available_servers()}
            missing = None if is_here else f"it is not on this machine: {MATRIX[word]}"
        else:
            missing = f"it is no requirement; those are: browser, tls, {', '.join(MATRIX)}"
        if missing:
            message = f"CACHEKIT_REQUIRE names {word}, but {missing}"
            raise RequirementError(message)
