"""A hand-on under a key that the other flow already has: kept, refused or renamed, and never silent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.finished import tell
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import ChunkOutcome, Claim
from rpa_testkit.databases import Database
from rpa_testkit.waits import until


class _Events(WorkerEvents):
    def __init__(self) -> None:
        self.known: list[tuple[str, int]] = []
        self.counts = [0, 0]

    def completed(self, *, done: int, moved: int, dead: int) -> None:
        self.counts = [self.counts[0] + done, self.counts[1] + dead]

    def handed_on_known(self, to: str, records: int) -> None:
        self.known.append((to, records))


class _Source:
    """A flow with records under some keys, each of them done and handed on to `sink`."""

    def __init__(self, dsn: str, flow: str, keys: Sequence[str], to: Sequence[str] = ("sink",)) -> None:
        self.flow = flow
        self.ledger = Ledger.open(dsn, flow=flow, owner="one", ttl_s=60)
        with connect(dsn) as connection, connection.transaction():
            enqueue(connection, flow, [NewRecord(b'"%s"' % flow.encode(), f"{key}") for key in keys])
        claim = self.ledger.claim(records=1, chunks=1)
        assert claim is not None
        self.claim: Claim = claim
        ((rows, _),) = self.ledger.read(claim)
        self.ids = [row.id for row in rows]
        emits = {flow: [(row.id, NewRecord(row.payload, row.key)) for row in rows] for flow in to}
        self.end = ChunkOutcome(chunk=claim.chunks[0], results=[(row.id, row.payload) for row in rows], emits=emits)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def complete(self, known_key: str) -> None:
        assert self.ledger.complete(self.claim, [self.end], None, known_key)

    def events(self) -> _Events:
        events = _Events()
        tell(events, self.flow, [self.end], {self.claim.chunks[0].id})
        return events


@pytest.fixture
def source(database: Database) -> Iterator[Callable[..., _Source]]:
    """Makes sources in the test's database."""
    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(_Source(database.dsn, *given, **more))


def _ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with connect(dsn) as connection:
        return connection.execute(query).fetchall()


_SINK = "SELECT key, payload FROM rpa.record r JOIN rpa.flow f ON f.id = r.flow WHERE f.name = 'sink' ORDER BY key"


@pytest.mark.requirement("R9.4", "R8.2")
def test_keep_counts_and_logs_what_is_not_handed_on(
    database: Database, source: Callable[..., _Source], caplog: pytest.LogCaptureFixture
) -> None:
    """The first one stays; the second flow's records are done, and it is said which were not handed on."""
    source("first", ["a", "b"]).complete("keep")
    second = source("second", ["b", "c"])
    second.complete("keep")
    assert [key for key, _ in _ask(database.dsn, _SINK)] == ["a", "b", "c"]
    with caplog.at_level(logging.WARNING):
        events = second.events()
    assert (events.known, events.counts) == ([("sink", 1)], [2, 0])
    assert "1 records were not handed on to sink, which already has their keys ('b')" in caplog.text
    assert source("third", ["d"]).events().known == []


@pytest.mark.requirement("R9.4", "R8.2")
def test_error_makes_dead_letters(database: Database, source: Callable[..., _Source]) -> None:
    """With everything of the record: no result, no hand-on to any flow; the others are done."""
    source("first", ["a", "b"]).complete("error")
    second = source("second", ["b", "c"], to=("sink", "side"))
    second.complete("error")
    assert [key for key, _ in _ask(database.dsn, _SINK)] == ["a", "b", "c"]
    assert _ask(database.dsn, _SINK.replace("'sink'", "'side'")) == [("c", "second")]
    ((number, kind, reasons),) = _ask(database.dsn, "SELECT record_id, kind, reasons FROM rpa.dead_letter")
    assert (number, kind) == (second.ids[0], "rejected")
    assert reasons == ["flow sink already has a record with the key 'b' (known_key='error')"]
    assert _ask(database.dsn, "SELECT n_ok, n_dead FROM rpa.chunk_done ORDER BY id") == [(2, 0), (1, 1)]
    assert second.events().counts == [1, 1]


@pytest.mark.requirement("R9.4", "R8.2")
def test_new_key_hands_on_under_a_key_of_its_own(database: Database, source: Callable[..., _Source]) -> None:
    """Derived from the flow and the record, so that it is the same however often the completion is tried."""
    source("first", ["a", "b"]).complete("new key")
    second = source("second", ["b", "c"])
    second.complete("new key")
    assert _ask(database.dsn, _SINK) == [
        ("a", "first"),
        ("b", "first"),
        (f"b~second.{second.ids[0]}", "second"),
        ("c", "second"),
    ]
    assert second.events().known == []


@pytest.mark.requirement("R9.4", "R8.2")
@pytest.mark.parametrize("policy", ["keep", "error", "new key"])
def test_the_same_key_twice_in_one_completion_counts(
    database: Database, source: Callable[..., _Source], policy: str
) -> None:
    """Two records, one key: as if the other flow had it."""
    twice = source("first", ["a", "b", "c"])
    twice.end.emits["sink"] = [(number, NewRecord(b'"x"', "same")) for number in twice.ids]
    twice.complete(policy)
    keys = [key for key, _ in _ask(database.dsn, _SINK)]
    ((dead,),) = _ask(database.dsn, "SELECT count(*) FROM rpa.dead_letter")
    assert (len(keys), dead, twice.events().known) == {
        "keep": (1, 0, [("sink", 2)]),
        "error": (1, 2, []),
        "new key": (3, 0, []),
    }[policy]


@pytest.mark.requirement("R9.4", "R8.2")
@pytest.mark.parametrize("policy", ["error", "new key"])
def test_a_key_that_appears_meanwhile_is_known_too(
    database: Database, source: Callable[..., _Source], policy: str
) -> None:
    """Another transaction has enqueued it and not committed: the completion waits for it, and looks again."""
    second = source("second", ["b"])
    with connect(database.dsn, autocommit=False) as other:
        enqueue(other, "sink", [NewRecord(b'"other"', "b")])
        thread = threading.Thread(target=second.complete, args=(policy,))
        thread.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until(lambda: bool(_ask(database.dsn, waiting)), 20, "the completion to wait for the other transaction")
        other.commit()
        thread.join(20)
    assert [payload for _, payload in _ask(database.dsn, _SINK)] == (
        ["other"] if policy == "error" else ["other", "second"]
    )
    assert _ask(database.dsn, "SELECT n_ok, n_dead FROM rpa.chunk_done") == [(0, 1) if policy == "error" else (1, 0)]
