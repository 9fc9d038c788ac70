"""What happens to PostgreSQL: it crashes, is restarted, throws its clients out, has no slot left, takes no writes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from rpa_testkit.drivers.protocol import StopMode, System
from rpa_testkit.drivers.settings import ROLE, rewrite
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.faults.sessions import end_sessions
from rpa_testkit.scenario.plan import Event
from rpa_testkit.waits import until
from rpa_testkit.warden.undo import Sql, Undo

_WRITABLE = ("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
_MOST_SLOTS = 1_000
_BACK_S = 10.0


class _OnPostgres:
    """A fault of the server; healed when a query is answered."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        self.system = system
        self.database = system.database

    def undo(self) -> tuple[Undo, ...]:
        """The end of the run undoes it."""
        return ()

    def heal(self) -> Seen:
        """Nothing to do."""
        return {}

    def verify_healed(self) -> Seen | None:
        """A query is answered."""
        return {} if self.database.ready() else None

    def ask(self, query: str, *, role: str | None = None) -> list[tuple[Any, ...]]:
        """All rows, on a connection of its own past the proxies; psycopg.Error as it comes."""
        dsn = self.system.dsn if role is None else _as_role(self.system.dsn, role)
        with psycopg.connect(dsn, autocommit=True, connect_timeout=3, application_name="rpa-testkit fault") as asked:
            cursor = asked.execute(query)
            return cursor.fetchall() if cursor.description else []


class _Stop(_OnPostgres):
    mode: StopMode = "immediate"

    def inject(self) -> Seen:
        """Returns when it has ended."""
        ((started,),) = self.ask("SELECT pg_postmaster_start_time()::text")
        self.started = started
        self.database.stop(self.mode)
        return {"started": started}

    def verify(self) -> Seen | None:
        """Nobody answers."""
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError as error:
            return {"said": str(error).strip().splitlines()[0][:120]}
        return None

    def heal(self) -> Seen:
        """Start it."""
        self.database.start()
        return {}

    def verify_healed(self) -> Seen | None:
        """Another postmaster answers."""
        ((started,),) = self.ask("SELECT pg_postmaster_start_time()::text")
        return {"started": started} if started != self.started else None


class CrashServer(_Stop):
    """As by a power cut of the server's process: the next start recovers from the log."""


class RestartServer(_Stop):
    """An orderly stop and start: sessions are ended, a checkpoint is written."""

    mode = "fast"


class EndBackends(_OnPostgres):
    """Every session of a worker is ended; they may come back at once."""

    def inject(self) -> Seen:
        """Returns when they were told; after another fault they may have to come back first."""
        self.pids = until(lambda: end_sessions(self.system.dsn), _BACK_S, "a worker to have a session")
        return {"ended": len(self.pids)}

    def verify(self) -> Seen | None:
        """None of those sessions is there any more."""
        there = {pid for (pid,) in self.ask("SELECT pid FROM pg_stat_activity")}
        return None if there.intersection(self.pids) else {"ended": len(self.pids)}


class FillSlots(_OnPostgres):
    """All slots are taken by somebody else; what is open stays open, new sessions are refused."""

    def inject(self) -> Seen:
        """Returns when no more can be opened; sessions of workers are ended, so that they want new ones."""
        self.held: list[psycopg.Connection[Any]] = []
        dsn = _as_role(self.system.dsn, ROLE)
        end_sessions(self.system.dsn)
        with suppress(psycopg.OperationalError):
            while len(self.held) < _MOST_SLOTS:
                self.held.append(psycopg.connect(dsn, connect_timeout=3, application_name="rpa-testkit filler"))
        return {"held": len(self.held)}

    def verify(self) -> Seen | None:
        """A session of the workers' role is refused for want of a slot."""
        try:
            self.ask("SELECT 1", role=ROLE)
        except psycopg.OperationalError as error:
            said = str(error)
            return {"said": said.strip().splitlines()[-1][:120]} if "slots" in said or "too many" in said else None
        with suppress(psycopg.OperationalError):  # a worker let one go: take it too
            self.held.append(psycopg.connect(_as_role(self.system.dsn, ROLE), connect_timeout=3))
        return None

    def heal(self) -> Seen:
        """Let them go."""
        for connection in self.held:
            connection.close()
        return {"released": len(self.held)}

    def verify_healed(self) -> Seen | None:
        """The workers' role gets a session."""
        self.ask("SELECT 1", role=ROLE)
        return {}


class ReadOnly(_OnPostgres):
    """Transactions are read-only by default, as on a server that has become a standby."""

    def undo(self) -> tuple[Undo, ...]:
        """Writable again."""
        return (Sql(dsn=self.system.dsn, statements=_WRITABLE),)

    def inject(self) -> Seen:
        """Returns when the server was told to read its configuration."""
        self.ask("ALTER SYSTEM SET default_transaction_read_only = on")
        self.ask("SELECT pg_reload_conf()")
        return {}

    def verify(self) -> Seen | None:
        """A write is refused with 25006."""
        try:
            self.ask("CREATE TABLE testkit.never ()")
        except psycopg.errors.ReadOnlySqlTransaction as error:
            return {"sqlstate": error.sqlstate}
        self.ask("DROP TABLE testkit.never")
        return None

    def heal(self) -> Seen:
        """Writable again; ALTER SYSTEM is no transaction and passes."""
        for statement in _WRITABLE:
            self.ask(statement)
        return {}

    def verify_healed(self) -> Seen | None:
        """A write passes."""
        self.ask("CREATE TABLE testkit.again ()")
        self.ask("DROP TABLE testkit.again")
        return {}


class RotatePassword(_OnPostgres):
    """The role gets another password, and its sessions end; the file that workers read follows after the hold."""

    def inject(self) -> Seen:
        """Returns when PostgreSQL knows the new one. RuntimeError if the topology has no such file."""
        if self.system.secret is None:
            raise RuntimeError("the topology has no secret_file: its workers cannot learn of another password")
        self.file, self.old = self.system.secret, self.system.secret.read_text()
        self.new = secrets.token_urlsafe(12)
        with psycopg.connect(self.system.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(self.new)))
        return {"ended": len(end_sessions(self.system.dsn))}

    def verify(self) -> Seen | None:
        """The old one is refused, the new one taken."""
        try:
            self._log_in(self.old)
        except psycopg.OperationalError as error:
            self._log_in(self.new)
            return {"said": str(error).strip().splitlines()[-1][:120]}
        return None

    def heal(self) -> Seen:
        """The file has the new one."""
        rewrite(self.file, self.new)
        return {}

    def verify_healed(self) -> Seen | None:
        """A worker has a session again."""
        ((count,),) = self.ask(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'")  # noqa: S608 - ours
        return {"sessions": count} if count else None

    def _log_in(self, password: str) -> None:
        dsn = psycopg.conninfo.make_conninfo(self.system.dsn, user=ROLE, password=password)
        psycopg.connect(dsn, connect_timeout=3).close()


def _as_role(dsn: str, role: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, user=role)


def _kind(name: str, made: Callable[[System, Event, Mapping[str, float]], Injection], about: str) -> FaultKind:
    return FaultKind(name=name, about=about, strikes="postgres", make=made, params={}, verify_s=10.0)


KINDS = (
    _kind("postgres-crash", CrashServer, "the server is stopped at once and recovers at its next start"),
    _kind("postgres-restart", RestartServer, "the server is stopped and started in order"),
    _kind("backends-terminated", EndBackends, "every session of a worker is ended"),
    _kind("slots-filled", FillSlots, "no session can be opened any more"),
    _kind("read-only", ReadOnly, "no transaction may write"),
    _kind("password-rotated", RotatePassword, "the workers' password is another; their secret file follows later"),
)
