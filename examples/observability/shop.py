"""A small shop: three cached functions, one that invalidates, and the database that they ask."""

from __future__ import annotations

import asyncio
from typing import Final

from cachekit import cached, invalidates


class Database:
    """A database that takes some time, and can be down. Seconds."""

    def __init__(self) -> None:
        self.takes = 0.002
        self.down = False

    async def ask(self, question: str) -> str:
        """Return an answer.

        Raises:
            ConnectionError: It is down.
        """
        if self.down:
            message = "the database is down"
            raise ConnectionError(message)
        await asyncio.sleep(self.takes)
        return f"the answer to {question}"


DATABASE: Final = Database()


@cached(key="price:<sku>", ttl="100s", stale_if_error="1h", retry_after=30)
async def price(sku: str) -> str:
    """Return the price of a thing; the last one while the database is down."""
    return await DATABASE.ask(sku)


@cached(key="basket:<user_id>", ttl="10m")
async def basket(user_id: str) -> str:
    """Return the basket of a user."""
    return await DATABASE.ask(user_id)


@cached(key="search:<words>:<session>", ttl="10m", when=lambda found: "nothing" not in found)
async def search(words: str, session: str = "") -> str:
    """Return the things that are found; nothing is not stored. A call with its session in the key is always a miss."""
    return await DATABASE.ask(f"{words} {session}")


@invalidates("basket:<user_id>")
async def buy(user_id: str) -> None:
    """Buy the things in the basket."""
