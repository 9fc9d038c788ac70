"""The formats by name, and one call that reads any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath

from rpa_core.errors import UsageError
from rpa_core.formats.delimited import read_csv
from rpa_core.formats.items import DEFAULT_MAX_LINE_BYTES, Item
from rpa_core.formats.json_array import read_json
from rpa_core.formats.ndjson import read_ndjson


class Format(StrEnum):
    """How records are written in a file or a request body."""

    CSV = "csv"
    TSV = "tsv"
    NDJSON = "ndjson"
    JSON = "json"


def format_of(name: str) -> Format:
    """The format a file name ends in, `.gz` aside. Raises UsageError for an ending that says nothing."""
    path = PurePath(name)
    ending = (PurePath(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()
    match ending:
        case ".csv":
            return Format.CSV
        case ".tsv" | ".tab":
            return Format.TSV
        case ".ndjson" | ".jsonl":
            return Format.NDJSON
        case ".json":
            return Format.JSON
        case _:
            raise UsageError(
                f"cannot tell the format of {path.name!r} from its ending {ending!r}; "
                "name one of csv, tsv, ndjson, json, or use .csv, .tsv, .ndjson, .jsonl, .json (also with .gz)"
            )


def read(
    chunks: Iterable[bytes],
    form: Format,
    *,
    key_field: str | None = None,
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> Iterator[Item]:
    """Read plain bytes in the given format; `encoding` and `delimiter` are for CSV and TSV (JSON is always UTF-8).

    A `.csv` file may hold any of the usual delimiters (it is sniffed); TSV is always separated by tabs.
    """
    match form:
        case Format.CSV | Format.TSV:
            mark = delimiter or ("\t" if form is Format.TSV else None)
            return read_csv(
                chunks, delimiter=mark, encoding=encoding, max_line_bytes=max_line_bytes, key_field=key_field
            )
        case Format.NDJSON:
            return read_ndjson(chunks, max_line_bytes=max_line_bytes, key_field=key_field)
        case Format.JSON:
            return read_json(chunks, max_line_bytes=max_line_bytes, key_field=key_field)
