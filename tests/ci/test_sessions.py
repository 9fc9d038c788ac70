"""What nox, invoke and the workflow offer, and that they agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import tasks
from ci import skipped
from ci.invocation import sh
from ci.workspace import ROOT, files
from invoke.collection import Collection
from invoke.context import MockContext
from invoke.runners import Result

_WANTED = {
    "chaos",
    "smoke",
    "lint",
    "typecheck",
    "unit",
    "unit_system",
    "integration",
    "prefect",
    "benchmark",
    "demo",
    "traceability",
    "wheel",
    "coverage",
    "build",
}


def sessions() -> set[str]:
    """The names of the nox sessions, read from the source."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any("nox.session" in ast.unparse(d) for d in node.decorator_list)
    }


@pytest.mark.requirement("D1", "R4.7")
def test_there_is_a_session_for_every_suite() -> None:
    """Each has a docstring for `nox --list`; the file stays short."""
    assert sessions() == _WANTED
    assert (ROOT / "noxfile.py").read_text().count("\n") <= 200


@pytest.mark.requirement("D3")
@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda path: str(path.name))
def test_the_workflow_runs_what_a_developer_can_run(path: Path) -> None:
    """Every step is a pinned action, a nox session, or the installation of nox or of a server it runs."""
    text = path.read_text()
    commands = re.findall(r"^\s+(?:- )?run: (?!\|)(.+)$", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert re.match(
            r'(sudo --preserve-env env "PATH=\$PATH" )?nox( |$)|python -m pip install nox|sudo apt-get install', command
        ), command
    for name in re.findall(r"nox -s ([\w-]+)", text):
        assert name in sessions()
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", action), action


@pytest.mark.requirement("D3")
def test_the_gate_needs_every_job() -> None:
    """A job that failed, was skipped or was forgotten does not let a change through."""
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    jobs = re.findall(r"^  ([\w-]+):$", text.split("\njobs:\n")[1], re.MULTILINE)
    gate = text.split("\n  gate:\n")[1]
    (needed,) = re.findall(r"needs: \[(.+)\]", gate)
    assert set(needed.split(", ")) == set(jobs) - {"gate"}
    assert "if: always()" in gate
    assert len(re.findall(r"timeout-minutes:", text)) == len(jobs)


def _tasks() -> dict[str, str]:
    """Every task with its docstring."""
    names = dict[str, str]()

    def collect(collection: Collection, prefix: str) -> None:
        for name, task in collection.tasks.items():
            names[f"{prefix}{name}"] = task.__doc__ or ""
        for name, child in collection.collections.items():
            collect(child, f"{prefix}{name}.")

    collect(tasks.ns, "")
    return names


@pytest.mark.requirement("D2")
def test_every_task_that_is_spoken_of_exists() -> None:
    """In documents, messages and configurations: who follows the advice finds the command."""
    spoken = set[str]()
    suffixes = {".py", ".md", ".yml", ".toml", ".example", ".cfg"}
    for path in [*files(), ROOT / ".ci/run"]:
        if (path.suffix in suffixes or path.name == "run") and "requirements" not in path.parts:
            spoken |= set(
                re.findall(
                    r"\binvoke ((?:build|compose|dev|engine|db|deps|test|docs)\.[a-z]+)", path.read_text("utf-8")
                )
            )
    assert len(spoken) > 20
    assert spoken <= set(_tasks())


@pytest.mark.requirement("D2")
def test_every_task_explains_itself() -> None:
    """`invoke --list` has a line for each."""
    names = _tasks()
    wanted = {
        "build": "base flows all selective why graph verify timings prune bootstrap",
        "compose": "up down ps logs restart config scale",
        "dev": "watch shell debug",
        "engine": "start stop status",
        "db": "start shell migrate",
        "deps": "lock check",
        "test": "smoke all traceability",
    }
    assert {f"{prefix}.{name}" for prefix, found in wanted.items() for name in found.split()} <= set(names)
    assert all(names.values()), names


@pytest.mark.requirement("D2")
def test_tasks_quote_what_they_are_given() -> None:
    """An argument with spaces or quotes reaches the program as it is."""
    command = "psql 'postgresql://x/a b' 'it'\"'\"'s'"
    sh(MockContext(run={command: Result()}), "psql", "postgresql://x/a b", "it's")
    with pytest.raises(NotImplementedError):
        sh(MockContext(run={command: Result()}), "psql", "another")


@pytest.mark.requirement("D1", "R3.5")
def test_a_skipped_test_is_found_in_the_report(tmp_path: Path) -> None:
    """An expected failure is not one."""
    report = tmp_path / "junit.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="a" name="there"/>'
        '<testcase classname="a" name="known"><skipped type="pytest.xfail" message="bug 7"/></testcase>'
        '<testcase classname="a" name="away"><skipped type="pytest.skip" message="no pgbouncer"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert skipped.skipped(report) == ["a::away: no pgbouncer"]
    assert skipped.main([str(report)]) == 1
