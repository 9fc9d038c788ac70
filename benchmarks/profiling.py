"""`python -m benchmarks.profiling`: where one worker's time goes, in-process, on the no-op flow.

Prints the processor time per record without a profiler, then cProfile's table of a second run (which makes Python
calls look dearer than they are), and writes its data for a viewer such as snakeviz. For native frames, attach from
outside to any running worker: `py-spy record --native --pid PID -o flame.svg`, or `perf record -g -p PID`.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import noop
from benchmarks.bench import Bench, one
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.flow import FlowContext
from rpa_core.processing.worker import Worker, WorkerPolicy
from rpa_core.store.connect import connect
from rpa_core.store.ledger import Ledger
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until


def main() -> None:
    """Profile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=main.__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--claim-records", type=int, default=WorkerPolicy().claim_records)
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumtime"))
    parser.add_argument("--lines", type=int, default=25)
    parser.add_argument("--save", type=Path, help="write the profile's data here")
    options = parser.parse_args()
    policy = WorkerPolicy(claim_records=options.claim_records)
    with _bench() as bench, bench.ledger() as template:
        noop.load(template, options.records, paused=False)
        with bench.database(template) as dsn:
            cpu_s = _process(dsn, policy)
            print(f"{cpu_s / options.records * 1e6:.2f} us of processor time per record")
        with bench.database(template) as dsn, cProfile.Profile() as profile:
            _process(dsn, policy)
    statistics = pstats.Stats(profile).strip_dirs().sort_stats(options.sort)
    statistics.print_stats(options.lines)
    if options.save:
        statistics.dump_stats(options.save)


def _process(dsn: str, policy: WorkerPolicy) -> float:
    """Run a worker in this thread until the queue is empty; returns the thread's processor time in seconds."""
    stop, wake = threading.Event(), threading.Event()
    worker = Worker(
        flow=noop.FLOW,
        context=FlowContext(flow=noop.FLOW.name),
        open_ledger=lambda: Ledger.open(dsn, flow=noop.FLOW.name, owner="profile", ttl_s=policy.ttl_s),
        policy=policy,
        stop=stop,
        wake=wake,
        events=WorkerEvents(),
    )
    threading.Thread(target=_stop_when_empty, args=(dsn, stop, wake), daemon=True).start()
    begun = time.thread_time()
    worker.run()
    return time.thread_time() - begun


def _stop_when_empty(dsn: str, stop: threading.Event, wake: threading.Event) -> None:
    with connect(dsn, application_name="benchmark") as connection:
        until(lambda: not one(connection, "SELECT EXISTS (SELECT FROM rpa.chunk)")[0], 600.0, "an empty queue")
    stop.set()
    wake.set()


@contextmanager
def _bench() -> Iterator[Bench]:
    with EmbeddedPostgres() as server, tempfile.TemporaryDirectory(prefix="rpa-profile-") as folder:
        yield Bench(server=server, folder=Path(folder), runs=1, quick=False, say=print)


if __name__ == "__main__":
    main()
