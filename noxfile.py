"""What is checked: one session a suite. `nox` runs the default ones, `nox --list` shows all.

Packages are tested as they are shipped: from wheels built once per run (session `build`), on requirements locked with
hashes, never from the source tree. Arguments after `--` go to pytest, the demo or the benchmark. Reports: reports/.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.11"

PYPROJECT = nox.project.load_toml("pyproject.toml")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = list(dict.fromkeys([HERE, *nox.project.python_versions(PYPROJECT)]))
CI = bool(os.environ.get("CI"))
MEMBERS = {"core": ["core"], "flows": ["core", "flows"], "testkit": ["core", "testkit"]}  # each with what it needs
EVERYTHING = ["core", "flows", "testkit"]
SYSTEM = "/usr/bin/python3"  # the distribution's own, often an older patch release than the one that nox runs on
FULL = ["--proof", "full"]  # each night instead of the short forms
NIGHTLY = ["resources", "prefect-errors", "password-rotated", "database-partition", "disk-filled"]
SOURCES = ["packages", "demo", "benchmarks", "ci", "docker/receiver", "tests", "conftest.py", "noxfile.py", "tasks.py"]
PROGRAMS = ["docker/base/rpa", "docker/base/rpa-reload"]  # Python without a suffix

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"  # locked requirements: what is installed already is what is wanted
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # every supported Python that is present
nox.options.sessions = ["lint", "typecheck", *(["unit", "unit_system"] if CI else [f"unit-{HERE}"]), "integration"]


def prepare(session: nox.Session, lock: str, *, wheels: list[str] | None = None) -> Path:
    """Install a lock and our own wheels, print the versions, return the session's reports folder."""
    python = str(Path(session.bin) / "python")
    session.run(sys.executable, "-m", "ci.install", python, f"requirements/{lock}.txt", external=True)
    if wheels:
        # What they need is in the lock. Reinstalled, because the version stays the same while one works.
        files = [str(next(Path("dist").glob(f"rpa_{wheel}-*.whl"))) for wheel in wheels]
        session.install("--quiet", "--no-deps", "--no-index", "--force-reinstall", *files)
    session.run("python", "-m", "pip", "check", silent=True)
    session.run("python", "-m", "ci.versions")
    reports = Path("reports") / session.name.replace("(", "-").replace(")", "")
    reports.mkdir(parents=True, exist_ok=True)
    return reports


def pytest(session: nox.Session, reports: Path, paths: list[str], *options: str, name: str = "junit") -> None:
    """Run pytest on `paths`, or on those that are given after `--`.

    Where everything is meant to be there (CI), a skipped test fails the session. With arguments of one's own, that
    nothing was selected is no error.
    """
    given = any(Path(argument.partition("::")[0]).exists() for argument in session.posargs)
    junit = str(reports / f"{name}.xml")
    if CI:
        options = (*options, "--durations=20", "--durations-min=5")  # where the time went
    command = ["-m", "pytest", f"--junitxml={junit}", *options, *session.posargs, *([] if given else paths)]
    session.run("python", *command, success_codes=[0, 5] if session.posargs else [0])
    if CI:
        session.run("python", "-m", "ci.skipped", junit)


def tests(kind: str) -> list[str]:
    """The folders of one kind of tests, of all members."""
    return [f"packages/{member}/tests/{kind}" for member in MEMBERS]


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the wheels into dist/; the sessions that need them ask for it."""
    prepare(session, "build")
    session.run("python", "-m", "ci.wheels", "build")


@nox.session(requires=["build"], default=False)
def smoke(session: nox.Session) -> None:
    """Every unit test, in one environment: the answer in seconds while you work."""
    reports = prepare(session, "test", wheels=EVERYTHING)
    pytest(session, reports, tests("unit"), "-q", "-x", "-n", "auto")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, locks in step, the architecture, and the tests of the workspace's own tools."""
    reports = prepare(session, "lint")
    session.run("ruff", "check", *SOURCES, *PROGRAMS)
    session.run("ruff", "format", "--check", *SOURCES, *PROGRAMS)
    session.run("python", "-m", "ci.locks", "check")
    pytest(session, reports, ["tests/architecture", "tests/ci"], "-q", "-n", "auto")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Mypy, strict, on everything that is Python."""
    prepare(session, "typing")
    session.run("mypy", *(session.posargs or SOURCES))
    session.run("mypy", "--scripts-are-modules", *PROGRAMS)


@nox.session(python=PYTHONS, requires=["build"])
@nox.parametrize("package", list(MEMBERS), ids=list(MEMBERS))
def unit(session: nox.Session, package: str) -> None:
    """Unit tests of each package, installed alone with what it depends on."""
    reports = prepare(session, package, wheels=MEMBERS[package])
    pytest(session, reports, [f"packages/{package}/tests/unit"], "-q")


@nox.session(python=SYSTEM, requires=["build"], default=False)
def unit_system(session: nox.Session) -> None:
    """Unit tests of core on the distribution's own Python, where that is another supported one."""
    question = "import platform; print(platform.python_version())"
    version = str(session.run("python", "-c", question, silent=True)).strip()
    if version == platform.python_version() or version.rpartition(".")[0] not in PYTHONS:
        session.skip(f"{SYSTEM} is {version}: the session `unit` is run on it, or it is not supported")
    reports = prepare(session, "core", wheels=MEMBERS["core"])
    pytest(session, reports, ["packages/core/tests/unit"], "-q")


@nox.session(requires=["build"])
def integration(session: nox.Session) -> None:
    """On the embedded PostgreSQL (or on `-- --postgres-dsn URL`), then the images and the stack on a Docker Engine."""
    reports = prepare(session, "test", wheels=EVERYTHING)
    paths = [*tests("integration"), "tests/containers"]
    pytest(session, reports, paths, "-n", "4", "--dist", "worksteal", "-m", "not alone")  # some take a minute
    pytest(session, reports, paths, "-q", "-m", "alone", name="alone")


@nox.session(requires=["build"], default=False)
def prefect(session: nox.Session) -> None:
    """Reports to a real Prefect server, and flows that it starts; both over a real PostgreSQL."""
    reports = prepare(session, "prefect", wheels=EVERYTHING)
    pytest(session, reports, tests("prefect"), "-n", "2", "--dist", "worksteal")  # a server for each of the two


@nox.session(requires=["build"], default=False)
def chaos(session: nox.Session) -> None:
    """Faults on purpose, on processes and containers: a mix, with `-- --proof full` more, or `-- SCENARIO`."""
    prepare(session, "prefect", wheels=EVERYTHING)
    selection = ["everything", *NIGHTLY] if session.posargs == FULL else ["everything"]
    given = [] if session.posargs == FULL else session.posargs
    arguments = given or [*selection, "--driver", "both", "--seed", "1"]
    if "process" not in arguments:  # the images of this tree; a user may have no engine to build them with
        session.run("invoke", "build.selective", success_codes=[0] if CI else [0, 1])
    if "--reports" not in arguments:
        arguments = [*arguments, "--reports", "reports/chaos"]
    session.run("rpa-testkit", "run", *arguments)


@nox.session(requires=["build"], default=False)
def coverage(session: nox.Session) -> None:
    """All tests of the packages under coverage, worker processes included."""
    reports = prepare(session, "test", wheels=EVERYTHING)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", *(session.posargs or [*tests("unit"), *tests("integration")]))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "html", "--quiet", "--directory", str(reports / "html"))
    session.run("coverage", "report")


@nox.session(requires=["build"], default=False)
def demo(session: nox.Session) -> None:
    """The survey flows on an embedded PostgreSQL, with workers killed; `-- --help` shows what can be asked."""
    prepare(session, "test", wheels=EVERYTHING)
    session.run("python", "-m", "demo", *session.posargs)


@nox.session(requires=["build"], default=False)
def benchmark(session: nox.Session) -> None:
    """The bars; `-- testkit`: the testkit's; `-- build`: images; `-- peers`: other queues; `-- --quick`: it runs."""
    prepare(session, "peers" if "peers" in session.posargs else "test", wheels=EVERYTHING)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=False, default=False)
def traceability(session: nox.Session) -> None:
    """Each requirement with its tests; one without is an error."""
    session.run(sys.executable, "-m", "ci.traceability")


@nox.session(requires=["build"], default=False)
def wheel(session: nox.Session) -> None:
    """The wheels hold what they should, and core works alone, without extras."""
    prepare(session, "base", wheels=["core"])
    session.run("python", "-m", "ci.wheels", "check")
    session.run("rpa", "--help")
    # -I: from the installed wheel, not from this folder. Every public name is there without any extra.
    session.run(
        "python", "-I", "-W", "error", "-c", "import rpa_core; [getattr(rpa_core, n) for n in rpa_core.__all__]"
    )
