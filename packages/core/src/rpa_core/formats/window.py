"""A sliding window over byte chunks, for a scanner that must not hold the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

    def drop_last(self) -> None:
        """Take back the byte that was added last."""
        if self.size_bytes == len(self._kept):
            del self._kept[-1:]
        self.size_bytes -= 1

    def beginning(self) -> bytes:
        """All of it, or its first `limit_bytes`."""
        return bytes(self._kept)


class Window:
    """The part of the input under the scanner: one chunk, and what a pattern may still need of it.

    `offset` is the scanner's position in the input, in bytes. Nothing before the position is kept, except in a
    `recording`, up to `limit_bytes`.
    """

    def __init__(self, chunks: Iterable[bytes], limit_bytes: int) -> None:
        self._chunks = _pieces(without_bom(chunks))
        self._data = b""
        self._at = 0
        self._before = 0  # bytes of the input before `_data`
        self._recorded: Recorded | None = None
        self.limit_bytes = limit_bytes

    @property
    def offset(self) -> int:
        """The scanner's position in the input (after its byte order mark), from 0."""
        return self._before + self._at

    def next_token(self, space: Pattern[bytes]) -> bytes:
        """Skip `space`; returns the byte that follows without passing it, or b"" at the end of the input."""
        while True:
            match = space.match(self._data, self._at)
            if match:
                self._at = match.end()
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._more():
                return b""

    def skip(self, size_bytes: int) -> None:
        """Pass over bytes that `next_token` has shown."""
        self._at += size_bytes

    def take_match(self, pattern: Pattern[bytes]) -> bytes:
        """What `pattern` matches here inside the current chunk, passed over; b"" where it does not."""
        match = pattern.match(self._data, self._at)
        if not match or match.end() - self._at > self.limit_bytes:
            return b""
        self._at = match.end()
        return match[0]

    def pass_match(self, pattern: Pattern[bytes]) -> None:
        """Pass over what `pattern` matches here inside the current chunk, if it does."""
        if match := pattern.match(self._data, self._at):
            self._pass_to(match.end())

    def find(self, pattern: Pattern[bytes]) -> bytes:
        """Pass over everything up to and including the next match (one byte); b"" at the end of the input."""
        while True:
            match = pattern.search(self._data, self._at)
            if match:
                self._pass_to(match.end())
                return match[0]
            self._pass_to(len(self._data))
            if not self._more():
                return b""

    def pass_over(self, size_bytes: int) -> bool:
        """Pass over that many bytes; False where the input ends before."""
        while size_bytes:
            if self._at == len(self._data) and not self._more():
                return False
            step = min(size_bytes, len(self._data) - self._at)
            self._pass_to(self._at + step)
            size_bytes -= step
        return True

    def step_back(self) -> None:
        """Give back the byte that `find` returned."""
        self._at -= 1
        if self._recorded:
            self._recorded.drop_last()

    @contextmanager
    def recording(self) -> Iterator[Recorded]:
        """Record what is passed over, as far as the limit allows."""
        self._recorded = Recorded(self.limit_bytes)
        try:
            yield self._recorded
        finally:
            self._recorded = None

    def _pass_to(self, end: int) -> None:
        if self._recorded:
            self._recorded.add(self._data[self._at : end])
        self._at = end

    def _more(self) -> bool:
        chunk = next(self._chunks, b"")
        if not chunk:
            return False
        self._before += len(self._data)
        self._data, self._at = chunk, 0
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
