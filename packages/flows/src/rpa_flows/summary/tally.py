"""Counts scored responses in one pass; what it keeps does not grow with their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rpa_flows.codebook.model import ChoiceField, Codebook, IntegerField

NO_SEGMENT = "No segment"
_LONGEST_AXIS = 20


@dataclass(slots=True)
class Mean:
    """A running mean of the values that are there."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        """Take a value in; None counts for nothing."""
        if value is not None:
            self.total += value
            self.count += 1

    @property
    def value(self) -> float | None:
        """The mean, or None of no values."""
        return self.total / self.count if self.count else None


@dataclass(slots=True)
class Group:
    """What is counted of a set of responses; `means` by the name of a scale or distance."""

    n: int = 0
    flagged: int = 0
    votes: Counter[Any] = field(default_factory=Counter)
    nearest: Counter[str] = field(default_factory=Counter)
    means: dict[str, Mean] = field(default_factory=dict)

    def add(self, vote: Any, nearest: str | None, scores: Mapping[str, Any]) -> None:
        """Take one response in."""
        self.n += 1
        self.flagged += bool(scores["flags"])
        if vote is not None:
            self.votes[vote] += 1
        if nearest is not None:
            self.nearest[nearest] += 1
        for part in ("scales", "distances"):
            for name, value in scores[part].items():
                self.means.setdefault(name, Mean()).add(value)


@dataclass(slots=True)
class Tally:
    """A survey, counted. `positions` by label and answer, `groups` by the answer to the codebook's group field."""

    book: Codebook
    total: Group = field(default_factory=Group)
    segments: dict[str, Group] = field(default_factory=dict)
    groups: dict[Any, Group] = field(default_factory=dict)
    positions: dict[str, Counter[Any]] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)


def tally(book: Codebook, responses: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Tally:
    """Count (answers, scores) pairs of the codebook's survey."""
    view = book.summary
    nearest_name = next(iter(book.nearest), None)
    counted = Tally(
        book=book,
        segments={segment.label: Group() for segment in book.segments},
        groups={value: Group() for value in (axis(book, view.group) if view.group else ())},
        positions={label: Counter() for label in view.positions},
        flags=Counter(dict.fromkeys(book.flags, 0)),
    )
    for answers, scores in responses:
        vote = answers.get(view.vote) if view.vote else None
        nearest = scores["nearest"].get(nearest_name) if nearest_name else None
        counted.total.add(vote, nearest, scores)
        counted.segments.setdefault(scores["segment"] or NO_SEGMENT, Group()).add(vote, nearest, scores)
        if view.group is not None and (group := counted.groups.get(answers.get(view.group))) is not None:
            group.add(vote, nearest, scores)
        for label, name in view.positions.items():
            if answers.get(name) is not None:
                counted.positions[label][answers[name]] += 1
        counted.flags.update(scores["flags"])
    return counted


def axis(book: Codebook, name: str) -> dict[Any, str]:
    """The answers a field can have, in order, with what to call them; empty where they cannot be listed."""
    spec = book.fields[name]
    if isinstance(spec, ChoiceField):
        return dict(spec.codes)
    if isinstance(spec, IntegerField) and spec.range[1] - spec.range[0] < _LONGEST_AXIS:
        return {value: spec.labels.get(value, str(value)) for value in range(spec.range[0], spec.range[1] + 1)}
    return {}


def titled(book: Codebook, name: str) -> str:
    """What to call a field, scale, distance, nearest or flag."""
    sections: tuple[Mapping[str, Any], ...] = (book.fields, book.scales, book.distances, book.nearest, book.flags)
    for section in sections:
        if name in section:
            title: str = section[name].title
            return title or name.replace("_", " ").capitalize()
    return name


def percent(part: float, whole: float) -> str:
    """A share as text: "12 %", "<1 %" for what is there but rounds to none, "-" of nothing."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return "<1\N{NO-BREAK SPACE}%" if 0 < share < 0.5 else f"{share:.0f}\N{NO-BREAK SPACE}%"


def figure(mean: Mean | None) -> str:
    """A mean as text with two digits, or "-"."""
    return "-" if mean is None or mean.value is None else f"{mean.value:.2f}"


def count_cells(tally: Tally, group: Group) -> dict[str, str]:
    """How many responses, how they vote, how many are flagged, by heading."""
    book = tally.book
    cells = {"n": f"{group.n:,}", "Share": percent(group.n, tally.total.n)}
    if book.summary.vote:
        for code, label in axis(book, book.summary.vote).items():
            cells[label] = percent(group.votes[code], group.votes.total())
    cells["Flagged"] = percent(group.flagged, group.n)
    return cells


def score_cells(tally: Tally, group: Group) -> dict[str, str]:
    """Mean scales and distances, by heading."""
    names = (*tally.book.scales, *tally.book.distances)
    return {titled(tally.book, name): figure(group.means.get(name)) for name in names}
