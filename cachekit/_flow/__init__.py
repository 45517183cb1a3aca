"""How one call goes: the flow asks.

::

    policy.py    the options of a decorated function, as a frozen value that checks itself
    plan.py      CallPlan: everything that is decided once, at decoration
    read.py      the path of a call: key, read, verdict
    verdict.py   the table from the outcome of a read, and its freshness, to how the call goes on
    call.py      Call: a call that was no hit
    joining.py   the table of who may join a load
    flight.py    callers of one cold key share one load
    nesting.py   loads inside loads: nothing waits in a circle
    tagged.py    the calls of functions with tags
    tagging.py   their templates, and the tags of one call
    tagged_lease.py  the lease of a load with tags, and the generations that stand before it
    tagged_put.py  the tags of values in hand
    stale.py     the calls of functions that hand out stale values
    background.py  loads that go on when their caller has gone
    arguments.py the arguments of such loads
    lease.py     one load across processes, and the fence that keeps voided loads out
    renewal.py   the leases of loads that go on
    load.py      the user's function, and the fill behind it
    failure.py   the exception of a load, for each caller a copy
    warm.py      many calls, a bounded number at a time
    batch_plan.py  the plan of a function of many ids, and its keys
    batch.py     the path of a batch: keys, one read, hits
    batch_gather.py  what was no hit: its own loads first, then those of others
    batch_load.py  leases in one write, one call of the function, fills in one write
    batch_tags.py  the tags of each id, read with the values and opened with the leases
    batch_behind.py  loads of a batch that go on when its caller has gone
    batch_write.py  invalidations of many calls
    put.py       values in hand: set, writing, puts, ttl, touch
    write.py     invalidations
    commit.py    invalidations held back until a transaction has committed
    runtime.py   everything that the calls of one cache share
    scopes.py    the parts of one cache, each with a prefix of its own
    caches.py    all caches: the switch that turns them off, and observers of all
"""
