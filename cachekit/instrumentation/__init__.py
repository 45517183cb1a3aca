"""Metrics and traces, counted from the events of a cache: one file for each system, none imported before it is used.

::

    prometheus.py     metrics of one process, or of all workers together (extra ``prometheus``)
    opentelemetry.py  metrics, and a span around each load (extra ``opentelemetry``)
    facts.py          shared by both: the outcome of a call, and the buckets of durations

``instrument(cache)`` is all that an application writes. Labels are names of functions, outcomes and causes, never keys.
There is no thread, task or timer in here: an event is counted in the call that makes it.
"""
