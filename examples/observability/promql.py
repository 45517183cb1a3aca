"""As much of Prometheus as the dashboard and the alert rules need: samples of scrapes, and queries on them.

`prometheus_client` reads the text of a scrape, `promql_parser` a query. This module has their meaning: rates as
Prometheus extrapolates them, sums by labels, quantiles of histograms, arithmetic and comparisons of vectors. A query
that uses more is an error, never another answer.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeAlias

import promql_parser as ql
from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]
Vector: TypeAlias = dict[Labels, float]
Sample: TypeAlias = tuple[float, float]
"""The time in seconds, and the value."""

LOOKBACK: Final = 300.0
"""Seconds for which a sample counts as the value of its series."""


class QueryError(Exception):
    """The query uses a part of the language that is not written here."""


@dataclass
class Database:
    """The samples of scrapes."""

    series: dict[Labels, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def add(self, scrape: str, at: float) -> None:
        """Add the samples of a scrape at a time, which is later than that of the scrape before."""
        for family in text_string_to_metric_families(scrape):
            for sample in family.samples:
                labels = frozenset({**sample.labels, "__name__": sample.name}.items())
                self.series[labels].append((at, sample.value))

    def query(self, text: str, at: float) -> Vector:
        """Return the answer to a query at a time; a number has the empty set of labels.

        Raises:
            QueryError: The query is none, or uses a part of the language that is not written here.
        """
        try:
            parsed = ql.parse(text)
        except ValueError as error:
            message = f"{text!r} is no query: {error}"
            raise QueryError(message) from None
        answer = self._evaluate(parsed, at)
        return answer if isinstance(answer, dict) else {frozenset(): answer}

    # --- expressions ------------------------------------------------------------------------------

    def _evaluate(self, query: Any, at: float) -> Vector | float:
        if isinstance(query, ql.NumberLiteral):
            return float(query.val)
        if isinstance(query, ql.ParenExpr):
            return self._evaluate(query.expr, at)
        if isinstance(query, ql.VectorSelector):
            return self._instant(query, at)
        if isinstance(query, ql.AggregateExpr):
            return self._aggregate(query, at)
        if isinstance(query, ql.Call):
            return self._call(query, at)
        if isinstance(query, ql.BinaryExpr):
            return self._binary(query, at)
        message = f"a {type(query).__name__} is not written here: {query}"
        raise QueryError(message)

    def _select(self, selector: Any, begin: float, end: float) -> dict[Labels, list[Sample]]:
        """Return the samples after ``begin``, up to ``end``, of the series that ``selector`` names."""
        tests = [_matcher(one) for one in selector.matchers.matchers]
        if selector.name is not None:
            tests.append(lambda labels: labels.get("__name__") == selector.name)
        found: dict[Labels, list[Sample]] = {}
        for labels, samples in self.series.items():
            named = dict(labels)
            if all(test(named) for test in tests):
                inside = samples[bisect_right(samples, (begin, math.inf)) : bisect_right(samples, (end, math.inf))]
                if inside:
                    found[labels] = inside
        return found

    def _instant(self, selector: Any, at: float) -> Vector:
        at -= _offset(selector)
        found = self._select(selector, at - LOOKBACK, at)
        return {labels: samples[-1][1] for labels, samples in found.items()}

    def _call(self, query: Any, at: float) -> Vector | float:
        name, args = query.func.name, query.args
        if name in {"rate", "increase"}:
            selector, seconds = args[0].vector_selector, _seconds(args[0].range)
            end = at - _offset(selector)
            found = self._select(selector, end - seconds, end)
            grown = {_unnamed(one): _increase(samples, end - seconds, end) for one, samples in found.items()}
            per = seconds if name == "rate" else 1.0
            return {labels: value / per for labels, value in grown.items() if value is not None}
        if name == "histogram_quantile":
            return _quantiles(_number(self._evaluate(args[0], at)), _vector(self._evaluate(args[1], at)))
        if name in {"clamp_min", "clamp_max"}:
            bound, pick = _number(self._evaluate(args[1], at)), max if name == "clamp_min" else min
            return {labels: pick(value, bound) for labels, value in _vector(self._evaluate(args[0], at)).items()}
        message = f"the function {name} is not written here"
        raise QueryError(message)

    def _aggregate(self, query: Any, at: float) -> Vector:
        name = str(query.op)
        if name not in _AGGREGATIONS:
            message = f"the aggregation {name} is not written here"
            raise QueryError(message)
        by = [] if query.modifier is None else query.modifier.labels
        without = query.modifier is not None and query.modifier.type == ql.AggModifierType.Without
        groups: dict[Labels, list[float]] = defaultdict(list)
        for labels, value in _vector(self._evaluate(query.expr, at)).items():
            kept = frozenset((key, one) for key, one in _unnamed(labels) if (key in by) != without)
            groups[kept].append(value)
        return {labels: _AGGREGATIONS[name](values) for labels, values in groups.items()}

    def _binary(self, query: Any, at: float) -> Vector | float:
        left, right, name = self._evaluate(query.lhs, at), self._evaluate(query.rhs, at), str(query.op)
        if query.modifier is not None and (query.modifier.matching is not None or query.modifier.return_bool):
            message = f"the modifier of {name} is not written here: {query}"
            raise QueryError(message)
        if name in {"and", "or", "unless"}:
            return _of_sets(name, _vector(left), _vector(right))
        if name in _COMPARISONS:
            return _compared(_COMPARISONS[name], _vector(left), right)
        if name not in _ARITHMETIC:
            message = f"the operator {name} is not written here"
            raise QueryError(message)
        compute = _ARITHMETIC[name]
        if not isinstance(left, dict):
            if not isinstance(right, dict):
                return compute(left, right)
            return {_unnamed(labels): compute(left, value) for labels, value in right.items()}
        if not isinstance(right, dict):
            return {_unnamed(labels): compute(value, right) for labels, value in left.items()}
        others = {_unnamed(labels): value for labels, value in right.items()}
        pairs = {_unnamed(labels): value for labels, value in left.items()}
        return {labels: compute(value, others[labels]) for labels, value in pairs.items() if labels in others}


# --- values ---------------------------------------------------------------------------------------


def _divided(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)


_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
}

_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}

_AGGREGATIONS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "count": lambda values: float(len(values)),
}


def _compared(holds: Callable[[float, float], bool], left: Vector, right: Vector | float) -> Vector:
    """Return the part of ``left`` for which the comparison holds."""
    if not isinstance(right, dict):
        return {labels: value for labels, value in left.items() if holds(value, right)}
    others = {_unnamed(labels): value for labels, value in right.items()}
    return {
        labels: value
        for labels, value in left.items()
        if _unnamed(labels) in others and holds(value, others[_unnamed(labels)])
    }


def _of_sets(name: str, left: Vector, right: Vector) -> Vector:
    keys = {_unnamed(labels) for labels in right}
    if name == "or":
        ours = {_unnamed(labels) for labels in left}
        return left | {labels: value for labels, value in right.items() if _unnamed(labels) not in ours}
    return {labels: value for labels, value in left.items() if (_unnamed(labels) in keys) == (name == "and")}


def _increase(samples: Sequence[Sample], begin: float, end: float) -> float | None:
    """Return by how much a counter has grown, extrapolated to the ends of the range as Prometheus does.

    None for a single sample. A value that is smaller than the one before is a counter that began anew.
    """
    if len(samples) <= 1:
        return None
    (first, low), (last, high) = samples[0], samples[-1]
    resets = sum(before for (_, before), (_, after) in itertools.pairwise(samples) if after < before)
    grown = high - low + resets
    sampled, between = last - first, (last - first) / (len(samples) - 1)
    to_begin, to_end = first - begin, end - last
    if to_begin >= between * 1.1:
        to_begin = between / 2
    if grown > 0 and low >= 0:
        # A counter cannot have been below zero.
        to_begin = min(to_begin, sampled * low / grown)
    if to_end >= between * 1.1:
        to_end = between / 2
    return grown * (sampled + to_begin + to_end) / sampled


def _quantiles(quantile: float, buckets: Vector) -> Vector:
    """Return the quantile of each histogram, by the buckets that have its other labels."""
    histograms: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, value in buckets.items():
        named = dict(_unnamed(labels))
        if "le" in named:
            bound = float(named.pop("le"))
            histograms[frozenset(named.items())].append((bound, value))
    return {labels: _quantile(quantile, sorted(found)) for labels, found in histograms.items()}


def _quantile(quantile: float, buckets: Sequence[tuple[float, float]]) -> float:
    total = buckets[-1][1]
    if total == 0 or math.isnan(total):
        return math.nan
    rank = quantile * total
    place = bisect_left([count for _, count in buckets], rank)
    place = min(place, len(buckets) - 1)
    if place == len(buckets) - 1:
        return buckets[-2][0]
    low, below = (0.0, 0.0) if place == 0 else buckets[place - 1]
    high, count = buckets[place]
    return low + (high - low) * _divided(rank - below, count - below)


# --- parts of queries -----------------------------------------------------------------------------


def _matcher(matcher: Any) -> Callable[[Mapping[str, str]], bool]:
    name, value = matcher.name, matcher.value
    if matcher.op == ql.MatchOp.Equal:
        return lambda labels: labels.get(name, "") == value
    if matcher.op == ql.MatchOp.NotEqual:
        return lambda labels: labels.get(name, "") != value
    pattern, wanted = re.compile(value), matcher.op == ql.MatchOp.Re
    return lambda labels: (pattern.fullmatch(labels.get(name, "")) is not None) == wanted


def _unnamed(labels: Labels) -> Labels:
    return frozenset(pair for pair in labels if pair[0] != "__name__")


def _seconds(range_: timedelta) -> float:
    return range_.total_seconds()


def _offset(selector: Any) -> float:
    offset = selector.offset
    if offset is None:
        return 0.0
    if not isinstance(offset, timedelta):
        message = f"the offset {offset} is not written here"
        raise QueryError(message)
    return _seconds(offset)


def _vector(answer: Vector | float) -> Vector:
    if isinstance(answer, dict):
        return answer
    message = f"{answer} stands where a vector has to"
    raise QueryError(message)


def _number(answer: Vector | float) -> float:
    if isinstance(answer, dict):
        message = "a vector stands where a number has to"
        raise QueryError(message)
    return answer
