"""Random files, whole and damaged, in random pieces, against `json` and `csv` reading the whole text at once.

What the readers must never do: lose a record, merge two, change one, or number it wrongly. Each case has a seed of its
own, which a failure shows.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Iterable
from typing import Any

import pytest

from rpa_core.errors import InputError
from rpa_core.formats import BadLine, Format, Row, read

_CASES = 120
_PIECE = 64 * 1024
_ALPHABET = 'ab,;:{}[]"\\/\n\r\t é😀\u2028'
_JSON_DAMAGE = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\xff", b"1", b" ", b""]
_CSV_DAMAGE = [b'"', b",", b"\n", b"\r", b"\xff", b"\0", b"x", b""]


def _text(rng: random.Random, most: int) -> str:
    return "".join(rng.choice(_ALPHABET) for _ in range(rng.randint(0, most)))


def _long_text(rng: random.Random) -> str:
    """Now and then as long as a piece that the scanner holds, so that its end falls anywhere."""
    if rng.random() < 0.15:
        return _text(rng, 40) + rng.choice(["x", "\\", '"', "é", "[", "}"]) * rng.choice([3_000, _PIECE - 20, _PIECE])
    return _text(rng, 8)


def _value(rng: random.Random, depth: int) -> Any:
    kind = rng.random()
    if depth > 2 or kind < 0.5:
        return _long_text(rng)
    if kind < 0.65:
        return rng.choice([0, -1, 7.25, 2**63, True, None])
    if kind < 0.85:
        return [_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {_text(rng, 4) + str(n): _value(rng, depth + 1) for n in range(rng.randint(0, 3))}


def _object(rng: random.Random) -> dict[str, Any]:
    return {f"k{n}": _value(rng, 0) for n in range(rng.randint(0, 4))}


def _pieces(rng: random.Random, raw: bytes) -> list[bytes]:
    """The input cut as files are, as networks do, or anywhere."""
    size = rng.choice([1_000, _PIECE, _PIECE - 1, len(raw) + 1, None])
    if size is None:
        cuts = sorted(rng.randint(0, len(raw)) for _ in range(rng.randint(0, 6)))
        return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def _outcome(chunks: Iterable[bytes], form: Format, **options: Any) -> list[Any]:
    """Line and decoded record, or line and None for a bad one; last the refusal's text, where the whole is refused."""
    seen: list[Any] = []
    try:
        seen.extend(
            (item.line, json.loads(item.payload) if isinstance(item, Row) else None)
            for item in read(chunks, form, **options)
        )
    except InputError as error:
        seen.append(str(error))
    return seen


def _damaged(rng: random.Random, raw: bytes, damage: list[bytes]) -> bytes:
    at = rng.randint(0, len(raw))
    return raw[:at] + rng.choice(damage) + raw[at + rng.randint(0, 2) :]


def _strictly(text: bytes) -> Any:
    """What the standard library reads, in the standard's terms: no NaN, no lone surrogate, no nesting without end.

    Raises ValueError.
    """

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(text.decode(), parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nesting") from error
    json.dumps(value, ensure_ascii=False).encode()
    return value


@pytest.mark.requirement("R8.7", "N2")
@pytest.mark.parametrize("seed", range(4))
def test_json_arrays_read_as_the_standard_library_reads_them(seed: int) -> None:
    """Every record of a whole array comes out, numbered from 1; of a damaged one nothing is lost without a word."""
    rng = random.Random(seed)
    for case in range(_CASES):
        objects = [_object(rng) for _ in range(rng.randint(0, 6))]
        raw = json.dumps(objects, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1])).encode()
        expected = list(enumerate(objects, 1))
        assert _outcome(_pieces(rng, raw), Format.JSON, max_line_bytes=10**7) == expected, (seed, case)
        broken = _damaged(rng, raw, _JSON_DAMAGE)
        found = _outcome(_pieces(rng, broken), Format.JSON, max_line_bytes=10**7)
        try:
            whole = _strictly(broken)
        except ValueError:
            assert any(isinstance(each, str) or each[1] is None for each in found), (seed, case)
        else:
            if not isinstance(whole, list | dict):
                assert isinstance(found[0], str), (seed, case)
                continue
            elements = whole if isinstance(whole, list) else [whole]
            assert [each[1] for each in found] == [e if isinstance(e, dict) else None for e in elements], (seed, case)


@pytest.mark.requirement("R8.7", "N2")
def test_a_broken_element_is_numbered_and_leaves_its_neighbours() -> None:
    """Elements that are broken inside are bad lines under their own number, wherever the pieces end."""
    rng = random.Random(11)
    for case in range(_CASES):
        expected: list[tuple[int, Any]] = []
        texts = []
        for number in range(1, rng.randint(2, 8)):
            one = _object(rng)
            text = json.dumps(one, ensure_ascii=False)
            if spoiled := rng.random() < 0.4:
                text = rng.choice(['{"a" 1}', '{"a": nul}', '{"a": [1 2]}', "[]", "1", '"x,]"', '{"a": "\\q"}'])
            texts.append(text)
            expected.append((number, None if spoiled else one))
        raw = "[{}]".format(rng.choice([",", " ,\n"]).join(texts)).encode()
        assert _outcome(_pieces(rng, raw), Format.JSON, max_line_bytes=10**7) == expected, case


@pytest.mark.requirement("R8.7", "N2")
@pytest.mark.parametrize("seed", range(2))
def test_json_lines_read_as_the_standard_library_reads_them(seed: int) -> None:
    """Whole or damaged, each physical line is what `json` makes of it alone."""
    rng = random.Random(100 + seed)
    for case in range(_CASES):
        end = rng.choice([b"\n", b"\r\n"])
        raw = end.join(json.dumps(_object(rng), ensure_ascii=rng.random() < 0.5).encode() for _ in range(6)) + end
        if rng.random() < 0.7:
            raw = _damaged(rng, raw, _JSON_DAMAGE)
        expected = []
        for number, line in enumerate(re.split(rb"\r\n|\n|\r", raw), 1):
            if not line.strip(b" \t"):
                continue
            try:
                value = _strictly(line)
            except ValueError:
                value = None
            expected.append((number, value if isinstance(value, dict) else None))
        assert _outcome(_pieces(rng, raw), Format.NDJSON, max_line_bytes=10**7) == expected, (seed, case)


def _table(rng: random.Random, cells: str, quoting: Any) -> tuple[bytes, str]:
    delimiter = rng.choice([",", ";", "\t", "|"])
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=rng.choice(["\n", "\r\n"]))
    width = rng.randint(2, 5)
    writer.writerow(f"c{n}" for n in range(width))
    for _ in range(rng.randint(0, 8)):
        row = ["".join(rng.choice(cells) for _ in range(rng.randint(1, 6))) for _ in range(width)]
        if rng.random() < 0.05:
            row[0] *= 3_000
        writer.writerow(row)
    return out.getvalue().encode(), delimiter


@pytest.mark.requirement("R8.7", "N2")
@pytest.mark.parametrize("seed", range(2))
def test_csv_reads_as_the_standard_library_reads_it(seed: int) -> None:
    """Every row of a whole table comes out; of a damaged one nothing is lost or merged without a word."""
    rng = random.Random(200 + seed)
    for case in range(_CASES):
        raw, delimiter = _table(rng, 'ab,;\t|"\n é', csv.QUOTE_MINIMAL)
        if rng.random() < 0.6:
            raw = _damaged(rng, raw, _CSV_DAMAGE)
        found = _outcome(_pieces(rng, raw), Format.CSV, delimiter=delimiter, max_line_bytes=10**7)
        assert found == _outcome([raw], Format.CSV, delimiter=delimiter, max_line_bytes=10**7), (seed, case)
        try:
            if b"\0" in raw:
                raise ValueError("NUL")
            text = io.StringIO(raw.decode(), newline="")
            header, *rows = [row for row in csv.reader(text, delimiter=delimiter, strict=True) if row]
            assert all(len(row) == len(header) for row in rows)
        except (ValueError, csv.Error, AssertionError):
            assert any(isinstance(each, str) or each[1] is None for each in found), (seed, case)
        else:
            if not isinstance(found[-1:][0] if found else None, str):  # a damaged header may be refused
                names = [name.strip() for name in header]
                assert [each[1] for each in found] == [dict(zip(names, row, strict=True)) for row in rows], (seed, case)


@pytest.mark.requirement("R8.7", "N2")
def test_each_line_of_csv_without_quotes_stands_for_itself() -> None:
    """Bad lines are exactly those that are bad alone, under their own numbers."""
    rng = random.Random(300)
    for case in range(_CASES):
        raw, delimiter = _table(rng, "abé ", csv.QUOTE_NONE)
        head, *lines = raw.splitlines(keepends=True)
        lines = [_damaged(rng, line, [b"\xff", b"\0", delimiter.encode(), b"x"]) if rng.random() < 0.3 else line
                 for line in lines]  # fmt: skip
        raw, names = head + b"".join(lines), head.decode().strip().split(delimiter)
        expected: list[tuple[int, Any]] = []
        for number, line in enumerate(re.split(rb"\r\n|\n|\r", raw)[1:], 2):
            if not line.strip(b" "):
                continue
            fields = line.decode(errors="surrogateescape").split(delimiter)
            bad = len(fields) != len(names) or b"\0" in line or not "".join(fields).isprintable()
            expected.append((number, None if bad else dict(zip(names, fields, strict=True))))
        assert _outcome(_pieces(rng, raw), Format.CSV, delimiter=delimiter) == expected, case


@pytest.mark.requirement("R6.5", "R8.7")
@pytest.mark.parametrize(
    ("element", "good"),
    [
        (b"[" * 200_000 + b"]" * 200_000, False),
        (b'{"a":[' + b"[]," * 70_000 + b"1]}", True),
        (b'{"a":"' + b"\\\\" * 150_000 + b'"}', True),
        (b'{"a":"' + b'\\"' * 150_000 + b'"}', True),
        (b'{"a":"' + b'{[]}"'.replace(b'"', b"") * 70_000 + b'"}', True),
        (b"{" + b",".join(b'"%d":""' % n for n in range(30_000)) + b"}", True),
        (b'{"a":' + b'{"b":[' * 300 + b'"\\\\"' + b"]}" * 300 + b"}", True),
    ],
    ids=["nested", "brackets", "backslashes", "quotes", "text", "members", "deep"],
)
def test_one_large_element_is_one_record(element: bytes, good: bool) -> None:
    """Whatever an element is made of, it is one item, and what follows is the next, wherever the pieces end."""
    raw = b"[" + element + b',{"ok":1}]'
    for size in (len(raw), _PIECE, _PIECE - 1, 4_001):
        first, second = read([raw[at : at + size] for at in range(0, len(raw), size)], Format.JSON)
        assert first == Row(1, element) if good else isinstance(first, BadLine)
        assert second == Row(2, b'{"ok":1}')
