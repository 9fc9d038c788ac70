"""The Docker Engine: the few questions that must be answered at once over its socket, the rest through the CLI."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ci.errors import ToolError
from ci.images.model import Existing

_SOCKET = "unix:///var/run/docker.sock"
_HOW = "start Docker (on a bare Debian machine: invoke engine.start), or set DOCKER_HOST to where it runs"
_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, running or not. `image` is the reference it was made from, `image_id` what that was then."""

    id: str
    name: str
    image: str
    image_id: str
    state: str  # "running", "exited", ...
    labels: Mapping[str, str]
    created: int = 0  # seconds since the epoch


def images() -> list[Existing]:
    """Every image that the engine has; one request. ToolError where no engine answers."""
    path = _socket_path()
    return [
        Existing(
            id=one["Id"],
            tags=tuple(tag for tag in one.get("RepoTags") or () if tag != "<none>:<none>"),
            labels=one.get("Labels") or {},
            created=one["Created"],
        )
        for one in (_images_by_command() if path is None else _ask(path, "/images/json"))
    ]


def containers() -> list[Container]:
    """Every container, whether it runs or not. ToolError where no engine answers."""
    path = _socket_path()
    return [
        Container(
            id=one["Id"],
            name=one["Names"][0].removeprefix("/") if one["Names"] else one["Id"][:12],
            image=one["Image"],
            image_id=one["ImageID"],
            state=one["State"],
            labels=one.get("Labels") or {},
            created=one["Created"],
        )
        for one in (_containers_by_command() if path is None else _ask(path, "/containers/json?all=1"))
    ]


def tag(image: str, reference: str) -> None:
    """Let `reference` ("name:tag") name `image`, an id or another reference. ToolError where there is no such image."""
    path = _socket_path()
    if path is None:
        run("image", "tag", image, reference, timeout_s=_ANSWER_S)
        return
    from urllib.parse import quote

    repository, _, name = reference.rpartition(":")
    _ask(path, f"/images/{quote(image)}/tag?repo={quote(repository, safe='')}&tag={quote(name)}", method="POST")


def inspect(kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """`docker KIND inspect` of those of `names` that exist; kind is "image" or "container"."""
    if not names:
        return []
    done = run(kind, "inspect", *names, check=False, timeout_s=_ANSWER_S)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    if not found and "no such" not in done.stderr.lower():
        raise ToolError(f"docker {kind} inspect {' '.join(names)} failed: {_last_lines(done.stderr)}")
    return found


def run(
    *arguments: str,
    timeout_s: float = 600,
    check: bool = True,
    input: str | None = None,  # noqa: A002 - as subprocess.run calls it
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`docker ARGUMENTS`, its output captured; `env` is added to the environment.

    ToolError where the command is missing, does not end in time or, with `check`, fails.
    """
    shown = f"docker {' '.join(arguments[:3])}"
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            input=input,
            env={**os.environ, **env} if env else None,
        )
    except FileNotFoundError as error:
        raise ToolError(f"there is no docker command; {_HOW}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{shown} did not end within {timeout_s:g} s; is the engine busy? docker info tells") from error
    if check and done.returncode:
        if "Cannot connect to the Docker daemon" in done.stderr:
            raise ToolError(f"no Docker Engine answers ({_last_lines(done.stderr, 1)}); {_HOW}")
        raise ToolError(f"{shown} failed with {done.returncode}: {_last_lines(done.stderr or done.stdout)}")
    return done


def builder() -> str:
    """The name of the builder that is the engine itself: it sees local images, and what it builds is there at once."""
    return "default" if os.environ.get("DOCKER_HOST") else _context() or "default"


def _socket_path() -> str | None:
    """Path of the engine's unix socket; None where it is reached in another way."""
    host = os.environ.get("DOCKER_HOST") or _context_host(_context()) or _SOCKET
    return host.removeprefix("unix://") if host.startswith("unix://") else None


def _context() -> str:
    """The docker context in use; empty: the default one."""
    name = os.environ.get("DOCKER_CONTEXT")
    if not name:
        try:
            name = json.loads((_settings() / "config.json").read_text(encoding="utf-8")).get("currentContext")
        except (OSError, ValueError):
            name = None
    return "" if name in (None, "default") else name


def _context_host(name: str) -> str | None:
    if not name:
        return None
    place = _settings() / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    try:
        host = json.loads(place.read_text(encoding="utf-8"))["Endpoints"]["docker"]["Host"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"  # the CLI knows, or says what is wrong with it
    return str(host)


def _settings() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _ask(path: str, request: str, *, method: str = "GET") -> Any:
    from http.client import HTTPConnection, HTTPException  # not for those who only ask the CLI

    connection = HTTPConnection("docker", timeout=_ANSWER_S)
    try:
        # The connection is made here, so that http.client does not look the host up.
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_ANSWER_S)
        connection.sock.connect(path)
        connection.request(method, request)
        answer = connection.getresponse()
        body = answer.read()
    except PermissionError as error:
        raise ToolError(
            f"no Docker Engine answers: {path} may not be opened by this account; "
            "add the account to the group docker and log in again, or run this as root"
        ) from error
    except (OSError, HTTPException) as error:
        raise ToolError(f"no Docker Engine answers at {path} ({error}); {_HOW}") from error
    finally:
        connection.close()
    if answer.status not in (200, 201):
        said = body[:300].decode(errors="replace").strip()
        raise ToolError(
            f"the Docker Engine answered {method} {request} with {answer.status}: {said}; docker info tells"
        )
    return json.loads(body) if method == "GET" else None


def _images_by_command() -> list[dict[str, Any]]:
    ids = dict.fromkeys(run("image", "ls", "--quiet", "--no-trunc", timeout_s=_ANSWER_S).stdout.split())
    return [
        {
            "Id": one["Id"],
            "RepoTags": one.get("RepoTags"),
            "Labels": (one.get("Config") or {}).get("Labels"),
            "Created": seconds(one.get("Created", "")),
        }
        for one in inspect("image", list(ids))
    ]


def _containers_by_command() -> list[dict[str, Any]]:
    ids = run("container", "ls", "--all", "--quiet", "--no-trunc", timeout_s=_ANSWER_S).stdout.split()
    return [
        {
            "Id": one["Id"],
            "Names": [one["Name"]],
            "Image": one["Config"]["Image"],
            "ImageID": one["Image"],
            "State": one["State"]["Status"],
            "Labels": one["Config"].get("Labels"),
            "Created": seconds(one["Created"]),
        }
        for one in inspect("container", ids)
    ]


def seconds(timestamp: str) -> int:
    """An engine's timestamp as seconds since the epoch; 0 where an image has none."""
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0


def _last_lines(text: str, count: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-count:]) or "it said nothing"
