"""Snapshots of a text in progress: a learner gathers the corrections of the writer from them.

Run it:

    python -m examples.adaptive_loop [--redis redis://localhost:6379/0]

It needs no server: without --redis it is in memory.

It saves five versions of a paragraph. After each save it reads the last two snapshots, and prints their
difference and the time that this took, in milliseconds. Removed words stand in [-brackets-], added words
in {+braces+}. Below them it prints the corrections that the learner learns; a word that is replaced by
quite another one teaches no spelling. At the end it prints a table of all learnt corrections, and a
snapshot as a log would show it (no text). It shows that `forget` leaves nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cachekit import SnapshotStore
from examples._console import Scene, milliseconds
from examples._corrections import changes, corrections

VERSIONS: Final = (
    "Yesterday I recieved a long letter from the libary. It said that a book was definately overdue.",
    (
        "Yesterday I received a long letter from the libary. It said that a book was definately overdue. "
        "I beleive I returned it befor the holidays, but their records are seperate from mine."
    ),
    (
        "Yesterday I received a long letter from the library. It said that a book was definitely overdue. "
        "I beleive I returned it before the holidays, but their records are seperate from mine. "
        "Tommorow I will ask, since noone answered the phone. I keep a seperate list now."
    ),
    (
        "Yesterday I received a friendly letter from the library. It said that a book was definitely overdue. "
        "I believe I returned it before the holidays, but their records are separate from mine. "
        "Tommorow I will ask, since noone answered the phone. I keep a separate list now, "
        "becuase letters like these come alot, and they are wierd."
    ),
    (
        "Yesterday I received a friendly letter from the library. It said that a book was definitely overdue. "
        "I believe I returned it before the holidays, but their records are separate from mine. "
        "Tomorrow I will ask, since no one answered the phone. I keep a separate list now, "
        "because letters like these come a lot, and they are weird."
    ),
)


class AdaptiveLoop:
    """Learns from the corrections of one user. It keeps counts of words, and no text."""

    def __init__(self, snapshots: SnapshotStore, user_id: str) -> None:
        self.snapshots = snapshots
        self.user_id = user_id
        self.learnt: Counter[tuple[str, str]] = Counter()

    async def save(self, text: str) -> tuple[str, str] | None:
        """Save ``text`` and learn from the last two snapshots. Returns their texts, or None while there are not two."""
        await self.snapshots.save_snapshot(self.user_id, text, len(text.split()))
        pair = await self.snapshots.get_snapshot_pair(self.user_id)
        if pair is None:
            return None
        previous, latest = pair
        self.learnt.update(corrections(previous.text, latest.text))
        return previous.text, latest.text


def difference(previous: str, latest: str) -> Text:
    """Return the text of the latest version, marked in colour, and legible without."""
    parts: list[Text] = []
    for tag, went, came in changes(previous, latest):
        if tag == "equal":
            parts.append(Text(" ".join(came)))
            continue
        if went:
            parts.append(Text(f"[-{' '.join(went)}-]", "red strike"))
        if came:
            parts.append(Text(f"{{+{' '.join(came)}+}}", "bold green"))
    return Text(" ").join(parts)


async def show(scene: Scene) -> None:
    """Play the writer, print each difference, and at the end the learnt corrections."""
    async with scene.cache:
        user_id = f"writer-{secrets.token_hex(3)}"  # of this run alone: it ends with `forget`
        loop = AdaptiveLoop(SnapshotStore(scene.cache, limit=50, ttl="24h"), user_id)
        for number, version in enumerate(VERSIONS, 1):
            began, known = time.perf_counter(), loop.learnt.copy()
            texts = await loop.save(version)
            took = milliseconds(time.perf_counter() - began)
            title = f"save {number}, {len(version.split())} words, {took}"
            if texts is None:
                why = "the first: nothing to compare with" if scene.reachable else "not kept: nothing to compare with"
                scene.console.print(Panel(Text(version), title=title, subtitle=why, title_align="left"))
                continue
            fresh = (loop.learnt - known).items()
            news = [
                f"{wrong} → {right}" + (f" ({times} times)" if times > 1 else "") for (wrong, right), times in fresh
            ]
            learnt = Text("learnt: " + (", ".join(news) or "nothing"), "cyan")
            scene.console.print(Panel(Text("\n\n").join([difference(*texts), learnt]), title=title, title_align="left"))
        table = Table("wrong", "right", "times", title="what the learner has learnt")
        for (wrong, right), times in loop.learnt.most_common():
            table.add_row(Text(wrong, "red"), Text(right, "green"), str(times))
        scene.console.print(table if loop.learnt else "The learner has learnt nothing.")
        for snapshot in await loop.snapshots.get_recent_snapshots(user_id, 1):
            scene.say(f"What a log would show: {snapshot!r}")
        acknowledged = await loop.snapshots.forget(user_id)
        left = await loop.snapshots.get_recent_snapshots(user_id, 50)
    if acknowledged:
        scene.say(f"forget: {len(left)} snapshots are left in the store.")
    else:
        scene.say("forget: the store did not acknowledge it; what it holds ends 24 hours after the last save.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example with ``argv``, or with the arguments of the command line."""
    scene = Scene(__doc__, argv)
    scene.title("adaptive loop")
    asyncio.run(show(scene))


if __name__ == "__main__":
    main()
