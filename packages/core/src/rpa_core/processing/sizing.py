"""How much to claim: as much as can be read and done within a set time, learned from the last claims."""

from __future__ import annotations

_LEAST_BYTES = 64 * 1024
_FIRST_SHARE = 4  # the first read takes this part of the most there may be: how quick the line is shows with it


class ClaimSize:
    """Feedback on two averages, seconds per record and records per chunk, and on how quickly payloads are read."""

    def __init__(self, *, target_s: float, most_records: int, most_bytes: int) -> None:
        self._target_s = target_s
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._record_s: float | None = None
        self._chunk_records: float | None = None
        self._bytes = max(1, most_bytes // _FIRST_SHARE)

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

    @property
    def size_bytes(self) -> int:
        """Bytes of payload to claim, and to read at once."""
        return self._bytes

    def learn(self, *, records: int, chunks: int, took_s: float) -> None:
        """Take in one finished claim."""
        if records <= 0:
            return
        self._record_s = _blend(self._record_s, took_s / records)
        self._chunk_records = max(1.0, _blend(self._chunk_records, records / chunks))

    def learn_read(self, *, size_bytes: int, took_s: float) -> None:
        """Take in one read: less is read at once where it took too long, more where that much came in time."""
        if took_s > self._target_s:
            self._bytes = max(_LEAST_BYTES, round(min(self._bytes, size_bytes) * self._target_s / took_s))
        elif 2 * size_bytes >= self._bytes:
            self._bytes *= 2
        self._bytes = min(self._bytes, self._most_bytes)


def _blend(old: float | None, new: float) -> float:
    return new if old is None else 0.5 * old + 0.5 * new
