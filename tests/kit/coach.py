"""The writing coach as a process of its own, on a free port and with a database of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from cachekit import new_key
from tests import ROOT
from tests.kit.ports import free_port

DEADLINE = 30.0


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
