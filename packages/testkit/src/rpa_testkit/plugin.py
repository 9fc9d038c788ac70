"""The pytest plugin. Heavy imports stand within the fixtures: every run of pytest pays for the others."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rpa_testkit.databases import Database, Databases, ExternalPostgres
    from rpa_testkit.postgres import EmbeddedPostgres
    from rpa_testkit.processes import WorkerProcesses

_OUTSIDE = frozenset({"postgres_server", "private_postgres", "worker_process"})
_ISOLATION = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("rpa")
    group.addoption(
        "--postgres-dsn",
        default=os.environ.get("RPA_TEST_DSN"),
        metavar="URL",
        help="use this PostgreSQL (a superuser's URL) instead of the embedded one (env: RPA_TEST_DSN)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "requirement(*ids): the requirements that this test proves")
    config.addinivalue_line("markers", "integration: uses a real server, real processes (set by the folder)")
    config.addinivalue_line("markers", "slow: takes more than five seconds")
    config.addinivalue_line("markers", "alone: measures time or memory, so it runs after the others and by itself")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands below tests/integration."""
    for item in items:
        if _below(item.path, "integration"):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Set unit tests up without network and processes."""
    outside = _OUTSIDE.intersection(getattr(item, "fixturenames", ()))
    if outside and _below(item.path, "unit"):
        pytest.fail(f"a unit test asked for {', '.join(sorted(outside))}: move it to tests/integration")
    with _isolated(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run unit tests without network and processes; not their teardown, the last one ends shared fixtures."""
    with _isolated(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the workers' logs with a failed test."""
    report = yield
    workers = getattr(item, "funcargs", {}).get("worker_process")
    if report.failed and workers is not None:
        report.sections.append(("worker processes", workers.logs()))
    return report


def _isolated(item: pytest.Item) -> AbstractContextManager[None]:
    if not _below(item.path, "unit"):
        return nullcontext()
    from rpa_testkit.isolation import Isolation

    isolation: Isolation = item.config.stash.setdefault(_ISOLATION, Isolation())
    return isolation.around(item.nodeid)


def _below(path: Path, kind: str) -> bool:
    return any(pair == ("tests", kind) for pair in zip(path.parts, path.parts[1:], strict=False))


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres | ExternalPostgres]:
    """One PostgreSQL for the whole run, shared by all xdist workers."""
    dsn = request.config.getoption("--postgres-dsn")
    if dsn:
        from rpa_testkit.databases import ExternalPostgres

        yield ExternalPostgres(dsn)
        return
    from rpa_testkit.postgres import EmbeddedPostgres, join
    from rpa_testkit.programs import temporary_root

    run = getattr(request.config, "workerinput", {}).get("testrunuid")
    server = join(temporary_root() / f"rpa-postgres-{run}") if run else EmbeddedPostgres().start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def databases(postgres_server: EmbeddedPostgres | ExternalPostgres) -> Iterator[Databases]:
    """Makes further databases: `with databases.migrated() as database`, or `databases.empty()`."""
    from rpa_testkit.databases import Databases

    made = Databases(postgres_server)
    yield made
    made.close()


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A fresh database with the schema of rpa_core."""
    with databases.migrated() as made:
        yield made


@pytest.fixture
def survey_hub(databases: Databases) -> Iterator[Database]:
    """A fresh, empty database."""
    with databases.empty() as made:
        yield made


@pytest.fixture
def private_postgres() -> Iterator[EmbeddedPostgres]:
    """A server of this test alone, to be stopped, crashed and restarted; costs about a second."""
    from rpa_testkit.postgres import EmbeddedPostgres

    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def private_database(private_postgres: EmbeddedPostgres) -> Database:
    """A migrated database on `private_postgres`; it goes with its server."""
    from rpa_core.store.migrate import migrate
    from rpa_testkit.databases import Database

    migrate(private_postgres.dsn())
    return Database(name="postgres", dsn=private_postgres.dsn())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every account can reach (`tmp_path` is private): for programs that refuse root."""
    from tempfile import TemporaryDirectory

    from rpa_testkit.programs import temporary_root

    with TemporaryDirectory(prefix="rpa-test-", dir=temporary_root()) as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def worker_process(tmp_path: Path) -> Iterator[WorkerProcesses]:
    """Starts worker processes; whatever still runs at the end of the test is killed."""
    from rpa_testkit.processes import WorkerProcesses

    workers = WorkerProcesses(tmp_path)
    yield workers
    workers.reap_all()
