"""A container as a node: what it remembers over its incarnations, and what the warden is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from rpa_testkit.drivers.container.handle import Container, EngineError, State
from rpa_testkit.drivers.container.limits import Bounds
from rpa_testkit.drivers.container.node import ContainerNode
from rpa_testkit.drivers.container.space import Space
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.warden.undo import Command

pytestmark = pytest.mark.requirement("R3.3")
BOUNDS = Bounds(cores=1.0, memory_bytes=512 * 2**20, files=4096)


class Fake:
    """Remembers what it was asked; its incarnations are numbered."""

    id = "c" * 64
    name = "run-worker-1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.told = {"Running": True, "Paused": False, "OOMKilled": False, "ExitCode": 0, "Pid": 1}
        self.starts = 1

    def state(self) -> State:
        """Now."""
        return State.of({**self.told, "StartedAt": f"start {self.starts}"})

    def start(self) -> None:
        """The Engine forgets why the last incarnation ended."""
        self.starts += 1
        self.told |= {"Running": True, "OOMKilled": False, "ExitCode": 0}

    def stats(self) -> Any:
        """It ends just when it is asked."""
        raise EngineError("is not running")

    def output(self) -> bytes:
        """What it wrote."""
        return b"written"

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **given: self.asked.append((name, given))


@pytest.fixture
def fake() -> Fake:
    """One that runs."""
    return Fake()


@pytest.fixture
def node(fake: Fake, tmp_path: Path) -> ContainerNode:
    """Over the fake."""
    container = cast("Container", fake)
    space = Space(container, "/space")
    return ContainerNode(
        "worker-1", container, asks=lambda: True, bounds=BOUNDS, space=space, log=tmp_path / "worker-1.log"
    )


def test_each_incarnation_killed_for_its_memory_is_counted_once(fake: Fake, node: ContainerNode) -> None:
    """Also where nobody looked before it was started again."""
    fake.told |= {"Running": False, "OOMKilled": True, "ExitCode": 137}
    node.start()
    assert (node.oom_kills(), node.exit_code) == (1, None)
    fake.told |= {"Running": False, "OOMKilled": True, "ExitCode": 137}
    assert (node.oom_kills(), node.oom_kills(), node.exit_code) == (2, 2, -9)


def test_only_what_is_paused_is_resumed(fake: Fake, node: ContainerNode) -> None:
    """The Engine would refuse the rest."""
    node.resume()
    assert fake.asked == []
    fake.told["Paused"] = True
    node.resume()
    assert fake.asked == [("unpause", {})]


def test_a_bound_that_is_taken_away_is_the_first_one_again(fake: Fake, node: ContainerNode) -> None:
    """More CPU than it was created with is not given either."""
    node.limit("cpu", 0.25)
    node.limit("cpu", 64)
    node.limit("cpu", None)
    node.limit("memory", None)
    assert [given for name, given in fake.asked if name == "update"] == [
        {"cpu_quota_us": 25_000},
        {"cpu_quota_us": 100_000},
        {"cpu_quota_us": 100_000},
        {"memory_bytes": BOUNDS.memory_bytes},
    ]
    assert [name for name, _ in fake.asked].count("run_beside") == 1


def test_a_worker_that_ended_has_no_limit_of_descriptors_to_take_away(fake: Fake, node: ContainerNode) -> None:
    """Its processes have the old one when they are started."""
    fake.told |= {"Running": False}
    node.limit("files", None)
    node.free_disk()
    assert fake.asked == []


def test_usage_of_a_node_that_ends_meanwhile_is_none(fake: Fake, node: ContainerNode) -> None:
    """No error for whoever only looks."""
    assert node.usage() is None


def test_the_log_outlives_the_container(node: ContainerNode, tmp_path: Path) -> None:
    """Its file, once there is one."""
    assert node.log_text() == "written"
    (tmp_path / "worker-1.log").write_text("kept")
    assert node.log_text() == "kept"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("pause", ["unpause"]),
        ("cpu", ["update", "--cpu-quota", "100000"]),
        ("memory", ["update", "--memory", str(BOUNDS.memory_bytes), "--memory-swap"]),
        ("files", ["exec", "4096"]),
        ("disk", ["exec", "rm", "-f"]),
        ("clock", ["exec", "rm", "-f"]),
    ],
)
def test_the_warden_is_given_a_docker_command_that_names_the_container(
    node: ContainerNode, what: str, words: list[str]
) -> None:
    """By its id: a name may belong to another run by then."""
    undo = node.undo_of(what)
    assert isinstance(undo, Command)
    assert undo.argv[0] == "docker"
    assert {*words, Fake.id} <= set(undo.argv)


def test_what_is_not_known_is_refused(node: ContainerNode) -> None:
    """With the reason."""
    with pytest.raises(NotPossible, match="no bound on 'disk': there are cpu, memory and files"):
        node.limit("disk", 1)
    with pytest.raises(NotPossible, match="takes 'weather' back"):
        node.undo_of("weather")
