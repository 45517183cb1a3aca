"""The shop as a web application with ``/metrics``, for a Prometheus and a Grafana of your own.

    export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
    CACHEKIT_URL=redis://localhost:6379/0 uvicorn examples.observability.app:app --workers 2

Without ``PROMETHEUS_MULTIPROC_DIR`` it has to be one worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from cachekit import default_cache
from cachekit.instrumentation.prometheus import instrument, scrape
from examples.observability import shop


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    """Instrument the default cache, and close it in the end."""
    instrument(default_cache())
    async with default_cache():
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/metrics")
async def metrics() -> Response:
    """Answer Prometheus."""
    return Response(scrape(), media_type=CONTENT_TYPE_LATEST)


@app.get("/price/{sku}")
async def price(sku: str) -> str:
    """Return the price of a thing."""
    return await shop.price(sku)


@app.get("/basket/{user_id}")
async def basket(user_id: str) -> str:
    """Return the basket of a user."""
    return await shop.basket(user_id)


@app.get("/search/{words}")
async def search(words: str) -> str:
    """Return the things that are found."""
    return await shop.search(words)


@app.post("/basket/{user_id}/buy")
async def buy(user_id: str) -> None:
    """Buy the things in the basket."""
    await shop.buy(user_id)
