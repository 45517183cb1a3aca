"""Where values are: the tiers hold.

::

    values.py      values in the store: entry and codec
    windows.py     rolling windows in the store
    generations.py the generations of windows, which fence their pushes
    seals.py       values and items that only the holders of a key can read
    leases.py      leases on the loads of keys
    tags.py        values that are hits as long as their tags stand
    tagged_many.py many of them at once
    sweeping.py    removes everything of a prefix
    coherence.py   the store, believed only as far as the journal allows; the near tier follows every change
    journal.py     invalidations that the store has not acknowledged
    distrust.py    the keys whose invalidation was lost
    replay.py      sends them when the store answers again
    near.py        values in this process, in front of the store, which reports changes
    s3fifo.py      the bounded map that holds them
    guard.py       the one door to the store: prefix, deadline, and the only handler of store errors
    breaker.py     rejects questions to a store that does not answer, and probes it
    outcome.py     Found, MISS, Down, Distrusted: the outcomes of a read, as values
    incidents.py   one log record when an incident begins and one when it ends
    reporter.py    events to observers, none of which can break a call
    background.py  work that no caller waits for, and its owner
"""
