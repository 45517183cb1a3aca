"""Models of protocols: every order of the steps of a few processes, with faults, looked through for a broken promise.

``python -m tests.models`` runs all of them at length. A model is no test of the code: it says which rules the code
needs. Each rule has a variant of the model that lacks it, and in that variant a violation must be found. The tests of
the code hold the same rules. What the code does for another reason than a promise is left out in variants that hold.
"""
