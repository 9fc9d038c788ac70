"""`python -m demo`: load, run, kill, verify, show. Exit code 0 only if nothing was lost or duplicated."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from demo import show
from demo.fleet import FLOWS, Fleet
from demo.options import Options, parse
from demo.receiver import Receiver
from demo.verify import Verification, verify
from rpa_core.errors import RpaError
from rpa_core.formats import format_of
from rpa_core.runtime.loading import LoadPlan, load
from rpa_core.store.connect import connect
from rpa_core.store.lookup import flow_depths
from rpa_core.store.migrate import migrate
from rpa_core.waits import pause
from rpa_flows.migrations import migrate_survey_hub
from rpa_testkit.interrupts import run_until_interrupted
from rpa_testkit.postgres import EmbeddedPostgres

_TICK_S = 0.15
_LEASE_TTL_S = 2
_CHUNK = 250


def main() -> int:
    """Run the demo; returns its exit code."""
    options = parse()
    console = Console()
    with (
        EmbeddedPostgres() as server,
        Receiver() as receiver,
        tempfile.TemporaryDirectory(prefix="rpa-demo-") as folder,
    ):
        rpa_db, survey_hub = _databases(server)
        _load(options, rpa_db, Path(folder), console)
        started_at = datetime.now(UTC)
        with _fleet(options, rpa_db, survey_hub, receiver, Path(folder)) as fleet:
            _run(options, fleet, rpa_db, console)
            codes = fleet.stop(timeout_s=30)
        found = verify(rpa_db, survey_hub, receiver, started_at)
        _report(options, found, fleet, rpa_db, console)
    problems = [*found.problems, *(f"{name} ended with {code}" for name, code in codes.items() if code)]
    if len(fleet.kills) < options.kills:
        problems.append(f"only {len(fleet.kills)} of {options.kills} kills hit a working process: use more records")
    for problem in problems:
        console.print(f"[bold red]FAILED[/] {problem}")
    if not problems:
        console.print("[bold green]Nothing was lost, nothing was done twice.[/]")
    return 1 if problems else 0


def _databases(server: EmbeddedPostgres) -> tuple[str, str]:
    with connect(server.dsn()) as connection:
        connection.execute("CREATE DATABASE rpa_db")
        connection.execute("CREATE DATABASE survey_hub")
    rpa_db, survey_hub = server.dsn("rpa_db"), server.dsn("survey_hub")
    migrate(rpa_db)
    migrate_survey_hub(survey_hub)
    return rpa_db, survey_hub


def _load(options: Options, rpa_db: str, folder: Path, console: Console) -> None:
    """The 944 real responses from the file as it is published, and generated ones from JSON lines."""
    from rpa_flows.codebook.load import load_codebook
    from rpa_flows.generator import generate, real_rows, write_jsonl

    book = load_codebook("anes96")
    generated = folder / "generated.jsonl"
    write_jsonl(generated, generate(book, real_rows(book), options.records, seed=options.seed))
    with (
        resources.as_file(resources.files("rpa_flows.data").joinpath("anes96.csv")) as real,
        connect(rpa_db) as connection,
    ):
        for file in (real, generated):
            plan = LoadPlan(flow="rpa1", form=format_of(file.name), chunk_size=_CHUNK)
            with file.open("rb") as stream:
                loaded = load(connection, plan, stream, file.name)
            console.print(f"loaded {loaded.accepted:,} records from {file.name}")


@contextmanager
def _fleet(options: Options, rpa_db: str, survey_hub: str, receiver: Receiver, folder: Path) -> Iterator[Fleet]:
    environ = {
        "CONTAINER_DATABASE_RPA_DB_URL": rpa_db,
        "CONTAINER_HEALTH_PORT": "0",
        "CONTAINER_LEASE_TTL": str(_LEASE_TTL_S),
        "CONTAINER_CHUNK_SIZE": str(_CHUNK),
        "CONTAINER_CLAIM_RECORDS": str(2 * _CHUNK),
    }
    by_flow = {
        "rpa1": {"CONTAINER_DATABASE_SURVEY_HUB_URL": survey_hub},
        "rpa3": {"CONTAINER_DELIVERY_URL": receiver.url},
    }
    fleet = Fleet(environ, by_flow, folder, per_flow=options.workers, seed=options.seed)
    try:
        yield fleet
    finally:
        fleet.close()


def _run(options: Options, fleet: Fleet, rpa_db: str, console: Console) -> None:
    """Until every queue is empty: keep workers running, kill one each time another share of the work is done."""
    never = threading.Event()
    deadline = time.monotonic() + options.deadline_s
    with connect(rpa_db) as connection, show.progress(console) as bars:
        total = _finished(connection)["total"]
        tasks = {flow: bars.add_task(flow, total=total) for flow in FLOWS}
        while True:
            fleet.start()
            state = _finished(connection)
            for flow in FLOWS:
                bars.update(tasks[flow], completed=state[flow], description=_label(flow, fleet))
            share = sum(state[flow] for flow in FLOWS) / max(1, 3 * total)
            if len(fleet.kills) < options.kills and share >= len(fleet.kills) / (options.kills + 1):
                fleet.kill_a_busy_one(connection)
            if not state["unfinished"]:
                return
            if time.monotonic() > deadline:
                raise RpaError(f"not finished after {options.deadline_s:g} s: {state}")
            pause(never, _TICK_S)


def _label(flow: str, fleet: Fleet) -> str:
    kills = sum(1 for name in fleet.kills if name.startswith(flow))
    return f"{flow}  [red]{kills} killed[/]" if kills else flow


def _finished(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Per flow, how many records have no business there any more; and what is still to do in all."""
    unfinished = {name: depth.unfinished for name, depth in flow_depths(connection).items()}
    ended = {
        name: (int(ok), int(dead))
        for name, ok, dead in connection.execute(
            "SELECT f.name, sum(n_ok), sum(n_dead) FROM rpa.chunk_done c JOIN rpa.flow f ON f.id = c.flow GROUP BY 1"
        )
    }
    counts, gone = {}, 0
    for flow in FLOWS:
        ok, dead = ended.get(flow, (0, 0))
        gone += dead
        counts[flow] = ok + gone
    total = counts["rpa1"] + unfinished.get("rpa1", 0)
    return counts | {"total": total, "unfinished": sum(unfinished.values())}


def _report(options: Options, found: Verification, fleet: Fleet, rpa_db: str, console: Console) -> None:
    from rpa_flows.codebook.load import load_codebook
    from rpa_flows.summary.page import write_page
    from rpa_flows.summary.read import scored_responses
    from rpa_flows.summary.table import flag_table, segment_tables
    from rpa_flows.summary.tally import tally

    console.print()
    console.print(show.table(found, fleet.kills))
    if found.reasons:
        console.print(show.reasons(found))
    with connect(rpa_db) as connection:
        survey = tally(load_codebook("anes96"), scored_responses(connection, "anes96"))
    console.print(*segment_tables(survey), flag_table(survey), sep="\n")
    options.report.parent.mkdir(parents=True, exist_ok=True)
    write_page(survey, options.report)
    console.print(f"The survey as a page with charts: {options.report}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        fields = {name: getattr(found, name) for name in found.__slots__}
        options.json.write_text(json.dumps(fields | {"kills": len(fleet.kills), "seed": options.seed}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_until_interrupted(main))
