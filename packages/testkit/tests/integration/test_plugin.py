"""The pytest plugin, run on small suites of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from rpa_testkit.databases import Database, Databases
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until

_UNIT = """
import socket, subprocess
def test_process(): subprocess.run(["true"])
def test_network(): socket.create_connection(("127.0.0.1", 9))
def test_swallowed():
    try: subprocess.run(["true"])
    except Exception: pass
def test_server(database): pass
def test_pure(): assert socket.AF_INET
"""


def _databases(server: EmbeddedPostgres) -> set[str]:
    with psycopg.connect(server.dsn()) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


@pytest.mark.requirement("R9.6")
def test_databases_do_not_see_each_other(databases: Databases) -> None:
    """What one test writes, the next does not find."""
    with databases.migrated() as one, databases.migrated() as other:
        with psycopg.connect(one.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE mine ()")
        with psycopg.connect(other.dsn) as connection:
            assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


@pytest.mark.requirement("R9.6")
def test_a_database_goes_even_if_somebody_is_still_connected(
    databases: Databases, postgres_server: EmbeddedPostgres
) -> None:
    """A forgotten connection does not keep a database alive."""
    with databases.empty() as database:
        forgotten = psycopg.connect(database.dsn)
    forgotten.close()
    assert database.name not in _databases(postgres_server)


@pytest.mark.requirement("R9.6")
def test_the_database_is_migrated_and_the_hub_is_empty(database: Database, survey_hub: Database) -> None:
    """`database` has the schema of rpa_core, `survey_hub` has nothing."""
    count = "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^(pg_|info)'"
    with psycopg.connect(database.dsn) as one, psycopg.connect(survey_hub.dsn) as other:
        assert one.execute(count).fetchone() != (0,)
        assert other.execute(count).fetchone() == (0,)


@pytest.mark.requirement("D1")
def test_unit_tests_reach_neither_network_nor_processes(pytester: pytest.Pytester) -> None:
    """The refusal says what was reached for and where such a test belongs."""
    folder = pytester.path / "tests" / "unit"
    folder.mkdir(parents=True)
    (folder / "test_sample.py").write_text(_UNIT)
    result = pytester.runpytest_subprocess("tests", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=3, errors=1)
    result.stdout.fnmatch_lines_random(
        ["*reached for another process*", "*reached for the network*", "*move it to tests/integration*"]
    )


@pytest.mark.requirement("D1")
def test_the_same_tests_run_below_integration(pytester: pytest.Pytester) -> None:
    """Only the folder decides; its tests carry the marker."""
    folder = pytester.path / "tests" / "integration"
    folder.mkdir(parents=True)
    (folder / "test_sample.py").write_text("import subprocess\ndef test_process(): subprocess.run(['true'])\n")
    result = pytester.runpytest_subprocess("tests", "-m", "integration", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


@pytest.mark.requirement("R9.6")
def test_all_xdist_workers_share_one_server(pytester: pytest.Pytester) -> None:
    """Two workers, one port; the last one's end takes the server with it."""
    pytester.makepyfile(
        """
        import os, pathlib, psycopg, pytest
        @pytest.mark.parametrize("n", range(8))
        def test_server(postgres_server, survey_hub, n):
            with psycopg.connect(survey_hub.dsn) as connection:
                connection.execute("SELECT 1")
            worker = os.environ["PYTEST_XDIST_WORKER"]
            line = f"{worker} {postgres_server.port} {postgres_server.home}"
            pathlib.Path("seen", f"{worker}-{n}").write_text(line)
        """
    )
    pytester.mkdir("seen")
    result = pytester.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=8)
    lines = [path.read_text().split() for path in (pytester.path / "seen").iterdir()]
    assert {line[0] for line in lines} == {"gw0", "gw1"}
    assert len({line[1] for line in lines}) == 1
    home = Path(lines[0][2])
    until(lambda: not home.exists(), 20.0, "the shared server's home to be removed")


@pytest.mark.alone
@pytest.mark.requirement("R9.6")
def test_another_server_can_be_given(pytester: pytest.Pytester, postgres_server: EmbeddedPostgres) -> None:
    """With --postgres-dsn the same tests run on a server that was there before, which is never stopped."""
    before = _databases(postgres_server)
    pytester.makepyfile(
        """
        import psycopg, pytest
        def test_given(database, postgres_server):
            with psycopg.connect(database.dsn) as connection:
                assert connection.info.port == postgres_server.port == PORT
            with pytest.raises(Exception, match="private_postgres"):
                postgres_server.stop()
        """.replace("PORT", str(postgres_server.port))
    )
    result = pytester.runpytest_subprocess("--postgres-dsn", postgres_server.dsn(), "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert _databases(postgres_server) == before


@pytest.mark.slow
@pytest.mark.requirement("D1")
def test_the_workspace_collects_from_its_root() -> None:
    """As an editor does it: all folders of tests in one run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    root = Path(__file__).parents[4]
    collected = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert collected.returncode == 0, collected.stdout[-2000:] + collected.stderr
    for folder in ("packages/core/tests/unit", "packages/testkit/tests/integration", "tests/containers"):
        assert folder in collected.stdout
