"""The suite on containers: it passes what is confined, and finds what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rpa_core.errors import UsageError
from rpa_testkit import AutomatedTestFramework, ContainerTestSuite, TestSuite
from rpa_testkit.drivers.container import recipes
from rpa_testkit.scenario.model import Service, Topology
from rpa_testkit.warden.client import Warden

_CONFINED = ("runs-as-no-root", "no-capabilities", "no-new-privileges", "read-only-root")


@pytest.mark.requirement("R7.1", "R7.2", "R7.4")
def test_containers_are_confined_and_keep_their_secrets(engine: str, tmp_path: Path, warden: Warden) -> None:
    """Every check is made; only what the driver itself puts into the environment cannot be."""
    result = ContainerTestSuite("docker", seed=1, reports=tmp_path, warden=warden).run_security_tests()
    assert result.status == "passed", [check for check in result.checks if check.status == "failed"]
    skipped = [check.test_name for check in result.checks if check.status == "skipped"]
    assert set(skipped) <= {"no-secret-in-the-environment"}
    assert len(result.checks) - len(skipped) >= 13


@pytest.mark.requirement("R7.1", "R7.4")
def test_an_unconfined_container_is_found(
    engine: str, tmp_path: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, with capabilities, on a root that it can write: each is told by the check that is about it."""
    hardened = recipes._hardened

    def soft(*given: Any) -> recipes.Recipe:
        loose = ("read_only", "cap_drop", "security_opt")
        return {name: value for name, value in hardened(*given).items() if name not in loose}

    monkeypatch.setattr(recipes, "_hardened", soft)
    monkeypatch.setattr(recipes, "_WORKER_USER", "0:0")
    result = ContainerTestSuite("docker", seed=1, reports=tmp_path, warden=warden).run_security_tests()
    assert {check.test_name for check in result.checks if check.status == "failed"} == set(_CONFINED)


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R9.1", "R9.5")
def test_three_containers_share_the_work_in_an_environment_of_built_images(engine: str, tmp_path: Path) -> None:
    """The images' keys are known, nothing is done twice, nothing is left."""
    with AutomatedTestFramework("docker", seed=1, reports=tmp_path / "runs") as framework:
        environment = framework.setup_test_environment()
        assert set(environment.images) == {Service().image}
        assert all(len(key) == 64 for key in environment.images.values())
        result = framework.run_test_suite(TestSuite(tests=("distributed",), records=400))
    assert result.status == "passed", result.errors
    assert [report.driver for report in framework.generate_test_reports()] == ["docker", "docker"]


@pytest.mark.requirement("R9.5")
@pytest.mark.parametrize(
    ("image", "why"), [("rpa-nothing:none", "is not there"), ("postgres:17-trixie", "carries no label rpa.key")]
)
def test_an_image_that_was_not_built_is_named(engine: str, tmp_path: Path, image: str, why: str) -> None:
    """With the command that builds it."""
    framework = AutomatedTestFramework("docker", reports=tmp_path, topology=Topology(services=(Service(image=image),)))
    with pytest.raises(UsageError, match=f"{image} {why}.*invoke build.selective"):
        framework.setup_test_environment()
