"""The consistency harness: what was invalidated is never read again, with many processes and under faults.

``python -m tests.consistency --minutes N`` runs it; ``tests/test_consistency.py`` runs it for seconds.

Several worker processes, each with a `Cache` of its own on one real redis-server, read, refresh and invalidate
a few hot keys at random, with random delays at every step, while faults are done to the server, to connections
and to workers. The truth is a version per key, outside Redis: a write raises it, a load reads it.

What is checked, and why a violation is one
-------------------------------------------
An invalidation *covers* ``w``, the version of its key that was read just before the invalidation was called. Loads
that begin after the invalidation read ``w`` or more. Loads that began before it are never to be stored, nor handed
to a caller that begins after it. So whoever begins a read after the invalidation must get a version of at least ``w``:

- in every process, once the store has acknowledged it: the invalidation returned True, or told so by its event, or
  left the journal because it was replayed;
- in the process that invalidated, once it returned or was cancelled, acknowledged or not: the journal's promise.

Without a near cache no clocks are compared. An acknowledged ``w`` is written to a *floor* in shared memory after the
acknowledgement; a read copies the floor before it begins, both under one lock. So a floor that a read has copied was
acknowledged before that read began, whatever the scheduler does, and a result below it is a violation, never a matter
of timing. The check misses an acknowledgement that is not yet written down; the next read sees it. The lock is the
kernel's (`flock`), so a worker that is killed while it holds it lets go of it.

With results kept near (``--near``) what another process invalidated may be served by a near hit, and by that alone,
until Redis has told, and no longer than `cachekit.stores.tracking.LIMIT` after it was acknowledged. The board
remembers when each floor was raised, by the one monotonic clock of the machine, which is later than the
acknowledgement: a near hit whose call began longer than that after the first floor above its version was raised is a
violation; the others are counted as behind, with their age. What this process invalidated is as strict as ever, and
so is whatever asks the store.

At the end the server is healed and the workers close their caches. Then no journal may hold anything, and nothing in
Redis may be below a floor, or below what a worker invalidated. What a killed worker had not delivered died with it:
the journal lives in the process, and nobody was told that it was acknowledged. A server that is killed comes back
empty: its values are gone as well, and what was acknowledged stays true.

Also violations: a call that raises anything but what the load raised, a value of another key or from the future, a
call that does not end, a worker that ends by itself, anything on a worker's stderr. Duplicate loads are counted and
reported, not judged: faults cause them, and so does a load that an invalidation overtook.

Random choices come from the seed alone (of each task its own), so a seed brings the same operations, delays and faults
again; the operating system interleaves them anew.

- ``board``: the shared memory: versions, floors, counters, traces
- ``subjects``: what is tested: cachekit, and the naive cache-aside that must fail
- ``worker``: one process: its operations and checks
- ``faults``: what is done to the server, the connections and the workers
- ``harness``: starts all that, ends it, reports
"""
