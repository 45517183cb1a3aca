"""The options of `cachekit.cached`: written once, as a frozen value that checks itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Required, TypeAlias, TypedDict

from msgspec import Struct
from msgspec.structs import force_setattr

from cachekit.config import DEFAULT_LEASE, parse_duration, parse_fraction
from cachekit.errors import ConfigurationError

Duration: TypeAlias = float | str | timedelta
"""Seconds, a `datetime.timedelta`, or text such as ``"10m"``."""


class CachedOptions(TypedDict, total=False):
    """The options of `cachekit.cached` for type checkers: those of `Policy`, which has the defaults."""

    ttl: Required[Duration | Callable[[Any], Duration]]
    when: Callable[[Any], bool] | None
    jitter: float
    lease: float
    near: bool | None


class Policy(Struct, frozen=True, kw_only=True):
    """How the results of one function are cached.

    Raises:
        ConfigurationError: An option makes no sense; the message names it, and what to write instead.
    """

    ttl: Duration | Callable[[Any], Duration]
    when: Callable[[Any], bool] | None = None
    jitter: float = 0.0
    lease: float = DEFAULT_LEASE
    near: bool | None = None

    def __post_init__(self) -> None:
        """Check every option, and turn durations into seconds."""
        if not callable(self.ttl):
            force_setattr(self, "ttl", parse_duration(self.ttl))
        if self.when is not None and not callable(self.when):
            message = f"when={self.when!r} is not callable; write when=lambda result: result is not None"
            raise ConfigurationError(message)
        force_setattr(self, "jitter", parse_fraction(self.jitter, "jitter"))
        force_setattr(self, "lease", parse_duration(self.lease, "lease"))
        if self.near not in (None, True, False):
            choice = "write near=True or near=False, or leave it to Cache(url, near=10_000)"
            message = f"near={self.near!r} is no choice; {choice}"
            raise ConfigurationError(message)

    def ttl_of(self, result: Any) -> float | None:
        """Return for how many seconds ``result`` is stored, or None when it is not.

        Raises:
            Exception: Any that ``when`` or ``ttl`` raises; a `ConfigurationError` for a duration that makes no sense.
        """
        if self.when is not None and not self.when(result):
            return None
        # Seconds already, unless it depends on the result.
        option: Any = self.ttl
        ttl: float = parse_duration(option(result)) if callable(option) else option
        # Shorter, never longer: the TTL that was asked for stays the bound.
        return ttl * (1 - self.jitter * random.random()) if self.jitter else ttl  # noqa: S311 - no secret
