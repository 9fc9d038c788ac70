"""Lives that report, and what the server then knows of them."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import httpx

from rpa_core.config.models import ContainerConfig, PrefectConfig
from rpa_core.observability.metrics import Metrics
from rpa_core.observability.redaction import Redactor
from rpa_core.prefect.model import Counts
from rpa_core.resilience.breaker import BreakerPolicy, CircuitBreaker
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.runtime.reporting import Reporting, open_reporting
from rpa_testkit.waits import until

SECRET = "pa55-of-nobody"
_PAGE = 200


class Life:
    """One container's reporting with its own spool and a logger of its own; `done` is what it counts."""

    def __init__(self, api_url: str, flow: str, *, folder: Path | None = None, **prefect: Any) -> None:
        self.flow = flow
        self.done = 0
        self.refusals: list[str | None] = []
        self.written = 0
        incarnation = uuid.uuid4().hex[:12]
        settings: dict[str, Any] = {"api_url": api_url, "progress_s": 0.3} | prefect
        self.spools: Spools = open_spools(
            folder,
            flow=flow,
            label="tester",
            incarnation=incarnation,
            max_bytes=64 * 1024 * 1024,
            max_age_s=86_400.0,
            reserve_bytes=0,
        )
        self.metrics = Metrics(flow=flow)
        reporting = open_reporting(
            ContainerConfig(flow_name=flow, prefect=PrefectConfig(**settings)),
            spools=self.spools,
            metrics=self.metrics,
            redactor=Redactor([SECRET]),
            owner=f"tester:{incarnation}",
            counts=lambda: Counts(done=self.done),
            breaker=CircuitBreaker("prefect", BreakerPolicy(open_cap_s=0.5)),
            on_refusal=self.refusals.append,
            pulse_s=0.2,
            refused_pause_s=0.3,
            retry=RetryPolicy(max_attempts=0, base_s=0.1, cap_s=0.5),
        )
        assert reporting is not None
        self.reporting: Reporting = reporting
        self.logger = logging.getLogger(f"life.{incarnation}")
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        self.logger.addHandler(reporting.handler)

    def work(self, lines: int) -> None:
        """Do something and say so: each line has its number."""
        for _ in range(lines):
            self.done += 1
            self.logger.info("line %d", self.written)
            self.written += 1

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until nothing waits in the spool, then end the threads."""
        until(self.drained, timeout_s, "everything to be delivered", self.left)
        assert self.reporting.stop(10.0)

    def drained(self) -> bool:
        """Whether nothing waits any more."""
        return not any(spool.depth("prefect").entries for spool in self.spools.all())

    def left(self) -> str:
        """What waits, for a person."""
        return "\n".join(f"{each.id} tries {each.tries}" for s in self.spools.all() for each in s.entries("prefect"))

    def close(self) -> None:
        """Leave nothing running."""
        self.reporting.stop(5.0)
        self.spools.close()


class Known:
    """What a server knows, asked without going through rpa."""

    def __init__(self, api_url: str, **options: Any) -> None:
        self._http = httpx.Client(base_url=api_url, timeout=30.0, trust_env=False, **options)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Any call; raises for what is no success."""
        answer = self._http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """All runs of a flow, oldest first."""
        found: list[dict[str, Any]] = self.ask(
            "POST", "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}
        )
        return found

    def run(self, flow: str) -> dict[str, Any]:
        """The one run of a flow."""
        (run,) = self.runs(flow)
        return run

    def states(self, run_id: str) -> list[str]:
        """The types of all states that a run went through, in order."""
        return [each["type"] for each in self.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")]

    def lines(self, run_id: str) -> list[dict[str, Any]]:
        """A run's log lines in the server's order."""
        found: list[dict[str, Any]] = []
        while True:
            body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": _PAGE, "offset": len(found)}
            page = self.ask("POST", "/logs/filter", body)
            found += page
            if len(page) < _PAGE:
                return found

    def numbers(self, run_id: str) -> list[int]:
        """The numbers of the lines that `Life.work` wrote."""
        texts = [each["message"] for each in self.lines(run_id)]
        return [int(text.removeprefix("line ")) for text in texts if text.startswith("line ")]

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        """What a run left."""
        found: list[dict[str, Any]] = self.ask(
            "POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        )
        return found

    def events(self, run_id: str, prefix: str) -> list[dict[str, Any]]:
        """Events that name the run, of a kind, oldest first."""
        wanted = {"any_resource": {"id": [f"prefect.flow-run.{run_id}"]}, "event": {"prefix": [prefix]}}
        found: list[dict[str, Any]] = self.ask(
            "POST", "/events/filter", {"filter": {**wanted, "order": "ASC"}, "limit": 50}
        )["events"]
        return found

    def take_token(self) -> None:
        """For a server that protects itself against forged requests."""
        token = self.ask("GET", "/csrf-token?client=tester")["token"]
        self._http.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tester"})

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
