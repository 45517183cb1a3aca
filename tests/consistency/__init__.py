"""The consistency harness: an invalidated value is never read again, with many processes and under faults.

``python -m tests.consistency --minutes N`` runs it; ``tests/consistency/test_short.py`` runs it for seconds.

Several worker processes, each with a `Cache` of its own on one real redis-server, read, refresh and invalidate
a few hot keys at random, with random delays at every step. Meanwhile faults hit the server, connections and
workers. The truth is a version per key, outside Redis: a write raises it, a load reads it.

The checks, and why a violation is a violation
----------------------------------------------
An invalidation *covers* ``w``, the version of its key that was read just before the invalidation was called. Loads
that begin after the invalidation read ``w`` or more. Loads that began before it must never be stored, nor reach
a caller that begins after it. So a read that begins after the invalidation must return a version of at least ``w``:

- in every process, once the store has acknowledged it: the invalidation returned True, or its event said so, or it
  left the journal because it was replayed;
- in the process that invalidated, once it returned or was cancelled, acknowledged or not: the journal's promise.

No clocks are compared. An acknowledged ``w`` is written to a *floor* in shared memory after the acknowledgement; a
read copies the floor before it begins, both under one lock. So a floor that a read has copied was acknowledged before
that read began, under any scheduling, and a result below it is a violation, never a matter of timing. The check
misses an acknowledgement that is not yet written down; the next read sees it. The lock is the kernel's (`flock`), so a
worker that is killed while it holds it lets go of it.

With a near cache
-----------------
``--near`` gives each worker a near cache. Operations that ask the store are judged as above: every get, peek, take and
refresh, and every read that the near cache did not answer. The same holds for keys that this process itself
invalidated, even if the near cache answers. Only a near hit may return less than an acknowledged floor, and for
`cachekit.stores.tracking.LIMIT` at most. Besides, no near hit

- returns a value that a take of this process had returned, or less than a refresh of this process had stored; nor a
  value that a take of another process had returned more than the limit before;
- returns less than a set that was confirmed to this process, at a key that no other process sets;
- returns a value that was stored, as the store had confirmed, longer ago than its time to live;
- returns a value from before a FLUSHALL, or from before a kill of the server, more than the limit ago.

These checks compare times, but times of one clock: all processes of a machine share CLOCK_MONOTONIC. They report no
false violation: the time of an event is taken after it has happened and been acknowledged, and the time of a read
before the read begins. The scheduler may delay either, so the judged age is smaller than the true one. Each floor
keeps its last 64 raises with their times, under the lock of the floor. A read that is behind is judged by the first
raise above the version that was read. So a later raise does not hide an earlier one. A raise that is no longer kept
leaves the judgement to its successor, which makes the read look younger. A record's number is written last, so a
worker that is killed in the middle of a record leaves none. Times to live are judged by both clocks, since Redis uses
the clock that may be set, and both must say that the time is over. A set that was not confirmed may still be carried
out, so its key is given up for another.

A near hit that is younger is counted as *behind*, with its age: the time that the pushes took under these faults. The
age is too small by the time between the removal in Redis and the note of its acknowledgement.

Half of the workers reach the server through a `relay`. It can keep back the reports to feeds while all else goes
on, or replies while the feeds go on. Half of the feeds speak RESP3. Now and then all processes leave a key alone for a
while, since the next invalidation would remove an entry that an earlier one has left by mistake.

With stale windows
------------------
``--stale`` gives the functions stale windows, lets one load in four fail and some hang, and expires keys by hand. A
stale answer is judged as strictly as a hit: the call that gets it has read it after it began, so it is no older than
a floor that was copied before. An expiry raises a second floor, in the same way. Only an answer whose event says that
it stands in for a load (`cachekit.events.ServedStale`: error, paused, slow, busy) may be below that floor. A hit must
not be of a fill whose time to live was over before the read began, by the clocks as above. And a pause, which an
invalidation and an expiry lift, must come from a load that began after them. So where an answer says that it was
given in a pause, a load has failed at whose beginning the version of the source was at least the floors that were
copied: a load notes that version when it fails, before the pause can be set.

Half of the processes have all options; in the others a stale value stands in for a failure and for nothing else, so
all callers of a process wait for one load. All workers reach the server through the `relay`, which cuts what is
written at once: a server carries out two commands of one write one after the other otherwise, whichever is the first.
A near hit may then come after the end of its time to live, for the limit at most: a value that has replaced another
between PTTL and GET is kept until the end of that one, or until its change is reported.

With tags
---------
With ``--tags`` tags, batches, puts and clears are all among the operations. Every other key belongs to a function with
tags: each of its values has a tag of its own and one that all share. Most invalidations of these keys are of tags, some
of keys, and now and then one of the tag that all share; one write may be of keys and of tags. They raise the same
floors. A value whose tags are gone stays in Redis, and is no hit. A clear covers all keys, of both functions. It raises
their floors when it was done to the end, and promises nothing when it was not. Now and then one task puts a value,
invalidates it and reads it by hand, with `Cache.get` or `Cache.get_many`: a value that lacks its tags is a miss for its
function, and a hit there.

A read inside a block that has changed its key, of an `after_commit` or of a put, must find what the block has written.

At the end the server is healed and the workers close their caches. Then every journal must be empty, and no value in
Redis may be below a floor, or below a version that a worker invalidated. The undelivered invalidations of a killed
worker died with it: the journal lives in the process, and no caller got an acknowledgement of them. A server that is
killed comes back empty: its values are gone as well, and acknowledged invalidations stay true.

These are violations, too: a call that raises an exception that is not of the load, a value of another key or from the
future, a call that does not end, a worker that ends by itself, any output on a worker's stderr. Duplicate loads are
counted and reported, not judged: faults cause them, and so does a load that an invalidation overtook.

Random choices come from the seed alone (each task has its own), so a seed brings the same operations, delays and faults
again. The operating system interleaves them anew.

- ``board``: the shared memory: versions, floors, counters, traces
- ``subjects``: the tested caches: cachekit, and the naive cache-aside that must fail
- ``worker``: one process: its operations and checks
- ``relay``: stands between workers and the server: half of them with a near cache, all of them with stale windows
- ``faults``: the faults of the server, the connections and the workers
- ``harness``: starts all that, ends it, reports
"""
