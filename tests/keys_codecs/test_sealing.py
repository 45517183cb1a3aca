"""Sealed bytes: none but the holders of a key read or change them, and only where they were written."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit import new_key
from cachekit.errors import ConfigurationError, SealError
from cachekit.sealing import PADDED, Sealer, place

HERE = place("window", "app:snapshots:42", "snapshots:42")
KEY, OTHER = new_key(), new_key()


@given(st.binary(max_size=3000), st.binary(max_size=80))
def test_sealed_bytes_open_where_they_were_sealed_for(data: bytes, where: bytes) -> None:
    sealer = Sealer([KEY])
    assert sealer.open(sealer.seal(data, where), where) == data


@given(st.binary(min_size=12, max_size=3000))
def test_no_run_of_twelve_bytes_is_left(data: bytes) -> None:
    sealed = Sealer([KEY]).seal(data, HERE)
    assert not any(data[start : start + 12] in sealed for start in range(len(data) - 11))


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 511, 512, 1000])
def test_lengths_are_hidden_to_the_next_256(length: int) -> None:
    sealer = Sealer([KEY])
    overhead = len(sealer.seal(b"", HERE)) - PADDED
    assert len(sealer.seal(bytes(length), HERE)) - overhead == (length // PADDED + 1) * PADDED


def test_the_same_bytes_are_never_sealed_alike() -> None:
    sealer = Sealer([KEY])
    sealed = [sealer.seal(b"text", HERE) for _ in range(200)]
    assert len({found[5:17] for found in sealed}) == len({found[17:] for found in sealed}) == 200


@given(st.data())
def test_bytes_that_were_cut_flipped_or_extended_do_not_open(data: st.DataObject) -> None:
    sealer = Sealer([KEY, OTHER])
    sealed = bytearray(sealer.seal(b"a private text", HERE))
    how = data.draw(st.sampled_from(["cut", "flip", "extend"]))
    if how == "flip":
        sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del sealed[data.draw(st.integers(0, len(sealed) - 1)) :]
    else:
        sealed += data.draw(st.binary(min_size=1, max_size=40))
    with pytest.raises(SealError):
        sealer.open(bytes(sealed), HERE)


@given(st.binary(max_size=400))
def test_foreign_bytes_do_not_open(data: bytes) -> None:
    with pytest.raises(SealError):
        Sealer([KEY]).open(data, HERE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        place("window", "app:snapshots:43", "snapshots:42"),
        place("window", "app:snapshots:42", "snapshots:43"),
        place("window", "snapshots:42", "snapshots:42"),
        place("value", "app:snapshots:42", "snapshots:42"),
        place("window", "app:snapshots:42", "snapshots:42", b"{}"),
    ],
)
def test_bytes_that_were_moved_do_not_open(elsewhere: bytes) -> None:
    sealer = Sealer([KEY])
    with pytest.raises(SealError, match="moved"):
        sealer.open(sealer.seal(b"text", HERE), elsewhere)


@given(st.tuples(st.text(), st.text(), st.text(), st.binary()), st.tuples(st.text(), st.text(), st.text(), st.binary()))
def test_no_two_places_are_one(one: tuple[str, str, str, bytes], other: tuple[str, str, str, bytes]) -> None:
    assert (place(*one) == place(*other)) == (one == other)


def test_bytes_are_sealed_with_the_first_key_and_opened_with_any() -> None:
    old, both, new = Sealer([OTHER]), Sealer([KEY, OTHER]), Sealer([KEY])
    assert both.open(old.seal(b"before", HERE), HERE) == b"before"
    assert new.open(both.seal(b"after", HERE), HERE) == b"after"
    with pytest.raises(SealError, match="written with another key"):
        old.open(both.seal(b"after", HERE), HERE)


@pytest.mark.parametrize(
    "keys",
    [[KEY], (KEY,), KEY, f" {KEY} , {OTHER}", [base64.urlsafe_b64decode(KEY)], lambda: [KEY], lambda: f"{KEY},{OTHER}"],
    ids=["list", "tuple", "text", "texts", "bytes", "callable", "callable of text"],
)
def test_keys_come_in_several_forms(keys: Any) -> None:
    assert Sealer([KEY]).open(Sealer(keys).seal(b"text", HERE), HERE) == b"text"


async def nothing_awaits() -> list[str]:
    return [KEY]


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        ([], "has no key"),
        (list, "has no key"),
        ("", "key 1 of keys= has 0 bytes"),
        ([KEY, KEY[:-4]], "key 2 of keys= is no base64|key 2 of keys= has"),
        ([b"x" * 31], "key 1 of keys= has 31 bytes, and has to have 32: make one with cachekit.new_key"),
        ([KEY + "\n"], "is no base64"),
        (["ä" * 44], "is no base64"),
        ([42], "is a int"),
        (b"x" * 32, r"write keys=\[key\]"),
        (42, r"write keys=\[key\]"),
        ({KEY: 1}, r"write keys=\[key\]"),
        (nothing_awaits, "nothing awaits it"),
    ],
)
def test_a_key_that_is_none_is_refused_at_once_and_never_shown(keys: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice) as refusal:
        Sealer(keys)
    assert KEY not in str(refusal.value)
    assert KEY[:-4] not in str(refusal.value)


def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigurationError, match=r'pip install "cachekit-redis\[encryption\]"'):
        Sealer([KEY])


def test_the_package_is_imported_with_the_first_key_and_not_before() -> None:
    asked = (
        "import sys, cachekit\n"
        "name = 'cryptography.hazmat.primitives.ciphers.aead'\n"
        "cachekit.Cache('memory://')\n"
        "before = name in sys.modules\n"
        "cachekit.Cache('memory://', keys=cachekit.new_key())\n"
        "print(before, name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_callable_may_rotate_the_keys_at_any_time() -> None:
    keys = [OTHER]
    sealer = Sealer(lambda: keys)
    before = sealer.seal(b"before", HERE)
    keys.insert(0, KEY)
    assert sealer.open(before, HERE) == b"before"
    assert Sealer([KEY]).open(sealer.seal(b"after", HERE), HERE) == b"after"
    keys.remove(OTHER)
    with pytest.raises(SealError):
        sealer.open(before, HERE)


@pytest.mark.parametrize(
    "answer", [RuntimeError(f"no access with {KEY}"), [], ["short"], None], ids=["raises", "none", "short", "None"]
)
def test_a_callable_that_fails_later_leaves_no_plain_text_and_shows_no_key(answer: Any) -> None:
    now: list[Any] = [[KEY]]

    def ask() -> Any:
        if isinstance(now[0], Exception):
            raise now[0]
        return now[0]

    sealer = Sealer(ask)
    sealed = sealer.seal(b"text", HERE)
    now[0] = answer
    for attempt in (lambda: sealer.seal(b"text", HERE), lambda: sealer.open(sealed, HERE)):
        with pytest.raises(SealError, match="the keys cannot be had") as failure:
            attempt()
        assert KEY not in str(failure.value)
    now[0] = [KEY]
    assert sealer.open(sealed, HERE) == b"text"


def test_what_a_callable_raises_at_the_beginning_is_an_error_of_the_configuration() -> None:
    def ask() -> list[str]:
        raise OSError("no key service")

    with pytest.raises(OSError, match="no key service"):
        Sealer(ask)


def test_no_repr_shows_a_key() -> None:
    sealer = Sealer([KEY, OTHER, KEY])
    assert repr(sealer) == "Sealer(2 keys)"
    shown = repr(vars(sealer))
    assert KEY not in shown
    assert OTHER not in shown
    assert repr(base64.urlsafe_b64decode(KEY)) not in shown


def test_every_new_key_is_another_one() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert all(len(base64.urlsafe_b64decode(key)) == 32 for key in (KEY, OTHER))
