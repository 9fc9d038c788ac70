"""A started topology of containers for the tests of one module, each of which leaves it as it was."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ci.images.command import selective

from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.drivers.container.driver import ContainerDriver
from rpa_testkit.drivers.container.node import ContainerNode
from rpa_testkit.drivers.container.system import ContainerSystem
from rpa_testkit.scenario.model import Topology
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden


@pytest.fixture(scope="session", autouse=True)
def images(engine: str) -> None:
    """What the scenarios run is what the two-stage build makes of this tree."""
    assert selective(environment="development") == 0


SETTLED = """
SELECT (SELECT count(*) FROM testkit.effect), (SELECT count(DISTINCT record_id) FROM testkit.effect),
       (SELECT count(*) FROM rpa.result), (SELECT coalesce(sum(n), 0) FROM rpa.chunk)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A system, and what its tests ask of it."""

    id: str
    system: ContainerSystem
    folder: Path

    def node(self, name: str) -> ContainerNode:
        """A worker or dependency of the container driver."""
        node = self.system.nodes[name]
        assert isinstance(node, ContainerNode)
        return node

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """All rows, past the proxy."""
        with psycopg.connect(self.system.dsn, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def work(self, records: int = 500) -> None:
        """Enqueue records and wait until each has had its effect, once."""
        ((before, *_),) = self.ask(SETTLED)
        with connect(self.system.dsn) as connection, connection.transaction():
            given = enqueue(connection, "probe", [NewRecord(b'{"n": %d}' % n) for n in range(records)], chunk_size=50)
        assert given.accepted == records
        until(lambda: self.ask(SETTLED)[0][3] == 0, 60, "every record to have its outcome", self.logs)
        ((effects, different, results, _),) = self.ask(SETTLED)
        assert effects == different == results == before + records

    def wait_ready(self, *names: str, timeout_s: float = 60) -> None:
        """Wait until nodes answer; all of them if none is named."""
        nodes = [self.system.nodes[name] for name in names or self.system.nodes]
        until(lambda: all(node.ready() for node in nodes), timeout_s, f"{names or 'all'} to be ready", self.logs)

    def logs(self) -> str:
        """The end of all nodes' output."""
        return "\n".join(f"--- {name}\n{node.log_text()[-3000:]}" for name, node in self.system.nodes.items())


@pytest.fixture(scope="module")
def warden(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    """Removes what a test run leaves when it is killed."""
    with Warden.start(tmp_path_factory.mktemp("warden")) as warden:
        yield warden


class Starting:
    """Starts topologies under ids of their own; what carries an id afterwards is a leftover."""

    def __init__(self, warden: Warden, folder: Path) -> None:
        self.warden = warden
        self.folder = folder
        self.id = f"test-{uuid.uuid4().hex[:12]}"

    def __call__(self, topology: Topology, driver: ContainerDriver | None = None) -> Any:
        """The context manager of the driver."""
        self.warden.adopt(self.id)
        made = driver or ContainerDriver()
        return made.start(topology, self.folder, run_id=self.id, seed=7, warden=self.warden)


@pytest.fixture
def starting(warden: Warden, tmp_path: Path) -> Starting:
    """For a test that starts a topology of its own."""
    return Starting(warden, tmp_path)


@pytest.fixture(scope="module")
def run(warden: Warden, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two workers of the probe, PostgreSQL and the proxy."""
    starting = Starting(warden, tmp_path_factory.mktemp("containers"))
    with starting(Topology()) as system:
        started = Run(starting.id, system, starting.folder)
        started.wait_ready()
        yield started


def environment_of(told: Mapping[str, Any]) -> dict[str, str]:
    """A container's variables, from what `docker inspect` tells."""
    return dict(entry.split("=", 1) for entry in told["Config"]["Env"])
