"""Log lines on their way to Prefect: cheap to leave, in order, without secrets, bounded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from rpa_core.observability.redaction import Redactor
from rpa_core.prefect.lines import BATCH_CHARS, BATCH_LINES, RunLog


@pytest.fixture
def run_log() -> Iterator[tuple[RunLog, logging.Logger]]:
    handler = RunLog(logging.INFO, Redactor(["s3cret-value"]))
    logger = logging.getLogger("lines.of.a.test")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler, logger
    logger.removeHandler(handler)


Made = tuple[RunLog, logging.Logger]


@pytest.mark.requirement("R8.3")
def test_batches_are_full_and_in_order(run_log: Made) -> None:
    """At most 500 lines, the rest in the next one; a whole one is due at once; below the level nothing is kept."""
    handler, logger = run_log
    for number in range(BATCH_LINES + 20):
        logger.info("%d", number)
        logger.debug("not told")
        assert handler.due.is_set() == (number >= BATCH_LINES - 1)
    first, second = handler.take(), handler.take()
    assert [len(first), len(second)] == [BATCH_LINES, 20]
    assert [int(line.message) for line in (*first, *second)] == list(range(BATCH_LINES + 20))
    assert handler.take() == []
    assert handler.empty


@pytest.mark.requirement("R8.3")
def test_timestamps_of_a_run_are_strictly_increasing(run_log: Made) -> None:
    """Equal times and a clock that is set back: each line is later than the one before, by a microsecond at least."""
    handler, _ = run_log
    for created in (1000.0, 1000.0, 1000.5, 900.0, 1001.0):
        record = logging.LogRecord("a", logging.INFO, "", 0, "x", (), None)
        record.created = created
        handler.handle(record)
    assert [line.timestamp[17:] for line in handler.take()] == [
        "40.000000Z",
        "40.000001Z",
        "40.500000Z",
        "40.500001Z",
        "41.000000Z",
    ]


@pytest.mark.requirement("R8.3")
def test_lines_of_many_threads_keep_one_order(run_log: Made) -> None:
    """Four threads at once: nothing lost, times unique and sorted as they are taken."""
    handler, logger = run_log

    def log() -> None:
        for number in range(500):
            logger.info("%d", number)

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [line.timestamp for _ in range(4) for line in handler.take()]
    assert len(times) == 2000
    assert times == sorted(set(times))


@pytest.mark.requirement("R2.3")
def test_secrets_and_what_no_server_takes_are_gone(run_log: Made) -> None:
    """Registered values in message and traceback, NUL characters, lone surrogates and over-long lines."""
    handler, logger = run_log
    error = ValueError("s3cret-value")
    odd = "with s3cret-value\0 and \ud800"  # to the handler alone: a runner that captures logs cannot pass it on
    handler.handle(logging.LogRecord("a", logging.ERROR, "", 0, odd, None, (ValueError, error, None)))
    logger.info("x" * 60_000)
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "%d %d", (1,), None))
    first, second, third = handler.take()
    assert "s3cret" not in first.message
    assert first.message.startswith("with ******** and ?\n")
    assert first.message.endswith("ValueError: ********")
    assert len(second.message) <= 25_000
    assert "left out" in second.message
    assert "arguments do not fit" in third.message


@pytest.mark.requirement("R8.3")
def test_a_batch_is_bounded_in_size(run_log: Made) -> None:
    """Long lines make smaller batches."""
    handler, logger = run_log
    for _ in range(100):
        logger.info("y" * 20_000)
    sizes = []
    while lines := handler.take():
        sizes.append(sum(len(line.message) for line in lines))
    assert max(sizes) <= BATCH_CHARS
    assert sum(sizes) == 100 * 20_000


@pytest.mark.requirement("R8.3")
def test_who_carries_reports_is_not_reported_on() -> None:
    """No feedback: lines of the client, of the spool and of reporting are left out, those of others are not."""
    handler = RunLog(logging.DEBUG, Redactor())
    for name in ("httpx", "httpcore.http11", "rpa.prefect", "rpa.spool", "prefect.flow", "rpa.prefects", "rpa.worker"):
        handler.handle(logging.LogRecord(name, logging.ERROR, "", 0, "x", (), None))
    assert [line.name for line in handler.take()] == ["rpa.prefects", "rpa.worker"]


@pytest.mark.requirement("R8.3")
def test_too_many_lines_are_counted_not_kept(run_log: Made) -> None:
    """Nobody takes them: the newest are dropped, the number is said in their place; so is what could not be put."""
    handler, logger = run_log
    for number in range(10_100):
        logger.info("%d", number)
    taken = [line for _ in range(21) for line in handler.take()]
    assert [int(line.message) for line in taken[:-1]] == list(range(10_000))
    assert taken[-1].message == "100 lines are left out: more was logged than could be kept"
    handler.lost(3)
    assert handler.take() == []
    assert handler.take()[0].message.startswith("3 lines are left out")


@pytest.mark.requirement("R8.3")
def test_after_the_end_nothing_is_kept(run_log: Made) -> None:
    """Lines after the end are not the run's."""
    handler, logger = run_log
    handler.end()
    logger.info("too late")
    assert handler.take() == []
