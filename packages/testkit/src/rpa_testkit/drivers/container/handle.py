"""One container of the Engine, through all its starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

_SIGNALS = range(129, 193)
_NEVER = "0001-01-01T00:00:00Z"


class EngineError(RuntimeError):
    """The Engine could not do what was asked; the text has its own words."""


@contextmanager
def spoken(doing: str) -> Iterator[None]:
    """The SDK's errors, and those of the connection, as EngineError."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        said = getattr(error, "explanation", None) or error
        raise EngineError(f"{doing}: {said}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the Engine knows of a container's last or present incarnation.

    exit_code   negative for a signal, also where it was that of init's child; None while it runs or was never started.
    oom_killed  the kernel has killed one of its processes for the memory bound.
    pid         of its first process, in the Engine's machine; 0 while it does not run.
    """

    running: bool
    paused: bool
    exit_code: int | None
    oom_killed: bool
    started_at: str
    pid: int

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> State:
        """From what `inspect` tells."""
        running = bool(told["Running"])
        code = int(told["ExitCode"])
        ended = not running and told["StartedAt"] != _NEVER
        return cls(
            running=running,
            paused=bool(told["Paused"]),
            exit_code=(128 - code if code in _SIGNALS else code) if ended else None,
            oom_killed=bool(told["OOMKilled"]),
            started_at=str(told["StartedAt"]),
            pid=int(told["Pid"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that was run in a container: its exit code and all that it wrote."""

    code: int
    text: str


class Container:
    """Every call raises EngineError if the Engine does not do it."""

    def __init__(self, client: DockerClient, container_id: str, name: str) -> None:
        self._api: Any = client.api
        self.id = container_id
        self.name = name

    def state(self) -> State:
        """Now."""
        return State.of(self.inspect()["State"])

    def inspect(self) -> Mapping[str, Any]:
        """All that the Engine tells."""
        with spoken(f"inspecting {self.name}"):
            told: Mapping[str, Any] = self._api.inspect_container(self.id)
        return told

    def start(self) -> None:
        """Start it; nothing if it runs."""
        with spoken(f"starting {self.name}"):
            self._api.start(self.id)

    def signal(self, name: str) -> None:
        """Send a signal to its first process; nothing if it has ended."""
        import docker

        try:
            with spoken(f"sending {name} to {self.name}"):
                self._api.kill(self.id, name)
        except EngineError as error:
            cause = error.__cause__
            if not (isinstance(cause, docker.errors.APIError) and cause.status_code == 409):
                raise

    def pause(self) -> None:
        """Freeze it."""
        with spoken(f"pausing {self.name}"):
            self._api.pause(self.id)

    def unpause(self) -> None:
        """Let it go on."""
        with spoken(f"unpausing {self.name}"):
            self._api.unpause(self.id)

    def update(self, *, memory_bytes: int | None = None, cpu_quota_us: int | None = None) -> None:
        """Set its bounds; memory without any swap on top."""
        bounds: dict[str, Any] = {}
        if memory_bytes is not None:
            bounds |= {"mem_limit": memory_bytes, "memswap_limit": memory_bytes}
        if cpu_quota_us is not None:
            bounds |= {"cpu_quota": cpu_quota_us}
        with spoken(f"bounding {self.name}"):
            self._api.update_container(self.id, **bounds)

    def run(self, argv: Sequence[str]) -> Ran:
        """Run a command beside its processes, as its user; waits for the end."""
        with spoken(f"running {argv[0]} in {self.name}"):
            made = self._api.exec_create(self.id, list(argv))
            written: bytes = self._api.exec_start(made["Id"])
            code = self._api.exec_inspect(made["Id"])["ExitCode"]
        return Ran(code=-1 if code is None else int(code), text=written.decode(errors="replace"))

    def run_beside(self, argv: Sequence[str]) -> None:
        """Start a command beside its processes, as its user; does not wait. It ends with the container."""
        with spoken(f"starting {argv[0]} in {self.name}"):
            made = self._api.exec_create(self.id, list(argv), stdout=False, stderr=False)
            self._api.exec_start(made["Id"], detach=True)

    def stats(self) -> Mapping[str, Any]:
        """What its cgroup counts, at once; zeros while it does not run."""
        with spoken(f"measuring {self.name}"):
            told: Mapping[str, Any] = self._api.stats(self.id, stream=False, one_shot=True)
        return told

    def output(self) -> bytes:
        """All that it has written, in all its incarnations."""
        with spoken(f"reading the output of {self.name}"):
            written: bytes = self._api.logs(self.id, stdout=True, stderr=True)
        return written
