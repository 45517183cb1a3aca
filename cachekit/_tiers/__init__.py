"""Where values are: the tiers hold.

::

    outcome.py    Found, MISS, Down, Distrusted: what asking a tier came to, as values
    troubles.py   one log record when a trouble begins and one when it ends
    reporter.py   events to observers, none of whom can break a call
    breaker.py    turns callers away from a store that does not answer, and probes it
    guard.py      contains: the deadline, and the only handler of store errors
    journal.py    invalidations that the store has not acknowledged
    near.py       values in this process, in front of the store, which tells what changes
    s3fifo.py     the bounded map that holds them
    shared.py     values in the store: prefix, entry and codec, and the leases on their loads
"""
