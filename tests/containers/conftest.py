"""Tests that need a Docker Engine. Without one they are skipped, except in CI, where a missing engine is a failure."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOW = "start Docker (on a bare Debian machine: invoke engine.start), then: nox -s integration -- tests/containers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """There is one engine: these tests run after the others, one at a time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine's version."""
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        version, reason = asked.stdout.strip(), asked.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        version, reason = "", str(error)
    if version:
        return version
    said = f"no Docker Engine answers ({reason.splitlines()[-1] if reason else 'no reason given'}); {_HOW}"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


@pytest.fixture
def image_prefix(engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix of this test's own for the images it builds; they are removed afterwards."""
    prefix = f"test-{uuid.uuid4().hex[:8]}/"
    monkeypatch.setenv("RPA_IMAGE_PREFIX", prefix)
    yield prefix
    listed = subprocess.run(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={prefix}*"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    if listed:
        subprocess.run(["docker", "image", "rm", "--force", *listed], capture_output=True, timeout=120, check=True)
