"""A mounted secret changes: how long until the new life works, and for how long does nobody answer a probe?"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures, noop, surface
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_testkit.ports import free_port
from rpa_testkit.processes import WorkerProcess
from rpa_testkit.waits import until

_STARTED = "worker.started"
_INTERVAL_S = 0.2  # the look at mounted files; half of it is waited for a change, and another one for it to stay


def measure(bench: Bench) -> Iterator[Figure]:
    """Of an idle worker, asked all the time."""
    silent_ms: list[float] = []
    changed_s: list[float] = []
    with bench.ledger() as dsn:
        secret = bench.folder / "reload-token"
        secret.write_text("first-token-of-the-intake")
        port = free_port()
        environ = {
            "CONTAINER_HEALTH_PORT": str(port),
            "CONTAINER_INTAKE_TOKEN_FILE": str(secret),
            "CONTAINER_RELOAD_INTERVAL": str(_INTERVAL_S),
        }
        worker = bench.start_worker(noop.SPEC, dsn, environ)
        try:
            for number in range(bench.size(4 * bench.runs, 1)):
                silent, changed = _reload(worker, port, secret, f"token-{number}-of-the-intake")
                silent_ms.append(silent * 1000)
                changed_s.append(changed)
        finally:
            worker.reap()
    yield figures.of(
        "reload in place: nobody answers a probe",
        silent_ms,
        "ms",
        note=f"from the last answer of one life to the first of the next; {max(silent_ms):.0f} at most",
    )
    yield figures.of(
        "reload in place: from the change to the new life", changed_s, "s", note=f"looked for every {_INTERVAL_S} s"
    )


def _reload(worker: WorkerProcess, port: int, secret: Path, token: str) -> tuple[float, float]:
    """Seconds without an answer around one reload, and seconds until the new life has started."""
    until(lambda: _STARTED in worker.log_text() and _live(port), 30, "a live worker", worker.log_text)
    lives = worker.log_text().count(_STARTED)
    secret.write_text(token)
    begun_s = last_s = time.monotonic()
    longest_s = 0.0
    while True:
        if _live(port):
            now_s = time.monotonic()
            longest_s = max(longest_s, now_s - last_s)
            last_s = now_s
            if worker.log_text().count(_STARTED) > lives:
                return longest_s, now_s - begun_s
        if not worker.running or time.monotonic() - begun_s > 30:
            raise RuntimeError(f"no new life came:\n{worker.log_text()[-4000:]}")


def _live(port: int) -> bool:
    try:
        return surface.ask(port, "/health/live")[0] == 200
    except (OSError, http.client.HTTPException):  # between two lives nobody listens
        return False
