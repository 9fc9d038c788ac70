"""The life of a chunk: claim, read, renew, complete, release, reclaim. Every write carries the lease."""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.clock import Clock, SystemClock
from rpa_core.store import completion
from rpa_core.store.connect import connect
from rpa_core.store.database import Database
from rpa_core.store.effects import Effects
from rpa_core.store.sql import statements
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, Contents, NewChunk, Outline, StoredRecord


class Ledger:
    """One flow's ledger over one connection; not shared between threads.

    Every method raises psycopg errors as they come; `store.connect.classify` says what they mean.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        *,
        flow: str,
        owner: str,
        ttl_s: float,
        clock: Clock | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.connection = connection
        self.flow = flow
        self._sql = statements("ledger")
        self._clock = clock or SystemClock()
        self._checkpoints = checkpoints or Checkpoints()
        row = connection.execute("SELECT rpa.flow_id(%s)", (flow,)).fetchone()
        assert row is not None
        self.flow_id: int = row[0]
        self._who = {"flow": self.flow_id, "owner": owner, "ttl_s": ttl_s}
        self._ttl_s = ttl_s

    @classmethod
    def open(
        cls,
        dsn: str,
        *,
        flow: str,
        owner: str,
        ttl_s: float,
        connect_timeout_s: float = 5,
        checkpoints: Checkpoints | None = None,
    ) -> Ledger:
        """Connect and open; raises StoreUnavailable or StoreRefused."""
        connection = connect(dsn, application_name=f"rpa {flow} {owner}"[:63], connect_timeout_s=connect_timeout_s)
        try:
            return cls(connection, flow=flow, owner=owner, ttl_s=ttl_s, checkpoints=checkpoints)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def over(
        cls, database: Database, *, flow: str, owner: str, ttl_s: float, checkpoints: Checkpoints | None = None
    ) -> Ledger:
        """Connect as everybody in this process does, and open; raises what `Database.connect` raises."""
        connection = database.connect(application_name=f"rpa {flow} {owner}"[:63])
        try:
            return cls(connection, flow=flow, owner=owner, ttl_s=ttl_s, checkpoints=checkpoints)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def claim(self, *, records: int, chunks: int, size_bytes: int | None = None, cursor: int = 0) -> Claim | None:
        """Lease ready chunks holding about `records` records and `size_bytes` bytes; None if there are none.

        The last chunk may go over. `cursor` is the chunk id to begin at: it spares the dead index entries of what was
        done long ago.
        """
        return self._take("claim", records=records, chunks=chunks, size_bytes=size_bytes, cursor=cursor)

    def reclaim(self, *, records: int, chunks: int, size_bytes: int | None = None) -> Claim | None:
        """Lease chunks whose lease ran out, whoever held them."""
        return self._take("reclaim", records=records, chunks=chunks, size_bytes=size_bytes)

    def _take(self, statement: str, **parameters: int | None) -> Claim | None:
        lease_id, taken_at = uuid.uuid4(), self._clock.monotonic()
        rows = self.connection.execute(self._sql[statement], self._who | parameters | {"lease": lease_id}).fetchall()
        if not rows:
            return None
        return Claim(lease_id=lease_id, chunks=tuple(sorted(map(Chunk._make, rows))), taken_at=taken_at)

    def promote(self, *, records: int, chunks: int = 1000) -> int:
        """Make due retries ready, up to about `records` records; returns how many."""
        row = self.connection.execute(
            self._sql["promote"], {"flow": self.flow_id, "records": records, "chunks": chunks}
        ).fetchone()
        return int(row[0]) if row else 0

    def read(self, claim: Claim, size_bytes: int | None = None) -> list[Contents]:
        """The records of each chunk, in its order.

        A chunk that is larger than `size_bytes`, or of unknown size, is measured by the server first; of its payloads
        only the first `size_bytes` bytes are read, at least one record.
        """
        found: dict[int, Contents] = {}
        whole = {chunk.id for chunk in claim.chunks if size_bytes is None or _fits(chunk, size_bytes)}
        with self.connection.cursor(binary=True, row_factory=_stored_records) as cursor:
            if ranges := [chunk for chunk in claim.chunks if chunk.id in whole and chunk.ids is None]:
                cursor.execute(
                    self._sql["read_ranges"],
                    {
                        "periods": [chunk.period for chunk in ranges],
                        "los": [chunk.lo for chunk in ranges],
                        "his": [chunk.hi for chunk in ranges],
                    },
                )
                rows = sorted(cursor.fetchall())  # by id: ids are unique, so nothing else is compared
                for chunk in ranges:
                    records = rows[bisect_left(rows, (chunk.lo,)) : bisect_left(rows, (chunk.hi + 1,))]
                    found[chunk.id] = Contents(records, [])
            for chunk in claim.chunks:
                if chunk.id not in found:
                    wanted: list[int] = chunk.ids or []
                    unread: list[Outline] = []
                    if size_bytes is not None and chunk.id not in whole:
                        wanted, unread = _first(self.outline(chunk), size_bytes)
                    found[chunk.id] = Contents(self._read_ids(cursor, chunk.period, wanted), unread)
        return [found[chunk.id] for chunk in claim.chunks]

    def read_one(self, chunk: Chunk, record_id: int) -> StoredRecord | None:
        """One record of a chunk; None where the database no longer has it."""
        with self.connection.cursor(binary=True, row_factory=_stored_records) as cursor:
            return next(iter(self._read_ids(cursor, chunk.period, [record_id])), None)

    def outline(self, chunk: Chunk) -> list[Outline]:
        """Which records a chunk has, in its order, and how large they are; no payload leaves the server."""
        if chunk.ids is None:
            parameters: dict[str, Any] = {"period": chunk.period, "lo": chunk.lo, "hi": chunk.hi}
            return [Outline._make(row) for row in self.connection.execute(self._sql["outline_range"], parameters)]
        parameters = {"period": chunk.period, "ids": chunk.ids}
        sizes = dict(self.connection.execute(self._sql["outline_ids"], parameters).fetchall())
        return [Outline(record_id, sizes[record_id]) for record_id in chunk.ids if record_id in sizes]

    def _read_ids(self, cursor: psycopg.Cursor[StoredRecord], period: int, ids: Sequence[int]) -> list[StoredRecord]:
        cursor.execute(self._sql["read_ids"], {"period": period, "ids": list(ids)})
        by_id = {row.id: row for row in cursor.fetchall()}
        return [by_id[record_id] for record_id in ids if record_id in by_id]

    def renew(self, claim: Claim) -> tuple[set[int], set[int]]:
        """Extend the claim's leases by one TTL; returns (chunks renewed, chunks that are still ours).

        They differ where a row was locked at that moment by a statement of the same worker.
        """
        ids = {chunk.id for chunk in claim.chunks}
        parameters = {"ids": list(ids), "lease": claim.lease_id, "ttl_s": self._ttl_s}
        renewed = {row[0] for row in self.connection.execute(self._sql["renew"], parameters)}
        if renewed == ids:
            return renewed, ids
        return renewed, {row[0] for row in self.connection.execute(self._sql["still_ours"], parameters)}

    def progress(self, claim: Claim, chunk: Chunk, position: int | None) -> bool:
        """Note which record of a suspect chunk is in flight; False if the lease is gone."""
        return bool(
            self.connection.execute(
                self._sql["progress"], {"id": chunk.id, "lease": claim.lease_id, "progress": position}
            ).fetchone()
        )

    def complete(
        self,
        claim: Claim,
        outcomes: Sequence[ChunkOutcome],
        effects: Effects | None = None,
        known_key: str = "keep",
    ) -> set[int]:
        """End chunks with all that belongs to them, in one transaction; returns the ids of those still ours.

        A chunk whose lease was lost is left out, with everything of it. `effects` are called with the ids of the
        records that get a result, inside the transaction. `known_key` is the flow's.
        """
        writing = completion.Completion(
            sql=self._sql,
            flow=self.flow,
            flow_id=self.flow_id,
            known_key=known_key,
            checkpoints=self._checkpoints,
        )
        wanted = list(outcomes)
        while wanted:
            try:
                writing.write(self.connection, claim.lease_id, wanted, effects)
            except completion.NotHeld as lost:
                wanted = [outcome for outcome in wanted if outcome.chunk.id in lost.held]
            else:
                self._checkpoints.reach(Point.COMMITTED)
                break
        return {outcome.chunk.id for outcome in wanted}

    def settle(self, claim: Claim) -> tuple[set[int], set[int]]:
        """After a COMMIT of unknown outcome: (chunks that our lease completed, chunks that it still holds)."""
        ids = [chunk.id for chunk in claim.chunks]
        with self.connection.transaction():
            held = self.connection.execute(self._sql["settle_lock"], {"ids": ids, "lease": claim.lease_id}).fetchall()
            done = self.connection.execute(
                self._sql["settle_done"],
                {"ids": ids, "lease": claim.lease_id, "periods": sorted({c.period for c in claim.chunks})},
            ).fetchall()
        return {row[0] for row in done}, {row[0] for row in held}

    def release(self, claim: Claim, chunks: Sequence[Chunk], *, delay_s: float = 0.0) -> set[int]:
        """Give chunks back unprocessed, without counting the claim; returns those that were still ours."""
        rows = self.connection.execute(
            self._sql["release"],
            {"ids": [chunk.id for chunk in chunks], "lease": claim.lease_id, "delay_s": delay_s},
        ).fetchall()
        return {row[0] for row in rows}

    def release_others(self, claim: Claim | None) -> int:
        """Give back every lease of this owner but `claim`'s: claims whose answer was lost with a connection."""
        return len(
            self.connection.execute(
                self._sql["release_others"], self._who | {"lease": claim.lease_id if claim else None}
            ).fetchall()
        )


def _stored_records(cursor: object) -> Callable[[Sequence[Any]], StoredRecord]:
    """A row factory without a Python frame per record."""
    return partial(tuple.__new__, StoredRecord)


def _fits(chunk: Chunk, size_bytes: int) -> bool:
    return chunk.size_bytes is not None and chunk.size_bytes <= size_bytes


def _first(outlines: Sequence[Outline], size_bytes: int) -> tuple[list[int], list[Outline]]:
    """The ids of the first records that `size_bytes` bytes hold, one at least, and the others."""
    total = 0
    for number, outline in enumerate(outlines):
        total += outline.size_bytes
        if total > size_bytes and number:
            return [each.id for each in outlines[:number]], list(outlines[number:])
    return [each.id for each in outlines], []


def part(chunk: Chunk, ids: Sequence[int], *, size_bytes: int | None = None, attempts: int = 0) -> NewChunk:
    """Some neighbouring records of a chunk, `ids` in its order, as a chunk of their own.

    The ids are listed, unless the part of a range is whole: then the bounds are enough.
    """
    if chunk.ids is None:
        return NewChunk(lo=ids[0], hi=ids[-1], n=len(ids), attempts=attempts, size_bytes=size_bytes)
    assert chunk.tries is not None
    tries = dict(zip(chunk.ids, chunk.tries, strict=True))
    return NewChunk(
        lo=min(ids),
        hi=max(ids),
        n=len(ids),
        ids=list(ids),
        tries=[tries[i] for i in ids],
        attempts=attempts,
        size_bytes=size_bytes,
    )


def parts_of(chunk: Chunk, outlines: Sequence[Outline], size_bytes: int, *, attempts: int = 0) -> list[NewChunk]:
    """Records that were not read, as chunks of about `size_bytes` bytes each."""
    parts: list[NewChunk] = []
    while outlines:
        ids, left = _first(outlines, size_bytes)
        size = sum(each.size_bytes for each in outlines[: len(ids)])
        parts.append(part(chunk, ids, size_bytes=size, attempts=attempts))
        outlines = left
    return parts
