"""The application: settings, life, headers, and errors as sentences that the page can show."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.sessions import SessionMiddleware
from webauthn.helpers.exceptions import WebAuthnException

from cachekit import SnapshotStore, configure
from examples.writing_coach import passkeys, profile, pupil, teacher, writing
from examples.writing_coach.database import Database
from examples.writing_coach.panel import Panel

STATIC: Final = Path(__file__).parent / "static"
PAGES: Final = {"/": "index.html", "/teacher": "teacher.html"}
ENVIRONMENT: Final = "WRITING_COACH"  # hands the settings to the workers, which are processes of their own
DATABASE: Final = "sqlite+aiosqlite:///writing_coach.db"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings. ``origin`` is the address of the page as browsers see it: passkeys are bound to it."""

    secret: str = field(repr=False)
    keys: str = field(repr=False)  # of the snapshots, which are encrypted
    origin: str
    redis: str = field(repr=False)
    database: str = field(repr=False)
    timeout: float = 0.25
    flaky: bool = False

    @property
    def host(self) -> str:
        """The name that passkeys are bound to."""
        return urlsplit(self.origin).hostname or ""


def create_app() -> FastAPI:
    """Return the application for the settings of the environment."""
    settings = Settings(**json.loads(os.environ[ENVIRONMENT]))
    app = FastAPI(title="Writing coach", lifespan=_life, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    https = settings.origin.startswith("https:")
    app.add_middleware(SessionMiddleware, secret_key=settings.secret, same_site="strict", https_only=https)
    app.middleware("http")(_add_headers)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(WebAuthnException)(_refused)
    for consumer in (passkeys, profile, writing, pupil, teacher):
        app.include_router(consumer.router)
    for path in PAGES:
        app.get(path, include_in_schema=False, response_model=None)(_page)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncGenerator[None, None]:
    settings: Settings = app.state.settings
    async with configure(settings.redis, timeout=settings.timeout) as cache:
        app.state.database = database = Database(settings.database, flaky=settings.flaky)
        app.state.panel = Panel(cache, database)
        app.state.snapshots = SnapshotStore(cache, writing.KEPT, writing.LIFE, keys=settings.keys)
        try:
            yield
        finally:
            await database.engine.dispose()


async def _page(request: Request) -> Response:
    # A passkey is bound to a name, never to an address.
    if request.url.hostname == "127.0.0.1":
        return RedirectResponse(f"{request.app.state.settings.origin}{request.url.path}")
    return FileResponse(STATIC / PAGES[request.url.path])


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    if request.url.path.startswith("/api/"):
        response.headers["Cache-Control"] = "no-store"
    return response


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """Say which field is wrong and why, without its value: that may be a user's text."""
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}."}, 422)


async def _refused(_: Request, error: WebAuthnException) -> JSONResponse:
    return JSONResponse({"detail": f"The passkey was refused: {error}."}, 403)
