"""A copy of the workspace with image names, a Compose project and ports of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci import docker
from ci.workspace import ROOT, files

_PORTS = ("HTTP", "STATS", "PREFECT", "PROMETHEUS", "ALERTMANAGER", "RECEIVER")
_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """`prefix` stands before the names of its images, `variables` set it apart from everything else on the machine."""

    root: Path
    prefix: str
    variables: dict[str, str]

    def run(self, *command: str) -> str:
        """What the command prints; RuntimeError where it fails."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | self.variables,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def invoke(self, *arguments: str) -> str:
        """`invoke ARGUMENTS`."""
        return self.run(sys.executable, "-m", "invoke", *arguments)

    def seconds(self, *command: str) -> float:
        """Of the whole process."""
        began = time.perf_counter()
        self.run(*command)
        return time.perf_counter() - began

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`invoke ARGUMENTS` in the background, its lines on a pipe; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "invoke", *arguments],
            cwd=self.root,
            env=os.environ | self.variables | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def to_build(self, environment: str) -> list[str]:
        """The images that would be built now."""
        said = self.invoke("build.selective", "--environment", environment, "--dry-run", "--json")
        return [one["image"] for one in json.loads(said)["images"] if one["action"] == "build"]

    def edit(self, path: str) -> str:
        """A change that is in the image and breaks nothing; returns a word that the module prints when imported."""
        word = f"edit-{uuid.uuid4().hex[:12]}"
        file = self.root / path
        text = re.sub(r"\nprint\(\"edit-.*\n$", "", file.read_text(encoding="utf-8"))
        file.write_text(f'{text}\nprint("{word}", flush=True)\n', encoding="utf-8")
        return word


@contextmanager
def copied(folder: Path) -> Iterator[Copy]:
    """A fresh copy; its images go with it."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    variables = {"RPA_IMAGE_PREFIX": f"{name}/", "BASELINE_PREFIX": f"{name}/plain-", "RPA_COMPOSE_PROJECT": name}
    copy = Copy(root=folder / name, prefix=f"{name}/", variables=variables | _free_ports())
    for path in files():
        target = copy.root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    try:
        yield copy
    finally:
        made = docker.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
        if ours := [name for name in made if name.startswith(copy.prefix)]:
            docker.run("image", "rm", "--force", *ours, timeout_s=300)
        shutil.rmtree(copy.root)


def _free_ports() -> dict[str, str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in _PORTS]
    try:
        ports = [str(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
    return {f"RPA_{name}_PORT": port for name, port in zip(_PORTS, ports, strict=True)}
