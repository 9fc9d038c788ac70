"""A wrong password is told at once: waiting could not help."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from rpa_testkit.postgres import EmbeddedPostgres

from .engine import Engine

_TOLD_S = 5.0


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.requirement("R1.3", "R2.2")
def test_a_wrong_password_ends_a_worker_within_five_seconds(
    engine: Engine,
    postgres_server: EmbeddedPostgres,
    counted: Callable[[int], int],
    record_property: Callable[[str, object], None],
) -> None:
    """From its start to exit code 77, each of several times; the log has the cause and the cure, not the password."""
    postgres_server.create_role("mistaken", "right-one")
    dsn = engine.dsn.replace("//postgres@", "//mistaken:wrong-one@")
    took_s = []
    try:
        for _ in range(counted(3)):
            began = time.monotonic()
            worker = engine.run_command(database_rpa_db_url=dsn)
            assert worker.process.wait(30) == 77, worker.process.log_text()
            took_s.append(time.monotonic() - began)
            log = worker.process.log_text()
            assert "password authentication failed" in log
            assert "correct the password" in log
            assert "wrong-one" not in log
    finally:
        engine.ask("DROP ROLE mistaken")
    record_property("told_s_max", round(max(took_s), 2))
    assert max(took_s) < _TOLD_S
