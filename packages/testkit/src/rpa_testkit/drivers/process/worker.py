"""A worker, or any other program of ours, as a node: every start is a new process with the same name and settings."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rpa_testkit.drivers.process.small_disk import SmallDisk
from rpa_testkit.drivers.process.throttle import Throttle
from rpa_testkit.drivers.protocol import NotPossible, Usage
from rpa_testkit.processes import WorkerProcess
from rpa_testkit.warden.processes import started
from rpa_testkit.warden.undo import Continue, Limit, Undo

_ASK_S = 1.0


class ProcessNode:
    """One program; `health` is the URL that answers 200 when it is ready."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        health: str,
        family: bool = False,
        disk: SmallDisk | None = None,
    ) -> None:
        """`family`: a kill ends what it has started, too. `disk` is the bounded one that it writes to."""
        if disk is not None:
            argv, env = disk.argv(argv), {**env, **disk.environment()}
        self._disk = disk
        self.name = name
        self._family = family
        self._argv = tuple(argv)
        self._env = dict(env)
        self._log = log
        self._health = health
        self._process: WorkerProcess | None = None
        self._throttle: Throttle | None = None
        self._stopped_s = 0.0
        self._files: tuple[int, int] | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.running

    @property
    def paused(self) -> bool:
        """Whether the kernel has stopped it."""
        import psutil

        with suppress(psutil.Error):
            return self.running and psutil.Process(self._pid).status() == psutil.STATUS_STOPPED
        return False

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal."""
        return None if self._process is None else self._process.returncode

    @property
    def incarnation(self) -> str:
        """Pid and start time."""
        return f"{self._pid}/{self._started}" if self.running else "ended"

    def start(self) -> None:
        """A new process, unless one runs."""
        if not self.running:
            self._process = WorkerProcess(self._argv, env=self._env, log=self._log)
            self._files = None

    def kill(self) -> None:
        """SIGKILL, to a stopped one too."""
        self._unthrottle()
        if self._process is not None and self._process.running:
            if self._family:
                self._process.kill_family()
            else:
                self._process.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        self._living.terminate()

    def wait_exit(self, timeout_s: float) -> int:
        """The exit code."""
        return self._living.wait(timeout_s)

    def ready(self) -> bool:
        """Whether the health URL answers 200 within a second."""
        if not self.running:
            return False
        try:
            with urllib.request.urlopen(self._health, timeout=_ASK_S) as answer:  # noqa: S310 - our own loopback URL
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def usage(self) -> Usage | None:
        """From the kernel's process table."""
        import psutil

        try:
            process = psutil.Process(self._pid)
            with process.oneshot():
                times = process.cpu_times()
                return Usage(
                    rss_bytes=process.memory_info().rss, cpu_s=times.user + times.system, files=process.num_fds()
                )
        except (psutil.Error, NotPossible):
            return None

    def log_text(self) -> str:
        """All incarnations' output."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def pause(self) -> None:
        """SIGSTOP; returns when it is stopped."""
        self._living.stop_cont()

    def resume(self) -> None:
        """SIGCONT."""
        if self.running:
            self._living.cont()

    def limit(self, what: str, amount: float | None) -> None:
        """`cpu` by stopping and continuing, `files` by the soft limit of open descriptors."""
        match what:
            case "cpu":
                self._unthrottle()
                if amount is not None:
                    self._throttle = Throttle(self._pid, amount)
            case "files":
                self._limit_files(amount)
            case _:
                raise NotPossible(
                    f"a process has no bound on {what} of its own without a cgroup: use the docker driver"
                )

    def throttled(self) -> float:
        """Seconds that it was stopped for its bound."""
        return self._stopped_s + (self._throttle.stopped_s if self._throttle else 0.0)

    def oom_kills(self) -> int:
        """Never: there is no bound on its memory."""
        return 0

    def fill_disk(self) -> None:
        """NotPossible without a small one."""
        self._bounded.fill(self._pid)

    def free_disk(self) -> None:
        """Nothing if it has ended: its disk went with it."""
        if self.running:
            self._bounded.give_back(self._pid)

    def disk_free(self) -> int:
        """NotPossible without a small one."""
        return self._bounded.free_bytes(self._pid)

    def skew_clock(self, seconds: float) -> None:
        """Not possible."""
        raise NotPossible("a process shares the machine's clock")

    def clock_offset(self) -> float:
        """None."""
        return 0.0

    def undo_of(self, what: str) -> Undo:
        """SIGCONT, the descriptors' limit, or what fills its disk."""
        if what == "disk":
            return self._bounded.undo(self._pid)
        if what == "files":
            import resource

            soft, hard = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
            return Limit(pid=self._pid, started=self._started, resource="RLIMIT_NOFILE", soft=soft, hard=hard)
        return Continue(pid=self._pid, started=self._started)

    def reap(self) -> None:
        """End it whatever its state."""
        self.kill()

    @property
    def _bounded(self) -> SmallDisk:
        if self._disk is None:
            raise NotPossible(f"{self.name} shares its disk with the machine: use the docker driver")
        return self._disk

    @property
    def _living(self) -> WorkerProcess:
        if self._process is None:
            raise NotPossible(f"{self.name} was never started")
        return self._process

    @property
    def _pid(self) -> int:
        return self._living.pid

    @property
    def _started(self) -> int:
        return started(self._pid) or 0

    def _limit_files(self, amount: float | None) -> None:
        import resource

        if amount is not None:
            self._files = self._files or resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
            resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (int(amount), self._files[1]))
        elif self._files is not None:
            with suppress(ProcessLookupError):
                resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._files)
            self._files = None

    def _unthrottle(self) -> None:
        if self._throttle is not None:
            self._throttle.end()
            self._stopped_s += self._throttle.stopped_s
            self._throttle = None
