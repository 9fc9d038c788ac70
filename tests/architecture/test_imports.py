"""Who may import whom."""

from __future__ import annotations

import pytest
from ci.sources import PACKAGES, dotted, imports, modules, where

# From the top down: a room imports rooms below its own line, never its neighbours on the same line.
ROOMS = (
    {"cli"},
    {"runtime"},
    {"processing"},
    {"health"},
    {"services", "prefect"},
    {"store"},
    {"resilience"},
    {"config"},
    {"observability"},
    {"formats"},
    {"errors", "clock", "waits", "checkpoints", "version"},
)
# The testkit's rooms, in the same way.
TESTKIT = (
    {"cli", "plugin"},
    {"suite"},
    {"shrink", "planted", "runner", "reports"},
    {"checkers", "faults"},
    {"drivers"},
    {"scenario"},
    {"history", "warden"},
    {"proxy", "probe", "worker"},
    {"databases", "processes"},
    {"postgres", "armed", "prefect_server"},
    {"newdata", "isolation", "tethered"},
    {"programs", "guardian", "ports", "waits", "interrupts"},
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# Upward imports that are meant, with the reason. This only shrinks.
UPWARD = {
    ("rpa_core.config.manager", "rpa_core.health.monitor.HealthMonitor"): "a return type, for the type checker alone",
}
ARROWS = {"rpa_core": {"rpa_core"}, "rpa_flows": {"rpa_core", "rpa_flows"}, "rpa_testkit": {"rpa_core", "rpa_testkit"}}


def room(module: str) -> str:
    """The room of a module of rpa_core; the package itself, the facade over all rooms, has none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.requirement("D4")
def test_every_room_has_its_place() -> None:
    """A new room is put into the order before it is used."""
    rooms = {room(dotted(path)) for path in modules("rpa_core")} - {"", "__main__"}
    assert rooms <= set(LEVEL), f"rooms without a level: {sorted(rooms - set(LEVEL))}"


@pytest.mark.requirement("D4")
def test_rooms_import_downwards_only() -> None:
    """The order of docs/architecture.md holds for every import, lazy ones included."""
    found = dict[tuple[str, str], str]()
    for path in modules("rpa_core"):
        own = room(dotted(path))
        for name, line in imports(path):
            other = room(name)
            known = own in LEVEL and name.startswith("rpa_core.") and other in LEVEL
            if known and other != own and LEVEL[other] <= LEVEL[own]:
                found[dotted(path), name] = f"{where(path, line)}: {own} imports {other} ({name})"
    wrong = [message for edge, message in found.items() if edge not in UPWARD]
    assert not wrong, "\n".join(wrong)
    assert set(UPWARD) <= set(found), f"no longer there: {set(UPWARD) - set(found)}"


@pytest.mark.requirement("D4")
def test_the_testkits_rooms_import_downwards_only() -> None:
    """The order of the testkit's design page holds for every import, lazy ones included; every room has its place."""
    level = {name: number for number, rooms in enumerate(TESTKIT) for name in rooms}
    wrong = []
    for path in modules("rpa_testkit"):
        own = room(dotted(path))
        if not own:  # the facade over all rooms
            continue
        assert own in level, f"room without a level: {own}"
        for name, line in imports(path):
            other = room(name) if name.startswith("rpa_testkit.") else own
            if other != own and level[other] <= level[own]:
                wrong.append(f"{where(path, line)}: {own} imports {other} ({name})")
    assert not wrong, "\n".join(wrong)


@pytest.mark.requirement("D4")
@pytest.mark.parametrize("package", list(ARROWS))
def test_packages_import_along_the_arrows(package: str) -> None:
    """flows -> core <- testkit, and nothing else."""
    wrong = [
        f"{where(path, line)}: {name}"
        for path in modules(package)
        for name, line in imports(path)
        if name.split(".")[0].startswith("rpa_") and name.split(".")[0] not in ARROWS[package]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.requirement("D4")
def test_unit_tests_need_only_what_their_package_needs() -> None:
    """A package is unit-tested alone: core's and flows' tests there do without the testkit."""
    wrong = [
        f"{where(path, line)}: {name}"
        for package, arrows in ARROWS.items()
        for path in sorted((PACKAGES[package].parents[1] / "tests" / "unit").rglob("*.py"))
        for name, line in imports(path)
        if name.split(".")[0].startswith("rpa_") and name.split(".")[0] not in arrows
    ]
    assert not wrong, "\n".join(wrong)
