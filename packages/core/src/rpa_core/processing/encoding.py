"""Payloads from JSON text, results to JSON text: the same value on both sides, or a clear refusal.

    integers            exact, whatever their size
    other numbers       the nearest double, as everywhere in JSON; one beyond its range is refused
    NaN, infinities     refused: JSON has no word for them
    text                Unicode without NUL, which PostgreSQL cannot read back as text
    keys                text
    depth               1,024 levels, as much as is taken in

orjson does the work wherever it is right: it reads larger integers as doubles, refuses to write them, writes NaN as
null, and writes no more than 254 levels. What finds these cases is public here, for the two places where a call for
each record would show.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
import math
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, cast

import orjson

MAX_DEPTH = 1024
ZEROS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256))  # digits to 0
BACKSLASH = ord("\\")
LONG = b"0" * 19  # the fewest digits in a row that 64 bits may not hold
HAS_NULL = re.compile(b"null").search
_LARGE = re.compile(rb"[0-9]{19,}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search
_NOT_FINITE = re.compile(rb"g.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL).search  # a double in marshal's format


class NotStorable(ValueError):
    """A result that cannot be stored; the text says what in it, and where."""


def decode(raw: bytes) -> Any:
    """The value of JSON text in UTF-8; raises ValueError for what cannot be read without changing it."""
    if raw.translate(ZEROS).find(LONG) < 0:
        return orjson.loads(raw)
    orjson.loads(_LARGE.sub(b"0", raw))  # refuses what the other reader takes: half characters, too many levels
    try:
        return json.loads(raw, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("integers of more than 64 bits are nested too deep to be read exactly") from error


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is beyond the range of a double")
    return number


def encode(value: object) -> bytes:
    """Compact JSON text in UTF-8; raises NotStorable."""
    try:
        text = orjson.dumps(value)
    except TypeError:  # a large integer or many levels, which can be written, or something that cannot
        text = _written(value)
    else:
        if HAS_NULL(text) and _may_hide_a_number(value):
            text = _written(value)
    if BACKSLASH in text and _NUL(text):
        raise NotStorable("text with the character NUL (\\u0000), which PostgreSQL cannot store")
    return text


def _may_hide_a_number(value: object) -> bool:
    """Whether one of the nulls may be a NaN or an infinity; False is certain."""
    try:
        return value is not None and _NOT_FINITE(marshal.dumps(cast("Any", value), 2)) is not None
    except ValueError:  # more than plain values
        return True


def _written(value: object) -> bytes:
    """The text, written piece by piece: slow, exact, and able to say where the trouble is."""
    pieces: list[bytes] = []
    path: list[str | int] = []
    entry: tuple[str | int, object] | None = None
    open_: list[tuple[Iterator[tuple[str | int, object]], bytes]] = []
    while True:
        members = _members(value, path)
        if members is None:
            pieces.append(_leaf(value, path))
        else:
            if len(open_) == MAX_DEPTH:
                raise NotStorable(f"more than {MAX_DEPTH:,} levels, or it contains itself")
            keyed, entries = members
            pieces.append(b"{" if keyed else b"[")
            open_.append((entries, b"}" if keyed else b"]"))
            path.append("")
        while open_ and (entry := next(open_[-1][0], None)) is None:
            pieces.append(open_.pop()[1])
            path.pop()
        if not open_ or entry is None:
            return b"".join(pieces)
        if pieces[-1] not in {b"{", b"["}:
            pieces.append(b",")
        path[-1], value = entry
        if open_[-1][1] == b"}":
            pieces.append(_leaf(path[-1], path) + b":")


def _members(value: object, path: list[str | int]) -> tuple[bool, Iterator[tuple[str | int, object]]] | None:
    """(is it an object, its members by key or position); None for what has none."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise NotStorable(f"{_at(path)}a key of an object is {_kind(key)}; it must be text")
        return True, iter([(str.__str__(key), each) for key, each in value.items()])
    if isinstance(value, list) or type(value) is tuple:
        return False, iter(list(enumerate(value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return True, iter([(name, getattr(value, name)) for name in names])
    return None


def _leaf(value: object, path: list[str | int]) -> bytes:
    while isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        value = float(value)
        if not math.isfinite(value):
            raise NotStorable(f"{_at(path)}the number {value!r}, which JSON cannot hold")
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return int.__repr__(value).encode()
        return orjson.dumps(value)
    except (TypeError, ValueError) as error:  # ValueError: an integer of more digits than Python writes
        reason = str(error) if isinstance(value, str | int) else f"{_kind(value)} is not JSON"
        raise NotStorable(f"{_at(path)}{reason}") from error


def _at(path: list[str | int]) -> str:
    if not path:
        return ""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    steps = steps.removeprefix(".").encode("utf-8", "backslashreplace").decode()
    return f"at {steps if len(steps) <= 200 else f'{steps[:80]}...{steps[-80:]}'}: "


def _kind(value: object) -> str:
    return type(value).__qualname__
