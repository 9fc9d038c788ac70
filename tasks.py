"""What is done: `invoke --list`. Thin wrappers; what thinks stands in ci/ and is tested there."""

from __future__ import annotations

import shlex
import sys

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

PYTHON = sys.executable
PLACE = "/var/tmp/rpa-dev"  # noqa: S108 - outlives a reboot, and root can give it to another account
PORT = 54321


def sh(c: Context, *arguments: str, pty: bool = False) -> None:
    """Run a command, shown as it is; its failure is the task's."""
    c.run(shlex.join(arguments), echo=True, pty=pty)


@task(name="lock", help={"upgrade": "take the newest versions that fit, instead of keeping what fits"})
def deps_lock(c: Context, upgrade: bool = False) -> None:
    """Compile requirements/*.txt from the pyproject files, with hashes (needs uv)."""
    sh(c, PYTHON, "-m", "ci.locks", "compile", *(["--upgrade"] if upgrade else []))


@task(name="check")
def deps_check(c: Context) -> None:
    """Are the locks in step with the pyproject files? Needs no network."""
    sh(c, PYTHON, "-m", "ci.locks", "check")


@task(name="start", help={"port": "TCP port on 127.0.0.1", "place": "where the data stay between starts"})
def db_start(c: Context, port: int = PORT, place: str = PLACE) -> None:
    """Run an embedded PostgreSQL for development until Ctrl-C; it finds its data again."""
    sh(c, PYTHON, "-m", "rpa_testkit.postgres", "--port", str(port), "--dir", place)


@task(name="shell", help={"dsn": "which database (default: the one of db.start)"})
def db_shell(c: Context, dsn: str = f"postgresql://postgres@127.0.0.1:{PORT}/postgres") -> None:
    """Open psql."""
    sh(c, PYTHON, "-m", "rpa_testkit.programs", "psql", dsn, pty=sys.stdin.isatty())


@task(name="migrate", help={"dsn": "which database (default: the one of db.start)"})
def db_migrate(c: Context, dsn: str = f"postgresql://postgres@127.0.0.1:{PORT}/postgres") -> None:
    """Bring the schema of rpa_core into a database."""
    c.run("rpa db migrate", echo=True, env={"CONTAINER_DATABASE_RPA_DB_URL": dsn})


@task(name="smoke")
def test_smoke(c: Context) -> None:
    """Every unit test, in seconds (nox -s smoke)."""
    sh(c, "nox", "-s", "smoke")


@task(name="all")
def test_all(c: Context) -> None:
    """What `nox` runs by default: lint, types, unit and integration tests."""
    sh(c, "nox")


@task(name="traceability")
def test_traceability(c: Context) -> None:
    """Each requirement with its tests."""
    sh(c, PYTHON, "-m", "ci.traceability")


@task(name="config")
def docs_config(c: Context) -> None:
    """Print the page of every CONTAINER_* variable, as Markdown."""
    sh(c, "rpa", "config", "page")


ns = Collection(
    Collection("deps", deps_lock, deps_check),
    Collection("db", db_start, db_shell, db_migrate),
    Collection("test", test_smoke, test_all, test_traceability),
    Collection("docs", docs_config),
)
