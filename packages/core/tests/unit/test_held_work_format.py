"""Finished work as bytes: what comes back is what was kept, or it is not kept."""

from __future__ import annotations

import datetime
import enum
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_core.processing.flow import Record
from rpa_core.processing.kept import Kept, UnknownFormat, decode, encode, parts
from rpa_core.processing.outcome import Done, Emit
from rpa_core.store.intake import NewRecord
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, DeadLetter, NewChunk

_LEASE = UUID("6a7b1f5e-0d6c-4f3a-9c39-0d2b6f3c1a11")
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        _TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=8,
)


def _chunk(number: int, n: int, ids: list[int] | None = None) -> Chunk:
    tries = [0] * len(ids) if ids is not None else None
    return Chunk(number, 3, number * 100, number * 100 + n - 1, ids, tries, n, 7, 1, None)


def _claim(*outcomes: ChunkOutcome) -> Claim:
    return Claim(lease_id=_LEASE, chunks=tuple(each.chunk for each in outcomes), taken_at=5.0)


def _done(data: list[Any]) -> tuple[ChunkOutcome, dict[int, tuple[Record, Done]]]:
    end = ChunkOutcome(chunk=_chunk(1, len(data)))
    done = {}
    for number, value in enumerate(data, 100):
        record = Record(number, f"k{number}", b'{"n": 1.50}', attempt=2)
        done[number] = record, Done(value, (Emit("later", value, "x"),))
        end.results.append((number, orjson.dumps(value)))
    return end, done


@pytest.mark.requirement("R8.1")
def test_everything_a_completion_writes_comes_back() -> None:
    """Results to the letter, dead letters, what goes on, what is emitted; the claim with its lease and chunks."""
    end = ChunkOutcome(
        chunk=_chunk(4, 5, ids=[1, 2, 3, 4, 5]),
        results=[(1, b'{"a":1.10}'), (2, '"é\\u0000"'.encode())],
        dead=[DeadLetter(3, "rejected", 2, ("no", "never"))],
        moved=[NewChunk(4, 4, 1, ids=(4,), tries=[2], delay_s=1.5), NewChunk(5, 5, 1, attempts=1)],
        emits={"later": [(1, NewRecord(b'{"of": 1}', "k")), (2, NewRecord(b"2"))]},
        vanished=1,
    )
    body = encode(Kept(flow="act", claim=_claim(end), outcomes=(end,), done=None))
    assert body is not None
    back = decode(body)
    assert (back.flow, back.claim.lease_id, back.claim.chunks, back.done) == ("act", _LEASE, (end.chunk,), None)
    (outcome,) = back.outcomes
    assert outcome.chunk == end.chunk
    assert outcome.results == end.results
    assert outcome.dead == end.dead
    assert outcome.moved == [NewChunk(4, 4, 1, [4], [2], 1.5, 0), NewChunk(5, 5, 1, None, None, 0.0, 1)]
    assert outcome.emits == end.emits
    assert (outcome.vanished, outcome.n_dead, outcome.n_moved) == (1, 2, 2)


@pytest.mark.requirement("R8.1")
@given(data=st.lists(_JSON, min_size=1, max_size=4))
def test_effects_get_back_what_the_handler_returned(data: list[Any]) -> None:
    """Whatever JSON the data is: equal, of the same types, in the same order, with the record as it was read."""
    end, done = _done(data)
    body = encode(Kept(flow="act", claim=_claim(end), outcomes=(end,), done=done))
    assert body is not None
    back = decode(body).done
    assert back is not None
    for number, (record, what) in done.items():
        again, same = back[number]
        assert (again.id, again.key, again.raw, again.attempt) == (record.id, record.key, record.raw, record.attempt)
        assert repr(same.data) == repr(what.data)
        assert repr(same.emit) == repr(what.emit)


class _Colour(enum.StrEnum):
    RED = "red"


class _Pair(NamedTuple):
    a: int


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize(
    "data",
    [
        (1, 2),
        {"at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)},
        [{"deep": [(1,)]}],
        _Colour.RED,
        float("nan"),
        _Pair(1),
        {1: "a key that is no text"},
        UUID(int=1),
    ],
    ids=lambda data: type(data).__name__,
)
def test_what_json_would_change_is_not_kept_for_effects(data: Any) -> None:
    """Effects must not see a list for a tuple or a text for a date: such outcomes stay in memory."""
    end = ChunkOutcome(chunk=_chunk(1, 1), results=[(100, b"0")])
    done = {100: (Record(100, None, b"{}"), Done(data))}
    assert encode(Kept(flow="act", claim=_claim(end), outcomes=(end,), done=done)) is None
    assert encode(Kept(flow="act", claim=_claim(end), outcomes=(end,), done=None)) is not None, "only effects see it"
    emitted = {100: (Record(100, None, b"{}"), Done(0, (Emit("later", data),)))}
    assert encode(Kept(flow="act", claim=_claim(end), outcomes=(end,), done=emitted)) is None


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": 2, "flow": "act"}',
        b"\x00\xff",
        b'{"format":1,"flow":"a","lease":"x","chunks":[],"done":null}',
    ],
)
def test_other_bytes_are_refused(body: bytes) -> None:
    """Another version's work, or none at all: one error, with a reason."""
    with pytest.raises(UnknownFormat):
        decode(body)


@pytest.mark.requirement("R8.1")
def test_effects_never_run_for_fewer_records_than_have_results() -> None:
    """An entry whose records and results do not match is none."""
    end, done = _done([1, 2])
    body = encode(Kept(flow="act", claim=_claim(end), outcomes=(end,), done=done))
    assert body is not None
    data = orjson.loads(body)
    data["done"].pop()
    with pytest.raises(UnknownFormat, match="effects"):
        decode(orjson.dumps(data))


@pytest.mark.requirement("R8.1")
def test_a_large_claim_is_kept_in_parts() -> None:
    """Each part names its own chunks, so that it can be completed by itself; together they are all of them."""
    ends = [ChunkOutcome(chunk=_chunk(n, 1), results=[(n, b"1" * 400_000)]) for n in range(10)]
    made = list(parts(_claim(*ends), ends))
    assert [len(part) for _, part in made] == [3, 3, 3, 1]
    assert [end for _, part in made for end in part] == ends
    for claim, part in made:
        assert claim.chunks == tuple(end.chunk for end in part)
        assert claim.lease_id == _LEASE
