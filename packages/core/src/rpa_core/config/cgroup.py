"""CPU and memory limits of the container, from cgroup v1 and v2.

Limits nest: a group may use what its tightest ancestor allows, so every level from the process's group up to the
root is read and the smallest value counts. Inside a container the path in `/proc/self/cgroup` may be the host's
while the mount shows only the container's part; levels that do not exist under `root` are skipped.
Source: kernel docs, admin-guide/cgroup-v2.rst (cpu.max, memory.max) and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rpa_core.config.models import ResourceLimits

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc/self/cgroup")
_UNLIMITED_V1 = 1 << 60  # v1 says "none" with a page-rounded 2**63; no machine has an exbibyte


def read_limits(root: Path = ROOT, proc: Path = PROC) -> ResourceLimits:
    """The container's limits; what has no limit falls back to the machine (CPU) or None (memory, pids)."""
    cpu = min([*_v2_cpu(root, proc), *_v1_cpu(root, proc), _machine_cpus()])
    memory = [
        *_numbers(_levels(root, proc, ""), "memory.max"),
        *_numbers(_levels(root, proc, "memory"), "memory.limit_in_bytes"),
    ]
    pids = [
        *_numbers(_levels(root, proc, ""), "pids.max"),
        *_numbers(_levels(root, proc, "pids"), "pids.max"),
    ]
    physical = _machine_memory_bytes()
    bounded = [size for size in memory if size < min(_UNLIMITED_V1, physical)]
    return ResourceLimits(
        cpu_cores=max(0.01, round(cpu, 3)),
        memory_bytes=max(16 << 20, min(bounded)) if bounded else None,
        pids=max(8, min(pids)) if pids else None,
    )


def memory_usage_bytes(root: Path = ROOT, proc: Path = PROC) -> int | None:
    """Memory charged to the container without reclaimable page cache; None where no group says.

    Reclaimable file pages are not pressure: the kernel drops them before it kills anything.
    """
    for controller, usage, inactive in (
        ("", "memory.current", "inactive_file"),
        ("memory", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for level in _levels(root, proc, controller):
            used = _number(level / usage)
            if used is not None:
                return max(0, used - _stat(level / "memory.stat", inactive))
    return None


def _levels(root: Path, proc: Path, controller: str) -> Iterator[Path]:
    """Directories of the process's group and its ancestors, innermost first; `""` is the v2 hierarchy."""
    path = _group(proc, controller)
    if path is None:
        return
    for mount in (
        (root / controller, root / "unified") if not controller else (root / controller, *_joint(root, controller))
    ):
        if not mount.is_dir():
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        while True:
            level = mount.joinpath(*parts)
            if level.is_dir():
                yield level
            if not parts:
                break
            parts.pop()


def _joint(root: Path, controller: str) -> Iterator[Path]:
    """Mounts that carry several v1 controllers, such as `cpu,cpuacct`."""
    if root.is_dir():
        yield from (
            entry for entry in sorted(root.iterdir()) if "," in entry.name and controller in entry.name.split(",")
        )


def _group(proc: Path, controller: str) -> str | None:
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (controller in controllers.split(",")) if controller else (number == "0" and not controllers):
            return path
    return None


def _v2_cpu(root: Path, proc: Path) -> Iterator[float]:
    for level in _levels(root, proc, ""):
        quota, _, period = (_text(level / "cpu.max") or "max").partition(" ")
        if quota.isdigit() and (period or "100000").isdigit() and int(period or "100000") > 0:
            yield int(quota) / int(period or "100000")


def _v1_cpu(root: Path, proc: Path) -> Iterator[float]:
    for level in _levels(root, proc, "cpu"):
        quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
        if quota is not None and period is not None and quota > 0 and period > 0:
            yield quota / period


def _numbers(levels: Iterator[Path], file: str) -> Iterator[int]:
    for level in levels:
        found = _number(level / file)
        if found is not None and found >= 0:
            yield found


def _number(path: Path) -> int | None:
    text = _text(path)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:  # "max"
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):  # a level without this controller, or one we may not read
        return None


def _stat(path: Path, key: str) -> int:
    for line in (_text(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _machine_cpus() -> float:
    return float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)


def _machine_memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # a platform that does not say
        return _UNLIMITED_V1
