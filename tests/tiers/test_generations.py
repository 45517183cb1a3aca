"""The generations of windows that a process knows: which push is carried out without another question."""

from __future__ import annotations

import pytest

from cachekit._tiers.generations import Generations


def test_a_removal_outruns_each_of_the_pushes_that_are_under_way() -> None:
    generations = Generations()
    with generations.pushing("k") as first:
        with generations.pushing("k") as second:
            pass
        # The end of one is not the end of the other.
        generations.forget(["k"])
    assert (first.outrun, second.outrun) == (True, False)
    with generations.pushing("k") as third:
        pass
    assert not third.outrun


def test_the_generations_that_are_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not known costs a push one more round trip."""
    monkeypatch.setattr("cachekit._tiers.generations._MOST", 2)
    generations = Generations()
    for key in "abc":
        generations.note(key, key.encode())

    def known(key: str) -> bytes | None:
        with generations.pushing(key) as push:
            return push.generation

    assert [known(key) for key in "abc"] == [None, b"b", b"c"]
