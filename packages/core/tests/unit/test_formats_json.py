"""JSON arrays, NDJSON and gzip: what is read, what is a bad line, what is refused as a whole."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpa_core.errors import InputError, UsageError
from rpa_core.formats import BadLine, Format, Item, Row, decompressed, format_of, read, read_json, read_ndjson

MIB = 1024 * 1024
Reader = Callable[..., Iterator[Item]]


def payloads(items: Iterable[Item]) -> list[Any]:
    """The decoded records; there must be no bad line."""
    found = list(items)
    assert all(isinstance(item, Row) for item in found), found
    return [orjson.loads(item.payload) for item in found if isinstance(item, Row)]


@pytest.mark.requirement("R8.7")
def test_ndjson_reads_objects_and_skips_blank_lines() -> None:
    """Every line that is not blank is a record with its line number; the last needs no line end."""
    items = list(read_ndjson([b'\xef\xbb\xbf{"a":1}\r\n\n \n{"a":', b'[{"b":2}]}']))
    assert items == [Row(1, b'{"a":1}', None), Row(4, b'{"a":[{"b":2}]}', None)]


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a":1,}', "not valid JSON"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":-Infinity}', "not valid JSON"),
        (b'{"a":1e999}', "number is infinity"),
        (b'{"a":"\\ud800"}', "no low surrogate"),
        (b'{"a":"x\\u0000"}', "NUL character"),
        (b'{"a":"\0"}', "not valid JSON"),
        (b'{"a":"caf\xe9"}', "byte 0xe9 at offset 9 of the input"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "depth"),
        (b"[1,2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"12", "not a JSON object"),
    ],
)
@pytest.mark.parametrize("reader", [read_ndjson, read_json])
def test_a_bad_object_costs_only_itself(reader: Reader, text: bytes, words: str) -> None:
    """What cannot be stored or read back is a bad line in both formats; its neighbours are read."""
    if reader is read_json:
        items = list(read_json([b"[" + text + b',{"ok":1}]']))
    else:
        items = list(read_ndjson([text + b'\n{"ok":1}\n']))
    wrong, good = items
    assert isinstance(wrong, BadLine)
    assert wrong.line == 1
    assert words.replace("offset 9", f"offset {10 if reader is read_json else 9}") in wrong.reason
    assert good == Row(2, b'{"ok":1}', None)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("reader", [read_ndjson, read_json])
def test_integers_and_repeated_members_pass_to_the_letter(reader: Reader) -> None:
    """A huge integer and a repeated member name reach the payload as they were written."""
    text = b'{"n":123456789012345678901234567890,"a":1,"a":2}'
    (item,) = reader([text])
    assert item == Row(1, text, None)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("reader", [read_ndjson, read_json])
def test_an_escaped_backslash_before_u0000_is_not_a_nul(reader: Reader) -> None:
    """Only a real NUL escape is refused."""
    assert payloads(reader([b'{"a":"\\\\u0000"}'])) == [{"a": "\\u0000"}]


@pytest.mark.requirement("R8.7")
def test_takes_the_key_from_a_member() -> None:
    """A string or an integer is a key; anything else is a bad line."""
    lines = b'{"id":"k"}\n{"id":7}\n{"id":1.5}\n{"id":true}\n{"id":null}\n{"id":""}\n{}\n{"id":["k"]}\n'
    items = list(read_ndjson([lines], key_field="id"))
    assert [item.key for item in items if isinstance(item, Row)] == ["k", "7"]
    assert [item.line for item in items if isinstance(item, BadLine)] == [3, 4, 5, 6, 7, 8]


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b" [ ] ", []),
        (b'{"a":1} \n', [{"a": 1}]),
        (b'[{"a":"]},{"},\n {"b":{"c":[1,"\\"]"]}} ]', [{"a": "]},{"}, {"b": {"c": [1, '"]']}}]),
        (b"\xef\xbb\xbf[{}]", [{}]),
    ],
)
def test_json_reads_an_array_or_one_object(text: bytes, expected: list[Any]) -> None:
    """Brackets and quotes inside strings do not confuse where an element ends, at any chunking."""
    assert payloads(read_json([text])) == expected
    assert payloads(read_json([text[at : at + 1] for at in range(len(text))])) == expected


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b"12", "expected a JSON array"),
        (b'[{"a":1},', "cut short"),
        (b'[{"a":1}', "cut short"),
        (b'[{"a":"x', "ends inside element 1"),
        (b'[{"a":"x\\', "ends inside element 1"),
        (b'[{"a":{', "ends inside element 1"),
        (b'{"a":1', "ends inside element 1"),
        (b'[{"a":1} {"b":2}]', "expected `,` or `]` after element 1"),
        (b'[{"a":1},]', "expected element 2"),
        (b'[,{"a":1}]', "expected element 1"),
        (b'[{"a":1}] x', "follows the end of the array"),
        (b'{"a":1}\n{"a":2}', "declare the format as NDJSON"),
        (b"\xff\xfe[\0", "utf-16"),
    ],
)
def test_json_refuses_a_broken_array(text: bytes, words: str) -> None:
    """What breaks the document itself, above all a cut, is one error with its place."""
    with pytest.raises(InputError, match=words.replace("`", ".")):
        list(read_json([text]))


@pytest.mark.requirement("R6.2", "R6.5")
@pytest.mark.parametrize(("reader", "opening", "closing"), [(read_ndjson, b"", b"\n"), (read_json, b"[", b",")])
def test_an_element_of_50_mb_is_skipped_without_being_held(reader: Reader, opening: bytes, closing: bytes) -> None:
    """A 50 MB record is one bad line; memory stays that of the limit and a chunk."""

    def chunks() -> Iterator[bytes]:
        yield opening + b'{"a":"'
        yield from (b"x" * 65536 for _ in range(800))
        yield b'"}' + closing + b'{"b":1}' + (b"]" if opening else b"")

    tracemalloc.start()
    try:
        items = list(reader(chunks()))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(items[0], BadLine)
    assert f"the limit is {MIB}" in items[0].reason
    assert items[1] == Row(2, b'{"b":1}', None)
    assert peak_bytes < 6 * MIB


@pytest.mark.requirement("R6.2")
@pytest.mark.parametrize("form", [Format.JSON, Format.NDJSON, Format.CSV])
def test_memory_does_not_grow_with_the_input(form: Format) -> None:
    """Reading 40 times the records takes no more memory."""

    def peak_bytes(records: int) -> int:
        def chunks() -> Iterator[bytes]:
            yield {Format.JSON: b"[", Format.NDJSON: b"", Format.CSV: b"a,b\n"}[form]
            for n in range(records):
                if form is Format.CSV:
                    yield b"%d,text\n" % n
                else:
                    yield b'{"a":%d,"b":"text"}' % n + (b"\n" if form is Format.NDJSON else b",")
            if form is Format.JSON:
                yield b"{}]"

        tracemalloc.start()
        try:
            assert sum(1 for _ in read(chunks(), form)) >= records
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(100)  # imports and caches
    assert peak_bytes(40_000) < peak_bytes(1000) + MIB


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=8,
)
records = st.lists(st.dictionaries(st.text("xyz", max_size=3), json_values, max_size=4), max_size=5)


@pytest.mark.requirement("R8.7")
@settings(max_examples=200, deadline=None)
@given(records, st.booleans(), st.data())
def test_any_objects_read_back_the_same_however_they_are_cut(
    objects: list[dict[str, Any]], pretty: bool, data: st.DataObject
) -> None:
    """An array written by another encoder reads back the same, indented or not, at any chunk boundaries."""
    raw = json.dumps(objects, indent=2 if pretty else None, ensure_ascii=data.draw(st.booleans())).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert payloads(read_json(pieces)) == objects
    lines = b"".join(orjson.dumps(each) + b"\n" for each in objects)
    half = data.draw(st.integers(0, len(lines)))
    assert payloads(read_ndjson([lines[:half], lines[half:]])) == objects


@pytest.mark.requirement("R8.7")
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"1", b" ", b'"a":1']), max_size=30),
    st.data(),
)
def test_no_json_breaks_the_reader_and_no_chunking_changes_it(parts: list[bytes], data: st.DataObject) -> None:
    """Any bytes end in rows, bad lines or one InputError: the same ones for every way of cutting them."""

    def outcome(chunks: list[bytes]) -> list[object]:
        seen: list[object] = []
        try:
            seen.extend(read_json(chunks, max_line_bytes=12))
        except InputError as error:
            seen.append(str(error))
        return seen

    raw = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    assert outcome([raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]) == outcome([raw])


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("size", [1, 7, 65536])
def test_gzip_is_recognised_and_unpacked(size: int) -> None:
    """Gzip, also of several members and padded, reads like what was packed; other input passes as it is."""
    plain = b'{"a":1}\n' * 1000
    packed = gzip.compress(plain[:4000]) + gzip.compress(plain[4000:]) + b"\0\0\0"
    assert b"".join(decompressed(packed[at : at + size] for at in range(0, len(packed), size))) == plain
    assert b"".join(decompressed([plain[:1], plain[1:]])) == plain
    assert b"".join(decompressed([])) == b""


@pytest.mark.requirement("R6.5", "R8.7")
def test_broken_gzip_is_refused() -> None:
    """A cut, a flipped bit, trailing junk and a bomb are each one clear error."""
    packed = gzip.compress(bytes(range(256)) * 100)
    flipped = bytearray(packed)
    flipped[-6] ^= 1
    bomb = gzip.compress(b"\0" * 50 * MIB)
    for data, words in (
        (packed[:-1], "cut short"),
        (packed[:20], "cut short"),
        (bytes(flipped), "broken"),
        (packed + b"junk", "broken"),
        (bomb, "more than 200 times"),
    ):
        with pytest.raises(InputError, match=words):
            for _ in decompressed([data]):
                pass
    with pytest.raises(InputError, match="does not begin like gzip"):
        list(decompressed([b"plain"], required=True))


@pytest.mark.requirement("R6.2", "R6.5")
def test_a_bomb_costs_little_memory_before_it_is_refused() -> None:
    """Unpacking goes in small pieces, so that the bound is met before the memory is gone."""
    bomb = zlib.compressobj(wbits=31)
    data = bomb.compress(b"\0" * 200 * MIB) + bomb.flush()
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            for _ in decompressed([data]):
                pass
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.requirement("R8.7")
def test_formats_are_told_by_the_ending() -> None:
    """Usual endings are known, packed or not; another one is a usage error that lists them."""
    assert [format_of(name) for name in ("a.csv", "b/a.TSV.gz", "a.jsonl", "a.ndjson.gz", "a.json", "x.tab")] == [
        Format.CSV,
        Format.TSV,
        Format.NDJSON,
        Format.NDJSON,
        Format.JSON,
        Format.TSV,
    ]
    with pytest.raises(UsageError, match="name one of csv"):
        format_of("survey.xlsx")


@pytest.mark.requirement("N2", "R8.7")
@pytest.mark.parametrize(("reader", "opening", "closing"), [(read_ndjson, b"", b""), (read_json, b"[", b"]")])
def test_an_integer_of_any_size_is_a_key(reader: Reader, opening: bytes, closing: bytes) -> None:
    """Beyond 64 bits a key is its digits; a number that is no integer, a hidden or an endless one is none."""
    big = b"123456789012345678901234567890"
    for text, key in [
        (b'{"id":%b}' % big, big.decode()),
        (b'{"id":-18446744073709551616}', "-18446744073709551616"),
        (b'{"x":{"id":1},"id": %b ,"y":"}"}' % big, big.decode()),
        (b'{"id":1,"id":%b}' % big, big.decode()),
        (b'{"\\u0069d":%b}' % big, big.decode()),
        (b'{"id":1e30}', None),
        (b'{"id":%b.5}' % big, None),
        (b'{"id":%b,"id":1.5}' % big, None),
        (b'{"id":%b}' % (b"9" * 300), "9" * 300),
        (b'{"x":%b,"id":1.5}' % (b"[" * 1020 + b"]" * 1020), None),
    ]:
        (item,) = reader([opening + text + closing], key_field="id")
        assert (item.key if isinstance(item, Row) else None) == key, text


@pytest.mark.requirement("N2", "R8.7")
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037"]
)
@pytest.mark.parametrize("form", [Format.NDJSON, Format.JSON])
def test_json_is_read_in_its_declared_encoding(form: Format, encoding: str) -> None:
    """Text arrives as it was written, in any pieces."""
    documents = [{"a": "Größe", "b": '"\\'}, {"a": "é"}]
    text = "\r\n".join(json.dumps(each, ensure_ascii=False) for each in documents)
    raw = (text if form is Format.NDJSON else f"[{text.replace('}' + chr(13), '},')}]").encode(encoding)
    for size in (1, 3, len(raw)):
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert payloads(read(pieces, form, encoding=encoding)) == documents


@pytest.mark.requirement("N2")
@pytest.mark.parametrize("form", list(Format))
def test_only_known_encodings_are_looked_up(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is refused for every format, in a short line, and is not asked of the codec registry."""
    asked: list[str] = []
    monkeypatch.setattr("codecs.lookup", lambda name: asked.append(name))
    for name in ("no-such", "utf-7", "rot13x", "unicode_escape", "x" * 30_000, "\n", "é", "", "mbcs2", "../utf8"):
        with pytest.raises(InputError, match="unknown text encoding") as refused:
            list(read([b"a,b\n1,2\n"], form, encoding=name))
        assert len(str(refused.value)) < 200
    assert not asked


@pytest.mark.requirement("N2")
def test_codecs_that_make_no_text_are_no_encodings() -> None:
    """Base64 and its like are known codecs, and refused all the same."""
    for name in ("base64", "hex", "rot13", "zlib", "bz2", "quopri", "uu"):
        with pytest.raises(InputError, match="unknown text encoding"):
            list(read([b"a"], Format.CSV, encoding=name))


@pytest.mark.requirement("N2", "R8.7")
@pytest.mark.parametrize(
    ("raw", "encoding", "words"),
    [
        ("[{}]".encode("utf-16"), "utf-8", "declare the encoding as utf-16"),
        ("[{}]".encode("utf-16-be"), "utf-16", "declare its encoding as utf-16-le or utf-16-be"),
        ("[{}]".encode("utf-32-le"), "utf-32", "utf-32-le or utf-32-be"),
        ("[{}]".encode("utf-8-sig"), "latin-1", "starts with a UTF-8 byte order mark"),
        ("[{}]".encode("utf-16"), "cp1252", "starts with a UTF-16 byte order mark"),
    ],
)
@pytest.mark.parametrize("form", list(Format))
def test_a_byte_order_mark_that_contradicts_the_encoding_is_named(
    form: Format, raw: bytes, encoding: str, words: str
) -> None:
    """What the first bytes say and what is declared must agree, so that no text is garbled without a word."""
    with pytest.raises(InputError, match=words):
        list(read([raw], form, encoding=encoding))


@pytest.mark.requirement("N2", "R8.7")
def test_lines_in_another_encoding_than_declared_are_each_named() -> None:
    """A byte that the declared encoding does not know costs its line; the bound holds for what is stored."""
    lines = b'{"a":"\x81"}\n{"a":"\xe9"}\n{"a":"' + b"\xe9" * 40 + b'"}\n'
    first, second, third = read_ndjson([lines], encoding="cp1252", max_line_bytes=60)
    assert isinstance(first, BadLine)
    assert "byte 0x81 at offset 6" in first.reason
    assert second == Row(2, '{"a":"é"}'.encode())
    assert isinstance(third, BadLine)
    assert "88 bytes as UTF-8; the limit is 60" in third.reason


@pytest.mark.requirement("N1", "R8.7")
def test_options_that_a_format_does_not_have_are_refused() -> None:
    """A delimiter or a missing header means nothing to JSON; a limit must be one."""
    for form in (Format.JSON, Format.NDJSON):
        for wrong in ({"delimiter": ","}, {"header": False}):
            with pytest.raises(UsageError, match="options of csv and tsv"):
                read([b"{}"], form, **wrong)
    for form in Format:
        with pytest.raises(UsageError, match="must be at least 1"):
            read([b"{}"], form, max_line_bytes=-5)


@pytest.mark.requirement("N2", "R8.7")
def test_a_byte_order_mark_between_json_lines_is_named() -> None:
    """Two files put together with cat: the second's first line is a bad line that says so."""
    first, second = read_ndjson([b'\xef\xbb\xbf{"a":1}\n', b'\xef\xbb\xbf{"a":2}\n'])
    assert first == Row(1, b'{"a":1}')
    assert isinstance(second, BadLine)
    assert "two files were put together" in second.reason


@pytest.mark.requirement("R6.5", "R8.7")
def test_a_trusted_input_may_unpack_to_any_ratio() -> None:
    """An own file of repeated rows is no bomb."""
    plain = b"20.5,ok\n" * MIB
    assert sum(map(len, decompressed([gzip.compress(plain)], max_ratio=None))) == len(plain)
