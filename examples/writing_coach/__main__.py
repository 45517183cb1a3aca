"""Start the writing coach. Open the address that it prints.

    python -m examples.writing_coach

Without options it needs no server: the cache is in memory, the database is a file of SQLite. With Redis and PostgreSQL:

    export CACHEKIT_KEYS=$(python -c "import cachekit; print(cachekit.new_key())")
    python -m examples.writing_coach --redis redis://localhost:6379/0 --workers 2
        --database postgresql+asyncpg://user:password@localhost/coach

A passkey is bound to the address of the page. Behind a proxy, give the address that browsers see as --origin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from secrets import token_hex
from typing import Final

import uvicorn
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from cachekit import Cache, new_key
from cachekit.errors import ConfigurationError
from examples.writing_coach.app import DATABASE, ENVIRONMENT, Settings
from examples.writing_coach.database import Database

APP: Final = "examples.writing_coach.app:create_app"


def main(argv: Sequence[str] | None = None) -> None:
    """Start the application with ``argv``, or with the arguments of the command line, and serve until interrupted."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m examples.writing_coach", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--redis", metavar="URL", default="memory://", help="the cache (default: %(default)s)")
    add("--database", metavar="URL", default=DATABASE, help="as SQLAlchemy names it (default: %(default)s)")
    add("--flaky-database", action="store_true", help="let the database be down for half of each minute")
    add("--workers", metavar="N", type=int, default=1, help="processes (default: %(default)s)")
    add("--timeout", metavar="S", type=float, default=0.25, help="of the cache, in seconds (default: %(default)s)")
    add("--port", type=int, default=8000, help="of the loopback interface (default: %(default)s)")
    add("--origin", metavar="URL", help="the address of the page (default: http://localhost:PORT)")
    options = parser.parse_args(argv)
    if options.workers < 1:
        parser.error("--workers: at least 1")
    in_memory = options.redis.startswith("memory:")
    if options.workers > 1 and in_memory:
        parser.error("--workers: processes do not share memory; name a server, as in --redis redis://localhost:6379/0")
    origin = (options.origin or f"http://localhost:{options.port}").rstrip("/")
    if not re.fullmatch(r"https?://[^/:\d][^/:]*(:\d+)?", origin) or not 0 < options.port < 65536:
        parser.error("--origin, --port: passkeys need a name and a port, as in https://coach.example or 8000")
    keys = new_key() if in_memory else os.environ.get("CACHEKIT_KEYS", "")
    if not keys:
        parser.error("CACHEKIT_KEYS: snapshots are encrypted, so set a key of cachekit.new_key(), as --help shows")
    words = {name: getattr(options, name) for name in ("redis", "database", "timeout")}
    settings = Settings(secret=token_hex(32), keys=keys, origin=origin, flaky=options.flaky_database, **words)
    try:
        cache, database = Cache(settings.redis, timeout=settings.timeout, keys=keys), Database(settings.database)
        # Once and before the workers start: they would do it at the same moment.
        asyncio.run(database.create_tables())
    except ConfigurationError as error:
        parser.error(f"--redis, --timeout or CACHEKIT_KEYS: {error}")
    except (SQLAlchemyError, OSError, ImportError) as error:
        parser.error(f"--database: {error}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]Writing coach[/] on [bold cyan]{escape(origin)}[/], Ctrl+C ends it")
    console.print(escape(f"{cache!r}\n{database.engine.url!r}"))
    os.environ[ENVIRONMENT] = json.dumps(asdict(settings))
    uvicorn.run(APP, factory=True, host="127.0.0.1", port=options.port, workers=options.workers, log_level="warning")


if __name__ == "__main__":
    main()
