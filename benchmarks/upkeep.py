"""What reports to Prefect, the spool, alerts and disk care cost the no-op flow, beside the same without them.

They work by the clock and not by the record. So runs are long, everything keeps its default pace, and what a start
costs (the client is imported, the run is begun) is over before the clock starts. Breakers stand before connections, of
which a run makes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Self

from benchmarks import figures, noop, race
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_testkit.waits import until

_WORKERS = 2
_QUIET = {"CONTAINER_DISK_INTERVAL": "3600", "CONTAINER_RELOAD_INTERVAL": "0"}


def measure(bench: Bench) -> Iterator[Figure]:
    """Records/s without and with, taking turns, and the share that it costs."""
    records = bench.size(2_000_000, 4_000)
    plain: list[race.Race] = []
    kept: list[race.Race] = []
    with bench.ledger() as ledger, _Listener(bench) as listener:
        noop.load(ledger, records, paused=True)
        for number in range(bench.runs):
            for races in (plain, kept) if number % 2 == 0 else (kept, plain):  # neither is always the later one
                environ, settle = (_QUIET, _at_once) if races is plain else (listener.environ, listener.settle)
                races.append(
                    race.engine(
                        bench, ledger, "noop", records, _WORKERS, spec=noop.SPEC, environ=environ, settle=settle
                    )
                )
            bench.say(f"without {plain[-1].records_per_s:,.0f}/s, with {kept[-1].records_per_s:,.0f}/s")
    yield race.speed("no-op flow, nothing around it", plain, "2 workers")
    yield race.speed(
        "no-op flow, everything around it",
        kept,
        "reports to Prefect, spool, alerts, log files, a look at disks and secrets, each at its default pace",
    )
    yield _cost(
        "cost of it in throughput",
        [1 / each.records_per_s for each in plain],
        [1 / each.records_per_s for each in kept],
        "median times compared; samples are runs next to each other",
    )
    yield _cost(
        "cost of it in CPU",
        [each.worker_cpu_us + each.server_cpu_us for each in plain],
        [each.worker_cpu_us + each.server_cpu_us for each in kept],
        "workers and their PostgreSQL sessions, per record: what a busy machine cannot blur",
    )


def _cost(name: str, without: Sequence[float], with_it: Sequence[float], note: str) -> Figure:
    """By how many percent `with_it` is more; both in the same order of runs."""
    return Figure(
        name=name,
        value=100 * (median(with_it) / median(without) - 1),
        unit="%",
        bar=figures.at_most(3.0),
        samples=[100 * (after / before - 1) for before, after in zip(without, with_it, strict=True)],
        note=note,
    )


def _at_once() -> None:
    """There is nothing to wait for."""


class _Listener:
    """The process that listens, and what workers are told of it."""

    def __init__(self, bench: Bench) -> None:
        self._process = bench.start(["-m", "benchmarks.listener"])
        self._folder = bench.folder
        self._heard = 0

    @property
    def environ(self) -> dict[str, str]:
        """Everything switched on."""
        address = f"http://127.0.0.1:{self._process.log_text().split()[0]}"
        return {
            "CONTAINER_SPOOL_DIR": str(self._folder / "spool"),
            "CONTAINER_LOG_DIR": str(self._folder),
            "CONTAINER_PREFECT_API_URL": f"{address}/api",
            "CONTAINER_ALERTMANAGER_URLS": address,
        }

    def settle(self) -> None:
        """Wait until each worker has reported its run and its first lines."""

        def told() -> int:
            return self._process.log_text().split().count("/api/logs/")

        until(lambda: told() >= self._heard + _WORKERS, 30.0, "the first reports", self._process.log_text)
        self._heard = told() + _WORKERS  # each says once more that it ends

    def __enter__(self) -> Self:
        until(lambda: self._process.log_text().strip(), 20.0, "the listener's port")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.reap()
