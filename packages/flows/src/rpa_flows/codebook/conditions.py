"""Conditions on answers and scores.

`when = { PID = [5, 6], selfLR = { ge = 6 }, ClinLR = { gt_field = "DoleLR" } }` holds when all three do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple

from rpa_flows.codebook.problems import Problems, suggestion

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
OPERATORS = (*_ORDER, "in", "missing", *(f"{name}_field" for name in _ORDER))


class Comparison(NamedTuple):
    """`name` is a field, item, scale, distance or nearest; `value` a constant, or a name for `..._field`."""

    name: str
    operator: str
    value: Any

    @property
    def names(self) -> tuple[str, ...]:
        """Everything the comparison reads."""
        return (self.name, self.value) if self.operator.endswith("_field") else (self.name,)


def parse(raw: Any, path: str, problems: Problems) -> tuple[Comparison, ...]:
    """The comparisons of one `when` table; a bare value means equal, a list means one of."""
    if not isinstance(raw, Mapping) or not raw:
        problems.add(path, f"{raw!r} holds no condition", "write when = { FIELD = VALUE }")
        return ()
    found: list[Comparison] = []
    for name, test in raw.items():
        if isinstance(test, Mapping):
            for op, value in test.items():
                if op not in OPERATORS:
                    correction = f"{suggestion(op, OPERATORS)}known are {', '.join(OPERATORS)}"
                    problems.add(f"{path}.{name}.{op}", "unknown comparison", correction)
                elif op == "in" and not isinstance(value, list):
                    problems.add(f"{path}.{name}.in", f"{value!r} is not a list", f"write in = [{value!r}]")
                elif op == "missing" and not isinstance(value, bool):
                    problems.add(f"{path}.{name}.missing", f"{value!r} is not true or false", "write missing = true")
                else:
                    found.append(Comparison(name, op, _constant(value)))
        else:
            found.append(Comparison(name, "in" if isinstance(test, list) else "eq", _constant(test)))
    return tuple(found)


def _constant(value: Any) -> Any:
    """A TOML value in the form answers have: dates are ISO text."""
    if isinstance(value, list):
        return tuple(_constant(each) for each in value)
    return value.isoformat() if isinstance(value, date) else value


def holds(comparisons: tuple[Comparison, ...], scope: Mapping[str, Any]) -> bool:
    """Whether all comparisons hold. A missing value meets none but `missing = true`."""
    return all(_holds(comparison, scope) for comparison in comparisons)


def _holds(comparison: Comparison, scope: Mapping[str, Any]) -> bool:
    value = scope[comparison.name]
    op = comparison.operator
    if op == "missing":
        return (value is None) is comparison.value
    if value is None:
        return False
    if op == "in":
        return value in comparison.value
    if op.endswith("_field"):
        other = scope[comparison.value]
        return other is not None and _ORDER[op.removesuffix("_field")](value, other)
    return _ORDER[op](value, comparison.value)
