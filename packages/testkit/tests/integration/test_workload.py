"""Producers: what is kept for the faults that are to come."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rpa_core.store.migrate import migrate
from rpa_testkit.databases import Database
from rpa_testkit.history.entries import Header
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.runner.workload import Producers
from rpa_testkit.scenario.model import Workload
from rpa_testkit.waits import until

_HEADER = Header(
    run_id="run",
    scenario="made",
    driver="process",
    seed=1,
    started_at="2026-01-01T00:00:00+00:00",
    workload={},
    steady_state={},
    topology={},
    machine={},
)


@contextmanager
def _producing(
    dsn: str, folder: Path, *, batch: int, to_come: Callable[[], int], rate: float = 0.0
) -> Iterator[Producers]:
    """A thousand records, as fast as they are accepted where no rate is given."""
    migrate(dsn)
    workload = Workload(records=1_000, batch=batch, rate=rate)
    with closing(HistoryWriter(folder / "history.jsonl", _HEADER)) as history:
        producers = Producers(workload, dsn, history, random.Random, remaining_s=lambda: 0.0, to_come=to_come)
        try:
            yield producers
        finally:
            producers.stop()


@pytest.mark.requirement("R3.3")
def test_the_last_fault_meets_work_however_late_it_strikes(database: Database, tmp_path: Path) -> None:
    """All but a batch for each fault to come is enqueued at once; each strike sets a batch free."""
    to_come = 3
    with _producing(database.dsn, tmp_path, batch=10, to_come=lambda: to_come) as producers:
        for struck in range(4):
            free = 970 + 10 * struck
            until(lambda: producers.enqueued >= free, 20, f"{free} records", lambda: f"{producers.enqueued}")  # noqa: B023 - now
            assert producers.enqueued == free
            to_come -= 1
        producers.finish()
    assert producers.enqueued == 1_000


@pytest.mark.requirement("R3.3")
def test_little_is_kept_where_faults_are_many(database: Database, tmp_path: Path) -> None:
    """A tenth of the records at most: the others go on their way."""
    to_come = 90
    with _producing(database.dsn, tmp_path, batch=100, to_come=lambda: to_come) as producers:
        until(lambda: producers.enqueued >= 900, 20, "all but a tenth", lambda: f"{producers.enqueued}")
        assert not producers.done
        to_come = 0
        producers.finish()
    assert producers.enqueued == 1_000


@pytest.mark.requirement("R3.3")
def test_a_strike_is_answered_at_once(database: Database, tmp_path: Path) -> None:
    """A batch comes with each, though by the rate the next one would be due in a quarter of an hour."""
    to_come = 3
    with _producing(database.dsn, tmp_path, batch=10, to_come=lambda: to_come, rate=0.01) as producers:
        for enqueued in (10, 20, 30):
            until(lambda: producers.enqueued >= enqueued, 20, f"{enqueued} records", lambda: f"{producers.enqueued}")  # noqa: B023 - now
            assert producers.enqueued == enqueued
            to_come -= 1
