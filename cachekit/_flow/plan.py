"""The plan of a decorated function: everything is decided once, at decoration, so that a call decides nothing."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
import types
import typing
import weakref
from collections.abc import Callable, Container, Coroutine, Hashable, Iterator
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar, cast

from cachekit._flow.arguments import Arguments, arguments_of
from cachekit._flow.policy import NoAnswerError, Policy
from cachekit._flow.runtime import Lookup
from cachekit._flow.tagging import TagPlan
from cachekit._tiers.incidents import LOGGER
from cachekit._tiers.reporter import Reporter
from cachekit.codecs import Codec, FallbackCodec
from cachekit.errors import DecorationError, RenderError
from cachekit.events import Uncached
from cachekit.freshness import Windows
from cachekit.keys import (
    Fit,
    KeyFunction,
    KeysFunction,
    compile_default_key,
    compile_fit,
    compile_key,
    default_head,
    fitting_counts,
    parameters_alone,
    without_text,
)

P = ParamSpec("P")
R = TypeVar("R")


Serve: TypeAlias = "Callable[..., types.CoroutineType[Any, Any, Any]]"


def renamed(serve: Callable[..., Any], name: str) -> Serve:
    """Return a copy of an ``async def`` whose coroutines have the ``name`` of a decorated function.

    Python shows it when the ``await`` is forgotten, and in a task. To name each coroutine would cost each hit.
    """
    plain = cast("types.FunctionType", serve)
    copy = types.FunctionType(plain.__code__, plain.__globals__)
    copy.__qualname__ = name
    return copy


class CallPlan(Generic[P, R]):
    """How calls of one function are cached.

    Args:
        function: The ``async def``, not bound.
        key: A key template, or None for the default key.
        policy: The options of `cachekit.cached`.
        of_class: Whether the function is a classmethod's.

    Raises:
        DecorationError: The function or the template cannot be decorated.
    """

    lookup: Lookup
    """How its cache is found; its decorator sets it."""
    serve: Serve
    """Serves a call whose arguments fit, under the name of the function; its decorator sets it."""

    def __init__(
        self, function: Callable[P, Coroutine[Any, Any, R]], key: str | None, policy: Policy, *, of_class: bool = False
    ) -> None:
        signature = self.signature_of(function)
        self.signature: inspect.Signature = signature
        self.function = function
        self.name: str = describe(function)
        self.policy: Policy = policy
        self.near: bool | None = policy.near if policy.offline is None else True
        self.windows: Windows | None = policy.windows
        """None for a function without an option about stale values: its calls go the short way."""
        # The policy has parsed these.
        self.lease: float = cast("float", policy.lease)
        self.load_timeout: float | None = cast("float | None", policy.load_timeout)
        self.soft_timeout: float | None = cast("float | None", policy.soft_timeout)
        stale_on = cast("tuple[type[Exception], ...]", policy.stale_on)
        self.failures: tuple[type[Exception], ...] = (*stale_on, TimeoutError)
        """The exceptions that may be failures of a load, for which a stale value stands in."""
        self.fit: Fit = compile_fit(signature)
        self.counts: Container[int] = fitting_counts(signature)
        self.render: KeyFunction = (
            compile_default_key(function, signature, of_class=of_class) if key is None else compile_key(key, signature)
        )
        self.has_template: bool = key is not None
        self._of_class = of_class
        self.arguments: Arguments = arguments_of(policy, signature, key, self.name, of_class=of_class)
        self.template: str = default_head(function) if key is None else key
        self.tags: TagPlan | None = TagPlan(policy.tags, signature, self.template) if policy.tags else None
        """None for a function without tags: its calls go another way."""
        usual = self.windows is None and not policy.private
        self.quick_tags: KeysFunction | None = self.tags.quick if self.tags is not None and usual else None
        """Returns the keys of the tags, for the short way of a hit; None if there is none for this function."""
        self.sharing: Sharing | None = None
        """The plans of the same cache whose keys may be equal to the keys of this one."""
        # Arguments that do not fit are an error of the function, and say its name.
        self.render.__name__, self.render.__qualname__ = function.__name__, function.__qualname__
        self.built_codec: Codec | None = None
        """The codec, once its types are there: a hit reads it here, without a call."""
        self._plain_codec: Codec | None = None
        """The codec in place of one for an annotation that cannot be used. The first call makes an event of it."""
        with contextlib.suppress(NameError):
            # A type of that name may be defined further down: the first call tries again.
            codec = self._make_codec()
            self.built_codec = None if codec is self._plain_codec else codec

    def signature_of(self, function: Any) -> inspect.Signature:
        """Return the signature of the calls.

        Raises:
            DecorationError: It is no ``async def``.
        """
        return check_function(function, "cached")

    def annotation(self) -> Any:
        """Return the type of the results.

        Raises:
            Exception: As `return_annotation`.
        """
        return return_annotation(self.function)

    def key_of(self, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return the key of a call, or None, with one warning, when an argument cannot be rendered.

        Raises:
            TypeError: The arguments do not fit the function's signature.
        """
        try:
            key = self.render(*args, **kwargs)
        except RenderError as error:
            reporter.skipped(self.name, "argument", self.why(error, reporter, args, kwargs))
            return None
        if reporter.incidents:
            reporter.resolved(self.name, "argument")
        return key

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the key of a call.

        Raises:
            TypeError: The arguments do not fit the function's signature.
            RenderError: An argument cannot be rendered.
        """
        try:
            return self.render(*args, **kwargs)
        except RenderError as error:
            reason = self._explain(args, kwargs) or str(error)
        raise RenderError(reason)

    def why(self, error: RenderError, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return for people why these arguments have no key, and what to write."""
        # While the incident goes on nobody reads it.
        told = (self.name, "argument") in reporter.incidents
        return (None if told else self._explain(args, kwargs)) or str(error)

    def _explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return which parameters keep the key from being rendered, and what to write; None if none does alone."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        first, *others = self.signature.parameters or ("",)
        names = [first, *others] if not self._of_class else others
        if self.has_template:
            names = parameters_alone(self.template)
        wrong = without_text(names, bound.arguments)
        kinds = " and ".join(f"{name} ({kind})" for name, kind in wrong.items())
        part = f"<{next(iter(wrong), '')}.id>"
        if not wrong:
            return None
        if self.has_template:
            return f"its key has {kinds}, which has no stable text form; name a part of it, such as {part}"
        own = [f"<{first}.__name__>"] if self._of_class else []
        template = ":".join([self.function.__name__, *own, *[f"<{name}>" for name in names if name not in wrong]])
        return (
            f'its default key has all parameters, and {kinds} cannot be part of a key; write key="{template}", and in '
            f"it a part such as {part} if results depend on that"
        )

    def codec(self, reporter: Reporter) -> Codec:
        """Return the codec of the return annotation.

        It was made at decoration, unless the annotation names a type that was not there yet.

        Raises:
            DecorationError: The annotation cannot be used, and the function is cached with ``strict=True``.
        """
        if self.built_codec is not None:
            return self.built_codec
        try:
            codec = self._plain_codec or self._make_codec()
        except NameError as error:
            codec = self._make_plain_codec(error)
        if codec is self._plain_codec:
            reporter.emit(Uncached(self.name, "annotation"))
        self.built_codec = codec
        return codec

    def ttl_of(self, result: R, reporter: Reporter, key: str) -> float | None:
        """Return for how many seconds ``result`` is stored at ``key``, or None when it is not: observers are told."""
        policy, option = self.policy, "ttl"
        try:
            if policy.when is not None:
                option = "when"
                if not policy.wants(result):
                    reporter.not_stored(self.name, key, option)
                    return None
                option = "ttl"
            ttl = policy.ttl_of(result)
        # The user's policy is no part of the function: it must not break a call that has its result.
        except NoAnswerError as error:
            why = str(error)
        except Exception as error:
            why = f"its {option} raised {type(error).__name__}"
        else:
            reporter.resolved(self.name, "policy")
            return ttl
        reporter.log(self.name, "policy", f"{self.name} is not cached: {why}")
        reporter.not_stored(self.name, key, option)
        return None

    def _make_codec(self) -> Codec:
        """Return the codec of the return annotation, or one of plain JSON when it cannot be used.

        Raises:
            NameError: A type of the annotation is not there (yet).
            DecorationError: The annotation cannot be used, and the function is cached with ``strict=True``.
        """
        try:
            return self._codec_of(self.annotation())
        except NameError:
            raise
        # TypeError for a type nobody can decode, and any other exception that evaluating an annotation raises.
        except Exception as error:
            return self._make_plain_codec(error)

    def _make_plain_codec(self, error: Exception) -> Codec:
        """Return the codec of plain JSON, which still makes the round trip, checked, and say why it is that one."""
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        why = f"{self.name} is not cached: its return annotation cannot be used ({reason})"
        if self.policy.strict:
            message = f"{why}; with strict=True it must be a type that comes back from JSON as it was"
            raise DecorationError(message) from None
        LOGGER.warning("%s, so only results that are plain JSON are", why)
        self._plain_codec = self._codec_of(Any, FallbackCodec)
        return self._plain_codec

    def _codec_of(self, annotation: Any, kind: type[Codec] = Codec) -> Codec:
        policy = self.policy
        return kind(annotation, self.name, strict=policy.strict, max_bytes=policy.max_bytes, private=policy.private)


def return_annotation(function: Any) -> Any:
    """Return the type that ``function`` returns, and `Any` when it does not say.

    The annotations of its parameters are not evaluated: they may name types that only type checkers import.

    Raises:
        Exception: Any that evaluating the annotation raises; a `NameError` for a name that is not there (yet).
    """
    alone = types.SimpleNamespace(
        __annotations__={"return": function.__annotations__.get("return", Any)},
        __type_params__=getattr(function, "__type_params__", ()),
    )
    scope = inspect.unwrap(function)
    return typing.get_type_hints(alone, getattr(scope, "__globals__", {}), include_extras=True)["return"]


def describe(function: Callable[..., object]) -> str:
    """Return how logs and events call ``function``."""
    return f"{function.__module__}.{function.__qualname__}"


def check_function(function: Any, decorator: str) -> inspect.Signature:
    """Return the signature of what ``decorator`` was put on.

    Raises:
        DecorationError: It is no ``async def``.
    """
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isasyncgenfunction(function):
        message = (
            f"@{decorator} cannot decorate {name}: it is an async generator, which has no one result; "
            "collect it in an `async def` that returns a list, and decorate that"
        )
        raise DecorationError(message)
    # A partial is taken for a coroutine function, but has no name for a key or a log.
    if not inspect.iscoroutinefunction(function) or not hasattr(function, "__qualname__"):
        message = (
            f"@{decorator} cannot decorate {name}: it is not an `async def`; "
            f"make it one (blocking work goes through asyncio.to_thread), and write {_ABOVE[decorator]} above it"
        )
        raise DecorationError(message)
    return inspect.signature(function)


_ABOVE: Final = {
    "cached": "@cached(ttl=600) with its parentheses",
    "cached_many": '@cached_many(key="user:<user_id>", each="user_ids", ttl=600) with its parentheses',
    "invalidates": '@invalidates("profile:<user_id>") with its parentheses',
    "many": "@profile.many() with its parentheses",
    "puts": "@profile.puts",
}
"""How each decorator is written."""


class Sharing:
    """The plans of one cache that render equal keys. It lives as long as one of them does."""

    def __init__(self) -> None:
        self.plans: weakref.WeakSet[CallPlan[..., Any]] = weakref.WeakSet()
        self.told: bool = False


class KnownTemplates:
    """The templates of one cache, so that two functions that would hand out each other's results are told.

    It keeps no function alive.
    """

    def __init__(self) -> None:
        self._sharing: weakref.WeakValueDictionary[str, Sharing] = weakref.WeakValueDictionary()
        # Of functions whose wrappers have no template: a wrapper has the name of the function inside, and so its key.
        self._wrapped: weakref.WeakKeyDictionary[Any, Hashable] = weakref.WeakKeyDictionary()

    def add(self, plan: CallPlan[..., Any]) -> None:
        """Note ``plan``; log one warning if an earlier one has equal keys and results that are not its own.

        Raises:
            DecorationError: An earlier one wraps the same function, in another way, and neither has a template.
        """
        if not plan.has_template:
            original, wrapping = inspect.unwrap(plan.function), _wrapping(plan.function)
            if self._wrapped.setdefault(original, wrapping) != wrapping:
                message = (
                    f"@cached cannot name {plan.name} in a key: another wrapper of this function has its name as well, "
                    f'and they would share their results; write key="{plan.function.__name__}:…", '
                    "and in it everything that tells these functions apart"
                )
                raise DecorationError(message)
        # The names of the parameters are no part of a key.
        text = re.sub(r"<[^<>]*>", "<>", plan.template)
        sharing = plan.sharing = self._sharing.setdefault(text, Sharing())
        others = [other for other in sharing.plans if _clash(plan, other)]
        sharing.plans.add(plan)
        if others and not sharing.told:
            sharing.told = True
            LOGGER.warning(
                "%s and %s share keys (%r and %r), but not their results, so each may be given results of the other; "
                "give one of them another key=",
                *(others[0].name, plan.name, others[0].template, plan.template),
            )


def _clash(one: CallPlan[..., Any], other: CallPlan[..., Any]) -> bool:
    if _returned(one) != _returned(other):
        return True
    # Without a template the name alone tells functions apart, and a wrapper may have copied it.
    alike = getattr(one.function, "__code__", None) is getattr(other.function, "__code__", None)
    return not one.has_template and alike and one.function is not other.function


def _wrapping(function: Any) -> Hashable:
    """Return what stands around the function that is wrapped in the end: equal for wrappers that do the same.

    It keeps nothing alive: what a wrapper holds stands in it by its value if it is plain, else by its address.
    """
    chain = [function]
    while (inner := getattr(chain[-1], "__wrapped__", None)) is not None:
        chain.append(inner)
    places = {id(one): place - len(chain) for place, one in enumerate(chain)}
    around: list[Hashable] = []
    for one, inner in itertools.pairwise(chain):
        code = getattr(one, "__code__", None)
        # A proxy, such as a decorated function, has the code of what it wraps, and adds nothing.
        if code is not getattr(inner, "__code__", None):
            held = [(type(x), x if type(x) in _PLAIN else places.get(id(x), id(x))) for x in _held(one)]
            around.append((id(code), *held))
    return tuple(around)


_PLAIN: Final = frozenset({str, int, float, bool, bytes, types.NoneType})


def _held(function: Any) -> Iterator[object]:
    """Yield what a function got when it was made: the content of its closure, and its defaults."""
    for cell in getattr(function, "__closure__", None) or ():
        # A variable that is not set yet has no content.
        with contextlib.suppress(ValueError):
            yield cell.cell_contents
    yield from getattr(function, "__defaults__", None) or ()
    yield from (getattr(function, "__kwdefaults__", None) or {}).values()


def _returned(plan: CallPlan[..., Any]) -> object:
    """Return the annotated type of the result, or its text if it cannot be resolved yet."""
    try:
        return plan.annotation()
    # As in `CallPlan`: evaluating an annotation may raise anything.
    except Exception:
        return getattr(plan.function, "__annotations__", {}).get("return", Any)
