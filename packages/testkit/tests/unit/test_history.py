"""The history of a run, written and read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rpa_testkit.history.entries import Entry, Header, Kind, Outcome
from rpa_testkit.history.reader import HISTORY, History, HistoryError
from rpa_testkit.history.writer import HistoryWriter

_HEADER = Header(run_id="r", scenario="s", driver="process", seed=1, started_at="now", checkers=("no-lost",))


@pytest.mark.requirement("R9.1")
def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Header and lines, in order, numbered from 1; an outcome comes back as its fields."""
    outcome = Outcome(1, 1, 0, 0, "worker-1", "worker-1:abc", 0.5, 1.5)
    writer = HistoryWriter(tmp_path / HISTORY, _HEADER)
    writer.add("producer-1", Kind.INVOKE, "enqueue", 0, 100, t=0.25)
    writer.extend("observer", Kind.OUTCOME, "record", [(0, outcome), ("odd", outcome)], t=2.0)
    writer.close()
    history = History.open(tmp_path)
    assert history.header == _HEADER
    assert list(history) == [
        Entry(1, 0.25, "producer-1", "invoke", "enqueue", 0, 100),
        Entry(2, 2.0, "observer", "outcome", "record", 0, [*outcome]),
        Entry(3, 2.0, "observer", "outcome", "record", "odd", [*outcome]),
    ]


@pytest.mark.requirement("R9.1")
def test_a_killed_tester_leaves_what_it_wrote(tmp_path: Path) -> None:
    """Nothing waits in a buffer: the line is in the file when `add` returns."""
    writer = HistoryWriter(tmp_path / HISTORY, _HEADER)
    writer.add("runner", Kind.MARK, "begun")
    assert [entry.op for entry in History.open(tmp_path)] == ["begun"]
    writer.close()


@pytest.mark.requirement("R9.1")
def test_threads_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    """Every line is whole and every number comes once, in order."""
    writer = HistoryWriter(tmp_path / HISTORY, _HEADER)

    def write(actor: str) -> None:
        for number in range(200):
            writer.extend(actor, Kind.PROBE, "lease", [(number, "x" * 50), (number, "y" * 50)])

    threads = [threading.Thread(target=write, args=(f"a{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert [entry.seq for entry in History.open(tmp_path)] == list(range(1, 8 * 400 + 1))


@pytest.mark.requirement("R9.1")
@pytest.mark.parametrize(
    ("text", "says"),
    [(b"", "does not begin"), (b"[]\n", "does not begin"), (b'{"format": 9}\n', "format 9"), (b"{}\n", "format None")],
)
def test_what_is_no_history_is_named(tmp_path: Path, text: bytes, says: str) -> None:
    """The message names the file and what is wrong."""
    (tmp_path / HISTORY).write_bytes(text)
    with pytest.raises(HistoryError, match=says):
        History.open(tmp_path)


@pytest.mark.requirement("R9.1")
def test_a_torn_tail_is_said(tmp_path: Path) -> None:
    """A line cut off by a crash is an error with its number, not the end."""
    writer = HistoryWriter(tmp_path / HISTORY, _HEADER)
    writer.add("runner", Kind.MARK, "begun")
    writer.close()
    file = tmp_path / HISTORY
    file.write_bytes(file.read_bytes() + b'[2, 3.5, "runn')
    with pytest.raises(HistoryError, match=r"history\.jsonl:3 cannot be read"):
        list(History.open(tmp_path))


@pytest.mark.requirement("R9.1")
def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    """The message says what to give."""
    with pytest.raises(HistoryError, match="give a run's folder"):
        History.open(tmp_path)
