"""Physical lines out of byte chunks, each bounded; LF, CRLF and CR all end a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rpa_core.formats.chunks import peek
from rpa_core.formats.encodings import UTF8_BOM

_PIECE_BYTES = 128 * 1024


class Line(NamedTuple):
    """A physical line with its ending. `offset` is that of its first byte in the input.

    Where `size_bytes` is beyond the limit, `raw` is only the line's beginning.
    """

    number: int
    offset: int
    raw: bytes
    size_bytes: int


def split_lines(chunks: Iterable[bytes], max_line_bytes: int) -> Iterator[Line]:
    """Yield every line; the rest of one that is too long is counted and dropped as it comes.

    Holds at most `max_line_bytes` plus one chunk. A UTF-8 byte order mark at the start is dropped.
    """
    number, offset = 1, 0
    kept: list[bytes] = []  # the pieces of the line that is not complete yet
    kept_bytes = size = 0
    for chunk in _whole_line_ends(_in_pieces(without_bom(chunks))):
        for piece in chunk.splitlines(keepends=True):
            ends = piece.endswith((b"\n", b"\r"))
            if ends and not size:
                length = len(piece)
                yield Line(number, offset, piece if length <= max_line_bytes else piece[:max_line_bytes], length)
                number, offset = number + 1, offset + length
                continue
            size += len(piece)
            if kept_bytes < max_line_bytes:
                kept.append(piece[: max_line_bytes - kept_bytes])
                kept_bytes += len(kept[-1])
                if len(kept) > 64:  # many tiny chunks: objects cost more than bytes
                    kept = [b"".join(kept)]
            if ends:
                yield Line(number, offset, b"".join(kept), size)
                number, offset = number + 1, offset + size
                kept, kept_bytes, size = [], 0, 0
    if size:
        yield Line(number, offset, b"".join(kept), size)


def _whole_line_ends(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Move a CR at a chunk's end to the next chunk, so that CRLF is never taken for two line ends."""
    carried = b""
    for chunk in chunks:
        if not chunk:
            continue
        whole = carried + chunk
        carried = b"\r" if whole.endswith(b"\r") else b""
        if carried:
            whole = whole[:-1]
        if whole:
            yield whole
    if carried:
        yield carried


def _in_pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut large chunks: a list of lines costs several times their bytes."""
    for chunk in chunks:
        if len(chunk) <= _PIECE_BYTES:
            yield chunk
        else:
            yield from (chunk[at : at + _PIECE_BYTES] for at in range(0, len(chunk), _PIECE_BYTES))


def without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    head, whole = peek(chunks, len(UTF8_BOM))
    if head == UTF8_BOM:
        yield next(whole)[len(UTF8_BOM) :]
    yield from whole
