"""`docker compose` with the right files, project and variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci.errors import ToolError
from ci.workspace import ROOT

PROJECT = "rpa"
FILES = {
    "development": ("compose.yml", "compose.override.yml"),
    "production": ("compose.yml", "compose.prod.yml"),
}
_SHOWN_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One stack: which files make it up, what it is called, and the variables it is given.

    `project` sets its containers, networks and volumes apart from another's on the same engine. `variables` win over
    the shell's and over docker/env/stack.env.
    """

    environment: str = "development"
    project: str = PROJECT
    variables: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT

    @property
    def folder(self) -> Path:
        """Where the compose files are; the paths in them start here."""
        return self.root / "docker"

    @property
    def secrets(self) -> Path:
        """Where the secrets are on this machine."""
        return self._place("RPA_SECRETS_DIR", "secrets")

    @property
    def env(self) -> Path:
        """Where the env files are on this machine."""
        return self._place("RPA_ENV_DIR", "env")

    def variable(self, name: str) -> str:
        """A variable of this stack, else of the shell; empty where neither has it."""
        return self.variables.get(name) or os.environ.get(name, "")

    def command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        files = [part for name in FILES[self.environment] for part in ("--file", str(self.folder / name))]
        settings = self.env / "stack.env"
        given = ["--env-file", str(settings)] if settings.exists() else []
        place = ["--project-directory", str(self.folder)]
        return ["docker", "compose", "--project-name", self.project, *place, *given, *files, *arguments]

    def process_environment(self) -> dict[str, str]:
        """What the command runs with."""
        own = {"RPA_ENVIRONMENT": self.environment, "RPA_SECRETS_DIR": str(self.secrets), "RPA_ENV_DIR": str(self.env)}
        return {**os.environ, **self.variables, **own}

    def _place(self, variable: str, default: str) -> Path:
        given = self.variable(variable)
        return self.folder / (given or default)


def stack_of(
    environment: str = "development", *, project: str | None = None, variables: Mapping[str, str] | None = None
) -> Stack:
    """The stack of an environment. Its project is `project`, else RPA_COMPOSE_PROJECT, else "rpa"."""
    if environment not in FILES:
        raise ToolError(f"there is no environment {environment!r}; give one of {', '.join(FILES)}")
    name = project or os.environ.get("RPA_COMPOSE_PROJECT") or PROJECT
    return Stack(environment=environment, project=name, variables=dict(variables or {}))


def compose(
    *arguments: str,
    environment: str = "development",
    stack: Stack | None = None,
    capture: bool = False,
    check: bool = True,
    timeout_s: float | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `docker compose ARGUMENTS` on `stack`, or on the one of `environment`.

    With `capture` the output is in the answer, else it goes to the terminal. Raises ToolError where the command fails
    (unless `check` is False), does not end in `timeout_s`, or cannot be run.
    """
    chosen = stack or stack_of(environment)
    try:
        done = subprocess.run(
            chosen.command(*arguments),
            env=chosen.process_environment(),
            capture_output=capture,
            text=True,
            input=stdin,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise ToolError(
            f"docker cannot be run ({error.strerror}); install Docker with its Compose plugin "
            "(on a bare Debian machine: invoke engine.start)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"`docker compose {' '.join(arguments)}` did not end within {timeout_s:g} s") from error
    if check and done.returncode:
        raise ToolError(_explained(arguments, done))
    return done


def advice(text: str) -> str:
    """What to do about a message of Docker's that is known; empty where it is not."""
    return next((advised for symptom, advised in _KNOWN if symptom in text), "")


def _explained(arguments: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> str:
    """The command, the last lines it said, and what to do about those that are known."""
    said = (done.stderr or "").strip().splitlines()[-_SHOWN_LINES:]
    text = "\n".join([f"`docker compose {' '.join(arguments)}` failed with exit code {done.returncode}", *said])
    return "\n".join(part for part in (text, advice(text)) if part)


_KNOWN = (
    ("Cannot connect to the Docker daemon", "Start Docker (on a bare Debian machine: invoke engine.start)"),
    ("is not a docker command", "Install the Compose plugin (docker-compose-plugin, or Debian's docker-compose)"),
    ("unknown shorthand flag", "Install the Compose plugin (docker-compose-plugin, or Debian's docker-compose)"),
    ("port is already allocated", "Another program has the port: choose another one in docker/env/stack.env"),
    ("address already in use", "Another program has the port: choose another one in docker/env/stack.env"),
    ("pull access denied", "Build the images first: invoke build.selective (and, without a registry, build.bootstrap)"),
    ("failed to resolve reference", "No registry is reachable: make the service images with invoke build.bootstrap"),
)
