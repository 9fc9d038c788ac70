"""Shrinking a run's schedule by replaying it."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click

from rpa_testkit.checkers.stored import from_json
from rpa_testkit.checkers.verdict import Judgement, Status
from rpa_testkit.drivers.choose import choose
from rpa_testkit.history.reader import SCHEDULE, VERDICT, History
from rpa_testkit.planted import planting
from rpa_testkit.programs import temporary_root
from rpa_testkit.runner.run import run
from rpa_testkit.scenario.library import replayed
from rpa_testkit.scenario.schedule import Schedule, closed_up, read_schedule
from rpa_testkit.shrink import Budget, save_regression
from rpa_testkit.shrink import shrink as search
from rpa_testkit.warden.client import Warden


def shrunk_run(folder: Path, *, k: int, n: int, budget: Budget, planted: str | None, save: Path) -> str:
    """Search, save the smallest schedule with its test in `save`, and say what was reached.

    A replay fails as RUN did when one of the checkers that failed there fails again: another failure, or a fault that
    could not be verified, is not the one that is looked for. ValueError if RUN did not fail.
    """
    wanted = _failed(from_json((folder / VERDICT).read_bytes()))
    if not wanted:
        raise ValueError(f"no checker failed in {folder}: there is nothing to make smaller")
    schedule, header = read_schedule(folder / SCHEDULE), History.open(folder).header
    driver = choose(header.driver)
    with (
        planting(replayed(schedule, header), planted)
        if planted
        else nullcontext(replayed(schedule, header)) as scenario,
        tempfile.TemporaryDirectory(prefix="rpa-shrink-", dir=temporary_root()) as runs,
        Warden.start(Path(runs)) as warden,
    ):

        def fails(candidate: Schedule) -> bool:
            closed = closed_up(candidate)
            done = run(scenario, driver, seed=candidate.seed, reports=Path(runs), warden=warden, schedule=closed)
            failed = bool(wanted & _failed(done.judgement))
            click.echo(f"{len(candidate.events):4} events: {'fails' if failed else 'passes'}")
            return failed

        found = search(schedule, fails, k=k, n=n, budget=budget)
    closed = replace(found, schedule=closed_up(found.schedule))
    test = save_regression(closed, save, driver=header.driver, spec=header.spec)
    return f"{found.says}\nregression test: {test}"


def _failed(judgement: Judgement) -> set[str]:
    return {verdict.checker for verdict in judgement.verdicts if verdict.status is Status.FAIL}
