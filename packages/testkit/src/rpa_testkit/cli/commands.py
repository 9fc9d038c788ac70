"""The subcommands. What they import, they import when they are called: the first scenario must not wait for it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rpa_testkit.runner.run import Run
    from rpa_testkit.scenario.model import Scenario
    from rpa_testkit.scenario.schedule import Schedule

REPORTS = Path("reports/chaos")
_EXIT = {"pass": 0, "fail": 1, "unknown": 2}
_reports = click.option(
    "--reports", type=click.Path(path_type=Path), default=REPORTS, show_default=True, help="Where runs are kept."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def group() -> None:
    """Break workers, their network and their database on purpose, and judge what became of every record.

    A run's folder holds its schedule, its history, its judgement and its report. Exit codes: 0 passed, 1 failed,
    2 unknown (something could not be seen), 64 usage, 69 the system did not start.
    """


@group.command()
@click.argument("scenarios", metavar="[SCENARIO]...", nargs=-1)
@click.option("--driver", multiple=True, help="process, docker, or both; may be given twice.  [default: process]")
@click.option("--seed", type=int, help="The same seed gives the same schedule.  [default: random]")
@click.option("--minutes", type=float, help="Random faults of every kind for so long, instead of a scenario.")
@click.option("--records", type=int, help="Another number of records than the scenario's.")
@click.option("--planted", help="Plant a known defect (see rpa_testkit.planted), to see that it is found.")
@click.option("--repeat", type=int, default=1, show_default=True, help="Further runs with the seeds that follow.")
@_reports
def run(
    scenarios: Sequence[str],
    driver: Sequence[str],
    seed: int | None,
    minutes: float | None,
    records: int | None,
    planted: str | None,
    repeat: int,
    reports: Path,
) -> int:
    """Run each SCENARIO (a name from `list`, module:ATTRIBUTE or file.py:ATTRIBUTE) and judge it.

    `--driver both`: processes and, where a Docker Engine answers, containers; in CI a missing engine is an error.
    """
    from contextlib import nullcontext

    from rpa_testkit.drivers.choose import expand
    from rpa_testkit.planted import planting
    from rpa_testkit.scenario.library import chaos, find, with_records

    if bool(scenarios) == (minutes is not None):
        raise click.UsageError("give a SCENARIO (see `rpa-testkit list`) or --minutes N, one of the two")
    wanted = [(name, find(name)) for name in scenarios] or [("chaos", chaos(minutes or 1.0))]
    names, missing = expand(driver or ("process",))
    if missing:
        click.secho(f"not run on docker: {missing}", fg="yellow", err=True)
    first = secrets.randbelow(1_000_000) if seed is None else seed
    codes = []
    for name, scenario in wanted:
        what = f"--minutes {minutes:g}" if minutes is not None else name
        what += f" --records {records}" if records else ""
        what += f" --planted {planted}" if planted else ""
        chosen = with_records(scenario, records) if records else scenario
        for number in range(first, first + repeat):
            for on in names:
                again = f"rpa-testkit run {what} --driver {on} --seed {number}"
                with planting(chosen, planted) if planted else nullcontext(chosen) as broken:
                    codes.append(_run(broken, name, on, number, reports, None, again))
    return 1 if 1 in codes else max(codes)


@group.command("list")
@click.option("--faults", is_flag=True, help="The kinds of faults, and where they can be injected.")
@click.option("--checkers", is_flag=True, help="What is judged.")
def list_(faults: bool, checkers: bool) -> None:
    """Show the scenarios that come with the testkit, with --faults or --checkers those."""
    from rpa_testkit.cli import tables

    if faults:
        tables.faults()
    elif checkers:
        tables.checkers()
    else:
        tables.scenarios()


@group.command()
@click.argument("folder", metavar="RUN", type=click.Path(exists=True, path_type=Path))
@click.option("--driver", help="Another driver than the run's.")
@_reports
def replay(folder: Path, driver: str | None, reports: Path) -> int:
    """Run the schedule of RUN (a run's folder, or a schedule file) again, event by event."""
    from rpa_testkit.history.reader import SCHEDULE, History
    from rpa_testkit.scenario.library import replayed
    from rpa_testkit.scenario.schedule import read_schedule

    schedule = read_schedule(folder / SCHEDULE if folder.is_dir() else folder)
    header = History.open(folder).header if folder.is_dir() else None
    scenario = replayed(schedule, header)
    name = driver or (header.driver if header else "process")
    spec = header.spec if header else scenario.name
    return _run(scenario, spec, name, schedule.seed, reports, schedule, f"rpa-testkit replay {folder}")


@group.command()
@click.argument("folder", metavar="RUN", type=click.Path(exists=True, path_type=Path, file_okay=False))
@click.option("--k", type=int, default=1, show_default=True, help="A candidate fails when so many ...")
@click.option("--n", type=int, default=3, show_default=True, help="... of so many replays fail.")
@click.option("--replays", type=int, default=60, show_default=True, help="The most replays.")
@click.option("--minutes", type=float, default=30.0, show_default=True, help="The most time.")
@click.option("--planted", help="The defect that was planted in RUN.")
@click.option(
    "--save", type=click.Path(path_type=Path, file_okay=False), help="Where the regression test goes.  [default: RUN]"
)
def shrink(folder: Path, k: int, n: int, replays: int, minutes: float, planted: str | None, save: Path | None) -> None:
    """Make the failing schedule of RUN small, and save it as a regression test."""
    from rpa_testkit.cli.shrinking import shrunk_run
    from rpa_testkit.shrink import Budget

    budget = Budget(replays=replays, seconds=minutes * 60)
    click.echo(shrunk_run(folder, k=k, n=n, budget=budget, planted=planted, save=save or folder))


@group.command()
@click.argument("folder", metavar="RUN", type=click.Path(exists=True, path_type=Path))
def check(folder: Path) -> int:
    """Judge the history of RUN anew, with today's checkers."""
    from rpa_testkit.checkers.judge import judge
    from rpa_testkit.cli import tables
    from rpa_testkit.history.reader import History

    history = History.open(folder)
    judgement = judge(history, history.header.checkers)
    tables.judgement(judgement)
    return _EXIT[judgement.status]


@group.command()
@click.argument("folder", metavar="RUN", type=click.Path(exists=True, path_type=Path, file_okay=False))
def report(folder: Path) -> None:
    """Write the report of RUN anew: JUnit, JSON, Markdown, and a page."""
    from rpa_testkit.checkers.judge import judge
    from rpa_testkit.history.reader import History
    from rpa_testkit.reports.build import build
    from rpa_testkit.reports.write import write

    history = History.open(folder)
    for path in write(build(history, judge(history, history.header.checkers)), folder):
        click.echo(path)


@group.command()
@_reports
def trends(reports: Path) -> None:
    """What changed from run to run, beyond the noise."""
    from rpa_testkit.cli import tables
    from rpa_testkit.reports.trends_page import write_trends

    click.echo(f"page: {write_trends(tables.trends(reports), reports)}")


def _run(
    scenario: Scenario, spec: str, driver: str, seed: int, reports: Path, schedule: Schedule | None, again: str
) -> int:
    from rpa_testkit.cli.progress import Progress
    from rpa_testkit.drivers.choose import choose
    from rpa_testkit.runner.run import run as carry_out
    from rpa_testkit.warden.client import Warden

    progress = Progress(scenario, driver, seed)
    reports.mkdir(parents=True, exist_ok=True)
    with Warden.start(reports) as warden, progress:
        done = carry_out(
            scenario,
            choose(driver),
            seed=seed,
            reports=reports,
            warden=warden,
            schedule=schedule,
            spec=spec,
            on_event=progress.event,
            on_mark=progress.mark,
        )
    return _tell(done, reports, again)


def _tell(done: Run, reports: Path, again: str) -> int:
    from rpa_testkit.cli import tables
    from rpa_testkit.reports import store
    from rpa_testkit.reports.build import build
    from rpa_testkit.reports.write import write

    tables.judgement(done.judgement)
    made = build(done.history, done.judgement)
    paths = write(made, done.folder)
    store.record(made, reports)
    click.echo(f"report: {next((path for path in paths if path.suffix == '.html'), done.folder)}")
    if not done.judgement.passed:
        click.echo(f"the same faults again: rpa-testkit replay {done.folder}")
        click.echo(f"from the seed: {again}")
    return _EXIT[done.judgement.status]
