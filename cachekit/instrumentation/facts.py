"""The facts that both systems count: the outcome of a call; and the buckets of durations."""

from __future__ import annotations

from typing import Final

from cachekit.cache import Cache
from cachekit.errors import ConfigurationError
from cachekit.events import (
    Bypassed,
    Event,
    Hit,
    LoadCancelled,
    Loaded,
    LoadFailed,
    Missed,
    ServedStale,
    Shared,
)

HITS: Final = frozenset({"hit", "near_hit", "stale"})
"""The outcomes in which a call got a cached value, and waited for no load."""

OUTCOMES: Final = ("hit", "near_hit", "stale", "miss", "shared", "failed", "cancelled", "bypassed")
"""Every outcome of a call. A call has exactly one; in a batch every key has."""

STORE_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds that the store takes: the default deadline of a call is 0.25."""

LOAD_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds that a load takes, or that a call waits for one."""


def outcome_of(event: Event) -> tuple[str, str] | None:
    """Return the function and the outcome of the call that ends with ``event``; None if the event ends no call.

    ==============  ==========================================================================================
    ``hit``         the value was found in the store
    ``near_hit``    it was found in this process
    ``stale``       a stale value was handed out
    ``miss``        nothing was found, and this call loaded, or only looked (``.peek()``, ``.take()``)
    ``shared``      it has the result of a load that another call made
    ``failed``      it raised what a load raised
    ``cancelled``   it was cancelled during its load
    ``bypassed``    the code around it is changing the key
    ==============  ==========================================================================================

    Example:
        >>> outcome_of(Hit("profile:42", "app.profile", near=True))
        ('app.profile', 'near_hit')
    """
    match event:
        case Hit():
            return event.function, "near_hit" if event.near else "hit"
        case ServedStale():
            return event.function, "stale"
        case Shared():
            return event.function, "failed" if event.error else "shared"
        case Bypassed():
            return event.function, "bypassed"
        case Missed(looked=True) | Loaded(by="call"):
            return event.function, "miss"
        case LoadFailed(by="call", raised=True):
            return event.function, "failed"
        case LoadCancelled(by="call"):
            return event.function, "cancelled"
        case _:
            return None


def check_cache(cache: object) -> None:
    """Refuse to instrument what is no cache.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(cache, Cache):
        kind = type(cache).__name__
        message = f"instrument() takes a Cache, and a value of type {kind} is none; write instrument(default_cache())"
        raise ConfigurationError(message)
