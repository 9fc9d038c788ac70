"""Every measurement, by the name that `--only` takes, in the order they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks import importing, latency, memory, scaling, scoring, startup, takeover, throughput, wal
from benchmarks.bench import Bench
from benchmarks.figures import Figure

Measurement = Callable[[Bench], Iterator[Figure]]

MEASUREMENTS: Mapping[str, Measurement] = {
    "throughput": throughput.measure,
    "scoring": scoring.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "scaling": scaling.measure,
    "takeover": takeover.measure,
    "startup": startup.measure,
    "import": importing.measure,
    "wal": wal.measure,
}
