"""A JSON array of objects, or one object, as a stream: the document is never held, only one element at a time.

A scanner finds where each element ends; orjson judges what is inside. An element that is not an object, or is broken
inside, is a bad line. What breaks the array itself (a missing comma, text after the end, an input cut short) leaves no
place to resume at and is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rpa_core.errors import InputError
from rpa_core.formats.encodings import as_utf8_of
from rpa_core.formats.items import DEFAULT_MAX_LINE_BYTES, BadLine, Item, excerpt_of
from rpa_core.formats.ndjson import json_item
from rpa_core.formats.window import Window

_SPACE = re.compile(rb"[ \t\r\n]*")
# Each byte can be matched in one way only, so a match that fails has nothing else to try, and needs no possessive
# quantifiers, which Python before 3.11.5 misreads where they are nested. Repeats are bounded, because each keeps some
# memory; what exceeds them goes through the scan.
_INSIDE = rb'[^"\\]*(?:\\.[^"\\]*){0,500}'
# The common case in one match: an object without nested ones.
_FLAT_OBJECT = re.compile(rb'\{[^{}\[\]"\\]*(?:"' + _INSIDE + rb'"[^{}\[\]"\\]*){0,2000}\}', re.DOTALL)
# What matters in an element: brackets and strings; lastindex says that a string is closed. At depth 0 a comma matters.
_STRING = rb'|"' + _INSIDE + rb'(")?'
_TOKEN = re.compile(rb"[{\[]+|[}\]]" + _STRING, re.DOTALL)
_OUTER_TOKEN = re.compile(rb"[{\[]+|[}\],]" + _STRING, re.DOTALL)
_REST_OF_STRING = re.compile(_INSIDE + rb'(")?', re.DOTALL)
_QUOTE, _BACKSLASH, _OPENING = ord('"'), ord("\\"), frozenset(b"{[")


def read_json(
    chunks: Iterable[bytes],
    *,
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    key_field: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[Item]:
    """Yield one item per element; `line` is the element's place in the array, from 1.

    `max_line_bytes` bounds one element; `key_field` names the member that holds the record's key.
    """
    window = Window(as_utf8_of(chunks, encoding), max_line_bytes)
    first = window.next_token(_SPACE)
    if first == b"":
        raise InputError("the input is empty: expected a JSON array of objects, or one object")
    if first == b"{":
        yield _element(window, 1, key_field)
        _expect_end(window, "the object")
        return
    if first != b"[":
        raise InputError(
            f"expected a JSON array of objects, or one object; the input begins with {excerpt_of(first)!r}"
        )
    window.skip(1)
    number = 0
    if window.next_token(_SPACE) == b"]":
        window.skip(1)
        _expect_end(window, "the array")
        return
    while True:
        number += 1
        token = window.next_token(_SPACE)
        if token in (b"]", b",", b"}", b""):
            raise _structure(window, token, f"element {number}")
        yield _element(window, number, key_field)
        token = window.next_token(_SPACE)
        if token not in (b",", b"]"):
            raise _structure(window, token, f"`,` or `]` after element {number}")
        window.skip(1)
        if token == b"]":
            _expect_end(window, "the array")
            return


def _element(window: Window, number: int, key_field: str | None) -> Item:
    offset = window.offset
    if text := window.take_match(_FLAT_OBJECT):
        return json_item(number, text, key_field, offset)
    size_bytes, text = _scan(window, number)
    if size_bytes > window.limit_bytes:
        reason = f"the element has {size_bytes} bytes; the limit is {window.limit_bytes}"
        return BadLine(number, reason, excerpt_of(text))
    return json_item(number, text.rstrip(b" \t\r\n"), key_field, offset)


def _scan(window: Window, number: int) -> tuple[int, bytes]:
    """Find the element's end, across chunks; returns its size, and it (only its beginning where it is too long)."""
    depth = 0
    in_string = ended = False
    recorded = window.record()
    while not ended:
        if window.at_end():
            raise InputError(f"the input is cut short: it ends inside element {number}")
        if in_string:
            in_string = not _pass_string(window)
        else:
            depth, in_string, ended = _pass_tokens(window, depth)
    window.stop_recording()
    return recorded.size_bytes, recorded.beginning()


def _pass_tokens(window: Window, depth: int) -> tuple[int, bool, bool]:
    """Pass over what is here of an element; returns the depth, whether it is in a string, whether it ends."""
    for match in (_TOKEN if depth else _OUTER_TOKEN).finditer(window.data, window.at):
        token = window.data[match.start()]
        if token == _QUOTE:
            if match.lastindex is None:
                window.pass_to(match.end())
                return depth, True, False
        elif token in _OPENING:
            depth += match.end() - match.start()
            if depth == match.end() - match.start():  # no longer at depth 0, where a comma ends the element
                window.pass_to(match.end())
                return depth, False, False
        elif depth == 0:  # `,` or a closing bracket that belongs to the array
            window.pass_to(match.start())
            return depth, False, True
        else:
            depth -= 1
            if depth == 0:
                window.pass_to(match.end())
                return depth, False, True
    window.pass_to(len(window.data))
    return depth, False, False


def _pass_string(window: Window) -> bool:
    """Pass over what is here of a string; returns whether that is its end."""
    match = _REST_OF_STRING.match(window.data, window.at)
    assert match is not None, "the pattern matches nothing, too"
    window.pass_to(match.end())
    if match.lastindex is None and window.at == len(window.data) - 1 and window.data[window.at] == _BACKSLASH:
        window.pass_over(2)  # the escaped byte is in the next chunk
    return match.lastindex is not None


def _structure(window: Window, token: bytes, expected: str) -> InputError:
    if not token:
        return InputError(f"the input is cut short: expected {expected}, found the end")
    return InputError(
        f"not a JSON array: expected {expected} at byte offset {window.offset}, found {excerpt_of(token)!r}"
    )


def _expect_end(window: Window, what: str) -> None:
    token = window.next_token(_SPACE)
    if token:
        raise InputError(
            f"{excerpt_of(token)!r} follows the end of {what} at byte offset {window.offset}; "
            "for one object per line, declare the format as NDJSON"
        )
