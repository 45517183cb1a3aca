"""Tools for the tests of an application; docs/testing.md shows each with pytest, anyio, unittest and FastAPI.

===================  ==============================================================================================
`disabled`           a block in which calls run undecorated
`memory_cache`       a cache in this process, with a clock to move
`reset`              the default cache is as in a fresh process
`capture_events`     a block whose events come as a list
`assert_loads`       a block in which so many loads have to happen
`FakeClock`          a clock that stands still until it is moved
`FailingStore`       a store that fails on cue
===================  ==============================================================================================

The blocks hold for all caches of the process, in every thread, task and event loop: a fixture, the test, and an
application that runs in a thread of its own are in different contexts.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

from cachekit._flow.caches import CACHES
from cachekit.cache import Cache
from cachekit.clock import Clock
from cachekit.config import DEFAULT_MAXSIZE, LONGEST_TTL
from cachekit.errors import ConfigurationError, StoreError, StoreUnavailableError
from cachekit.events import Event, Loaded, LoadFailed
from cachekit.functions import forget_default
from cachekit.sealing import Keys
from cachekit.stores.memory import MemoryStore

__all__ = [
    "FailingStore",
    "FakeClock",
    "assert_loads",
    "capture_events",
    "disabled",
    "memory_cache",
    "reset",
]

T = TypeVar("T")


class _Block(AbstractContextManager[T], Generic[T]):
    """A ``with`` block that is no decorator: above an ``async def`` it would end before the function begins."""

    def __init__(self, inside: AbstractContextManager[T]) -> None:
        self._inside = inside

    def __enter__(self) -> T:
        return self._inside.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._inside.__exit__(kind, error, traceback)

    def __call__(self, function: object) -> NoReturn:
        """Refuse to decorate.

        Raises:
            TypeError: In any case.
        """
        name = getattr(function, "__qualname__", repr(function))
        message = f"this is a block, and no decorator; write it as `with` inside {name}, or in a fixture"
        raise TypeError(message)


def disabled() -> AbstractContextManager[None]:
    """Turn all caches off inside a ``with`` block: calls run undecorated, each of them.

    Nothing is read, stored, logged or told to observers. ``healthy`` is True, invalidations return True, ``.peek()``
    and ``.take()`` give `MISS`, `Cache.get` its default, and what stores returns False. Calls of functions of many ids
    still return a dict in the order of the ids. Blocks nest. Values that are cached stay, for the time afterwards.

    The environment does the same for a whole process, where ``CACHEKIT_DISABLED`` is any text but ``0``, ``false``,
    ``no`` and ``off`` when a cache is made.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> @cached(key="square:<x>", ttl=600)
        ... async def square(x: int) -> int:
        ...     print("running")
        ...     return x * x
        >>> with disabled():
        ...     print(asyncio.run(square(2)), asyncio.run(square(2)))
        running
        running
        4 4
    """
    return _Block(CACHES.off())


def reset() -> None:
    """Forget what `configure` has set: the default cache is made anew, from the environment, at its next use.

    The cache itself is not closed, and a `using` block goes on.

    Example:
        >>> import os
        >>> os.environ["CACHEKIT_URL"] = "memory://?maxsize=7"
        >>> _ = configure("memory://")
        >>> reset()
        >>> default_cache()
        Cache(MemoryStore(maxsize=7), prefix='')
        >>> del os.environ["CACHEKIT_URL"]
        >>> reset()
    """
    forget_default()


def capture_events() -> AbstractContextManager[list[Event]]:
    """Give the events of all caches (`cachekit.events`) that happen inside a ``with`` block, as a list that grows.

    Example:
        >>> import asyncio
        >>> cache = memory_cache()
        >>> with capture_events() as events:
        ...     _ = asyncio.run(cache.delete("greeting"))
        >>> [(type(event).__name__, event.keys, event.acknowledged) for event in events]
        [('Invalidated', ('greeting',), True)]
    """
    return _Block(_capture())


@contextmanager
def _capture() -> Generator[list[Event], None, None]:
    events: list[Event] = []
    with CACHES.observed(events.append):
        yield events


def assert_loads(count: int) -> AbstractContextManager[list[Event]]:
    """Fail unless decorated functions have been loaded ``count`` times when a ``with`` block ends normally.

    A load that fails counts, and one that is cancelled does not. A function of many ids counts once for each id that it
    loads. A call that has no key, or that comes while caches are off, is no load: it runs undecorated.

    Returns:
        The events of the block, as `capture_events` does.

    Raises:
        AssertionError: There were more or fewer loads; the message names their keys.
        ConfigurationError: ``count`` is no whole number of at least 0.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> @cached(key="square:<x>", ttl=600)
        ... async def square(x: int) -> int:
        ...     return x * x
        >>> with assert_loads(1):
        ...     print(asyncio.run(square(2)), asyncio.run(square(2)))
        4 4
        >>> with assert_loads(0):
        ...     print(asyncio.run(square(3)))
        Traceback (most recent call last):
        AssertionError: 0 loads were to happen, and 1 did: square:3
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        message = f"assert_loads({count!r}) is no number of loads; write a whole number of at least 0"
        raise ConfigurationError(message)
    return _Block(_count_loads(count))


@contextmanager
def _count_loads(count: int) -> Generator[list[Event], None, None]:
    with capture_events() as events:
        yield events
    loaded = [event.key for event in events if isinstance(event, (Loaded, LoadFailed))]
    if len(loaded) != count:
        why = "; caches are off" if CACHES.are_off else ""
        keys = f": {', '.join(loaded)}" if loaded else ""
        message = f"{count} load{'s' * (count != 1)} {'was' if count == 1 else 'were'} to happen, and {len(loaded)} did"
        raise AssertionError(message + keys + why)


class FakeClock:
    """A clock that stands still until it is moved. Seconds.

    Args:
        epoch: What `time` tells before the clock is moved: seconds since 1970, UTC; by default a moment in 2027.

    Raises:
        ConfigurationError: ``epoch`` is no number of seconds up to 100 years from 1970.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(600)
        >>> clock.monotonic()
        600.0
    """

    def __init__(self, *, epoch: float = 1_800_000_000.0) -> None:
        if not _is_time(epoch):
            message = f"epoch={epoch!r} is no moment; write seconds since 1970, such as 1_800_000_000"
            raise ConfigurationError(message)
        self._elapsed = 0.0
        self._epoch = epoch

    def monotonic(self) -> float:
        """Return the seconds by which the clock was moved."""
        return self._elapsed

    def time(self) -> float:
        """Return the seconds since 1970, UTC."""
        return self._epoch + self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward, by 0 seconds to 100 years.

        Raises:
            ConfigurationError: ``seconds`` is no such number: this clock never goes backwards.

        Example:
            >>> clock = FakeClock(epoch=0)
            >>> clock.advance(0.5)
            >>> clock.monotonic(), clock.time()
            (0.5, 0.5)
        """
        if not _is_time(seconds) or seconds < 0:
            message = f"advance({seconds!r}) moves no clock forward; write seconds from 0 on, such as advance(601)"
            raise ConfigurationError(message)
        self._elapsed += seconds


def _is_time(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and abs(seconds) <= LONGEST_TTL


class FailingStore(MemoryStore):
    """A memory store that fails from `fail` on until `recover`, to test how your application behaves then.

    Args:
        maxsize: The most keys kept.
        clock: Tells the time.

    Example:
        >>> store = FailingStore()
        >>> store.fail()
        >>> import asyncio
        >>> print(asyncio.run(Cache(store).get("key")))
        None
    """

    def __init__(self, *, maxsize: int = DEFAULT_MAXSIZE, clock: Clock | None = None) -> None:
        super().__init__(maxsize=maxsize, clock=clock)
        self.error: StoreError | None = None
        # Every verb takes the lock first, so the lock can make all of them fail.
        self._lock = _Gate(self)

    def fail(self, error: StoreError | None = None) -> None:
        """Raise ``error`` from every verb from now on. Without an error the store fails as if no server answered.

        Raises:
            ConfigurationError: ``error`` is no `cachekit.errors.StoreError`.

        Example:
            >>> import asyncio
            >>> store = FailingStore()
            >>> store.fail()
            >>> asyncio.run(Cache(store).set("key", 1, ttl=60))
            False
        """
        if error is not None and not isinstance(error, StoreError):
            message = f"fail({error!r}) is no error of a store; write fail(StoreUnavailableError(cause, detail))"
            raise ConfigurationError(message)
        self.error = error or StoreUnavailableError("unavailable", "the store fails on cue")

    def recover(self) -> None:
        """Work again, with the values that were there.

        Example:
            >>> import asyncio
            >>> store = FailingStore()
            >>> store.fail()
            >>> store.recover()
            >>> asyncio.run(Cache(store).set("key", 1, ttl=60))
            True
        """
        self.error = None

    def failing(self, error: StoreError | None = None) -> AbstractContextManager[None]:
        """Do as `fail` with ``error`` inside a ``with`` block, and as `recover` when it ends.

        Example:
            >>> import asyncio
            >>> store = FailingStore()
            >>> cache = Cache(store)
            >>> with store.failing():
            ...     print(asyncio.run(cache.set("key", 1, ttl=60)), cache.healthy)
            False False
            >>> asyncio.run(cache.set("key", 1, ttl=60))
            True
        """
        return _Block(self._fail_inside(error))

    @contextmanager
    def _fail_inside(self, error: StoreError | None) -> Generator[None, None, None]:
        self.fail(error)
        try:
            yield
        finally:
            self.recover()


class _Gate:
    """A lock that opens only while its store is not failing."""

    def __init__(self, store: FailingStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._store.error is not None:
            raise self._store.error
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()


def memory_cache(*, clock: Clock | None = None, prefix: str = "", keys: Keys | None = ()) -> Cache:
    """Return a cache in memory; with a `FakeClock`, entries expire when the clock is moved.

    Args:
        clock: Tells the time. Without one it is the time of the system, which freezegun and time-machine move.
        prefix: Stands before every key (see `Cache`).
        keys: Of private functions and of snapshots (see `Cache`).

    Raises:
        ConfigurationError: A setting makes no sense.

    Example:
        >>> import asyncio
        >>> clock = FakeClock()
        >>> cache = memory_cache(clock=clock)
        >>> asyncio.run(cache.set("key", 1, ttl="10m"))
        True
        >>> clock.advance(601)
        >>> print(asyncio.run(cache.get("key")))
        None
    """
    return Cache(MemoryStore(clock=clock), prefix=prefix, keys=keys, clock=clock)
