"""Starts a topology as processes."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from rpa_core.store.migrate import migrate
from rpa_testkit import probe
from rpa_testkit.drivers.process.database import EmbeddedDatabase
from rpa_testkit.drivers.process.dependencies import program_of
from rpa_testkit.drivers.process.small_disk import SmallDisk, small_disk
from rpa_testkit.drivers.process.worker import ProcessNode
from rpa_testkit.drivers.protocol import Node, NotPossible
from rpa_testkit.drivers.settings import LEDGER, ROLE, rewrite, worker_environment
from rpa_testkit.ports import HOST, free_port
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.proxy.rules import Rule
from rpa_testkit.scenario.model import POSTGRES, RUN, Dependency, Service, Topology, edge
from rpa_testkit.warden import mark
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.processes import marked

_ONLY_DOCKER = {
    "memory": "a process has no memory limit of its own without a cgroup, so nothing would be killed",
    "clock-skew": "a process shares the machine's clock",
}


class ProcessDriver:
    """No root, no Docker. `server` is used instead of one of its own; others use it too, so it is not broken."""

    name = "process"

    def __init__(self, server: EmbeddedPostgres | None = None) -> None:
        self._server = server

    def cannot(self, kind: str, target: str = "") -> str | None:
        """What needs a container, or a server of the run's own."""
        if self._server is not None and target == POSTGRES:
            return "others use this PostgreSQL too: give the run a server of its own"
        why = _ONLY_DOCKER.get(kind)
        return f"{why}; run it with --driver docker" if why else None

    @contextmanager
    def start(
        self, topology: Topology, folder: Path, *, run_id: str, seed: int, warden: Warden
    ) -> Iterator[ProcessSystem]:
        """All at once: workers are loaded while PostgreSQL starts, and their edges hold them back until it is there."""
        environment = {mark.VARIABLE: run_id}
        folder = folder.absolute()  # workers have working folders of their own
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack, ThreadPoolExecutor(1, thread_name_prefix="ledger") as meanwhile:
            server = self._server or EmbeddedPostgres(port=free_port(), settings={"max_connections": "60"})
            ledger = f"{LEDGER}_{secrets.token_hex(6)}"
            stack.callback(_drop_ledger if self._server else _close, server, ledger)
            made = meanwhile.submit(_make_ledger, server, ledger)
            proxy = Proxy.spawn(seed=seed, env=environment)
            stack.callback(proxy.close)
            system = ProcessSystem(EmbeddedDatabase(server), proxy, server.dsn(ledger), run_id, folder)
            stack.callback(system.close)
            if topology.secret_file:
                system.secret = folder / "secrets" / "database-password"
                rewrite(system.secret, secrets.token_urlsafe(12))
            for dependency in topology.dependencies:
                _add_dependency(dependency, system, logs, environment)
            for service in topology.services:
                for name in service.nodes:
                    system.add(_worker(service, name, topology, system, logs, environment))
            system.start_programs()
            made.result()
            if system.secret is not None and self._server is None:
                server.require_password(ROLE, system.secret.read_text())
            system.let_through()
            yield system


class ProcessSystem:
    """A started topology."""

    def __init__(self, database: EmbeddedDatabase, proxy: Proxy, dsn: str, run_id: str, folder: Path) -> None:
        self.database = database
        self.proxy = proxy
        self.dsn = dsn
        self.folder = folder
        self.spool = folder / "spool"
        self.secret: Path | None = None
        self.ports: dict[str, int] = {}
        self.stand_ins: dict[str, str] = {}
        self.absent: set[str] = set()
        self._run_id = run_id
        self._programs: dict[str, ProcessNode] = {}

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Programs by name, and PostgreSQL."""
        return {**self._programs, POSTGRES: self.database}

    def add(self, program: tuple[ProcessNode, int]) -> None:
        """One more program, and its port."""
        node, port = program
        self._programs[node.name] = node
        self.ports[node.name] = port

    def start_programs(self) -> None:
        """Start every program that is not meant to be absent; nobody gets through to PostgreSQL yet."""
        for name, node in self._programs.items():
            if name not in self.absent:
                node.start()

    def url(self, name: str) -> str:
        """A dependency's base URL, past the proxy."""
        return f"http://{HOST}:{self.ports[name]}"

    def let_through(self) -> None:
        """PostgreSQL is there."""
        for edge_ in self.proxy.edges():
            self.proxy.clear(edge_)

    def close(self) -> None:
        """End every program."""
        for node in self._programs.values():
            node.reap()

    def leftovers(self) -> Sequence[str]:
        """Processes that still carry the run's mark."""
        return [str(process) for process in marked([self._run_id])]


def _make_ledger(server: EmbeddedPostgres, name: str) -> None:
    """The database, owned by a role that is no superuser: it feels full slots as production would."""
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):  # the second: at the same moment
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(ROLE)))
    dsn = server.dsn(name, user=ROLE)
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        probe.prepare(connection)


def _close(server: EmbeddedPostgres, ledger: str) -> None:
    server.close()  # and the ledger with it


def _drop_ledger(server: EmbeddedPostgres, name: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _worker(
    service: Service, name: str, topology: Topology, system: ProcessSystem, logs: Path, environment: Mapping[str, str]
) -> tuple[ProcessNode, int]:
    health = free_port()
    upstream = urlsplit(system.database.dsn())
    listen = system.proxy.open_edge(edge(name, POSTGRES), upstream=(HOST, upstream.port or 5432))
    system.proxy.set_rule(edge(name, POSTGRES), Rule(stall=True))
    reached = {}
    for dependency in topology.dependencies:
        port = system.proxy.open_edge(
            edge(name, dependency.name), upstream=(HOST, system.ports[dependency.name]), protocol="http"
        )
        reached[dependency] = f"http://{HOST}:{port}"
    url = urlunsplit(upstream._replace(netloc=f"{ROLE}@{HOST}:{listen}", path=urlsplit(system.dsn).path))
    spool = system.spool / service.name
    spool.mkdir(parents=True, exist_ok=True)
    told = worker_environment(
        service,
        name,
        database=url,
        reached=reached,
        spool=str(spool),
        secret=str(system.secret) if system.secret is not None else None,
    )
    settings = told | {"CONTAINER_HEALTH_PORT": str(health)}
    argv = [sys.executable, "-m", service.launcher]
    argv += ["run", service.flow] if service.launcher == RUN else [service.flow]
    node = ProcessNode(
        name,
        argv,
        env={**_own_environment(), **environment, **settings},
        log=logs / f"{name}.log",
        health=f"http://{HOST}:{health}/health/ready",
        disk=_disk(topology, system.folder / "tmp" / name),
    )
    return node, health


def _add_dependency(dependency: Dependency, system: ProcessSystem, logs: Path, environment: Mapping[str, str]) -> None:
    port = free_port()
    program = program_of(dependency, port, system.folder / dependency.name)
    if program.stand_in:
        system.stand_ins[dependency.name] = program.stand_in
    if dependency.absent:
        system.absent.add(dependency.name)
    node = ProcessNode(
        dependency.name,
        program.argv,
        env={**_own_environment(), **environment, **program.env},
        log=logs / f"{dependency.name}.log",
        health=f"http://{HOST}:{port}{dependency.health_path}",
        family=True,
    )
    system.add((node, port))


def _disk(topology: Topology, folder: Path) -> SmallDisk | None:
    with suppress(NotPossible):  # then the fault is not run, and says why
        return small_disk(folder) if topology.small_disk else None
    return None


def _own_environment() -> dict[str, str]:
    theirs = ("CONTAINER_", "PG", "PREFECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, "PYTHONUNBUFFERED": "1"}
