"""The pytest plugin. Heavy imports stand within the fixtures: every run of pytest pays for the others."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rpa_testkit.databases import Database, Databases, ExternalPostgres
    from rpa_testkit.drivers.protocol import System
    from rpa_testkit.postgres import EmbeddedPostgres
    from rpa_testkit.prefect_server import PrefectServer
    from rpa_testkit.processes import WorkerProcesses
    from rpa_testkit.runner.run import Run
    from rpa_testkit.suite.chaos import Chaos
    from rpa_testkit.warden.client import Warden

_OUTSIDE = frozenset(
    {"postgres_server", "private_postgres", "worker_process", "warden", "prefect_server", "own_prefect_server"}
)
_ISOLATION = pytest.StashKey[Any]()
_CHAOS = pytest.StashKey[Any]()
_FAILED = pytest.StashKey[bool]()
_WARDEN = pytest.StashKey[Any]()
_REPORTS = Path("reports", "chaos")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("rpa")
    group.addoption(
        "--postgres-dsn",
        default=os.environ.get("RPA_TEST_DSN"),
        metavar="URL",
        help="use this PostgreSQL (a superuser's URL) instead of the embedded one (env: RPA_TEST_DSN)",
    )
    group.addoption("--chaos-seed", type=int, metavar="N", help="the seed of chaos tests (default: a random one)")
    group.addoption(
        "--chaos-driver", choices=("process", "docker"), default="process", help="what chaos tests run scenarios on"
    )
    group.addoption(
        "--chaos-replay", type=Path, metavar="RUN", help="carry out the schedule of this run's folder, where it fits"
    )
    group.addoption(
        "--chaos-keep", action="store_true", help=f"keep the folders of runs that passed, too, in {_REPORTS}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; draw the seed, which xdist hands on to its workers with the other options."""
    if config.option.chaos_seed is None:
        config.option.chaos_seed = secrets.randbelow(1_000_000)
    config.addinivalue_line(
        "markers",
        "scenario(name_or_object, *, seed=None, drivers=[...]): what `scenario_run` runs, and where the test may run",
    )
    config.addinivalue_line("markers", "requirement(*ids): the requirements that this test proves")
    config.addinivalue_line("markers", "integration: uses a real server, real processes (set by the folder)")
    config.addinivalue_line("markers", "slow: takes more than five seconds")
    config.addinivalue_line("markers", "alone: others would disturb it, or it them (one engine), so it runs after them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands below tests/integration and tests/prefect."""
    for item in items:
        if _below(item.path, "integration") or _below(item.path, "prefect"):
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
    """Show the workers' logs and the chaos runs with a failed test."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
        workers = getattr(item, "funcargs", {}).get("worker_process")
        if workers is not None:
            report.sections.append(("worker processes", workers.logs()))
        chaos = item.stash.get(_CHAOS, None)
        if chaos is not None:
            report.sections.append(("chaos", chaos.section()))
    return report


def pytest_report_header(config: pytest.Config) -> str:
    """What repeats this session's chaos tests."""
    return f"chaos: --chaos-seed {config.option.chaos_seed} --chaos-driver {config.option.chaos_driver}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """One warden for all workers of xdist, owned by the process that controls them: it outlives each of them."""
    shared = node.config.stash.get(_WARDEN, None)
    if shared is None:
        shared = node.config.stash[_WARDEN] = _SharedWarden()
    node.workerinput["chaos_warden"] = shared.address


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the shared warden."""
    shared = config.stash.get(_WARDEN, None)
    if shared is not None:
        shared.close()
        del config.stash[_WARDEN]


class _SharedWarden:
    """A warden in a folder of its own. Where none can be started, `address` is empty: most tests need none."""

    def __init__(self) -> None:
        from rpa_testkit.warden.client import Warden, WardenError

        self._folder = TemporaryDirectory(prefix="rpa-testkit-warden-")
        self._warden: Warden | None = None
        with suppress(WardenError):
            self._warden = Warden.start(Path(self._folder.name))

    @property
    def address(self) -> str:
        """What workers join."""
        return self._warden.address if self._warden is not None else ""

    def close(self) -> None:
        """Wait until nothing is left."""
        if self._warden is not None:
            self._warden.close()
        self._folder.cleanup()


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


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """One Prefect server for all tests of this process that leave it running; skips where Prefect is not installed."""
    with _prefect() as server:
        yield server


@pytest.fixture
def own_prefect_server() -> Iterator[PrefectServer]:
    """A server of this test alone, to be stopped, killed and restarted; costs some ten seconds."""
    with _prefect() as server:
        yield server


def _prefect() -> PrefectServer:
    from rpa_testkit.prefect_server import PrefectServer, unavailable

    reason = unavailable()
    if reason:
        pytest.skip(reason)
    return PrefectServer()


@pytest.fixture(scope="session")
def warden(request: pytest.FixtureRequest) -> Iterator[Warden]:
    """Heals and reaps what a test leaves behind, even when this process is killed; one for all xdist workers."""
    from rpa_testkit.warden.client import Warden

    address = getattr(request.config, "workerinput", {}).get("chaos_warden")
    if address:
        with Warden.join(address) as joined:
            yield joined
        return
    with TemporaryDirectory(prefix="rpa-testkit-warden-") as folder, Warden.start(Path(folder)) as started:
        yield started


@pytest.fixture
def chaos(request: pytest.FixtureRequest, warden: Warden) -> Iterator[Chaos]:
    """Runs scenarios: `chaos.run("processes")`, `chaos.replay(file, scenario=...)`. See rpa_testkit.suite.chaos."""
    from rpa_testkit.postgres import EmbeddedPostgres
    from rpa_testkit.suite.chaos import Chaos, settings_of

    def server() -> EmbeddedPostgres | None:
        found = request.getfixturevalue("postgres_server")
        return found if isinstance(found, EmbeddedPostgres) else None

    made = Chaos(settings_of(request.node, _REPORTS), warden, server)
    request.node.stash[_CHAOS] = made
    yield made
    made.close(failed=request.node.stash.get(_FAILED, False))


@pytest.fixture
def scenario_run(request: pytest.FixtureRequest, chaos: Chaos) -> Run:
    """The run of the scenario that `@pytest.mark.scenario(...)` names."""
    mark = request.node.get_closest_marker("scenario")
    if mark is None or len(mark.args) != 1:
        raise pytest.UsageError("scenario_run needs @pytest.mark.scenario(name_or_object) on the test")
    return chaos.run(mark.args[0], seed=mark.kwargs.get("seed"))


@pytest.fixture
def stack(request: pytest.FixtureRequest, chaos: Chaos) -> Iterator[System]:
    """A started system without faults, of the topology of the marker's scenario: `nodes`, `dsn`, `proxy`."""
    from rpa_testkit.scenario.library import find
    from rpa_testkit.scenario.model import Topology

    mark = request.node.get_closest_marker("scenario")
    given = mark.args[0] if mark is not None and mark.args else None
    named = find(given) if isinstance(given, str) else given
    with chaos.stack(named.topology if named is not None else Topology()) as system:
        yield system
