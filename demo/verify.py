"""Reading the outcome back: from the two databases by SQL, and from the receiver."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from demo.receiver import Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the databases say. Latencies are from a record's load to the commit of its delivery."""

    records: int
    processed_once: int
    duplicated: int
    lost: int
    set_aside: int
    delivered: int
    reasons: dict[str, int]
    responses: int
    receiver_unique: int
    receiver_repeated: int
    throughput_rps: float
    latency_p50_ms: float
    latency_p99_ms: float
    postgres_version: str

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is not as it must be."""
        found = []
        if self.lost:
            found.append(f"{self.lost} records were lost")
        if self.duplicated:
            found.append(f"{self.duplicated} records were processed twice")
        if self.processed_once != self.records:
            found.append(f"{self.records - self.processed_once} records do not have exactly one outcome")
        if self.receiver_unique != self.delivered:
            found.append(f"{self.delivered} deliveries are recorded, the receiver got {self.receiver_unique}")
        if self.responses < self.delivered:
            found.append(f"survey_hub holds {self.responses} responses, {self.delivered} were delivered")
        return tuple(found)


def verify(rpa_db: str, survey_hub: str, receiver: Receiver, started_at: datetime) -> Verification:
    """Count. `started_at` is when the workers were started."""
    with psycopg.connect(rpa_db, row_factory=dict_row) as connection:
        row = connection.execute(Path(__file__).with_name("verification.sql").read_bytes()).fetchone()
        assert row is not None
        reasons = connection.execute(
            "SELECT f.name || ': ' || reason AS reason, count(*) AS n FROM rpa.dead_letter d"
            " JOIN rpa.flow f ON f.id = d.flow, unnest(d.reasons) reason GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        version = connection.execute("SELECT current_setting('server_version') AS v").fetchone()
    with psycopg.connect(survey_hub) as connection:
        responses = connection.execute("SELECT count(*) FROM responses").fetchone()
    took_s = (row["finished_at"] - started_at).total_seconds() if row["finished_at"] else 0.0
    unique, repeated = receiver.counts()
    return Verification(
        **{name: row[name] for name in ("records", "processed_once", "duplicated", "lost", "set_aside", "delivered")},
        reasons={entry["reason"]: entry["n"] for entry in reasons},
        responses=responses[0] if responses else 0,
        receiver_unique=unique,
        receiver_repeated=repeated,
        throughput_rps=round(row["records"] / took_s, 1) if took_s > 0 else 0.0,
        latency_p50_ms=round(row["p50_ms"] or 0.0, 1),
        latency_p99_ms=round(row["p99_ms"] or 0.0, 1),
        postgres_version=version["v"] if version else "",
    )
