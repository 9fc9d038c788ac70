"""Bounds of a running container: CPU and memory of its cgroup, open descriptors of its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpa_testkit.drivers.container.handle import Container, EngineError
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.waits import WaitTimeoutError, until

PERIOD_US = 100_000
_SMALLEST_QUOTA_US = 1_000
_SMALLEST_BYTES = 6 * 2**20
_ROOM_BYTES = 2**20
_LITTLE_BYTES = 8 * 2**20
_TRIES = 5
_KILL_S = 1.0
_FILES = """
for folder in /proc/[0-9]*; do
  pid=${folder#/proc/}
  [ "$pid" = "$$" ] || prlimit --pid "$pid" "--nofile=$1:" 2>/dev/null || [ ! -d "$folder" ] || exit 3
done
"""
# Waits until the quota is another than $1, then computes until it is $1 again.
_COMPETE = """
for file in /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us; do [ -r "$file" ] && break; done
quota() { read -r now rest <"$file" || exit; }
quota
left=200
while [ "$now" = "$1" ] && [ $left -gt 0 ]; do sleep 0.05; left=$((left - 1)); quota; done
while [ "$now" != "$1" ]; do
  i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done
  quota
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a container is created with, and what it gets back when a fault is healed."""

    cores: float
    memory_bytes: int
    files: int


def quota_us(cores: float) -> int:
    """Microseconds of CPU time in each period; the kernel takes no less than one millisecond."""
    return max(_SMALLEST_QUOTA_US, round(cores * PERIOD_US))


def resident_bytes(stats: Mapping[str, Any]) -> int:
    """Anonymous memory by what the Engine counts: `rss` of a version 1 cgroup, `anon` of version 2."""
    detail = stats.get("memory_stats", {}).get("stats", {})
    return int(detail.get("total_rss", detail.get("anon", 0)))


def used_bytes(stats: Mapping[str, Any]) -> int:
    """All memory that counts against the bound, what could be freed included; 0 while it does not run."""
    return int(stats.get("memory_stats", {}).get("usage", 0))


def cpu_s(stats: Mapping[str, Any]) -> float:
    """CPU time since the container started, in seconds."""
    return float(stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0)) / 1e9


def throttled_periods(stats: Mapping[str, Any]) -> int:
    """Periods in which it wanted more than its quota."""
    return int(stats.get("cpu_stats", {}).get("throttling_data", {}).get("throttled_periods", 0))


def open_files(container_id: str, pid: int) -> int:
    """Of the process of its that has most, from this machine's /proc; -1 where that is not ours to read.

    Asking inside would start a process for each look.
    """
    try:
        if container_id not in Path(f"/proc/{pid}/cgroup").read_text():
            return -1  # the Engine counts its processes elsewhere
        return max(len(os.listdir(f"/proc/{member}/fd")) for member in _family(pid))  # noqa: PTH208 - names alone
    except OSError:
        return -1


def limit_memory(container: Container, amount_bytes: int) -> None:
    """Bound its memory; if that leaves it less than 8 MiB to grow, returns when the kernel has killed for the bound.

    A version 2 cgroup takes any bound and kills at once. Version 1 refuses one below what is in use and cannot be
    freed: then the bound is set just above. What little is left is used up from inside, by pages of /dev/shm that are
    no process's own, so that the kernel picks the biggest process and not the one that asked last.
    """
    wanted = max(amount_bytes, _SMALLEST_BYTES)
    before = container.state()
    try:
        container.update(memory_bytes=wanted)
    except EngineError:
        if not before.running:
            raise
        _use_up(container, before.started_at, wanted)
        return
    if before.running and wanted - used_bytes(container.stats()) < _LITTLE_BYTES:
        _use_up(container, before.started_at, wanted)


def limit_cpu(container: Container, cores: float, own: float) -> None:
    """Bound its CPU time, and have a process inside compete for it: a worker that mostly waits would not feel a bound.

    `own` are the cores that it has by right: given them back, the competitor ends.
    """
    if cores < own:
        container.run_beside(["sh", "-c", _COMPETE, "sh", str(quota_us(own))])  # before: its start needs CPU time too
    container.update(cpu_quota_us=quota_us(min(cores, own)))


def limit_files(container: Container, most: int) -> None:
    """Set the soft limit of open descriptors of all its processes. They keep those that they have."""
    if most < 0:
        raise NotPossible(f"{most} is no bound on the open descriptors of {container.name}")
    ran = container.run(files_argv(most))
    if ran.code:
        raise NotPossible(
            f"the descriptors of {container.name} cannot be bounded ({ran.text.strip() or 'prlimit was refused'}): "
            "its image needs sh and prlimit (util-linux)"
        )


def files_argv(most: int) -> tuple[str, ...]:
    """The command that `limit_files` runs inside."""
    return ("sh", "-c", _FILES, "sh", str(most))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))


def _use_up(container: Container, incarnation: str, wanted: int) -> None:
    def killed() -> bool:
        state = container.state()
        return not state.running or state.started_at != incarnation

    refused: EngineError | None = None
    for _ in range(_TRIES):
        try:
            container.update(memory_bytes=max(wanted, used_bytes(container.stats()) + _ROOM_BYTES))
            container.run(["dd", "if=/dev/zero", "of=/dev/shm/ballast", "bs=64k"])
        except EngineError as error:  # it grew meanwhile; or it was killed, and dd with it
            refused = error
        with suppress(WaitTimeoutError):  # else dd was killed instead
            until(killed, _KILL_S, "the kernel to kill it")
            return
    raise EngineError(f"{container.name} was not killed for its memory bound of {wanted} bytes") from refused
