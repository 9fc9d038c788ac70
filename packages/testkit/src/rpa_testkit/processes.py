"""Worker processes under test: started, signalled, read and certainly ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rpa_testkit.armed import VARIABLE, parse, reached_line
from rpa_testkit.waits import until


class WorkerProcess:
    """One process of `argv`; stdout and stderr go to one file, `log_text()` reads it at any time."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path | None = None) -> None:
        self.argv = tuple(argv)
        self.log = log
        self._arms = parse(env.get(VARIABLE, ""))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the test's terminal is not a SIGINT for the worker
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended (a stopped one counts)."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, None while running."""
        return self._process.poll()

    def log_text(self) -> str:
        """Everything the process has written so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> int:
        """SIGKILL, and wait for the end; returns -9 unless it had ended before."""
        self._send(signal.SIGKILL)
        return self.wait(10.0)

    def kill_family(self) -> int:
        """SIGKILL to it and to all that it has started in its session."""
        os.killpg(self._process.pid, signal.SIGKILL)
        return self.wait(10.0)

    def terminate(self) -> None:
        """SIGTERM: the drain begins; `wait` tells when it is done."""
        self._send(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT."""
        self._send(signal.SIGINT)

    def stop_cont(self) -> None:
        """SIGSTOP, and wait until the kernel has stopped the process; `cont` lets it go on."""
        self._send(signal.SIGSTOP)
        self.wait_stopped(10.0)

    def cont(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code; on a timeout the error carries the log."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            error.add_note(self.log_text())
            raise

    def wait_stopped(self, timeout_s: float) -> None:
        """Wait until the process is stopped, by `stop_cont` or by a checkpoint armed with `stop`."""
        until(self._is_stopped, timeout_s, f"process {self.pid} to be stopped", self.log_text)

    def wait_for_log(self, text: str, timeout_s: float) -> None:
        """Wait until the log contains `text`; an ended process that never wrote it fails at once."""

        def seen() -> bool:
            ended = not self.running  # asked before the log is read: what it wrote last is in the log
            found = text in self.log_text()
            if ended and not found:
                raise AssertionError(f"ended with {self.returncode} without {text!r} in its log:\n{self.log_text()}")
            return found

        until(seen, timeout_s, f"{text!r} in the log", self.log_text)

    def wait_reached(self, timeout_s: float) -> None:
        """Wait until every armed checkpoint has gone off."""
        for arm in self._arms:
            self.wait_for_log(reached_line(arm), timeout_s)

    def reap(self) -> None:
        """End the process whatever its state; safe to call twice."""
        if self.running:
            self.kill()

    def _send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def _is_stopped(self) -> bool:
        if not self.running:
            raise AssertionError(f"ended with {self.returncode} instead of being stopped:\n{self.log_text()}")
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None


class WorkerProcesses:
    """The fixture `worker_process`: call it to start a worker; all are reaped at the end of the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[WorkerProcess] = []

    def __call__(
        self,
        flow_spec: str,
        env: Mapping[str, str] | None = None,
        *,
        checkpoint: str | None = None,
        pythonpath: Path | None = None,
        argv: Sequence[str] | None = None,
    ) -> WorkerProcess:
        """Start `python -m rpa_testkit.worker FLOW_SPEC`.

        env         CONTAINER_* and other variables, on top of this process's own without its CONTAINER_*.
        checkpoint  what to arm, such as "results-written:2:kill".
        pythonpath  a folder from which the worker can import the test's own flows.
        argv        another command instead, with the same care.
        """
        variables = {name: value for name, value in os.environ.items() if not name.startswith("CONTAINER_")}
        variables |= {"PYTHONUNBUFFERED": "1", **(env or {})}
        if checkpoint is not None:
            parse(checkpoint)
            variables[VARIABLE] = checkpoint
        if pythonpath is not None:
            rest = variables.get("PYTHONPATH")
            variables["PYTHONPATH"] = os.pathsep.join([str(pythonpath), *([rest] if rest else [])])
        number = len(self._started) + 1
        command = argv or [sys.executable, "-m", "rpa_testkit.worker", flow_spec]
        process = WorkerProcess(command, env=variables, log=self._folder / f"worker-{number}.log")
        self._started.append(process)
        return process

    def __iter__(self) -> object:
        return iter(tuple(self._started))

    def reap_all(self) -> None:
        """End every process that still runs."""
        for process in self._started:
            process.reap()

    def logs(self) -> str:
        """All logs, for the report of a failed test."""
        return "\n".join(
            f"--- {process.log.name} ({process.returncode})\n{process.log_text()}" for process in self._started
        )
