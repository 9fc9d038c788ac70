"""Text from outside on its way to a person's terminal: what could steer the terminal or forge a line is escaped.

Keys, reasons, payloads, file names and answers of other programs may hold escape sequences, line ends, characters that
turn the reading direction, and invisible ones. Each of these is written as `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN` (`\\n`,
`\\r` and `\\t` by their short names); every visible character stays as it is. JSON is written in ASCII instead.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from typing import Any

ESCAPING = "rpa.escape"  # the name of an error handler for streams: what their encoding lacks is escaped
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_OUTSIDE_ASCII = re.compile(r"[^\x20-\x7e]")


def printable(text: object) -> str:
    """`str(text)` on one line, without control, format, private, unassigned and lone surrogate characters."""
    found = str(text)
    return found if found.isprintable() else "".join(map(_shown, found))


def paragraph(text: object) -> str:
    """The same for a message of several lines: its own line ends stay, and every line but the first is indented.

    So nothing that a message quotes can pass for a message of its own.
    """
    first, *more = str(text).split("\n")
    return "\n".join([printable(first), *(f"  {printable(line.strip())}" for line in more if line.strip())])


def ascii_json(value: Any, *, indent: int | None = None, **raw: bytes | str) -> str:
    """`value` as JSON in printable ASCII, whatever is in it: NaN and infinities become texts, unknown objects too.

    `raw` are further members of the object `value` that are JSON already; they are copied to the letter but for signs
    outside ASCII, which become escapes, and for line ends, which become blanks. So numbers stay as they were sent.
    """
    line = json.dumps(_finite(value), indent=indent, default=str)
    for name, data in raw.items():
        text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
        member = f"{json.dumps(name)}: {_OUTSIDE_ASCII.sub(lambda sign: _in_json(sign[0]), text)}"
        line = f"{line[:-1]}{', ' if len(line) > 2 else ''}{member}}}"
    return line


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _in_json(sign: str) -> str:
    return " " if sign in "\n\r\t" else json.dumps(sign)[1:-1]


def _shown(sign: str) -> str:
    if sign.isprintable() or unicodedata.category(sign) == "Zs":
        return sign
    return _SHORT.get(sign) or _escape(sign)


def _escape(sign: str) -> str:
    number = ord(sign)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _escape_missing(error: UnicodeError) -> tuple[str, int]:
    """What a stream cannot encode, as JSON's escapes: a line of JSON stays JSON, and a person can read it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_in_json(sign) for sign in error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPING, _escape_missing)
