"""A passkey challenge (WebAuthn): created, spent once, refused when replayed, gone after five minutes.

Run it:

    python -m examples.passkey_challenge [--redis redis://localhost:6379/0]

It needs no server: without --redis it is in memory.

It prints a challenge in a panel, then a table of steps, each with its outcome and its time in milliseconds.
The challenge is created (a miss), replaced by `refresh` when a reload of the page wants a new one, answered (accepted),
answered again (refused). Of 50 concurrent takers of a login challenge exactly one gets
it. A last challenge that no user answers expires. In memory the clock is moved past 300 s. On Redis the last
challenge lives for 300 ms, and the example waits until it is gone. Nothing is left in the store.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from rich.panel import Panel

from cachekit import MISS, cached
from cachekit.testing import FakeClock
from examples._console import Scene

Kind: TypeAlias = Literal["registration", "login"]
TAKERS: Final = 50

# In place of the web sessions: the user and the purpose of each challenge.
_sessions: Final[dict[str, tuple[str, Kind]]] = {}


@dataclass(frozen=True, slots=True)
class Challenge:
    """The bytes that the authenticator has to sign. A hit brings back the bytes as bytes."""

    user_id: str
    kind: Kind
    value: bytes
    created_at: datetime

    @property
    def base64url(self) -> str:
        """The form in which browsers take and return it."""
        return base64.urlsafe_b64encode(self.value).rstrip(b"=").decode()

    def compared(self, other: Challenge) -> str:
        """Return whether ``other`` is a new challenge, in words."""
        return "the same" if other.value == self.value else "new"


def _new_challenge(challenge_id: str) -> Challenge:
    user_id, kind = _sessions[challenge_id]
    return Challenge(user_id, kind, secrets.token_bytes(32), datetime.now(UTC))


@cached(key="challenge:<challenge_id>", ttl=300)
async def create_challenge(challenge_id: str) -> Challenge:
    """Return the challenge of this id; a new challenge if there is none."""
    return _new_challenge(challenge_id)


@cached(key="challenge:<challenge_id>", ttl="300ms")
async def create_hasty_challenge(challenge_id: str) -> Challenge:
    """Do the same with a short TTL, so that the example need not wait for five minutes."""
    return _new_challenge(challenge_id)


def begin(user_id: str, kind: Kind) -> str:
    """Open a session for one registration or login. Returns the id of its challenge."""
    challenge_id = secrets.token_urlsafe(9)
    _sessions[challenge_id] = (user_id, kind)
    return challenge_id


async def finish(challenge_id: str, answer: bytes) -> bool:
    """Return whether ``answer`` is right. It creates no challenge, and also spends one whose answer is wrong.

    When the store does not answer, every answer is refused: that is the safe side.
    """
    challenge = await create_challenge.take(challenge_id)
    return challenge is not MISS and secrets.compare_digest(challenge.value, answer)


async def race(challenge_id: str) -> int:
    """Let many requests take one challenge at the same moment. Returns the number of requests that got it."""
    taken = await asyncio.gather(*(create_challenge.take(challenge_id) for _ in range(TAKERS)))
    return sum(challenge is not MISS for challenge in taken)


async def outlive(challenge_id: str, clock: FakeClock | None) -> bool:
    """Wait until the challenge has expired: move the clock, or wait for 5 s at most. Returns whether it has expired."""
    if clock:
        clock.advance(301)
    for _ in range(250):
        if await create_challenge.peek(challenge_id) is MISS:
            return True
        await asyncio.sleep(0.02)
    return False


def verdict(accepted: bool) -> str:  # noqa: FBT001 - it is handed over as it came from `finish`
    """Return the name of the outcome of `finish`."""
    return "accepted" if accepted else "refused"


async def show(scene: Scene, clock: FakeClock | None) -> None:
    """Play the steps and print their outcomes."""
    async with scene.cache:
        ticket = begin("42", "registration")
        first = await scene.step("create_challenge: for a registration", create_challenge(ticket))
        reload = create_challenge.refresh(ticket)
        challenge = await scene.step("refresh: a reload of the page wants a new one", reload, first.compared)
        await scene.step("finish: the answer arrives", finish(ticket, challenge.value), verdict)
        await scene.step("finish: the same answer, replayed", finish(ticket, challenge.value), verdict)

        ticket = begin("42", "login")
        await scene.step("create_challenge: for a login", create_challenge(ticket))
        got = await scene.step(f"take: {TAKERS} requests at once", race(ticket), lambda count: f"{count} of {TAKERS}")

        ticket = begin("42", "login")
        create, ttl = (create_challenge, "300 s") if clock else (create_hasty_challenge, "300 ms")
        await scene.step("create_challenge: for a login", create(ticket))
        what = f"peek: nobody answered for {ttl}" + (", says a moved clock" if clock else "")
        expired = "expired" if scene.reachable else "no answer"
        gone = await scene.step(what, outlive(ticket, clock), lambda gone: expired if gone else "still there")
    lines = [
        f"user       {challenge.user_id}, {challenge.kind}",
        f"challenge  {challenge.base64url}",
        f"created    {challenge.created_at:%Y-%m-%d %H:%M:%S} UTC",
    ]
    scene.console.print(Panel("\n".join(lines), title="a challenge", title_align="left", expand=False))
    scene.steps()
    if got == 1 and gone:
        scene.say(f"Spent once, and of {TAKERS} concurrent takers exactly one got it. Nothing is left in the store.")
    elif not scene.reachable:
        scene.say("Without a store no challenge can be kept, so every answer is refused. That is the safe side.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example with ``argv``, or with the arguments of the command line."""
    clock = FakeClock()
    scene = Scene(__doc__, argv, clock=clock)
    scene.title("passkey challenge")
    asyncio.run(show(scene, None if scene.on_redis else clock))


if __name__ == "__main__":
    main()
