"""A scenario as plain data: what runs, what it is given to do, what breaks, and what must hold.

Nothing in here knows processes or containers: the same value runs on every driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rpa_testkit.scenario.plan import Plan, Quiet

POSTGRES = "postgres"
"""The node that every topology has."""
PREFECT = "prefect"
ALERTMANAGER = "alertmanager"
PROBE = "rpa_testkit.probe:FLOW"
RUN = "rpa_core.cli.main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Workers of one flow: the nodes `name-1` to `name-<replicas>`.

    flow      what `rpa run` takes: an installed flow's name or `module:ATTRIBUTE`.
    image     what the docker driver runs; the process driver runs this interpreter.
    env       CONTAINER_* variables on top of the driver's own.
    launcher  module that is run with `flow` as its argument instead of `rpa run`.
    """

    name: str = "worker"
    flow: str = PROBE
    replicas: int = 2
    image: str = "rpa-base:development"
    env: Mapping[str, str] = field(default_factory=dict)
    launcher: str = RUN

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its workers."""
        return tuple(f"{self.name}-{number}" for number in range(1, self.replicas + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """An HTTP service as a node of that name.

    `prefect` is the real server, told to workers as CONTAINER_PREFECT_API_URL; `alertmanager` likewise, as
    CONTAINER_ALERTMANAGER_URLS. Others and Prefect are told as CONTAINER_SERVICE_<NAME>_URL, to be watched.

    absent  it is not started with the others; the fault `dependency-absent` starts it.
    """

    name: str = PREFECT
    health_path: str = "/api/health"
    required: bool = False
    absent: bool = False


ALERTING = Dependency(name=ALERTMANAGER, health_path="/-/healthy")
"""The real Alertmanager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """PostgreSQL, workers, and what they depend on. Every worker reaches each of the others over an edge of its own.

    secret_file  workers read the database's password from a mounted file, which the fault `password-rotated` changes.
    small_disk   what workers write to besides their spools is small, so that it can be filled.
    """

    services: tuple[Service, ...] = (Service(),)
    dependencies: tuple[Dependency, ...] = ()
    secret_file: bool = False
    small_disk: bool = False

    @property
    def workers(self) -> tuple[str, ...]:
        """All workers' names."""
        return tuple(node for service in self.services for node in service.nodes)

    @property
    def edges(self) -> tuple[str, ...]:
        """`worker-1->postgres`, ..., and one to each dependency."""
        others = (POSTGRES, *(dependency.name for dependency in self.dependencies))
        return tuple(edge(worker, other) for worker in self.workers for other in others)


def edge(source: str, target: str) -> str:
    """The name of the connection from one node to another."""
    return f"{source}->{target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Records enqueued for one flow while the faults go on.

    records       how many.
    rate          records/s over all producers; 0 = as fast as they are accepted.
    batch         records in one transaction.
    producers     concurrent writers.
    work_ms       time the handler spends on a record.
    retry_share   share of records whose first attempt asks for a retry.
    reject_share  share of records that must end as dead letters.
    commit_delay_ms  time a producer holds its transaction open before the commit.
    also_drained  further flows whose records must have their outcomes at the end, such as what this one hands on to.
    payload       `module:function` called with (serial, random.Random) for each record's payload; None = the probe's.
    """

    flow: str = "probe"
    records: int = 1_000
    rate: float = 0.0
    batch: int = 100
    producers: int = 1
    work_ms: float = 0.0
    retry_share: float = 0.01
    reject_share: float = 0.005
    commit_delay_ms: float = 0.0
    also_drained: tuple[str, ...] = ()
    payload: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """What the checkers measure against; times in seconds.

    within_s      from a record's enqueueing to its outcome, the time spent under faults not counted.
    recovery_s    from a fault's healing until work goes on at `recovered_share` of the pace before it.
    drain_s       from the last healing until every record has its outcome.
    min_rate      records/s over the whole run; 0 = not judged.
    """

    within_s: float = 30.0
    recovery_s: float = 20.0
    recovered_share: float = 0.9
    drain_s: float = 60.0
    min_rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything a run needs besides a seed and a driver. `budget_s` bounds the whole of it.

    `alerts` are the names of alerts that Alertmanager must have got during the run, and that must have ended.
    """

    name: str
    about: str = ""
    topology: Topology = field(default_factory=Topology)
    workload: Workload = field(default_factory=Workload)
    faults: Plan = field(default_factory=Quiet)
    steady_state: SteadyState = field(default_factory=SteadyState)
    checkers: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    budget_s: float = 300.0
    drivers: tuple[str, ...] = ("process", "docker")
