"""Delimited text (CSV, TSV, ...) with a header line: RFC 4180 quoting, read by the `csv` module, strictly.

`csv.reader` pulls physical lines from a `_Feed` only as far as a quoted field needs them. When a record turns out to be
broken, the feed is rewound to the line after the one the record began on. Lines read again are paid from a budget
that grows with the input, so the whole costs at most a small multiple of reading it once; input that exhausts it (a
quote opened on nearly every line and never closed) is refused as a whole.

A record's JSON repeats the column names, so it is bounded by `max_line_bytes` as its line is. The `csv` module's own
limit on a field (131,072 characters) is process-wide; it is raised out of the way, to one constant: threads agree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Final

import orjson

from rpa_core.errors import InputError, UsageError
from rpa_core.formats.encodings import as_lines_of
from rpa_core.formats.feed import BrokenLine, Feed, TooLong
from rpa_core.formats.header import read_header
from rpa_core.formats.items import DEFAULT_MAX_LINE_BYTES, BadLine, Item, Row, key_problem
from rpa_core.formats.lines import split_lines

_MAX_FIELD_CHARS: Final = 2**31 - 1  # what a C long holds everywhere


def read_csv(
    chunks: Iterable[bytes],
    *,
    delimiter: str | None = None,
    quote: str = '"',
    encoding: str = "utf-8",
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    key_field: str | None = None,
    header: bool = True,
) -> Iterator[Item]:
    """Yield one item per record after the header; every value is a string, and an empty field is an empty string.

    `delimiter=None` judges by the first rows which of `header.DELIMITERS` it is; where two fit, InputError shows both.
    A first line `sep=;` declares it. A record with a number of fields other than the header's is a bad line; blank
    lines are skipped. `key_field` names the column that holds the record's key. `header=False` takes the first line as
    a record, and calls the columns 1, 2, 3, ...
    """
    check_characters(delimiter, quote)
    if csv.field_size_limit() < _MAX_FIELD_CHARS:
        csv.field_size_limit(_MAX_FIELD_CHARS)
    plain, line_encoding = as_lines_of(chunks, encoding)
    feed = Feed(split_lines(plain, max_line_bytes), line_encoding, max_line_bytes)
    head = read_header(feed, delimiter, quote, key_field, named=header)
    reader = csv.reader(feed, delimiter=head.delimiter, quotechar=quote, strict=True)
    names, width, key_at = head.names, len(head.names), head.key_at
    while True:
        start = feed.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, BrokenLine, TooLong) as error:
            yield _broken(feed, start, error)
            continue
        if len(fields) == width and (width > 1 or fields[0] or feed.has_content()):
            key = fields[key_at] if key_at is not None else None
            problem = key_problem(key, key_field) if key_field is not None else None
            payload = orjson.dumps(dict(zip(names, fields, strict=True)))
            if not problem and len(payload) > max_line_bytes:
                problem = f"the record has {len(payload)} bytes with its column names; the limit is {max_line_bytes}"
            yield BadLine(start, problem, feed.excerpt()) if problem else Row(start, payload, key)
        elif feed.has_content():
            reason = f"{len(fields)} fields where the {'header' if header else 'first record'} has {width}"
            if feed.lines_read() > 1:
                reason += f"; a quote opened on this line closes on line {feed.last_line()}"
            excerpt = feed.excerpt()
            feed.rewind()
            yield BadLine(start, reason, excerpt)


def check_characters(delimiter: str | None, quote: str = '"') -> None:
    """Raises UsageError for what cannot be a delimiter or a quote character."""
    for what, character in (("delimiter", delimiter), ("quote character", quote)):
        if character is not None and (len(character) != 1 or character in "\r\n\0" or "\ud800" <= character < "\ue000"):
            raise UsageError(f"the {what} is {character!r}; it must be one character and no line end")
    if delimiter == quote:
        raise UsageError(f"the delimiter and the quote character are both {quote!r}")


def _broken(feed: Feed, start: int, error: Exception) -> BadLine:
    excerpt = feed.excerpt()
    lines_read, last = feed.lines_read(), feed.last_line()
    if isinstance(error, BrokenLine):
        reason = (
            error.reason if lines_read == 1 else f"a quote opened on this line runs into line {last}: {error.reason}"
        )
    elif isinstance(error, TooLong):
        reason = f"a quote opened on this line is not closed within {error}"
    elif "unexpected end of data" in str(error):
        if lines_read <= 1:
            raise InputError(
                f"line {start}: the input ends inside a quoted field: it was cut short, or a quote is missing"
            ) from error
        reason = "a quote opened on this line is never closed"
    else:
        reason = f"broken quoting or field: {error}"
        if lines_read > 1:
            reason += f" (the quoted field opened here runs to line {last})"
    feed.rewind()
    return BadLine(start, reason, excerpt)
