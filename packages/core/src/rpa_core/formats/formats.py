"""The formats by name, and one call that reads any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath

from rpa_core.errors import UsageError
from rpa_core.formats.delimited import check_characters, read_csv
from rpa_core.formats.encodings import encoding_name
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
    header: bool = True,
) -> Iterator[Item]:
    """Read plain bytes in the given format; `delimiter` and `header` are for CSV and TSV alone.

    A `.csv` file may hold any of the usual delimiters (judged by its rows); TSV is separated by tabs unless another one
    is given. Raises UsageError for what the format does not have, InputError for an unknown encoding.
    """
    encoding = encoding_name(encoding)
    if max_line_bytes < 1:
        raise UsageError(f"max_line_bytes is {max_line_bytes}; it must be at least 1")
    if form in (Format.CSV, Format.TSV):
        check_characters(delimiter)
        return read_csv(
            chunks,
            delimiter="\t" if delimiter is None and form is Format.TSV else delimiter,
            encoding=encoding,
            max_line_bytes=max_line_bytes,
            key_field=key_field,
            header=header,
        )
    if delimiter is not None or not header:
        raise UsageError(f"{form} has no delimiter and no header line: these are options of csv and tsv")
    reader = read_ndjson if form is Format.NDJSON else read_json
    return reader(chunks, max_line_bytes=max_line_bytes, key_field=key_field, encoding=encoding)
