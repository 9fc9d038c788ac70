"""What the commands show, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpa_testkit.checkers.verdict import Judgement, Status

if TYPE_CHECKING:
    from rpa_testkit.reports.trends import Trends

_STYLE = {Status.PASS: "green", Status.FAIL: "bold red", Status.UNKNOWN: "yellow"}


def judgement(judged: Judgement) -> None:
    """Each checker's verdict, and the first evidence of those that did not pass."""
    table = Table("checker", "verdict", "what it says", box=None, padding=(0, 2))
    for verdict in judged.verdicts:
        table.add_row(verdict.checker, Text(verdict.status, style=_STYLE[verdict.status]), Text(verdict.says))
        for evidence in verdict.evidence[:3] if verdict.status is not Status.PASS else ():
            at = "" if evidence.t is None else f"{evidence.t:.2f} s: "
            table.add_row("", "", Text(f"{at}{evidence.says}", style="dim"))
    console = Console(soft_wrap=False)
    console.print(table)
    console.print(Text(f"verdict: {judged.status}", style=_STYLE[judged.status]))


def scenarios() -> None:
    """The library."""
    from rpa_testkit.scenario.library import SCENARIOS
    from rpa_testkit.scenario.schedule import compile_schedule

    table = Table("scenario", "records", "workers", "faults", "about", box=None, padding=(0, 2))
    for scenario in SCENARIOS.values():
        events = len(compile_schedule(scenario, 0).events)
        workers = len(scenario.topology.workers)
        table.add_row(scenario.name, f"{scenario.workload.records:,}", str(workers), str(events), scenario.about)
    Console().print(table)


def faults() -> None:
    """Every kind, and which driver can inject it here."""
    from rpa_testkit.drivers.choose import NAMES, choose
    from rpa_testkit.faults.catalogue import KINDS

    drivers = {name: choose(name) for name in NAMES}
    table = Table("fault", "strikes", *drivers, "what it does", box=None, padding=(0, 2))
    for kind in KINDS.values():
        can = ["no" if driver.cannot(kind.name) else "yes" for driver in drivers.values()]
        table.add_row(kind.name, kind.strikes, *can, kind.about)
    Console().print(table)


def checkers() -> None:
    """Every checker."""
    from rpa_testkit.checkers.judge import CHECKERS

    table = Table("checker", "about", box=None, padding=(0, 2))
    for name, checker in CHECKERS.items():
        table.add_row(name, checker.about)
    Console().print(table)


def trends(reports: Path) -> Trends:
    """The store's runs by scenario, driver and machine; returns what was shown."""
    from rpa_testkit.reports import trends as store

    found = store.trends(reports)
    Console().print(store.table(found))
    return found
