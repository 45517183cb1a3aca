"""The tags of a batch: rendered for each id, read together with the values, and opened together with the leases.

The rules are those of a call with tags (`cachekit._flow.tagged`), for each id on its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from cachekit._flow.batch_plan import Asked
from cachekit._flow.call import Call
from cachekit._flow.commit import any_runs_uncached
from cachekit._flow.flight import Flight
from cachekit._flow.joining import ReadResult
from cachekit._flow.runtime import Runtime
from cachekit._flow.tagged import has_tags, read_result, tagging_of
from cachekit._flow.tagged_lease import question_with_tags, seconds_of_tags
from cachekit._flow.tagging import Tagging, TagPlan
from cachekit._tiers.guard import Budget
from cachekit._tiers.leases import Question
from cachekit._tiers.near import NearTier
from cachekit._tiers.outcome import Down, Found, Outcome
from cachekit._tiers.tags import TaggedOutcome, Wanted, wanted_of
from cachekit._tiers.values import Reading
from cachekit.events import Hit
from cachekit.stores.base import Want
from cachekit.stores.scripts import Gone, Lease
from cachekit.tags import Tags, are_known


class BatchTags:
    """The tags of the ids of one batch.

    Args:
        runtime: Of its cache.
        asked: The arguments of the call. Its function has tags.
    """

    def __init__(self, runtime: Runtime, asked: Asked[Any, Any]) -> None:
        self._runtime = runtime
        self._asked = asked
        self._plan = cast("TagPlan", asked.plan.one.tags)
        self._codec = asked.plan.one.codec(runtime.reporter)
        self._wanted: dict[str, Wanted] = {}
        # By key, the keys of its tags, where all were rendered in one step.
        self._tags: dict[str, list[str]] = {}
        self._found: dict[str, TaggedOutcome] = {}
        self._names: tuple[str, ...] | None = None
        # The number of the call among all calls with tags. Its questions come behind it.
        self._began = next(runtime.numbers)

    @property
    def supported(self) -> bool:
        """Whether the store has tags. If it has none, the ids are loaded and not stored, with one warning."""
        return has_tags(self._runtime, self._asked.plan.one)

    @property
    def near(self) -> bool:
        """Whether the values may be kept near: not if their tags are known from them alone."""
        return not self._plan.from_result

    def render_all(self) -> list[str]:
        """Return the keys of all ids, and note their tags, in few steps if that is possible for this function.

        Raises:
            RenderError: One of them has none.
        """
        asked, quick = self._asked, self._plan.quick
        if quick is None:
            return [*map(self.key_of, asked.ids)]
        keys, tags_of = [*map(asked.key_of, asked.ids)], asked.of_each(quick)
        if keys:
            tags = [*map(tags_of, asked.ids)] if asked.plan.own_tags else [tags_of(asked.ids[0])] * len(keys)
            self._tags = dict(zip(keys, tags, strict=True))
            if len(self._tags) < len(keys):
                # Backwards, so that the first id with a key stands for the others.
                self._tags.update(zip(reversed(keys), reversed(tags), strict=True))
        return keys

    @property
    def key_of(self) -> Callable[[Any], str]:
        """The function that returns the key of one id, and notes the names of its tags.

        It raises a `RenderError` if one of them has no stable text form, or there are too many tags.
        """
        render, wanted = self._asked.key_of, self._wanted

        def key_of(one: Any) -> str:
            key = render(one)
            if key not in wanted:
                wanted[key] = self._wanted_at(key, one)
            return key

        return key_of

    def _wanted_of(self, key: str) -> Wanted:
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = wanted_of(key, self._tags[key], self._codec, self._asked.plan.one.windows)
        return wanted

    def _wanted_at(self, key: str, one: Any) -> Wanted:
        plan, names = self._plan, self._names
        if names is None:
            args, kwargs = self._asked.arguments_of(one)
            names = plan.names(args, kwargs)
            if not self._asked.plan.own_tags:
                self._names = names
        windows = self._asked.plan.one.windows
        if not plan.from_result:
            return Wanted(key, names, self._codec, windows)
        hint = plan.hint(key)
        return Wanted(key, names if hint is None else hint, self._codec, windows, frozenset(names))

    def runs_uncached(self, runtime: Runtime, key: str) -> bool:
        """Tell whether the running code is to invalidate ``key``, or one of its tags, or is writing it."""
        return any_runs_uncached(runtime, self._wanted[key].stored)

    # --- reading ----------------------------------------------------------------------------------

    async def read(
        self, keys: Sequence[str], budget: Budget, near: NearTier | None, values: dict[str, Any]
    ) -> tuple[Sequence[str], Sequence[Outcome], Mapping[str, ReadResult]]:
        """Read all keys and their tags in one round trip.

        Plain hits are put into ``values``. Returns the other keys, their outcomes, and more of each that was no hit.
        """
        runtime, one = self._runtime, self._asked.plan.one
        flights, reporter = runtime.flights, runtime.reporter
        begun = {key: flight for key in keys if (flight := flights.find_begun(key))} if flights.open_loops else {}
        if (
            self._tags
            and one.quick_tags
            and near is None
            and not (begun or reporter.incidents or runtime.coherence.journal)
        ):
            return await self._read_plain(keys, budget, values)
        rest = [self._wanted_of(key) for key in keys if key not in begun]
        budgets = [Budget(budget.left) for _ in begun]
        # With their leases.
        alone = [
            runtime.tagged.read(self._wanted_of(key), own, Want.HOLDER) for key, own in zip(begun, budgets, strict=True)
        ]
        many = runtime.tagged_many.read(rest, budget, Reading(one.windows, near is not None))
        found, with_leases = await asyncio.gather(many, asyncio.gather(*alone))
        budget.left = min([budget.left, *[own.left for own in budgets]])
        self._found = dict(zip([wanted.key for wanted in rest], found, strict=True))
        self._found |= zip(begun, with_leases, strict=True)
        outcomes = [self._found[key].outcome for key in keys]
        if self._plan.from_result:
            self._teach()
        results = {
            key: read_result(self._wanted[key], found, begun.get(key))
            for key, found in self._found.items()
            if type(found.outcome) is not Found or one.windows is not None
        }
        return keys, outcomes, results

    async def _read_plain(
        self, keys: Sequence[str], budget: Budget, values: dict[str, Any]
    ) -> tuple[Sequence[str], Sequence[Outcome], Mapping[str, ReadResult]]:
        """Return as `read`, for a call without anything unusual."""
        runtime, tags = self._runtime, self._tags
        asked = tags if len(keys) == len(tags) else {key: tags[key] for key in keys}
        hits, others = await runtime.tagged_many.read_plain(asked, self._codec, budget)
        values |= hits
        if runtime.reporter.observers:
            name, seconds = self._asked.plan.one.name, runtime.timeout - budget.left
            for key in hits:
                runtime.reporter.emit(Hit(key, name, seconds=seconds))
        self._wanted = {wanted.key: wanted for wanted, _ in others}
        self._found = {wanted.key: found for wanted, found in others}
        results = {
            wanted.key: read_result(wanted, found, None) for wanted, found in others if type(found.outcome) is not Found
        }
        return [*self._found], [found.outcome for _, found in others], results

    def _teach(self) -> None:
        for key, found in self._found.items():
            if isinstance(found.outcome, Found) and not found.outcome.entry.absent:
                # So that the next batch takes one round trip.
                self._plan.teach(key, tuple(found.tags))

    def tag(self, call: Call[Any], one: Any) -> None:
        """Give ``call``, of the id ``one``, which was no hit, its tags, and arguments that name those of a result."""
        wanted, found = self._wanted[call.key], self._found[call.key]
        call.args, call.kwargs = self._asked.arguments_of(one)
        call.tagging = tagging_of(self._runtime, call.plan, wanted, found, self._began)


# --- loading --------------------------------------------------------------------------------------


async def ask_all_with_tags(
    calls: Sequence[Call[Any]], questions: Sequence[Question]
) -> list[bytes | Lease | Gone | Down]:
    """Ask each question for a lease, and open the tags of all ``calls``, in one round trip."""
    first = calls[0]
    runtime, taggings = first.runtime, [cast("Tagging", call.tagging) for call in calls]
    steps = [
        (call.key, question_with_tags(call, tagging, question.token, question.unreadable))
        for call, tagging, question in zip(calls, taggings, questions, strict=True)
    ]
    # Before the question: who begins from now on is not served by what it finds.
    asked = next(runtime.numbers)
    for tagging in taggings:
        tagging.asked = asked
    names = [*dict.fromkeys([name for tagging in taggings for name in tagging.wanted.names])]
    answers, opened = await runtime.tagged_many.run_and_open(steps, names, seconds_of_tags(first), first.budget)
    for tagging in taggings:
        tags = {name: opened[name] for name in tagging.wanted.names}
        tagging.tags = tags if tagging.known and are_known(tags) else None
    return answers


def tags_of_absence(call: Call[Any], tagging: Tagging, flight: Flight) -> Tags | None:
    """Return the tags of the remembered absence of an id that its load has left out; None if it is not remembered.

    Without a result its tags are not known.
    """
    tags, plan = flight.tags, cast("TagPlan", call.plan.tags)
    return None if plan.from_result or tags is None or tags.keys() != {*tagging.wanted.names} else tags
