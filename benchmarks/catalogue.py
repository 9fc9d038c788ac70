"""Every measurement, by the name that `--only` takes, in the order they run, in groups that are run as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks import (
    building,
    drain,
    importing,
    judging,
    latency,
    loading,
    memory,
    outage,
    passwords,
    probes,
    proxy,
    reload,
    scaling,
    scoring,
    stack,
    startup,
    takeover,
    throughput,
    upkeep,
    wal,
)
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.peers import measure as peers

Measurement = Callable[[Bench], Iterator[Figure]]

_RUNTIME: Mapping[str, Measurement] = {
    "throughput": throughput.measure,
    "scoring": scoring.measure,
    "upkeep": upkeep.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "scaling": scaling.measure,
    "takeover": takeover.measure,
    "startup": startup.measure,
    "probes": probes.measure,
    "drain": drain.measure,
    "passwords": passwords.measure,
    "outage": outage.measure,
    "reload": reload.measure,
    "import": importing.measure,
    "wal": wal.measure,
}
_TESTKIT: Mapping[str, Measurement] = {
    "proxy": proxy.measure,
    "loading": loading.measure,
    "judging": judging.measure,
}
_BUILD: Mapping[str, Measurement] = {  # needs a Docker Engine
    "images": building.measure,
    "stack": stack.measure,
}
_PEERS: Mapping[str, Measurement] = {"peers": peers.measure}  # needs requirements/peers.txt, and Redis for one side

GROUPS: Mapping[str, Mapping[str, Measurement]] = {
    "runtime": _RUNTIME,
    "testkit": _TESTKIT,
    "build": _BUILD,
    "peers": _PEERS,
}
MEASUREMENTS: Mapping[str, Measurement] = {**_RUNTIME, **_TESTKIT, **_BUILD, **_PEERS}
