"""A failed load is told to all its callers, and no caller sees the doings of another one."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pytest
from pydantic import TypeAdapter, ValidationError

from cachekit import Cache
from tests.kit.ids import shown

SECRET = "what one caller was handling"


class RefusingError(Exception):
    """Its class takes other arguments than it keeps."""

    def __init__(self, user: int, *, code: int) -> None:
        super().__init__(f"no user {user}")
        self.code = code


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


class MadeError(Exception):
    """Its class decides how it is made."""

    def __new__(cls, *, code: int) -> Self:
        return super().__new__(cls, code)

    def __init__(self, *, code: int) -> None:
        self.code = code


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


def with_cause() -> Exception:
    error = LookupError("outer")
    error.__cause__ = KeyError("inner")
    return error


def with_notes() -> Exception:
    error = LookupError("noted")
    error.add_note("of the load")
    return error


EXCEPTIONS: list[Callable[[], Exception]] = [
    lambda: LookupError("plain", 1),
    lambda: KeyError("missing"),
    lambda: FileNotFoundError(2, "no such file", "a path"),
    lambda: OSError("one argument"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    lambda: SyntaxError("wrong", ("a file", 1, 2, "text")),
    lambda: ImportError("gone", name="module", path="a path"),
    lambda: AttributeError("gone", name="field", obj=3),
    lambda: RefusingError(7, code=3),
    lambda: SlottedError(3),
    lambda: MadeError(code=3),
    lambda: FrozenError(3),
    lambda: ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]),
    with_cause,
    with_notes,
]

STATE = ("errno", "strerror", "filename", "encoding", "object", "start", "reason", "lineno", "text", "name", "code")


def state(error: BaseException) -> object:
    """Everything that a handler may ask of an exception."""
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return (
        type(error),
        str(error),
        None if members else error.args,
        [getattr(error, name, None) for name in (*STATE, "__notes__", "__suppress_context__")],
        error.__cause__ and state(error.__cause__),
        [state(member) for member in members],
    )


async def failures(cache: Cache, make: Callable[[], Exception], *callers: Callable[[Any], Any]) -> list[Any]:
    """Let callers share one load that fails; each is given the function to call."""
    waiting = asyncio.Event()

    @cache.cached(key="k", ttl=60)
    async def load() -> int:
        await waiting.wait()
        raise make()

    tasks = [asyncio.create_task(caller(load)) for caller in callers]
    for _ in range(10):
        await asyncio.sleep(0)
    waiting.set()
    return await asyncio.gather(*tasks)


async def plain(load: Any) -> Exception:
    try:
        await load()
    except Exception as error:  # noqa: BLE001 - any exception of the load
        return error
    raise AssertionError


async def handling(load: Any) -> Exception:
    """Call while another exception is handled, and add a note to the failure."""
    try:
        raise KeyError(SECRET)
    except KeyError:
        error = await plain(load)
        error.add_note(SECRET)
        return error


@pytest.mark.parametrize("make", EXCEPTIONS, ids=shown)
async def test_every_caller_gets_an_equal_exception_of_its_own(make: Callable[[], Exception]) -> None:
    first, *others = await failures(Cache("memory://"), make, plain, plain, plain)
    assert len({id(error) for error in (first, *others)}) == 3
    for error in others:
        assert state(error) == state(first) == state(make())


@pytest.mark.parametrize("leader", [plain, handling], ids=["a waiting caller", "the loading caller"])
async def test_what_one_caller_handles_is_not_seen_by_another(leader: Callable[[Any], Any]) -> None:
    def fail() -> Exception:
        try:
            raise IndexError("in the load")
        except IndexError as error:
            failure = LookupError("failed")
            failure.__cause__ = error
            return failure

    other = handling if leader is plain else plain
    results = dict(zip(["leader", "other"], await failures(Cache("memory://"), fail, leader, other), strict=True))
    innocent = results["leader" if leader is plain else "other"]
    text = "".join(traceback.format_exception(innocent))
    assert SECRET not in text
    assert "in the load" in text
    guilty = results["other" if leader is plain else "leader"]
    assert SECRET in "".join(traceback.format_exception(guilty)), "its own it does see"


async def test_a_context_from_inside_the_load_is_kept_and_ends_in_the_callers_own() -> None:
    waiting = asyncio.Event()

    @Cache("memory://").cached(key="k", ttl=60)
    async def load() -> int:
        await waiting.wait()
        try:
            raise IndexError("inside")
        except IndexError:
            raise LookupError("failed")  # noqa: B904 - the context is what is tested

    tasks = [asyncio.create_task(caller(load)) for caller in (handling, plain, handling)]
    for _ in range(10):
        await asyncio.sleep(0)
    waiting.set()
    leader, innocent, guilty = await asyncio.gather(*tasks)
    for error in (leader, innocent, guilty):
        assert isinstance(error.__context__, IndexError)
    assert innocent.__context__.__context__ is None
    assert isinstance(guilty.__context__.__context__, KeyError)
    assert guilty.__context__.__context__ is not leader.__context__.__context__


async def test_an_exception_that_cannot_be_copied_reaches_all_callers_as_it_is() -> None:
    def make() -> Exception:
        try:
            TypeAdapter(int).validate_python("no number")
        except ValidationError as error:
            return error
        raise AssertionError

    first, second, third = await failures(Cache("memory://"), make, plain, plain, plain)
    assert first is second is third
    assert isinstance(first, ValidationError)
    assert first.error_count() == 1


async def test_what_a_caller_handles_is_not_made_its_own_context() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("no number")
    handled, waiting = caught.value, asyncio.Event()

    @Cache("memory://").cached(key="k", ttl=60)
    async def load() -> int:
        await waiting.wait()
        try:
            raise handled
        except ValidationError:
            raise LookupError("failed")  # noqa: B904 - the context is what is tested

    async def handling_the_same(load: Any) -> Exception:
        try:
            raise handled
        except ValidationError:
            return await plain(load)

    tasks = [asyncio.create_task(caller(load)) for caller in (plain, handling_the_same)]
    for _ in range(10):
        await asyncio.sleep(0)
    waiting.set()
    for error in await asyncio.gather(*tasks):
        assert error.__context__ is handled
    assert handled.__context__ is None


async def test_an_exception_whose_copy_would_have_another_type_reaches_all_callers_as_it_is() -> None:
    def make() -> Exception:
        error = OSError("the disk")
        # From these arguments Python makes a FileNotFoundError.
        error.args = (2, "the disk")
        return error

    first, second = await failures(Cache("memory://"), make, plain, plain)
    assert first is second
    assert type(first) is OSError


async def test_the_context_of_an_exception_that_cannot_be_copied_is_no_callers() -> None:
    def make() -> Exception:
        try:
            TypeAdapter(int).validate_python("no number")
        except ValidationError as error:
            return error
        raise AssertionError

    async def silent(load: Any) -> Exception:
        try:
            raise KeyError(SECRET)
        except KeyError:
            return await plain(load)

    first, _ = await failures(Cache("memory://"), make, plain, silent)
    assert SECRET not in "".join(traceback.format_exception(first))
