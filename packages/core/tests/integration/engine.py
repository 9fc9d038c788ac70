"""A database, the workers over it, and the question that matters: where is every record, and is it there once?"""

from __future__ import annotations

import contextlib
import http.client
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until

FLOWS = Path(__file__).parent.parent / "support"
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
_PLACES = """
SELECT r.id, r.payload,
       (SELECT count(*) FROM rpa.result s WHERE s.period = r.period AND s.record_id = r.id) AS done,
       (SELECT count(*) FROM rpa.dead_letter d WHERE d.period = r.period AND d.record_id = r.id) AS dead,
       (SELECT count(*) FROM rpa.chunk c WHERE c.period = r.period AND c.flow = r.flow
           AND r.id BETWEEN c.lo AND c.hi AND (c.ids IS NULL OR r.id = ANY(c.ids))) AS unfinished
FROM rpa.record r JOIN rpa.flow f ON f.id = r.flow WHERE f.name = %s
"""
_EFFECT = "CREATE TABLE public.effect (record_id bigint NOT NULL, value integer CHECK (value < 100))"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)


class Running:
    """A worker process and its HTTP surface."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process

    @property
    def port(self) -> int:
        """The port of its probes; waits until it is known."""
        self.process.wait_for_log("listening on http", 20)
        found = _LISTENING.search(self.process.log_text())
        assert found is not None
        return int(found[1])

    def get(self, path: str, timeout_s: float = 5) -> Answer:
        """GET `path`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read())

    def metric(self, sample: str) -> float:
        """The value of one sample of /metrics, such as `rpa_records_total{flow="act",outcome="lost"}`."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def wait_started(self) -> None:
        """Wait until it works."""
        self.process.wait_for_log("worker.started", 20)


class Engine:
    """One test's database and its workers."""

    def __init__(self, dsn: str, workers: WorkerProcesses, folder: Path) -> None:
        self.dsn = dsn
        self.calls = folder / "calls"
        self.back = folder / "back"
        self._workers = workers

    def environment(self, **more: Any) -> dict[str, str]:
        """A worker's variables, quick for tests; `more` are CONTAINER_* variables by their lower-case rest."""
        given = {
            "database_rpa_db_url": self.dsn,
            "flow_name": "act",
            "health_port": 0,
            "health_interval": 0.2,
            "lease_ttl": 2,
            "retry_base": 0.05,
            "retry_cap": 0.2,
            "poll_max": 0.2,
            **more,
        }
        variables = {f"CONTAINER_{name.upper()}": str(value) for name, value in given.items()}
        return variables | {"RPA_TEST_CALLS": str(self.calls), "RPA_TEST_BACK": str(self.back)}

    def start(self, flow: str = "ACT", checkpoint: str | None = None, **more: Any) -> Running:
        """Start a worker of a flow of `worker_flows`."""
        process = self._workers(
            f"worker_flows:{flow}", self.environment(**more), checkpoint=checkpoint, pythonpath=FLOWS
        )
        return Running(process)

    def run_command(self, flow: str = "ACT", *options: str, **more: Any) -> Running:
        """The same through `rpa run`, which turns errors into exit codes."""
        argv = [sys.executable, "-m", "rpa_core.cli.main", "run", f"worker_flows:{flow}", *options]
        return Running(self._workers("", self.environment(**more), pythonpath=FLOWS, argv=argv))

    def rpa(self, *arguments: str) -> WorkerProcess:
        """Start an `rpa` command on this database."""
        argv = [sys.executable, "-m", "rpa_core.cli.main", *arguments]
        return self._workers("", {"CONTAINER_DATABASE_RPA_DB_URL": self.dsn}, argv=argv)

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with connect(self.dsn, application_name="rpa test") as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def enqueue(
        self,
        payloads: Iterable[Mapping[str, Any]],
        *,
        flow: str = "act",
        chunk_size: int = 1000,
        notify: bool = True,
        key: str = "k",
    ) -> None:
        """Enqueue payloads under the keys `k0`, `k1`, ..."""
        records = [NewRecord(orjson.dumps(payload), f"{key}{number}") for number, payload in enumerate(payloads)]
        with connect(self.dsn) as connection, connection.transaction():
            assert enqueue(connection, flow, records, chunk_size=chunk_size, notify=notify).accepted == len(records)

    def make_effect_table(self) -> None:
        """The table that EFFECTS writes to."""
        self.ask(_EFFECT)

    def places(self, flow: str = "act") -> Counter[str]:
        """How many records are done, dead, unfinished; each must be in one place, once."""
        counted: Counter[str] = Counter()
        for record_id, payload, done, dead, unfinished in self.ask(_PLACES, flow):
            where = {"done": done, "dead": dead, "unfinished": unfinished}
            assert sum(where.values()) == 1, f"record {record_id} {payload!r} is in {where}"
            counted[next(name for name, times in where.items() if times)] += 1
        return counted

    def unfinished(self, flow: str = "act") -> int:
        """Records without an outcome, by the chunks that list them."""
        ((n,),) = self.ask(
            "SELECT coalesce(sum(n), 0) FROM rpa.chunk WHERE flow = (SELECT id FROM rpa.flow WHERE name = %s)", flow
        )
        return int(n)

    def done(self) -> int:
        """Results in all."""
        ((n,),) = self.ask("SELECT count(*) FROM rpa.result")
        return int(n)

    def settle(self, timeout_s: float = 30, flow: str = "act") -> Counter[str]:
        """Wait until every record has its outcome; returns how many are done and dead, each once."""
        until(lambda: self.unfinished(flow) == 0, timeout_s, "every record to have an outcome", self.describe)
        return self.places(flow)

    def dead_letters(self) -> dict[Any, tuple[str, int, list[str]]]:
        """Kind, tries and reasons of what was set aside, by the payload's `n`."""
        rows = self.ask(
            "SELECT r.payload, d.kind, d.tries, d.reasons FROM rpa.dead_letter d"
            " JOIN rpa.record r ON r.period = d.period AND r.id = d.record_id"
        )
        return {payload.get("n"): (kind, tries, reasons) for payload, kind, tries, reasons in rows}

    def seen(self) -> Counter[int]:
        """How often a handler saw each record."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return Counter(int(line.split()[0]) for line in lines)

    def effects(self) -> Counter[int]:
        """How often each record's effect was committed."""
        return Counter(row[0] for row in self.ask("SELECT record_id FROM public.effect"))

    def describe(self) -> str:
        """The unfinished chunks and the logs, for a failed wait."""
        with contextlib.suppress(psycopg.Error):
            return f"{self.ask('SELECT * FROM rpa.chunk LIMIT 20')}\n{self._workers.logs()}"
        return self._workers.logs()
