"""One stack for all tests of this folder, and one as production runs it: own names, ports, volumes and secrets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ci.images.command import selective
from ci.stack import operate, report
from ci.stack.compose import Stack

from .driver import Driver, free_ports, inspect

UP_TIMEOUT_S = 420


@pytest.fixture(scope="session")
def images(engine: str) -> None:
    """The images of the tree as it is now, built by the same steps as everybody's."""
    for environment in ("development", "production"):
        assert selective(environment=environment) == 0


@pytest.fixture(scope="session")
def stack(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The development stack, up."""
    yield from _running("development", tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="session")
def production(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The production stack, up; it delivers to nowhere."""
    folder = tmp_path_factory.mktemp("production")
    (folder / "env").mkdir()
    example = (Stack().folder / "env" / "rpa3.env.example").read_text(encoding="utf-8")
    told = example.replace("\nCONTAINER_DELIVERY_URL=\n", "\nCONTAINER_DELIVERY_URL=https://receiver.invalid/scores\n")
    assert told != example
    (folder / "env" / "rpa3.env").write_text(told, encoding="utf-8")
    yield from _running("production", folder)


def _running(environment: str, folder: Path) -> Iterator[Driver]:
    variables = {**free_ports(), "RPA_SECRETS_DIR": str(folder / "secrets"), "RPA_ENV_DIR": str(folder / "env")}
    project = f"test-stack-{environment[:4]}-{uuid.uuid4().hex[:6]}"
    chosen = Stack(environment=environment, project=project, variables=variables)
    try:
        operate.up(build=False, timeout_s=UP_TIMEOUT_S, stack=chosen)
        first: dict[str, list[dict[str, Any]]] = {}
        for one in report.containers(chosen):
            first.setdefault(one.service, []).extend(inspect(one.name))
        yield Driver(stack=chosen, first=first)
    finally:
        operate.down(volumes=True, stack=chosen)
