"""A Prefect server with a work pool, a worker of that pool, and its API as the UI uses it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Row
from rpa_testkit.prefect_server import PrefectServer
from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})


class Prefect:
    """One server, as a person uses it: the command line of the deployments, and what the UI asks for."""

    def __init__(self, server: PrefectServer, workers: WorkerProcesses, folder: Path) -> None:
        self._server = server
        self._workers = workers
        self._folder = folder
        self.pool = f"pool-{uuid.uuid4().hex[:8]}"
        self.started: list[WorkerProcess] = []

    @property
    def environment(self) -> dict[str, str]:
        """Of every program that speaks with the server."""
        return {
            "PREFECT_API_URL": self._server.api_url,
            "PREFECT_HOME": str(self._folder / "home"),
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "2",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
        }

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`python -m rpa_flows.deployments ...`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "rpa_flows.deployments", *arguments],
            env={**self.environment, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def register(self, *arguments: str) -> list[str]:
        """Register with this test's pool; the lines it says."""
        done = self.command("register", "--pool", self.pool, "--create-pool", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def start_worker(self, **environ: str) -> WorkerProcess:
        """`prefect worker start` on the pool."""
        argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool, "--type", "process"]
        worker = self._workers("", {**self.environment, **environ}, argv=argv)
        self.started.append(worker)
        worker.wait_for_log("started!", 60)
        return worker

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """A request of the REST API; repeated, as Prefect's own clients do, while SQLite is locked (503)."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._server.api_url}{path}", data, {"Content-Type": "application/json"}, method=method
        )

        def answer() -> bytes | None:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return bytes(response.read()) or b"null"
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 503:
                        raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error
                return None

        return json.loads(until(answer, 30, f"{path} to be answered", every_s=0.5) or b"")

    def deployment(self, flow: str) -> Any:
        """A flow's deployment."""
        return self.ask(f"/deployments/name/{flow}/{flow}")

    def start_run(self, flow: str, **parameters: Any) -> str:
        """Start a run as the UI's button does."""
        wanted = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        run: str = self.ask(f"/deployments/{self.deployment(flow)['id']}/create_flow_run", wanted)["id"]
        return run

    def state(self, run: str) -> Any:
        """A run's state: type, name, message."""
        return self.ask(f"/flow_runs/{run}")["state"]

    def wait_for(self, run: str, *wanted: str, timeout_s: float = 120) -> Any:
        """Wait until a run is in one of these states; another final one fails the test at once."""

        def there() -> Any:
            state = self.state(run)
            if state["type"] in FINAL and state["type"] not in wanted:
                raise AssertionError(f"{state['type']}: {state['message']}\n{self.describe(run)}")
            return state if state["type"] in wanted else None

        return until(there, timeout_s, f"the run to be {wanted}", lambda: self.describe(run), every_s=0.3)

    def logs(self, run: str) -> list[tuple[int, str]]:
        """Level and text of every line that Prefect has of a run."""
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        return [(line["level"], line["message"]) for line in self.ask("/logs/filter", wanted)]

    def describe(self, run: str) -> str:
        """All that is known, for a test that fails."""
        return "\n".join([*(text for _, text in self.logs(run)), self._workers.logs()])


@pytest.fixture
def prefect(prefect_server: PrefectServer, worker_process: WorkerProcesses, tmp_path: Path) -> Iterator[Prefect]:
    """The shared server with a pool of this test's own; its workers end in order, with the runs they have begun."""
    made = Prefect(prefect_server, worker_process, tmp_path)
    yield made
    for worker in made.started:
        if worker.running:
            worker.terminate()
            worker.wait(60)


@pytest.fixture
def responses(anes96: Codebook, anes96_rows: list[Row]) -> list[dict[str, Any]]:
    """200 valid answers, as rpa1 hands them on."""
    validate = compile_validator(anes96)
    found = [checked.answers for row in anes96_rows if not (checked := validate(row)).reasons]
    return [{"survey": anes96.name, "key": f"k{number}", "answers": found[number]} for number in range(200)]


@pytest.fixture
def fill() -> Callable[[str, str, list[dict[str, Any]]], None]:
    """Enqueue payloads: `fill(dsn, flow, payloads)`."""

    def enqueue_all(dsn: str, flow: str, payloads: list[dict[str, Any]]) -> None:
        records = [NewRecord(orjson.dumps(payload), f"k{number}") for number, payload in enumerate(payloads)]
        with connect(dsn) as connection, connection.transaction():
            assert enqueue(connection, flow, records, chunk_size=50).accepted == len(records)

    return enqueue_all


class SlowReceiver:
    """Takes POSTs, a tenth of a second each until it is `quick`, and counts them by their Idempotency-Key."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.quick = threading.Event()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                receiver.quick.wait(0.1)
                with receiver._lock:
                    key = self.headers["Idempotency-Key"]
                    receiver.seen[key] = receiver.seen.get(key, 0) + 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to deliver."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def slow_receiver() -> Iterator[SlowReceiver]:
    """A receiver that takes its time; closed at the end of the test."""
    made = SlowReceiver()
    yield made
    made.close()
