"""What every reader yields."""

from __future__ import annotations

from typing import Final, NamedTuple

DEFAULT_MAX_LINE_BYTES: Final = 1024 * 1024
MAX_KEY_CHARS: Final = 512  # well under the 2,704 bytes that a PostgreSQL btree entry can hold
PUT_TOGETHER: Final = "begins with a byte order mark: two files were put together here; load each by itself"
_EXCERPT_CHARS: Final = 120


class Row(NamedTuple):
    """One record. `line` counts from 1: the physical line it begins on; in a JSON array, its place in the array."""

    line: int
    payload: bytes
    key: str | None = None


class BadLine(NamedTuple):
    """Input that is not a record: where, why, and how it begins (printable, at most 120 characters)."""

    line: int
    reason: str
    excerpt: str


Item = Row | BadLine


def excerpt_of(raw: bytes | str) -> str:
    """The beginning of `raw`, printable: control characters and undecodable bytes are escaped."""
    if isinstance(raw, bytes):
        text = raw[: _EXCERPT_CHARS * 4].decode("utf-8", "backslashreplace")
    else:
        text = raw[: _EXCERPT_CHARS + 1]
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:_EXCERPT_CHARS]
    )
    return shown + "…" if len(text) > _EXCERPT_CHARS or len(shown) > _EXCERPT_CHARS * 2 else shown


def key_problem(value: object, field: str) -> str | None:
    """Why `value` cannot be a record's key, or None. A key is a string or an integer, not empty."""
    if value is None or value == "":
        return f"field {field!r}, which holds the key, is missing or empty"
    if isinstance(value, bool) or not isinstance(value, str | int):
        return f"field {field!r}, which holds the key, is {type(value).__name__}; it must be a string or an integer"
    if len(str(value)) > MAX_KEY_CHARS:
        return f"field {field!r}, which holds the key, has more than {MAX_KEY_CHARS} characters"
    if "\0" in str(value):
        return f"field {field!r}, which holds the key, contains a NUL character"
    return None
