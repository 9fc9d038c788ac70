"""A wrong password is told at once: waiting could not help."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rpa_testkit.postgres import EmbeddedPostgres

from .engine import Engine

_TOLD_S = 30  # a tenth of the time for which a database that is away is waited for at a start


@pytest.mark.slow
@pytest.mark.requirement("R1.3", "R2.2")
def test_a_wrong_password_ends_a_worker(
    engine: Engine,
    postgres_server: EmbeddedPostgres,
    counted: Callable[[int, int], int],
) -> None:
    """Exit code 77 each time, and no wait for the database; the log has the cause and the cure, not the password."""
    postgres_server.create_role("mistaken", "right-one")
    dsn = engine.dsn.replace("//postgres@", "//mistaken:wrong-one@")
    try:
        for _ in range(counted(1, 3)):
            worker = engine.run_command(database_rpa_db_url=dsn)
            assert worker.process.wait(_TOLD_S) == 77, worker.process.log_text()
            log = worker.process.log_text()
            assert "password authentication failed" in log
            assert "correct the password" in log
            assert "wrong-one" not in log
    finally:
        engine.ask("DROP ROLE mistaken")
