"""A worker with 512 MiB: whatever comes in, it stays below 400 MB, and all of it is done or refused."""

from __future__ import annotations

import gzip
import http.client
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rpa_core.errors import RpaError
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until

from .engine import Engine, Running

_TOKEN = "a-token-for-tests"
_LIMIT = "512MiB"
_BAR_MB = 400
_MIB = 2**20
_AT_ONCE = 8


class Watched:
    """A worker and the most memory it had since it was last asked."""

    def __init__(self, engine: Engine, spool: Path, **settings: Any) -> None:
        self.worker: Running = engine.start(
            intake_token=_TOKEN,
            memory_limit=_LIMIT,
            spool_dir=spool,
            spool_max=f"{3 * 1024}MiB",
            max_tries=1,
            lease_ttl=10,
            **settings,
        )
        self.worker.wait_started()
        self.port = self.worker.port
        self.peaks: dict[str, float] = {}

    def upload(self, body: Callable[[], Iterator[bytes]], kind: str, **headers: str) -> int:
        """The status of one upload that is sent again while it is told to come later."""
        given = {"authorization": f"Bearer {_TOKEN}", "content-type": kind, **headers}
        statuses: list[int] = []

        def sent() -> bool:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)) as connection:
                with suppress(BrokenPipeError, ConnectionResetError):  # the answer came before the end of the body
                    connection.request("POST", "/records/act", body(), given, encode_chunked=True)
                try:
                    statuses.append(connection.getresponse().status)
                except (OSError, http.client.HTTPException):
                    assert self.worker.process.running, self.worker.process.log_text()[-4000:]
                    return False
            return statuses[-1] != 429

        until(sent, 900, "an upload to be taken or refused for good", every_s=0.2)
        return statuses[-1]

    def at_once(self, count: int, body: Callable[[], Iterator[bytes]], kind: str, **headers: str) -> list[int]:
        """Statuses of so many equal uploads, eight at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as clients:
            return list(clients.map(lambda _: self.upload(body, kind, **headers), range(count)))

    def note(self, what: str) -> None:
        """Read the peak, in MB, and begin anew."""
        process = Path("/proc") / str(self.worker.process.pid)
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peaks[what] = int(line.split()[1]) * 1024 / 1e6
        (process / "clear_refs").write_text("5")


def bomb(rows: int, width: int) -> Callable[[], Iterator[bytes]]:
    """A kilobyte of gzip: eight columns with names of `width` characters, and rows of eight bytes."""
    header = ",".join(f"{number:03d}" + "a" * (width - 3) for number in range(8))
    packed = gzip.compress((header + "\n" + (",,,,,,,x\n" * rows)).encode())
    return lambda: iter((packed,))


def lines(mib: int, packed: bool = False) -> Callable[[], Iterator[bytes]]:
    """NDJSON of so many MiB, in records of 64 KiB; packed it is a hundredth of that."""
    rand = random.Random(1)
    line = b'{"r":"%s","x":"' + b"x" * (64 * 1024 - 419) + b'"}\n'

    def plain() -> Iterator[bytes]:
        for _ in range(mib):
            yield b"".join(line % f"{rand.getrandbits(1600):0400x}".encode() for _ in range(16))

    if not packed:
        return plain
    whole = gzip.compress(b"".join(plain()), 6)
    return lambda: iter((whole,))


@pytest.mark.slow
@pytest.mark.requirement("R6.5", "N3")
def test_512_mib_are_enough_for_whatever_comes_in(
    private_engine: Engine,
    private_postgres: EmbeddedPostgres,
    tmp_path: Path,
    counted: Callable[[int, int], int],
    record_property: Callable[[str, object], None],
) -> None:
    """CSV bombs, records of 1 MB, uploads of 64 MiB at once, plain and packed, and all that through the spool."""
    engine, spool = private_engine, tmp_path / "spool"
    rows, records, mib = counted(50, 1000), counted(100, 1000), counted(8, 64)
    bombs = ((130_000, rows), (125_000, min(rows, 200)))  # a record beyond the limit, and one just below it
    watched = Watched(engine, spool)
    watched.note("start")
    for width, lines_of_it in bombs:
        statuses = watched.at_once(4, bomb(lines_of_it, width), "text/csv", **{"content-encoding": "gzip"})
        assert set(statuses) <= {202, 413, 422}
        watched.note(f"bombs of {width}")
    _settle(engine, 900)
    watched.note("bombs, worked on")
    with connect(engine.dsn) as connection, connection.transaction():
        big = (NewRecord(b'{"x":"' + b"x" * 1_000_000 + b'"}', f"big{number}") for number in range(records))
        assert enqueue(connection, "act", big).accepted == records
    _settle(engine, 900)
    watched.note("records of 1 MB")
    assert set(watched.at_once(_AT_ONCE, lines(mib), "application/x-ndjson")) == {202}
    watched.note("uploads")
    packed = lines(mib, packed=True)
    assert set(watched.at_once(_AT_ONCE, packed, "application/x-ndjson", **{"content-encoding": "gzip"})) == {202}
    watched.note("packed uploads")
    _settle(engine, 900)
    watched.note("uploads, worked on")

    private_postgres.stop("immediate")
    watched.worker.process.wait_for_log("the breaker of rpa_db is open", 30)
    for width, lines_of_it in bombs:
        statuses = watched.at_once(4, bomb(lines_of_it, width), "text/csv", **{"content-encoding": "gzip"})
        assert set(statuses) <= {202, 413, 422}
    kept = watched.at_once(_AT_ONCE, lines(mib), "application/x-ndjson")
    assert set(kept) == {202}
    watched.note("uploads into the spool")
    private_postgres.start()
    taken = _AT_ONCE * mib * 16 * 3 + records
    until(lambda: _stored(engine) >= taken, 900, "the spool to be loaded", engine.describe, every_s=0.2)
    watched.note("uploads out of the spool")
    _settle(engine, 900)
    watched.note("the spool's, worked on")

    for what, peak in watched.peaks.items():
        record_property(what, round(peak))
    assert watched.worker.process.running
    assert watched.worker.process.log_text().count("worker.started") == 1
    assert max(watched.peaks.values()) <= _BAR_MB, watched.peaks


def _stored(engine: Engine) -> int:
    """Records of the uploads and the large ones; 0 while the server is on its way back."""
    try:
        ((count,),) = engine.ask("SELECT count(*) FROM rpa.record WHERE key IS NULL OR key LIKE 'big%%'")
    except (psycopg.Error, RpaError):
        return 0
    return int(count)


def _settle(engine: Engine, timeout_s: float) -> None:
    def left() -> bool:
        try:
            return engine.unfinished() > 0
        except (psycopg.Error, RpaError):  # on its way back
            return True

    until(lambda: not left(), timeout_s, "every record to have an outcome", engine.describe, every_s=0.2)
