"""What the container driver says where there is no Engine to work with."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from rpa_testkit.drivers.container.driver import ContainerDriver
from rpa_testkit.drivers.container.engine import Engine, NoEngine, in_parallel
from rpa_testkit.scenario.model import Topology

pytestmark = pytest.mark.requirement("R3.3")


class Client:
    """An Engine at `url` that offers `told`; `fault` is raised when it is asked."""

    def __init__(self, url: str = "http+docker://localhost", told: Any = None, fault: Exception | None = None) -> None:
        self.api = type("Api", (), {"base_url": url})
        self.told = told or {}
        self.fault = fault
        self.closed = 0

    def ping(self) -> bool:
        """Whether it answers."""
        if self.fault:
            raise self.fault
        return True

    def info(self) -> Any:
        """What it can do."""
        return self.told

    def close(self) -> None:
        """The end."""
        self.closed += 1


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[Client], Client]:
    """Put a client in the place of the Engine's."""

    def put(client: Client) -> Client:
        monkeypatch.setattr(docker, "from_env", lambda **_: client)
        return client

    return put


def test_without_the_sdk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the extra's name."""
    really = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "docker":
            raise ImportError(name)
        return really(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoEngine, match=r"pip install 'rpa-testkit\[docker\]'"):
        Engine.connect("run")
    assert "rpa-testkit[docker]" in (ContainerDriver().cannot("crash") or "")


def test_an_engine_that_does_not_answer_is_told_with_what_to_do(found: Callable[[Client], Client]) -> None:
    """Every kind of fault is out of reach then, and the connection is not left open."""
    client = found(Client(fault=docker.errors.DockerException("connection refused")))
    with pytest.raises(NoEngine, match=r"connection refused.*start Docker, or point DOCKER_HOST"):
        Engine.connect("run")
    assert client.closed == 1
    assert "no Docker Engine answers" in (ContainerDriver().cannot("pause") or "")


def test_an_engine_of_another_machine_is_refused(found: Callable[[Client], Client]) -> None:
    """Its ports would be on a loopback that is not ours."""
    client = found(Client("http://far.example:2375"))
    with pytest.raises(NoEngine, match=r"http://far\.example:2375 is another machine"):
        Engine.connect("run")
    assert client.closed == 1


def test_kinds_that_the_engine_s_kernel_lacks_cannot_be_injected(found: Callable[[Client], Client]) -> None:
    """The setting that is off is named; the Engine is asked once."""
    client = found(Client(told={"MemoryLimit": False, "CpuCfsQuota": True}))
    driver = ContainerDriver()
    assert "MemoryLimit is off" in (driver.cannot("memory") or "")
    assert [driver.cannot(kind) for kind in ("cpu", "crash", "disk-full", "partition")] == [None] * 4
    assert client.closed == 1


def test_a_start_without_an_engine_makes_nothing(found: Callable[[Client], Client], tmp_path: Path) -> None:
    """The error is the same."""
    found(Client(fault=OSError("no such socket")))
    starting = ContainerDriver().start(Topology(), tmp_path, run_id="run", seed=1, warden=None)  # type: ignore[arg-type]  # it comes to no use
    with pytest.raises(NoEngine, match="no such socket"), starting:
        pytest.fail("it started")


def test_work_in_parallel_ends_before_its_first_error_is_raised() -> None:
    """Results are in order."""
    done = []

    def fail() -> None:
        raise EOFError

    def work() -> None:
        done.append(1)

    assert in_parallel([lambda: 1, lambda: 2]) == [1, 2]
    with pytest.raises(EOFError):
        in_parallel([fail, work])
    assert done == [1]
