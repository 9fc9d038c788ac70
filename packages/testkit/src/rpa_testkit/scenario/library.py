"""The scenarios that come with the testkit, and how one's own are found."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType

from rpa_testkit.history.entries import Header
from rpa_testkit.scenario.model import POSTGRES, Dependency, Scenario, Service, SteadyState, Topology, Workload, edge
from rpa_testkit.scenario.outages import OUTAGES
from rpa_testkit.scenario.plan import Fault, Mix, Once, Together
from rpa_testkit.scenario.schedule import Schedule

_TO_POSTGRES = edge("worker", POSTGRES)

CRASH = Fault(kind="crash", hold_s=(0.1, 1.0))
TERMINATE = Fault(kind="terminate", hold_s=(0.1, 0.5))
RESTART = Fault(kind="restart", hold_s=(0.1, 0.3))
PAUSE = Fault(kind="pause", hold_s=(2.5, 4.0))  # past the lease of 2 s
PARTITION = Fault(kind="partition", on=_TO_POSTGRES, hold_s=(1.0, 4.0))
PARTITION_TO_SERVER = Fault(kind="partition-to-server", on=_TO_POSTGRES, hold_s=(1.0, 3.0))
PARTITION_TO_CLIENT = Fault(kind="partition-to-client", on=_TO_POSTGRES, hold_s=(1.0, 3.0))
LATENCY = Fault(
    kind="latency", on=_TO_POSTGRES, hold_s=(1.0, 3.0), params={"latency_s": (0.05, 0.2), "jitter_s": (0.0, 0.05)}
)
BANDWIDTH = Fault(kind="bandwidth", on=_TO_POSTGRES, hold_s=(1.0, 3.0), params={"bytes_per_s": (20_000, 80_000)})
RESET = Fault(kind="reset", on=_TO_POSTGRES, hold_s=(0.2, 1.0))
HALF_OPEN = Fault(kind="half-open", on=_TO_POSTGRES, hold_s=(0.5, 2.0))
LATE = Fault(kind="late", on=_TO_POSTGRES, hold_s=(0.5, 1.5), params={"delay_s": (0.5, 3.0)})
POSTGRES_CRASH = Fault(kind="postgres-crash", on=POSTGRES, hold_s=(0.5, 2.0))
POSTGRES_RESTART = Fault(kind="postgres-restart", on=POSTGRES, hold_s=(0.2, 1.0))
BACKENDS = Fault(kind="backends-terminated", on=POSTGRES, hold_s=(0.1, 0.2))
SLOTS = Fault(kind="slots-filled", on=POSTGRES, hold_s=(1.0, 2.0))
READ_ONLY = Fault(kind="read-only", on=POSTGRES, hold_s=(1.0, 2.0))
CPU = Fault(kind="cpu", hold_s=(2.0, 3.0), params={"cores": (0.05, 0.2)})
FILES = Fault(kind="files", hold_s=(1.0, 2.0))
MEMORY = Fault(kind="memory", hold_s=(0.2, 0.5))
WORKER_DISK = Fault(kind="disk-full", hold_s=(1.0, 2.0))
POSTGRES_DISK = Fault(kind="disk-full", on=POSTGRES, hold_s=(1.0, 2.0))
PREFECT_AWAY = Fault(kind="dependency-away", on="prefect", hold_s=(2.0, 4.0))

OF_PROCESSES = (CRASH, TERMINATE, RESTART, PAUSE)
OF_THE_NETWORK = (
    PARTITION,
    PARTITION_TO_SERVER,
    PARTITION_TO_CLIENT,
    LATENCY,
    BANDWIDTH,
    RESET,
    HALF_OPEN,
    LATE,
)
OF_POSTGRES = (POSTGRES_CRASH, POSTGRES_RESTART, BACKENDS, SLOTS, READ_ONLY)
OF_RESOURCES = (CPU, FILES, MEMORY, WORKER_DISK, POSTGRES_DISK)
EVERYWHERE = (*OF_PROCESSES, *OF_THE_NETWORK, *OF_POSTGRES, CPU, FILES)
"""Every kind that both drivers can inject."""

_STALL = replace(PARTITION_TO_SERVER, on=edge("worker-1", POSTGRES), hold_s=(2.2, 3.4))  # until it is another's
_THREE = Topology(services=(Service(replicas=3),))
# So much time per record that workers are nearly always at work: a fault that meets nobody at work proves nothing.
_FEW = Workload(records=3_000, batch=25, work_ms=15.0)


def everything(
    *, records: int, faults: int, name: str, about: str, budget_s: float, batch: int = 100, work_ms: float = 1.5
) -> Scenario:
    """Faults of every kind, over so many records."""
    return Scenario(
        name=name,
        about=about,
        topology=_THREE,
        workload=Workload(records=records, batch=batch, work_ms=work_ms, producers=2),
        faults=Mix(faults=EVERYWHERE, count=faults, every_s=(0.4, 1.2)),
        steady_state=SteadyState(within_s=180.0, drain_s=180.0),  # all workers are busy to the end, and longer
        budget_s=budget_s,
    )


def chaos(minutes: float) -> Scenario:
    """Random faults of every kind for about so many minutes."""
    faults = max(len(EVERYWHERE), round(minutes * 60 / 2.2))
    return everything(
        records=max(2_000, round(minutes * 20_000)),
        faults=faults,
        name="chaos",
        about=f"{faults} random faults of every kind, about {minutes:g} minutes",
        budget_s=minutes * 60 * 3 + 120,
    )


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            Scenario(
                name="quiet", about="no fault: what the others are compared with", workload=Workload(records=5_000)
            ),
            Scenario(
                name="processes",
                about="workers are killed, stopped, restarted and frozen past their leases",
                topology=_THREE,
                workload=_FEW,
                faults=Mix(faults=OF_PROCESSES, count=8, every_s=(0.5, 1.0)),
            ),
            Scenario(
                name="network",
                about="the connections to PostgreSQL stall, slow down, break and lie",
                topology=_THREE,
                workload=_FEW,
                faults=Mix(faults=OF_THE_NETWORK, count=8, every_s=(0.3, 0.8)),
            ),
            Scenario(
                name="postgres",
                about="PostgreSQL crashes, restarts, throws sessions out, has no slot left, takes no writes",
                workload=_FEW,
                faults=Mix(faults=OF_POSTGRES, count=5, every_s=(0.5, 1.0)),
            ),
            Scenario(
                name="resources",
                about="CPU, descriptors, memory and disk run out",
                topology=_THREE,
                workload=_FEW,
                faults=Mix(faults=OF_RESOURCES, count=5, every_s=(0.5, 1.0)),
            ),
            Scenario(
                name="zombies",
                about="two workers take turns at being frozen past their leases while the other goes on",
                topology=Topology(services=(Service(replicas=2, env={"CONTAINER_CLAIM_RECORDS": "400"}),)),
                workload=Workload(records=3_000, batch=100, work_ms=4.0),
                faults=Mix(faults=(PAUSE,), count=6, every_s=(0.2, 0.5)),
            ),
            Scenario(
                name="commits",
                about="small transactions one after the other, and workers that are killed or cut off in the middle",
                topology=Topology(services=(Service(replicas=3, env={"CONTAINER_CLAIM_RECORDS": "10"}),)),
                workload=Workload(records=6_000, batch=10, producers=2, commit_delay_ms=5.0),
                faults=Mix(faults=(CRASH, RESET), count=24, every_s=(0.1, 0.3)),
            ),
            Scenario(
                name="late-answers",
                about="what a worker sends is held up until another has taken over, and arrives then",
                topology=_THREE,
                workload=Workload(records=4_500, batch=100, work_ms=20.0, rate=10_000),  # always more than is held
                faults=Mix(faults=(_STALL,), count=6, every_s=(4.5, 6.0), start_s=1.5),
            ),
            Scenario(
                name="prefect-away",
                about="Prefect goes away while records are processed: nobody waits for it",
                topology=Topology(services=(Service(),), dependencies=(Dependency(name="prefect"),)),
                workload=_FEW,
                faults=Together(plans=(Once(fault=PREFECT_AWAY, at_s=1.0), Once(fault=CRASH, at_s=2.0))),
            ),
            everything(
                records=5_000,
                faults=len(EVERYWHERE),
                batch=25,
                work_ms=20.0,
                name="everything",
                about="each kind of fault that both drivers can inject, once",
                budget_s=240.0,
            ),
            everything(
                records=200_000,
                faults=100,
                name="long",
                about="200,000 records and 100 faults of every kind",
                budget_s=900.0,
            ),
            everything(
                records=20_000,
                faults=25,
                work_ms=10.0,
                name="long-containers",
                about="20,000 records and 25 faults: the size for containers",
                budget_s=900.0,
            ),
            *OUTAGES,
        )
    }
)


class UnknownScenarioError(LookupError):
    """No such scenario; the message says what there is."""


def find(name: str) -> Scenario:
    """A scenario by its name here, as `module:ATTRIBUTE`, or as `path/to/file.py:ATTRIBUTE`."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    place, colon, attribute = name.rpartition(":")
    if not colon:
        near = difflib.get_close_matches(name, SCENARIOS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UnknownScenarioError(
            f"no scenario is called {name!r}{hint} (there are: {', '.join(SCENARIOS)};"
            " or give module:ATTRIBUTE, or path/to/file.py:ATTRIBUTE)"
        )
    try:
        found = getattr(_module(place), attribute)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise UnknownScenarioError(f"scenario {name!r} cannot be loaded: {error}") from error
    if not isinstance(found, Scenario):
        raise UnknownScenarioError(f"{name} is a {type(found).__name__}, not a rpa_testkit Scenario")
    return found


def with_records(scenario: Scenario, records: int) -> Scenario:
    """The same over another number of records."""
    return replace(scenario, workload=replace(scenario.workload, records=records))


def replayed(schedule: Schedule, header: Header | None) -> Scenario:
    """The scenario of a schedule, with the number of records that its run had."""
    spec = header.spec if header and header.spec else schedule.scenario
    scenario = chaos(1.0) if spec == "chaos" else find(spec)
    return with_records(scenario, int(header.workload["records"])) if header else scenario


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
