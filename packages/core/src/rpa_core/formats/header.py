"""The header line of delimited text: the delimiter, the column names, where the key is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rpa_core.errors import InputError
from rpa_core.formats.feed import BrokenLine, Feed, TooLong


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header line says. `key_at` is the position of the key's column, or None."""

    delimiter: str
    names: tuple[str, ...]
    key_at: int | None


def read_header(
    feed: Feed, delimiter: str | None, quote: str, candidates: Sequence[str], key_field: str | None
) -> Header:
    """Read the first line that is not blank. Raises InputError for whatever is wrong with it."""
    try:
        text = next(feed)
        while not text.strip("\r\n "):
            text = next(feed)
    except StopIteration:
        raise InputError("the input is empty: a header line with the column names is missing") from None
    except (BrokenLine, TooLong) as error:
        raise InputError(f"line {feed.last_line()}, the header: {error}") from error
    found = delimiter or _sniff(text, quote, candidates)
    try:
        fields = next(csv.reader([text], delimiter=found, quotechar=quote, strict=True))
    except csv.Error as error:
        raise InputError(f"line {feed.last_line()}, the header: broken quoting: {error}") from error
    names = _names(fields)
    if key_field is not None and key_field not in names:
        raise InputError(f"no column {key_field!r} to take the key from; the header has {', '.join(map(repr, names))}")
    return Header(delimiter=found, names=names, key_at=names.index(key_field) if key_field is not None else None)


def _sniff(text: str, quote: str, candidates: Sequence[str]) -> str:
    unquoted = "".join(text.split(quote)[::2])
    counts = [unquoted.count(candidate) for candidate in candidates]
    return candidates[counts.index(max(counts))]


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    """Column names without surrounding space; some exporters wrap every one in single quotes, which go too."""
    names = [field.strip() for field in fields]
    if all(len(name) > 2 and name[0] == name[-1] == "'" for name in names):
        names = [name[1:-1] for name in names]
    if blank := [str(at) for at, name in enumerate(names, 1) if not name]:
        raise InputError(f"the header has no name for column {', '.join(blank)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"the header names a column more than once: {', '.join(map(repr, twice))}")
    return tuple(names)
