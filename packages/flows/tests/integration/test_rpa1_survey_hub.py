"""rpa1 and survey_hub: each valid response is stored once, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import orjson
import psycopg
import pytest

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.errors import SchemaError, TransientError
from rpa_core.processing.flow import FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Outcome, SetAside
from rpa_core.store.database import Database
from rpa_flows.generator import Row
from rpa_flows.migrations import migrate_survey_hub
from rpa_flows.rpa1 import FLOW
from rpa_flows.rpa1.flow import ingest, open_ingest
from rpa_flows.rpa1.hub import SurveyHub
from rpa_flows.rpa1.settings import Rpa1Settings


class _Database(Protocol):
    @property
    def dsn(self) -> str: ...


class _Server(Protocol):
    def dsn(self, dbname: str = ...) -> str: ...
    def stop(self, mode: str = ...) -> None: ...
    def start(self) -> Any: ...


Open = Callable[..., FlowContext]


def _migrated(dsn: str) -> str:
    migrate_survey_hub(dsn)
    return dsn


@pytest.fixture
def hub_dsn(survey_hub: _Database) -> str:
    """survey_hub with its schema."""
    return _migrated(survey_hub.dsn)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens rpa1 as the runtime does; closed at the end of the test."""
    with ExitStack() as stack:

        def open_rpa1(dsn: str, checkpoints: Checkpoints | None = None) -> FlowContext:
            settings = Rpa1Settings(codebook="anes96")
            opening = OpenContext(
                flow="rpa1",
                settings=settings,
                databases={"survey_hub": Database("survey_hub", dsn)},
                checkpoints=checkpoints or Checkpoints(),
            )
            return FlowContext(flow="rpa1", resources=stack.enter_context(open_ingest(opening)), settings=settings)

        yield open_rpa1


def _record(number: int, payload: Any, key: str | None = None) -> Record:
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return Record(number, key, raw)


def _stored(dsn: str) -> dict[tuple[str, str], Any]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT survey, key, response FROM public.responses").fetchall()
    return {(survey, key): response for survey, key, response in rows}


def _reasons(outcome: Outcome) -> tuple[str, ...]:
    assert isinstance(outcome, SetAside), outcome
    return outcome.reasons


@pytest.mark.requirement("R9.4")
def test_all_real_responses_are_stored_and_handed_on(hub_dsn: str, opened: Open, anes96_rows: list[Row]) -> None:
    """944 rows in one batch: 944 stored under the record's id, and the same answers go to rpa2."""
    outcomes = ingest([_record(n, row) for n, row in enumerate(anes96_rows)], opened(hub_dsn))
    stored = _stored(hub_dsn)
    assert len(stored) == 944
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, Done)
        assert outcome.data["key"] == f"record:{number}"
        assert stored["anes96", f"record:{number}"] == outcome.data["answers"]
    assert FLOW.next_flow == "rpa2"


@pytest.mark.requirement("R8.7")
def test_bad_responses_stop_no_other(hub_dsn: str, opened: Open, anes96_rows: list[Row]) -> None:
    """Broken JSON, a wrong value and a good row in one batch: two set aside with reasons, one stored."""
    bad = {**anes96_rows[0], "selfLR": "12", "vote": ""}
    outcomes = ingest([_record(1, b"{"), _record(2, bad), _record(3, anes96_rows[0], "w3")], opened(hub_dsn))
    assert "not JSON" in _reasons(outcomes[0])[0]
    assert _reasons(outcomes[1]) == ("selfLR: 12 is outside 1 to 7", "vote: required, but missing")
    assert isinstance(outcomes[2], Done)
    assert list(_stored(hub_dsn)) == [("anes96", "w3")]


@pytest.mark.requirement("R8.2")
def test_the_same_records_again_change_nothing(hub_dsn: str, opened: Open, anes96_rows: list[Row]) -> None:
    """A second worker that gets the same records after a crash: same outcomes, same rows, same times."""
    records = [_record(n, row) for n, row in enumerate(anes96_rows[:100])]
    first = ingest(records, opened(hub_dsn))
    with psycopg.connect(hub_dsn) as connection:
        before = connection.execute("SELECT key, received_at, xmin FROM public.responses ORDER BY 1").fetchall()
        assert ingest(records, opened(hub_dsn)) == first
        after = connection.execute("SELECT key, received_at, xmin FROM public.responses ORDER BY 1").fetchall()
    assert len(after) == 100
    assert before == after


@pytest.mark.requirement("R8.2")
def test_every_answer_is_recognised_when_it_comes_again(hub_dsn: str) -> None:
    """What jsonb gives back equals what was stored, for numbers at the edges and text of every kind."""
    hub = SurveyHub(Database("survey_hub", hub_dsn), "edges")
    numbers = {"huge": 1e300, "tiny": 5e-324, "zero": -0.0, "third": 1 / 3, "whole": 2**53, "none": None, "yes": True}
    responses = {"k'\\ \u2028": {**numbers, "text": '\u00e9 \U0001f600 \\ " \t'}}
    assert hub.store(responses) == {}
    assert hub.store(responses) == responses
    hub.close()


@pytest.mark.requirement("R8.7")
def test_another_response_under_a_key_in_use_is_set_aside(hub_dsn: str, opened: Open, anes96_rows: list[Row]) -> None:
    """In a later batch and in the same one: the first stays, the reason names the key and what differs."""
    context = opened(hub_dsn)
    row = {**anes96_rows[0], "respondent": "r1"}
    other = {**row, "age": "37", "educ": "4"}
    first, again, same_batch = ingest([_record(1, row), _record(2, row), _record(3, other)], context)
    (later,) = ingest([_record(4, other)], context)
    assert isinstance(first, Done)
    assert first == again
    for conflict in (same_batch, later):
        assert (
            "key 'r1' of survey anes96 already holds another response (it differs in age, educ)"
            in (_reasons(conflict)[0])
        )
    assert _stored(hub_dsn)["anes96", "r1"]["age"] == 36


@pytest.mark.requirement("R1.3")
def test_a_database_without_the_table_is_noticed_at_the_start(survey_hub: _Database, opened: Open) -> None:
    """No record is claimed for it, and the message says what to run; migrating twice is harmless."""
    with pytest.raises(SchemaError, match=r"run `python -m rpa_flows\.migrations`"):
        opened(survey_hub.dsn)
    assert migrate_survey_hub(survey_hub.dsn) == ["0001_responses"]
    assert migrate_survey_hub(survey_hub.dsn) == []
    opened(survey_hub.dsn)


@pytest.mark.requirement("R8.2")
def test_the_responses_are_committed_when_the_effect_is_done(
    hub_dsn: str, opened: Open, anes96_rows: list[Row]
) -> None:
    """At FLOW_EFFECT_DONE, where a test kills the worker, survey_hub has the batch for everyone to see."""
    seen: list[int] = []

    class Watching(Checkpoints):
        def reach(self, point: Point) -> None:
            if point is Point.FLOW_EFFECT_DONE:
                seen.append(len(_stored(hub_dsn)))

    ingest([_record(n, row) for n, row in enumerate(anes96_rows[:5])], opened(hub_dsn, Watching()))
    assert seen == [5]


@pytest.mark.requirement("R6.4", "R9.1")
def test_workers_with_the_same_keys_in_any_order_neither_deadlock_nor_double(hub_dsn: str) -> None:
    """Two workers store the same 4,000 keys at once, one of them backwards: nobody fails, every row is there once."""
    responses = {f"r{number:05d}": {"age": number} for number in range(4000)}
    backwards = dict(reversed(responses.items()))
    barrier = threading.Barrier(2)

    def store(batch: dict[str, Any]) -> int:
        hub = SurveyHub(Database("survey_hub", hub_dsn), "anes96")
        try:
            hub.check()
            barrier.wait(timeout=20)
            present = hub.store(batch)
        finally:
            hub.close()
        assert all(present[key] == responses[key] for key in present)
        return len(present)

    with ThreadPoolExecutor(2) as threads:
        already_there = sum(threads.map(store, (responses, backwards)))
    assert already_there == 4000
    assert len(_stored(hub_dsn)) == 4000


@pytest.mark.requirement("R2.5", "R8.1")
def test_an_outage_is_raised_as_transient_and_the_next_batch_works(
    private_postgres: _Server, opened: Open, anes96_rows: list[Row]
) -> None:
    """PostgreSQL is stopped hard and started again: transient errors while away, no restart of the flow needed."""
    dsn = _migrated(private_postgres.dsn())
    context = opened(dsn)
    batch = [_record(n, row) for n, row in enumerate(anes96_rows[:3])]
    assert all(isinstance(outcome, Done) for outcome in ingest(batch[:1], context))
    private_postgres.stop("immediate")
    for _ in range(2):  # the broken connection, then the refused one
        with pytest.raises((psycopg.OperationalError, TransientError)):
            ingest(batch, context)
    private_postgres.start()
    assert all(isinstance(outcome, Done) for outcome in ingest(batch, context))
    assert len(_stored(dsn)) == 3
