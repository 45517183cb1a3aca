"""cachekit: decorate an async function and its result is cached.

Redis can hang, die or lie, and your application neither breaks, nor waits, nor serves what you
invalidated.

The map of the tree. Imports go downwards only; *the flow asks, the tiers hold, the stores keep*::

    _cli/             the command: doctor, check, explain, keys, get, ttl, invalidate, erase, clear
    testing.py        tools for the tests of an application: an off switch, loads and events of a block, a clock, a
                      store that fails on cue, a cache in memory
    describing.py     what a decorated function was decorated with
    functions.py      the default cache: cached, invalidates, cache_get, cache_set, cache_delete, configure,
                      default_cache, using
    snapshots.py      RollingWindow, SnapshotStore, Snapshot
    instrumentation/  metrics and traces, counted from events: prometheus, opentelemetry, and facts for both
    cache.py          Cache: puts the parts together and owns their life
    decorators.py     the decorators, and the functions that they return
    _flow/            how one call goes
      plan, policy    made at decoration
      read            looks, and does what the table in verdict says
      call, joining, flight, load, nesting, failure   a call that was no hit
      lease, renewal  its lease
      tagged          functions with tags: tagging, their templates, tagged_lease and tagged_put
      stale           stale values: background, its loads that go on without a caller, and their arguments
      batch           many ids: batch_plan, batch_gather, batch_load, batch_behind, batch_tags, batch_write
      put             values in hand
      write, commit   invalidations
      warm            many calls before the first user
      runtime         the objects that all calls of a cache share
      scopes, caches  the parts of a cache; all caches of the process: the switch, and observers
    _tiers/           where values are
      values, windows, leases, tags, tagged_many   in the store; generations, the fence of windows; seals
      sweeping        removes everything of a prefix
      coherence       alone knows the journal, its replay and distrust, and the near tier (in an s3fifo map)
      guard, breaker  the one door to the store
      outcome, incidents, reporter, background    serve them all
    stores/           who keeps bytes
      base, scripts   the protocol, and its atomic steps
      memory, redis   the two stores; keyspace, the keys of the one in memory; empty, for a cache that is
                      off; unusable, for a bad URL
      single          many keys at a store that has verbs for one
      network, sentinel, cluster    the servers of a store, and which one has a key
      lane, operations, deadlines, activity   one connection, and the commands on it; large, for large replies
      tracking        the feed of changes
      sweeping        which keys a scan finds
      connect, credentials, names, translate     URLs, logins, host names, foreign errors
      visits          how a tool asks one server at a time
    keys.py codecs.py entry.py freshness.py sealing.py tags.py     pure: no I/O, no clock
    marking.py comparing.py rebuilding.py     pure: a second form, what came back, and what msgspec cannot build
    urls.py           where a store is
    config.py events.py clock.py loops.py backoff.py
                      settings, events, the time, state of each event loop, pauses with jitter
    errors.py         one tree
"""

from cachekit._flow.put import Put
from cachekit._flow.warm import Warmed
from cachekit._tiers.outcome import MISS, Miss
from cachekit.cache import Cache
from cachekit.decorators import BoundCachedFunction, BoundCachedManyFunction, CachedFunction, CachedManyFunction
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
    cached_many,
    configure,
    default_cache,
    invalidates,
    using,
)
from cachekit.sealing import new_key
from cachekit.snapshots import RollingWindow, Snapshot, SnapshotStore

# The one place of the version: the build reads it from this text. importlib.metadata would search the installed
# distributions at each import, some 3 ms, and would know nothing of a checkout that is not installed.
__version__ = "0.2.0"

__all__ = [
    "MISS",
    "BoundCachedFunction",
    "BoundCachedManyFunction",
    "Cache",
    "CachedFunction",
    "CachedManyFunction",
    "CachekitError",
    "ConfigurationError",
    "DecorationError",
    "Miss",
    "Put",
    "RenderError",
    "RollingWindow",
    "Snapshot",
    "SnapshotStore",
    "Warmed",
    "cache_delete",
    "cache_get",
    "cache_set",
    "cached",
    "cached_many",
    "configure",
    "default_cache",
    "invalidates",
    "new_key",
    "using",
]
