"""One JSON object per line (NDJSON, JSON Lines); blank lines are skipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

import orjson

from rpa_core.formats.encodings import UTF8_BOM, as_lines_of, undecodable
from rpa_core.formats.items import (
    DEFAULT_MAX_LINE_BYTES,
    PUT_TOGETHER,
    BadLine,
    Item,
    Row,
    excerpt_of,
    key_problem,
)
from rpa_core.formats.lines import split_lines

_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def read_ndjson(
    chunks: Iterable[bytes],
    *,
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    key_field: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[Item]:
    """Yield one item per line that is not blank; `key_field` names the member that holds the record's key."""
    plain, line_encoding = as_lines_of(chunks, encoding)
    for number, offset, raw, size_bytes in split_lines(plain, max_line_bytes):
        if size_bytes > max_line_bytes:
            yield BadLine(number, f"the line has {size_bytes} bytes; the limit is {max_line_bytes}", excerpt_of(raw))
            continue
        text = raw.strip(b" \t\r\n")
        if text:
            start = offset + len(raw) - len(raw.lstrip(b" \t\r\n"))
            if line_encoding == "utf-8":
                yield json_item(number, text, key_field, start)
            else:
                yield _recoded(number, text, line_encoding, max_line_bytes, key_field, start)


def _recoded(number: int, text: bytes, encoding: str, max_line_bytes: int, key_field: str | None, offset: int) -> Item:
    try:
        plain = text.decode(encoding).encode()
    except UnicodeDecodeError as error:
        return BadLine(number, undecodable(error, offset, encoding), excerpt_of(text))
    if len(plain) > max_line_bytes:
        return BadLine(
            number, f"the line has {len(plain)} bytes as UTF-8; the limit is {max_line_bytes}", excerpt_of(plain)
        )
    return json_item(number, plain, key_field, offset)


def json_item(number: int, text: bytes, key_field: str | None, offset: int = 0) -> Item:
    """A record from one JSON text without surrounding space; `offset` is where it begins in the input."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return BadLine(number, _reason(error, text, offset), excerpt_of(text))
    if not isinstance(value, dict):
        return BadLine(number, "not a JSON object: a record is {...} with its fields by name", excerpt_of(text))
    if b"\\u0000" in text and _NUL_ESCAPE.search(text):
        return BadLine(
            number, "contains the NUL character \\u0000, which PostgreSQL text cannot hold", excerpt_of(text)
        )
    if key_field is None:
        return Row(number, text, None)
    key = value.get(key_field)
    if isinstance(key, float):  # so the decoder gives integers beyond 64 bits, too
        key = _integer(text, key_field, key)
    problem = key_problem(key, key_field)
    return BadLine(number, problem, excerpt_of(text)) if problem else Row(number, text, str(key))


def _integer(text: bytes, key_field: str, decoded: float) -> object:
    """The member's digits as they are written, if it is an integer, else what was decoded."""
    try:
        digits = json.loads(text, parse_int=str)[key_field]
    except RecursionError:
        return decoded
    return digits if isinstance(digits, str) else decoded


def _reason(error: orjson.JSONDecodeError, text: bytes, offset: int) -> str:
    if text.startswith(UTF8_BOM):
        return PUT_TOGETHER
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return undecodable(wrong, offset, "utf-8")
    return f"not valid JSON: {error.msg} (character {error.pos + 1})"
