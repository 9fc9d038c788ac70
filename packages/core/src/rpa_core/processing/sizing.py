"""How much to claim: as much as can be done within a set time, learned from the last claims."""

from __future__ import annotations


class ClaimSize:
    """Feedback on two averages: seconds per record, and records per chunk."""

    def __init__(self, *, target_s: float, most_records: int) -> None:
        self._target_s = target_s
        self._most_records = most_records
        self._record_s: float | None = None
        self._chunk_records: float | None = None

    @property
    def records(self) -> int:
        """Records to claim; the first claim is a single chunk, whatever it holds."""
        if self._record_s is None:
            return 1
        return max(1, min(self._most_records, round(self._target_s / max(self._record_s, 1e-9))))

    @property
    def chunks(self) -> int:
        """Chunk rows to look at for that many records."""
        if self._chunk_records is None:
            return 1
        return max(1, min(self._most_records, round(self.records / self._chunk_records) + 1))

    def learn(self, *, records: int, chunks: int, took_s: float) -> None:
        """Take in one finished claim."""
        if records <= 0:
            return
        self._record_s = _blend(self._record_s, took_s / records)
        self._chunk_records = max(1.0, _blend(self._chunk_records, records / chunks))


def _blend(old: float | None, new: float) -> float:
    return new if old is None else 0.5 * old + 0.5 * new
