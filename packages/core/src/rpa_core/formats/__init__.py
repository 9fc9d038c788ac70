"""Records out of files and request bodies, in constant memory.

Every reader takes byte chunks of any size and yields, in the order of the input, a `Row` (one JSON object as UTF-8
text) or a `BadLine` (where, why, how it began). What concerns the input as a whole raises `InputError`: no header, an
unknown encoding, a body that was cut short. A caller that loads in one transaction rolls back then, so nothing is half
loaded.

What a reader holds: one record of at most `max_line_bytes`, plus one chunk. A longer record is one `BadLine` and is
skipped to its end without being kept. Whatever the chunk boundaries, the result is the same.

Where a CSV quote is broken, the record is one `BadLine` and reading resumes at the physical line after the one it began
on: a stray quote costs one line, never the rest. The lines read again are bounded (see `delimited`), so that hostile
input cannot make this quadratic.

JSON payloads pass through as they were written: an integer of any size, or a repeated member name, reaches the database
to the letter (decoders take the last of repeated members). NaN, Infinity, lone surrogates, NUL characters and nesting
beyond 1,024 levels are bad lines, because PostgreSQL or a decoder downstream could not read them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpa_core.formats.delimited import read_csv
    from rpa_core.formats.formats import Format, format_of, read
    from rpa_core.formats.gzipped import decompressed
    from rpa_core.formats.items import BadLine, Item, Row
    from rpa_core.formats.json_array import read_json
    from rpa_core.formats.ndjson import read_ndjson

__all__ = [
    "BadLine",
    "Format",
    "Item",
    "Row",
    "decompressed",
    "format_of",
    "read",
    "read_csv",
    "read_json",
    "read_ndjson",
]


def __getattr__(name: str) -> Any:
    """Load a reader when it is first asked for, so that importing this room costs nothing."""
    from importlib import import_module

    homes = {
        "read_csv": "delimited",
        "Format": "formats",
        "format_of": "formats",
        "read": "formats",
        "decompressed": "gzipped",
        "BadLine": "items",
        "Item": "items",
        "Row": "items",
        "read_json": "json_array",
        "read_ndjson": "ndjson",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
