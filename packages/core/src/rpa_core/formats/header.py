"""What stands at the head of delimited text: the delimiter, judged by the rows, the column names, where the key is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from rpa_core.errors import InputError
from rpa_core.formats.feed import BrokenLine, Feed, TooLong
from rpa_core.formats.items import excerpt_of

DELIMITERS: Final = (",", ";", "\t", "|")
"""What is recognised without being declared."""
MAX_NAME_CHARS: Final = 1024
_SAMPLE_LINES = 100
_SAMPLE_BYTES = 64 * 1024
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the head says. `key_at` is the position of the key's column, or None."""

    delimiter: str
    names: tuple[str, ...]
    key_at: int | None


def read_header(feed: Feed, delimiter: str | None, quote: str, key_field: str | None, *, named: bool = True) -> Header:
    """Read the first line that is not blank, or a `sep=` line and that. Raises InputError for whatever is wrong.

    Where `named` is False, the first record is not consumed, and its fields are called 1, 2, 3, ...
    """
    try:
        delimiter = _separator_line(feed, delimiter)
        found = delimiter or _judged(feed, quote)
        fields = next(csv.reader(feed, delimiter=found, quotechar=quote, strict=True))
    except StopIteration:
        what = "a header line with the column names is missing" if named else "a record is missing"
        raise InputError(f"the input is empty: {what}") from None
    except TooLong as error:
        raise _wrong(feed, named, f"a quote opened here is not closed within {error}") from error
    except BrokenLine as error:
        raise _wrong(feed, named, error.reason) from error
    except csv.Error as error:
        raise _wrong(feed, named, f"broken quoting: {error}") from error
    if named:
        names = _names(fields)
    else:
        names = tuple(str(number) for number in range(1, len(fields) + 1))
        feed.give_back_record()
    if key_field is not None and key_field not in names:
        raise InputError(f"no column {excerpt_of(key_field)!r} to take the key from; the columns are {_shown(names)}")
    _check_size(names, feed.max_line_bytes)
    return Header(delimiter=found, names=names, key_at=names.index(key_field) if key_field is not None else None)


def _skip_blank(feed: Feed) -> None:
    while (lines := feed.peek(1, 1)) and not lines[0].strip("\r\n "):
        next(feed)
        feed.begin_record()


def _separator_line(feed: Feed, delimiter: str | None) -> str | None:
    """Consume the line `sep=;` with which spreadsheet programs declare a delimiter; returns the delimiter."""
    _skip_blank(feed)
    for line in feed.peek(1, 1):
        text = line.strip("\r\n").strip('"')
        if len(text) == 5 and text[:4].lower() == "sep=" and not text[4].isalnum():
            if delimiter not in (None, text[4]):
                raise InputError(
                    f"the first line says that the delimiter is {text[4]!r}, but {delimiter!r} is declared"
                )
            next(feed)
            feed.begin_record()
            _skip_blank(feed)
            return text[4]
    return delimiter


def _judged(feed: Feed, quote: str) -> str:
    """The delimiter that splits the first line into columns and the lines after it alike."""
    first = "".join(feed.peek(1, 1))
    if quote not in first and sum(mark in first for mark in DELIMITERS) == 1:
        return next(mark for mark in DELIMITERS if mark in first)
    sample = feed.peek(_SAMPLE_LINES, _SAMPLE_BYTES)
    tables = {mark: _split(sample, mark, quote) for mark in DELIMITERS}
    wide = [mark for mark in DELIMITERS if len(tables[mark][0]) > 1]
    if not wide:
        return _one_column(tables)
    alike = {mark: _share(tables[mark][1:], len(tables[mark][0]), quote) for mark in wide}
    best = max(wide, key=lambda mark: (alike[mark], len(tables[mark][0])))
    rivals = [mark for mark in wide if mark != best and not _behind(alike[mark], alike[best])]
    if rivals and any(len(table) > 1 for table in tables.values()):
        ways = "; ".join(f"{mark!r} makes them {_shown(tables[mark][0])}" for mark in (best, *rivals))
        raise InputError(
            f"the delimiter of the columns is not clear: {ways}. Declare it: --delimiter {best!r}, for one"
        )
    return best


def _split(sample: Sequence[str], mark: str, quote: str) -> list[list[str]]:
    """The sample's records, at least one; a broken one is empty, and one that does not end in the sample is missing."""
    rows: list[list[str]] = []
    reader = csv.reader(iter(sample), delimiter=mark, quotechar=quote, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return rows or [[]]
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return rows or [[]]
            row = []
        if not rows or len(row) > 1 or (row and row[0].strip(" ")):
            rows.append(row)


def _share(rows: Sequence[Sequence[str]], width: int, quote: str) -> float:
    """How many of the rows have that width, with every quoted field whole."""
    alike = sum(len(row) == width and not any(field.count(quote) % 2 for field in row) for row in rows)
    return alike / len(rows) if rows else 0.0


def _behind(share: float, best: float) -> bool:
    """Whether one is out of the race: the best fits every row and it does not, or it fits half as many at most."""
    return (best == 1.0 and share < 1.0) or (best > 0 and share * 2 <= best)


def _one_column(tables: dict[str, list[list[str]]]) -> str:
    """There is one name. Where the rows have more columns, that is no header, or its column holds such marks."""
    for mark, (names, *rows) in tables.items():
        if rows and sum(len(row) > 1 for row in rows) * 2 >= len(rows):
            unused = [other for other in tables if all(len(row) < 2 for row in tables[other])] or ["\x01"]
            raise InputError(
                f"the first line names one column, {_shown(names)}, but {mark!r} splits the lines after it: remove "
                f"what stands before the header; or, if it is one column of text, declare --delimiter {unused[-1]!r}"
            )
    return DELIMITERS[0]


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    """Column names without surrounding space; some exporters wrap every one in single quotes, which go too."""
    names = [field.strip() for field in fields]
    if all(len(name) > 2 and name[0] == name[-1] == "'" for name in names):
        names = [name[1:-1] for name in names]
    if blank := [at for at, name in enumerate(names, 1) if not name]:
        raise InputError(f"the header has no name for column {_shown(blank)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"the header names a column more than once: {_shown(twice)}")
    return tuple(names)


def _check_size(names: Sequence[str], max_line_bytes: int) -> None:
    """Names are repeated in every record, so they are bounded."""
    for at, name in enumerate(names, 1):
        if len(name) > MAX_NAME_CHARS:
            raise InputError(f"the name of column {at} has {len(name)} characters; the limit is {MAX_NAME_CHARS}")
    size_bytes = len(orjson.dumps(dict.fromkeys(names, "")))
    if size_bytes > max_line_bytes:
        raise InputError(
            f"the names of {len(names)} columns make {size_bytes} bytes of every record; the limit is {max_line_bytes}"
        )


def _shown(values: Sequence[str] | Sequence[int]) -> str:
    """The first of them, each cut to what can be read."""
    shown = ", ".join(f"'{excerpt_of(value)}'" if isinstance(value, str) else str(value) for value in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def _wrong(feed: Feed, named: bool, why: str) -> InputError:
    return InputError(f"line {feed.last_line()}, the {'header' if named else 'first record'}: {why}")
