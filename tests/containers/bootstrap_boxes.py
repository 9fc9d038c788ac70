"""Containers of one test: started hardened or plain, asked over their published ports, removed with their volumes."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ci.waits import until

HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stderr}"
    return done


class Box:
    """One container that runs."""

    def __init__(self, *arguments: str) -> None:
        self.name = f"test-bootstrap-{uuid.uuid4().hex[:8]}"
        docker("run", "--detach", "--name", self.name, *arguments)

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("container", "inspect", self.name).stdout)[0]
        return found

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command inside, its output without the last line's end."""
        done = docker("exec", self.name, *command, check=check)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.strip(), done.stderr.strip())

    def logs(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def user(self) -> str:
        """Number of the account that the first process has."""
        return self.run("sh", "-c", "awk '/^Uid:/ {print $2}' /proc/1/status").stdout

    def get(self, port: int, path: str = "/") -> tuple[int, str]:
        """Status and body of a request to a published port."""
        published = docker("port", self.name, f"{port}/tcp").stdout.splitlines()[0]
        try:
            with urllib.request.urlopen(f"http://{published}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def answers(self, port: int, path: str, timeout_s: float = 120) -> str:
        """The body, as soon as it comes with 200."""

        def ask() -> str:
            assert self.inspect()["State"]["Running"], self.logs()
            try:
                status, body = self.get(port, path)
            except OSError:
                return ""
            return body or " " if status == 200 else ""

        return until(ask, timeout_s=timeout_s, what=f"{path} of {self.name}", every_s=0.3)

    def ended(self, timeout_s: float = 120) -> int:
        """The exit code, as soon as there is one."""
        until(lambda: self.inspect()["State"]["Status"] == "exited", timeout_s=timeout_s, what=f"{self.name} to end")
        return int(self.inspect()["State"]["ExitCode"])


class Boxes:
    """Starts containers, and ends all that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Box] = []

    def start(self, *arguments: str) -> Box:
        box = Box(*arguments)
        self._started.append(box)
        return box

    def file(self, name: str, content: str | bytes, *, mode: int = 0o644) -> str:
        """A file to mount; every account may read it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        for parent in (path.parent, self.folder):
            parent.chmod(0o755)
        return str(path)

    def remove(self) -> None:
        for box in self._started:
            docker("container", "rm", "--force", "--volumes", box.name, check=False)


def boxes_of(folder: Path) -> Iterator[Boxes]:
    """For a fixture: containers are removed whatever happens."""
    boxes = Boxes(folder)
    try:
        yield boxes
    finally:
        boxes.remove()


def image(reference: str) -> str:
    """The reference, if the engine has the image; a test without it says how to get it."""
    if docker("image", "inspect", reference, check=False).returncode:
        pytest.fail(f"{reference} is not there: docker pull {reference}, or invoke build.bootstrap")
    return reference
