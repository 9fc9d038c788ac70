"""The same value on both sides of JSON, or a clear refusal."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import json
import math
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_core.processing.encoding import MAX_DEPTH, NotStorable, decode, encode


@dataclasses.dataclass
class _Point:
    x: Any
    _hidden: int = 1


class _Name(str):
    __slots__ = ()


class _Ratio(float):
    pass


class _Large(enum.IntEnum):
    VALUE = 2**70


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_NUMBERS = st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.requirement("R8.7")
@given(value=_JSON)
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    """Integers of any size, doubles, text, depth: exact, and the text is orjson's wherever orjson can write it."""
    text = encode(value)
    assert decode(text) == value == json.loads(text)
    with contextlib.suppress(TypeError):
        assert orjson.dumps(value) == text


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, 10**400])
def test_integers_beyond_64_bits_are_exact(number: int) -> None:
    """Alone, within other values, and beside floats of many digits."""
    raw = b'{"a":[%d],"b":0.12345678901234567890123,"c":"%d"}' % (number, number)
    assert decode(raw) == {"a": [number], "b": 0.12345678901234568, "c": str(number)}
    assert encode({"a": number}) == b'{"a":%d}' % number


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    "raw", [b"1e400", b"[11111111111111111111,1e400]", b"1E0000000000000000000400", b'["\\ud800",11111111111111111111]']
)
def test_what_cannot_be_read_exactly_is_an_error(raw: bytes) -> None:
    """Numbers beyond a double's range, half characters: also beside a large integer."""
    with pytest.raises(ValueError):
        decode(raw)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (_Point(2**64), b'{"x":18446744073709551616}'),
        ({_Name("k"): _Ratio(1.5)}, b'{"k":1.5}'),
        ([_Large.VALUE], b"[1180591620717411303424]"),
        ([uuid.UUID(int=1), 2**64], b'["00000000-0000-0000-0000-000000000001",18446744073709551616]'),
        ((datetime.date(2026, 1, 1), None), b'["2026-01-01",null]'),
        ("a\\u0000", b'"a\\\\u0000"'),
        ({"": {}, "b": [[]], "c": 2**64}, b'{"":{},"b":[[]],"c":18446744073709551616}'),
    ],
)
def test_subclasses_and_usual_types_are_written(value: Any, text: bytes) -> None:
    """On the quick way and on the slow one."""
    assert encode(value) == text


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "the number nan, which JSON cannot hold"),
        ({"a": [1, {"b": -math.inf}]}, "at a[1].b: the number -inf, which JSON cannot hold"),
        ({"when": datetime.date(2026, 1, 1), "v": math.nan}, "at v: the number nan, which JSON cannot hold"),
        (_Point(math.nan), "at x: the number nan, which JSON cannot hold"),
        (["a\0b"], "text with the character NUL (\\u0000), which PostgreSQL cannot store"),
        ({"k\ud800": 1}, "at k\\ud800: str is not valid UTF-8: surrogates not allowed"),
        ({"a": {1}}, "at a: set is not JSON"),
        ({"a": {None: 1}}, "at a: a key of an object is NoneType; it must be text"),
        ([10**5000], "at [0]: Exceeds the limit"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: Any, reason: str) -> None:
    """Never null, never a half."""
    with pytest.raises(NotStorable) as refused:
        encode(value)
    assert str(refused.value).startswith(reason)


@pytest.mark.requirement("R8.7")
def test_as_many_levels_as_are_taken_in() -> None:
    """1,024 levels are written; one more, or a value that contains itself, is refused."""
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert encode(value) == b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
    with pytest.raises(NotStorable, match="more than 1,024 levels"):
        encode([value])
    value = []
    value.append(value)
    with pytest.raises(NotStorable, match="contains itself"):
        encode(value)
