"""The summary read from the database that scored the survey."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
import psycopg
import pytest

from rpa_core.store.connect import connect
from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.scoring import compile_scorer
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Row
from rpa_flows.summary.read import scored_responses
from rpa_flows.summary.tally import tally


class _Database(Protocol):
    @property
    def dsn(self) -> str: ...


def _scored(connection: psycopg.Connection[Any], flow: str, pairs: Sequence[tuple[dict[str, Any], Any]]) -> None:
    """Records of a flow with their results, as the ledger leaves them."""
    keys = [None] * len(pairs)
    payloads = [orjson.dumps(payload).decode() for payload, _ in pairs]
    connection.execute("SELECT rpa.enqueue(%s, %s::text[], %s::text[])", (flow, keys, payloads))
    connection.execute(
        """INSERT INTO rpa.result (record_id, chunk_id, period, data)
           SELECT id, 1, period, given.data::json
           FROM (SELECT id, period, row_number() OVER (ORDER BY id) AS place FROM rpa.record
                 WHERE flow = rpa.flow_id(%s)) AS records
           JOIN unnest(%s::text[]) WITH ORDINALITY AS given (data, place) USING (place)""",
        (flow, [orjson.dumps(data).decode() for _, data in pairs]),
    )


@pytest.mark.requirement("R9.4")
def test_the_database_gives_the_figures_of_the_survey_alone(
    database: _Database, anes96: Codebook, anes96_rows: list[Row]
) -> None:
    """944 real responses beside another survey's and another flow's: the tally is that of the 944."""
    validate, score = compile_validator(anes96), compile_scorer(anes96)
    answers = [validate(row).answers for row in anes96_rows]
    pairs = [({"answers": each}, {"survey": "anes96", **score(each)}) for each in answers]
    other: tuple[dict[str, Any], Any] = ({"answers": {}}, {"survey": "other"})
    with connect(database.dsn) as connection:
        _scored(connection, "rpa2", [*pairs, other])
        _scored(connection, "rpa3", [({"survey": "anes96"}, {"survey": "anes96"})])
        read = tally(anes96, scored_responses(connection, "anes96"))
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    assert read == tally(anes96, ((each, score(each)) for each in answers))
    assert read.total.n == 944


@pytest.mark.requirement("R9.4", "R1.2")
def test_the_codebook_is_the_one_that_the_flows_have(database: _Database, tmp_path: Path) -> None:
    """By variable, by file, by option; a survey without scored responses is named, and so is what is wrong."""
    (tmp_path / "dsn").write_text(f"{database.dsn}\n")
    (tmp_path / "book").write_text(f"{Path(__file__).parent.parent / 'surveys/satisfaction.toml'}\n")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("CONTAINER_")}
    environ = {**inherited, "CONTAINER_DATABASE_RPA_DB_URL_FILE": str(tmp_path / "dsn")}

    def summary(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "rpa_flows.summary", *args]
        return subprocess.run(program, env=environ | more, capture_output=True, text=True, timeout=60, check=False)

    ended = summary(CONTAINER_CODEBOOK_FILE=str(tmp_path / "book"))
    assert (ended.returncode, "the survey satisfaction is scored" in ended.stderr) == (0, True), ended.stderr
    assert "At risk" in ended.stdout
    assert "the survey anes96 is scored" in summary().stderr
    ended = summary("--codebook", "anes96", CONTAINER_CODEBOOK=str(tmp_path / "no-such.toml"))
    assert "the survey anes96 is scored" in ended.stderr
    ended = summary(CONTAINER_CODEBOOK=str(tmp_path / "no-such.toml"))
    assert (ended.returncode, "Traceback" in ended.stderr, "no-such.toml" in ended.stderr) == (78, False, True)
    ended = summary("--page", str(tmp_path / "no" / "page.html"))
    assert (ended.returncode, "Traceback" in ended.stderr) == (74, False)
