"""cachekit: decorate an async function and its result is cached.

Redis can hang, die or lie, and your application neither breaks, nor waits, nor serves what you
invalidated.

The map of the tree. Imports go downwards only; *the flow asks, the tiers hold, the stores keep*::

    functions.py    cached, invalidates, cache_get, cache_set, cache_delete, configure, using
    snapshots.py    RollingWindow, SnapshotStore, Snapshot
    testing.py      what users' tests need: a clock, a store that fails on cue, a memory cache
      cache.py      Cache: wires the tiers together and owns their life
      decorators.py what a decorated function is
        _flow/      how one call goes: plan, read, flight, lease, load, write, and the table of verdicts
        _tiers/     where values are: shared, behind its guard and breaker; journal, outcomes, troubles, events
        stores/     who keeps bytes: the protocol, memory, redis; one server, Sentinel or a cluster
          keys.py codecs.py entry.py    pure: no I/O, no clock
            urls.py                     where a store is
              config.py events.py clock.py
                errors.py               one tree
"""

from cachekit._tiers.outcome import MISS, Miss
from cachekit.cache import Cache
from cachekit.decorators import BoundCachedFunction, CachedFunction
from cachekit.errors import (
    CachekitError,
    ConfigurationError,
    DecorationError,
    RenderError,
)
from cachekit.functions import (
    cache_delete,
    cache_get,
    cache_set,
    cached,
    configure,
    default_cache,
    invalidates,
    using,
)
from cachekit.snapshots import RollingWindow, Snapshot, SnapshotStore

# The one place of the version: the build reads it from this text. importlib.metadata would search the installed
# distributions at each import, some 3 ms, and would know nothing of a checkout that is not installed.
__version__ = "0.1.0"

__all__ = [
    "MISS",
    "BoundCachedFunction",
    "Cache",
    "CachedFunction",
    "CachekitError",
    "ConfigurationError",
    "DecorationError",
    "Miss",
    "RenderError",
    "RollingWindow",
    "Snapshot",
    "SnapshotStore",
    "cache_delete",
    "cache_get",
    "cache_set",
    "cached",
    "configure",
    "default_cache",
    "invalidates",
    "using",
]
