"""The engine's client: over its socket, through the CLI, and what it says when there is no engine."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest
from ci import docker
from ci.errors import ToolError

Serve = Callable[[dict[str, Any]], list[str]]


@pytest.fixture(autouse=True)
def no_engine_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here reaches a real engine."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "settings"))
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """An engine that gives the given answers; returns the list of what it is asked."""
    servers = []

    def start(answers: dict[str, Any]) -> list[str]:
        asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                status, body = answers.get(self.path, (404, {"message": "page not found"}))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 - as http.server calls it

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
                pass

            def address_string(self) -> str:
                return "a unix socket"

        server = UnixStreamServer(str(tmp_path / "engine.sock"), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        servers.append(server)
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `docker` command of the test's own."""
    folder.mkdir(exist_ok=True)
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.requirement("R4.8")
def test_all_images_are_one_request(serve: Serve) -> None:
    """With and without tags and labels."""
    listed = [
        {"Id": "sha256:1", "RepoTags": ["a:1", "b:2"], "Labels": {"x": "y"}, "Created": 7},
        {"Id": "sha256:2", "RepoTags": None, "Labels": None, "Created": 8},
        {"Id": "sha256:3", "RepoTags": ["<none>:<none>"], "Labels": {}, "Created": 9},
    ]
    asked = serve({"/images/json": (200, listed)})
    found = docker.images()
    assert [(one.id, one.tags, dict(one.labels), one.created) for one in found] == [
        ("sha256:1", ("a:1", "b:2"), {"x": "y"}, 7),
        ("sha256:2", (), {}, 8),
        ("sha256:3", (), {}, 9),
    ]
    assert asked == ["GET /images/json"]


@pytest.mark.requirement("R4.8")
def test_an_engine_elsewhere_is_asked_through_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over SSH or TCP, or in a context whose socket is not here."""
    detail = {
        "Id": "sha256:1",
        "RepoTags": ["a:1"],
        "Config": {"Labels": {"x": "y"}},
        "Created": "2026-01-01T00:00:00.12Z",
    }
    (tmp_path / "detail.json").write_text(json.dumps([detail]))
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    program(tmp_path / "bin", f'[ "$2" = ls ] && echo sha256:1 || cat {tmp_path}/detail.json', monkeypatch)
    (found,) = docker.images()
    assert (found.id, found.tags, dict(found.labels), found.created) == ("sha256:1", ("a:1",), {"x": "y"}, 1767225600)


@pytest.mark.requirement("R4.8")
def test_the_context_in_use_says_where_the_engine_is(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the docker command does it; its builder has the context's name."""
    asked = serve({"/images/json": (200, [])})
    monkeypatch.delenv("DOCKER_HOST")
    meta = tmp_path / "settings" / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest()
    meta.mkdir(parents=True)
    host = f"unix://{tmp_path}/engine.sock"
    (meta / "meta.json").write_text(json.dumps({"Name": "mine", "Endpoints": {"docker": {"Host": host}}}))
    (tmp_path / "settings" / "config.json").write_text('{"currentContext": "mine"}')
    assert docker.images() == []
    assert asked == ["GET /images/json"]
    assert docker.builder() == "mine"
    monkeypatch.setenv("DOCKER_HOST", host)
    assert docker.builder() == "default"


@pytest.mark.requirement("R4.8")
def test_a_tag_is_one_request(serve: Serve) -> None:
    """A registry's port is no tag."""
    path = "/images/sha256%3A1/tag?repo=host%3A5000%2Fteam%2Fflow&tag=k-1"
    asked = serve({path: (201, "")})
    docker.tag("sha256:1", "host:5000/team/flow:k-1")
    assert asked == [f"POST {path}"]
    with pytest.raises(ToolError, match=r"404: .*page not found"):
        docker.tag("sha256:2", "flow:k-1")


@pytest.mark.requirement("R4.8")
def test_no_engine_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, nobody behind it, no docker command."""
    with pytest.raises(ToolError, match=r"no Docker Engine answers at .*none.sock.*start Docker"):
        docker.images()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/deaf.sock")
        with pytest.raises(ToolError, match=r"refused.*start Docker"):
            docker.images()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ToolError, match="there is no docker command"):
        docker.run("version")


@pytest.mark.requirement("R4.8")
def test_a_command_that_fails_says_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or that it did not end in time; the environment is added to, not replaced."""
    program(tmp_path / "bin", 'echo "out $EXTRA $HOME"; seq 30 >&2; exit 3', monkeypatch)
    with pytest.raises(ToolError, match=r"(?s)docker image rm failed with 3: 19\n.*30$") as caught:
        docker.run("image", "rm")
    assert "18" not in str(caught.value)
    done = docker.run("x", check=False, env={"EXTRA": "more"})
    assert (done.returncode, done.stdout.split()[:2]) == (3, ["out", "more"])
    program(tmp_path / "bin", "exec sleep 60", monkeypatch)
    with pytest.raises(ToolError, match=r"did not end within 0\.2 s"):
        docker.run("x", timeout_s=0.2)
