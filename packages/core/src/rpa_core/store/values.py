"""The values that pass between the ledger and whoever processes records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from rpa_core.store.intake import NewRecord


class Chunk(NamedTuple):
    """A leased chunk: the records `lo..hi` of a period, or exactly `ids`, each tried `tries` times before.

    `size_bytes` is that of its payloads together, None where the writer did not count them.
    """

    id: int
    period: int
    lo: int
    hi: int
    ids: list[int] | None
    tries: list[int] | None
    n: int
    epoch: int
    attempts: int
    progress: int | None
    size_bytes: int | None = None


class StoredRecord(NamedTuple):
    """A record as it is stored; `payload` is JSON text in UTF-8."""

    id: int
    key: str | None
    payload: bytes


class Outline(NamedTuple):
    """A record that was not read: its id, and how many bytes its payload has."""

    id: int
    size_bytes: int


class Contents(NamedTuple):
    """What a chunk has, in its order: the records that were read, then the outlines of those that were not."""

    records: list[StoredRecord]
    unread: list[Outline]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one claim leased. `taken_at` is the local monotonic time just before the claim was sent."""

    lease_id: UUID
    chunks: tuple[Chunk, ...]
    taken_at: float

    @property
    def n(self) -> int:
        """Records in all."""
        return sum(chunk.n for chunk in self.chunks)


class DeadLetter(NamedTuple):
    """A record to set aside: `kind` is rejected, exhausted, crash or unstorable."""

    record_id: int
    kind: str
    tries: int
    reasons: tuple[str, ...]


class NewChunk(NamedTuple):
    """What goes on from a finished chunk. With `delay_s` it waits, otherwise it is ready at once."""

    lo: int
    hi: int
    n: int
    ids: Sequence[int] | None = None
    tries: Sequence[int] | None = None
    delay_s: float = 0.0
    attempts: int = 0
    size_bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class ChunkOutcome:
    """How a chunk ends. Each of its n records is in exactly one of `results`, `dead` and `moved`.

    `results` holds (record id, JSON text without line breaks and tabs, as orjson writes it).
    `emits` holds, by flow, (id of the record it comes from, the new record). `vanished` counts records that the
    chunk lists and the database no longer has: somebody deleted them, and they count as dead.

    The completion adds to it: `refused` are records of `results` that it set aside instead; `known` holds, by flow, the
    keys under which records were not handed on because that flow has them already.
    """

    chunk: Chunk
    results: list[tuple[int, bytes]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    moved: list[NewChunk] = field(default_factory=list)
    emits: dict[str, list[tuple[int, NewRecord]]] = field(default_factory=dict)

    vanished: int = 0
    refused: list[DeadLetter] = field(default_factory=list)
    known: dict[str, list[str]] = field(default_factory=dict)

    @property
    def n_dead(self) -> int:
        """Records that are set aside or gone."""
        return len(self.dead) + self.vanished

    @property
    def n_moved(self) -> int:
        """Records that go on in another chunk."""
        return sum(part.n for part in self.moved)
