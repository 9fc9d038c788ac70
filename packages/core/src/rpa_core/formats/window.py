"""A sliding window over byte chunks, for a scanner that must not hold the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from re import Pattern
from typing import Final

from rpa_core.formats.lines import without_bom

_PIECE_BYTES: Final = 64 * 1024


class Recorded:
    """What a scanner passes over: its size, and its beginning up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def add(self, piece: bytes) -> None:
        """Count `piece`, keep what fits."""
        self.size_bytes += len(piece)
        room = self._limit_bytes - len(self._kept)
        if room > 0:
            self._kept += piece[:room]

    def beginning(self) -> bytes:
        """All of it, or its first `limit_bytes`."""
        return bytes(self._kept)


class Window:
    """The part of the input under the scanner: one chunk, and what a pattern may still need of it.

    `data` is that part and `at` the scanner's position in it. Nothing before the position is kept, except in what
    `record` returns, up to `limit_bytes`.
    """

    def __init__(self, chunks: Iterable[bytes], limit_bytes: int) -> None:
        self._chunks = _pieces(without_bom(chunks))
        self.data = b""
        self.at = 0
        self._before = 0  # bytes of the input before `_data`
        self._recorded: Recorded | None = None
        self.limit_bytes = limit_bytes

    @property
    def offset(self) -> int:
        """The scanner's position in the input (after its byte order mark), from 0."""
        return self._before + self.at

    def next_token(self, space: Pattern[bytes]) -> bytes:
        """Skip `space`; returns the byte that follows without passing it, or b"" at the end of the input."""
        while True:
            match = space.match(self.data, self.at)
            if match:
                self.at = match.end()
            if self.at < len(self.data):
                return self.data[self.at : self.at + 1]
            if not self._more():
                return b""

    def skip(self, size_bytes: int) -> None:
        """Pass over bytes that `next_token` has shown."""
        self.at += size_bytes

    def take_match(self, pattern: Pattern[bytes]) -> bytes:
        """What `pattern` matches here inside the current chunk, passed over; b"" where it does not."""
        match = pattern.match(self.data, self.at)
        if not match or match.end() - self.at > self.limit_bytes:
            return b""
        self.at = match.end()
        return match[0]

    def at_end(self) -> bool:
        """Whether nothing follows; brings the next chunk where this one is used up."""
        return self.at == len(self.data) and not self._more()

    def pass_over(self, size_bytes: int) -> bool:
        """Pass over that many bytes; False where the input ends before."""
        while size_bytes:
            if self.at == len(self.data) and not self._more():
                return False
            step = min(size_bytes, len(self.data) - self.at)
            self.pass_to(self.at + step)
            size_bytes -= step
        return True

    def record(self) -> Recorded:
        """Record what is passed over from here on, as far as the limit allows."""
        self._recorded = Recorded(self.limit_bytes)
        return self._recorded

    def stop_recording(self) -> None:
        """Record no more."""
        self._recorded = None

    def pass_to(self, end: int) -> None:
        """Move the position to `end` in `data`."""
        if self._recorded:
            self._recorded.add(self.data[self.at : end])
        self.at = end

    def _more(self) -> bool:
        chunk = next(self._chunks, b"")
        if not chunk:
            return False
        self._before += len(self.data)
        self.data, self.at = chunk, 0
        return True


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces are gathered, so that the quick match sees whole elements; the last may be short."""
    held = bytearray()
    for chunk in chunks:
        if not held and len(chunk) >= _PIECE_BYTES:
            yield chunk
            continue
        held += chunk
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
