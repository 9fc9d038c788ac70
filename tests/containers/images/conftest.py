"""Images built from copies of the workspace, under names of their own; nothing of what is here is touched."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ci import docker
from ci.workspace import ROOT
from tests.containers.images.workbench import Small, Workspace, copied, remove_images


@pytest.fixture
def workspace(engine: str, image_prefix: str, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of this test's own; nothing is built yet."""
    yield copied(tmp_path / "copy", image_prefix)
    remove_images(image_prefix)


@pytest.fixture(scope="session")
def built(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A copy with all images of both environments built; not to be changed."""
    prefix = f"test-{uuid.uuid4().hex[:8]}/"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RPA_IMAGE_PREFIX", prefix)
        copy = copied(tmp_path_factory.mktemp("built") / "copy", prefix)
        for environment in ("production", "development"):
            copy.build(environment)
    yield copy
    remove_images(prefix)


@pytest.fixture
def small(engine: str, image_prefix: str, tmp_path: Path) -> Iterator[Small]:
    """Small images of the test's own."""
    root = tmp_path / "small"
    (root / "packages" / "core").mkdir(parents=True)
    for name in ("pyproject.toml", "packages/core/pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    yield Small(root, image_prefix)
    remove_images(image_prefix)


@pytest.fixture
def hardened() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in an image as production does: read-only, no capability, not root."""

    def run(image: str, *arguments: str, entrypoint: str = "rpa", **environ: str) -> subprocess.CompletedProcess[str]:
        variables = [part for name, value in environ.items() for part in ("--env", f"{name}={value}")]
        return docker.run(
            *("run", "--rm", "--read-only", "--cap-drop", "ALL", "--user", "10001:10001"),
            *("--security-opt", "no-new-privileges", "--network", "none", "--tmpfs", "/tmp:mode=1777,size=16m"),
            *(*variables, "--entrypoint", entrypoint, image, *arguments),
            check=False,
            timeout_s=120,
        )

    return run
