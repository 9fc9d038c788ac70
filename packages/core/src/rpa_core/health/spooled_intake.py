"""Taking records in while PostgreSQL is away: an upload is checked as always and kept on the disk until it is back.

    breaker closed --load--> committed, 202 with how many are new
          |  (fails before its COMMIT was sent, or has an idempotency key)
          v
    breaker open --read to the end--> a bad line: 422, nothing is kept
                                      no room:    503, as without a spool
                                      kept:       202 with `spooled`; loaded later, in the order of arrival, once

A kept upload is loaded under its idempotency key, or one of our own, which the database remembers with its records: a
crash between the COMMIT and the spool's acknowledgement repeats nothing. A repeated request gets the same answer while
it waits here. Direct uploads do not wait for kept ones: the order across uploads is not promised.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.errors import InputError, RpaError, SchemaError, StoreRefused, StoreUnavailable, TransientError
from rpa_core.health.intake import StoreIntake, check_same
from rpa_core.health.intake_api import Accepted, Hold, NotLoadedYet, StatusView, Upload
from rpa_core.health.reading import Reading, Stopped
from rpa_core.health.spooled_upload import Head, KeptUpload, UnknownFormat, head_of, upload_of
from rpa_core.health.waiting_uploads import KIND, WaitingUploads
from rpa_core.resilience.spool.model import Delivered, Entry, Later, New, Refused, SpoolFull, Verdict
from rpa_core.resilience.spool.spool import Spool

logger = logging.getLogger("rpa.intake")
_REMEMBERED_BYTES = 1024 * 1024  # of an upload that is on its way into the database; more is not kept twice
_STEP_BYTES = 64 * 1024
_MAX_FAILURES = 50  # of an upload that the database refuses for a reason that is neither its nor an outage


class SpooledIntake:
    """`IntakeApi` over a `StoreIntake` and the spool. `away` says that PostgreSQL is known to be away."""

    def __init__(
        self,
        store: StoreIntake,
        spool: Spool,
        waiting: WaitingUploads,
        *,
        away: Callable[[], bool],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._store = store
        self._spool = spool
        self._waiting = waiting
        self._away = away
        self._checkpoints = checkpoints or Checkpoints()
        self._room = _Room(spool)
        self._putting = threading.Lock()

    def flows(self) -> Collection[str]:
        """As `StoreIntake.flows`."""
        return self._store.flows()

    def admit(self, flow: str) -> Hold | None:
        """As `StoreIntake.admit`."""
        return self._store.admit(flow)

    def accept(self, upload: Upload) -> Accepted:
        """Load every record, keep them all, or take none; see `IntakeApi.accept`."""
        if upload.idempotency_key is not None:
            known = self._waiting.find(upload.flow, upload.idempotency_key)
            if known is not None:
                reading = self._store.reading(upload)
                reading.skip()
                return _again(reading, known)
        if not self._spool.durable:
            return self._store.accept(upload)
        reading = self._store.reading(
            upload, lambda size_bytes: size_bytes <= _REMEMBERED_BYTES, self._spool.path and self._spool.path.parent
        )
        try:
            return self._load_or_keep(reading)
        finally:
            reading.forget()

    def status(self, flow: str, key: str) -> StatusView | None:
        """As `StoreIntake.status`; while uploads to the flow wait here, nobody can say that a record does not exist."""
        found = self._store.status(flow, key)
        if found is None:
            uploads, _ = self._waiting.count(flow)
            if uploads:
                raise NotLoadedYet(f"no such record yet: {uploads} uploads to flow {flow!r} are still to be loaded")
        return found

    def bears(self) -> str | None:
        """In words, that uploads go on without PostgreSQL; None where they do not."""
        if self._spool.durable and self._spool.has_room(KIND, _STEP_BYTES):
            return "uploads are kept in the spool and loaded when it is back"
        return None

    def _load_or_keep(self, reading: Reading) -> Accepted:
        if not self._away():
            try:
                return self._store.load(reading)
            except StoreUnavailable:
                perhaps_committed = reading.committing and reading.upload.idempotency_key is None
                if not reading.remembers or perhaps_committed:
                    raise
        with self._room.reserve() as grow:
            reading.remember = grow
            grow(reading.size_bytes)
            return self._keep(reading)

    def _keep(self, reading: Reading) -> Accepted:
        try:
            for _ in reading.records():
                pass
        except Stopped:
            reading.forget()
            raise self._store.bad_lines(reading) from None
        head = head_of(reading)
        with self._putting:
            if head.idempotency_key is not None:
                known = self._waiting.find(head.flow, head.idempotency_key)
                if known is not None:
                    return _again(reading, known)
            name = f"{KIND}:{uuid.uuid4()}"
            self._checkpoints.reach(Point.SPOOLING)
            self._spool.put(
                New(id=name, kind=KIND, stream=head.flow, body=KeptUpload(head, reading.kept(), reading.size_bytes))
            )
            self._waiting.add(name, head)
        self._checkpoints.reach(Point.SPOOLED)
        self._store.count(head.flow, spooled=head.n)
        logger.info(
            "an upload of %d records to %s is kept in the spool",
            head.n,
            head.flow,
            extra={"event.action": "intake.spooled", "flow.name": head.flow},
        )
        return Accepted(flow=head.flow, spooled=head.n)


class UploadLoader:
    """Loads kept uploads; `deliver` is a courier's. `store` should bear uploads that were taken under other limits."""

    def __init__(self, store: StoreIntake, waiting: WaitingUploads, checkpoints: Checkpoints | None = None) -> None:
        self._store = store
        self._waiting = waiting
        self._checkpoints = checkpoints or Checkpoints()
        self._failures: Counter[str] = Counter()

    def deliver(self, spool: Spool, entry: Entry) -> Verdict:
        """Load one upload, or find that it is loaded."""
        own_key = f"spool:{entry.id.removeprefix(f'{KIND}:')}"
        try:
            upload = upload_of(entry.body, spool.pieces(entry), own_key)
            done = self._store.accept(upload)
        except (UnknownFormat, InputError) as error:
            return self._refused(entry, error)
        except (TransientError, StoreRefused, SchemaError) as error:
            return Later(str(error))
        except RpaError as error:
            self._failures[entry.id] += 1
            return self._refused(entry, error) if self._failures[entry.id] > _MAX_FAILURES else Later(str(error))
        self._checkpoints.reach(Point.SPOOL_LOADED)
        self._waiting.drop(entry.id)
        self._failures.pop(entry.id, None)
        logger.info(
            "an upload to %s that was kept in the spool is loaded: %d records new, %d known%s",
            done.flow,
            done.accepted,
            done.duplicates,
            " (it had been loaded before)" if done.replayed else "",
            extra={"event.action": "intake.loaded", "flow.name": done.flow},
        )
        return Delivered()

    def _refused(self, entry: Entry, error: RpaError) -> Verdict:
        logger.error(
            "an upload to %s that was taken in cannot be loaded, and is set aside in the spool: %s",
            entry.stream,
            error,
            extra={"event.action": "intake.refused_late", "flow.name": entry.stream},
        )
        return Refused(str(error))


class _Room:
    """What uploads that are being read will take of the spool: together they may not need more than there is."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._promised = 0

    @contextmanager
    def reserve(self) -> Iterator[Callable[[int], bool]]:
        """Yields what makes room for so many bytes in all; it raises SpoolFull where there is none."""
        mine = 0

        def grow(size_bytes: int) -> bool:
            nonlocal mine
            if size_bytes > mine:
                with self._lock:
                    if not self._spool.has_room(KIND, self._promised - mine + size_bytes):
                        raise SpoolFull("the spool has no room for this upload")
                    self._promised += size_bytes + _STEP_BYTES - mine
                    mine = size_bytes + _STEP_BYTES
            return True

        try:
            yield grow
        finally:
            with self._lock:
                self._promised -= mine


def _again(reading: Reading, known: Head) -> Accepted:
    check_same(reading.upload, reading.digest(), known.digest)
    return Accepted(flow=known.flow, spooled=known.n, replayed=True)
