"""What the toolkit costs, measured against doing the same by hand.

    python -m benchmarks                 everything, with a redis-server of its own
    python -m benchmarks --only hit      some of it
    python -m benchmarks hotpath         where the microseconds of a hit go
    python -m benchmarks outage          what calls take while Redis hangs, dies and comes back

A question is a file in `benchmarks/questions/`: two variants of the same work. To add one, or another variant
(a peer, a concurrency, a size), add a file there; `benchmarks.suite` finds it.
"""
