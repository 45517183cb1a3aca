"""Read by the type checkers; `tests/test_typing.py` says what they must find."""
