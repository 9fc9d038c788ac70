"""The Engine's API, for one run: everything made carries the run's label and goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from rpa_testkit.drivers.container.handle import Container, EngineError, spoken
from rpa_testkit.warden.mark import LABEL

if TYPE_CHECKING:
    from docker import DockerClient

_ANSWER_S = 60
_AT_ONCE = 8
_NO_SDK = "the docker driver needs the Docker SDK for Python: pip install 'rpa-testkit[docker]'"
_NO_ENGINE = "no Docker Engine answers ({reason}): start Docker, or point DOCKER_HOST at its socket"
_ELSEWHERE = (
    "the Docker Engine at {url} is another machine: ports are published on this one's loopback alone, so use one here"
)
Made = TypeVar("Made")


class NoEngine(EngineError):
    """There is no Engine to work with; the text says what to do."""


class Engine:
    """What one run has on an Engine. `close` ends the connection; it removes nothing."""

    def __init__(self, client: DockerClient, run_id: str) -> None:
        self._client = client
        self._labels = {LABEL: run_id}
        self._mine: Any = {"label": f"{LABEL}={run_id}"}
        self._short = _short(run_id)

    @classmethod
    def connect(cls, run_id: str) -> Engine:
        """Raises NoEngine if the SDK is not installed or no Engine of this machine answers."""
        try:
            import docker
        except ImportError as error:
            raise NoEngine(_NO_SDK) from error
        try:
            client = docker.from_env(timeout=_ANSWER_S)
        except (docker.errors.DockerException, OSError, ValueError) as error:
            raise NoEngine(_NO_ENGINE.format(reason=error)) from error
        url = client.api.base_url
        try:
            if not url.startswith(
                ("http+docker:", "http://localhost", "http://127.", "https://localhost", "https://127.")
            ):
                raise NoEngine(_ELSEWHERE.format(url=url))
            client.ping()
        except (docker.errors.DockerException, OSError) as error:
            client.close()
            raise NoEngine(_NO_ENGINE.format(reason=error)) from error
        except NoEngine:
            client.close()
            raise
        return cls(client, run_id)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def can(self) -> Mapping[str, Any]:
        """What the Engine says of itself, such as `MemoryLimit` and `CpuCfsQuota`."""
        with spoken("asking the Engine what it can do"):
            return dict(self._client.info())

    def require(self, images: Iterable[str]) -> None:
        """EngineError names every image that is not there."""
        import docker

        missing = []
        for image in sorted(set(images)):
            try:
                with spoken(f"looking for image {image}"):
                    self._client.images.get(image)
            except EngineError as error:
                if not isinstance(error.__cause__, docker.errors.ImageNotFound):
                    raise
                missing.append(image)
        if missing:
            raise EngineError(f"the Docker Engine has no image {', '.join(missing)}: build or pull it first")

    def network(self) -> str:
        """Make the run's network and return its name."""
        name = f"rpa-testkit-{self._short}"
        with spoken(f"making network {name}"):
            self._client.networks.create(name, driver="bridge", labels=self._labels, check_duplicate=True)
        return name

    def create(self, node: str, network: str, **recipe: Any) -> Container:
        """Create a container that the others reach as `node`; it does not run yet."""
        name = f"{self._short}-{node}"
        with spoken(f"creating container {name}"):
            made = self._client.containers.create(
                name=name,
                hostname=node,
                network=network,
                networking_config={network: self._client.api.create_endpoint_config(aliases=[node])},
                labels=self._labels,
                **recipe,
            )
        return Container(self._client, str(made.id), name)

    def remove_all(self) -> list[str]:
        """Remove all that carries the run's label, whatever its state; returns what would not go, with the reason."""
        containers = self._client.containers.list(all=True, ignore_removed=True, filters=self._mine)
        kept = in_parallel([_removal(container.remove, v=True, force=True) for container in containers])
        networks: list[Any] = self._client.networks.list(filters=self._mine)
        volumes: list[Any] = self._client.volumes.list(filters=self._mine)
        kept += in_parallel([_removal(made.remove) for made in (*networks, *volumes)])
        return [reason for reason in kept if reason]

    def leftovers(self) -> list[str]:
        """What carries the run's label now, in words."""
        with spoken("looking for what is left"):
            containers = self._client.containers.list(all=True, ignore_removed=True, filters=self._mine)
            networks = self._client.networks.list(filters=self._mine)
            volumes = self._client.volumes.list(filters=self._mine)
        return [
            *(f"container {container.name} ({container.status})" for container in containers),
            *(f"network {network.name}" for network in networks),
            *(f"volume {volume.name}" for volume in volumes),
        ]

    def labels(self) -> dict[str, str]:
        """For what is made along with a container."""
        return dict(self._labels)


def in_parallel(work: Iterable[Callable[[], Made]]) -> list[Made]:
    """Do all of it at once and return what came of it, in order; the first error is raised when all have ended."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="engine") as pool:
        doing = [pool.submit(one) for one in work]
    return [one.result() for one in doing]


def _removal(remove: Callable[..., object], **how: bool) -> Callable[[], str]:
    def attempt() -> str:
        import docker

        try:
            remove(**how)
        except docker.errors.NotFound:
            pass
        except (docker.errors.DockerException, OSError) as error:
            return str(error)
        return ""

    return attempt


def _short(run_id: str) -> str:
    """The end of a run's id, which is what tells runs apart, as a part of a container's name."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in run_id)
    return plain[-24:].strip("-")
