"""Taking records in on top of the store: one upload, one transaction, all or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import PoolTimeout

from rpa_core.errors import StoreUnavailable
from rpa_core.formats.formats import read
from rpa_core.formats.gzipped import decompressed
from rpa_core.formats.items import DEFAULT_MAX_LINE_BYTES, BadLine, Item
from rpa_core.health.intake_api import Accepted, BadLines, BodyTooLarge, Gate, KeyInUse, KeyReused, StatusView, Upload
from rpa_core.store import intake as ledger
from rpa_core.store.connect import classify
from rpa_core.store.lookup import record_status

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from rpa_core.observability.metrics import Metrics

_SHOWN = 100


class _Stopped(Exception):
    """A bad line has come: nothing more is loaded."""


class StoreIntake:
    """`IntakeApi` over a connection pool.

    `flows` is asked at every request. `gate` is the backpressure; None lets everything in. Limits hold for the
    unpacked body as for the packed one. `twin_wait_s` is how long a request waits for an earlier one under the same
    idempotency key.
    """

    def __init__(
        self,
        pool: ConnectionPool[psycopg.Connection[Any]],
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

    def admit(self, flow: str) -> float | None:
        """What the gate says."""
        return self._gate.admit(flow) if self._gate is not None else None

    def accept(self, upload: Upload) -> Accepted:
        """Load every record or none; see `IntakeApi.accept`."""
        body = _Body(decompressed(upload.body, required=upload.gzip), self._max_body_bytes)
        items = read(
            body.stream,
            upload.form,
            key_field=upload.key_field,
            max_line_bytes=self._max_line_bytes,
            encoding=upload.encoding,
        )
        source = _Source(items, upload)
        try:
            done = self._load(upload, source, body)
        except _Stopped:
            # The transaction is rolled back and its connection returned; the rest is only read to name what is wrong.
            source.read_on()
            self._count(upload.flow, rejected=source.bad_count)
            raise BadLines(tuple(source.bad), source.bad_count) from None
        if not done.replayed:
            self._count(upload.flow, accepted=done.accepted, duplicate=done.duplicates)
        return done

    def status(self, flow: str, key: str) -> StatusView | None:
        """Where the record is; see `IntakeApi.status`."""
        with self._connection() as connection:
            return record_status(connection, flow, key)

    def _load(self, upload: Upload, source: _Source, body: _Body) -> Accepted:
        source.wait_for_first()  # no connection is held for a client that has not sent anything yet
        key = upload.idempotency_key
        earlier, accepted, duplicates = None, 0, 0
        with self._connection() as connection:
            if key is not None:
                earlier = self._remember(connection, upload.flow, key)
            if earlier is None:
                accepted, duplicates = ledger.enqueue(
                    connection, upload.flow, source.records(), chunk_size=self._chunk_size, notify=self._notify
                )
                if key is not None:
                    digest = _digest(upload, body)
                    ledger.complete_request(connection, upload.flow, key, accepted, duplicates, digest=digest)
        if earlier is not None:
            return self._replay(upload, earlier, body)
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

    def _replay(self, upload: Upload, earlier: ledger.RememberedRequest, body: _Body) -> Accepted:
        """The key is known: the same body gets the first answer again, another one is a mistake."""
        for _ in body.stream:  # only its digest matters
            pass
        if _digest(upload, body) != earlier.digest:
            raise KeyReused(
                f"idempotency key {upload.idempotency_key!r} was used for another request to flow {upload.flow!r} "
                "(its body, format or key field differs); nothing was loaded. Use a new key for new records"
            )
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
        except PoolTimeout as error:
            raise StoreUnavailable("no database connection came free in time, or PostgreSQL is away") from error
        except psycopg.Error as error:
            raise classify(error) from error

    def _count(self, flow: str, **counts: int) -> None:
        if self._metrics is not None:
            for result, count in counts.items():
                self._metrics.intake_records.labels(flow=flow, result=result).inc(count)


class _Body:
    """Unpacked bytes on their way to the reader: counted, bounded and digested. There is one `stream`."""

    def __init__(self, chunks: Iterator[bytes], limit_bytes: int) -> None:
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self.stream = self._pass()

    def _pass(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._size_bytes += len(chunk)
            if self._size_bytes > self._limit_bytes:
                raise BodyTooLarge(
                    f"the body has more than {self._limit_bytes} bytes unpacked; nothing was loaded. Send it in parts"
                )
            self._digest.update(chunk)
            yield chunk

    def digest(self) -> bytes:
        """SHA-256 of what has passed."""
        return self._digest.digest()


class _Source:
    """Items as records; remembers the bad ones."""

    def __init__(self, items: Iterator[Item], upload: Upload) -> None:
        self._items = items
        self._key_prefix = f"{upload.idempotency_key}:" if upload.idempotency_key and not upload.key_field else None
        self._first: list[Item] = []
        self.bad: list[BadLine] = []
        self.bad_count = 0

    def wait_for_first(self) -> None:
        """Block until the first item, or the end, has come."""
        self._first = [item for item in (next(self._items, None),) if item is not None]

    def records(self) -> Iterator[ledger.NewRecord]:
        """Every record; raises _Stopped at the first bad line."""
        for item in self._first:
            yield self._record(item)
        for item in self._items:
            yield self._record(item)

    def read_on(self) -> None:
        """Note what else is wrong, to the end of the input."""
        for item in self._items:
            if isinstance(item, BadLine):
                self._note(item)

    def _record(self, item: Item) -> ledger.NewRecord:
        if isinstance(item, BadLine):
            self._note(item)
            raise _Stopped
        key = f"{self._key_prefix}{item.line}" if self._key_prefix is not None else item.key
        return ledger.NewRecord(item.payload, key)

    def _note(self, bad: BadLine) -> None:
        self.bad_count += 1
        if len(self.bad) < _SHOWN:
            self.bad.append(bad)


def _digest(upload: Upload, body: _Body) -> bytes:
    """What makes two requests the same: the body, and how it is to be read."""
    how = "\0".join((upload.form, upload.encoding, upload.key_field or ""))
    return hashlib.sha256(body.digest() + how.encode()).digest()
