"""Containers, networks and volumes that carry a run's label, by the docker command, if there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection

from rpa_testkit.warden.mark import LABEL

_ASK_S = 10.0
_REMOVE_S = 15.0
# What there is, how it is listed and how removed; containers first, as they hold on to the others.
_THINGS = (
    ("container", ("ps", "--all"), "{{.ID}} {{.Names}}", ("rm", "--force", "--volumes")),
    ("network", ("network", "ls"), "{{.ID}} {{.Name}}", ("network", "rm")),
    ("volume", ("volume", "ls"), "{{.Name}} {{.Name}}", ("volume", "rm", "--force")),
)


class Containers:
    """Asks the engine; once it could not be asked, there is nothing to be found."""

    def __init__(self) -> None:
        self._docker = shutil.which("docker")

    @property
    def reachable(self) -> bool:
        """Whether an engine answered so far."""
        return self._docker is not None

    def remove(self, run_ids: Collection[str]) -> list[str]:
        """Remove what carries these runs' labels; what was found, in words."""
        found = []
        for kind, listing, shape, removal in _THINGS:
            for run_id in run_ids:
                listed = self._run(*listing, "--filter", f"label={LABEL}={run_id}", "--format", shape)
                things = [line.split() for line in listed.splitlines()]
                if things:
                    found += [f"{kind} {name} ({key[:12]})" for key, name in things]
                    self._run(*removal, *(key for key, _ in things), timeout_s=_REMOVE_S, needed=False)
        return found

    def _run(self, *arguments: str, timeout_s: float = _ASK_S, needed: bool = True) -> str:
        if self._docker is None:
            return ""
        try:
            done = subprocess.run(
                [self._docker, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=needed,
            )
        except (OSError, subprocess.SubprocessError):
            if needed:
                self._docker = None
            return ""
        return done.stdout
