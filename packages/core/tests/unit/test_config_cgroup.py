"""Limits of the container, from made-up cgroup trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpa_core.config.cgroup import memory_usage_bytes, read_limits

GIB = 1024**3


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and 64 GiB, whatever runs the tests."""
    monkeypatch.setattr("rpa_core.config.cgroup._machine_cpus", lambda: 8.0)
    monkeypatch.setattr("rpa_core.config.cgroup._machine_memory_bytes", lambda: 64 * GIB)


def tree(base: Path, proc: str, files: dict[str, str]) -> tuple[Path, Path]:
    root = base / "cgroup"
    root.mkdir()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = base / "proc-self-cgroup"
    own.write_text(proc)
    return root, own


@pytest.mark.requirement("R6.1")
@pytest.mark.usefixtures("machine")
def test_v2_inside_a_container(tmp_path: Path) -> None:
    """With a cgroup namespace the own group is the root of what is mounted."""
    files = {"cpu.max": "150000 100000\n", "memory.max": f"{GIB}\n", "pids.max": "200\n"}
    limits = read_limits(*tree(tmp_path, "0::/\n", files))
    assert (limits.cpu_cores, limits.memory_bytes, limits.pids) == (1.5, GIB, 200)


@pytest.mark.requirement("R6.1")
@pytest.mark.usefixtures("machine")
def test_v2_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    """A pod's limit binds its containers, wherever on the way up it stands."""
    files = {
        "kubepods/cpu.max": "400000 100000",
        "kubepods/memory.max": "max",
        "kubepods/pod1/cpu.max": "50000 100000",
        "kubepods/pod1/memory.max": str(256 << 20),
        "kubepods/pod1/app/cpu.max": "max 100000",
        "kubepods/pod1/app/memory.max": str(512 << 20),
    }
    limits = read_limits(*tree(tmp_path, "0::/kubepods/pod1/app\n", files))
    assert (limits.cpu_cores, limits.memory_bytes) == (0.5, 256 << 20)


@pytest.mark.requirement("R6.1")
@pytest.mark.usefixtures("machine")
def test_v1_nested_and_host_paths(tmp_path: Path) -> None:
    """Levels that the container cannot see are skipped; -1 and the huge number mean no limit."""
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "200000",
        "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/docker/memory.limit_in_bytes": str(2 * GIB),
        "memory/docker/a/memory.limit_in_bytes": str(3 * GIB),
    }
    proc = "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n1:name=systemd:/docker/a\n0::/docker/a\n"
    limits = read_limits(*tree(tmp_path, proc, files))
    assert (limits.cpu_cores, limits.memory_bytes, limits.pids) == (2.0, 2 * GIB, None)
    (tmp_path / "other").mkdir()
    hidden = read_limits(*tree(tmp_path / "other", "4:memory:/host/only\n", {"memory/memory.limit_in_bytes": str(GIB)}))
    assert hidden.memory_bytes == GIB


@pytest.mark.requirement("R6.1")
@pytest.mark.usefixtures("machine")
def test_hybrid_counts_both_hierarchies(tmp_path: Path) -> None:
    """On a machine with both, v1 controllers and the unified mount are read."""
    files = {
        "memory/app/memory.limit_in_bytes": str(4 * GIB),
        "unified/app/pids.max": "64",
        "cpu/app/cpu.cfs_quota_us": "100000",
        "cpu/app/cpu.cfs_period_us": "100000",
    }
    limits = read_limits(*tree(tmp_path, "4:memory:/app\n1:cpu:/app\n0::/app\n", files))
    assert (limits.cpu_cores, limits.memory_bytes, limits.pids) == (1.0, 4 * GIB, 64)


@pytest.mark.requirement("R6.1")
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("proc", ["", "nonsense\n", "0::/gone\n"])
def test_no_limits_fall_back_to_the_machine(tmp_path: Path, proc: str) -> None:
    """Without a readable limit: the machine's cores, no memory limit."""
    limits = read_limits(*tree(tmp_path, proc, {"memory.max": "max", "cpu.max": "max 100000"}))
    assert (limits.cpu_cores, limits.memory_bytes, limits.pids) == (8.0, None, None)
    assert read_limits(tmp_path / "no", tmp_path / "such").cpu_cores == 8.0


@pytest.mark.requirement("R6.1")
@pytest.mark.usefixtures("machine")
def test_a_limit_above_the_machine_is_none(tmp_path: Path) -> None:
    """More memory than there is limits nothing; more CPU quota than cores neither."""
    files = {"memory.max": str(128 * GIB), "cpu.max": "6400000 100000"}
    limits = read_limits(*tree(tmp_path, "0::/\n", files))
    assert (limits.cpu_cores, limits.memory_bytes) == (8.0, None)


@pytest.mark.requirement("R6.1")
def test_memory_in_use_leaves_out_page_cache(tmp_path: Path) -> None:
    """What the kernel would drop first is no pressure; v2 and v1 name it differently."""
    (tmp_path / "v2").mkdir()
    (tmp_path / "v1").mkdir()
    v2 = {"a/memory.current": "1000", "a/memory.stat": "anon 5\ninactive_file 300\n"}
    v1 = {"memory/a/memory.usage_in_bytes": "900", "memory/a/memory.stat": "cache 1\ntotal_inactive_file 200\n"}
    assert memory_usage_bytes(*tree(tmp_path / "v2", "0::/a\n", v2)) == 700
    assert memory_usage_bytes(*tree(tmp_path / "v1", "4:memory:/a\n", v1)) == 700
    assert memory_usage_bytes(tmp_path / "no", tmp_path / "such") is None


@pytest.mark.requirement("R6.1")
def test_this_machine_is_sane() -> None:
    """Whatever runs the tests has at least some CPU."""
    limits = read_limits()
    assert 0 < limits.cpu_cores <= 4096
    assert limits.memory_bytes is None or limits.memory_bytes > 0
