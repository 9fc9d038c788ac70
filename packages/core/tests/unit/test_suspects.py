"""How few crashes it takes to find the record that ends its worker."""

from __future__ import annotations

import math

import pytest

from rpa_core.processing import suspects
from rpa_core.store.values import Chunk, ChunkOutcome, NewChunk, Outline

_MAX_CLAIMS = 3


def _chunk(n: int, *, attempts: int = 0, progress: int | None = None, first: int = 1) -> Chunk:
    return Chunk(1, 1, first, first + n - 1, None, None, n, 1, attempts, progress)


def _records(lo: int, n: int) -> list[Outline]:
    return [Outline(lo + number, 2) for number in range(n)]


def _parts(end: ChunkOutcome | None) -> list[tuple[int, int, int]]:
    assert end is not None
    return [(part.lo, part.hi, part.attempts) for part in end.moved]


@pytest.mark.requirement("R8.7")
def test_a_first_crash_only_makes_a_chunk_suspect() -> None:
    """The first claim runs as ever; the second is suspect, and runs singly before it is cut."""
    assert not suspects.is_suspect(_chunk(10, attempts=1))
    assert suspects.is_suspect(_chunk(10, attempts=2))
    for attempts in (1, 2, 3):
        assert suspects.verdict(_chunk(10, attempts=attempts), _records(1, 10), _MAX_CLAIMS) is None


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("position", "parts"),
    [
        (0, [(1, 1, 0), (2, 10, 0)]),
        (4, [(1, 4, 0), (5, 5, 0), (6, 10, 0)]),
        (9, [(1, 9, 0), (10, 10, 0)]),
        (12, [(1, 9, 0), (10, 10, 0)]),
    ],
)
def test_the_noted_position_cuts_the_culprit_out(position: int, parts: list[tuple[int, int, int]]) -> None:
    """What comes before, the record in flight alone, what comes after; each with a clean slate."""
    chunk = _chunk(10, attempts=2, progress=position)
    assert _parts(suspects.verdict(chunk, _records(1, 10), _MAX_CLAIMS)) == parts


@pytest.mark.requirement("R8.7")
def test_without_a_position_a_chunk_is_halved() -> None:
    """Each half may end one more worker before it is cut again; a half of one gets the whole number of claims."""
    assert _parts(suspects.verdict(_chunk(10, attempts=4), _records(1, 10), _MAX_CLAIMS)) == [(1, 5, 2), (6, 10, 2)]
    assert _parts(suspects.verdict(_chunk(3, attempts=4), _records(1, 3), _MAX_CLAIMS)) == [(1, 1, 0), (2, 3, 2)]


@pytest.mark.requirement("R8.7")
def test_a_lone_record_gets_its_claims_and_then_is_set_aside() -> None:
    """Three crashes all by itself, whatever a stale position says; the reason counts them."""
    for attempts in (1, 2, 3):
        assert suspects.verdict(_chunk(1, attempts=attempts, progress=0), _records(1, 1), _MAX_CLAIMS) is None
    end = suspects.verdict(_chunk(1, attempts=4), _records(1, 1), _MAX_CLAIMS)
    assert end is not None
    (letter,) = end.dead
    assert (letter.record_id, letter.kind, letter.tries) == (1, "crash", 3)
    assert letter.reasons == ("the worker ended 3 times while this record was in process",)


@pytest.mark.requirement("R8.7")
def test_records_keep_their_tries_when_a_list_is_cut() -> None:
    """A chunk that lists its records: the parts list theirs, in order, each with the tries it had."""
    chunk = _chunk(4, attempts=2, progress=2)._replace(ids=[9, 3, 7, 5], tries=[0, 1, 2, 3], lo=3, hi=9)
    records = [Outline(number, 2) for number in (9, 3, 7, 5)]
    end = suspects.verdict(chunk, records, _MAX_CLAIMS)
    assert end is not None
    assert [(part.ids, part.tries, part.lo, part.hi, part.n) for part in end.moved] == [
        ([9, 3], [0, 1], 3, 9, 2),
        ([7], [2], 7, 7, 1),
        ([5], [3], 5, 5, 1),
    ]


@pytest.mark.requirement("R8.7")
def test_vanished_records_are_counted_when_a_chunk_is_cut() -> None:
    """A chunk of ten with eight rows left: the two are accounted for, and nothing is cut out of nothing."""
    end = suspects.verdict(_chunk(10, attempts=4), _records(1, 8), _MAX_CLAIMS)
    assert end is not None
    assert (end.vanished, end.n_moved, end.n_dead) == (2, 8, 2)
    assert suspects.verdict(_chunk(10, attempts=9), [], _MAX_CLAIMS) is None


def _crashes(n: int, poison: int, *, noted: bool) -> tuple[int, set[int]]:
    """Play workers that die at record `poison` until nothing is left; their crashes, and who was set aside."""
    todo: list[tuple[NewChunk, int | None]] = [(NewChunk(lo=0, hi=n - 1, n=n), None)]
    crashes, dead = 0, set()
    while todo:
        part, progress = todo.pop(0)
        chunk = _chunk(part.n, attempts=part.attempts + 1, progress=progress, first=part.lo)
        end = suspects.verdict(chunk, _records(part.lo, part.n), _MAX_CLAIMS)
        if end is not None:
            dead |= {letter.record_id for letter in end.dead}
            todo += [(child, None) for child in end.moved]
        elif part.lo <= poison <= part.hi:
            crashes += 1
            singly = noted and suspects.is_suspect(chunk)
            todo.append((part._replace(attempts=part.attempts + 1), poison - part.lo if singly else None))
        assert crashes < 1000
    return crashes, dead


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 300, 1000])
def test_the_culprit_is_found_in_few_crashes(n: int) -> None:
    """With the position noted, 2 + max_claims; without, by halves, 2 log2(n) + max_claims; nobody else goes with it."""
    for poison in {0, n // 3, n // 2, n - 1}:
        crashes, dead = _crashes(n, poison, noted=True)
        assert dead == {poison}
        assert crashes <= 2 + _MAX_CLAIMS
        crashes, dead = _crashes(n, poison, noted=False)
        assert dead == {poison}
        assert crashes <= 2 * math.ceil(math.log2(max(n, 2))) + 2 * _MAX_CLAIMS
