"""Transparent gzip: recognised by its first two bytes, unpacked as a stream, bounded against bombs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from rpa_core.errors import InputError
from rpa_core.formats.chunks import peek

MAGIC: Final = b"\x1f\x8b"
_PIECE_BYTES: Final = 64 * 1024
_SLACK_BYTES: Final = 1024 * 1024  # small inputs may exceed any ratio without harm


def decompressed(chunks: Iterable[bytes], *, max_ratio: int | None = 200, required: bool = False) -> Iterator[bytes]:
    """Yield plain bytes: the input as it is, or unpacked where it begins like gzip.

    Several members in a row are one stream, as for gzip(1). `required` refuses input that is not gzip. Raises
    InputError where gzip data is broken, cut short, or unpacks to more than `max_ratio` times its size (plus 1 MiB);
    None is for input that is trusted, and read in constant memory.
    """
    head, whole = peek(chunks, len(MAGIC))
    if head == MAGIC:
        yield from _unpacked(whole, max_ratio)
    elif required and head:
        raise InputError("the input is declared as gzip, but does not begin like gzip")
    else:
        yield from whole


def _unpacked(chunks: Iterator[bytes], max_ratio: int | None) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    fresh = False  # True between two members
    packed = plain = 0
    for chunk in chunks:
        packed += len(chunk)
        pending = chunk
        while pending:
            if member.eof:
                member, fresh = zlib.decompressobj(wbits=31), True
            if fresh:
                pending = pending.lstrip(b"\0")  # gzip(1) allows padding after the last member
                if not pending:
                    break
                fresh = False
            try:
                piece = member.decompress(pending, _PIECE_BYTES)
            except zlib.error as error:
                raise InputError(f"the gzip data is broken after {plain} unpacked bytes: {error}") from error
            plain += len(piece)
            if max_ratio is not None and plain > packed * max_ratio + _SLACK_BYTES:
                raise InputError(f"the gzip data unpacks to more than {max_ratio} times its size; refused as hostile")
            if piece:
                yield piece
            pending = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof and not fresh:
        raise InputError(f"the gzip data is cut short: it ends after {plain} unpacked bytes without its trailer")
