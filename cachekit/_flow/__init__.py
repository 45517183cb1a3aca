"""How one call goes: the flow asks.

::

    plan.py      CallPlan: what is decided once, at decoration
    verdict.py   (outcome) -> what to do, as one pure table
    read.py      a call: look, then hand out or load
    load.py      the user's function, and the fill behind it
    write.py     invalidations
"""
