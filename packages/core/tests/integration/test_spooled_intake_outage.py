"""Uploads while PostgreSQL is away: taken, kept on the disk, and in the ledger once when it is back."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until

from .engine import Engine, Running

_TOKEN = "a-token-for-tests"


class Reply(NamedTuple):
    """The answer to one upload."""

    status: int
    body: Any
    headers: http.client.HTTPMessage


def _post(worker: Running, body: bytes, *, key: str | None = None, query: str = "", **headers: str) -> Reply:
    """One upload of NDJSON. Raises OSError or HTTPException where no answer comes."""
    given = {"content-type": "application/x-ndjson", "authorization": f"Bearer {_TOKEN}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        given["idempotency-key"] = key
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", f"/records/act{query}", body, given)
        response = connection.getresponse()
        return Reply(response.status, json.loads(response.read()), response.headers)


def _lines(upload: int, n: int = 5) -> bytes:
    return b"".join(b'{"n":%d}\n' % (upload * 100 + number) for number in range(n))


def _start(engine: Engine, volume: Path | None, **options: Any) -> Running:
    if volume is not None:
        options["spool_dir"] = volume
    return engine.start(intake_token=_TOKEN, **options)


def _without_a_database(worker: Running, server: EmbeddedPostgres) -> None:
    worker.wait_started()
    until(lambda: worker.get("/health/ready").status == 200, 20, "readiness", worker.process.log_text)
    server.stop("immediate")
    worker.process.wait_for_log("the breaker of rpa_db is open", 20)


def _numbers(engine: Engine) -> list[int]:
    """The `n` of every record there is, in the order of their ids."""
    return [n for (n,) in engine.ask("SELECT (payload->>'n')::int FROM rpa.record ORDER BY id")]


def _wait_for(engine: Engine, n: int) -> list[int]:
    until(lambda: len(_numbers(engine)) >= n, 40, f"{n} records to be loaded", engine.describe)
    assert engine.settle() == {"done": n}
    return _numbers(engine)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The folder that outlives a worker."""
    return tmp_path / "spool"


@pytest.mark.requirement("R2.5", "R8.1", "R8.7")
def test_uploads_go_on_through_an_outage_and_a_kill(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """Twenty uploads, half of them with keys and sent again, a SIGKILL in between: every record once, in order."""
    engine = private_engine
    first = _start(engine, volume)
    _without_a_database(first, private_postgres)
    for number in range(10):
        reply = _post(first, _lines(number), key=f"up-{number}" if number % 2 else None)
        assert (reply.status, reply.body["spooled"], reply.body["accepted"]) == (202, 5, None)
    again = _post(first, _lines(3), key="up-3")
    assert (again.status, again.body["spooled"], again.headers["idempotency-replayed"]) == (202, 5, "true")
    first.process.kill()
    first.process.wait(20)

    second = _start(engine, volume)
    for number in range(10, 20):
        assert _post(second, _lines(number), key=f"up-{number}" if number % 2 else None).status == 202
    again = _post(second, _lines(5), key="up-5")
    assert again.headers["idempotency-replayed"] == "true", "what an earlier life took is known"
    other = _post(second, _lines(99), key="up-7")
    assert (other.status, other.body["type"]) == (422, "urn:rpa:problem:idempotency-key-reused")
    private_postgres.start()
    numbers = _wait_for(engine, 100)
    assert numbers == [upload * 100 + number for upload in range(20) for number in range(5)]
    late = _post(second, _lines(9), key="up-9")
    assert (late.status, late.body["accepted"], late.headers["idempotency-replayed"]) == (202, 5, "true")
    assert set(engine.seen().values()) == {1}
    keys = engine.ask("SELECT count(*) FROM rpa.record WHERE key IS NULL")
    assert keys == [(50,)], "a key of ours is no key of a record"


@pytest.mark.requirement("R8.1", "R8.7")
@pytest.mark.parametrize("point", ["spooling", "spooled"])
def test_an_upload_whose_answer_is_lost_is_sent_again(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path, point: str
) -> None:
    """Killed before or after it was on the disk: the client repeats it under its key, and it is there once."""
    engine = private_engine
    first = _start(engine, volume, checkpoint=f"{point}:1:kill")
    _without_a_database(first, private_postgres)
    with pytest.raises((OSError, http.client.HTTPException)):
        _post(first, _lines(1), key="once")
    assert first.process.wait(20) == -9
    second = _start(engine, volume)
    reply = _post(second, _lines(1), key="once")
    assert (reply.status, reply.body["spooled"]) == (202, 5)
    assert ("idempotency-replayed" in reply.headers) == (point == "spooled")
    private_postgres.start()
    assert _wait_for(engine, 5) == [100, 101, 102, 103, 104]


@pytest.mark.requirement("R8.1", "R8.7")
@pytest.mark.parametrize("key", [None, "mine"])
def test_a_crash_between_commit_and_acknowledgement_loads_once(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path, key: str | None
) -> None:
    """The upload is committed and still in the spool: the next life finds it loaded."""
    engine = private_engine
    first = _start(engine, volume, checkpoint="spool-loaded:1:kill")
    _without_a_database(first, private_postgres)
    assert _post(first, _lines(1), key=key).status == 202
    assert _post(first, _lines(2)).status == 202
    private_postgres.start()
    assert first.process.wait(30) == -9
    second = _start(engine, volume)
    assert _wait_for(engine, 10) == [*range(100, 105), *range(200, 205)]
    assert "it had been loaded before" in second.process.log_text()


@pytest.mark.requirement("R8.1", "R2.2")
def test_sigterm_during_the_outage_leaves_uploads_to_the_next_life(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """Exit 0, and the next life loads what was kept even where its intake is closed."""
    engine = private_engine
    first = _start(engine, volume)
    _without_a_database(first, private_postgres)
    assert _post(first, _lines(1)).status == 202
    first.process.terminate()
    assert first.process.wait(20) == 0
    private_postgres.start()
    engine.start(spool_dir=volume)
    assert _wait_for(engine, 5) == [100, 101, 102, 103, 104]


@pytest.mark.requirement("R8.7", "R6.5")
def test_an_upload_is_checked_as_always(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """Bad lines, too large a body and a truncated one are refused and not kept; a packed one is kept."""
    engine = private_engine
    worker = _start(engine, volume, intake_max_body=100_000, intake_max_line=50_000)
    _without_a_database(worker, private_postgres)
    reply = _post(worker, b'{"n":1}\n{broken\n{"n":2}\n')
    assert (reply.status, reply.body["error_count"], reply.body["errors"][0]["line"]) == (422, 1, 2)
    assert _post(worker, gzip.compress(b'{"n":1}\n' * 20_000), content_encoding="gzip").status == 413
    assert _post(worker, gzip.compress(_lines(1)), content_encoding="gzip").body["spooled"] == 5
    assert _post(worker, b'{"id":"a","n":7}\n{"id":"a","n":7}\n', query="?key=id").body["spooled"] == 2
    assert worker.metric('rpa_intake_records_total{flow="act",result="spooled"}') == 7
    assert worker.metric('rpa_intake_records_total{flow="act",result="rejected"}') == 1
    private_postgres.start()
    assert _wait_for(engine, 6) == [*range(100, 105), 7]
    assert worker.metric('rpa_intake_records_total{flow="act",result="accepted"}') == 6
    assert worker.metric('rpa_intake_records_total{flow="act",result="duplicate"}') == 1


@pytest.mark.requirement("R2.2", "R5.3", "R6.5")
def test_without_room_or_volume_the_client_keeps_its_records(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """503 with Retry-After, as without a spool; what was taken is loaded. Ready only where uploads can be taken."""
    engine = private_engine
    roomy, bare = _start(engine, volume, spool_max=1024 * 1024), _start(engine, None)
    bare.wait_started()
    _without_a_database(roomy, private_postgres)
    until(lambda: bare.get("/health/ready").status == 503, 20, "readiness to fail", bare.process.log_text)
    refused = _post(bare, _lines(1))
    assert (refused.status, refused.body["type"]) == (503, "urn:rpa:problem:store-unavailable")

    def seen() -> bool:
        return roomy.metric('rpa_dependency_up{dependency="rpa_db"}') == 0

    until(seen, 20, "the outage to be seen", roomy.process.log_text)
    assert roomy.get("/health/ready").status == 200
    assert "kept in the spool" in roomy.get("/health").body.decode()
    line = b'{"n":1,"text":"%s"}\n' % (b"x" * 30_000)
    replies = [_post(roomy, line) for _ in range(14)]
    taken = [reply for reply in replies if reply.status == 202]
    assert 5 <= len(taken) <= 12
    assert {reply.status for reply in replies} == {202, 503}
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert "no room" in replies[-1].body["detail"]
    assert _post(roomy, line * 100).status == 503
    until(lambda: roomy.get("/health/ready").status == 503, 20, "readiness to fail", roomy.process.log_text)
    private_postgres.start()
    _wait_for(engine, len(taken))


@pytest.mark.requirement("R6.5")
def test_what_waits_in_the_spool_counts_for_the_high_water(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """Twenty records may wait: the fifth upload of five is sent away with 429, and comes in when they are done."""
    engine = private_engine
    worker = _start(engine, volume, high_water=20, low_water=10)
    _without_a_database(worker, private_postgres)
    assert [_post(worker, _lines(number)).status for number in range(5)] == [202, 202, 202, 202, 429]
    private_postgres.start()
    _wait_for(engine, 20)
    until(lambda: _post(worker, _lines(4)).status == 202, 20, "the gate to open", worker.process.log_text)
    _wait_for(engine, 25)
