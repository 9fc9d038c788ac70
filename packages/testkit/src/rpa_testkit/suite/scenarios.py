"""What ContainerTestSuite runs besides the library's scenarios; found again as `rpa_testkit.suite.scenarios:NAME`."""

from __future__ import annotations

from dataclasses import replace

from rpa_testkit.scenario.library import CRASH, RESTART
from rpa_testkit.scenario.model import Scenario, Service, Topology, Workload
from rpa_testkit.scenario.plan import Mix

# Small claims: each worker gets its share of few records.
_SHARED = Topology(services=(Service(replicas=3, env={"CONTAINER_CLAIM_RECORDS": "25"}),))
_WORK = Workload(records=1_500, batch=25, work_ms=8.0)

DISTRIBUTED = Scenario(
    name="distributed", about="three workers share one ledger, nothing breaks", topology=_SHARED, workload=_WORK
)
DISTRIBUTED_KILLS = Scenario(
    name="distributed-kills",
    about="three workers share one ledger, and are killed and restarted one after the other",
    topology=_SHARED,
    workload=replace(_WORK, work_ms=20.0),  # so long that each of the faults meets work
    faults=Mix(faults=(CRASH, RESTART), count=6, every_s=(0.4, 0.8)),
)
THROUGHPUT = Scenario(
    name="throughput",
    about="as many records as two workers can take",
    # Large transactions: all the records are there at once, and what is measured is not how fast they come.
    workload=Workload(records=60_000, batch=20_000, producers=3, retry_share=0.0, reject_share=0.0),
)
LATENCY = Scenario(
    name="latency",
    about="single records, about 100 a second: how long each takes",
    workload=Workload(records=600, batch=1, rate=100.0, retry_share=0.0, reject_share=0.0),
)


def spec_of(scenario: Scenario) -> str:
    """What finds one of these again; for any other, its name."""
    for name, known in globals().items():
        if name.isupper() and known.__class__ is Scenario and known.name == scenario.name:
            return f"{__name__}:{name}"
    return scenario.name
