"""What is advised: a table of rules from what was seen to what to do about it.

A rule says nothing without figures or lines of the history to show for it; a run that gives no cause gets no advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rpa_testkit.reports.advice_faults import FAULT_RULES
from rpa_testkit.reports.advice_use import USE_RULES
from rpa_testkit.reports.gather import Gatherer
from rpa_testkit.reports.model import Advice, Report

Rule = Callable[[Report, Gatherer], Iterator[Advice]]

RULES: tuple[Rule, ...] = (*FAULT_RULES, *USE_RULES)


def recommend(report: Report, seen: Gatherer) -> tuple[Advice, ...]:
    """All rules' advice, in the table's order."""
    return tuple(advice for rule in RULES for advice in rule(report, seen))
