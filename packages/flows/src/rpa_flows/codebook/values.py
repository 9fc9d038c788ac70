"""Compiles a field into a reader: what arrives from CSV or JSON -> the typed answer, or a reason against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from rpa_flows.codebook.memo import Memo
from rpa_flows.codebook.model import (
    Answer,
    BooleanField,
    ChoiceField,
    Codebook,
    DateField,
    FieldSpec,
    IntegerField,
    NumberField,
    TextField,
)

Reader = Callable[[Any], Answer]

_LONGEST_CODE = 64
_EXCERPT = 40


class BadValueError(ValueError):
    """The value does not fit its field; the text says why, without the field's name."""


def excerpt(value: Any) -> str:
    """The start of a value, quoted, for a message."""
    text = repr(value)
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}... ({len(text)} characters)"


def compile_reader(field: FieldSpec, book: Codebook) -> Reader:
    """A function from a raw value to the answer; None is a missing answer. Raises BadValueError."""
    convert = _converter(field)
    codes = frozenset(str(code) for code in (*book.missing, *field.missing))
    longest = field.max_length if isinstance(field, TextField) else _LONGEST_CODE
    required = field.required

    def read(raw: Any) -> Answer:
        if isinstance(raw, str):
            if len(raw) > longest:
                raise BadValueError(f"{len(raw)} characters, longer than {longest}")
            raw = raw.strip()
        elif isinstance(raw, (dict, list)):
            raise BadValueError(f"{excerpt(raw)} is not a single value")
        if raw is None or (not isinstance(raw, bool) and _code(raw) in codes):
            if required:
                raise BadValueError("required, but missing")
            return None
        return convert(raw)

    if isinstance(field, TextField):
        return read
    # Only text is remembered: among numbers 1 and True are equal keys, and mean different things.
    table = Memo(read)

    def read_coded(raw: Any) -> Answer:
        if raw.__class__ is str and len(raw) <= _LONGEST_CODE:
            answer: Answer = table[raw]
            return answer
        return read(raw)

    return read_coded


def _code(raw: Any) -> str:
    return str(int(raw)) if isinstance(raw, float) and raw.is_integer() else str(raw)


def _converter(field: FieldSpec) -> Reader:
    match field:
        case IntegerField():
            return _integer(field)
        case NumberField():
            return _number(field)
        case ChoiceField():
            return _choice(field)
        case BooleanField():
            return _boolean(field)
        case DateField():
            return _date(field)
        case TextField():
            return _text


def _finite(raw: Any, wanted: str) -> float:
    try:
        value = math.nan if isinstance(raw, bool) else float(raw)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise BadValueError(f"{excerpt(raw)} is not {wanted}")
    return value


def _integer(field: IntegerField) -> Reader:
    low, high = field.range

    def convert(raw: Any) -> int:
        value = _finite(raw, "a whole number")  # statistics packages write 7 as 7.0
        if not value.is_integer():
            raise BadValueError(f"{excerpt(raw)} is not a whole number")
        if not low <= value <= high:
            raise BadValueError(f"{int(value)} is outside {low} to {high}")
        return int(value)

    return convert


def _number(field: NumberField) -> Reader:
    low, high = field.range

    def convert(raw: Any) -> float:
        value = _finite(raw, "a number")
        if not low <= value <= high:
            raise BadValueError(f"{value:g} is outside {low:g} to {high:g}")
        return value

    return convert


def _choice(field: ChoiceField) -> Reader:
    answers: Mapping[str, Answer] = {str(code): code for code in field.codes}
    listed = ", ".join(f"{code} ({label})" for code, label in field.codes.items())

    def convert(raw: Any) -> Answer:
        answer = None if isinstance(raw, bool) else answers.get(_code(raw))
        if answer is None:
            raise BadValueError(f"{excerpt(raw)} is none of {listed}")
        return answer

    return convert


def _boolean(field: BooleanField) -> Reader:
    words = {word.lower(): True for word in field.true} | {word.lower(): False for word in field.false}

    def convert(raw: Any) -> bool:
        if isinstance(raw, bool):
            return raw
        answer = words.get(_code(raw).lower())
        if answer is None:
            raise BadValueError(f"{excerpt(raw)} is none of {', '.join(words)}")
        return answer

    return convert


def _date(field: DateField) -> Reader:
    low, high = field.range

    def convert(raw: Any) -> str:
        try:
            value = date.fromisoformat(raw) if isinstance(raw, str) and len(raw) == 10 else None
        except ValueError:
            value = None
        if value is None:
            raise BadValueError(f"{excerpt(raw)} is not a date; write YYYY-MM-DD")
        if not low <= value <= high:
            raise BadValueError(f"{value} is outside {low} to {high}")
        return value.isoformat()

    return convert


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise BadValueError(f"{excerpt(raw)} is not text")
    if "\0" in raw:  # PostgreSQL stores no NUL, neither in text nor in jsonb
        raise BadValueError("contains a NUL character")
    return raw
