"""Finished work as bytes: what a claim's completion would write, so that a later life can complete it.

One JSON object for some chunks of one claim. Results stand in it as the text that is to be stored, to the letter. For
a flow with effects the records and their Done are kept too; that is possible where the data is plain JSON, because
effects must get back exactly what the handler returned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from rpa_core.errors import RpaError
from rpa_core.processing.encoding import decode as decode_value
from rpa_core.processing.flow import Record
from rpa_core.processing.outcome import Done, Emit
from rpa_core.store.intake import NewRecord
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, DeadLetter, NewChunk

FORMAT = 1
_PART_BYTES = 1024 * 1024
_PART_CHUNKS = 250
_CHUNK_FIELDS, _MOVED_FIELDS = 10, 7  # without sizes, which an older version would not take: they are measured again
_PLAIN = (str, bool, int, type(None))
Handled = Mapping[int, tuple[Record, Done]]


class UnknownFormat(RpaError):
    """These bytes are not finished work as this version writes it."""

    code = "FIN001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Finished chunks of one claim. `done` is None where the flow had no effects when they were handled."""

    flow: str
    claim: Claim
    outcomes: tuple[ChunkOutcome, ...]
    done: Handled | None


def parts(claim: Claim, outcomes: Sequence[ChunkOutcome]) -> Iterator[tuple[Claim, list[ChunkOutcome]]]:
    """The outcomes in parts of about a megabyte, each with the claim of its chunks alone."""
    part: list[ChunkOutcome] = []
    size = 0
    for outcome in outcomes:
        if part and (size >= _PART_BYTES or len(part) >= _PART_CHUNKS):
            yield _only(claim, part), part
            part, size = [], 0
        part.append(outcome)
        size += sum(len(data) for _, data in outcome.results)
    if part:
        yield _only(claim, part), part


def _only(claim: Claim, outcomes: Sequence[ChunkOutcome]) -> Claim:
    chunks = tuple(outcome.chunk for outcome in outcomes)
    return Claim(lease_id=claim.lease_id, chunks=chunks, taken_at=claim.taken_at)


def encode(kept: Kept) -> bytes | None:
    """The bytes, or None where they could not give back what effects are to see."""
    done = None
    try:
        if kept.done is not None:
            done = [_handled(*kept.done[record_id]) for outcome in kept.outcomes for record_id, _ in outcome.results]
        return orjson.dumps(
            {
                "format": FORMAT,
                "flow": kept.flow,
                "lease": str(kept.claim.lease_id),
                "chunks": [_outcome(outcome) for outcome in kept.outcomes],
                "done": done,
            }
        )
    except (
        TypeError,
        UnicodeError,
        RecursionError,
    ):  # not plain, text that no UTF-8 can hold, a number of more than 64 bits
        return None


def _handled(record: Record, what: Done) -> tuple[object, ...]:
    """Without the data, which is the result. Raises TypeError for what does not come back as it was."""
    if not (_is_plain(what.data) and all(_is_plain(emit.payload) for emit in what.emit)):
        raise TypeError("not plain JSON")
    emits = [tuple(emit) for emit in what.emit]
    return record.id, record.key, record.raw.decode(), record.attempt, emits


def decode(body: bytes) -> Kept:
    """What `encode` was given. Raises UnknownFormat."""
    try:
        data = orjson.loads(body)
        if data["format"] != FORMAT:
            raise UnknownFormat(f"finished work of format {data['format']!r}; this version reads format {FORMAT}")
        outcomes = tuple(_read_outcome(each) for each in data["chunks"])
        claim = Claim(lease_id=UUID(data["lease"]), chunks=tuple(end.chunk for end in outcomes), taken_at=0.0)
        done = None if data["done"] is None else _read_done(data["done"], outcomes)
        return Kept(flow=data["flow"], claim=claim, outcomes=outcomes, done=done)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnknownFormat(f"not finished work: {type(error).__name__}: {error}") from error


def _outcome(outcome: ChunkOutcome) -> dict[str, object]:
    return {
        "chunk": tuple(outcome.chunk)[:_CHUNK_FIELDS],
        "results": [(record_id, data.decode()) for record_id, data in outcome.results],
        "dead": [tuple(letter) for letter in outcome.dead],
        "moved": [
            tuple(new._replace(ids=_list(new.ids), tries=_list(new.tries)))[:_MOVED_FIELDS] for new in outcome.moved
        ],
        "emits": {
            flow: [(source, new.payload.decode(), new.key) for source, new in emits]
            for flow, emits in outcome.emits.items()
        },
        "vanished": outcome.vanished,
    }


def _read_outcome(data: dict[str, Any]) -> ChunkOutcome:
    return ChunkOutcome(
        chunk=Chunk(*data["chunk"]),
        results=[(record_id, text.encode()) for record_id, text in data["results"]],
        dead=[DeadLetter(record_id, kind, tries, tuple(reasons)) for record_id, kind, tries, reasons in data["dead"]],
        moved=[NewChunk(*new) for new in data["moved"]],
        emits={
            flow: [(source, NewRecord(text.encode(), key)) for source, text, key in emits]
            for flow, emits in data["emits"].items()
        },
        vanished=data["vanished"],
    )


def _read_done(data: list[Any], outcomes: Sequence[ChunkOutcome]) -> Handled:
    results = {record_id: text for outcome in outcomes for record_id, text in outcome.results}
    done: dict[int, tuple[Record, Done]] = {}
    for record_id, key, raw, attempt, emits in data:
        emitted = tuple(Emit(*emit) for emit in emits)
        done[record_id] = Record(record_id, key, raw.encode(), attempt), Done(decode_value(results[record_id]), emitted)
    if done.keys() != results.keys():
        raise ValueError("the records for the flow's effects are not those that have results")
    return done


def _list(numbers: Sequence[int] | None) -> list[int] | None:
    return None if numbers is None else list(numbers)


def _is_plain(value: object) -> bool:
    """Whether JSON gives back the very same: no tuple, date, subclass or number beside the line."""
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in _PLAIN
