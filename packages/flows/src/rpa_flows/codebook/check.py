"""What one entry of a codebook cannot know alone: names that are referred to, ranges that must agree."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from typing import Any

from rpa_flows.codebook.conditions import Comparison
from rpa_flows.codebook.model import (
    BooleanField,
    ChoiceField,
    Codebook,
    Combination,
    DateField,
    FieldSpec,
    IntegerField,
    Item,
    NumberField,
    TextField,
    span,
)
from rpa_flows.codebook.problems import Problems, suggestion

_NUMERIC = ("items", "scales", "distances")
_NAMED = ("fields", *_NUMERIC, "nearest")


def check_references(book: Codebook, raw: Mapping[str, Any], problems: Problems) -> None:
    """Note every problem between entries. `raw` knows the entries that failed on their own: not reported twice."""
    _Checker(book, raw, problems).run()


class _Checker:
    def __init__(self, book: Codebook, raw: Mapping[str, Any], problems: Problems) -> None:
        self._book = book
        self._problems = problems
        self._written = {section: set(raw.get(section) or ()) for section in _NAMED}

    def run(self) -> None:
        book = self._book
        try:
            codecs.lookup(book.encoding)
        except LookupError:
            self._problems.add("encoding", f"{book.encoding!r} is not known", 'write for example "utf-8" or "cp1252"')
        self._unique_names()
        self._fields("key", book.key)
        for name, item in book.items.items():
            self._item(f"items.{name}", item)
        for name, scale in book.scales.items():
            self._known(f"scales.{name}.items", scale.items, "items")
            if scale.min_valid > len(scale.items):
                self._problems.add(
                    f"scales.{name}.min_valid",
                    f"{scale.min_valid} is more than the scale's {len(scale.items)} items",
                    f"write at most {len(scale.items)}",
                )
        for name, distance in book.distances.items():
            self._same_range(f"distances.{name}.between", distance.between)
        for name, nearest in book.nearest.items():
            self._same_range(f"nearest.{name}", (nearest.origin, *nearest.positions.values()))
        self._flags()
        for number, segment in enumerate(book.segments):
            self._when(f"segments[{number}].when", segment.when)
            if not segment.when and number < len(book.segments) - 1:
                self._problems.add(
                    f"segments[{number}].when",
                    "missing, so that no later segment is ever reached",
                    "add conditions or move the segment to the end",
                )
        self._fields("jitter", book.jitter)
        view = book.summary
        self._fields("summary.vote", [view.vote] if view.vote else [])
        self._fields("summary.group", [view.group] if view.group else [])
        self._fields("summary.positions", view.positions.values())

    def _unique_names(self) -> None:
        owner: dict[str, str] = {}
        for section in _NAMED:
            for name in self._written[section]:
                if name in owner:
                    self._problems.add(
                        f"{section}.{name}",
                        f"{owner[name]}.{name} has the same name",
                        "rename one of the two",
                    )
                owner[name] = section

    def _known(self, path: str, names: Iterable[str], *sections: str) -> list[str]:
        """The names that exist in one of `sections`; the others are noted."""
        known = {name for section in sections for name in self._written[section]}
        found = []
        for name in names:
            if name in known:
                found.append(name)
            else:
                correction = f"{suggestion(name, known)}known are {', '.join(sorted(known)) or 'none'}"
                self._problems.add(path, f"{name!r} is not in {' or '.join(sections)}", correction)
        return found

    def _fields(self, path: str, names: Iterable[str]) -> None:
        self._known(path, names, "fields")

    def _field(self, name: str) -> FieldSpec | None:
        return self._book.fields.get(name)

    def _item(self, path: str, item: Item) -> None:
        self._fields(f"{path}.field", [item.field])
        field = self._field(item.field)
        if field is None:
            return
        if item.values:
            codes = _codes(field)
            if codes is None:
                self._problems.add(f"{path}.values", f"{item.field} has no listed codes", "use min and max")
            elif set(item.values) != codes:
                self._problems.add(
                    f"{path}.values",
                    f"does not cover the codes of {item.field}",
                    f"list {', '.join(sorted(codes))}",
                )
            return
        if isinstance(field, (TextField, DateField, ChoiceField)):
            self._problems.add(
                f"{path}.field",
                f"{item.field} is {field.type}, which has no order",
                "add values = { CODE = SCORE, ... }" if isinstance(field, ChoiceField) else "use a numeric field",
            )
        elif not isinstance(field, BooleanField):
            bounds = span(field)
            low = item.min if item.min is not None else (bounds[0] if bounds else None)
            high = item.max if item.max is not None else (bounds[1] if bounds else None)
            if low is None or high is None:
                self._problems.add(path, f"{item.field} has no range", "add min and max, or a range to the field")
            elif low >= high:
                self._problems.add(path, f"min {low:g} is not below max {high:g}", "write the smaller as min")

    def _same_range(self, path: str, names: Iterable[str]) -> None:
        names = list(names)
        self._fields(path, names)
        spans = {name: span(field) for name in names if (field := self._field(name)) is not None}
        for name, bounds in spans.items():
            if bounds is None:
                self._problems.add(path, f"{name} has no range", f"give fields.{name} a numeric type and a range")
        if len(set(spans.values()) - {None}) > 1:
            listed = ", ".join(f"{name} {bounds[0]:g}-{bounds[1]:g}" for name, bounds in spans.items() if bounds)
            self._problems.add(path, f"ranges differ: {listed}", "compare only fields measured on the same range")

    def _flags(self) -> None:
        for name, flag in self._book.flags.items():
            if isinstance(flag, Combination):
                self._when(f"flags.{name}.when", flag.when)
            else:
                self._fields(f"flags.{name}.fields", flag.fields)

    def _when(self, path: str, comparisons: Iterable[Comparison]) -> None:
        for comparison in comparisons:
            known = self._known(path, comparison.names, *_NAMED)
            if len(known) < len(comparison.names):
                continue
            kinds = {name: self._kind(name) for name in known}
            if comparison.operator.endswith("_field"):
                if len({kind for kind in kinds.values() if kind}) > 1:
                    listed = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
                    self._problems.add(f"{path}.{comparison.name}", listed, "compare fields of the same kind")
            elif comparison.operator != "missing":
                self._constant(f"{path}.{comparison.name}", comparison, kinds[comparison.name])

    def _constant(self, path: str, comparison: Comparison, kind: str | None) -> None:
        """A constant of another kind than the answer would fail, or never match, for every response."""
        values = comparison.value if comparison.operator == "in" else (comparison.value,)
        field = self._field(comparison.name)
        for value in values:
            if kind is not None and _kind_of(value) != kind:
                self._problems.add(path, f"{value!r} is not a {kind}", f"compare {comparison.name} with a {kind}")
            elif isinstance(field, ChoiceField) and value not in field.codes:
                listed = ", ".join(map(str, field.codes))
                self._problems.add(path, f"{value!r} is no code of {comparison.name}", f"use one of {listed}")

    def _kind(self, name: str) -> str | None:
        """What an answer or score compares with: number, text or truth value; None where it could not be read."""
        if any(name in self._written[section] for section in _NUMERIC):
            return "number"
        field = self._field(name)
        if field is None:
            return "text" if name in self._written["nearest"] else None
        if isinstance(field, (IntegerField, NumberField)):
            return "number"
        if isinstance(field, ChoiceField):
            return _kind_of(next(iter(field.codes)))
        return "truth value" if isinstance(field, BooleanField) else "text"


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "truth value"
    return "number" if isinstance(value, (int, float)) else "text"


def _codes(field: FieldSpec) -> set[str] | None:
    """The codes an item's `values` must list, as TOML writes them."""
    if isinstance(field, ChoiceField):
        return set(field.choices)
    if isinstance(field, IntegerField) and span(field) is not None and field.range[1] - field.range[0] < 100:
        return {str(code) for code in range(field.range[0], field.range[1] + 1)}
    return None
