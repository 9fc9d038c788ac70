"""An upload whose loading fails in the middle, and kept uploads on their way into the ledger; on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rpa_core.errors import StoreUnavailable
from rpa_core.formats.formats import Format
from rpa_core.health.intake import StoreIntake
from rpa_core.health.intake_api import Accepted, BadLines, KeyReused, NotLoadedYet, Upload
from rpa_core.health.spooled_intake import SpooledIntake, UploadLoader
from rpa_core.health.waiting_uploads import KIND, WaitingUploads
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import DeadEntry, Delivered, Later, Refused, SpoolFull, Verdict
from rpa_core.store.connect import connect
from rpa_testkit.databases import Database

_GONE = psycopg.OperationalError("server closed the connection unexpectedly")


class _Connections:
    """A new connection for each use, which breaks where the test says: "before", "inside" or "after" the COMMIT."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.breaks: str | None = None

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        if self.breaks == "before":
            raise _GONE
        with connect(self._dsn) as connection:
            if self.breaks == "inside":
                with connect(self._dsn) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))
            yield connection
        if self.breaks == "after":
            raise _GONE


@dataclass
class Setup:
    """An intake over a spool, its loader, and a look into the database."""

    dsn: str
    connections: _Connections
    spools: Spools
    waiting: WaitingUploads
    intake: SpooledIntake
    loader: UploadLoader
    away: list[bool]

    def accept(self, body: bytes, key: str | None = None, **options: Any) -> Accepted:
        """One upload, in pieces."""
        pieces = iter([body[at : at + 100] for at in range(0, len(body), 100)])
        return self.intake.accept(Upload(flow="act", form=Format.NDJSON, body=pieces, idempotency_key=key, **options))

    def load(self) -> list[Verdict]:
        """Deliver what waits, as the courier does: the verdicts."""
        verdicts = []
        for entry in self.spools.own.entries(KIND):
            verdict = self.loader.deliver(self.spools.own, entry)
            verdicts.append(verdict)
            if isinstance(verdict, Delivered):
                self.spools.own.acknowledge(entry.id)
            elif isinstance(verdict, Refused):
                self.spools.own.bury(entry, verdict.reason)
                self.waiting.drop_dead(DeadEntry(entry, verdict.reason, 0.0))
        return verdicts

    def numbers(self) -> list[int]:
        """The `n` of every committed record, in order."""
        with connect(self.dsn) as connection:
            return [n for (n,) in connection.execute("SELECT (payload->>'n')::int FROM rpa.record ORDER BY id")]


@pytest.fixture
def setup(database: Database, tmp_path: Path) -> Iterator[Setup]:
    connections = _Connections(database.dsn)
    limits: dict[str, Any] = {"max_body_bytes": 8_000_000, "max_line_bytes": 100_000}
    spools = open_spools(
        tmp_path, flow="act", label="one", incarnation="1", max_bytes=2**24, max_age_s=3600, reserve_bytes=0
    )
    waiting, away = WaitingUploads(spools), [False]
    intake = SpooledIntake(StoreIntake(connections, ["act"], **limits), spools.own, waiting, away=lambda: away[0])
    loader = UploadLoader(StoreIntake(connections, (), **limits), waiting)
    yield Setup(database.dsn, connections, spools, waiting, intake, loader, away)
    spools.close()


def _lines(*numbers: int) -> bytes:
    return b"".join(b'{"n":%d}\n' % n for n in numbers)


@pytest.mark.requirement("R8.7")
def test_with_a_database_nothing_is_kept(setup: Setup) -> None:
    """The way of every day: committed, counted, no entry."""
    assert setup.accept(_lines(1, 2)) == Accepted(flow="act", accepted=2, duplicates=0)
    assert setup.accept(_lines(3), "k") == Accepted(flow="act", accepted=1, duplicates=0)
    assert setup.spools.own.entries(KIND) == []
    assert setup.numbers() == [1, 2, 3]


@pytest.mark.requirement("R8.1", "R8.7")
@pytest.mark.parametrize(("header", "numbers", "layout"), [(True, [2], 1), (False, [1, 2], 2)])
def test_how_an_upload_is_to_be_read_is_kept_with_it(
    setup: Setup, header: bool, numbers: list[int], layout: int
) -> None:
    """A first line that is a record; one with a header line is kept as older versions can read it."""
    setup.away[0] = True
    body = iter([b"n\n2\n" if header else b"1\n2\n"])
    upload = Upload(flow="act", form=Format.CSV, body=body, header=header)
    assert setup.intake.accept(upload) == Accepted(flow="act", spooled=len(numbers))
    (entry,) = setup.spools.own.entries(KIND)
    assert json.loads(entry.body.partition(b"\n")[0])["format"] == layout
    setup.away[0] = False
    assert setup.load() == [Delivered()]
    with connect(setup.dsn) as connection:
        column = "n" if header else "1"
        found = connection.execute("SELECT (payload->>%s)::int FROM rpa.record ORDER BY id", (column,))
        assert [number for (number,) in found] == numbers


@pytest.mark.requirement("R8.1", "R2.5")
@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("breaks", ["before", "inside"])
def test_what_cannot_have_been_committed_is_kept(setup: Setup, breaks: str, key: str | None) -> None:
    """No connection, or one that was lost before the COMMIT was sent: the whole upload is kept, and loads once."""
    body = _lines(*range(300))
    setup.connections.breaks = breaks
    assert setup.accept(body, key) == Accepted(flow="act", spooled=300)
    assert setup.numbers() == []
    assert isinstance(setup.load()[0], Later)
    setup.connections.breaks = None
    assert setup.load() == [Delivered()]
    assert setup.numbers() == list(range(300))
    assert setup.load() == []


@pytest.mark.requirement("R8.1", "R8.7")
def test_what_may_have_been_committed_is_kept_only_under_a_key(setup: Setup) -> None:
    """The COMMIT went through unheard: with a key the loader finds out, without one the client is told."""
    setup.connections.breaks = "after"
    with pytest.raises(StoreUnavailable):
        setup.accept(_lines(1))
    assert setup.accept(_lines(2, 3), "k") == Accepted(flow="act", spooled=2)
    setup.connections.breaks = None
    assert setup.load() == [Delivered()]
    assert setup.numbers() == [1, 2, 3]


@pytest.mark.requirement("R6.2", "R8.1")
def test_a_large_upload_is_not_held_in_memory_for_the_case(setup: Setup) -> None:
    """Beyond a megabyte what has passed is forgotten: lost in the middle, it is the client's to send again."""
    body = b'{"n":1,"text":"%s"}\n' % (b"x" * 50_000) * 40
    setup.connections.breaks = "after"
    with pytest.raises(StoreUnavailable):
        setup.accept(body, "k")
    assert setup.spools.own.entries(KIND) == []
    setup.connections.breaks = None
    assert setup.accept(body, "k") == Accepted(flow="act", accepted=40, replayed=True)


@pytest.mark.requirement("R8.7")
def test_a_key_that_waits_in_the_spool_is_known_to_direct_uploads(setup: Setup) -> None:
    """The database is back, the upload not loaded yet: the same body gets its answer, another one is refused."""
    setup.away[0] = True
    setup.accept(_lines(1, 2), "k")
    setup.away[0] = False
    assert setup.accept(_lines(1, 2), "k") == Accepted(flow="act", spooled=2, replayed=True)
    with pytest.raises(KeyReused):
        setup.accept(_lines(3), "k")
    assert setup.accept(_lines(4)).accepted == 1, "others need not wait"
    assert setup.load() == [Delivered()]
    assert setup.accept(_lines(1, 2), "k") == Accepted(flow="act", accepted=2, replayed=True)
    assert sorted(setup.numbers()) == [1, 2, 4]


@pytest.mark.requirement("R8.7")
def test_an_upload_under_a_key_of_another_one_is_set_aside(setup: Setup) -> None:
    """Another replica took the key meanwhile: a dead letter with the reason; the next upload is loaded."""
    setup.away[0] = True
    setup.accept(_lines(1), "k")
    setup.accept(_lines(2))
    other = StoreIntake(_Connections(setup.dsn), ["act"])
    other.accept(Upload(flow="act", form=Format.NDJSON, body=iter([_lines(9)]), idempotency_key="k"))
    refused, delivered = setup.load()
    assert isinstance(refused, Refused)
    assert "'k' was used for another request" in refused.reason
    assert delivered == Delivered()
    assert setup.numbers() == [9, 2]
    assert setup.waiting.count("act") == (0, 0)


@pytest.mark.requirement("R8.7")
def test_a_record_that_is_not_loaded_yet_is_not_said_to_be_missing(setup: Setup) -> None:
    """While uploads to the flow wait, an unknown key is answered with "not yet"."""
    setup.away[0] = True
    setup.accept(b'{"id":"a","n":1}\n', key_field="id")
    with pytest.raises(NotLoadedYet, match="1 uploads"):
        setup.intake.status("act", "a")
    assert setup.intake.status("other", "a") is None
    setup.load()
    found = setup.intake.status("act", "a")
    assert found is not None
    assert found.state == "ready"
    assert setup.intake.status("act", "b") is None


@pytest.mark.requirement("R8.7", "R6.5")
def test_room_is_promised_once(setup: Setup, tmp_path: Path) -> None:
    """What does not fit is refused before all of it is in memory; a bad line keeps nothing and gives its room back."""
    spools = open_spools(
        tmp_path / "small", flow="act", label="one", incarnation="1", max_bytes=2**20, max_age_s=3600, reserve_bytes=0
    )
    waiting = WaitingUploads(spools)
    store = StoreIntake(setup.connections, ["act"])
    intake = SpooledIntake(store, spools.own, waiting, away=lambda: True)
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b'{"n":1,"text":"%s"}\n' % (b"x" * 9_970)

    try:
        with pytest.raises(SpoolFull):
            intake.accept(Upload(flow="act", form=Format.NDJSON, body=endless()))
        assert read < 60
        for _ in range(20):
            with pytest.raises(BadLines):
                intake.accept(Upload(flow="act", form=Format.NDJSON, body=iter([b"{}\n" * 20_000, b"{broken\n"])))
        assert intake.bears() is not None
        assert spools.own.entries(KIND) == []
        assert intake.accept(Upload(flow="act", form=Format.NDJSON, body=iter([_lines(1)]))).spooled == 1
    finally:
        spools.close()
