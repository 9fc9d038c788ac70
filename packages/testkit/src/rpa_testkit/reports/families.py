"""What kind of thing a fault breaks; decides its colour and what its advice is about."""

from __future__ import annotations

from rpa_testkit.reports.model import FaultSeen

FAMILIES = {
    "process": "processes",
    "network": "network",
    "database": "PostgreSQL",
    "resources": "resources",
    "dependency": "dependencies",
}
_RESOURCES = ("memory", "cpu", "disk", "files", "clock")
_ENDS_A_WORKER = frozenset(
    {"crash", "kill", "terminate", "restart", "memory", "start-without-postgres", "kill-without-postgres"}
)


def family(fault: FaultSeen) -> str:
    """By its target first: an edge is network whatever the kind is called."""
    if "->" in fault.target:
        return "network"
    if fault.target == "postgres":
        return "database"
    if fault.kind.startswith(_RESOURCES):
        return "resources"
    return "dependency" if fault.kind.startswith(("dependency", "prefect", "http")) else "process"


def ends_a_worker(fault: FaultSeen) -> bool:
    """Whether it may end a process between a commit and what follows it."""
    return fault.kind in _ENDS_A_WORKER
