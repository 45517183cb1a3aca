"""Starts a server, workers and faults; ends them; reports the violations."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cachekit.entry import parse
from cachekit.tags import tag_key
from tests import ROOT
from tests.consistency.board import COUNTERS, NEAR_COUNTERS, STALE_COUNTERS, TAG_COUNTERS, Board, Trace
from tests.consistency.faults import Faults, user_of
from tests.consistency.relay import Relay
from tests.consistency.subjects import PREFIX
from tests.consistency.worker import Settings
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer

COMMAND: Final = (sys.executable, "-W", "default", "-m", "tests.consistency.worker")
NEAR: Final = 100
"""Entries of each near cache: room for all keys. Other tests are about entries that leave for want of room."""

END: Final = 45.0
"""Seconds within which workers must have ended: longer than the time after which a call counts as hung."""


PATIENCE: Final = 120.0
"""Seconds within which a run reaches its required counts, on the busiest machine."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise.

    Attributes:
        kind: ``"stale"``, or another kind that the package's docstring names.
        key: -1 when it is about no single key.
        text: The version that was read, and the version that was due.
        worker: The slot; -1 for the harness itself.
        generation: The number of workers that had the slot before.
        began: When the operation began, in seconds since the run did.
        ended: When it ended, likewise.
        trace: Earlier events of the key in all workers, in seconds relative to the beginning; only the first few
            violations have one.
    """

    kind: str
    key: int
    text: str
    worker: int = -1
    generation: int = 0
    began: float = 0.0
    ended: float = 0.0
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = f"worker {self.worker}.{self.generation}, {self.began:.3f} s to {self.ended:.3f} s"
        return f"{self.kind}, key {self.key}: {self.text} ({where})"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a run."""

    seed: int
    seconds: float
    counts: dict[str, int]
    faults: dict[str, int]
    violations: list[Violation]
    behind: list[float] = field(default_factory=list)
    """For each near hit that was behind, the seconds since the newer version was acknowledged; sorted."""

    @property
    def lags(self) -> dict[str, float]:
        """The median of `behind`, its 99th percentile, and the largest, in seconds."""
        if not self.behind:
            return {}
        last = len(self.behind) - 1
        places = {"median": last // 2, "99th percentile": round(0.99 * last), "largest": last}
        return {name: self.behind[place] for name, place in places.items()}

    def reached(self, wanted: Mapping[str, int]) -> bool:
        """Tell whether each count of ``wanted`` was reached."""
        return all(self.counts[name] >= count for name, count in wanted.items())

    def __str__(self) -> str:
        counts = [f"{name} {count}" for name, count in {**self.counts, **self.faults}.items()]
        lags = [f"behind, {name} {1000 * lag:.3f} ms" for name, lag in self.lags.items()]
        first = f"seed {self.seed}, {self.seconds:.0f} s: {', '.join([*counts, *lags])}"
        return "\n".join([first, *map(str, self.violations)])


class Crew:
    """The worker processes, one in each slot."""

    def __init__(self, settings: Settings, board: Board) -> None:
        self._settings = settings
        self._board = board
        self._folder = Path(settings.folder)
        self._lock = threading.Lock()
        self._generations = [0] * settings.workers
        self._processes = [self._start(slot) for slot in range(settings.workers)]

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"stderr-{slot}").open("ab") as stderr:
            return subprocess.Popen(
                [*COMMAND, str(self._settings), str(slot), str(self._generations[slot])],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )

    def kill(self, slot: int) -> None:
        """Kill a worker, and start another in its slot."""
        with self._lock:
            process = self._processes[slot]
            if process.poll() is None:
                process.kill()
                process.wait()
                self._board.forget_loads(slot)
                self._generations[slot] += 1
                self._processes[slot] = self._start(slot)

    def pause(self, slot: int) -> None:
        self._processes[slot].send_signal(signal.SIGSTOP)

    def resume(self, slot: int) -> None:
        self._processes[slot].send_signal(signal.SIGCONT)

    def ended(self) -> list[str]:
        """Return the workers that ended by themselves."""
        with self._lock:
            return [
                f"worker {slot} ended with {process.returncode}"
                for slot, process in enumerate(self._processes)
                if process.poll() is not None
            ]

    def wait(self) -> list[str]:
        """Wait until all workers have ended, as they must. Returns the workers that did not, or failed."""
        deadline = time.monotonic() + END
        wrong = []
        for slot, process in enumerate(self._processes):
            try:
                code = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                wrong.append(f"worker {slot} did not end")
            else:
                if code:
                    wrong.append(f"worker {slot} ended with {code}")
        return wrong

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def run(
    *,
    seed: int,
    seconds: float,
    workers: int = 4,
    keys: int = 8,
    faults: bool = True,
    naive: bool = False,
    near: bool = False,
    stale: bool = False,
    tags: bool = False,
    until_violation: bool = False,
    at_least: Mapping[str, int] = MappingProxyType({}),
    tick: Callable[[Board, float], None] = lambda board, seconds: None,
) -> Report:
    """Run the harness once.

    Args:
        seed: The seed of all random choices.
        seconds: How long the workers work.
        workers: The number of processes.
        keys: The number of hot keys.
        faults: Whether to do faults.
        naive: Test the naive cache-aside, in place of cachekit.
        near: Give each worker a near cache, and do the faults that concern it.
        stale: Give the functions stale windows, and let loads fail often, and hang.
        tags: Let tags, batches, puts and clears be among the operations: one function has tags, another has none.
        until_violation: End at the first violation.
        at_least: Counts that must be reached before the workers end. On a busy machine that takes longer than
            ``seconds``, and `PATIENCE` at most. With faults, at least one fault is done.
        tick: Called now and then with the board and the seconds that have passed.
    """
    folder = Path(tempfile.mkdtemp(prefix="cachekit-consistency-"))
    users = [f"user {user_of(slot)} on >secret ~* &* +@all" for slot in range(workers)]
    server = RedisServer(first_server(), *users)
    relay: Relay | None = None
    try:
        server.start()
        relay = Relay(server.port, seed if stale else None) if near or stale else None
        settings = Settings(
            seed=seed,
            port=server.port,
            folder=str(folder),
            workers=workers,
            keys=keys,
            naive=naive,
            near=NEAR if near else 0,
            stale=stale,
            tags=tags,
            relay=relay.port if relay else 0,
        )
        board = Board(folder, workers, keys)
        try:
            return _run(
                settings,
                server,
                relay,
                board,
                seconds,
                faults=faults,
                until_violation=until_violation,
                at_least=at_least,
                tick=tick,
            )
        finally:
            board.close()
    finally:
        if relay is not None:
            relay.close()
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    settings: Settings,
    server: RedisServer,
    relay: Relay | None,
    board: Board,
    seconds: float,
    *,
    faults: bool,
    until_violation: bool,
    at_least: Mapping[str, int],
    tick: Callable[[Board, float], None],
) -> Report:
    folder = Path(settings.folder)
    began = time.monotonic()
    wrong: list[str] = []
    trace = Trace(folder, settings.workers)
    crew = Crew(settings, board)

    def note(text: str) -> None:
        trace.note(-1, text)

    def is_going_on(passed: float) -> bool:
        enough = all(board.total(name) >= count for name, count in at_least.items())
        enough = enough and (bool(doer.done) or not faults)
        return passed < (seconds if enough else max(seconds, PATIENCE))

    doer = Faults(server, board, crew, settings.seed, note, relay=relay if settings.near else None)
    try:
        if faults:
            doer.start()
        try:
            while is_going_on(passed := time.monotonic() - began) and not wrong:
                tick(board, passed)
                time.sleep(0.1)
                wrong = crew.ended()
                if until_violation and board.total("violations"):
                    break
        finally:
            if faults:
                doer.end()
        board.stop()
        wrong += crew.wait()
    finally:
        crew.close()
        trace.close()
    violations = [Violation(kind="worker", key=-1, text=text) for text in wrong]
    for slot in range(settings.workers):
        violations += _violations_in(folder / f"violations-{slot}", began)
        noise = (folder / f"stderr-{slot}").read_text(encoding="utf-8", errors="replace")
        if noise:
            violations.append(Violation(kind="noise", key=-1, text=noise[-4000:], worker=slot))
    violations += _left(server, board)
    tag_names = TAG_COUNTERS if settings.tags else ()
    names = (
        *COUNTERS,
        *tag_names,
        *(NEAR_COUNTERS if settings.near else ()),
        *(STALE_COUNTERS if settings.stale else ()),
    )
    return Report(
        seed=settings.seed,
        seconds=time.monotonic() - began,
        counts={name: board.total(name) for name in names},
        faults=dict(Counter(doer.done)),
        violations=violations,
        behind=_ages_in(folder, settings.workers),
    )


def _ages_in(folder: Path, workers: int) -> list[float]:
    """Return the ages of the near hits that were behind, as the workers wrote them down, sorted."""
    files = [folder / f"ages-{slot}" for slot in range(workers)]
    found = [struct.iter_unpack("=d", file.read_bytes()) for file in files if file.exists()]
    return sorted(age for ages in found for (age,) in ages)


def _violations_in(path: Path, began: float) -> list[Violation]:
    """Return the violations that one worker wrote down."""
    if not path.exists():
        return []
    found: list[Violation] = []
    # The worker died while it wrote a line that is not whole.
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        fields: dict[str, Any] = json.loads(line)
        fields["began"] -= began
        fields["ended"] -= began
        found.append(Violation(**fields))
    return found


def _left(server: RedisServer, board: Board) -> list[Violation]:
    """Return a violation for each key that Redis holds in an invalidated version."""
    found = []
    for key in range(board.keys):
        raw = server.cli("GET", f"{PREFIX}item:{key}") or server.cli("GET", f"item:{key}")
        entry = parse(raw, tagged=True) if raw else None
        # A value whose tags are gone stays where it is, and is no hit.
        if entry is not None and entry.tags and not _stands(server, entry.tags):
            continue
        # The second line of an entry says nothing about its version.
        version = json.loads(raw.partition(b"\n")[0])["version"] if raw else board.floor(key)
        if version < board.floor(key):
            text = f"in the end Redis holds version {version}, and {board.floor(key)} was invalidated"
            found.append(Violation(kind="left", key=key, text=text))
    return found


def _stands(server: RedisServer, tags: Mapping[str, str | None]) -> bool:
    return all(
        server.cli("GET", PREFIX + tag_key(name)) == str(generation).encode() for name, generation in tags.items()
    )
