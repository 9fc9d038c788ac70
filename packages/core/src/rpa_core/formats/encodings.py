"""Declared text encodings: which can be read line by line, and the way through UTF-8 for the others."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from rpa_core.errors import InputError
from rpa_core.formats.chunks import peek

# Python's own escapes and codecs of host names: not what a file is written in.
_NOT_FOR_FILES = {"unicode-escape", "raw-unicode-escape", "punycode", "idna", "undefined"}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def as_lines_of(chunks: Iterable[bytes], encoding: str) -> tuple[Iterator[bytes], str]:
    """Chunks whose lines can be split as bytes, and the encoding each line is then decoded with.

    An encoding in which line ends, quotes and commas are not the ASCII bytes (UTF-16, EBCDIC) is recoded to UTF-8 on
    the way. Raises InputError for an unknown encoding, and later for bytes that such an encoding does not know.
    """
    try:
        name = codecs.lookup(encoding).name
        if name in _NOT_FOR_FILES:
            raise LookupError(name)
        ascii_based = '\r\n",;\t|'.encode(name) == b'\r\n",;\t|'
    except (LookupError, UnicodeError, ValueError) as error:
        raise InputError(f"unknown text encoding {encoding!r}: use utf-8, latin-1, cp1252, utf-16, ...") from error
    if name == "utf-8-sig":
        name = "utf-8"
    if not ascii_based:
        return _recoded(chunks, name), "utf-8"
    return (_refuse_utf16(chunks) if name == "utf-8" else iter(chunks)), name


def _recoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    seen = 0
    try:
        for chunk in chunks:
            if text := decoder.decode(chunk):
                yield text.encode()
            seen += len(chunk)
        tail = decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        why = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError(
            f"the input is not valid {encoding} at or shortly after byte offset {seen} "
            f"({why}); where it should be, it was cut short or its encoding is another"
        ) from error
    if tail:
        yield tail


def _refuse_utf16(chunks: Iterable[bytes]) -> Iterator[bytes]:
    head, whole = peek(chunks, 2)
    if head in _UTF16_MARKS:
        raise InputError("the input starts with a UTF-16 byte order mark: declare the encoding as utf-16")
    yield from whole


def undecodable(error: UnicodeDecodeError, line_offset: int, encoding: str) -> str:
    """Say which byte of a line could not be decoded, by its offset in the whole input (from 0)."""
    byte = error.object[error.start]
    return (
        f"byte 0x{byte:02x} at offset {line_offset + error.start} of the input (byte {error.start + 1} of this line) "
        f"is not valid {encoding}; save the file as {encoding}, or declare its encoding"
    )
