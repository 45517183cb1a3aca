"""The decorators, and the functions that they return: typed as before, with a few methods more.

A decorated function binds nothing and decides nothing: its plan was made at decoration, its cache is
looked up at the call.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary

from msgspec import Struct

from cachekit._flow.batch import serve_ids, serve_many
from cachekit._flow.batch_plan import MOST as MOST_IDS
from cachekit._flow.batch_plan import BatchPlan, BatchPolicy, plan_alone, plan_many
from cachekit._flow.batch_write import invalidate_ids, invalidate_many
from cachekit._flow.plan import CallPlan, KnownTemplates, renamed
from cachekit._flow.policy import CachedManyOptions, CachedOptions, Duration, Policy, meant, nearest
from cachekit._flow.put import Put, PutPlan, run_and_store, set_call, touch_call, ttl_of_call, write_through, writing
from cachekit._flow.read import peek, refresh, serve, serve_fitting, take
from cachekit._flow.runtime import Lookup, Runtime
from cachekit._flow.tagged import (
    peek_tagged,
    refresh_tagged,
    serve_tagged,
    serve_with_tags,
    take_tagged,
    ttl_of_tagged,
)
from cachekit._flow.warm import Warmed, Warming, warm
from cachekit._flow.write import (
    Invalidation,
    InvalidationOptions,
    WritePlan,
    expire_call,
    invalidate,
    invalidate_call,
    run_and_invalidate,
    write,
)
from cachekit._tiers.outcome import Miss
from cachekit.config import check_callback, parse_count, parse_duration
from cachekit.errors import ConfigurationError, DecorationError
from cachekit.keys import defined_in_class, needs_key_of_instance
from cachekit.tags import tag_key

if TYPE_CHECKING:

    class ObjectProxy:
        """The parts of wrapt's class that the checkers must know: it has no types."""

        __wrapped__: Any
        __name__: str
        __qualname__: str

        def __init__(self, wrapped: Any) -> None: ...

else:
    from wrapt import ObjectProxy

P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])
D = TypeVar("D", bound=Callable[..., object])

Plan: TypeAlias = "CallPlan[..., Any] | BatchPlan[Any, Any] | WritePlan[..., Any] | PutPlan[..., Any]"

DECORATED: Final[WeakKeyDictionary[Plan, None]] = WeakKeyDictionary()
"""The plan of each decorated function of this process, in the order of their decoration: for tools that list them
(`cachekit.describing`). It keeps no function alive, and no call looks here."""


def _note(plan: Plan, runtime: Lookup, serve: Callable[..., Any]) -> None:
    # The plan holds the way to its cache. As a value of the dictionary it would keep the plan alive for ever where the
    # cache leads to the function, as an observer of it may.
    plan.lookup = runtime
    plan.serve = renamed(serve, plan.name)
    DECORATED[plan] = None


class _Decorated(ObjectProxy):
    """A decorated function, pickled and copied as a function: by its name, or by its instance and its name."""

    def __init__(self, wrapped: Any, bound: tuple[Any, ...]) -> None:
        super().__init__(wrapped)
        # The prefix keeps wrapt from passing this on to the wrapped function.
        self._self_bound = bound

    def __reduce_ex__(self, protocol: object, /) -> str | tuple[Any, ...]:
        """Name it, so that the process that reads it finds its own, with its own cache."""
        return (getattr, (*self._self_bound, _attribute(self))) if self._self_bound else self.__qualname__

    def __copy__(self) -> Self:
        """Return it, as a function does: it is not changed after its decoration."""
        return self

    def __deepcopy__(self, memo: dict[int, Any], /) -> Any:
        """Return it, or, as a bound method does, the method of a copy of its instance."""
        return getattr(copy.deepcopy(self._self_bound[0], memo), _attribute(self)) if self._self_bound else self


def _attribute(method: _Decorated) -> str:
    """Return the name by which an instance has its ``method``: Python puts the class into that of a private one."""
    name, owner = method.__name__, method.__qualname__.rpartition(".")[0].rpartition(".")[2].lstrip("_")
    return f"_{owner}{name}" if name.startswith("__") and not name.endswith("__") and owner else name


class BoundCachedFunction(_Decorated, Generic[P, R]):
    """A decorated function with its leading arguments in place, as ``instance.method`` gives it.

    The methods take the same arguments as the call itself. None of them raises for a failure of the cache.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> class Shop:
        ...     @cached(key="price:<sku>", ttl="1h")
        ...     async def price(self, sku: str) -> int:
        ...         return len(sku)
        >>> async def main() -> None:
        ...     price = Shop().price
        ...     print(price.key("tea"), await price.peek("tea"))
        ...     print(await price("tea"), await price.peek("tea"), await price.refresh("tea"))
        ...     print(await price.take("tea"), await price.take("tea"), await price.invalidate("tea"))
        >>> asyncio.run(main())
        price:tea MISS
        3 3 3
        3 MISS True
    """

    def __init__(self, wrapped: Any, plan: CallPlan[..., R], runtime: Lookup, bound: tuple[Any, ...]) -> None:
        super().__init__(wrapped, bound)
        # These are not declared in the class, whose annotations would be taken for the function's.
        self._self_plan = plan
        self._self_runtime = runtime

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]:
        """Return the cached result, or run the function and cache its result."""
        bound = self._self_bound + args
        plan = self._self_plan
        if kwargs or len(bound) not in plan.counts:
            return serve_fitting(self._self_runtime(), plan, bound, kwargs)
        # By a name, here and below: `plan.serve(…)` looks for a method first, which costs a hit 130 instructions.
        call = plan.serve
        return call(self._self_runtime(), plan, bound, kwargs)

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of this call, without the cache's prefix.

        Raises:
            TypeError: The arguments do not fit the function.
            RenderError: An argument has no stable text form. The message says which, and what to write.

        Example:
            >>> from cachekit import cached
            >>> @cached(key="profile:<user_id>", ttl=600)
            ... async def profile(user_id: str) -> dict[str, int]:
            ...     return {"typos": 3}
            >>> profile.key("42")
            'profile:42'
        """
        return self._self_plan.key(self._self_bound + args, kwargs)

    async def peek(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Miss:
        """Return the cached value, or `MISS` when there is none, its TTL is over, or the store fails. Never loads.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="profile:<user_id>", ttl=600)
            ... async def profile(user_id: str) -> dict[str, int]:
            ...     return {"typos": 3}
            >>> asyncio.run(profile.peek("42")) is MISS
            True
        """
        return await peek(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function now, even on a key that is cached, and store its result. Returns the result.

        Also when the store fails: then the result is not stored.

        Raises:
            Exception: Of the function, unchanged. The cached value then stays.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> prices = iter([10, 12])
            >>> @cached(key="price:<sku>", ttl=600)
            ... async def price(sku: str) -> int:
            ...     return next(prices)
            >>> async def main() -> None:
            ...     print(await price("tea"), await price.refresh("tea"), await price("tea"))
            >>> asyncio.run(main())
            10 12 12
        """
        return await refresh(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Invalidate the result of this call. Returns whether the store acknowledged it.

        False also when an argument has no text form, or inside `Cache.after_commit`, at whose end it is done. If the
        store fails, the key is a miss in this process at once, and the journal sends it again.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="price:<sku>", ttl=600)
            ... async def price(sku: str) -> int:
            ...     return len(sku)
            >>> async def main() -> None:
            ...     print(await price("tea"), await price.invalidate("tea"), await price.peek("tea"))
            >>> asyncio.run(main())
            3 True MISS
        """
        return await invalidate_call(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def expire(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """End the TTL of the cached value now. Returns whether the store acknowledged it.

        The value stands in for loads that fail, until the end of ``stale_if_error`` that it had already, and is handed
        out for no other reason: the next call loads. A function without ``stale_if_error`` removes it, as `invalidate`
        does. So does the journal, where the store did not acknowledge it.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> prices = iter([10, 12])
            >>> @cached(key="price:<sku>", ttl=600, stale_if_error="1h")
            ... async def price(sku: str) -> int:
            ...     return next(prices)
            >>> async def main() -> None:
            ...     print(await price("tea"), await price.expire("tea"), await price("tea"))
            ...     print(await price.expire("tea"), await price("tea"))
            >>> asyncio.run(main())
            10 True 12
            True 12
        """
        return await expire_call(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def take(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Miss:
        """Return the cached value and remove it in one step: of many takers exactly one gets it.

        All other takers get `MISS`. So does every taker when there is no value or the store fails. Never loads. A value
        whose TTL is over is removed, and is `MISS`.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="challenge:<challenge_id>", ttl="5m")
            ... async def challenge(challenge_id: str) -> str:
            ...     return "a riddle"
            >>> async def main() -> None:
            ...     await challenge("c1")
            ...     print(await challenge.take("c1"), await challenge.take("c1"))
            >>> asyncio.run(main())
            a riddle MISS
        """
        return await take(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def warm(
        self,
        calls: Iterable[tuple[Any, ...]],
        *,
        concurrency: int = 100,
        progress: Callable[[int], None] | None = None,
    ) -> Warmed:
        """Bring the results of many calls into the store: for a hook that runs when an application starts.

        A call whose result is cached already asks the store once, and nothing else.

        Args:
            calls: A tuple of arguments for each call, such as ``[(1,), (2,)]``. It may be made as it is read.
            concurrency: The most calls at the same time, at least 1.
            progress: Is called after each call with the number of calls that are done.

        Returns:
            How many results were there, loaded, stored and failed. A failure of the function or the store is counted.

        Raises:
            ConfigurationError: ``concurrency`` is no such number, or ``progress`` no plain function.
            TypeError: Arguments do not fit the function; from the function itself.
            Exception: Any that ``calls`` or ``progress`` raises.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="square:<x>", ttl=600)
            ... async def square(x: int) -> int:
            ...     return x * x
            >>> async def main() -> None:
            ...     await square(2)
            ...     print(await square.warm((x,) for x in range(5)))
            >>> asyncio.run(main())
            Warmed(there=1, loaded=4, stored=4, failed=0, errors=())
        """
        bound, runtime, plan = self._self_bound, self._self_runtime(), self._self_plan
        all_calls = ((*bound, *args) if bound and isinstance(args, tuple) else args for args in calls)
        count = parse_count(concurrency, "concurrency")
        if progress is not None:
            check_callback(progress, "progress", "progress=print")
        warming = Warming(plan, serve_fitting if plan.tags is None else serve_tagged)
        return await warm(runtime, warming, all_calls, count, progress)

    async def invalidate_all(self) -> bool:
        """Invalidate all results of the function, with any arguments, in one round trip.

        The function has to have asked for it with ``tags=True``. Functions of one cache with the same key template
        share their results, and are invalidated together. Returns whether the store acknowledged it.

        Raises:
            ConfigurationError: The function has no tag of its own.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="square:<x>", ttl=600, tags=True)
            ... async def square(x: int) -> int:
            ...     print("loading")
            ...     return x * x
            >>> async def main() -> None:
            ...     print(await square(2), await square.invalidate_all(), await square(2))
            >>> asyncio.run(main())
            loading
            loading
            4 True 4
        """
        own = _own_tag(self._self_plan, "cached")
        return await invalidate(self._self_runtime(), [own], function=self._self_plan.name)

    async def set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Store ``value`` as the result of this call. Returns whether the store confirmed it.

        For a value that no other code can be writing: the last writer wins. If other code may write its source at the
        same time, use `writing` or `puts`. TTL and the other options are those of the function. A value that
        cannot be stored, one of another type for instance, is one warning, and invalidates the key. It has the tags
        that stand at the call.

        Raises:
            RoundTripError: The value would not come back as it is, of a function with ``strict=True``.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="name:<user_id>", ttl=600)
            ... async def name(user_id: int) -> str: ...
            >>> async def main() -> None:
            ...     print(await name.set("Ada", 7), await name(7))
            >>> asyncio.run(main())
            True Ada
        """
        return await set_call(self._self_runtime(), self._self_plan, value, self._self_bound + args, kwargs)

    def writing(self, /, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[Put[R]]:
        """Write the source of this call's value inside the block, and store the value when the block ends.

        ``async with name.writing(7) as put: put(await database.update(7, "Ada"))``. Loads that have begun before, in
        any process, do not overwrite the value. If other code writes or invalidates it meanwhile, or the store fails,
        or the block raises, or nothing is put, the key is invalidated. If a tag of the value is invalidated meanwhile,
        the value is a miss. Inside the block, a call of this key runs uncached. Inside an `after_commit` block, the
        value is stored when that ends normally.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="name:<user_id>", ttl=600)
            ... async def name(user_id: int) -> str: ...
            >>> async def rename(user_id: int, new: str) -> str:
            ...     async with name.writing(user_id) as put:
            ...         return put(new)  # in an application: put(await database.update(user_id, new))
            >>> async def main() -> None:
            ...     print(await rename(7, "Ada"), await name(7))
            >>> asyncio.run(main())
            Ada Ada
        """
        return writing(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    def puts(self, function: Callable[P2, Coroutine[Any, Any, R]], /) -> Callable[P2, CoroutineType[Any, Any, R]]:
        """Decorate a function that writes the source of a value and returns the value: it is stored, as by `writing`.

        ``function`` has all parameters of the key and of the tags, under the same names.

        Raises:
            DecorationError: It is no ``async def``, or lacks a parameter of the key or of a tag.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="name:<user_id>", ttl=600)
            ... async def name(user_id: int) -> str: ...
            >>> @name.puts
            ... async def rename(user_id: int, new: str) -> str:
            ...     return new  # in an application: await database.update(user_id, new)
            >>> async def main() -> None:
            ...     print(await rename(7, "Ada"), await name(7))
            >>> asyncio.run(main())
            Ada Ada
        """
        one, runtime = self._self_plan, self._self_runtime

        def decorate(function: Any) -> Any:
            if isinstance(function, (classmethod, staticmethod)):
                # The descriptor stays outside: it binds the function inside.
                return type(function)(decorate(function.__func__))
            plan: PutPlan[..., Any] = PutPlan(function, one)
            _note(plan, runtime, run_and_store)
            return PuttingFunction(function, plan, runtime)

        decorated: Callable[P2, CoroutineType[Any, Any, R]] = decorate(function)
        return decorated

    async def ttl(self, /, *args: P.args, **kwargs: P.kwargs) -> float | None:
        """Return the seconds until the TTL of the cached value is over; None when there is none, or the store fails.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="name:<user_id>", ttl=600)
            ... async def name(user_id: int) -> str: ...
            >>> async def main() -> None:
            ...     print(await name.ttl(7), await name.set("Ada", 7), round(await name.ttl(7) or 0))
            >>> asyncio.run(main())
            None True 600
        """
        return await ttl_of_call(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def touch(self, /, *args: Any, ttl: Duration | None = None, **kwargs: Any) -> bool:
        """Let the cached value of this call live for a TTL from now on, without reading or writing it.

        The ``ttl`` stands behind the arguments of the call, or by name: ``name.touch(7, "10m")`` or
        ``name.touch(7, ttl="10m")``. A value whose TTL is over stays so, and none is made: a value that is written or
        invalidated meanwhile is as it would be without. Its tags are prolonged with it.

        Returns:
            Whether there was a value, and all of its tags stood. False also when the store fails.

        Raises:
            TypeError: The arguments do not fit the function.
            ConfigurationError: The TTL makes no sense.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="session:<session_id>", ttl="10m")
            ... async def session(session_id: str) -> dict[str, str]:
            ...     return {}
            >>> async def main() -> None:
            ...     print(await session.touch("s1", "1h"), await session("s1"), await session.touch("s1", "1h"))
            ...     print(round(await session.ttl("s1") or 0))
            >>> asyncio.run(main())
            False {} True
            3600
        """
        if ttl is None:
            if not args:
                message = 'touch needs the arguments of the call and a ttl; write .touch(user_id, "10m")'
                raise TypeError(message)
            *others, ttl = args
            args = tuple(others)
        seconds = parse_duration(ttl)
        return await touch_call(self._self_runtime(), self._self_plan, seconds, self._self_bound + args, kwargs)

    async def invalidate_many(self, calls: Iterable[Any]) -> bool:
        """Invalidate the results of many calls, in one round trip. Returns whether the store acknowledged it.

        Args:
            calls: For each call its argument, or a tuple if it has several, also the ones that the key leaves out:
                ``[1, 2]`` or ``[("a", 1), ("b", 2)]``.

        Raises:
            TypeError: Arguments do not fit the function, or the calls are one text.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached(key="name:<user_id>", ttl=600)
            ... async def name(user_id: int) -> str: ...
            >>> asyncio.run(name.invalidate_many([1, 2, 3]))
            True
        """
        if isinstance(calls, (str, bytes)):
            message = f"{self._self_plan.name}.invalidate_many takes many ids, and one text is none: write [user_id]"
            raise TypeError(message)
        bound = self._self_bound
        all_calls = ((*bound, *one) if isinstance(one, tuple) else (*bound, one) for one in calls)
        return await invalidate_many(self._self_runtime(), self._self_plan, all_calls)

    def many(
        self, *, each: str | None = None, max_batch: int = MOST_IDS, absent_ttl: Duration | None = None
    ) -> ManyDecorator:
        """Decorate a function that gets many results at once: what is missing is loaded by one call of it.

        It has the keys and options of this function, and shares results and loads with it: see `cachekit.cached_many`.

        Args:
            each: The parameter that has the ids. Without it, the only one that this function does not have.
            max_batch: The most ids in one call of the function; more are split.
            absent_ttl: For how long it is remembered that the function has left an id out; None: it is not.

        Raises:
            ConfigurationError: An option makes no sense.
            DecorationError: It is no ``async def``, lacks a parameter of a tag, or does not say which one has the ids.

        Example:
            >>> import asyncio
            >>> from collections.abc import Mapping, Sequence
            >>> _ = configure("memory://")
            >>> @cached(key="square:<x>", ttl=600)
            ... async def square(x: int) -> int:
            ...     return x * x
            >>> @square.many(max_batch=500)
            ... async def squares(xs: Sequence[int]) -> Mapping[int, int]:
            ...     print("loading", xs)
            ...     return {x: x * x for x in xs}
            >>> async def main() -> None:
            ...     await square(2)
            ...     print(await squares([3, 2, 1]))
            >>> asyncio.run(main())
            loading [3, 1]
            {3: 9, 2: 4, 1: 1}
        """
        policy = BatchPolicy(max_batch=max_batch, absent_ttl=absent_ttl)
        one, runtime = self._self_plan, self._self_runtime

        def decorate(function: Any) -> Any:
            function, binds = _unwrapped(function, "many")
            plan = plan_many(function, one, each, policy)
            _note(plan, runtime, serve_ids)
            return CachedManyFunction(function, plan, runtime, binds)

        return decorate


def _own_tag(plan: CallPlan[..., Any], decorator: str) -> str:
    """Return the key of the tag of a function itself.

    Raises:
        ConfigurationError: It has none.
    """
    tags = plan.tags
    if tags is None or tags.own is None:
        message = f"{plan.name} has no tag of its own; write @{decorator}(…, tags=True)"
        raise ConfigurationError(message)
    return tag_key(tags.own)


class _Tagged(BoundCachedFunction[P, R]):
    """The methods of a function with tags. A class of its own, so that functions without them pay nothing."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]:
        """Return the cached result, or run the function and cache its result."""
        return serve_tagged(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def peek(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Miss:
        """Return the cached value, or `MISS`."""
        return await peek_tagged(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function now, and store its result."""
        return await refresh_tagged(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def take(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Miss:
        """Return the cached value and remove it in one step."""
        return await take_tagged(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    async def ttl(self, /, *args: P.args, **kwargs: P.kwargs) -> float | None:
        """Return the seconds until the TTL of the cached value is over; None when there is none, or a tag is gone."""
        return await ttl_of_tagged(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)


class _Takes(Protocol[S_contra, P2, R_co]):
    """A function whose first parameter takes an ``S``."""

    def __call__(self, first: S_contra, /, *args: P2.args, **kwargs: P2.kwargs) -> Coroutine[Any, Any, R_co]: ...


class _TakesMany(Protocol[S_contra, P2, K, V]):
    """As `_Takes`, for a function of many ids."""

    def __call__(self, first: S_contra, /, *args: P2.args, **kwargs: P2.kwargs) -> Coroutine[Any, Any, dict[K, V]]: ...


class CachedFunction(BoundCachedFunction[P, R]):
    """A function decorated with ``cached``: called as before, typed as before, with a few methods more.

    As an attribute of a class it binds like the function it wraps. To pyright, only a plain function override a method
    or stand for a method of a protocol; where a class has to satisfy one, decorate a function that its method calls.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> @cached(key="profile:<user_id>", ttl="10m")
        ... async def profile(user_id: str) -> tuple[str, int]:
        ...     print("loading")
        ...     return (user_id, 3)
        >>> async def main() -> None:
        ...     print(await profile("42"))
        ...     print(await profile("42"))
        >>> asyncio.run(main())
        loading
        ('42', 3)
        ('42', 3)
        >>> isinstance(profile, CachedFunction), profile.key(user_id="42")
        (True, 'profile:42')
    """

    def __init__(self, wrapped: Any, plan: CallPlan[..., R], runtime: Lookup, binds: str) -> None:
        super().__init__(wrapped, plan, runtime, ())
        self._self_binds = binds

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]:
        """Return the cached result, or run the function and cache its result."""
        # As above, with nothing to put before the arguments. Nearly all calls have only arguments by position, and
        # their number tells whether they fit.
        plan = self._self_plan
        if kwargs or len(args) not in plan.counts:
            return serve_fitting(self._self_runtime(), plan, args, kwargs)
        call = plan.serve
        return call(self._self_runtime(), plan, args, kwargs)

    def __set_name__(self, owner: type, name: str) -> None:
        """Refuse the default key of a method whose first parameter has a name of its own.

        Only now it is certain that no ``@staticmethod`` stands above the decorator.
        """
        function, plan = self.__wrapped__, self._self_plan
        own = f"{owner.__qualname__}.{function.__name__}" == function.__qualname__
        if own and not plan.has_template and self._self_binds == "instance":
            raise DecorationError(needs_key_of_instance(function, [*inspect.signature(function).parameters]))

    # Checkers pass over classmethod and staticmethod when they stand with other decorators, so these overloads
    # tell by the first parameter: the class (a classmethod), the instance (a method), or neither (a staticmethod).
    @overload
    def __get__(self: _Takes[S, P2, R], instance: object, owner: S, /) -> BoundCachedFunction[P2, R]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> CachedFunction[P, R]: ...
    @overload
    def __get__(self: _Takes[S, P2, R], instance: S, owner: type | None = None, /) -> BoundCachedFunction[P2, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> BoundCachedFunction[P, R]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """Bind the instance, as a function does."""
        if self._self_binds == "nothing" or (instance is None and self._self_binds == "instance"):
            return self
        if self._self_binds == "class":
            instance = owner if instance is None else type(instance) if owner is None else owner
        bound = self.__wrapped__.__get__(instance, owner)
        kind = BoundCachedFunction if self._self_plan.tags is None else _Tagged
        return kind(bound, self._self_plan, self._self_runtime, (instance,))


class TaggedFunction(_Tagged[P, R], CachedFunction[P, R]):
    """A `CachedFunction` with tags."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]:
        """Return the cached result, or run the function and cache its result."""
        # As above, and as in `CachedFunction`.
        plan = self._self_plan
        if kwargs or len(args) not in plan.counts:
            return serve_tagged(self._self_runtime(), plan, args, kwargs)
        call = plan.serve
        return call(self._self_runtime(), plan, args, kwargs)


class BoundCachedManyFunction(_Decorated, Generic[P, K, V]):
    """A decorated function of many ids with its leading arguments in place, as ``instance.method`` gives it.

    The methods take the same arguments as the call itself. None of them raises for a failure of the cache.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> class Shop:
        ...     @cached_many(key="price:<sku>", each="skus", ttl="1h")
        ...     async def prices(self, skus: list[str]) -> dict[str, int]:
        ...         return {sku: len(sku) for sku in skus}
        >>> async def main() -> None:
        ...     prices = Shop().prices
        ...     print(await prices(["tea", "cake"]), prices.keys(["tea"]), await prices.invalidate(["tea"]))
        >>> asyncio.run(main())
        {'tea': 3, 'cake': 4} ['price:tea'] True
    """

    def __init__(self, wrapped: Any, plan: BatchPlan[K, V], runtime: Lookup, bound: tuple[Any, ...]) -> None:
        super().__init__(wrapped, bound)
        self._self_plan = plan
        self._self_runtime = runtime

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, dict[K, V]]:
        """Return the cached results, and load the missing ones in one call of the function.

        Raises:
            TypeError: The arguments do not fit, the ids are one text, or the function returned no mapping.
        """
        return serve_many(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)

    def keys(self, /, *args: P.args, **kwargs: P.kwargs) -> list[str]:
        """Return the key of each id, in order, without the cache's prefix.

        Raises:
            TypeError: The arguments do not fit the function, or the ids are one text.
            RenderError: An argument has no stable text form.

        Example:
            >>> @cached_many(key="user:<user_id>", each="user_ids", ttl=600)
            ... async def users(user_ids: list[int]) -> dict[int, str]: ...
            >>> users.keys([2, 1, 2])
            ['user:2', 'user:1', 'user:2']
        """
        asked = self._self_plan.bind(self._self_bound + args, kwargs)
        return [*map(asked.key_of, asked.ids)]

    async def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Invalidate the results for these ids, in one round trip. Returns whether the store acknowledged it.

        Raises:
            TypeError: The arguments do not fit the function, or the ids are one text.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached_many(key="user:<user_id>", each="user_ids", ttl=600)
            ... async def users(user_ids: list[int]) -> dict[int, str]: ...
            >>> asyncio.run(users.invalidate([1, 2]))
            True
        """
        asked = self._self_plan.bind(self._self_bound + args, kwargs)
        return await invalidate_ids(self._self_runtime(), asked)

    async def invalidate_all(self) -> bool:
        """Invalidate all results of the function, with any ids, in one round trip. It needs ``tags=True``.

        Returns whether the store acknowledged it.

        Raises:
            ConfigurationError: The function has no tag of its own.

        Example:
            >>> import asyncio
            >>> _ = configure("memory://")
            >>> @cached_many(key="user:<user_id>", each="user_ids", ttl=600, tags=True)
            ... async def users(user_ids: list[int]) -> dict[int, str]: ...
            >>> asyncio.run(users.invalidate_all())
            True
        """
        one = self._self_plan.one
        return await invalidate(self._self_runtime(), [_own_tag(one, "cached_many")], function=one.name)


class CachedManyFunction(BoundCachedManyFunction[P, K, V]):
    """A function of many ids, decorated with `cached_many` or ``.many``: called and typed as before.

    It returns a dict, also where the function returns another mapping: in the order of the ids that were asked for,
    each once, without the ids that the function leaves out.

    Example:
        >>> import asyncio
        >>> _ = configure("memory://")
        >>> @cached_many(key="user:<user_id>", each="user_ids", ttl=600)
        ... async def users(user_ids: list[int]) -> dict[int, str]:
        ...     print("loading", user_ids)
        ...     return {user_id: f"user {user_id}" for user_id in user_ids if user_id < 10}
        >>> async def main() -> None:
        ...     print(await users([2, 1, 2]))
        ...     print(await users(range(1, 4)), await users([]), await users([99]))
        >>> asyncio.run(main())
        loading [2, 1]
        {2: 'user 2', 1: 'user 1'}
        loading [3]
        loading [99]
        {1: 'user 1', 2: 'user 2', 3: 'user 3'} {} {}
    """

    def __init__(self, wrapped: Any, plan: BatchPlan[K, V], runtime: Lookup, binds: str) -> None:
        super().__init__(wrapped, plan, runtime, ())
        self._self_binds = binds

    # As in `CachedFunction`.
    @overload
    def __get__(self: _TakesMany[S, P2, K, V], instance: object, owner: S, /) -> BoundCachedManyFunction[P2, K, V]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> CachedManyFunction[P, K, V]: ...
    @overload
    def __get__(
        self: _TakesMany[S, P2, K, V], instance: S, owner: type | None = None, /
    ) -> BoundCachedManyFunction[P2, K, V]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> BoundCachedManyFunction[P, K, V]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """Bind the instance, as a function does."""
        if self._self_binds == "nothing" or (instance is None and self._self_binds == "instance"):
            return self
        if self._self_binds == "class":
            instance = owner if instance is None else type(instance) if owner is None else owner
        bound = self.__wrapped__.__get__(instance, owner)
        return BoundCachedManyFunction(bound, self._self_plan, self._self_runtime, (instance,))


class CachedManyClassMethod(Protocol[P, K, V]):
    """The result of ``cached_many(…)(classmethod(…))``: bound, read from the class or from an instance."""

    def __get__(self, instance: object, owner: type | None = None, /) -> BoundCachedManyFunction[P, K, V]: ...


class ManyDecorator(Protocol):
    """The decorator that ``cached_many(…)`` and ``.many(…)`` return."""

    @overload
    def __call__(
        self, function: classmethod[Any, P, Coroutine[Any, Any, Mapping[K, V]]], /
    ) -> CachedManyClassMethod[P, K, V]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, Mapping[K, V]]], /) -> CachedManyFunction[P, K, V]: ...


class CachedClassMethod(Protocol[P, R]):
    """The result of ``cached(…)(classmethod(…))``: bound, read from the class or from an instance."""

    def __get__(self, instance: object, owner: type | None = None, /) -> BoundCachedFunction[P, R]: ...


class CachedDecorator(Protocol):
    """The decorator that ``cached(…)`` returns, for every kind of function that it may stand above."""

    @overload
    def __call__(self, function: classmethod[Any, P, Coroutine[Any, Any, R]], /) -> CachedClassMethod[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CachedFunction[P, R]: ...


def make_cached(runtime: Lookup, known: KnownTemplates, key: str | None, options: CachedOptions) -> CachedDecorator:
    """Return the decorator that caches in the cache that ``runtime`` looks up, whose templates are ``known``."""
    # Arguments that can be checked without the function are checked at once, at the line of the decorator.
    if key is not None and not isinstance(key, str):
        name = getattr(key, "__qualname__", repr(key))
        message = f"@cached was given {name} for a key template; write @cached(ttl=600) with its parentheses"
        raise DecorationError(message)
    try:
        policy = Policy(**options)
    except TypeError as error:
        names = [*inspect.signature(Policy).parameters]
        choices = f"its options are {', '.join(names)}, of which ttl is needed: write @cached(ttl=600)"
        message = f"@cached: {_wrong_option(options, names) or error}; {choices}"
        raise DecorationError(message) from None

    if policy.private:
        runtime = _with_keys(runtime)

    def decorate(function: Any) -> Any:
        function, binds = _unwrapped(function)
        plan: CallPlan[..., Any] = CallPlan(function, key, policy, of_class=binds == "class")
        known.add(plan)
        _note(plan, runtime, serve if plan.tags is None else serve_with_tags)
        return (CachedFunction if plan.tags is None else TaggedFunction)(function, plan, runtime, binds)

    return decorate


def make_cached_many(
    runtime: Lookup, known: KnownTemplates, key: str, each: str, options: CachedManyOptions
) -> ManyDecorator:
    """Return the decorator for functions of many ids; see `make_cached`."""
    of_batch: dict[str, Any] = {name: value for name, value in options.items() if name in _OF_BATCH}
    rest: dict[str, Any] = {name: value for name, value in options.items() if name not in _OF_BATCH}
    try:
        policy = Policy(**rest)
    except TypeError as error:
        wrong = _wrong_option(rest, [*inspect.signature(Policy).parameters, *_OF_BATCH])
        message = f"@cached_many: {wrong or error}; it needs key, each and ttl: write @cached_many({_MANY})"
        raise DecorationError(message) from None
    batch_policy = BatchPolicy(**of_batch)
    if policy.private:
        runtime = _with_keys(runtime)

    def decorate(function: Any) -> Any:
        function, binds = _unwrapped(function, "cached_many")
        plan = plan_alone(function, key, each, (policy, batch_policy))
        known.add(plan.one)
        _note(plan, runtime, serve_ids)
        return CachedManyFunction(function, plan, runtime, binds)

    return decorate


def _wrong_option(options: Mapping[str, object], names: Sequence[str]) -> str | None:
    """Return what to write in place of the first of ``options`` that is none of ``names``."""
    name = next((name for name in options if name not in names), None)
    if name is None:
        return None
    instead = meant(name, names)
    return f"there is no option {name}=" + (f"; write {instead}" if instead else "")


_OF_BATCH: Final = frozenset(inspect.signature(BatchPolicy).parameters)

_MANY: Final = 'key="user:<user_id>", each="user_ids", ttl=600'

NO_KEYS: Final = (
    "private=True needs a cache with keys, and this one has none; write Cache(url, keys=[key]) or set CACHEKIT_KEYS: "
    "make a key with cachekit.new_key()"
)


def _with_keys(runtime: Lookup) -> Lookup:
    """Return ``runtime`` for a private function: a cache without keys is an error, and never stores plain text."""

    def lookup() -> Runtime:
        found = runtime()
        if found.sealer is None and not found.reporter.off:
            raise ConfigurationError(NO_KEYS)
        return found

    return lookup


def _unwrapped(function: Any, decorator: str = "cached") -> tuple[Any, str]:
    """Return the plain function, and the thing that it binds when it is read from a class."""
    if isinstance(function, classmethod):
        return function.__func__, "class"
    if isinstance(function, staticmethod):
        return function.__func__, "nothing"
    code = getattr(function, "__code__", None)
    if defined_in_class(function) and code is not None and code.co_argcount and code.co_varnames[0] == "cls":
        # Above a descriptor that is no function, classmethod hands the class to the call alone: .key() and
        # the other methods would get none.
        message = f"@{decorator} stands below @classmethod at {function.__qualname__}; write it above @classmethod"
        raise DecorationError(message)
    return function, "instance"


class _Writer(_Decorated, Generic[P, R]):
    """A decorated function that writes: called as before, typed as before."""

    def __init__(self, wrapped: Any, plan: Any, runtime: Lookup, bound: tuple[Any, ...] = ()) -> None:
        super().__init__(wrapped, bound)
        self._self_plan = plan
        self._self_runtime = runtime

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bind the instance, as a function does."""
        if instance is None:
            return self
        bound = self.__wrapped__.__get__(instance, owner)
        return type(self)(bound, self._self_plan, self._self_runtime, (instance,))


class InvalidatingFunction(_Writer[P, R]):
    """A function decorated with ``invalidates``: called as before, typed as before."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]:
        """Run the function; when it has returned normally, invalidate the keys and the tags."""
        return write(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)


class PuttingFunction(_Writer[P, R]):
    """A function decorated with ``.puts``: called as before, typed as before."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]:
        """Run the function, and store what it returns."""
        return write_through(self._self_runtime(), self._self_plan, self._self_bound + args, kwargs)


def make_invalidates(runtime: Lookup, keys: tuple[str, ...], options: InvalidationOptions) -> Callable[[F], F]:
    """Return the decorator that invalidates in the cache that ``runtime`` looks up."""
    for template in keys:
        if not isinstance(template, str):
            message = f'@invalidates takes key templates, not {template!r}; write @invalidates("profile:<user_id>")'
            raise DecorationError(message)
    try:
        invalidation = Invalidation(keys=keys, **options)
    except TypeError:
        names = [*InvalidationOptions.__annotations__]
        name = next(name for name in options if name not in names)
        instead = nearest(name, names) or '@invalidates("profile:<user_id>") or @invalidates(tags=["team:<team_id>"])'
        message = f"@invalidates: there is no option {name}=; write {instead}; its options are {', '.join(names)}"
        raise DecorationError(message) from None

    def decorate(function: Any) -> Any:
        if isinstance(function, (classmethod, staticmethod)):
            # The descriptor stays outside: it binds the function inside.
            return type(function)(decorate(function.__func__))
        plan: WritePlan[..., Any] = WritePlan(function, invalidation)
        _note(plan, runtime, run_and_invalidate)
        return InvalidatingFunction(function, plan, runtime)

    return decorate


def with_options_in_signature(struct: type[Struct]) -> Callable[[D], D]:
    """Let people and tools see the options that ``struct`` holds by name, with their defaults."""

    def advertise(function: D) -> D:
        written = inspect.signature(function)
        named = [one for one in written.parameters.values() if one.kind is not one.VAR_KEYWORD]
        options = [one for one in inspect.signature(struct).parameters.values() if one.name not in written.parameters]
        function.__signature__ = written.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
        return function

    return advertise
