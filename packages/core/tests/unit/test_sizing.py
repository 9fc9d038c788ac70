"""How many records a worker claims."""

from __future__ import annotations

import pytest

from rpa_core.processing.sizing import ClaimSize


@pytest.mark.requirement("R6.1")
def test_the_first_claim_is_one_chunk() -> None:
    """Nothing is known yet: one chunk, whatever it holds."""
    size = ClaimSize(target_s=0.5, most_records=2000)
    assert (size.records, size.chunks) == (1, 1)


@pytest.mark.requirement("R6.1")
@pytest.mark.parametrize(
    ("records", "chunks", "took_s", "claims"),
    [
        (1000, 1, 0.1, (2000, 3)),  # quick: up to the limit
        (1000, 1, 1.0, (500, 1)),  # half a second's worth
        (10, 1, 10.0, (1, 1)),  # slow: one at a time
        (100, 100, 0.001, (2000, 2000)),  # chunks of one record
    ],
)
def test_a_claim_takes_about_the_target(records: int, chunks: int, took_s: float, claims: tuple[int, int]) -> None:
    """As many records as fit into half a second, never more than the limit, never none."""
    size = ClaimSize(target_s=0.5, most_records=2000)
    size.learn(records=records, chunks=chunks, took_s=took_s)
    assert (size.records, size.chunks) == claims


@pytest.mark.requirement("R6.1")
def test_a_change_of_pace_is_followed_within_a_few_claims() -> None:
    """Handlers that become a hundred times slower: the claim shrinks; an empty claim teaches nothing."""
    size = ClaimSize(target_s=0.5, most_records=2000)
    size.learn(records=1000, chunks=1, took_s=0.1)
    before = size.records
    size.learn(records=0, chunks=1, took_s=9.0)
    assert size.records == before
    for _ in range(8):
        size.learn(records=50, chunks=1, took_s=0.5)
    assert 40 <= size.records <= 60
