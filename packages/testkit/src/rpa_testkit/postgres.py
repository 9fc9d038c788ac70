"""A real PostgreSQL of one's own, without Docker, without root or as root, in about a second.

Durability is as in production: fsync, synchronous_commit and full_page_writes are on, so that a server
stopped with `immediate` (or killed) keeps every committed transaction. `python -m rpa_testkit.postgres` gives
a developer one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from rpa_testkit import guardian
from rpa_testkit.interrupts import take_signals
from rpa_testkit.newdata import new_data
from rpa_testkit.ports import HOST, free_port
from rpa_testkit.programs import PostgresError, Programs, everyone_can_reach, find, temporary_root

StopMode = Literal["smart", "fast", "immediate"]

_PASSWORD_GROUP = "rpa_password_required"  # noqa: S105 - a role's name
_SOCKET_PATH_BYTES = 100  # sun_path holds 108 on Linux, 104 on macOS, and the name `.s.PGSQL.65535` is in it

_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # with the next line: a measurement is not one of checkpoints
    "checkpoint_timeout": "15min",
    "log_min_messages": "warning",
    "log_line_prefix": "'%m [%p] %q%a %u@%d '",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_HBA = f"""\
# Members of {_PASSWORD_GROUP} must know their password; everybody else on this machine is trusted.
local all all trust
host  all +{_PASSWORD_GROUP} {HOST}/32 scram-sha-256
host  all all {HOST}/32 trust
"""


class EmbeddedPostgres:
    """One server: new -> running <-> stopped -> closed; closing removes its data unless `directory` is given.

    `directory` is kept and reused; `port` None takes a free one, which stays the same across restarts.
    `settings` are added to postgresql.conf. `home` is for servers that several processes share (see `join`).
    """

    host = HOST

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        home: Path | None = None,
    ) -> None:
        self._keep = directory is not None
        self._home = directory.absolute() if directory is not None else home
        self._wanted_port = port
        self._settings = {**_SETTINGS, **(settings or {})}
        self._shared = home is not None
        self._owner: int | None = None
        self._programs: Programs | None = None
        self._port = port
        self.version = ""

    def start(self) -> Self:
        """Start the server, making it first if it is new; returns when it accepts connections."""
        if self._owner is None:
            self._set_up()
        elif not self.running:
            self._pg_start()
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait for its end; `immediate` is a crash: the next start recovers."""
        if self._shared:
            raise PostgresError("other tests share this server; use the fixture private_postgres to stop one")
        if self.running:
            self._tools.run("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w", "-t", "60")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop, then start on the same port."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Give the server up: stop it and remove its data; a shared one is left to its other owners."""
        if self._owner is None:
            return
        try:
            if not self._shared:
                with guardian.locked(self.home):
                    self.stop("fast" if self._keep else "immediate")
                    if not self._keep:
                        guardian.remove(self.home)
        finally:
            os.close(self._owner)
            self._owner = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def home(self) -> Path:
        """The folder of everything that belongs to this server."""
        if self._home is None:
            raise PostgresError("the server was never started")
        return self._home

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        if self._port is None:
            raise PostgresError("the server was never started")
        return self._port

    @property
    def bin(self) -> Path:
        """The folder of the programs (psql, pg_dump, ...)."""
        return self._tools.bin

    @property
    def running(self) -> bool:
        """Whether the server runs; a starting one counts."""
        try:
            self._tools.run("pg_ctl", "status", "-D", str(self.data))
        except PostgresError:
            return False
        return True

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])

    def dsn(self, dbname: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """A connection string; every part is quoted for a URL."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{quote(user, safe='')}{secret}@{HOST}:{self.port}/{quote(dbname, safe='')}"

    def log_text(self) -> str:
        """The server's log."""
        log = self.data / "server.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def create_role(self, name: str, password: str) -> None:
        """Make a login role that must give its password, unlike all others."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_PASSWORD_GROUP]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(_PASSWORD_GROUP)))
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(name), sql.Literal(password), sql.Identifier(_PASSWORD_GROUP)
                )
            )

    def require_password(self, name: str, password: str) -> None:
        """Give a role a password, without which it is not let in any more."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_PASSWORD_GROUP]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(_PASSWORD_GROUP)))
            role = sql.Identifier(name)
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(_PASSWORD_GROUP), role))

    @property
    def _tools(self) -> Programs:
        if self._programs is None:
            self._programs = find()
        return self._programs

    def _set_up(self) -> None:
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="rpa-postgres-", dir=temporary_root()))
            self._home.chmod(0o755)
        with guardian.locked(self.home):
            self._check_home()
            known = self.home / "server.json"
            joining = self._shared and known.exists()
            self._owner = guardian.own(self.home)
            if joining:
                facts = json.loads(known.read_text())
                self._port, self.version = facts["port"], facts["version"]
                return
            account = self._tools.account
            guardian.appoint(self.home, bin_folder=self.bin, keep=self._keep, uid=account.uid, gid=account.gid)
            self.version = self._tools.version()
            self._make_data()
            self._start_on_a_free_port()
            known.write_text(json.dumps({"port": self.port, "version": self.version}))

    def _check_home(self) -> None:
        if self._tools.account.uid is not None and not everyone_can_reach(self.home):
            raise PostgresError(
                f"PostgreSQL runs as `nobody` because you are root, and `nobody` cannot reach {self.home}; "
                "choose a directory below /var/tmp or open the folders above it (chmod o+x)"
            )

    def _make_data(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        new_data(self._tools, self.data)

    def _start_on_a_free_port(self) -> None:
        for attempt in range(5):
            self._port = self._wanted_port or free_port()
            self._configure()
            try:
                self._pg_start()
            except PostgresError:
                taken = "could not bind" in self.log_text()
                if self._wanted_port or not taken or attempt == 4:
                    raise
            else:
                return

    def _configure(self) -> None:
        settings = {
            **self._settings,
            "listen_addresses": f"'{HOST}'",
            "port": str(self.port),
            "unix_socket_directories": f"'{self._socket_folder()}'",
        }
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (self.data / "rpa.conf").write_text("".join(lines))
        main = self.data / "postgresql.conf"
        if "include 'rpa.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("include 'rpa.conf'\n")
        (self.data / "pg_hba.conf").write_text(_HBA)
        self._tools.give(self.data / "rpa.conf")

    def _socket_folder(self) -> str:
        fits = len(os.fsencode(self.data)) + len("/.s.PGSQL.65535") <= _SOCKET_PATH_BYTES
        return str(self.data) if fits else ""  # without a folder PostgreSQL makes no socket; TCP is always there

    def _pg_start(self) -> None:
        log = self.data / "server.log"
        try:
            self._tools.run("pg_ctl", "start", "-D", str(self.data), "-l", str(log), "-w", "-t", "60")
        except PostgresError as error:
            error.add_note(self.log_text()[-4000:])
            raise


def join(home: Path) -> EmbeddedPostgres:
    """The server that all processes naming the same `home` share; it ends with the last of them."""
    return EmbeddedPostgres(home=home).start()


def main(arguments: list[str] | None = None) -> int:
    """Run a server for a developer until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m rpa_testkit.postgres", description=main.__doc__)
    parser.add_argument("--port", type=int, help="TCP port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--dir", type=Path, help="keep the data here (default: a temporary folder, removed)")
    options = parser.parse_args(arguments)
    take_signals()
    with EmbeddedPostgres(options.dir, port=options.port) as server:
        print(f"PostgreSQL {server.version} at {server.dsn()}", f"programs: {server.bin}", sep="\n", flush=True)
        print("Ctrl-C stops it.", file=sys.stderr, flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                signal.pause()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
