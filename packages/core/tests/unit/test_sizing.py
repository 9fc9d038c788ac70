"""How many records a worker claims."""

from __future__ import annotations

import pytest

from rpa_core.processing.sizing import ClaimSize


@pytest.mark.requirement("R6.1")
def test_the_first_claim_is_one_chunk() -> None:
    """Nothing is known yet: one chunk, whatever it holds."""
    size = ClaimSize(target_s=0.5, most_records=2000, most_bytes=16_000_000)
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
    size = ClaimSize(target_s=0.5, most_records=2000, most_bytes=16_000_000)
    size.learn(records=records, chunks=chunks, took_s=took_s)
    assert (size.records, size.chunks) == claims


@pytest.mark.requirement("R6.1")
def test_a_change_of_pace_is_followed_within_a_few_claims() -> None:
    """Handlers that become a hundred times slower: the claim shrinks; an empty claim teaches nothing."""
    size = ClaimSize(target_s=0.5, most_records=2000, most_bytes=16_000_000)
    size.learn(records=1000, chunks=1, took_s=0.1)
    before = size.records
    size.learn(records=0, chunks=1, took_s=9.0)
    assert size.records == before
    for _ in range(8):
        size.learn(records=50, chunks=1, took_s=0.5)
    assert 40 <= size.records <= 60


@pytest.mark.requirement("R6.1")
def test_a_slow_line_gets_smaller_reads_and_a_quick_one_larger_ones() -> None:
    """150 MB over 25 MB/s: no more is read at once than arrives in half a second; then up again, to the limit."""
    size = ClaimSize(target_s=0.5, most_records=2000, most_bytes=16_000_000)
    assert size.size_bytes == 4_000_000
    size.learn_read(size_bytes=4_000_000, took_s=0.16)
    assert size.size_bytes == 8_000_000
    size.learn_read(size_bytes=8_000_000, took_s=4.0)
    assert size.size_bytes == 1_000_000
    for _ in range(8):
        size.learn_read(size_bytes=size.size_bytes, took_s=0.1)
    assert size.size_bytes == 16_000_000


@pytest.mark.requirement("R6.1")
def test_a_pause_of_the_server_does_not_end_in_reads_of_nothing() -> None:
    """A small read that took long says little: at least 64 KiB are read at once, and small ones do not enlarge it."""
    size = ClaimSize(target_s=0.5, most_records=2000, most_bytes=16_000_000)
    size.learn_read(size_bytes=100, took_s=60.0)
    assert size.size_bytes == 64 * 1024
    size.learn_read(size_bytes=100, took_s=0.001)
    assert size.size_bytes == 64 * 1024
