"""Compiles a codebook's scoring into one function: answers -> scores.

Everything is a look-up: each item, scale, distance, flag and the segment is a pure function of a few answers, and those
few answers take few different values, so each gets a `Memo` keyed by them. The rules are written for reading; their
cost is paid once per combination.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rpa_flows.codebook import conditions
from rpa_flows.codebook.memo import Memo
from rpa_flows.codebook.model import (
    BooleanField,
    Codebook,
    Combination,
    Distance,
    Flag,
    Item,
    MissingShare,
    Nearest,
    Scale,
    Segment,
    StraightLine,
    span,
)

Scores = dict[str, Any]
Scorer = Callable[[Mapping[str, Any]], Scores]
_Pick = Callable[[Mapping[str, Any]], Any]
_Rule = tuple[str, _Pick, Memo]

_DIGITS = 4


class NotScorableError(ValueError):
    """An answer is not one that validation lets through."""


def compile_scorer(book: Codebook) -> Scorer:
    """A function from validated answers (every field present, None where missing) to their scores.

    It gives {"items": {name: 0..1 or None}, "scales": ..., "distances": ..., "nearest": {name: label or None},
    "flags": [names raised], "segment": label or None}. Numbers have four digits; conditions compare these. Raises
    KeyError, TypeError or NotScorableError for answers that validation would not have let through.
    """
    exact = {name: _item(book, item) for name, item in book.items.items()}
    items = tuple((name, item.field, Memo(_rounded(exact[name]))) for name, item in book.items.items())
    scales = _rules(
        (
            name,
            tuple(book.items[item].field for item in scale.items),
            _scale(scale, [exact[item] for item in scale.items]),
        )
        for name, scale in book.scales.items()
    )
    distances = _rules((name, d.between, _distance(book, d)) for name, d in book.distances.items())
    nearest = _rules((name, (n.origin, *n.positions.values()), _nearest(n)) for name, n in book.nearest.items())
    flags = _rules((name, _reads(flag), _flag(flag)) for name, flag in book.flags.items())
    segment_reads = tuple(dict.fromkeys(n for segment in book.segments for c in segment.when for n in c.names))
    pick_segment = _pick(segment_reads)
    segments = Memo(_segment(book.segments, segment_reads))
    conditions_read_scores = not {
        *segment_reads,
        *(n for f in book.flags.values() for n in _reads(f)),
    } <= set(book.fields)

    def score(answers: Mapping[str, Any]) -> Scores:
        item_scores = {name: table[answers[field]] for name, field, table in items}
        scale_scores = {name: table[pick(answers)] for name, pick, table in scales}
        distance_scores = {name: table[pick(answers)] for name, pick, table in distances}
        nearest_labels = {name: table[pick(answers)] for name, pick, table in nearest}
        scope = answers
        if conditions_read_scores:
            scope = {**answers, **item_scores, **scale_scores, **distance_scores, **nearest_labels}
        return {
            "items": item_scores,
            "scales": scale_scores,
            "distances": distance_scores,
            "nearest": nearest_labels,
            "flags": [name for name, pick, table in flags if table[pick(scope)]],
            "segment": segments[pick_segment(scope)],
        }

    return score


def _rules(parts: Any) -> tuple[_Rule, ...]:
    return tuple((name, _pick(reads), Memo(function)) for name, reads, function in parts)


def _pick(names: tuple[str, ...]) -> _Pick:
    """Reads `names` as a tuple, in one call where there are several."""
    if len(names) > 1:
        return operator.itemgetter(*names)
    return lambda scope: tuple(scope[name] for name in names)


def _item(book: Codebook, item: Item) -> Callable[[Any], float | None]:
    field = book.fields[item.field]
    if item.values:
        by_code = dict(item.values)

        def look_up(answer: Any) -> float | None:
            return None if answer is None else _turned(by_code[str(answer)], item.reverse)

        return look_up
    bounds = (0.0, 1.0) if isinstance(field, BooleanField) else span(field)
    low = item.min if item.min is not None else (bounds or (0.0,))[0]
    high = item.max if item.max is not None else (bounds or (1.0,))[-1]

    def ramp(answer: Any) -> float | None:
        if answer is None:
            return None
        if not isinstance(answer, (int, float)) or (bounds and not bounds[0] <= answer <= bounds[1]):
            raise NotScorableError(f"{item.field}: {answer!r} is not a valid answer")
        return _turned(min(1.0, max(0.0, (answer - low) / (high - low))), item.reverse)

    return ramp


def _turned(score: float, reverse: bool) -> float:
    return 1.0 - score if reverse else score


def _rounded(score: Callable[[Any], float | None]) -> Callable[[Any], float | None]:
    def rounded(answer: Any) -> float | None:
        found = score(answer)
        return None if found is None else round(found, _DIGITS)

    return rounded


def _scale(scale: Scale, items: Sequence[Callable[[Any], float | None]]) -> Callable[[tuple[Any, ...]], float | None]:
    """The mean of the items as they are, rounded once: of rounded ones, its own last digit would be wrong."""

    def mean(answers: tuple[Any, ...]) -> float | None:
        scores = (score(answer) for score, answer in zip(items, answers, strict=True))
        valid = [score for score in scores if score is not None]
        return round(sum(valid) / len(valid), _DIGITS) if len(valid) >= scale.min_valid else None

    return mean


def _distance(book: Codebook, distance: Distance) -> Callable[[tuple[Any, Any]], float | None]:
    bounds = span(book.fields[distance.between[0]])
    assert bounds is not None, "checked when the codebook was read"
    width = bounds[1] - bounds[0]

    def between(pair: tuple[Any, Any]) -> float | None:
        if None in pair:
            return None
        share = abs(pair[0] - pair[1]) / width if width else 0.0
        if share > 1.0:
            raise NotScorableError(f"{' and '.join(distance.between)}: {pair} are not valid answers")
        return round(share, _DIGITS)

    return between


def _nearest(nearest: Nearest) -> Callable[[tuple[Any, ...]], str | None]:
    labels = tuple(nearest.positions)

    def label(values: tuple[Any, ...]) -> str | None:
        origin, *positions = values
        if origin is None or None in positions:
            return None  # with one position unknown, the unknown one might be the nearer
        gaps = [abs(position - origin) for position in positions]
        closest = min(gaps)
        return labels[gaps.index(closest)] if gaps.count(closest) == 1 else nearest.tie

    return label


def _reads(flag: Flag) -> tuple[str, ...]:
    if isinstance(flag, Combination):
        return tuple(dict.fromkeys(name for comparison in flag.when for name in comparison.names))
    return flag.fields


def _flag(flag: Flag) -> Callable[[tuple[Any, ...]], bool]:
    match flag:
        case MissingShare():
            return lambda values: values.count(None) >= flag.at_least * len(values)
        case StraightLine():
            return _straight_line(flag)
        case Combination():
            reads = _reads(flag)
            return lambda values: conditions.holds(flag.when, dict(zip(reads, values, strict=True)))


def _straight_line(flag: StraightLine) -> Callable[[tuple[Any, ...]], bool]:
    needed = flag.min_answers or len(flag.fields)

    def same(values: tuple[Any, ...]) -> bool:
        answered = [value for value in values if value is not None]
        return len(answered) >= needed and len(set(answered)) == 1

    return same


def _segment(segments: tuple[Segment, ...], reads: tuple[str, ...]) -> Callable[[tuple[Any, ...]], str | None]:
    def first_that_holds(values: tuple[Any, ...]) -> str | None:
        scope = dict(zip(reads, values, strict=True))
        return next((segment.label for segment in segments if conditions.holds(segment.when, scope)), None)

    return first_that_holds
