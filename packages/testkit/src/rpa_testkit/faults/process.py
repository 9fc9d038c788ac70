"""What happens to a process: it dies, is told to end, is restarted, freezes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rpa_testkit.drivers.protocol import Node, System
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.scenario.plan import Event
from rpa_testkit.warden.undo import Undo

_DRAIN_S = 30.0


class _OnNode:
    """A fault of one node; healed when the node answers again."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        self.node: Node = system.nodes[event.target]
        self.before = self.node.incarnation

    def undo(self) -> tuple[Undo, ...]:
        """The end of the run undoes it."""
        return ()

    def heal(self) -> Seen:
        """Start it again."""
        self.node.start()
        return {}

    def verify_healed(self) -> Seen | None:
        """Another incarnation that is ready."""
        if self.node.incarnation == self.before or not self.node.ready():
            return None
        return {"incarnation": self.node.incarnation}


class Crash(_OnNode):
    """SIGKILL: no handler, no flush, no rollback is sent."""

    def inject(self) -> Seen:
        """Returns at its end."""
        self.node.kill()
        return {"incarnation": self.before}

    def verify(self) -> Seen | None:
        """It has ended, and answers nobody."""
        return None if self.node.running or self.node.ready() else {"code": self.node.exit_code}


class Terminate(_OnNode):
    """SIGTERM, its drain, and a while without it."""

    def inject(self) -> Seen:
        """Returns when it has drained and ended."""
        self.node.terminate()
        return {"code": self.node.wait_exit(_DRAIN_S)}

    def verify(self) -> Seen | None:
        """It ended by itself, with 0: drained. Another code is no orderly end."""
        code = self.node.exit_code
        if self.node.running:
            return None
        if code != 0:
            raise AssertionError(f"{self.node.name} answered SIGTERM with exit code {code}, not with a drain and 0")
        return {"code": code}


class Restart(Terminate):
    """SIGTERM and at once a new start, as a rolling restart does."""

    def inject(self) -> Seen:
        """Returns when the new one has been started."""
        seen = super().inject()
        super().verify()
        self.node.start()
        return seen

    def verify(self) -> Seen | None:
        """Another incarnation runs."""
        now = self.node.incarnation
        return {"incarnation": now} if self.node.running and now != self.before else None


class Absent(_OnNode):
    """It was never started. The topology says so (`Dependency.absent`); here it is seen, and ends."""

    def inject(self) -> Seen:
        """Nothing to do; RuntimeError if it runs all the same."""
        if self.node.running:
            raise RuntimeError(f"{self.node.name} runs: the topology does not say that it is absent")
        return {}

    def verify(self) -> Seen | None:
        """It does not run, and answers nobody."""
        return None if self.node.running or self.node.ready() else {"running": False}


class Pause(_OnNode):
    """Frozen, as by a long collection of garbage or a machine that sleeps: past the lease, it becomes a zombie."""

    def undo(self) -> tuple[Undo, ...]:
        """Let it go on."""
        return (self.node.undo_of("pause"),)

    def inject(self) -> Seen:
        """Returns when it stands still."""
        self.node.pause()
        return {}

    def verify(self) -> Seen | None:
        """The kernel says that it is stopped, and nobody answers."""
        return {"ready": False} if self.node.paused and not self.node.ready() else None

    def heal(self) -> Seen:
        """Let it go on."""
        self.node.resume()
        return {}

    def verify_healed(self) -> Seen | None:
        """The same incarnation answers; or another, if it gave up when it saw how late it was."""
        if self.node.paused or not self.node.ready():
            return None
        return {"incarnation": self.node.incarnation}


def _kind(name: str, made: Any, about: str, strikes: str = "worker", **options: float) -> FaultKind:
    def make(system: System, event: Event, params: Mapping[str, float]) -> Injection:
        injection: Injection = made(system, event, params)
        return injection

    return FaultKind(name=name, about=about, strikes=strikes, make=make, params={}, **options)


KINDS = (
    _kind("crash", Crash, "SIGKILL; started again after the hold"),
    _kind("terminate", Terminate, "SIGTERM, drain, exit 0; started again after the hold"),
    _kind("restart", Restart, "SIGTERM, drain, exit 0, and started again at once"),
    _kind("pause", Pause, "SIGSTOP or the freezer; past its lease it becomes a zombie"),
    _kind(
        "dependency-away",
        Crash,
        "a dependency such as Prefect is killed; started again after the hold",
        "dependency",
        heal_s=90.0,
    ),
    _kind(
        "dependency-absent",
        Absent,
        "a dependency is not there when the workers start; started after the hold",
        "dependency",
        heal_s=120.0,
    ),
)
