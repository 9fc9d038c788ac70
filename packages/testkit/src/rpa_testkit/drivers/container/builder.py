"""Creates a topology's containers; none of them runs yet."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from rpa_testkit.drivers.container import address, recipes
from rpa_testkit.drivers.container.engine import Engine, in_parallel
from rpa_testkit.drivers.container.handle import Container, EngineError
from rpa_testkit.drivers.container.node import ContainerNode
from rpa_testkit.drivers.container.postgres import ContainerDatabase
from rpa_testkit.drivers.container.recipes import Sizes
from rpa_testkit.drivers.container.space import Space
from rpa_testkit.drivers.container.system import answers
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.drivers.settings import rewrite
from rpa_testkit.ports import HOST, free_port
from rpa_testkit.scenario.model import ALERTMANAGER, POSTGRES, PREFECT, Dependency, Service, Topology

PORTS = {PREFECT: recipes.PREFECT_PORT, ALERTMANAGER: recipes.ALERTMANAGER_PORT}
"""Dependencies that have an image, and the ports that they listen on in there."""


class Builder:
    """One run's containers. Everything is known before the first is created: ports, edges, the password.

    `control` is the port of the proxy's control, `edges` the ports that it listens on by the edges' names: the same
    numbers in its container and on this machine's loopback.
    """

    def __init__(
        self, engine: Engine, topology: Topology, folder: Path, *, sizes: Sizes, images: Mapping[str, str]
    ) -> None:
        unknown = [dependency.name for dependency in topology.dependencies if dependency.name not in PORTS]
        if unknown:
            raise NotPossible(f"the docker driver knows no image for {', '.join(unknown)}; it knows {', '.join(PORTS)}")
        needed = {service.image for service in topology.services} | {images[POSTGRES], images[address.PROXY]}
        engine.require(needed | {images[dependency.name] for dependency in topology.dependencies})
        self._engine = engine
        self._topology = topology
        self._folder = folder
        self._logs = folder / "logs"
        self._sizes = sizes
        self._images = images
        self._ports: set[int] = set()
        self._password = secrets.token_hex(16)
        self.secret: Path | None = None
        if topology.secret_file:
            self.secret = folder / "secrets" / address.SECRET
            rewrite(self.secret, self._password)
            self.secret.parent.chmod(0o755)
        self._network = ""
        self.control = self._port()
        self.edges = {name: self._port() for name in topology.edges}
        self.published: dict[str, int] = {}
        self._made: dict[str, Container] = {}

    def create(self, seed: int) -> tuple[ContainerDatabase, Container, list[ContainerNode]]:
        """PostgreSQL, the proxy that keeps its data mounted, and the programs."""
        self._network = self._engine.network()
        port = self._port()
        data = self._create(
            POSTGRES,
            recipes.postgres(
                image=self._images[POSTGRES],
                password=self._password,
                port=port,
                sizes=self._sizes,
                labels=self._engine.labels(),
            ),
        )
        making = [partial(self._dependency, dependency) for dependency in self._topology.dependencies]
        workers = [
            partial(self._worker, service, name) for service in self._topology.services for name in service.nodes
        ]
        ports = (self.control, *self.edges.values())
        keeper = self._create(
            address.PROXY,
            recipes.proxy(
                image=self._images[address.PROXY], seed=seed, ports=ports, data_of=data.name, sizes=self._sizes
            ),
        )
        database = ContainerDatabase(
            data,
            password=self._password,
            port=port,
            bounds=self._sizes.database,
            space=Space(keeper, recipes.DATA),
            log=self._log(POSTGRES),
        )
        return database, keeper, in_parallel([*making, *workers])

    def migrations(self) -> list[Container]:
        """One for each image with a flow of its own, which may have databases of its own."""
        built = {service.image: service for service in self._topology.services if ":" not in service.flow}
        return [
            self._create(
                f"{service.name}-migrate",
                recipes.migration(service, environment=self._environment(service, service.nodes[0]), sizes=self._sizes),
            )
            for service in built.values()
        ]

    def keep_logs(self) -> None:
        """The output of every node that was made, and of the proxy, each in its file."""

        def keep(container: Container, log: Path) -> None:
            with suppress(EngineError):
                log.write_bytes(container.output())

        in_parallel([partial(keep, container, self._log(name)) for name, container in tuple(self._made.items())])

    def _worker(self, service: Service, name: str) -> ContainerNode:
        port = self._port()
        folders = {address.SPOOL: self._open_to_all("spool", service.name)}
        if self.secret is not None:
            folders[address.SECRETS] = self.secret.parent
        recipe = recipes.worker(
            service,
            environment=self._environment(service, name),
            port=port,
            sizes=self._sizes,
            folders=folders,
        )
        return self._node(name, recipe, health=f"http://{HOST}:{port}/health/ready")

    def _dependency(self, dependency: Dependency) -> ContainerNode:
        port = self._port()
        self.published[dependency.name] = port
        image = self._images[dependency.name]
        if dependency.name == ALERTMANAGER:
            recipe = recipes.alertmanager(image=image, port=port, sizes=self._sizes)
        else:
            data = self._open_to_all(dependency.name)
            recipe = recipes.prefect(image=image, port=port, sizes=self._sizes, data=data)
        return self._node(dependency.name, recipe, health=f"http://{HOST}:{port}{dependency.health_path}")

    def _node(self, name: str, recipe: recipes.Recipe, *, health: str) -> ContainerNode:
        container = self._create(name, recipe)
        bounds = self._sizes.worker if name in self._topology.workers else self._sizes.dependency
        return ContainerNode(
            name,
            container,
            asks=answers(health),
            bounds=bounds,
            space=Space(container, recipes.TMP),
            log=self._log(name),
        )

    def _create(self, name: str, recipe: recipes.Recipe) -> Container:
        self._made[name] = container = self._engine.create(name, self._network, **recipe)
        return container

    def _environment(self, service: Service, node: str) -> dict[str, str]:
        return address.environment(service, node, self._topology, edges=self.edges, password=self._password)

    def _open_to_all(self, *names: str) -> Path:
        """A folder that outlives its containers; the accounts in there are others than ours."""
        folder = self._folder.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        return folder.resolve()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _port(self) -> int:
        while (port := free_port()) in self._ports:
            pass
        self._ports.add(port)
        return port
