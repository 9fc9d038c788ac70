"""A disk that is filled for real: what is ours is deleted, then the gate closes, and it opens by itself."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rpa_core.config.manager import ContainerConfigManager
from rpa_core.observability.files import LogFiles
from rpa_core.observability.metrics import Metrics
from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.disk.care import DiskCare
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.runtime.alerting import open_alerts
from rpa_core.runtime.care import open_care
from rpa_core.runtime.gates import Gates
from rpa_testkit.waits import until

from .receivers import Receiver

MIB = 1024 * 1024
SIZE = 24 * MIB
HOLD_A_FOLDER = """
import sys, time
from pathlib import Path
from rpa_core.resilience.disk.temporary import TemporaryFolder
folder = TemporaryFolder(Path(sys.argv[1]), "rpa1")
(folder.path / "data").write_bytes(b"x" * 2 * 1024 * 1024)
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "rpa-test", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Container:
    """Disk care over real spools, log files and alerts, as the runtime wires them."""

    def __init__(self, disk: Path, url: str, stack: ExitStack) -> None:
        for name in ("spool", "log", "tmp"):
            (disk / name).mkdir(exist_ok=True)
        self.temporary = disk / "tmp"
        variables = {
            "CONTAINER_FLOW_NAME": "rpa1",
            "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://rpa@localhost/rpa",
            "CONTAINER_SPOOL_DIR": str(disk / "spool"),
            "CONTAINER_LOG_DIR": str(disk / "log"),
            "CONTAINER_DISK_INTERVAL": "0.1",
            "CONTAINER_ALERTMANAGER_URLS": url,
        }
        config = ContainerConfigManager(variables, flow_name="rpa1").load_container_config()
        self.log = LogFiles(disk / "log", "rpa1-w1", max_bytes=MIB, backups=3)
        stack.callback(self.log.close)
        self.spools: Spools = open_spools(
            disk / "spool",
            flow="rpa1",
            label="w1",
            incarnation="1",
            max_bytes=4 * MIB,
            max_age_s=3600,
            reserve_bytes=0,
        )
        stack.callback(self.spools.close)
        self.alerts = open_alerts(config, spools=self.spools, instance="w1", redactor=Redactor())
        self.alerts.start()
        stack.callback(self.alerts.stop, 1.0)
        self.metrics = Metrics(flow="rpa1")
        self.gates = Gates(high=10, low=5, memory_bytes=None, metrics=self.metrics)
        self.care: DiskCare = open_care(
            config,
            spools=self.spools,
            alerts=self.alerts,
            gates=self.gates,
            metrics=self.metrics,
            temporary=self.temporary,
            log_files=self.log,
        )
        stack.callback(self.care.stop)

    def metric(self, name: str, **labels: str) -> float:
        """One sample."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def fill(path: Path, leave: int) -> None:
    """Write until so many bytes are free."""
    free = os.statvfs(path.parent)
    with path.open("ab") as file:
        file.write(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))


def dead_folder(parent: Path) -> tuple[Path, int]:
    """A temporary folder of 2 MiB whose owner was killed; and its exit."""
    argv = [sys.executable, "-c", HOLD_A_FOLDER, str(parent)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        owner.kill()
    return path, owner.returncode


@pytest.mark.requirement("R8.4", "R6.5")
def test_a_full_disk_is_cleaned_then_waited_for(disk: Path) -> None:
    """Own old files go and nothing else; still full: the gate closes and an alert goes out; space: both are over."""
    receiver = Receiver()
    with ExitStack() as stack:
        stack.callback(receiver.close)
        container = Container(disk, receiver.url, stack)
        assert container.care.paths == (disk / "spool",), "one file system, watched once"
        for number in range(45):
            container.log.write(f"{number:0100000d}\n")  # four files of 1 MiB
        dead, code = dead_folder(container.temporary)
        assert code == -signal.SIGKILL
        foreign = {
            disk / "log" / "rpa1-w1.log.7": b"not ours",
            disk / "log" / "rpa1-w2.log.1": b"no manifest",
            disk / "log" / "notes.txt": b"mine",
            disk / "tmp" / "rpa-rpa1-0123456789abcdef" / "data": b"no marker",
            disk / "tmp" / "session" / "data": b"mine",
            disk / "spool" / "rpa1.w9.1.txt": b"mine",
        }
        for path, content in foreign.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        current = (disk / "log" / "rpa1-w1.log").read_bytes()

        fill(disk / "filler", MIB // 16)
        container.care.look()
        cleaned = container.metric("rpa_disk_cleaned_bytes_total")
        assert not dead.exists()
        assert not list((disk / "log").glob("rpa1-w1.log.[1-3]"))
        assert (disk / "log" / "rpa1-w1.log").read_bytes() == current
        assert cleaned > 4 * MIB, "three log files and a folder"
        assert not container.gates.disk.closed, "that was enough"
        assert receiver.alerts() == []

        container.care.start()
        fill(disk / "filler", 0)
        until(lambda: container.gates.disk.closed, 20, "the gate to close")
        assert container.gates.reason("rpa1") == "disk"
        assert container.gates.reason("rpa1") == "disk"
        until(lambda: receiver.alerts(), 20, "the alert")
        until(
            lambda: container.metric("rpa_disk_free_bytes", path=str(disk / "spool")) < MIB, 20, "the metric to follow"
        )
        assert container.metric("rpa_disk_free_ratio", path=str(disk / "spool")) < 0.05
        with pytest.raises(OSError, match="No space left") as full:
            (disk / "more").write_bytes(b"\0" * MIB)
        assert full.value.errno == errno.ENOSPC
        container.log.write("x" * MIB + "\n")
        assert container.log.dropped == 1, "a full disk costs log lines, and nothing is raised"

        (disk / "more").unlink()
        os.truncate(disk / "filler", MIB)
        until(lambda: not container.gates.disk.closed, 20, "the gate to open")
        assert container.gates.reason("rpa1") is None
        until(lambda: len(receiver.alerts()) == 2, 20, "the alert to be over")
        low, over = receiver.alerts()
        assert low["labels"] == over["labels"]
        assert (low["labels"]["alertname"], low["labels"]["reason"]) == ("DiskLow", str(disk / "spool"))
        assert over["endsAt"] < low["endsAt"]
        container.log.write("after\n")
        lines = (disk / "log" / "rpa1-w1.log").read_text().splitlines()
        assert "1 log lines were dropped" in lines[-2]
        assert lines[-1] == "after"
        assert {path: path.read_bytes() for path in foreign} == foreign


@pytest.mark.requirement("R8.4")
def test_a_disk_that_is_remounted_read_only_closes_the_gate(disk: Path) -> None:
    """As the kernel does to a broken one; nothing is tried on it, and the process goes on."""
    receiver = Receiver()
    with ExitStack() as stack:
        stack.callback(receiver.close)
        container = Container(disk, receiver.url, stack)
        container.care.start()
        until(lambda: container.metric("rpa_disk_free_bytes", path=str(disk / "spool")), 20, "the first look")
        assert not container.gates.disk.closed
        # Files that are open for writing keep a tmpfs from turning read-only as a whole; a bind mount on top does it.
        subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        until(lambda: container.gates.disk.closed, 20, "the gate to close")
        subprocess.run(["mount", "-o", "remount,bind,rw", str(disk)], check=True)
        until(lambda: not container.gates.disk.closed, 20, "the gate to open")
