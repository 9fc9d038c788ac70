"""What a driver must be able to do. Faults and the runner know nothing else of processes or containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rpa_testkit.proxy.client import Proxy
from rpa_testkit.scenario.model import Topology
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.undo import Undo

StopMode = Literal["fast", "immediate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a node uses now: resident bytes, CPU seconds since its start, open descriptors (-1: cannot be told)."""

    rss_bytes: int
    cpu_s: float
    files: int = -1


class NotPossible(Exception):
    """This driver cannot do that here; the text says why and what would make it possible."""


class Node(Protocol):
    """One worker, dependency or PostgreSQL. Calls return when the thing is done; they raise if it cannot be done."""

    @property
    def name(self) -> str:
        """Its name in the topology."""
        ...

    @property
    def running(self) -> bool:
        """Whether it has not ended; a paused one runs."""
        ...

    @property
    def paused(self) -> bool:
        """Whether it is stopped or frozen."""
        ...

    @property
    def exit_code(self) -> int | None:
        """The last incarnation's; negative for a signal; None while it runs."""
        ...

    @property
    def incarnation(self) -> str:
        """Differs after every start: pid and start time, or container id and start time."""
        ...

    def start(self) -> None:
        """Start it (again), with the same name, settings and edges; does not wait until it is ready."""
        ...

    def kill(self) -> None:
        """SIGKILL; returns when it has ended."""
        ...

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        ...

    def wait_exit(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code."""
        ...

    def ready(self) -> bool:
        """Whether it answers: a worker's readiness over HTTP, a query to PostgreSQL, a dependency's health."""
        ...

    def usage(self) -> Usage | None:
        """What it uses; None while it does not run."""
        ...

    def log_text(self) -> str:
        """Everything all its incarnations have written."""
        ...

    # Each of these leaves something behind: `undo_of` gives what the warden needs in order to take it back.
    def pause(self) -> None:
        """Freeze it: SIGSTOP, or the cgroup's freezer."""
        ...

    def resume(self) -> None:
        """Let it go on; nothing if it is not paused."""
        ...

    def limit(self, what: str, amount: float | None) -> None:
        """Bound `cpu` (cores), `memory` (bytes) or `files` (open descriptors); None takes the bound away.

        NotPossible where the driver cannot do it.
        """
        ...

    def throttled(self) -> float:
        """A counter that grows while the CPU bound bites (throttled periods or seconds)."""
        ...

    def oom_kills(self) -> int:
        """How often the kernel has killed it for its memory bound."""
        ...

    def fill_disk(self) -> None:
        """Use up the space it writes to, until a write fails with ENOSPC. NotPossible where it has no bounded space."""
        ...

    def free_disk(self) -> None:
        """Give the space back."""
        ...

    def disk_free(self) -> int:
        """Bytes that it can still write."""
        ...

    def skew_clock(self, seconds: float) -> None:
        """Move the clock that it sees; 0 takes it back. NotPossible without libfaketime."""
        ...

    def clock_offset(self) -> float:
        """Seconds that its clock is ahead of ours, as it sees it."""
        ...

    def undo_of(self, what: str) -> Undo:
        """For the warden: what takes `pause`, `cpu`, `memory`, `files`, `disk`, `clock` back."""
        ...


class Database(Node, Protocol):
    """PostgreSQL, with what only it can do."""

    def stop(self, mode: StopMode) -> None:
        """`immediate` is a crash: the next start recovers."""
        ...

    def dsn(self, dbname: str = "postgres") -> str:
        """A superuser's, straight to the server, past every proxy."""
        ...


class System(Protocol):
    """A started topology."""

    @property
    def database(self) -> Database:
        """PostgreSQL."""
        ...

    @property
    def proxy(self) -> Proxy:
        """Has one edge for each name in `topology.edges`."""
        ...

    @property
    def dsn(self) -> str:
        """The ledger's database, straight to the server, as a superuser."""
        ...

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Workers and dependencies by name; PostgreSQL as `postgres`."""
        ...

    @property
    def spool(self) -> Path:
        """The folder of what workers could not deliver yet, as this machine sees it; one below it for each service."""
        ...

    @property
    def secret(self) -> Path | None:
        """The file with the workers' database password, where the topology has one."""
        ...

    @property
    def stand_ins(self) -> Mapping[str, str]:
        """Dependencies that are not the real thing here, and why."""
        ...

    def url(self, name: str) -> str:
        """A dependency's base URL, past every proxy."""
        ...

    def leftovers(self) -> Sequence[str]:
        """After `close`: what of this run is still there (processes, containers, networks), in words."""
        ...


class Driver(Protocol):
    """Makes systems."""

    @property
    def name(self) -> str:
        """`process`, `docker`."""
        ...

    def cannot(self, kind: str, target: str = "") -> str | None:
        """Why this kind of fault of that node or edge cannot be injected here; None if it can."""
        ...

    def start(
        self, topology: Topology, folder: Path, *, run_id: str, seed: int, warden: Warden
    ) -> AbstractContextManager[System]:
        """Start PostgreSQL (migrated), the proxy, dependencies and workers; everything ends with the context.

        `folder` takes logs. Everything started carries the run's mark (see rpa_testkit.warden.mark), so that the warden
        finds it when the tester is gone.
        """
        ...
