"""Decoded lines for `csv.reader`, one record at a time, able to go back to the line after a record's first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from rpa_core.errors import InputError
from rpa_core.formats.encodings import UTF8_BOM, undecodable
from rpa_core.formats.items import PUT_TOGETHER, excerpt_of
from rpa_core.formats.lines import Line

_REREAD_SLACK_LIMITS = 4  # times max_line_bytes
_REREAD_RATIO = 2  # times the bytes read
_FEWEST_LINES = 32 * 1024
_BYTES_A_LINE = 32


class BrokenLine(Exception):
    """A physical line that cannot be text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLong(Exception):
    """The record under way exceeds the limit, which is given in words."""


class Feed(Iterator[str]):
    """Physical lines as text; what the current record took is kept, at most `max_line_bytes`.

    A line costs more memory than its bytes, so a record's lines are bounded too: 32,768, or one for each 32 bytes.
    """

    def __init__(self, lines: Iterator[Line], encoding: str, max_line_bytes: int) -> None:
        self._lines = lines
        self._encoding = encoding
        self.max_line_bytes = max_line_bytes
        self._max_lines = max(_FEWEST_LINES, max_line_bytes // _BYTES_A_LINE)
        self._again: deque[Line] = deque()
        self._record: list[Line] = []
        self._record_bytes = 0
        self._next_number = 1
        self._read_bytes = 0
        self._reread_bytes = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        number, _, raw, size_bytes = line
        self._record.append(line)
        self._record_bytes += size_bytes
        self._next_number = number + 1
        if self._record_bytes > self.max_line_bytes:
            if size_bytes > self.max_line_bytes:
                raise BrokenLine(f"the line has {size_bytes} bytes; the limit is {self.max_line_bytes}")
            raise TooLong(f"{self.max_line_bytes} bytes")
        if b"\0" in raw:
            raise BrokenLine(f"contains a NUL byte, at offset {line.offset + raw.index(0)} of the input")
        if size_bytes != self._record_bytes:
            if len(self._record) > self._max_lines:
                raise TooLong(f"{self._max_lines} lines")
        elif raw[:3] == UTF8_BOM:
            raise BrokenLine(PUT_TOGETHER)
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise BrokenLine(undecodable(error, line.offset, self._encoding)) from error

    def peek(self, lines: int, size_bytes: int) -> list[str]:
        """The next `lines` lines, or fewer: what begins within `size_bytes`, or all there is; they come again.

        What is not text in them is replaced.
        """
        have = sum(len(line.raw) for line in self._again)
        while len(self._again) < lines and have < size_bytes and (line := next(self._lines, None)):
            self._again.append(line)
            have += len(line.raw)
        return [line.raw.decode(self._encoding, "replace") for line in self._again]

    def begin_record(self) -> int:
        """Forget the record before; returns the number of the line that comes next."""
        if self._record:
            self._read_bytes += self._record_bytes
            self._record.clear()
            self._record_bytes = 0
        return self._next_number

    def rewind(self) -> None:
        """Give back every line of the current record but its first."""
        rest = self._record[1:]
        if not rest:
            return
        self._reread_bytes += sum(line.size_bytes for line in rest)
        allowed = _REREAD_SLACK_LIMITS * self.max_line_bytes + _REREAD_RATIO * self._read_bytes
        if self._reread_bytes > allowed:
            raise InputError(
                f"line {self._record[0].number}: too many quotes in this input are opened and never closed; "
                "check the quote character"
            )
        self._give_back(1)

    def give_back_record(self) -> None:
        """Give back the whole of the current record."""
        self._give_back(0)

    def _give_back(self, keep: int) -> None:
        rest = self._record[keep:]
        self._again.extendleft(reversed(rest))
        del self._record[keep:]
        self._record_bytes = sum(line.size_bytes for line in self._record)
        self._next_number = rest[0].number

    def lines_read(self) -> int:
        """How many physical lines the current record has taken."""
        return len(self._record)

    def last_line(self) -> int:
        """The number of the last of them."""
        return self._record[-1].number if self._record else self._next_number

    def has_content(self) -> bool:
        """Whether the current record is more than white space."""
        return any(line.raw.strip(b" \r\n") for line in self._record)

    def excerpt(self) -> str:
        """How the current record begins."""
        return excerpt_of(self._record[0].raw.rstrip(b"\r\n")) if self._record else ""
