"""Every fault against every operation: the result of the call, and its cost.

``python -m tests.faults`` measures all of it, and writes `docs/faults.md`; ``tests/faults/test_table.py`` runs the same
table to check the results, and asserts no time.

- ``scenarios``: the faults, as data, done to real servers or to the way to them
- ``operations``: the operations, as data, with the results that they may and must not have
- ``measure``: runs operations under a fault, and returns cells
- ``page``: makes the page of the cells
"""
