"""A password is rotated under load: the role's and the mounted file change one after the other, and nobody notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from rpa_core.store.connect import connect
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until

from .engine import Engine, Running

_ROLE = "rotating"


@dataclass
class Account:
    """A role that must give its password, and the file that its password is read from."""

    engine: Engine
    file: Path
    number: int = 0

    @property
    def password(self) -> str:
        return f"pass word {self.number} %"

    def rotate_role(self) -> None:
        """Give it the next password and end all its connections."""
        with connect(self.engine.dsn) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(_ROLE), sql.Literal(self.password))
            )
        self.engine.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", _ROLE)

    def write_file(self) -> None:
        self.file.write_text(self.password)

    def dsn(self) -> str:
        return self.engine.dsn.replace("//postgres@", f"//{_ROLE}@")


@pytest.fixture
def account(private_engine: Engine, private_postgres: EmbeddedPostgres, tmp_path: Path) -> Account:
    """On a server of its own: ending its connections ends nobody else's."""
    made = Account(private_engine, tmp_path / "password")
    made.write_file()
    private_postgres.create_role(_ROLE, made.password)
    private_engine.ask(f"ALTER ROLE {_ROLE} SUPERUSER")
    return made


def _role_first(account: Account, worker: Running) -> None:
    """The worker is refused for a while, again and again, before the file changes."""
    account.rotate_role()
    worker.process.wait_for_log("password authentication failed", 20)
    until(lambda: worker.process.log_text().count('"attempt":3') > account.number - 1, 30, "the worker to be refused")
    account.write_file()


def _file_first(account: Account, worker: Running) -> None:
    """The worker begins a new life with a password that is not valid yet, while its old connections stand."""
    account.write_file()
    until(lambda: worker.process.log_text().count("config.changed") >= account.number, 20, "the change to be seen")
    until(
        lambda: worker.process.log_text().count("dependency.waiting") >= account.number,
        20,
        "the new life to be refused",
        worker.process.log_text,
    )
    account.rotate_role()


def _together(account: Account, worker: Running) -> None:
    """Both at once."""
    account.rotate_role()
    account.write_file()


@pytest.mark.slow
@pytest.mark.requirement("R1.5", "R2.5", "R8.1", "R8.2")
@pytest.mark.parametrize("rotate", [_role_first, _file_first, _together])
def test_a_password_rotated_under_load(
    account: Account, rotate: Callable[[Account, Running], None], counted: Callable[[int, int], int]
) -> None:
    """Once (three times in full): no record fails or is set aside, every effect is there once, one process."""
    engine, times = account.engine, counted(1, 3)
    records = 1000 + 1000 * times
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 4} for number in range(records)), chunk_size=100)
    worker = engine.run_command(
        "EFFECTS",
        database_rpa_db_url=account.dsn(),
        database_rpa_db_password_file=account.file,
        reload_interval=0.5,
        claim_records=200,
        lease_ttl=2,
    )
    worker.wait_started()
    pid = worker.process.pid
    for number in range(1, times + 1):
        done = engine.done()
        until(lambda: engine.done() > done, 30, "work to go on", worker.process.log_text)  # noqa: B023 - called here
        account.number = number
        rotate(account, worker)
        until(
            lambda: worker.process.log_text().count("worker.started") > number,  # noqa: B023 - called here
            30,
            "the next life",
            worker.process.log_text,
        )
    assert engine.settle(60) == {"done": records}
    assert (worker.process.running, worker.process.pid) == (True, pid)
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == records
    assert engine.dead_letters() == {}
    log = worker.process.log_text()
    assert "record.failed" not in log
    assert "pass word" not in log
    worker.process.terminate()
    assert worker.process.wait(20) == 0
