"""Every fault against every operation: what the call comes to, and what it costs.

``python -m tests.faults`` measures all of it, and writes `docs/faults.md`; ``tests/faults/test_table.py`` runs the same
table for what it comes to, and asserts no time.

- ``scenarios``: the faults, as data, done to real servers or to what leads to them
- ``operations``: the operations, as data, with what they come to and what they never may
- ``measure``: runs operations under a fault, and returns cells
- ``page``: makes the page of them
"""
