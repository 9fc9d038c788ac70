"""A running stack as the tests use it: from outside, through its ports and the docker command."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from ci.stack import report
from ci.stack.compose import Stack, compose
from ci.waits import until

from rpa_flows.codebook.load import load_codebook
from rpa_flows.generator import generate_labelled, real_rows

PATIENCE_S = 400.0  # other tests keep the machine busy; waits end as soon as what they wait for is there
_CALL_S = 120.0
PORTS = (
    "RPA_HTTP_PORT",
    "RPA_STATS_PORT",
    "RPA_PREFECT_PORT",
    "RPA_PROMETHEUS_PORT",
    "RPA_ALERTMANAGER_PORT",
    "RPA_RECEIVER_PORT",
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came over HTTP."""

    status: int
    body: bytes
    replayed: bool = False

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One stack that is up.

    `first` is what the engine knew of its containers at that moment, by service. `accepted` holds how many records
    were loaded into rpa1, load by load, over the stack's whole life.
    """

    stack: Stack
    first: Mapping[str, list[dict[str, Any]]]
    accepted: list[int] = field(default_factory=list)

    def port(self, variable: str) -> int:
        return int(self.stack.variables[variable])

    def get(self, variable: str, path: str) -> Answer:
        """GET from the port that the variable names."""
        return _http("GET", f"http://127.0.0.1:{self.port(variable)}{path}")

    def post_records(self, lines: Sequence[bytes], *, key: str, token: str | None = None) -> Answer:
        """Records as JSON lines through HAProxy, under an idempotency key."""
        secret = token if token is not None else self.secret("intake_token")
        answer = _http(
            "POST",
            f"http://127.0.0.1:{self.port('RPA_HTTP_PORT')}/records/rpa1",
            b"".join(line + b"\n" for line in lines),
            {"Authorization": f"Bearer {secret}", "Content-Type": "application/x-ndjson", "Idempotency-Key": key},
        )
        if answer.status == 202 and not answer.replayed:
            self.accepted.append(answer.json()["accepted"])
        return answer

    def load(self, file: str, *, stdin: str | None = None, form: str = "csv") -> dict[str, int]:
        """`rpa records load` inside an rpa1 container: a file there, or `-` for `stdin`; what it says as JSON."""
        command = ["rpa", "records", "load", "rpa1", file, "--json", "--format", form]
        loaded: dict[str, int] = json.loads(self.compose("exec", "--no-TTY", "rpa1", *command, stdin=stdin))
        self.accepted.append(loaded["accepted"])
        return loaded

    def secret(self, name: str) -> str:
        return (self.stack.secrets / name).read_text(encoding="utf-8")

    def compose(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """`docker compose ...`; its output."""
        done = compose(*arguments, stack=self.stack, capture=True, stdin=stdin, check=check, timeout_s=_CALL_S)
        return done.stdout + ("" if check else done.stderr)

    def containers(self, *services: str) -> list[report.Container]:
        return [one for one in report.containers(self.stack) if not services or one.service in services]

    def names(self, service: str) -> list[str]:
        """The running containers of a service."""
        return [one.name for one in self.containers(service) if one.state == "running"]

    def sql(self, query: str, database: str = "rpa_db") -> list[tuple[str, ...]]:
        """Rows as texts, asked by the superuser inside the database's container."""
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t"]
        psql = ["psql", "--username=postgres", f"--dbname={database}", *options, "--command", query]
        text = self.compose("exec", "--no-TTY", "postgres", *psql)
        return [tuple(line.split("\t")) for line in text.splitlines() if line]

    def counts(self) -> dict[str, Any]:
        """What the receiver has seen."""
        answer: dict[str, Any] = self.get("RPA_RECEIVER_PORT", "/counts").json()
        return answer

    def tally(self) -> dict[str, dict[str, int]]:
        """By flow: how many records there are, and what became of them."""
        rows = self.sql(
            "SELECT f.name, count(*), count(s.record_id), count(d.record_id) FROM rpa.record r"
            " JOIN rpa.flow f ON f.id = r.flow"
            " LEFT JOIN rpa.result s ON s.record_id = r.id AND s.period = r.period"
            " LEFT JOIN rpa.dead_letter d ON d.record_id = r.id AND d.period = r.period GROUP BY 1"
        )
        return {name: {"records": int(a), "done": int(b), "set_aside": int(c)} for name, a, b, c in rows}

    def unfinished(self, flow: str) -> int:
        """Records of a flow that have no outcome yet."""
        query = f"SELECT coalesce(sum(n), 0) FROM rpa.chunk JOIN rpa.flow f ON f.id = flow WHERE f.name = '{flow}'"
        return int(self.sql(query)[0][0])

    def verify(self) -> dict[str, dict[str, int]]:
        """Wait until all is finished. Then: nothing lost, nothing twice, all the way to the receiver."""

        def finished() -> bool:
            return self.sql("SELECT count(*) FROM rpa.chunk") == [("0",)]

        until(finished, timeout_s=PATIENCE_S, what="every record to be finished", every_s=0.5)
        tally = self.tally()
        for flow, became in tally.items():
            assert became["done"] + became["set_aside"] == became["records"], (flow, tally)
        assert tally["rpa1"]["records"] == sum(self.accepted)
        assert tally["rpa2"]["records"] == tally["rpa1"]["done"]
        assert tally["rpa3"]["records"] == tally["rpa2"]["done"] == tally["rpa2"]["records"]
        assert tally["rpa3"]["done"] == tally["rpa3"]["records"]
        assert self.sql("SELECT count(*) FROM public.responses", "survey_hub") == [(str(tally["rpa1"]["done"]),)]
        assert self.counts()["deliveries"] == tally["rpa3"]["done"]
        return tally

    def workers_of(self, flow: str) -> set[str]:
        """The containers (by their ids' first 12 digits) that have finished chunks of a flow."""
        rows = self.sql(
            "SELECT DISTINCT split_part(owner, ':', 1) FROM rpa.chunk_done JOIN rpa.flow f ON f.id = flow"
            f" WHERE f.name = '{flow}'"
        )
        return {name for (name,) in rows}

    def metric(self, container: str, series: str) -> float:
        """One sample of a worker's own /metrics, 0 where there is none."""
        script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
        for line in docker("exec", container, "python", "-c", script).splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Responses:
    """Made-up responses as JSON, with keys of their own, and how many of them rpa1 must set aside."""

    lines: list[bytes]
    refused: int


def responses(number: int, *, seed: int) -> Responses:
    """So many, the same for the same seed; another seed gives other keys."""
    book = load_codebook("anes96")
    drawn = list(generate_labelled(book, real_rows(book), number, seed=seed))
    refused = sum(fault is not None and fault.set_aside for _, fault in drawn)
    return Responses(lines=[orjson.dumps(row) for row, _ in drawn], refused=refused)


def docker(*arguments: str, check: bool = True) -> str:
    """The docker command; its output, or what it complains of."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=_CALL_S, check=False)
    if check:
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout
    return done.stdout + done.stderr


def inspect(*names: str) -> list[dict[str, Any]]:
    """What the engine knows of containers."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", *names))
    return found


def free_ports() -> dict[str, str]:
    """A free port of this machine for each variable; held all at once, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    found = {name: str(one.getsockname()[1]) for name, one in zip(PORTS, held, strict=True)}
    for one in held:
        one.close()
    return found


def _http(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=_CALL_S) as answer:
            replayed = answer.headers.get("Idempotency-Replayed") == "true"
            return Answer(status=answer.status, body=answer.read(), replayed=replayed)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(status=error.code, body=error.read())
