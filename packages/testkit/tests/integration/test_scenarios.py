"""Whole scenarios on real processes: run, written down, judged, replayed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rpa_testkit.checkers.judge import judge
from rpa_testkit.checkers.stored import from_json
from rpa_testkit.checkers.verdict import Status, Verdict
from rpa_testkit.drivers.process.driver import ProcessDriver
from rpa_testkit.history.entries import Entry, Kind, Phase
from rpa_testkit.history.reader import SCHEDULE, VERDICT, History
from rpa_testkit.runner.run import Run, run
from rpa_testkit.scenario.library import CRASH, MEMORY, PAUSE
from rpa_testkit.scenario.model import Scenario, Service, Topology, Workload
from rpa_testkit.scenario.plan import Event, Listed, Mix
from rpa_testkit.scenario.schedule import read_schedule
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.processes import marked

_SMALL = Workload(records=300, batch=25, work_ms=10.0, reject_share=0.02, retry_share=0.05)
_SHORT = Scenario(
    name="short",
    topology=Topology(services=(Service(replicas=2),)),
    workload=_SMALL,
    faults=Mix(faults=(CRASH, PAUSE), count=2, every_s=(0.3, 0.5)),
)


def _verdict(done: Run, checker: str) -> Verdict:
    return next(verdict for verdict in done.judgement.verdicts if verdict.checker == checker)


def _faults(history: History) -> list[Entry]:
    return [entry for entry in history if entry.kind == Kind.FAULT]


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R3.3", "R3.4", "R9.1", "R9.3")
def test_a_run_leaves_everything_needed_to_judge_and_repeat_it(open_folder: Path, warden: Warden) -> None:
    """Schedule, history, judgement; each record has one outcome, and nothing of the run is left."""
    done = run(_SHORT, ProcessDriver(), seed=5, reports=open_folder, warden=warden)
    assert done.judgement.passed, done.judgement
    assert read_schedule(done.folder / SCHEDULE) == done.schedule
    assert from_json((done.folder / VERDICT).read_bytes()) == done.judgement == judge(History.open(done.folder))
    outcomes = {entry.key: entry.value for entry in done.history if entry.kind == Kind.OUTCOME}
    assert sorted(outcomes) == list(range(300))
    assert {tuple(value[:4]) for value in outcomes.values()} == {(1, 1, 0, 0), (0, 0, 1, 0)}
    phases = [entry.op for entry in _faults(done.history) if entry.key == 1]
    assert phases == [Phase.INJECT, Phase.INJECTED, Phase.VERIFIED, Phase.HEAL, Phase.HEALED]
    assert marked([done.history.header.run_id]) == []


@pytest.mark.slow
@pytest.mark.requirement("R3.3")
def test_a_fault_that_cannot_be_injected_is_not_run(open_folder: Path, warden: Warden) -> None:
    """It is said with its reason and counts as nothing; the others count."""
    scenario = Scenario(
        name="short",
        topology=_SHORT.topology,
        workload=_SMALL,
        faults=Mix(faults=(MEMORY, CRASH), count=2, every_s=(0.3, 0.5)),
    )
    done = run(scenario, ProcessDriver(), seed=1, reports=open_folder, warden=warden)
    (not_run,) = [entry for entry in _faults(done.history) if entry.op == Phase.NOT_RUN]
    assert not_run.value["kind"] == "memory"
    assert "docker" in not_run.value["why"]
    assert done.judgement.passed
    assert "memory" in _verdict(done, "faults-verified").says


@pytest.mark.slow
@pytest.mark.requirement("R3.3")
def test_a_fault_without_an_effect_makes_the_run_unknown(
    open_folder: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause that stops nothing: nobody may say that the system withstood it."""
    monkeypatch.setattr("rpa_testkit.drivers.process.worker.ProcessNode.pause", lambda self: None)
    scenario = Scenario(name="short", topology=_SHORT.topology, workload=_SMALL, faults=Mix(faults=(PAUSE,), count=1))
    done = run(scenario, ProcessDriver(), seed=1, reports=open_folder, warden=warden)
    assert [entry.op for entry in _faults(done.history)][2] == Phase.UNVERIFIED
    assert _verdict(done, "faults-verified").status is Status.UNKNOWN
    assert not done.judgement.passed


@pytest.mark.slow
@pytest.mark.requirement("R3.3")
def test_an_unknown_kind_of_fault_is_not_run(open_folder: Path, warden: Warden) -> None:
    """Of a schedule made by a newer version, say."""
    scenario = Scenario(
        name="short",
        workload=Workload(records=50),
        faults=Listed(listed=(Event(kind="earthquake", target="worker-1", hold_s=1.0),)),
    )
    done = run(scenario, ProcessDriver(), seed=1, reports=open_folder, warden=warden)
    (entry,) = _faults(done.history)
    assert (entry.op, entry.value["why"]) == (Phase.NOT_RUN, "no kind of fault is called earthquake")


@pytest.mark.slow
@pytest.mark.requirement("R3.3", "R3.5")
def test_the_command_runs_reports_and_replays(open_folder: Path) -> None:
    """`run` writes the report; `replay` runs the same events; `check` and `report` work on the folder alone."""
    scenario = open_folder / "mine.py"
    scenario.write_text(
        "from rpa_testkit.scenario.model import Scenario, Workload\n"
        "from rpa_testkit.scenario.plan import Fault, Mix\n"
        "MINE = Scenario(name='mine', workload=Workload(records=200, batch=20, work_ms=10.0),\n"
        "                faults=Mix(faults=(Fault(kind='crash'),), count=2, every_s=(0.3, 0.5)))\n"
    )
    reports = open_folder / "reports"
    ran = _command("run", f"{scenario}:MINE", "--seed", "4", "--reports", str(reports))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "verdict: pass" in ran.stdout
    (folder,) = (path for path in reports.iterdir() if path.is_dir())
    forms = {"report.html", "report.json", "report.md", "junit.xml"}
    assert {path.name for path in folder.iterdir()} >= {
        "history.jsonl",
        "schedule.jsonl",
        "verdict.json",
        "logs",
    } | forms
    again = _command("replay", str(folder), "--reports", str(reports))
    assert again.returncode == 0, again.stdout + again.stderr
    folders = [path for path in reports.iterdir() if path.is_dir()]
    assert len({(path / SCHEDULE).read_bytes() for path in folders}) == 1
    assert len(folders) == 2
    (folder / "report.html").unlink()
    assert _command("check", str(folder)).returncode == 0
    assert _command("report", str(folder)).returncode == 0
    assert (folder / "report.html").is_file()
    assert "mine" in _command("trends", "--reports", str(reports)).stdout


@pytest.mark.slow
@pytest.mark.requirement("R3.3")
def test_a_failing_run_is_made_small_and_its_test_passes_once_mended(
    open_folder: Path, counted: Callable[[int, int], int]
) -> None:
    """`shrink` leaves out the faults that have no part in a planted defect; without the defect the test passes."""
    scenario, faults = open_folder / "mine.py", counted(1, 3)
    scenario.write_text(
        "from rpa_testkit import Fault, Mix, Scenario, Workload\n"
        f"MINE = Scenario(name='mine', faults=Mix(faults=(Fault(kind='crash'),), count={faults}, every_s=(0.3, 0.5)),\n"
        "                workload=Workload(records=600, batch=10, producers=2, commit_delay_ms=20.0))\n"
    )
    reports, tests = open_folder / "reports", open_folder / "regressions"
    planted = ["--planted", "cut-by-max-id"]
    ran = _command("run", f"{scenario}:MINE", "--seed", "4", "--reports", str(reports), *planted)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    (folder,) = (path for path in reports.iterdir() if path.is_dir())
    replays = ["--n", str(counted(1, 2)), "--replays", str(counted(3, 8))]
    shrunk = _command("shrink", str(folder), "--save", str(tests), *replays, *planted)
    assert f"{faults} events made 0" in shrunk.stdout, shrunk.stdout + shrunk.stderr
    (test,) = tests.glob("test_*.py")
    mended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=open_folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 passed" in mended.stdout, mended.stdout + mended.stderr


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "give a SCENARIO"),
        (["run", "zombie"], "did you mean zombies"),
        (["run", "quiet", "--minutes", "1"], "one of the two"),
        (["run", "quiet", "--driver", "podman"], "no driver is called 'podman'"),
        (["run", "quiet", "--planted", "fence"], "no defect is called 'fence'"),
        (["check", "."], "no history.jsonl there"),
    ],
)
def test_a_wrong_call_says_what_to_do(arguments: list[str], says: str) -> None:
    """Exit code 64, one message, no traceback."""
    called = _command(*arguments)
    assert (called.returncode, says in called.stderr) == (64, True), called.stderr
    assert "Traceback" not in called.stderr


@pytest.mark.requirement("R3.3")
def test_workers_that_do_not_come_up_are_told_with_their_log(open_folder: Path) -> None:
    """At once, with the reason, exit code 69 and no traceback of the testkit."""
    scenario = open_folder / "mine.py"
    scenario.write_text(
        "from rpa_testkit import Scenario, Service, Topology\n"
        "MINE = Scenario(name='mine', topology=Topology(services=(Service(flow='no.such:FLOW'),)))\n"
    )
    called = _command("run", f"{scenario}:MINE", "--reports", str(open_folder / "reports"))
    assert called.returncode == 69, called.stdout + called.stderr
    assert "before anything was broken" in called.stderr
    assert "No module named 'no'" in called.stderr
    (folder,) = (path for path in (open_folder / "reports").iterdir() if path.is_dir())
    assert _command("check", str(folder)).returncode == 2, "what was cut off is unknown, not passed and not failed"


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rpa_testkit.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
