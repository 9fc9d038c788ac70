"""The env files and their examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.stack import settings
from ci.stack.compose import Stack
from ci.workspace import ROOT

WORKERS = ("rpa1", "rpa2", "rpa3")


def stack(folder: Path, environment: str = "development") -> Stack:
    return Stack(environment=environment, variables={"RPA_ENV_DIR": str(folder)})


def documented() -> dict[str, str]:
    """Variable -> the section of docs/configuration.md that has it."""
    found, section = {}, ""
    for line in (ROOT / "docs/configuration.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif match := re.match(r"\| `(CONTAINER_[A-Z0-9_<>]+)`", line):
            found[match[1] if match[1] not in found else f"{match[1]} "] = section
    return found


@pytest.mark.requirement("R1.2", "R1.4")
@pytest.mark.parametrize("worker", WORKERS)
def test_examples_use_documented_variables(worker: str) -> None:
    """Each stands in docs/configuration.md, and a flow's own ones only in that flow's example."""
    known = documented()
    names = settings.read(ROOT / f"docker/env/{worker}.env.example")
    assert len(names) > 5
    for name in names:
        assert name in known, name
        sections = {known[key] for key in (name, f"{name} ") if key in known}
        flows = {section for section in sections if section.startswith("Flow ")}
        assert not flows or f"Flow {worker}" in flows, (name, flows)


@pytest.mark.requirement("R1.2")
def test_examples_say_what_each_variable_means() -> None:
    """A comment above every block of variables, and nothing secret in any."""
    for example in settings.examples(Stack()):
        blocks = re.split(r"\n\s*\n", example.read_text(encoding="utf-8").strip())
        for block in blocks:
            assert block.startswith("#"), f"{example.name}: nothing explains {block.splitlines()[0]}"
        assert not re.search(r"^[A-Z_]*(PASSWORD|TOKEN|SECRET)\w*=", example.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.requirement("R1.2")
def test_stack_variables_are_those_of_the_compose_files() -> None:
    """stack.env.example has every variable that the files ask this machine for, with the default they have."""
    asked: dict[str, str] = {}
    for path in sorted((ROOT / "docker").glob("compose*.yml")):
        asked |= dict(re.findall(r"\$\{(RPA\w+):-([^}]*)\}", path.read_text(encoding="utf-8")))
    # Where the images and files are, and which environment runs is not said in a file.
    for name in (
        "RPA_IMAGE_PREFIX",
        "RPA_ENVIRONMENT",
        "RPA_ENV_DIR",
        "RPA_SECRETS_DIR",
    ):
        asked.pop(name)
    assert settings.read(ROOT / "docker/env/stack.env.example") == asked


@pytest.mark.requirement("R1.2")
def test_missing_env_files_are_copied_and_present_ones_kept(tmp_path: Path) -> None:
    """Every example gets its file, once."""
    (tmp_path / "rpa1.env").write_text("CONTAINER_LOG_LEVEL=debug\n")
    made = {path.name for path in settings.ensure(stack(tmp_path))}
    assert made == {"rpa2.env", "rpa3.env", "stack.env"}
    assert settings.read(tmp_path / "rpa1.env") == {"CONTAINER_LOG_LEVEL": "debug"}
    assert settings.ensure(stack(tmp_path)) == []


@pytest.mark.requirement("R1.4")
def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    """File, line and what to do."""
    path = tmp_path / "x.env"
    path.write_text("# a comment\nA=1\n\nB='two words'\nthis is nothing\n")
    with pytest.raises(ToolError, match=r"x\.env:5: .*NAME=value"):
        settings.read(path)


@pytest.mark.requirement("R1.1")
def test_production_says_where_to_deliver(tmp_path: Path) -> None:
    """Without a delivery address production is refused before anything starts; development has its receiver."""
    settings.ensure(stack(tmp_path))
    settings.check(stack(tmp_path))
    with pytest.raises(ToolError, match=r"rpa3\.env sets no CONTAINER_DELIVERY_URL"):
        settings.check(stack(tmp_path, "production"))
    told = (tmp_path / "rpa3.env").read_text().replace("DELIVERY_URL=", "DELIVERY_URL=https://receiver.example/scores")
    (tmp_path / "rpa3.env").write_text(told)
    settings.check(stack(tmp_path, "production"))
