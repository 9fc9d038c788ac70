"""Starts a topology in containers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from rpa_testkit.drivers.container import address
from rpa_testkit.drivers.container.builder import PORTS, Builder
from rpa_testkit.drivers.container.engine import Engine, in_parallel
from rpa_testkit.drivers.container.handle import Container, EngineError
from rpa_testkit.drivers.container.node import ContainerNode
from rpa_testkit.drivers.container.postgres import ContainerDatabase
from rpa_testkit.drivers.container.recipes import Sizes
from rpa_testkit.drivers.container.system import ContainerSystem, clear
from rpa_testkit.ports import HOST
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.scenario.model import ALERTMANAGER, POSTGRES, PREFECT, Topology
from rpa_testkit.waits import WaitTimeoutError, until
from rpa_testkit.warden.client import Warden

_START_S = 60.0
_MIGRATE_S = 120.0
_NEAR_S = 1.0
_NEEDS = {
    "memory": ("MemoryLimit", "bounds no container's memory"),
    "cpu": ("CpuCfsQuota", "bounds no container's CPU time"),
}


class ContainerDriver:
    """The images as they are, on a Docker Engine of this machine. Without one `start` raises NoEngine."""

    name = "docker"

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        postgres_image: str = "postgres:17-trixie",
        proxy_image: str = "python:3.13-slim-trixie",
        prefect_image: str = "prefecthq/prefect:3.8.8-python3.13",
        alertmanager_image: str = "prom/alertmanager:v0.28.1",
    ) -> None:
        """`proxy_image` needs a `python` of 3.11 or later and nothing else."""
        self._sizes = sizes or Sizes()
        self._images = {
            POSTGRES: postgres_image,
            address.PROXY: proxy_image,
            PREFECT: prefect_image,
            ALERTMANAGER: alertmanager_image,
        }
        self._told: Mapping[str, object] | None = None

    def cannot(self, kind: str, target: str = "") -> str | None:
        """What the Engine, or the kernel under it, does not offer; without an Engine nothing can be injected."""
        try:
            offered = self._offered()
        except EngineError as error:
            return str(error)
        setting, what = _NEEDS.get(kind, ("", ""))
        if setting and not offered.get(setting):
            return f"this Docker Engine {what} ({setting} is off): use one that may set up cgroups for it"
        return None

    @contextmanager
    def start(
        self, topology: Topology, folder: Path, *, run_id: str, seed: int, warden: Warden
    ) -> Iterator[ContainerSystem]:
        """All containers are created at once; PostgreSQL and the proxy run first, the rest when the ledger is there."""
        folder = folder.absolute()  # workers have working folders of their own
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            engine = stack.enter_context(Engine.connect(run_id))
            builder = Builder(engine, topology, folder, sizes=self._sizes, images=self._images)
            stack.callback(clear, engine)
            stack.callback(builder.keep_logs)
            database, keeper, programs = builder.create(seed)
            in_parallel([database.start, keeper.start])
            proxy = _connected(keeper, builder.control)
            stack.callback(proxy.close)
            _open_edges(proxy, builder.edges)
            _await(database)
            database.make_databases(address.databases(topology))
            in_parallel([partial(_migrate, container) for container in builder.migrations()])
            absent = {dependency.name for dependency in topology.dependencies if dependency.absent}
            in_parallel([program.start for program in programs if program.name not in absent])
            yield ContainerSystem(
                database,
                proxy,
                programs,
                run_id=run_id,
                spool=folder / "spool",
                secret=builder.secret,
                published=builder.published,
            )

    def _offered(self) -> Mapping[str, object]:
        if self._told is None:
            with Engine.connect("") as engine:
                self._told = engine.can()
        return self._told


def _connected(keeper: Container, port: int) -> Proxy:
    """By the container's own address where this machine reaches it: a published port is one more proxy, which accepts
    what ours would refuse."""

    def listens() -> bool:
        if not keeper.state().running:
            raise EngineError(f"the proxy has ended:\n{keeper.output().decode(errors='replace')}")
        return b'"port"' in keeper.output()

    until(listens, _START_S, "the proxy to listen")
    (network,) = keeper.inspect()["NetworkSettings"]["Networks"].values()
    return Proxy.connect(network["IPAddress"] if _reachable(network["IPAddress"], port) else HOST, port)


def _reachable(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), _NEAR_S):
        return True
    return False


def _open_edges(proxy: Proxy, ports: Mapping[str, int]) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - of its container
    for name, port in ports.items():
        to = address.upstream_of(name.partition("->")[2], PORTS)
        proxy.open_edge(name, (to.host, to.port), listen=(everywhere, port), protocol=to.protocol)


def _await(node: ContainerNode | ContainerDatabase) -> None:
    def up() -> bool:
        if not node.running:
            raise EngineError(f"{node.name} has ended with {node.exit_code}:\n{node.log_text()}")
        return node.ready()

    until(up, _START_S, f"{node.name} to answer", node.log_text)


def _migrate(container: Container) -> None:
    container.start()
    try:
        until(lambda: not container.state().running, _MIGRATE_S, f"{container.name} to end", every_s=0.1)
    except WaitTimeoutError as error:
        raise EngineError(f"{error}:\n{container.output().decode(errors='replace')}") from error
    code = container.state().exit_code
    if code:
        raise EngineError(f"{container.name} ended with {code}:\n{container.output().decode(errors='replace')}")
