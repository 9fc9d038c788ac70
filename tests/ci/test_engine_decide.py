"""What is done on which machine, and what a person is told where nothing can be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ci.engine.decide import Steps, steps
from ci.engine.machine import Seen, codename, major, read_os_release
from ci.errors import ToolError

BARE = Seen(
    root=True,
    system="debian",
    release=12,
    codename="bookworm",
    answers=None,
    client=True,
    compose=False,
    buildx=False,
    missing=("runc", "tini", "mmdebstrap"),
    dockerd=None,
)
READY = replace(BARE, answers="26.1.5+dfsg1", compose=True, buildx=True, missing=())


@pytest.mark.requirement("R5.7")
def test_a_bare_machine_gets_everything() -> None:
    """Its own release's programs, the next one's engine beside them, the plugins linked, the engine started."""
    assert steps(BARE) == Steps(
        install=("runc", "tini", "mmdebstrap"),
        fetch=("docker.io", "containerd", "docker-compose", "docker-buildx"),
        link=("docker-compose", "docker-buildx"),
        start=True,
    )


@pytest.mark.requirement("R5.7")
def test_without_a_client_the_client_comes_too() -> None:
    """It is fetched and linked; one that is there already stays."""
    done = steps(replace(BARE, client=False))
    assert "docker-cli" in done.fetch
    assert done.link[0] == "docker"
    assert "docker-cli" not in steps(BARE).fetch


@pytest.mark.requirement("R5.7")
@pytest.mark.parametrize("change", [{}, {"root": False}, {"system": "fedora"}, {"release": 11}, {"missing": ("tini",)}])
def test_an_engine_that_answers_is_left_alone(change: dict[str, Any]) -> None:
    """Whatever system it is, whoever asks: nothing is installed and nothing is started."""
    assert steps(replace(READY, **change)) == Steps()


@pytest.mark.requirement("R5.7")
def test_only_the_missing_plugin_is_brought_to_a_running_engine() -> None:
    """Nothing is started beside an engine that answers."""
    assert steps(replace(READY, buildx=False)) == Steps(fetch=("docker-buildx",), link=("docker-buildx",))
    newer = replace(READY, release=13, codename="trixie", compose=False)
    assert steps(newer) == Steps(install=("docker-compose",))


@pytest.mark.requirement("R5.7")
def test_after_a_reboot_the_engine_is_only_started() -> None:
    """What was unpacked stays; nothing is fetched again."""
    again = replace(BARE, compose=True, buildx=True, missing=(), dockerd=Path("/opt/x/dockerd"))
    assert steps(again) == Steps(start=True)


@pytest.mark.requirement("R5.7")
def test_a_newer_debian_has_its_own_packages() -> None:
    """Nothing is unpacked beside a system that can install it."""
    done = steps(replace(BARE, release=13, codename="trixie", client=False))
    assert done.fetch == done.link == ()
    assert {"runc", "docker.io", "docker-cli", "docker-compose", "docker-buildx"} <= set(done.install)


@pytest.mark.requirement("R5.7")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"root": False}, "sudo"),
        ({"system": "fedora"}, "runs fedora, not Debian: install Docker Engine 25"),
        ({"system": ""}, "unknown system"),
        ({"release": 11}, "Debian 11 is too old"),
        (
            {"answers": "20.10.24+dfsg1", "compose": True, "buildx": True},
            "20.10.24.*too old: without named build contexts",
        ),
        ({"answers": "20.10.24", "system": "ubuntu"}, "too old.*install Docker Engine 25"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_way_out(change: dict[str, Any], said: str) -> None:
    """Each refusal names its reason."""
    with pytest.raises(ToolError, match=said):
        steps(replace(BARE, **change))


@pytest.mark.requirement("R5.7")
def test_the_system_is_read_from_os_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quoted or not; testing has no number; another system has no codename to derive from."""
    file = tmp_path / "os-release"
    file.write_text(
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n'
    )
    assert read_os_release(file) == ("debian", 12, "bookworm")
    file.write_text("ID=debian\nVERSION_CODENAME=forky\n")
    assert read_os_release(file) == ("debian", 0, "forky")
    assert read_os_release(tmp_path / "absent") == ("", 0, "")
    file.write_text("ID=fedora\nVERSION_ID=43\n")
    monkeypatch.setattr("ci.engine.machine.OS_RELEASE", file)
    with pytest.raises(ToolError, match="runs fedora"):
        codename()


def test_a_version_is_compared_by_its_first_number() -> None:
    """Debian's suffixes do not matter, and what is no version is older than everything."""
    assert [major(text) for text in ("26.1.5+dfsg1", "23.0.0", "dev")] == [26, 23, 0]
