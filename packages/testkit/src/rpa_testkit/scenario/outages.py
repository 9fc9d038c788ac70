"""Scenarios in which what workers depend on goes away, answers wrongly, or takes nothing more."""

from __future__ import annotations

from rpa_testkit.scenario.model import (
    ALERTING,
    POSTGRES,
    PREFECT,
    Dependency,
    Scenario,
    Service,
    SteadyState,
    Topology,
    Workload,
    edge,
)
from rpa_testkit.scenario.plan import Fault, Mix, Once, Together

_TO_POSTGRES = edge("worker", POSTGRES)
_SLOW_TO_RECOVER = SteadyState(within_s=120.0, recovery_s=30.0, drain_s=120.0)
_WITH_PREFECT = Topology(dependencies=(Dependency(),))
_PREFECT_LATER = Topology(dependencies=(Dependency(absent=True),))
# So much time per record that workers are at work whenever something happens to them.
_ALL_ALONG = Workload(records=4_000, batch=25, work_ms=15.0)

TERMINATE_ONE = Fault(kind="terminate", on="worker-1", hold_s=(0.2, 0.5))
CRASH_TWO = Fault(kind="crash", on="worker-2", hold_s=(0.2, 0.5))


def _absent(hold_s: float) -> Once:
    return Once(fault=Fault(kind="dependency-absent", on=PREFECT, hold_s=(hold_s, hold_s)))


def _http(kind: str, hold_s: float, at_s: float, **params: float) -> Once:
    given = {name: (value, value) for name, value in params.items()}
    return Once(fault=Fault(kind=kind, on=PREFECT, hold_s=(hold_s, hold_s), params=given), at_s=at_s)


def _postgres_away(hold_s: float, at_s: float) -> Once:
    return Once(fault=Fault(kind="postgres-crash", on=POSTGRES, hold_s=(hold_s, hold_s)), at_s=at_s)


OUTAGES: tuple[Scenario, ...] = (
    Scenario(
        name="prefect-down-at-start",
        about="Prefect comes when the workers have long begun; one of them has ended and one has died by then",
        topology=_PREFECT_LATER,
        workload=_ALL_ALONG,
        faults=Together(plans=(_absent(8.0), Once(fault=TERMINATE_ONE, at_s=2.0), Once(fault=CRASH_TWO, at_s=4.0))),
        steady_state=_SLOW_TO_RECOVER,
    ),
    Scenario(
        name="prefect-down-whole-run",
        about="all records are done and workers come and go before Prefect is there for the first time",
        topology=_PREFECT_LATER,
        workload=Workload(records=1_500, batch=25, work_ms=10.0, rate=250.0),
        faults=Together(plans=(_absent(15.0), Once(fault=TERMINATE_ONE, at_s=2.0), Once(fault=CRASH_TWO, at_s=4.0))),
        steady_state=_SLOW_TO_RECOVER,
    ),
    Scenario(
        name="prefect-flapping",
        about="Prefect goes and comes back, answers by turns, and workers come and go meanwhile",
        topology=_WITH_PREFECT,
        workload=_ALL_ALONG,
        faults=Together(
            plans=(
                _http("http-flapping", 8.0, 1.0, period_s=0.7),
                Once(fault=CRASH_TWO, at_s=3.0),
                Once(fault=TERMINATE_ONE, at_s=5.0),
                Once(fault=Fault(kind="dependency-away", on=PREFECT, hold_s=(2.0, 2.0)), at_s=10.0),
                Once(fault=CRASH_TWO, at_s=11.0),
            )
        ),
        steady_state=_SLOW_TO_RECOVER,
    ),
    Scenario(
        name="prefect-errors",
        about="Prefect answers 503, 401 and 422, slowly, or does what it is told and is not heard",
        topology=_WITH_PREFECT,
        workload=_ALL_ALONG,
        faults=Together(
            plans=(
                _http("http-errors", 3.0, 1.0),
                Once(fault=CRASH_TWO, at_s=2.0),
                _http("http-unauthorized", 3.0, 6.0, status=401.0),
                _http("http-dropped", 3.0, 11.0),
                Once(fault=TERMINATE_ONE, at_s=12.0),
                _http("http-slow", 4.0, 16.0, delay_s=6.0),
                _http("http-rejects", 3.0, 22.0),
            )
        ),
        steady_state=_SLOW_TO_RECOVER,
    ),
    Scenario(
        name="postgres-away",
        about="a worker is started while PostgreSQL cannot be reached; then it is away for a minute, for everybody",
        topology=Topology(services=(Service(env={"CONTAINER_HEALTH_INTERVAL": "3"}),)),
        workload=Workload(records=3_000, batch=25, work_ms=10.0, rate=250.0),
        faults=Together(
            plans=(
                Once(fault=Fault(kind="start-without-postgres", on="worker-1", hold_s=(8.0, 8.0)), at_s=1.0),
                _postgres_away(60.0, 4.0),
            )
        ),
        steady_state=SteadyState(within_s=120.0, recovery_s=10.0, drain_s=60.0),
        budget_s=240.0,
    ),
    Scenario(
        name="password-rotated",
        about="the workers' password changes under load, and the secret file later: nobody ends, nothing fails",
        topology=Topology(services=(Service(env={"CONTAINER_HEALTH_INTERVAL": "1"}),), secret_file=True),
        workload=Workload(records=4_000, batch=25, work_ms=15.0, reject_share=0.0, retry_share=0.0),
        faults=Mix(faults=(Fault(kind="password-rotated", on=POSTGRES, hold_s=(2.0, 4.0)),), count=3, every_s=(4, 6)),
        steady_state=_SLOW_TO_RECOVER,
    ),
    Scenario(
        name="commit-partitions",
        about="connections break at COMMITs: lost, unanswered, late, or in between",
        topology=Topology(services=(Service(replicas=3, env={"CONTAINER_CLAIM_RECORDS": "10"}),)),
        workload=Workload(records=9_000, batch=10, producers=2, work_ms=2.0),
        faults=Mix(
            faults=(
                Fault(
                    kind="commit-cut",
                    on=_TO_POSTGRES,
                    hold_s=(0.05, 0.2),
                    params={"how": (0.0, 4.0), "nth": (1.0, 6.0), "lateness": (0.0, 1.0)},
                ),
            ),
            count=36,
            every_s=(0.2, 0.5),
        ),
        steady_state=SteadyState(within_s=120.0, drain_s=120.0),
    ),
    Scenario(
        name="database-partition",
        about="all workers are cut off with finished work in hand, and killed before PostgreSQL is back",
        topology=Topology(services=(Service(env={"CONTAINER_CLAIM_RECORDS": "200"}),), dependencies=(ALERTING,)),
        workload=_ALL_ALONG,
        faults=Together(
            plans=(
                Once(fault=Fault(kind="kill-without-postgres", on="worker-1", hold_s=(6.0, 8.0)), at_s=2.0),
                Once(fault=Fault(kind="kill-without-postgres", on="worker-2", hold_s=(6.0, 8.0)), at_s=2.0),
            )
        ),
        steady_state=_SLOW_TO_RECOVER,
    ),
    Scenario(
        name="disk-filled",
        about="what workers write to is full: they pause, say so, and go on by themselves",
        topology=Topology(dependencies=(ALERTING,), small_disk=True),
        workload=_ALL_ALONG,
        faults=Together(
            plans=(
                Once(fault=Fault(kind="disk-full", on="worker-1", hold_s=(4.0, 5.0)), at_s=2.0),
                Once(fault=Fault(kind="disk-full", on="worker-2", hold_s=(4.0, 5.0)), at_s=4.0),
            )
        ),
        steady_state=_SLOW_TO_RECOVER,
        alerts=("DiskLow",),
    ),
)
