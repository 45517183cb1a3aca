"""The stores: one protocol, and the stores that implement it.

::

    base.py        Store, the protocol of semantic verbs
    single.py      many keys at a store that has verbs for one
    memory.py      MemoryStore, in this process
    empty.py       EmptyStore, which keeps nothing: in place of the store of a cache that is off
    unusable.py    UnusableStore, which never answers: in place of a URL that makes no sense
    keyspace.py    its keys: values, windows and leases
    redis.py       RedisStore: the verbs as commands
    network.py     the lane on which an operation travels; one server
    sentinel.py    the master that the sentinels name
    cluster.py     the master that has the slot
    lane.py        one connection: sends operations in batches, hands out the replies
    activity.py    for how long no byte of a connection has moved: the evidence against a server
    large.py       large replies, and the lane on which they travel
    operations.py  commands, their deadline and the future of their replies
    deadlines.py   one timer for the deadlines of all operations
    sweeping.py    which keys a scan looks for, and which of those it finds are to go
    tracking.py    the feed: a server reports the keys that changed
    connect.py     makes connections and stores from a URL; open_store, for users
    credentials.py user and password of a connection, which may change
    names.py       looks host names up, off the application's threads
    translate.py   turns foreign errors into ours, and is the only module that does
    visits.py      how a tool asks one server at a time, and sees each answer
    scripts.py     atomic steps at a key and its lease: each for Redis and in memory
    lua/           scripts, each with a comment that says what it promises
"""

from cachekit.stores.base import (
    ConnectedStore,
    ManyStore,
    ProbingStore,
    Store,
    Sweep,
    SweepingStore,
    TaggedStore,
    TaggedValue,
    TimedStore,
    TimingStore,
    Tracking,
    TrackingStore,
    Want,
    Window,
)
from cachekit.stores.connect import open_store
from cachekit.stores.credentials import Credentials
from cachekit.stores.memory import MemoryStore
from cachekit.stores.redis import RedisStore
from cachekit.stores.scripts import Lease, OpenTags, Script

__all__ = [
    "ConnectedStore",
    "Credentials",
    "Lease",
    "ManyStore",
    "MemoryStore",
    "OpenTags",
    "ProbingStore",
    "RedisStore",
    "Script",
    "Store",
    "Sweep",
    "SweepingStore",
    "TaggedStore",
    "TaggedValue",
    "TimedStore",
    "TimingStore",
    "Tracking",
    "TrackingStore",
    "Want",
    "Window",
    "open_store",
]
