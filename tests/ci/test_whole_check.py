""".ci/run, the gate of the workflow, and that every command which CI, a document or a script names exists."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ci.spent import spent, table
from ci.workspace import ROOT, files

_FAKE = """#!{python}
import json, os, pathlib, sys, time
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
place = pathlib.Path(sys.argv[0]).parent
if arguments[:2] == ["-m", "venv"]:  # a virtual environment of fakes
    (there := pathlib.Path(arguments[2]) / "bin").mkdir(parents=True, exist_ok=True)
    for program in ("python", "nox", "invoke"):
        (there / program).write_bytes(pathlib.Path(sys.argv[0]).read_bytes())
        (there / program).chmod(0o755)
    sys.exit()
if arguments[:2] == ["-m", "ci.spent"]:
    os.execv(sys.executable, [sys.executable, *arguments])
what = " ".join([name, *arguments])
def calls(): return pathlib.Path(os.environ["CALLS"]).read_text()
def call(line):
    with open(os.environ["CALLS"], "ab", buffering=0) as file: file.write((line + chr(10)).encode())
call("begin " + what)
if name == "invoke":
    print("output of", what, flush=True)
for one, other in json.loads(os.environ["WAITS"]).items():
    deadline = time.monotonic() + 20
    while one in what and other not in calls() and time.monotonic() < deadline:
        time.sleep(0.01)
call("end " + what)
if "--report" in arguments:
    sessions = [{{"name": each, "signatures": [each], "duration": 3, "result": "success"}} for each in arguments[4:]]
    pathlib.Path(arguments[2]).write_text(json.dumps({{"sessions": sessions}}))
sys.exit(int(any(fails in what for fails in os.environ["FAILS"].split(",") if fails)))
"""


class Whole:
    """`.ci/run` among fake programs, which write down when they begin and end."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._calls = folder / "calls"
        self._calls.touch()
        for name in ("python3", "pgbouncer", "prometheus-alertmanager", "chromium"):
            (self._bin / name).write_text(_FAKE.format(python=sys.executable))
            (self._bin / name).chmod(0o755)

    def run(self, *, fails: str = "", waits: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`fails`: parts of the commands that fail; `waits`: command -> what must have been called before it ends."""
        path = f"{self._bin}:{os.environ['PATH']}"
        environ = {**os.environ, "PATH": path, "CALLS": str(self._calls), "FAILS": fails}
        environ["WAITS"] = json.dumps(waits or {})
        return subprocess.run(
            ["bash", str(ROOT / ".ci/run")], env=environ, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    """Among fakes."""
    return Whole(tmp_path)


@pytest.mark.requirement("D1", "D3")
def test_engine_and_images_are_made_beside_what_needs_none(whole: Whole) -> None:
    """Both lanes run at once, the integration tests begin after both, and the table has every session and step."""
    waits = {"invoke build.bootstrap": "begin nox --non-interactive", "nox --non": "begin invoke build.bootstrap"}
    done = whole.run(waits=waits)
    assert done.returncode == 0, done.stdout + done.stderr
    (began,) = [at for at, call in enumerate(whole.calls) if call.startswith("begin nox") and "-s integration" in call]
    assert {call for call in whole.calls[:began] if call.startswith("end invoke")} == {
        "end invoke engine.start",
        "end invoke build.bootstrap",
    }
    assert "output of invoke build.bootstrap" in done.stdout
    heading, *lines = done.stdout.split("where the time went\n")[1:] or [""]
    assert not lines
    for name in ("engine.start", "build.bootstrap", "pip", "lint", "unit", "integration", "chaos", "benchmark"):
        assert re.search(rf"^ +\d+ s  {re.escape(name)} +success$", heading, re.MULTILINE), heading


@pytest.mark.requirement("D1", "D3")
@pytest.mark.parametrize("fails", ["invoke engine.start", "invoke build.bootstrap"])
def test_a_failure_in_the_background_fails_the_run(whole: Whole, fails: str) -> None:
    """Its output and its exit code are shown, and nothing that needs an engine is begun."""
    done = whole.run(fails=fails)
    assert done.returncode != 0
    assert f"output of {fails}" in done.stdout
    assert not any("integration" in call for call in whole.calls)
    assert re.search(rf"{re.escape(fails.split()[1])} +exit code 1", done.stdout)


@pytest.mark.requirement("D1", "D3")
def test_a_failure_in_the_foreground_ends_the_lane_in_the_background(whole: Whole) -> None:
    """Nothing of it stays behind, what it wrote is shown, and so is the table."""
    done = whole.run(fails="-s lint", waits={"invoke engine.start": "never", "-s lint": "begin invoke engine.start"})
    assert done.returncode == 1
    assert "output of invoke engine.start" in done.stderr
    assert "where the time went" in done.stdout
    assert "end invoke engine.start" not in whole.calls


@pytest.mark.requirement("D1", "D3")
@pytest.mark.parametrize("fails", ["integration", "demo", "benchmark", "pip install"])
def test_any_other_failure_fails_the_run(whole: Whole, fails: str) -> None:
    """Whatever it is."""
    done = whole.run(fails=fails)
    assert done.returncode == 1
    assert "where the time went" in done.stdout


@pytest.mark.requirement("D1", "D3")
def test_the_whole_check_runs_what_a_plain_nox_runs() -> None:
    """The README's test command, and every other suite; what is left out is no check."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    (default,) = (
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "nox.options.sessions"
    )
    run = {name for name, _ in _sessions((ROOT / ".ci/run").read_text())}
    assert set(re.findall(r"'(\w+)'", default)) <= run
    assert _defined() - run == {"build", "smoke", "coverage"}


def test_the_table_has_the_longest_first(tmp_path: Path) -> None:
    """Sessions by their signatures, steps by their names."""
    session = {"name": "unit", "signatures": ["unit-3.11(core)"], "duration": 61.4, "result": "failed"}
    (tmp_path / "1.json").write_text(json.dumps({"sessions": [session]}))
    (tmp_path / "1.steps").write_text("pip\t7\t0\nengine\t70\t2\n")
    lines = table(spent(tmp_path)).splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["engine", "unit-3.11(core)", "pip"]
    assert lines[1].endswith("exit code 2")


# ---- the gate


def _gate() -> str:
    """The shell of the job `gate`, as it stands."""
    lines = (ROOT / ".github/workflows/ci.yml").read_text().split("\n  gate:\n")[1].splitlines()
    begin = lines.index("      - run: |") + 1
    return "\n".join(line.removeprefix(" " * 10) for line in lines[begin:])


@pytest.mark.requirement("D3")
@pytest.mark.parametrize(
    ("results", "passes"),
    [
        ("success " * 6, True),
        ("success", True),
        ("success " * 20, True),
        ("success success failure success success success", False),
        ("failure", False),
        ("success success success success success skipped", False),
        ("skipped success", False),
        ("cancelled success", False),
        ("success success cancelled", False),
        ("successful", False),
        ("", False),
    ],
)
def test_the_gate_passes_when_every_job_succeeded(results: str, passes: bool) -> None:
    """However many there are. Skipped, cancelled and none at all do not pass."""
    command = ["bash", "--noprofile", "--norc", "-e", "-c", _gate()]
    done = subprocess.run(command, env={**os.environ, "RESULTS": results.strip()}, check=False, capture_output=True)
    assert (done.returncode == 0) is passes


@pytest.mark.requirement("D3")
def test_the_gate_reads_the_results_of_the_jobs_it_needs() -> None:
    """And no expression is pasted into the shell."""
    gate = (ROOT / ".github/workflows/ci.yml").read_text().split("\n  gate:\n")[1]
    assert "RESULTS: ${{ join(needs.*.result, ' ') }}" in gate
    assert "${{" not in _gate()


# ---- commands that are named somewhere


def _defined() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {each.name for each in functions if any("nox.session" in ast.unparse(d) for d in each.decorator_list)}


def _sessions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every session that a text starts, with its arguments after `--`: `nox -s A B -- ...`, `check A B -- ...`."""
    for command in re.findall(r"(?:nox (?:--non-interactive )?-s |^check )([^`#&|\n]*)", text, re.MULTILINE):
        words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "expression", command).replace("'", ""))
        words = list(_until_sentence_ends(words))
        names, _, arguments = " ".join(words).partition(" -- ")
        for name in names.split():
            if name == "--python":
                break
            yield re.sub(r"-3\.\d+.*|\(.*", "", name), arguments.split()


def _until_sentence_ends(words: list[str]) -> Iterator[str]:
    for word in words:
        yield word.rstrip(".,;:)") if not word.startswith("-") else word
        if word[-1:] in ".,;:)":
            return


def _named() -> Iterator[tuple[str, str, list[str]]]:
    suffixes = {".md", ".yml", ".toml", ".cfg"}
    for path in [*files(), ROOT / ".ci/run"]:
        if path.suffix in suffixes or path == ROOT / ".ci/run":
            for name, arguments in _sessions(path.read_text("utf-8")):
                yield str(path.relative_to(ROOT)), name, arguments


_OPTIONS: Mapping[str, tuple[str, ...]] = {  # where the options of a session's program are declared
    "demo": ("demo/options.py",),
    "benchmark": ("benchmarks/__main__.py",),
    "chaos": ("packages/testkit/src/rpa_testkit/cli/commands.py", "noxfile.py"),
    "integration": ("conftest.py", "packages/testkit/src/rpa_testkit/plugin.py"),
    "unit": ("conftest.py", "packages/testkit/src/rpa_testkit/plugin.py"),
    "prefect": ("conftest.py", "packages/testkit/src/rpa_testkit/plugin.py"),
}
_PYTEST = {"-k", "-x", "-m", "--ignore-glob", "--co", "-q", "-n"}


@pytest.mark.requirement("D1", "D3")
def test_every_session_and_option_that_is_named_exists() -> None:
    """In workflows, .ci/run and documents: whoever follows the text finds the command."""
    named = list(_named())
    assert len(named) > 30
    for where, name, arguments in named:
        assert name in _defined(), f"{where}: nox -s {name}"
        declared = "".join((ROOT / path).read_text() for path in _OPTIONS.get(name, ()))
        for argument in arguments:
            option = argument.partition("=")[0]
            if option.startswith("-") and option != "--help":
                assert f'"{option}"' in declared or (
                    option in _PYTEST and "plugin" in declared + str(_OPTIONS[name])
                ), f"{where}: nox -s {name} -- {option}"


@pytest.mark.requirement("D3")
@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda path: str(path.name))
def test_jobs_groups_and_scenarios_of_workflows_exist(path: Path) -> None:
    """What a job needs, what a matrix lists, and the steps that are taken by name."""
    text = path.read_text()
    jobs = set(re.findall(r"^  ([\w-]+):$", text.split("\njobs:\n")[1], re.MULTILINE))
    for needed in re.findall(r"needs: \[?([^\]\n]+)\]?", text):
        assert set(needed.split(", ")) <= jobs
    groups = (ROOT / "benchmarks/catalogue.py").read_text()
    for listed in re.findall(r"group: \[(.+)\]", text):
        assert all(f'"{group}": _' in groups for group in listed.split(", "))
    for expression in re.findall(r"\$\{\{\s*matrix\.(\w+)", text):
        assert re.search(rf"^ +{expression}: \[", text, re.MULTILINE), f"matrix.{expression}"
    for expression in re.findall(r"\$\{\{\s*inputs\.(\w+)", text):
        assert re.search(rf"^      {expression}:$", text, re.MULTILINE), f"inputs.{expression}"
    for variable in re.findall(r'"\$([A-Z_]+)"', text):
        assert variable == "GITHUB_STEP_SUMMARY" or re.search(rf"^ +{variable}: ", text, re.MULTILINE), variable


@pytest.mark.requirement("D3")
@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".github/workflows/nightly.yml", ".ci/run"])
def test_whatever_runs_the_integration_tests_brings_what_they_would_be_skipped_without(path: str) -> None:
    """A skipped test fails the session in CI: its programs are installed, and it may mount (the runner is not root)."""
    text = (ROOT / path).read_text()
    jobs = [job for job in re.split(r"\n\n  (?=\S)", text) if re.search(r"(?m)(run: .*nox -s|^check) integration", job)]
    assert jobs
    for job in jobs:
        assert "pgbouncer" in job
        assert "prometheus-alertmanager" in job
        if path.startswith(".github"):
            assert 'sudo --preserve-env env "PATH=$PATH" nox -s integration' in job


@pytest.mark.requirement("D3")
def test_the_scenarios_of_the_chaos_session_exist() -> None:
    """Those of each change and those of each night."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    nightly = next(
        ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and "NIGHTLY" in ast.dump(n)
    )
    texts = [path.read_text() for path in (ROOT / "packages/testkit/src/rpa_testkit/scenario").glob("*.py")]
    for name in ["everything", *nightly]:
        assert any(f'name="{name}"' in text or f'"{name}"' in text for text in texts), name
