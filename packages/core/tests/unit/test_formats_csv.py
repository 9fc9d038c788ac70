"""Delimited text: what is read, what is a bad line, what is refused as a whole."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpa_core.errors import InputError, UsageError
from rpa_core.formats import BadLine, Row, read_csv

MIB = 1024 * 1024


def rows(data: bytes, **options: Any) -> list[tuple[int, dict[str, str]]]:
    """Line and fields of every record; the input must have no bad line."""
    found = []
    for item in read_csv([data], **options):
        assert isinstance(item, Row), item
        found.append((item.line, orjson.loads(item.payload)))
    return found


def bad(data: bytes, **options: Any) -> list[BadLine]:
    """Only the bad lines."""
    return [item for item in read_csv([data], **options) if isinstance(item, BadLine)]


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a,b\n1,2\n", [(2, {"a": "1", "b": "2"})]),
        (b"a,b\r\n1,2\r\n", [(2, {"a": "1", "b": "2"})]),
        (b"a,b\r1,2\r", [(2, {"a": "1", "b": "2"})]),
        (b"a,b\n1,2", [(2, {"a": "1", "b": "2"})]),
        (b"\xef\xbb\xbfa,b\n1,2\n", [(2, {"a": "1", "b": "2"})]),
        (b"\n\na,b\n\n1,2\n  \n3,4\n", [(5, {"a": "1", "b": "2"}), (7, {"a": "3", "b": "4"})]),
        (b"a;b\n1,5;2\n", [(2, {"a": "1,5", "b": "2"})]),
        (b"a\tb\n1 2\t\n", [(2, {"a": "1 2", "b": ""})]),
        (b"a|b\n1|2\n", [(2, {"a": "1", "b": "2"})]),
        (b'"x;y;z",b\n1,2\n', [(2, {"x;y;z": "1", "b": "2"})]),
        (b"'popul'\t'TVnews'\n0\t7\n", [(2, {"popul": "0", "TVnews": "7"})]),
        (b'a,b\n"1\n2","x""y"\n3,4\n', [(2, {"a": "1\n2", "b": 'x"y'}), (4, {"a": "3", "b": "4"})]),
        (b'a\n""\nx\n', [(2, {"a": ""}), (3, {"a": "x"})]),
        (b'a,b\n5" pipe,2\n', [(2, {"a": '5" pipe', "b": "2"})]),
        (b"a,b\n\t,2\n", [(2, {"a": "\t", "b": "2"})]),
        (b"a,b\n", []),
    ],
)
def test_reads_what_common_programs_write(data: bytes, expected: list[tuple[int, dict[str, str]]]) -> None:
    """Line ends, byte order mark, delimiters, quoting and header styles of common exporters are read."""
    assert rows(data) == expected


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a,b\n1\n2,3\n", 2, "1 fields where the header has 2"),
        (b"a,b\n1,2,3\n2,3\n", 2, "3 fields where the header has 2"),
        (b'a,b\n"x"y,1\n2,3\n', 2, "broken quoting"),
        (b"a,b\n1,\0\n2,3\n", 2, "NUL byte, at offset 6"),
        (b"a,b\n1,caf\xe9\n2,3\n", 2, "byte 0xe9 at offset 9"),
        (b'a,b\n1,"x\n2,3\n4,5\n', 2, "never closed"),
        (b'a,b\n1,"x\n2,3\n4,"y"\n', 2, "broken quoting"),
        (b'a,b\n1,"x\n2,3\n4,y"\n', 2, None),
    ],
)
def test_a_bad_line_costs_only_itself(data: bytes, line: int, words: str | None) -> None:
    """What is wrong with one line is said of that line, and every line after it is still read."""
    if words is None:  # a quote that closes again on a later line is legitimate text
        assert rows(data) == [(2, {"a": "1", "b": "x\n2,3\n4,y"})]
        return
    items = list(read_csv([data]))
    wrong = [item for item in items if isinstance(item, BadLine)]
    assert [item.line for item in wrong] == [line]
    assert words in wrong[0].reason
    good = [orjson.loads(item.payload) for item in items if isinstance(item, Row)]
    assert {"a": "2", "b": "3"} in good
    assert len(items) == len(data.splitlines()) - 1


@pytest.mark.requirement("R8.7")
def test_a_quote_left_open_is_given_up_at_the_limit_and_the_rest_is_read() -> None:
    """A quote that is never closed swallows no more than its own line, however long the input is."""
    lines = [b"a,b"] + [b"%d,x" % n for n in range(5000)]
    lines[10] = b'9,"oops'
    items = list(read_csv([b"\n".join(lines)], max_line_bytes=1000))
    assert [
        (item.line, "not closed within 1000 bytes" in item.reason) for item in items if isinstance(item, BadLine)
    ] == [(11, True)]
    assert sum(isinstance(item, Row) for item in items) == 4999


@pytest.mark.requirement("R8.7")
def test_ten_thousand_bad_lines_are_each_named_among_the_good_ones() -> None:
    """10,000 lines with broken quotes among 20,000 good ones: every one is named, every good one is read."""
    lines = [b"a,b"]
    for n in range(10_000):
        lines += [b"%d,ok" % n, b'%d,"broken' % n, b'%d,"fine"' % n]
    items = list(read_csv([b"\n".join(lines)]))
    assert [item.line for item in items if isinstance(item, BadLine)] == list(range(3, 30_002, 3))
    assert sum(isinstance(item, Row) for item in items) == 20_000


@pytest.mark.requirement("R6.5", "R8.7")
def test_quotes_that_would_make_reading_quadratic_are_refused() -> None:
    """Hostile quoting cannot make every line be read over and over: the work is bounded, then refused."""
    with pytest.raises(InputError, match="never closed; check the quote character"):
        list(read_csv([b"a,b,c\n" + b'x",y,"z\n' * 200_000], max_line_bytes=64 * 1024))


@pytest.mark.requirement("R6.2", "R6.5")
def test_a_line_of_50_mb_is_skipped_without_being_held() -> None:
    """A 50 MB line is one bad line; memory stays that of the limit and a chunk."""

    def chunks() -> Iterator[bytes]:
        yield b"a,b\n1,2\n"
        yield from (b"x" * 65536 for _ in range(800))
        yield b"\n3,4\n"

    tracemalloc.start()
    try:
        items = list(read_csv(chunks()))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type(item) for item in items] == [Row, BadLine, Row]
    assert f"has {800 * 65536 + 1} bytes; the limit is {MIB}" in items[1].reason  # type: ignore[union-attr]  # a BadLine, see above
    assert peak_bytes < 6 * MIB


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"", {}, "header line"),
        (b"\n\n", {}, "header line"),
        (b"a,b,a\n", {}, "more than once: 'a'"),
        (b"a,,c\n", {}, "no name for column 2"),
        (b'a,b\n1,"x', {}, "line 2: the input ends inside a quoted field"),
        (b"a\xff,b\n", {}, "0xff at offset 1"),
        (b"a,b\n", {"encoding": "utf-88"}, "unknown text encoding 'utf-88'"),
        (b"a,b\n", {"encoding": "rot13"}, "unknown text encoding"),
        (b"\xff\xfea\0,\0b\0\n\0", {}, "declare the encoding as utf-16"),
        (b"a,b\n", {"key_field": "id"}, "no column 'id'"),
        (b"x" * 100, {"max_line_bytes": 50}, "the limit is 50"),
    ],
)
def test_refuses_what_is_wrong_with_the_whole(data: bytes, options: dict[str, Any], words: str) -> None:
    """No header, an unknown encoding, an input cut short: one clear error for the whole."""
    with pytest.raises(InputError, match=words):
        list(read_csv([data], **options))


@pytest.mark.requirement("R8.7")
def test_a_delimiter_that_cannot_be_one_is_a_usage_error() -> None:
    """Delimiter and quote must be two different single characters."""
    cases: list[dict[str, Any]] = [{"delimiter": ",,"}, {"delimiter": "\n"}, {"delimiter": '"'}, {"quote": ""}]
    for wrong in cases:
        with pytest.raises(UsageError):
            list(read_csv([b"a\n"], **wrong))


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "shift_jis", "cp037"])
def test_reads_declared_encodings(encoding: str) -> None:
    """Declared encodings are read, whether or not a line end is one byte in them."""
    word = "表" if encoding == "shift_jis" else "café"
    data = f"a,b\r\n1,{word}\r\n2,x\r\n".encode(encoding)
    pieces = [data[at : at + 3] for at in range(0, len(data), 3)]
    items = [item for item in read_csv(pieces, encoding=encoding) if isinstance(item, Row)]
    assert [orjson.loads(item.payload)["b"] for item in items] == [word, "x"]


@pytest.mark.requirement("R8.7")
def test_text_in_another_encoding_than_declared_is_refused_with_its_place() -> None:
    """Bytes that a declared UTF-16 does not know end the reading with their offset."""
    with pytest.raises(InputError, match="not valid utf-16-le at or shortly after byte offset"):
        list(read_csv(["a,b\n1,2\n".encode("utf-16-le"), b"\x00\xdc\x00\x00"], encoding="utf-16-le"))


@pytest.mark.requirement("R8.7")
def test_takes_the_key_from_a_column() -> None:
    """The named column is the record's key; a record without one is a bad line."""
    items = list(read_csv([b"id,b\nk1,2\n,3\n" + b"k" * 600 + b",4\n"], key_field="id"))
    assert isinstance(items[0], Row)
    assert items[0].key == "k1"
    empty, long = (item.reason for item in items[1:] if isinstance(item, BadLine))
    assert "'id'" in empty
    assert "missing or empty" in empty
    assert "more than 512 characters" in long


@pytest.mark.requirement("R8.7")
def test_excerpts_are_short_and_printable() -> None:
    """What is shown of a bad line holds no control character and no more than a terminal line."""
    (wrong,) = bad(b"a,b\n\x1b[31m\x07\xff" + b"y" * 500 + b"\n")
    assert wrong.excerpt.isprintable()
    assert "\\x1b" in wrong.excerpt
    assert len(wrong.excerpt) < 300


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
        lambda name: "'" not in name
    ),
    min_size=2,
    max_size=5,
    unique=True,
)
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str]:
    """A header, rows of any text, and the line end they are written with."""
    header = draw(names)
    body = draw(st.lists(st.lists(cells, min_size=len(header), max_size=len(header)), max_size=8))
    return header, body, draw(st.sampled_from(["\n", "\r\n", "\r"]))


@pytest.mark.requirement("R8.7")
@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from([",", ";", "\t", "|"]), st.data())
def test_any_rows_written_as_csv_read_back_the_same(
    table: tuple[list[str], list[list[str]], str], delimiter: str, data: st.DataObject
) -> None:
    """Whatever csv.writer writes is read back, and chunk boundaries never change the result."""
    header, body, line_end = table
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    writer.writerows(body)
    raw = text.getvalue().encode()
    whole = rows(raw, delimiter=delimiter)
    assert [fields for _, fields in whole] == [dict(zip(header, row, strict=True)) for row in body]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert list(read_csv(pieces, delimiter=delimiter)) == list(read_csv([raw], delimiter=delimiter))


@pytest.mark.requirement("R8.7")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\0", b"\xff", b" ", b'""']), max_size=40), st.data())
def test_no_input_breaks_the_reader_and_no_chunking_changes_it(parts: list[bytes], data: st.DataObject) -> None:
    """Any bytes end in rows, bad lines or one InputError: the same ones for every way of cutting them."""

    def outcome(chunks: list[bytes]) -> list[object]:
        seen: list[object] = []
        try:
            seen.extend(read_csv(chunks, max_line_bytes=16))
        except InputError as error:
            seen.append(str(error))
        return seen

    raw = b"h,i\n" + b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    assert outcome([raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]) == outcome([raw])


@pytest.mark.requirement("N1", "R8.7")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("SKU (old, new, optional);Name\n1;A\n2;B\n", {"SKU (old, new, optional)": "1", "Name": "A"}),
        ("a,b;c\n1,x;y\n2,z\n3,w\n", {"a": "1", "b;c": "x;y"}),
        ('a;"b,c";d\n1;"2,5";3\n', {"a": "1", "b,c": "2,5", "d": "3"}),
        ("Preis;Menge\n3,50;2\n4,25;1\n", {"Preis": "3,50", "Menge": "2"}),
        ("a|b,c\n1|2\n3|4\n", {"a": "1", "b,c": "2"}),
        ("sep=;\na;b\n1,5;2\n", {"a": "1,5", "b": "2"}),
        ('\ufeff"SEP=|"\r\n\r\na|b\r\n1|2\r\n', {"a": "1", "b": "2"}),
        ("name\nx\ny\n", {"name": "x"}),
        ("note\na;b\nc\nd\n", {"note": "a;b"}),
        ('"a\nb",c\n1,2\n', {"a\nb": "1", "c": "2"}),
        ('a,b\n"1;2\n3;4",5\n', {"a": "1;2\n3;4", "b": "5"}),
    ],
)
def test_the_delimiter_is_judged_by_the_rows(data: str, expected: dict[str, str]) -> None:
    """Marks inside names, values and quotes do not mislead; a `sep=` line is obeyed and is no record."""
    assert rows(data.encode())[0][1] == expected
    assert rows(data.encode())[0] == next(iter(rows_in_pieces(data.encode())))


def rows_in_pieces(data: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    """The same, byte by byte."""
    for item in read_csv(data[at : at + 1] for at in range(len(data))):
        assert isinstance(item, Row), item
        yield item.line, orjson.loads(item.payload)


@pytest.mark.requirement("N1", "R8.7")
@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("Preis (EUR, netto);Menge\n3,50;2\n4,25;1\n", {}, "not clear: .* ' *netto\\);Menge'.*--delimiter"),
        ("a,b;c,d\n1,2;3,4\n", {}, "';' makes them 'a,b', 'c,d'"),
        ("a,b|c\n1\n2\n", {}, "not clear"),
        ("Report of today\nid;name\n1;A\n", {}, "remove what stands before the header"),
        ("price\n1,5\n2,5\n", {}, "if it is one column of text, declare --delimiter '\\|'"),
        ("sep=;\na;b\n1;2\n", {"delimiter": ","}, "the first line says that the delimiter is ';'"),
        ("\ufeff\ufeffa,b\n1,2\n", {}, "the header: begins with a byte order mark"),
        ("a,b\n", {"key_field": "z" * 10_000}, "no column 'z{120}…' to take the key from; the columns are 'a', 'b'"),
        (",".join("n" * 900 + str(n) for n in range(1000)), {"key_field": "id"}, "and 988 more"),
        ("," * 100_000, {}, "no name for column 1, 2, .* and 99989 more"),
        ("a" * 1025 + ",b\n1,2\n", {}, "column 1 has 1025 characters; the limit is 1024"),
        (",".join(f"{n:03}" + "x" * 200 for n in range(50)), {"max_line_bytes": 11_000}, "names of 50 columns make 10"),
    ],
)
def test_an_unclear_or_oversized_head_is_refused(data: str, options: dict[str, Any], words: str) -> None:
    """Two ways to read the rows, or none, are shown with what to declare; the message is short, whatever is sent."""
    limit = {} if "names of" not in words else {"max_line_bytes": 10_200}
    with pytest.raises(InputError, match=words) as refused:
        list(read_csv([data.encode()], **(options | limit)))
    assert len(str(refused.value)) < 2500


@pytest.mark.requirement("N1", "R8.7")
@pytest.mark.parametrize("delimiter", ["§", "\\", "\t", " ", "\x01", "€", "a"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_any_one_character_is_a_delimiter(delimiter: str, encoding: str) -> None:
    """Also one beyond ASCII, and the backslash."""
    data = f"x{delimiter}y\n1{delimiter}2\n".encode(encoding)
    assert rows(data, delimiter=delimiter, encoding=encoding) == [(2, {"x": "1", "y": "2"})]
    for wrong in ("", "\udca7", "ab"):
        with pytest.raises(UsageError, match="must be one character"):
            list(read_csv([data], delimiter=wrong, encoding=encoding))


@pytest.mark.requirement("N1", "R8.7")
def test_files_put_together_are_noticed() -> None:
    """A byte order mark at the beginning of a later line makes it a bad line; inside a quoted text it is text."""
    data = '\ufeffid,x\n1,2\n\ufeffid,x\n3,"\n\ufeff4"\n'.encode()
    first, second, third = read_csv([data])
    assert first == Row(2, b'{"id":"1","x":"2"}')
    assert isinstance(second, BadLine)
    assert "two files were put together" in second.reason
    assert isinstance(third, Row)


@pytest.mark.requirement("N1", "R8.7")
def test_a_file_without_a_header_has_columns_by_number() -> None:
    """The first line is a record like the others; its width is the file's, and the key is named by its number."""
    assert rows(b'1;"x\ny"\n2;b\n', header=False) == [(1, {"1": "1", "2": "x\ny"}), (3, {"1": "2", "2": "b"})]
    (first, wrong, last) = read_csv([b"a,1\nb\nc,3"], header=False, key_field="1")
    assert (first, last) == (Row(1, b'{"1":"a","2":"1"}', "a"), Row(3, b'{"1":"c","2":"3"}', "c"))
    assert isinstance(wrong, BadLine)
    assert wrong.reason == "1 fields where the first record has 2"
    with pytest.raises(InputError, match="a record is missing"):
        rows(b"\n", header=False)


@pytest.mark.requirement("N3", "R8.7")
def test_large_fields_are_read_in_any_thread_within_the_limit() -> None:
    """The limit on a line is the only one on a field, whatever another part of the process has set before."""
    data = b"a,b\n" + b"".join(b"%d,%b\n" % (n, b"x" * 300_000) for n in range(5))
    csv.field_size_limit(1000)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: rows(data), range(8)):
            assert [len(fields["b"]) for _, fields in found] == [300_000] * 5


@pytest.mark.requirement("N3", "R6.5")
def test_a_record_is_bounded_with_its_column_names() -> None:
    """Eight bytes of a row do not become a megabyte: names count, and what exceeds the limit is a bad line."""
    names = ",".join(f"{n}" + "a" * 1000 for n in range(8))
    good, wrong = read_csv([f"{names}\n,,,,,,,x\n,,,,,,,{'y' * 2000}\n".encode()], max_line_bytes=9_000)
    assert isinstance(good, Row)
    assert isinstance(wrong, BadLine)
    assert "bytes with its column names; the limit is 9000" in wrong.reason


@pytest.mark.requirement("N3", "R6.5")
def test_line_ends_in_an_open_quote_are_not_all_held() -> None:
    """Lines cost more memory than their bytes: a record of a million of them is given up, and each is read alone."""
    tracemalloc.start()
    try:
        items = read_csv([b'a,b\n1,"' + b"\n" * MIB + b'"\n'], max_line_bytes=2 * MIB)
        wrong = next(items)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(wrong, BadLine)
    assert "not closed within 65536 lines" in wrong.reason
    assert peak_bytes < 30 * MIB
