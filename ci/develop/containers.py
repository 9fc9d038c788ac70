"""The running stack, as far as the development loop needs it: its containers, and what is done to them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ci import docker
from ci.errors import ToolError
from ci.images.labels import ENVIRONMENT_LABEL
from ci.images.model import IMAGE_LABEL

SUPERVISOR = "rpa-reload"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
_COPY_S = 60.0
_AT_ONCE = 500  # paths on one command line
_READ_ONLY = (
    "its root file system is read-only, so nothing can be copied in; start the stack as development: invoke compose.up"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A container of one of our images. `image` is the declared name, whatever the tag says."""

    id: str
    name: str
    service: str
    image: str
    environment: str
    state: str  # "running", "restarting", "exited", ...
    started: str  # the engine's timestamp; with the id, it names one run of the container
    exit_code: int = 0
    supervised: bool = True  # rpa-reload is what runs in it

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def fallen(self) -> bool:
        """Its worker ended with an error, and the container with it."""
        return self.state == "restarting" or (self.state == "exited" and self.exit_code not in (0, 137, 143))


class Engine(Protocol):
    """What is done to containers; tests have one of their own."""

    def members(self) -> list[Member]: ...
    def read(self, member: Member, folder: str) -> bytes | None: ...
    def put(self, member: Member, archive: bytes) -> None: ...
    def remove(self, member: Member, paths: Sequence[str]) -> None: ...
    def reload(self, member: Member, *arguments: str) -> dict[str, Any]: ...
    def restart(self, member: Member) -> None: ...
    def last_words(self, member: Member, since_s: float) -> list[str]: ...


class DockerEngine:
    """Through the docker command; containers are found by Compose's labels, not by its files."""

    def __init__(self, project: str) -> None:
        self._project = project

    def members(self) -> list[Member]:
        """The project's containers of our images, by name."""
        ours = [
            one.id
            for one in docker.containers()
            if one.labels.get(PROJECT_LABEL) == self._project and one.labels.get(IMAGE_LABEL)
        ]
        return sorted((_member(one) for one in docker.inspect("container", ours)), key=lambda one: one.name)

    def read(self, member: Member, folder: str) -> bytes | None:
        """A folder as a tar archive; None where it is not there."""
        done = _docker("cp", f"{member.id}:{folder}", "-")
        if done.returncode == 0:
            return done.stdout
        said = _said(done)
        if "Could not find the file" in said or "no such file" in said.lower():
            return None
        raise ToolError(f"{member.name}: {folder} cannot be read: {said}")

    def put(self, member: Member, archive: bytes) -> None:
        """Unpack an archive at the root."""
        done = _docker("cp", "-", f"{member.id}:/", data=archive)
        if done.returncode:
            said = _said(done)
            raise ToolError(f"{member.name}: {_READ_ONLY if 'read-only' in said else said}")

    def remove(self, member: Member, paths: Sequence[str]) -> None:
        """Remove files and folders; needs a running container."""
        for start in range(0, len(paths), _AT_ONCE):
            done = _docker("exec", "--user", "0", member.id, "rm", "-rf", "--", *paths[start : start + _AT_ONCE])
            if done.returncode:
                said = _said(done)
                raise ToolError(f"{member.name}: {_READ_ONLY if 'Read-only' in said else said}")

    def reload(self, member: Member, *arguments: str) -> dict[str, Any]:
        """`rpa-reload --reload` in the container; what it answers."""
        done = _docker("exec", member.id, SUPERVISOR, *(arguments or ("--reload",)), timeout_s=None)
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            return {"live": False, "problem": _said(done)}
        return answer

    def restart(self, member: Member) -> None:
        """The whole container."""
        docker.run("restart", member.id)

    def last_words(self, member: Member, since_s: float) -> list[str]:
        """Its last lines on stderr since a moment (seconds since the epoch)."""
        done = _docker("logs", "--since", f"{since_s:.3f}", "--tail", "200", member.id)
        return done.stderr.decode(errors="replace").splitlines()


def _member(found: dict[str, Any]) -> Member:
    labels, state = found["Config"].get("Labels") or {}, found["State"]
    return Member(
        id=found["Id"],
        name=found["Name"].removeprefix("/"),
        service=labels.get(SERVICE_LABEL, ""),
        image=labels[IMAGE_LABEL],
        environment=labels.get(ENVIRONMENT_LABEL, ""),
        state=state["Status"],
        started=state["StartedAt"],
        exit_code=state["ExitCode"],
        supervised=found["Path"].rpartition("/")[2] == SUPERVISOR,
    )


def _docker(
    *arguments: str, data: bytes | None = None, timeout_s: float | None = _COPY_S
) -> subprocess.CompletedProcess[bytes]:
    """`docker ARGUMENTS` with bytes in and out; its exit code is the caller's business."""
    try:
        return subprocess.run(["docker", *arguments], input=data, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise ToolError("there is no docker command; install Docker (on Debian: invoke engine.start)") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"docker {arguments[0]} did not end within {timeout_s:g} s; is the engine busy?") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"docker ended with {done.returncode} and said nothing"
