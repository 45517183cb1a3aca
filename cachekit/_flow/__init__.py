"""How one call goes: the flow asks.

::

    plan.py         CallPlan: what is decided once, at decoration
    verdict.py      (outcome) -> what to do, as one pure table
    read.py         a call: look, then hand out, join, or load
    flight.py       callers of one cold key share one load
    lease.py        one load across processes, and the fence that keeps voided loads out
    load.py         the user's function, and the fill behind it
    write.py        invalidations
    commit.py       invalidations held back until a transaction has committed
    background.py   work that no caller waits for, and its owner
    runtime.py      what the calls of one cache share
"""
