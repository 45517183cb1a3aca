"""The consistency harness: what was invalidated is never read again, with many processes and under faults.

``python -m tests.consistency --minutes N`` runs it; ``tests/consistency/test_short.py`` runs it for seconds.

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

No clocks are compared. An acknowledged ``w`` is written to a *floor* in shared memory after the acknowledgement; a
read copies the floor before it begins, both under one lock. So a floor that a read has copied was acknowledged before
that read began, whatever the scheduler does, and a result below it is a violation, never a matter of timing. The check
misses an acknowledgement that is not yet written down; the next read sees it. The lock is the kernel's (`flock`), so a
worker that is killed while it holds it lets go of it.

With a near cache
-----------------
``--near`` gives each worker a near cache. What goes to the store is judged as above: every get, peek, take and
refresh, and every read that the near cache did not answer. So is what this process itself invalidated, whatever
answers. Only a near hit may return less than an acknowledged floor, and for `cachekit.stores.tracking.LIMIT` at most.
Besides, no near hit

- returns what a take of this process had returned, or less than a refresh of this process had stored; nor what a take
  of another process had returned more than the limit before;
- returns less than a set that this process had been told is stored, at a key that it alone sets;
- returns what had been stored, as the store had said, longer ago than its time to live;
- returns what was there before a FLUSHALL, or before the server was killed, more than the limit ago.

Here times are compared, but those of one clock: all processes of a machine share CLOCK_MONOTONIC. Why that reports no
false violation: a time is taken after what it stands for has happened and been acknowledged, and that of a read
before it begins; whatever the scheduler puts between, the age that is judged is smaller than the true one. Each floor
keeps its last 64 raises with their times, under the lock of the floor, and a read that is behind is judged by the
first that raised it above what was read: a later raise does not hide an earlier one, and one that is no longer kept
leaves the judgement to its successor, which makes the read look younger. A record's number is written last, so a
worker that is killed in the middle of one leaves none. Times to live are judged by both clocks, since Redis goes by
the one that may be set, and both must say that it is over. A set that was not confirmed may still be carried out, so
its key is given up for another.

A near hit that is younger is counted as *behind*, with its age: what the pushes took, as met under these faults. It is
too small by what passes between the removal in Redis and its acknowledgement being written down.

Half of the workers reach the server through a `relay`, which can keep back what feeds are told while all else goes
on, or replies while feeds go on. Half of the feeds speak RESP3. Each key is left alone for a while now and then, by
all processes, since the next invalidation would remove what an earlier one has left.

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
- ``relay``: stands between half of the workers and the server, with a near cache
- ``faults``: what is done to the server, the connections and the workers
- ``harness``: starts all that, ends it, reports
"""
