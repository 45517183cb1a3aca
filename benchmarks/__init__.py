"""The cost of the toolkit, measured against the same work by hand and against its peers.

    python -m benchmarks                      everything, with a redis-server of its own, in minutes
    python -m benchmarks targets peers        some parts; --list names them, and the questions of the targets
    python -m benchmarks targets --only hit   one question
    python -m benchmarks --quick              a look, not a measurement
    python -m benchmarks --docs               writes docs/benchmarks.md and its charts, too
    python -m benchmarks targets warmup --docs  writes these parts of it, and leaves the others as they are
    python -m benchmarks.charts docs/*.svg    draws charts anew, from the figures in their files

Figures and charts go to `benchmarks/results/`. A part is a file in `benchmarks/parts/`; a target is a question, a
file in `benchmarks/questions/`; a peer is a row in `benchmarks/peers.py`.
"""
