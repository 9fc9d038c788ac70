"""Taking records in on top of the store: one upload, one transaction, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg_pool import PoolTimeout

from rpa_core.errors import StoreUnavailable
from rpa_core.formats.items import DEFAULT_MAX_LINE_BYTES
from rpa_core.health.intake_api import Accepted, BadLines, Gate, Hold, KeyInUse, KeyReused, StatusView, Upload
from rpa_core.health.reading import Reading, Stopped
from rpa_core.resilience.breaker import CircuitOpen
from rpa_core.store import intake as ledger
from rpa_core.store.connect import classify
from rpa_core.store.lookup import record_status

if TYPE_CHECKING:
    from rpa_core.observability.metrics import Metrics


class Connections(Protocol):
    """What gives connections: a pool, or something like it. Raises PoolTimeout or psycopg errors."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """One connection, for the time of the `with`."""
        ...


class StoreIntake:
    """`IntakeApi` over a connection pool, or what else gives connections.

    `flows` is asked at every request. `gate` is the backpressure; None lets everything in. Limits hold for the
    unpacked body as for the packed one. `twin_wait_s` is how long a request waits for an earlier one under the same
    idempotency key.
    """

    def __init__(
        self,
        pool: Connections,
        flows: Callable[[], Collection[str]] | Collection[str],
        *,
        gate: Gate | None = None,
        metrics: Metrics | None = None,
        max_body_bytes: int = 64 * 1024 * 1024,
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        chunk_size: int = 1000,
        notify: bool = True,
        twin_wait_s: float = 20.0,
    ) -> None:
        self._pool = pool
        self._flows = flows
        self._gate = gate
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_line_bytes = max_line_bytes
        self._chunk_size = chunk_size
        self._notify = notify
        self._twin_wait_ms = max(1, int(twin_wait_s * 1000))

    def flows(self) -> Collection[str]:
        """The flows that records may be posted to."""
        return self._flows() if callable(self._flows) else self._flows

    def admit(self, flow: str) -> Hold | None:
        """What the gate says."""
        return self._gate.admit(flow) if self._gate is not None else None

    def accept(self, upload: Upload) -> Accepted:
        """Load every record or none, in constant memory; see `IntakeApi.accept`."""
        return self.load(self.reading(upload))

    def reading(
        self, upload: Upload, remember: Callable[[int], bool] = lambda _: False, folder: Path | None = None
    ) -> Reading:
        """An upload as it will be read; see `Reading` for `remember` and `folder`."""
        return Reading(
            upload,
            max_body_bytes=self._max_body_bytes,
            max_line_bytes=self._max_line_bytes,
            remember=remember,
            folder=folder,
        )

    def load(self, reading: Reading) -> Accepted:
        """Load what is read. If PostgreSQL is away, `reading.committing` tells whether it may be committed."""
        try:
            done = self._load(reading.upload, reading)
        except Stopped:
            # The transaction is rolled back and its connection returned; the rest is only read to name what is wrong.
            raise self.bad_lines(reading) from None
        if not done.replayed:
            self.count(done.flow, accepted=done.accepted, duplicate=done.duplicates)
        return done

    def bad_lines(self, reading: Reading) -> BadLines:
        """What to answer to an upload in which a bad line was found."""
        error = reading.read_on()
        self.count(reading.upload.flow, rejected=error.count)
        return error

    def status(self, flow: str, key: str) -> StatusView | None:
        """Where the record is; see `IntakeApi.status`."""
        with self._connection() as connection:
            return record_status(connection, flow, key)

    def _load(self, upload: Upload, reading: Reading) -> Accepted:
        reading.wait_for_first()  # no connection is held for a client that has not sent anything yet
        key = upload.idempotency_key
        earlier, accepted, duplicates = None, 0, 0
        with self._connection() as connection:
            if key is not None:
                earlier = self._remember(connection, upload.flow, key)
            if earlier is None:
                accepted, duplicates = ledger.enqueue(
                    connection, upload.flow, reading.records(), chunk_size=self._chunk_size, notify=self._notify
                )
                if key is not None:
                    ledger.complete_request(connection, upload.flow, key, accepted, duplicates, digest=reading.digest())
            reading.committing = True
        if earlier is not None:
            return self._replay(upload, earlier, reading)
        return Accepted(flow=upload.flow, accepted=accepted, duplicates=duplicates)

    def _remember(self, connection: psycopg.Connection[Any], flow: str, key: str) -> ledger.RememberedRequest | None:
        """Claim the key. Its digest is only known at the end of the body, and is stored then."""
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{self._twin_wait_ms}ms",))
        try:
            return ledger.remember_request(connection, flow, key, b"")
        except psycopg.errors.LockNotAvailable as error:
            raise KeyInUse(
                f"another request under idempotency key {key!r} is still being worked on; "
                "send this one again to get its answer"
            ) from error

    def _replay(self, upload: Upload, earlier: ledger.RememberedRequest, reading: Reading) -> Accepted:
        """The key is known: the same body gets the first answer again, another one is a mistake."""
        reading.skip()
        check_same(upload, reading.digest(), earlier.digest)
        return Accepted(
            flow=upload.flow,
            accepted=earlier.accepted or 0,
            duplicates=earlier.duplicates or 0,
            replayed=True,
        )

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on a pooled connection: commits at the end, rolls back on any error."""
        try:
            with self._pool.connection() as connection, connection.transaction():
                yield connection
        except (PoolTimeout, CircuitOpen) as error:
            raise StoreUnavailable("no database connection came free in time, or PostgreSQL is away") from error
        except psycopg.Error as error:
            raise classify(error) from error

    def count(self, flow: str, **counts: int) -> None:
        """Add to the metric of what was taken in."""
        if self._metrics is not None:
            for result, count in counts.items():
                self._metrics.intake_records.labels(flow=flow, result=result).inc(count)


def check_same(upload: Upload, digest: bytes, earlier: bytes) -> None:
    """Raise KeyReused where a request under a known key is not the one that used it first."""
    if digest != earlier:
        raise KeyReused(
            f"idempotency key {upload.idempotency_key!r} was used for another request to flow {upload.flow!r} "
            "(its body, format or key field differs); nothing was loaded. Use a new key for new records"
        )
