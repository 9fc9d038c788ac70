"""Effects inside the completing transaction: what they break is isolated, what they change in the session is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from rpa_core.errors import TransientError
from rpa_core.store.connect import connect
from rpa_core.store.effects import Effects
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import ChunkOutcome, Claim, DeadLetter
from rpa_testkit.databases import Database

_N = 4


class _Desk:
    """One ledger over a claim of four records, the second of which is odd."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.ledger = self._open()
        with connect(dsn) as connection, connection.transaction():
            connection.execute("CREATE TABLE public.effect (id bigint)")
            enqueue(connection, "act", [NewRecord(b"1", f"k{number}") for number in range(_N)])
        claim = self.ledger.claim(records=1, chunks=1)
        assert claim is not None
        self.claim: Claim = claim
        ((rows, _),) = self.ledger.read(claim)
        self.ids = [row.id for row in rows]
        self.odd = self.ids[1]
        self.end = ChunkOutcome(chunk=claim.chunks[0], results=[(number, b"1") for number in self.ids])

    def _open(self) -> Ledger:
        return Ledger.open(self.dsn, flow="act", owner="one", ttl_s=60)

    def complete(self, write: Callable[[Any, Sequence[int]], object], **more: Any) -> int:
        """Complete as a worker does, with a new connection where one is lost; how often one was."""
        effects = Effects(write, **more)
        for lost in range(40):
            try:
                assert self.ledger.complete(self.claim, [self.end], effects) == {self.claim.chunks[0].id}
            except psycopg.OperationalError:
                self.ledger.close()
                self.ledger = self._open()
            else:
                return lost
        raise AssertionError("never completed")

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.ledger.connection.execute(query).fetchall()

    def reason(self) -> str:
        """Why the odd record, and it alone, is a dead letter; by the tables."""
        assert self.ask("SELECT record_id FROM rpa.result ORDER BY 1") == [(n,) for n in self.ids if n != self.odd]
        assert self.ask("SELECT id FROM public.effect ORDER BY 1") == [(n,) for n in self.ids if n != self.odd]
        assert self.ask("SELECT n_ok, n_moved, n_dead FROM rpa.chunk_done") == [(_N - 1, 0, 1)]
        ((number, kind, reasons),) = self.ask("SELECT record_id, kind, reasons FROM rpa.dead_letter")
        assert (number, kind) == (self.odd, "unstorable")
        assert self.end.refused == [DeadLetter(number, kind, 1, tuple(reasons))]
        return str(reasons[0])


@pytest.fixture
def desk(database: Database) -> Iterator[_Desk]:
    desk = _Desk(database.dsn)
    yield desk
    desk.ledger.close()


def _insert(connection: Any, ids: Sequence[int]) -> None:
    connection.cursor().executemany("INSERT INTO public.effect VALUES (%s)", [(number,) for number in ids])


@pytest.mark.requirement("R8.2", "R8.7")
@pytest.mark.parametrize(
    "statements",
    [
        ("COMMIT", "BEGIN", "INSERT INTO public.effect VALUES (-1)", "COMMIT"),
        ("ROLLBACK", "BEGIN", "INSERT INTO public.effect VALUES (-1)", "COMMIT"),
        ("COMMIT AND CHAIN", "INSERT INTO public.effect VALUES (-1)"),
        ("ROLLBACK AND CHAIN", "INSERT INTO public.effect VALUES (-1)"),
        ("ROLLBACK; BEGIN", "INSERT INTO public.effect VALUES (-1)"),
        ("PREPARE TRANSACTION 'mine'", "INSERT INTO public.effect VALUES (-1)"),
    ],
    ids=lambda statements: statements[0],
)
def test_effects_that_end_the_transaction_end_nothing_else(desk: _Desk, statements: Sequence[str]) -> None:
    """PostgreSQL refuses their COMMIT, a ROLLBACK is seen; also where the effect hides the error and goes on."""

    def write(connection: Any, ids: Sequence[int]) -> None:
        _insert(connection, ids)
        if desk.odd in ids:
            for each in statements:
                try:
                    connection.execute(each)
                except psycopg.Error:
                    continue

    assert desk.complete(write) == 0
    assert "it ended the transaction" in desk.reason()


@pytest.mark.requirement("R8.2", "R8.7")
def test_effects_that_swallow_an_error_are_told_of_savepoints(desk: _Desk) -> None:
    """The transaction is aborted though nothing was raised."""

    def write(connection: Any, ids: Sequence[int]) -> None:
        _insert(connection, ids)
        if desk.odd in ids:
            try:
                connection.execute("SELECT 1 / 0")
            except psycopg.Error:
                return

    assert desk.complete(write) == 0
    assert "(DivisionByZero: division by zero); put a savepoint" in desk.reason()


@pytest.mark.requirement("R8.2", "R8.7")
def test_effects_that_are_slow_between_statements_name_the_limit(desk: _Desk) -> None:
    """In Python, before the first statement, between two or after the last."""

    def write(connection: Any, ids: Sequence[int]) -> None:
        _insert(connection, ids)
        if desk.odd in ids:
            threading.Event().wait(0.05)

    assert desk.complete(write, limit_s=0.02) == 0
    assert "s between two statements, more than 0.02 s" in desk.reason()


@pytest.mark.requirement("R8.2", "R8.7")
def test_effects_that_break_their_connection_are_found_after_some_tries(desk: _Desk) -> None:
    """By chance a connection breaks once; three times in the same call, the call is to blame."""

    def write(connection: Any, ids: Sequence[int]) -> None:
        _insert(connection, ids)
        if desk.odd in ids:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert desk.complete(write) == 3 * 3  # four records, two, one
    assert "the connection broke in each of 3 calls" in desk.reason()


@pytest.mark.requirement("R2.5", "R8.2")
def test_a_connection_that_breaks_once_blames_no_record(desk: _Desk) -> None:
    """The next try completes all four."""
    broken = iter([True])

    def write(connection: Any, ids: Sequence[int]) -> None:
        if next(broken, False):
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        _insert(connection, ids)

    assert desk.complete(write) == 1
    assert desk.ask("SELECT n_ok, n_dead FROM rpa.chunk_done") == [(_N, 0)]
    assert desk.ask("SELECT count(*) FROM public.effect") == [(_N,)]


@pytest.mark.requirement("R2.5", "R8.2")
@pytest.mark.parametrize("error", [TransientError("the mail server is away"), psycopg.OperationalError("no route")])
def test_what_effects_need_and_is_away_concerns_no_record(desk: _Desk, error: Exception) -> None:
    """Nothing is written, nothing is set aside; later it is completed."""

    def away(connection: Any, ids: Sequence[int]) -> None:
        raise error

    with pytest.raises(TransientError):
        desk.ledger.complete(desk.claim, [desk.end], Effects(away))
    assert desk.ask("SELECT count(*) FROM rpa.chunk_done") == [(0,)]
    desk.complete(_insert)
    assert desk.ask("SELECT n_ok, n_dead FROM rpa.chunk_done") == [(_N, 0)]


@pytest.mark.requirement("R8.2", "R8.7")
def test_nothing_of_the_session_stays(desk: _Desk) -> None:
    """Settings, role, temporary tables, listening, locks, prepared statements, cursors; the connection object."""
    state = (
        "SELECT current_setting('search_path'), current_setting('datestyle'), current_setting('client_encoding'),"
        " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),"
        " (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.mine'),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    )
    before = desk.ask(state)
    kept: list[Any] = []

    def write(connection: Any, ids: Sequence[int]) -> None:
        kept.append(connection)
        _insert(connection, ids)
        connection.row_factory = psycopg.rows.dict_row
        connection.adapters.register_loader("int8", psycopg.types.string.TextLoader)
        connection.execute("SELECT 1", prepare=True)
        for statement in (
            "CREATE TEMP TABLE mine (n integer)",
            "LISTEN mine",
            "SELECT pg_advisory_lock(7)",
            "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
            "SET search_path = pg_catalog",
            "SET DateStyle = German",
            "SET client_encoding = 'LATIN1'",
            "SET LOCAL statement_timeout = '1ms'",
        ):
            connection.execute(statement)

    desk.complete(write)
    assert desk.ask(state) == before
    assert desk.ask("SELECT n_ok FROM rpa.chunk_done") == [(_N,)]
    with pytest.raises(psycopg.InterfaceError, match="the effects are over"):
        kept[0].execute("SELECT 1")


@pytest.mark.requirement("R8.2", "R8.7")
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SET ROLE pg_monitor", "another role"),
        ("SET TRANSACTION READ ONLY", "read only"),
        ("INSERT INTO nowhere VALUES (1)", 'UndefinedTable: relation "nowhere" does not exist'),
        ("SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(9)", "a statement took longer than it may"),
        ("SET LOCAL lock_timeout = 'soon'", "InvalidParameterValue"),
    ],
)
def test_an_effect_that_cannot_be_completed_is_its_records(desk: _Desk, statement: str, reason: str) -> None:
    """Its own table that is missing is not rpa's schema; a timeout of its own is no outage."""

    def write(connection: Any, ids: Sequence[int]) -> None:
        _insert(connection, ids)
        if desk.odd in ids:
            connection.execute(statement)

    assert desk.complete(write) == 0
    assert reason in desk.reason()
