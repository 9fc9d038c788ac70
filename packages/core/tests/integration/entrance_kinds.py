"""Every kind of connection that an enqueue is called on, and what was stored of what was sent."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy
from psycopg import IsolationLevel
from psycopg.rows import class_row, dict_row, kwargs_row, namedtuple_row, scalar_row
from psycopg_pool import ConnectionPool
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from rpa_core.store.intake import NewRecord


@dataclass(frozen=True, slots=True)
class Caller:
    """What is passed to `enqueue`, and how its caller commits and rolls back; `own`: each call is a transaction."""

    connection: Any
    commit: Callable[[], object]
    rollback: Callable[[], object]
    own: bool = False


Kind = Callable[[str], AbstractContextManager[Caller]]
KINDS: dict[str, Kind] = {}


def _kind(name: str) -> Callable[[Callable[[str], Iterator[Caller]]], None]:
    def add(make: Callable[[str], Iterator[Caller]]) -> None:
        KINDS[name] = contextmanager(make)

    return add


def _psycopg(name: str, *, begun: str | None = None, **options: Any) -> None:
    @_kind(name)
    def make(dsn: str) -> Iterator[Caller]:
        options.setdefault("autocommit", False)
        with psycopg.connect(dsn, **options) as connection:
            if begun is not None:
                connection.execute(begun)
            yield Caller(connection, connection.commit, connection.rollback, own=options["autocommit"])


@dataclass
class _Row:
    accepted: int = 0


class LoggingCursor(psycopg.Cursor[Any]):
    """As frameworks make them: with a row factory and a signature of its own."""

    def execute(self, *_: Any, **__: Any) -> Any:
        """Refused: it takes other placeholders."""
        raise AssertionError("the caller's own cursor class was used")


def _tuples(cursor: object) -> Callable[[Sequence[Any]], Any]:
    made = namedtuple("made", ["only"])
    return lambda values: made(*values)  # fails for two columns


_psycopg("transaction")
_psycopg("begun", begun="SELECT 1")
_psycopg("autocommit", autocommit=True)
_psycopg("dict_row", row_factory=dict_row)
_psycopg("dict_row autocommit", row_factory=dict_row, autocommit=True)
_psycopg("namedtuple_row", row_factory=namedtuple_row)
_psycopg("class_row", row_factory=class_row(_Row))
_psycopg("kwargs_row", row_factory=kwargs_row(dict))
_psycopg("scalar_row", row_factory=scalar_row)
_psycopg("own row factory", row_factory=_tuples)
_psycopg("ClientCursor", cursor_factory=psycopg.ClientCursor)
_psycopg("RawCursor", cursor_factory=psycopg.RawCursor)
_psycopg("own cursor", cursor_factory=LoggingCursor)
_psycopg("prepares all", prepare_threshold=0)
_psycopg("prepares none", prepare_threshold=None)
_psycopg("client_encoding LATIN1", client_encoding="LATIN1")
_psycopg("client_encoding LATIN1 autocommit", client_encoding="LATIN1", autocommit=True)
_psycopg("client_encoding SQL_ASCII", client_encoding="SQL_ASCII")
_psycopg("client_encoding EUC_JP", client_encoding="EUC_JP")
_psycopg("client_encoding SJIS", client_encoding="SJIS", autocommit=True)
_psycopg("client_encoding EUC_TW", client_encoding="EUC_TW")
_psycopg("PostgreSQL's protocol as text", options="-c bytea_output=escape -c extra_float_digits=0")


@_kind("savepoint")
def _savepoint(dsn: str) -> Iterator[Caller]:
    with psycopg.connect(dsn) as connection:
        connection.execute("SAVEPOINT theirs")
        yield Caller(connection, connection.commit, lambda: connection.execute("ROLLBACK TO SAVEPOINT theirs"))


@_kind("BEGIN by hand on autocommit")
def _by_hand(dsn: str) -> Iterator[Caller]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("BEGIN")
        yield Caller(connection, lambda: connection.execute("COMMIT"), lambda: connection.execute("ROLLBACK"))


def _isolated(name: str, level: IsolationLevel, *, autocommit: bool) -> None:
    @_kind(name)
    def make(dsn: str) -> Iterator[Caller]:
        with psycopg.connect(dsn, autocommit=autocommit) as connection:
            connection.isolation_level = level
            yield Caller(connection, connection.commit, connection.rollback, own=autocommit)


_isolated("REPEATABLE READ", IsolationLevel.REPEATABLE_READ, autocommit=False)
_isolated("SERIALIZABLE", IsolationLevel.SERIALIZABLE, autocommit=False)
_isolated("SERIALIZABLE autocommit", IsolationLevel.SERIALIZABLE, autocommit=True)


def _pipelined(name: str, *, autocommit: bool, **options: Any) -> None:
    @_kind(name)
    def make(dsn: str) -> Iterator[Caller]:
        with psycopg.connect(dsn, autocommit=autocommit, **options) as connection, connection.pipeline():
            yield Caller(connection, connection.commit, connection.rollback, own=autocommit)


_pipelined("pipeline", autocommit=False)
_pipelined("pipeline autocommit", autocommit=True)
_pipelined("pipeline LATIN1", autocommit=False, client_encoding="LATIN1")


@_kind("two phases")
def _two_phases(dsn: str) -> Iterator[Caller]:
    with psycopg.connect(dsn) as connection:
        connection.tpc_begin(connection.xid(1, "rpa", "entrances"))
        yield Caller(connection, connection.tpc_commit, connection.tpc_rollback)


@_kind("psycopg_pool")
def _pooled(dsn: str) -> Iterator[Caller]:
    with ConnectionPool(dsn, min_size=1, max_size=1) as pool, pool.connection() as connection:
        yield Caller(connection, connection.commit, connection.rollback)


def _sqlalchemy(dsn: str, **options: Any) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool, **options
    )


@_kind("SQLAlchemy Connection")
def _core(dsn: str) -> Iterator[Caller]:
    with _sqlalchemy(dsn).connect() as connection:
        yield Caller(connection, connection.commit, connection.rollback)


@_kind("SQLAlchemy Connection AUTOCOMMIT")
def _core_autocommit(dsn: str) -> Iterator[Caller]:
    with _sqlalchemy(dsn, isolation_level="AUTOCOMMIT").connect() as connection:
        yield Caller(connection, connection.commit, connection.rollback, own=True)


@_kind("SQLAlchemy begin()")
def _core_begun(dsn: str) -> Iterator[Caller]:
    with _sqlalchemy(dsn).connect() as connection:
        transaction = connection.begin()
        yield Caller(connection, transaction.commit, transaction.rollback)


@_kind("SQLAlchemy Session")
def _session(dsn: str) -> Iterator[Caller]:
    with Session(_sqlalchemy(dsn)) as session:
        yield Caller(session, session.commit, session.rollback)


@_kind("SQLAlchemy Session begin_nested()")
def _nested(dsn: str) -> Iterator[Caller]:
    with Session(_sqlalchemy(dsn)) as session:
        session.begin_nested()
        yield Caller(session, session.commit, session.rollback)


@_kind("SQLAlchemy scoped_session")
def _scoped(dsn: str) -> Iterator[Caller]:
    session = scoped_session(sessionmaker(_sqlalchemy(dsn)))
    yield Caller(session, session.commit, session.rollback)
    session.remove()


@_kind("SQLAlchemy raw_connection()")
def _raw(dsn: str) -> Iterator[Caller]:
    connection = _sqlalchemy(dsn).raw_connection()
    yield Caller(connection, connection.commit, connection.rollback)
    connection.close()


TEXT = "Größe ключ 鍵 🔑 'q' \"d\" \\ \\N %s\ttab"  # a payload may hold a number that no type of PostgreSQL does
BIG = 123456789012345678901234567890


def sent(n: int, keyed: bool, tag: str) -> list[NewRecord]:
    """Records whose text and numbers must come back to the letter."""
    return [
        NewRecord(f'{{"n": {number}, "text": "ü🔑", "big": {BIG}, "at": "2026-01-02T03:04:05Z"}}'.encode(), key)
        for number in range(n)
        for key in [f"{tag} {TEXT} {number}" if keyed else None]
    ]


def stored(dsn: str, flow: str) -> list[NewRecord]:
    """What the flow has, in order; every record must be in one chunk that knows their number and bytes."""
    with psycopg.connect(dsn, client_encoding="UTF8") as connection:
        rows = connection.execute(
            "SELECT r.id, r.payload::text, r.key FROM rpa.record r JOIN rpa.flow f ON f.id = r.flow"
            " WHERE f.name = %s ORDER BY r.id",
            (flow,),
        ).fetchall()
        chunks = connection.execute(
            "SELECT c.lo, c.hi, c.n, c.bytes FROM rpa.chunk c JOIN rpa.flow f ON f.id = c.flow WHERE f.name = %s",
            (flow,),
        ).fetchall()
    listed = 0
    for low, high, n, size in chunks:
        inside = [payload for record_id, payload, _ in rows if low <= record_id <= high]
        assert (n, size) == (len(inside), sum(len(payload.encode()) for payload in inside))
        assert n <= 1000
        assert n == 1 or size <= 4 * 1024 * 1024
        listed += n
    assert listed == len(rows)
    return [NewRecord(payload.encode(), key) for _, payload, key in rows]
