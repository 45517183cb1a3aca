"""Who keeps bytes: one protocol, and the stores that keep it.

::

    base.py        Store, the protocol of semantic verbs
    memory.py      MemoryStore, in this process
    redis.py       RedisStore: the verbs as commands
    network.py     which connection an operation travels on; one server
    sentinel.py    the master that the sentinels name
    cluster.py     the master that has the slot
    lane.py        one connection: sends what gathers, hands out the replies
    operations.py  what travels on it
    deadlines.py   one timer for the deadlines of all operations
    tracking.py    the feed: what a server tells about keys that changed
    connect.py     from a URL to connections and stores
    names.py       looks host names up, off the application's threads
    translate.py   foreign errors become ours, here and nowhere else
    lua/           scripts, each with a comment of what it promises
"""

from cachekit.stores.base import Lease, Store, Tracking, TrackingStore, WindowBounds
from cachekit.stores.memory import MemoryStore
from cachekit.stores.redis import RedisStore

__all__ = ["Lease", "MemoryStore", "RedisStore", "Store", "Tracking", "TrackingStore", "WindowBounds"]
