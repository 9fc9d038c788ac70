"""Declared text encodings: which can be read line by line, and the way through UTF-8 for the others."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Final

from rpa_core.errors import InputError
from rpa_core.formats.chunks import peek

UTF8_BOM: Final = codecs.BOM_UTF8
# Only names of this list are looked up: `codecs` keeps every unknown name that it was asked for. Without UTF-7, which
# decodes to what is not text.
_CODECS = frozenset(aliases.values()) - {"utf_7"} | {
    "utf_8_sig", "iso8859_1", "koi8_t", "koi8_u", "cp720", "cp737", "cp856", "cp874", "cp875", "cp1006",
    "mac_arabic", "mac_croatian", "mac_farsi", "mac_romanian",
}  # fmt: skip
_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


def encoding_name(declared: str) -> str:
    """The codec's own name for a declared encoding. Raises InputError for one that is not known or is not for text."""
    try:
        normal = normalize_encoding(declared[:40]).lower() if declared.isascii() else ""
        codec = aliases.get(normal, normal)
        if codec not in _CODECS or len(declared) > 40:
            raise LookupError(codec)
        name = codecs.lookup(codec).name
        "".encode(name)  # refuses the codecs that turn bytes into bytes
    except LookupError as error:
        shown = declared[:40].encode("unicode_escape").decode() + ("..." if len(declared) > 40 else "")
        raise InputError(f"unknown text encoding '{shown}': use utf-8, latin-1, cp1252, utf-16, ...") from error
    return "utf-8" if name == "utf-8-sig" else name


def as_lines_of(chunks: Iterable[bytes], encoding: str) -> tuple[Iterator[bytes], str]:
    """Chunks whose lines can be split as bytes, and the encoding each line is then decoded with.

    An encoding in which line ends, quotes and commas are not the ASCII bytes (UTF-16, EBCDIC) is recoded to UTF-8 on
    the way. Raises InputError for an unknown encoding, and later for bytes that such an encoding does not know, or a
    byte order mark that contradicts it.
    """
    name = encoding_name(encoding)
    whole = _with_right_mark(chunks, name)
    if '\r\n",;\t|'.encode(name)[-7:] != b'\r\n",;\t|':
        return _recoded(whole, name), "utf-8"
    return whole, name


def as_utf8_of(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The same text in UTF-8; what is declared as UTF-8 passes as it is. Raises as `as_lines_of`."""
    plain, name = as_lines_of(chunks, encoding)
    return plain if name == "utf-8" else _recoded(plain, name)


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


def _with_right_mark(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The chunks; a byte order mark of another encoding is refused, and where one is needed, that it is missing."""
    head, whole = peek(chunks, 4)
    if name in _MARKS:
        if head and not head.startswith(_MARKS[name]):
            raise InputError(f"the input has no {name} byte order mark: declare its encoding as {name}-le or {name}-be")
    elif not name.startswith(("utf-16", "utf-32")):
        if head.startswith(_MARKS["utf-16"]):
            raise InputError("the input starts with a UTF-16 byte order mark: declare the encoding as utf-16")
        if head.startswith(UTF8_BOM) and name != "utf-8":
            raise InputError(f"the input starts with a UTF-8 byte order mark, but its encoding is declared as {name}")
    yield from whole


def undecodable(error: UnicodeDecodeError, line_offset: int, encoding: str) -> str:
    """Say which byte of a line could not be decoded, by its offset in the whole input (from 0)."""
    byte = error.object[error.start]
    return (
        f"byte 0x{byte:02x} at offset {line_offset + error.start} of the input (byte {error.start + 1} of this line) "
        f"is not valid {encoding}; save the file as {encoding}, or declare its encoding"
    )
