"""What is made of workers' logs and of what Prefect has of them, and of spools on the disk."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from rpa_testkit.runner import spools
from rpa_testkit.runner.lives import lives_of
from rpa_testkit.runner.reports import compare

pytestmark = pytest.mark.requirement("R3.1", "R8.5")


def _line(message: str, pid: int = 7, action: str = "", *, logger: str = "rpa.runtime", level: str = "info") -> str:
    told = {"log.level": level, "log.logger": logger, "process.pid": pid, "message": message}
    return json.dumps(told | ({"event.action": action} if action else {}))


def _started(incarnation: str, pid: int = 7) -> str:
    return _line(f"probe 0.1.0 started as {incarnation}, probes on port 1", pid, "worker.started")


def test_lives_begin_with_their_names_and_end_in_order_or_not() -> None:
    """Several of one process, too; what another process says before it begins belongs to nobody."""
    log = "\n".join(
        [
            _line("listening"),
            _started("w:aaa"),
            _line("working"),
            "Traceback that is no JSON",
            _line("for Prefect only", logger="rpa.prefect"),
            _line("too quiet", level="debug"),
            _line("probe drained", action="worker.stopped"),
            _line("listening"),
            _started("w:bbb"),
            _line("working"),
            _line("listening", pid=8),
            _started("w:ccc", pid=8),
        ]
    )
    lives = lives_of("w", log)
    assert [(life.incarnation, life.drained) for life in lives] == [("w:aaa", True), ("w:bbb", False), ("w:ccc", False)]
    assert lives[0].lines[1:] == ["working", "probe drained"]
    assert len(lives[1].lines) == 2


_TOLD = ("started", "open", "closed", "open", "drained")


@pytest.mark.parametrize(
    ("kept", "twice", "missing", "disordered"),
    [
        (["started", "open", "closed", "open", "drained"], 0, 0, False),
        (["listening", "started", "open", "closed", "open", "drained", "left out"], 0, 0, False),
        (["started", "open", "closed"], 0, 2, False),
        (["started", "closed", "open", "drained"], 0, 1, False),
        (["started", "closed", "open", "open", "drained"], 0, 1, True),
        (["started", "drained", "open", "closed", "open"], 0, 3, True),
        (["listening"], 0, 5, False),
        ([], 0, 5, False),
    ],
)
def test_lines_are_compared_in_order(kept: list[str], twice: int, missing: int, disordered: bool) -> None:
    """Lines that are repeated in the life are told apart by their place."""
    found = compare(_TOLD, [(f"t{at}", text) for at, text in enumerate(kept)])
    assert (found["twice"], found["missing"], found["disordered"]) == (twice, missing, disordered)


def test_a_line_that_is_there_again_is_counted() -> None:
    """Same text and same time: a batch that was sent twice. A traceback below a line belongs to it."""
    kept = [("t0", "started"), ("t1", "failed\nTraceback"), ("t1", "failed\nTraceback"), ("t2", "drained")]
    found = compare(("started", "failed", "drained"), kept)
    assert found == {"lines": 4, "twice": 1, "missing": 0, "disordered": False}


def _spool(path: Path, waiting: int, dead: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE entry (kind TEXT)")
        made.execute("CREATE TABLE dead (kind TEXT, reason TEXT)")
        made.executemany("INSERT INTO entry VALUES (?)", [("prefect",)] * waiting)
        made.executemany("INSERT INTO dead VALUES (?, ?)", [("intake", "no such flow")] * dead)
    made.close()


def test_spools_are_read_from_copies(tmp_path: Path) -> None:
    """What waits and what is dead, by kind; drained is when nothing waits and nobody dead has left one."""
    assert spools.drained(tmp_path, 0)
    _spool(tmp_path / "worker" / "probe.a.spool", 2, 1)
    found = spools.read(tmp_path / "worker" / "probe.a.spool")
    assert (found["waiting"], found["dead"]) == ({"prefect": 2}, {"intake": 1})
    assert found["reasons"] == {"intake 0": "no such flow"}
    assert not spools.drained(tmp_path, 1)
    _spool(tmp_path / "worker" / "probe.b.spool", 0, 0)
    (tmp_path / "worker" / "probe.a.spool").unlink()
    assert spools.drained(tmp_path, 1)
    assert not spools.drained(tmp_path, 0)
    (tmp_path / "worker" / "probe.c.spool").write_text("no database")
    assert not spools.drained(tmp_path, 9)
