"""Every way in, on every kind of connection, under hostile settings of role and database.

What is asked each time: what was accepted is stored to the letter and processed once; what was refused is not there.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from psycopg.conninfo import make_conninfo

from rpa_core.errors import RpaError
from rpa_core.formats import Format
from rpa_core.health.intake import StoreIntake
from rpa_core.health.intake_api import Upload
from rpa_core.runtime.loading import LoadPlan, load
from rpa_core.store import lookup
from rpa_core.store.connect import connect
from rpa_core.store.database import Database as Connections
from rpa_core.store.intake import NewRecord, Rejected, enqueue, set_aside
from rpa_core.store.ledger import Ledger
from rpa_core.store.migrate import migrate, status
from rpa_core.store.sequences import sequences
from rpa_core.store.values import ChunkOutcome, DeadLetter
from rpa_testkit.databases import Database, Databases

from .entrance_kinds import KINDS, TEXT, sent, stored

SETTINGS: dict[str, dict[str, str]] = {
    "German dates": {"datestyle": "German, DMY"},
    "SQL dates": {"datestyle": "SQL, DMY", "intervalstyle": "sql_standard"},
    "another time zone": {"timezone": "Asia/Kathmandu", "intervalstyle": "iso_8601"},
    "bytea as escapes": {"bytea_output": "escape"},
    "few digits": {"extra_float_digits": "-15"},
    "no search_path": {"search_path": ""},
    "a search_path to nowhere": {"search_path": "nowhere"},
    "repeatable read": {"default_transaction_isolation": "repeatable read"},
    "serializable": {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    "read uncommitted": {"default_transaction_isolation": "read uncommitted"},
    "read only": {"default_transaction_read_only": "on"},
    "Latin-1": {"client_encoding": "LATIN1"},
    "SQL_ASCII": {"client_encoding": "SQL_ASCII"},
    "Shift-JIS": {"client_encoding": "SJIS"},
    "arrays without nulls": {"array_nulls": "off"},
    "null equals null": {"transform_null_equals": "on"},
    "backslashes in strings": {"standard_conforming_strings": "off", "backslash_quote": "off"},
    "row security": {"row_security": "off"},
    "a replica's role": {"session_replication_role": "replica", "event_triggers": "off"},
    "commits not waited for": {"synchronous_commit": "off"},
    "jit": {"jit": "on", "jit_above_cost": "0", "jit_optimize_above_cost": "0", "jit_inline_above_cost": "0"},
    "parallel": {"debug_parallel_query": "on", "parallel_setup_cost": "0", "min_parallel_table_scan_size": "0"},
    "generic plans": {"plan_cache_mode": "force_generic_plan", "enable_partition_pruning": "off"},
    "custom plans": {"plan_cache_mode": "force_custom_plan", "constraint_exclusion": "off"},
    "no index scans": {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off"},
    "no joins by hash": {"enable_hashjoin": "off", "enable_mergejoin": "off", "join_collapse_limit": "1"},
    "little memory": {"work_mem": "64kB", "temp_buffers": "800kB", "hash_mem_multiplier": "1"},
    "plpgsql takes variables": {"plpgsql.variable_conflict": "use_variable"},
    "plpgsql takes columns": {"plpgsql.variable_conflict": "use_column"},
    "plpgsql's extra errors": {"plpgsql.extra_errors": "all", "plpgsql.check_asserts": "off"},
    "every notice": {"client_min_messages": "debug5"},
    "errors end the session": {"exit_on_error": "on"},
    "short statements": {"statement_timeout": "4ms"},
    "short locks": {"lock_timeout": "1ms"},
    "short transactions": {"transaction_timeout": "10ms"},
    "no idle transactions": {"idle_in_transaction_session_timeout": "5ms"},
    "no idle sessions": {"idle_session_timeout": "20ms"},
    "another compression": {"default_toast_compression": "pglz", "xmloption": "document"},
    "local numbers": {"lc_numeric": "C", "lc_monetary": "C", "lc_time": "C"},
    "unknown settings": {"myapp.tenant": "5", "rpa.anything": "off"},
}
_MAY_REFUSE = {
    "read only",
    "errors end the session",
    "short statements",
    "short locks",
    "short transactions",
    "no idle transactions",
    "no idle sessions",
}
_ROLE = "rpa_test_hostile"
_SQL = "SELECT accepted FROM rpa.enqueue(%(flow)s, ARRAY[{keys}]::text[], ARRAY[{payloads}]::text[])"


class Entrance:
    """A database with its settings, and what was accepted by each flow of it."""

    def __init__(self, dsn: str, admin: str) -> None:
        self.dsn = dsn
        self.admin = admin
        self.accepted: dict[str, list[NewRecord]] = {}
        self.refusals: dict[str, str] = {}

    def put(self, flow: str, records: list[NewRecord], way: Callable[[str], int]) -> None:
        """Try a way in; whatever it says must be so: all of it is stored, or nothing."""
        assert flow not in self.accepted
        try:
            assert way(flow) == len(records)
        except (psycopg.Error, sqlalchemy.exc.DBAPIError, RpaError) as error:
            self.refusals[flow] = repr(error)
            assert stored(self.admin, flow) in ([], records)  # an error of the commit itself leaves both
            records = stored(self.admin, flow)
        self.accepted[flow] = records
        assert stored(self.admin, flow) == records


@pytest.fixture(params=["role", "database"])
def entrance(request: pytest.FixtureRequest, databases: Databases, setting: str) -> Iterator[Entrance]:
    """A database of its own, with the setting on it or on the role that comes."""
    with databases.migrated() as database, connect(database.dsn) as admin:
        role = sql.Identifier(f"{_ROLE}_{database.name[-8:]}")
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(role))
        where, name = {
            "role": (sql.SQL("ROLE"), role),
            "database": (sql.SQL("DATABASE"), sql.Identifier(database.name)),
        }[request.param]
        everything = admin.execute("SELECT array_agg(name) FROM pg_settings").fetchone()
        assert everything is not None
        for variable, value in SETTINGS[setting].items():
            if "." in variable or variable in everything[0]:  # of this version
                admin.execute(
                    sql.SQL("ALTER {} {} SET {} = {}").format(
                        where,
                        name,
                        sql.Identifier(*variable.split(".")) if "." not in variable else sql.SQL(variable),
                        sql.Literal(value) if value else sql.SQL("''"),
                    )
                )
        try:
            user = role.as_string().strip('"')
            yield Entrance(make_conninfo(database.dsn, user=user), _plain(database))
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


def _plain(database: Database) -> str:
    """The administrator's own session, on which no setting of the database falls."""
    options = " ".join(f"-c {name}={value}" for name, value in _DEFAULTS.items())
    return make_conninfo(database.dsn, options=options, client_encoding="UTF8")


_DEFAULTS = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read\\ committed",
    "datestyle": "ISO",
    "exit_on_error": "off",
    **dict.fromkeys(
        (
            "statement_timeout",
            "lock_timeout",
            "transaction_timeout",
            "idle_session_timeout",
            "idle_in_transaction_session_timeout",
        ),
        "0",
    ),
}


def _by_python(entrance: Entrance, kind: str, records: list[NewRecord]) -> Callable[[str], int]:
    def way(flow: str) -> int:
        with KINDS[kind](entrance.dsn) as caller:
            accepted = enqueue(caller.connection, flow, records).accepted
            caller.commit()
        return accepted

    return way


def _by_sql(entrance: Entrance, records: list[NewRecord]) -> Callable[[str], int]:
    """As a program in another language would: literals in the text of the statement, sent as UTF-8."""

    def way(flow: str) -> int:
        with psycopg.connect(entrance.dsn, client_encoding="UTF8", autocommit=True) as connection:
            statement = sql.SQL(_SQL).format(
                keys=sql.SQL(",").join(sql.Literal(record.key) for record in records),
                payloads=sql.SQL(",").join(sql.Literal(record.payload.decode()) for record in records),
            )
            row = (
                psycopg.ClientCursor(connection)
                .execute(sql.SQL("").join([sql.SQL(statement.as_string(connection).replace("%(flow)s", f"'{flow}'"))]))
                .fetchone()
            )
        assert row is not None
        return int(row[0])

    return way


def _by_load(entrance: Entrance, form: Format, text: bytes) -> Callable[[str], int]:
    def way(flow: str) -> int:
        plan = LoadPlan(flow=flow, form=form, key_field="id")
        with connect(entrance.dsn) as connection:
            return load(connection, plan, io.BytesIO(text), "file").accepted

    return way


def _by_http(entrance: Entrance, text: bytes) -> Callable[[str], int]:
    def way(flow: str) -> int:
        pool = Connections("rpa_db", entrance.dsn).pool(max_size=1, timeout_s=5, application_name="test")
        with pool:
            upload = Upload(
                flow=flow, form=Format.NDJSON, body=iter([text]), key_field="id", idempotency_key=f"key {TEXT}"
            )
            return StoreIntake(pool, [flow]).accept(upload).accepted

    return way


def _rows(n: int) -> list[dict[str, str]]:
    return [{"id": f"ü{number}🔑", "text": TEXT.replace("\t", " ")} for number in range(n)]


def _ndjson(n: int) -> tuple[list[NewRecord], bytes]:
    lines = [orjson.dumps(row) for row in _rows(n)]
    return [NewRecord(line, row["id"]) for line, row in zip(lines, _rows(n), strict=True)], b"\n".join(lines)


def _csv(n: int) -> tuple[list[NewRecord], bytes]:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "text"])
    writer.writeheader()
    writer.writerows(_rows(n))
    return _ndjson(n)[0], text.getvalue().encode()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.requirement("R8.7", "R3.1", "R7.7")
def test_what_is_accepted_is_stored_and_processed_once(
    entrance: Entrance, setting: str, counted: Callable[[int, int], int]
) -> None:
    """All ways in under one setting; callers' connections of every kind in the full form, else of two in turns."""
    kinds = list(KINDS)
    first = list(SETTINGS).index(setting) * 7
    for number in range(counted(2, len(kinds))):
        kind = kinds[(first + number) % len(kinds)]
        if setting == "SQL_ASCII" and kind.startswith("SQLAlchemy"):
            continue  # it cannot connect
        for n in (2, 40):
            keyed = (number + n) % 4 < 2
            entrance.put(
                f"kind{kinds.index(kind)}.{n}", records := sent(n, keyed, "k"), _by_python(entrance, kind, records)
            )
    for n in (2, 40):
        for keyed in (True, False):
            records = sent(n, keyed, "k")
            entrance.put(f"sql{n}.{keyed}".lower(), records, _by_sql(entrance, records))
        records, text = _ndjson(n)
        entrance.put(f"ndjson{n}", records, _by_load(entrance, Format.NDJSON, text))
        entrance.put(f"http{n}", records, _by_http(entrance, text))
        records, text = _csv(n)
        entrance.put(f"csv{n}", records, _by_load(entrance, Format.CSV, text))
    if setting not in _MAY_REFUSE:
        assert entrance.refusals == {}
        assert migrate(entrance.dsn) == []
        assert all(one.applied_at is not None for one in status(entrance.dsn))
        _process(entrance)
    elif setting == "read only":
        assert all(not records for records in entrance.accepted.values())


def _process(entrance: Entrance) -> None:
    """Every record is read to the letter, refused once, put back, done, and handed on to one flow, once."""
    with connect(entrance.dsn) as connection:
        assert set_aside(connection, "unreadable", [Rejected(b'"x"', f"{TEXT}", (f"why {TEXT}",))]) == 1
        (letter,) = lookup.dead_letters(connection, "unreadable")
        assert (letter.key, letter.reasons, letter.payload) == (TEXT, [f"why {TEXT}"], b'"x"')
        assert not any(position.behind for position in sequences(connection))
        total = 0
        for flow, records in entrance.accepted.items():
            assert _complete(connection, flow, records, dead=True) == len(records)
            assert lookup.put_back(connection, flow) == len(records)
            assert _complete(connection, flow, records, dead=False) == len(records)
            total += len(records)
    handed_on = Counter(record.payload for record in stored(entrance.admin, "next"))
    assert handed_on == Counter(record.payload for records in entrance.accepted.values() for record in records)
    with connect(entrance.admin) as admin:
        done = "SELECT count(*), count(DISTINCT record_id) FROM rpa.result"
        assert admin.execute(done).fetchone() == (total, total)


def _complete(connection: psycopg.Connection[Any], flow: str, records: list[NewRecord], *, dead: bool) -> int:
    ledger = Ledger(connection, flow=flow, owner="matrix", ttl_s=60)
    claim = ledger.claim(records=10_000, chunks=100)
    assert claim is not None
    read = [content.records for content in ledger.read(claim)]
    assert [NewRecord(row.payload, row.key) for rows in read for row in rows] == records
    outcomes = []
    for chunk, rows in zip(claim.chunks, read, strict=True):
        outcome = ChunkOutcome(chunk=chunk)
        if dead:
            outcome.dead = [DeadLetter(row.id, "rejected", 1, (f"no {TEXT}",)) for row in rows]
        else:
            outcome.results = [(row.id, row.payload) for row in rows]
            outcome.emits = {"next": [(row.id, NewRecord(row.payload, f"{flow} {row.id}")) for row in rows]}
        outcomes.append(outcome)
    assert len(ledger.complete(claim, outcomes)) == len(claim.chunks)
    return sum(len(rows) for rows in read)


@pytest.mark.requirement("R8.7")
def test_the_page_names_every_kind_and_setting() -> None:
    """docs/entrances.md is the table of what is tried here."""
    page = (Path(__file__).parents[4] / "docs" / "entrances.md").read_text()
    missing = [name for name in (*KINDS, *SETTINGS) if f"| {name} |" not in page]
    assert missing == []
