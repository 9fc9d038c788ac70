"""Compiles a codebook's fields into one function: a raw response -> its answers, and every reason against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rpa_flows.codebook.model import Answer, Codebook
from rpa_flows.codebook.problems import suggestion
from rpa_flows.codebook.values import BadValueError, compile_reader, excerpt

LONGEST_KEY_BYTES = 512  # an index entry of PostgreSQL holds at most some 2,700 bytes
_MOST_REASONS = 50


class Checked(NamedTuple):
    """`answers` has every field of the codebook, None where missing. With `reasons`, it is not to be used."""

    answers: dict[str, Answer]
    key: str | None
    reasons: tuple[str, ...]


Validator = Callable[[Any], Checked]


def compile_validator(book: Codebook) -> Validator:
    """A function from a raw response (an object by column name) to `Checked`; it never raises for bad input.

    The key is None where the codebook has no key fields or the response has none of them.
    """
    readers = tuple((name, compile_reader(field, book)) for name, field in book.fields.items())
    known = frozenset(book.fields)
    refuse_unknown = book.unknown_columns == "refuse"
    quote = book.quote
    key_fields = book.key

    def validate(raw: Any) -> Checked:
        if not isinstance(raw, dict):
            return Checked({}, None, (f"{excerpt(raw)} is not an object of answers by column name",))
        all_known = known.issuperset(raw)
        if not all_known:
            raw = _unquoted(raw, quote)
            all_known = known.issuperset(raw)
        answers: dict[str, Answer] = {}
        reasons: list[str] = []
        get = raw.get
        for name, read in readers:
            try:
                answers[name] = read(get(name))
            except BadValueError as bad:
                reasons.append(f"{name}: {bad}")
        if refuse_unknown and not all_known:
            reasons.extend(_unknown(raw, known))
        key = None
        if key_fields and not reasons:
            key, problem = _key([answers[name] for name in key_fields], key_fields)
            reasons.extend(problem)
        return Checked(answers, key, _capped(reasons))

    return validate


def column_problems(book: Codebook, columns: Iterable[str]) -> list[str]:
    """What is wrong with a file's columns as a whole: required ones that it lacks, ones the codebook does not know."""
    named = set(_unquoted(dict.fromkeys(columns), book.quote))
    problems = [
        f"column {name!r} is missing, and the codebook requires it"
        for name, field in book.fields.items()
        if field.required and name not in named
    ]
    if book.unknown_columns == "refuse":
        problems += _unknown(named, frozenset(book.fields))
    return problems


def _unquoted(raw: dict[str, Any], quote: str) -> dict[str, Any]:
    """Names and texts without the codebook's quotes, which a reader that expects others leaves around them."""

    def bare(text: Any) -> Any:
        quoted = isinstance(text, str) and len(text) > 1 and text[0] == text[-1] == quote
        return text[1:-1].replace(quote * 2, quote) if quoted else text

    if not any(bare(name) is not name for name in raw):
        return raw
    return {bare(name): bare(value) for name, value in raw.items()}


def _unknown(columns: Iterable[str], known: frozenset[str]) -> Iterable[str]:
    for column in columns:
        if column not in known:
            yield f"{excerpt(column)}: unknown column; {suggestion(column[:100], known)}see the codebook's fields"


def _key(parts: list[Answer], names: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The parts joined by `/`, a `/` inside one escaped, so that different parts never make the same key."""
    if all(part is None for part in parts):
        return None, []
    absent = [name for name, part in zip(names, parts, strict=True) if part is None]
    if absent:
        return None, [f"{name}: missing, but part of the key {' + '.join(names)}" for name in absent]
    key = "/".join(str(part).replace("%", "%25").replace("/", "%2F") for part in parts)
    if len(key.encode()) > LONGEST_KEY_BYTES:
        return None, [f"{' + '.join(names)}: longer than {LONGEST_KEY_BYTES} bytes, too long for a key"]
    return key, []


def _capped(reasons: list[str]) -> tuple[str, ...]:
    if len(reasons) <= _MOST_REASONS:
        return tuple(reasons)
    return (*reasons[:_MOST_REASONS], f"and {len(reasons) - _MOST_REASONS} more")
