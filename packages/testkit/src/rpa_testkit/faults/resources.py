"""What runs out: memory, CPU, disk, descriptors; and the clock that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rpa_testkit.drivers.protocol import Node, System, Usage
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.faults.sessions import end_sessions
from rpa_testkit.scenario.plan import Event
from rpa_testkit.warden.undo import Undo

_FEW_FILES = 8  # with none at all even poll() would fail
_ROOM = 1.02  # above what it has: what it asks for next is too much


class _Resource:
    """A fault of one node's means; healed when the node answers."""

    what = ""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        self.system = system
        self.node: Node = system.nodes[event.target]
        self.params = params
        self.before = self.node.incarnation
        self.ended: list[int | None] = []

    def undo(self) -> tuple[Undo, ...]:
        """Take the bound away."""
        return (self.node.undo_of(self.what),)

    def heal(self) -> Seen:
        """Take the bound away; start it if it has ended."""
        self.node.limit(self.what, None)
        self.node.start()
        return {}

    def verify_healed(self) -> Seen | None:
        """It answers; what ended on the way is started again, as a restart policy would."""
        if not self.node.running:
            self.ended.append(self.node.exit_code)
            self.node.start()
            return None
        return {"incarnation": self.node.incarnation, "ended": self.ended} if self.node.ready() else None

    def used(self) -> Usage:
        """What it uses; AssertionError if it does not run."""
        usage = self.node.usage()
        if usage is None:
            raise AssertionError(f"{self.node.name} does not run")
        return usage


class Memory(_Resource):
    """A memory limit at what it has: the kernel kills it."""

    what = "memory"

    def inject(self) -> Seen:
        """Returns when the limit is set; the kernel acts when more is asked for."""
        self.kills = self.node.oom_kills()
        limit = self.used().rss_bytes * _ROOM
        self.node.limit("memory", limit)
        return {"limit_bytes": int(limit)}

    def verify(self) -> Seen | None:
        """The kernel's own count of kills for memory has grown, and it has ended."""
        kills = self.node.oom_kills()
        return {"oom_kills": kills} if kills > self.kills and not self.node.running else None


class Cpu(_Resource):
    """A small share of a CPU."""

    what = "cpu"

    def inject(self) -> Seen:
        """`cores` of one CPU from now on."""
        self.throttled = self.node.throttled()
        self.node.limit("cpu", self.params["cores"])
        return {"cores": self.params["cores"]}

    def verify(self) -> Seen | None:
        """The bound has bitten."""
        throttled = self.node.throttled()
        return {"throttled": round(throttled - self.throttled, 3)} if throttled > self.throttled else None


class Files(_Resource):
    """No descriptor can be opened; its sessions are ended, so that it wants new ones."""

    what = "files"

    def inject(self) -> Seen:
        """The limit is far below what is open: what is open stays open."""
        self.node.limit("files", _FEW_FILES)
        return {"limit": _FEW_FILES, "sessions_ended": len(end_sessions(self.system.dsn, self.node.name))}

    def verify(self) -> Seen | None:
        """It cannot even accept a probe any more."""
        return None if self.node.ready() else {"ready": False}


class Disk(_Resource):
    """No space where it writes; PostgreSQL panics and recovers."""

    what = "disk"

    def inject(self) -> Seen:
        """Returns when a write fails with ENOSPC."""
        free = self.node.disk_free()
        self.node.fill_disk()
        return {"free_before_bytes": free}

    def verify(self) -> Seen | None:
        """Nothing can be written any more."""
        free = self.node.disk_free()
        return {"free_bytes": free} if free <= 4096 else None

    def heal(self) -> Seen:
        """Give the space back; start it if it has ended."""
        self.node.free_disk()
        self.node.start()
        return {"free_bytes": self.node.disk_free()}


class Clock(_Resource):
    """Its clock jumps."""

    what = "clock"

    def inject(self) -> Seen:
        """By `seconds`."""
        self.node.skew_clock(self.params["seconds"])
        return {"seconds": self.params["seconds"]}

    def verify(self) -> Seen | None:
        """It sees another time than we do."""
        offset = self.node.clock_offset()
        return {"offset_s": round(offset, 2)} if abs(offset - self.params["seconds"]) < 2 else None

    def heal(self) -> Seen:
        """Back."""
        self.node.skew_clock(0.0)
        return {}

    def verify_healed(self) -> Seen | None:
        """It sees our time."""
        offset = self.node.clock_offset()
        return {"offset_s": round(offset, 2)} if abs(offset) < 2 and self.node.ready() else None


def _kind(
    name: str,
    made: Any,
    about: str,
    params: Mapping[str, float] | None = None,
    *,
    strikes: str = "worker",
    **times: float,
) -> FaultKind:
    def make(system: System, event: Event, given: Mapping[str, float]) -> Injection:
        injection: Injection = made(system, event, given)
        return injection

    return FaultKind(name=name, about=about, strikes=strikes, make=make, params=params or {}, **times)


KINDS = (
    _kind("memory", Memory, "a memory limit at what it has: a real OOM kill", verify_s=20.0, heal_s=60.0),
    _kind("cpu", Cpu, "a small share of one CPU", {"cores": 0.1}),
    _kind("files", Files, "no file descriptor left", verify_s=15.0),
    _kind("disk-full", Disk, "no space left on the volume it writes to", verify_s=10.0, heal_s=90.0),
    _kind("clock-skew", Clock, "its clock jumps", {"seconds": 3600.0}),
)
