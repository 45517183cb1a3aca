"""The parts that the routes share: the database, the snapshots, the user who is signed in, a refusal as a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request

from cachekit import SnapshotStore
from examples.writing_coach.database import Database
from examples.writing_coach.panel import Panel


def refusal(status: int, sentence: str) -> HTTPException:
    """Return an error whose sentence the page shows as it is."""
    return HTTPException(status, sentence, {"Retry-After": "1"} if status == 503 else None)


def _state(name: str) -> Callable[[Request], Any]:
    def state(request: Request) -> Any:
        return getattr(request.app.state, name)

    return state


def _signed_in(request: Request) -> str:
    user_id = request.session.get("user_id")
    if not isinstance(user_id, str):
        raise refusal(401, "Please sign in.")
    return user_id


Db = Annotated[Database, Depends(_state("database"))]
ThePanel = Annotated[Panel, Depends(_state("panel"))]
Snapshots = Annotated[SnapshotStore, Depends(_state("snapshots"))]
UserId = Annotated[str, Depends(_signed_in)]
"""The id of the user who is signed in; without it the answer is 401."""
